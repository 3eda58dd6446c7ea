// Command overload puts limiters in front of a callee that is given more than
// it can do, under virtual time, and prints what was still answered in time.
//
//	go run ./overload                  three seeds, a quarter of an hour
//	go run ./overload -seeds 1 -seed 9 others than the default ones, and fewer
//	go run ./overload -run 'Admission' those limiters whose name matches
//	go run ./overload -all             every cell of the grid, too
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

func main() {
	seeds := flag.Uint64("seeds", 3, "how many seeds each cell is run with")
	seed := flag.Uint64("seed", 1001, "the first of them")
	pattern := flag.String("run", "", "the limiters whose name matches this regular expression")
	only := flag.String("cells", "", "the cells whose name matches this regular expression")
	all := flag.Bool("all", false, "print every cell, too")
	testing.Init() // a bubble of testing/synctest needs a test around it
	flag.Parse()
	match, err := regexp.Compile(*pattern)
	if err == nil {
		_, err = regexp.Compile(*only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(2)
	}
	var chosen []contender
	for _, c := range contenders() {
		if match.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	var cells []cell
	for _, c := range grid() {
		if regexp.MustCompile(*only).MatchString(c.String()) {
			cells = append(cells, c)
		}
	}
	start := time.Now()
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Overload", F: func(t *testing.T) {
		var mu sync.Mutex
		var results []result
		t.Run("grid", func(t *testing.T) { // returns when the parallel tests have ended
			for _, c := range cells {
				for _, l := range chosen {
					n := *seeds
					if c.workers > 10 {
						n = min(n, 1) // as many calls as six of the others
					}
					for n := range n {
						t.Run(c.String()+"/"+l.name, func(t *testing.T) {
							t.Parallel()
							s := c.scenario(*seed + n)
							reports := concurrencytest.Simulate(t, s, l.limiter(t, c))
							mu.Lock()
							defer mu.Unlock()
							for i, r := range reports {
								share := drawn(c, s.Phases[i], r)
								r.Calls = nil
								results = append(results, result{c, l.name, *seed + n, phases[i], r, share})
							}
						})
					}
				}
			}
		})
		fmt.Fprintf(os.Stdout, "%s, seeds %d to %d, %d cells, %v\n\n", runtime.Version(), *seed, *seed+*seeds-1, len(cells), time.Since(start).Round(time.Second))
		if err := table(os.Stdout, chosen, results, *all); err != nil {
			t.Error(err)
		}
	}}}, nil, nil)
}
