// Command bench measures Mainstay beside the libraries people use today, in one
// run on one machine, and says which goals are met.
//
//	go run .                         all groups; those of messaging need servers
//	go run . -run 'stream|breaker'   those whose name matches
//	go run . -rounds 40 -each 50ms   longer, for figures that go into a document
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/bench/concurrency"
	"github.com/mainstay-go/mainstay/bench/drift"
	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/bench/messaging"
)

func main() {
	pattern := flag.String("run", "", "measure the groups whose name matches this regular expression")
	rounds := flag.Int("rounds", 15, "how often each contender is measured, in turn with the others")
	each := flag.Duration("each", 20*time.Millisecond, "how long one measurement takes")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the whole run to this file")
	flag.Parse()
	if err := run(*pattern, *profile, measure.Options{Rounds: *rounds, Each: *each}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(pattern, profile string, o measure.Options) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return fmt.Errorf("bench: -cpuprofile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("bench: -cpuprofile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	match, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("bench: -run: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var groups []measure.Group
	served, missing := messaging.Groups(os.Getenv)
	drifts, without := drift.Groups(ctx, "python3")
	for _, g := range slices.Concat(concurrency.Groups(ctx), drifts, served) {
		if match.MatchString(g.Name) {
			groups = append(groups, g)
		}
	}
	if without != "" {
		fmt.Fprintf(os.Stderr, "bench: left out SciPy: there is no %s\n", without)
	}
	if len(missing) > 0 {
		fmt.Fprintf(os.Stderr, "bench: left out what needs a server: %s not set; for servers of your own: eval \"$(../scripts/services start kafka rabbitmq redis)\"\n",
			strings.Join(missing, ", "))
	}
	if len(groups) == 0 {
		return fmt.Errorf("bench: no group matches %q", pattern)
	}
	fmt.Fprintf(os.Stdout, "%s %s/%s, GOMAXPROCS %d; fastest of %d interleaved rounds of %v, per unit\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), o.Rounds, o.Each)
	start := time.Now()
	unmet, err := measure.Report(os.Stdout, groups, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "\n%d groups in %v, %d goals not met\n", len(groups), time.Since(start).Round(time.Second), unmet)
	return nil
}
