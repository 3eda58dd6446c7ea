// Command prefetch shows what more messages in a consumer buy, and what they cost.
//
//	eval "$(scripts/services start --install rabbitmq)"
//	go run ./examples/prefetch -svg curve.svg
//
// Consumers of a real RabbitMQ ask a dependency that serves a few at a time. It measures
// throughput, and how long a message stays in its consumer, over the prefetch and over the
// concurrency.
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
		fmt.Fprintln(problems, "prefetch:", err)
		return exitFailed
	}
	return exitDone
}

// config is what the flags say.
type config struct {
	url               string
	each              time.Duration
	capacity          int
	answer            time.Duration
	concurrency, most int
	svg               string
}

func parse(args []string, out io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("prefetch", flag.ContinueOnError)
	f.SetOutput(io.Discard) // the caller says it, in one sentence
	f.StringVar(&c.url, "url", os.Getenv("MAINSTAY_AMQP_URL"), "the RabbitMQ; default: $MAINSTAY_AMQP_URL")
	f.DurationVar(&c.each, "each", time.Second, "length of each measurement")
	f.IntVar(&c.capacity, "capacity", 16, "requests the dependency serves at one time")
	f.DurationVar(&c.answer, "answer", 4*time.Millisecond, "time the dependency takes for one")
	f.IntVar(&c.concurrency, "concurrency", 16, "handlers at a time, where prefetch varies")
	f.IntVar(&c.most, "most", 1024, "largest prefetch, and twice the largest concurrency")
	f.StringVar(&c.svg, "svg", "", "draw the curves to this `file`")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(out, "usage: prefetch [flags]")
			f.SetOutput(out)
			f.VisitAll(func(x *flag.Flag) { // the default may be a URL with a password
				if x.Name == "url" {
					x.DefValue = ""
				}
			})
			f.PrintDefaults()
		}
		return c, err
	}
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("%q is not a flag", f.Arg(0))
	case c.each <= 0 || c.each > time.Minute:
		return c, fmt.Errorf("-each is %v: up to a minute", c.each)
	case c.capacity < 1 || c.capacity > 1e4:
		return c, fmt.Errorf("-capacity is %d: 1 to 10000", c.capacity)
	case c.answer < 0 || c.answer > time.Second:
		return c, fmt.Errorf("-answer is %v: 0 to 1s", c.answer)
	case c.most < 2 || c.most > 1<<14:
		return c, fmt.Errorf("-most is %d: 2 to 16384", c.most)
	case c.concurrency < 1 || c.concurrency > c.most:
		return c, fmt.Errorf("-concurrency is %d: 1 to -most, %d", c.concurrency, c.most)
	case c.url == "":
		return c, errors.New("it measures a real RabbitMQ, and has none: start one with eval \"$(scripts/services start --install rabbitmq)\", or give -url")
	}
	return c, nil
}

// show measures and writes the tables and the picture.
func show(ctx context.Context, c config, out io.Writer) (err error) {
	q, err := openQueue(ctx, c.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	work := dependency(c.capacity, c.answer)
	fmt.Fprintf(out, "handlers ask a dependency that takes %v and serves %d at a time; each line is %v\n\n", c.answer, c.capacity, c.each)

	over := func(name string, settings func(n int) (concurrency, prefetch int), from, to int) (chart.Curve, error) {
		k := chart.Curve{Setting: name}
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "concurrency\tprefetch\tmessages/s\tp50\tp99\t")
		for n := from; n <= to; n *= 2 {
			concurrency, prefetch := settings(n)
			m, err := measure(ctx, q, c, concurrency, prefetch, work)
			if err != nil {
				return k, err
			}
			k.Points = append(k.Points, chart.Point{Setting: n, PerSecond: m.perSecond, P99: m.p99})
			fmt.Fprintf(t, "%d\t%d\t%.0f\t%v\t%v\t\n", concurrency, prefetch, m.perSecond, ms(m.p50), ms(m.p99))
		}
		t.Flush()
		fmt.Fprintln(out)
		return k, nil
	}
	byPrefetch, err := over(fmt.Sprintf("prefetch, at a concurrency of %d", c.concurrency),
		func(n int) (int, int) { return c.concurrency, n }, c.concurrency, c.most)
	if err != nil {
		return err
	}
	byConcurrency, err := over("concurrency, at twice as much prefetch",
		func(n int) (int, int) { return n, 2 * n }, 1, c.most/2)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "p50 and p99 are the time from the broker's hand to the end of the handler. What waits in one")
	fmt.Fprintln(out, "consumer is what no other can take.")
	if c.svg == "" {
		return nil
	}
	var picture bytes.Buffer
	chart.Chart{
		Title: "Throughput and p99 over prefetch and concurrency", PerSecond: "messages per second", P99: "p99 in the consumer",
		Curves: []chart.Curve{byPrefetch, byConcurrency},
	}.Draw(&picture)
	if err := os.WriteFile(c.svg, picture.Bytes(), 0o600); err != nil {
		return fmt.Errorf("the picture: %w", err)
	}
	fmt.Fprintln(out, "drawn to", c.svg)
	return nil
}

func ms(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
