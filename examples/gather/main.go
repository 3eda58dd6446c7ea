// Command gather shows what running things at the same time buys, and what a limit is for.
//
//	go run ./examples/gather -svg curve.svg
//
// It does the same tasks one after the other, all at once, and a few at a time, for work
// that waits and for work that computes; then it draws throughput and latency over the limit.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/mainstay-go/mainstay/examples/internal/chart"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

const (
	exitDone   = 0
	exitFailed = 2
)

func run(args []string, out, problems io.Writer) int {
	c, err := parse(args, problems)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		err = show(ctx, c, out)
	}
	if err != nil {
		fmt.Fprintln(problems, "gather:", err)
		return exitFailed
	}
	return exitDone
}

// config is what the flags say.
type config struct {
	tasks, most  int
	answer, step time.Duration
	capacity     int
	svg          string
}

func parse(args []string, out io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("gather", flag.ContinueOnError)
	f.SetOutput(io.Discard) // the caller says it, in one sentence
	f.IntVar(&c.tasks, "tasks", 500, "tasks of each measurement")
	f.IntVar(&c.most, "most", 256, "largest limit of the curve")
	f.IntVar(&c.capacity, "capacity", 16, "requests the dependency serves at one time")
	f.DurationVar(&c.answer, "answer", 4*time.Millisecond, "time the dependency takes for one")
	f.DurationVar(&c.step, "compute", 1500*time.Microsecond, "time a task computes for")
	f.StringVar(&c.svg, "svg", "", "draw the curve to this `file`")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(out, "usage: gather [flags]")
			f.SetOutput(out)
			f.PrintDefaults()
		}
		return c, err
	}
	const longest = time.Minute
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("%q is not a flag", f.Arg(0))
	case c.tasks < 1 || c.tasks > 1e6:
		return c, fmt.Errorf("-tasks is %d: 1 to a million", c.tasks)
	case c.most < 1 || c.most > 1e5:
		return c, fmt.Errorf("-most is %d: 1 to 100000", c.most)
	case c.capacity < 1 || c.capacity > 1e5:
		return c, fmt.Errorf("-capacity is %d: 1 to 100000", c.capacity)
	case c.answer < 0 || c.answer > longest || c.step < 0 || c.step > longest:
		return c, fmt.Errorf("-answer and -compute are 0 to %v", longest)
	}
	return c, nil
}

// show measures and writes the tables and the picture.
func show(ctx context.Context, c config, out io.Writer) error {
	works := []work{waiting(c.capacity, c.answer), computing(c.step)}
	fmt.Fprintf(out, "%d tasks: %s, or %s\n\n", c.tasks, works[0].what, works[1].what)

	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "work\thow\tat once\ttook\ttasks/s\tp50\tp99\t")
	for _, w := range works {
		for _, limit := range []int{sequential, c.tasks, w.fits} {
			m, err := measure(ctx, w, limit, c.tasks)
			if err != nil {
				return err
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%v\t%.0f\t%v\t%v\t\n", w.name, how(limit, c.tasks), m.peak, ms(m.took), m.perSecond, ms(m.p50), ms(m.p99))
		}
	}
	t.Flush()

	curves := make([][]measured, len(works))
	for i, w := range works {
		for limit := 1; limit <= c.most; limit *= 2 {
			m, err := measure(ctx, w, limit, c.tasks)
			if err != nil {
				return err
			}
			curves[i] = append(curves[i], m)
		}
	}
	fmt.Fprintln(out)
	fmt.Fprintln(t, "limit\twaiting/s\tp99\tcomputing/s\tp99\t")
	for i, m := range curves[0] {
		k := curves[1][i]
		fmt.Fprintf(t, "%d\t%.0f\t%v\t%.0f\t%v\t\n", m.limit, m.perSecond, ms(m.p99), k.perSecond, ms(k.p99))
	}
	t.Flush()
	fmt.Fprintf(out, "\nThe dependency serves %d at a time, and there are %d cores: beyond that a limit buys latency only.\n", c.capacity, runtime.GOMAXPROCS(0))
	if c.svg == "" {
		return nil
	}
	var picture bytes.Buffer
	pictureOf(works, curves).Draw(&picture)
	if err := os.WriteFile(c.svg, picture.Bytes(), 0o600); err != nil {
		return fmt.Errorf("the picture: %w", err)
	}
	fmt.Fprintln(out, "drawn to", c.svg)
	return nil
}

func pictureOf(works []work, curves [][]measured) chart.Chart {
	picture := chart.Chart{Title: "Throughput and p99 over the limit", PerSecond: "tasks per second", P99: "p99 of one task"}
	for i, w := range works {
		c := chart.Curve{Title: w.name + ": " + w.what, Setting: "limit", Mark: w.fits}
		for _, m := range curves[i] {
			c.Points = append(c.Points, chart.Point{Setting: m.limit, PerSecond: m.perSecond, P99: m.p99})
		}
		picture.Curves = append(picture.Curves, c)
	}
	return picture
}

func how(limit, tasks int) string {
	switch limit {
	case sequential:
		return "one after the other"
	case tasks:
		return "all at once"
	}
	return fmt.Sprintf("%d at a time", limit)
}

func ms(d time.Duration) time.Duration {
	return d.Round(10 * time.Microsecond)
}
