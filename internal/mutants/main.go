// Command mutants runs a package's own tests against each of its mutants: a
// mutant is the package with one operator changed, and a test that fails has
// noticed it. It reads the mutants from the output of gremlins unleash
// --dry-run, and prints what became of each in gremlins' words; see
// scripts/mutants, which calls it.
//
// Gremlins builds the package and runs all of its tests once for each mutant.
// Here the package is rewritten so that every mutant is in one test binary, a
// number in the environment says which of them is on, and only the tests that
// come by it are run:
//
//	if wait <= 0 && n > 1 {
//	if ((mutant_le[int64](7, 8, wait, 0)) != mutant_on(9) && ...) != mutant_on(9) {
//
// What cannot be switched at run time, such as the length of an array, is
// changed in the source and built by itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	list    string        // gremlins' output
	dir     string        // of the package
	workers int           // mutants at a time
	timeout time.Duration // what a run may take beyond twenty times what it takes without a mutant
	cpu     time.Duration // what it may compute beyond five times
	args    []string      // of the test binary
	all     bool          // what lives is run once more, against all tests
}

func main() {
	var o options
	var args string
	flag.StringVar(&o.list, "list", "", "output of gremlins unleash --dry-run: which mutants there are, and which are covered")
	flag.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "mutants at a time")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Second, "what the tests may take beyond 20 times what they take without a mutant")
	flag.StringVar(&args, "test", "", "arguments of the test binary, such as -test.short")
	flag.BoolVar(&o.all, "all", false, "run what lives once more, against all tests of the package and not only those that come by it")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: mutants -list FILE [flags] DIRECTORY")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || o.list == "" || o.workers < 1 {
		flag.Usage()
		os.Exit(2)
	}
	o.dir, o.args, o.cpu = flag.Arg(0), strings.Fields(args), time.Second
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run prints a line for each mutant to out, in the order of the list, and to
// progress what is worth knowing meanwhile.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	mutants, err := readList(o.list)
	if err != nil {
		return err
	}
	p, err := load(ctx, o.dir)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()

	start := time.Now()
	rewritten, err := rewrite(p, mutants)
	if err != nil {
		return err
	}
	b := builder{dir: p.dir, tmp: tmp}
	binary, message, err := b.build(ctx, "switched", rewritten)
	if err != nil {
		return err
	}
	if binary == "" {
		return fmt.Errorf("the rewritten package does not build:\n%s", message)
	}
	r := runner{options: o, dir: p.dir, tmp: tmp}
	tests, err := r.record(ctx, binary, len(mutants), progress)
	if err != nil {
		return err
	}
	var alone, idle int
	for _, m := range mutants {
		switch {
		case m.status != "":
			idle++
		case m.alone:
			alone++
		}
	}
	fmt.Fprintf(progress, "mutants: %d tests, %d mutants in one binary, %d built by themselves, %d not run; prepared in %s\n",
		len(tests), len(mutants)-alone-idle, alone, idle, time.Since(start).Round(time.Second/10))

	j := judge{runner: r, builder: b, pkg: p, binary: binary, tests: tests}
	return j.judge(ctx, mutants, out, progress)
}
