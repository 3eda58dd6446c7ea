// Command proof puts messaging clients through the same faults on the same
// brokers and counts what became of their messages: raw sarama, raw
// amqp091-go, Watermill and Mainstay.
//
//	go run ./proof                    Kafka (three nodes) and RabbitMQ, about 6 min
//	go run ./proof -long              20 kills of brokers, 50 cuts, 20 kills of consumers, 20 rebalances: about 25 min
//	go run ./proof -brokers rabbitmq  one broker
//	go run ./proof -peers 'Mainstay|safe'
//
// It starts the servers with scripts/services, in a directory and on ports
// ($MAINSTAY_PORT, 31000) of its own, and removes them at the end.
//
// All peers of a broker run at the same time, each with a topic of its own, so
// that every fault hits all of them at the same instant: a broker is killed with
// SIGKILL and started again; all connections are cut for up to a second;
// a consumer process is killed with SIGKILL; a consumer joins and
// leaves. Each peer has a publisher with 4 writers of 5 keys each and
// 2 consumer processes, or 3 around a fault of consumers.
//
// A send that fails is sent again, with the same ID, before the next of its
// key: only what a client has reported as sent can be lost. Handling takes up to
// 3 ms, one in 200 takes 200 ms. What is counted is in
// messagingtest.Counts. A peer whose consumers stand still has them started
// anew at the end, as an operator would: what arrives only then is "stalled".
//
// The exit code is 1 if Mainstay lost, inverted, overlapped or rekeyed anything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

type options struct {
	long           bool
	brokers, peers string
	verbose        bool
	seed           uint64
}

func main() {
	var (
		o          options
		member, at string
	)
	flag.BoolVar(&o.long, "long", false, "20 kills of brokers, 50 cuts, 20 kills of consumers and 20 rebalances in place of 2, 5, 3 and 3")
	flag.StringVar(&o.brokers, "brokers", "kafka,rabbitmq", "which brokers")
	flag.StringVar(&o.peers, "peers", "", "only the peers whose name matches this regular expression")
	flag.BoolVar(&o.verbose, "v", false, "show what the consumer processes say")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the order and the times of the faults")
	flag.StringVar(&member, "member", "", "for itself: be a consumer of this peer")
	flag.StringVar(&at, "at", "", "for itself: where")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var err error
	if member != "" {
		err = beMember(ctx, member, at)
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		cancel()
		os.Exit(1) //nolint:gocritic // cancel was called
	}
}

func run(ctx context.Context, o options) (failure error) {
	match, err := regexp.Compile(o.peers)
	if err != nil {
		return fmt.Errorf("-peers: %w", err)
	}
	plan := faults{brokers: 2, cuts: 5, kills: 3, rebalances: 3}
	if o.long {
		plan = faults{brokers: 20, cuts: 50, kills: 20, rebalances: 20}
	}
	servers, err := newServers()
	if err != nil {
		return err
	}
	defer func() { failure = errors.Join(failure, servers.stop()) }()
	var all []result
	for broker := range strings.SplitSeq(o.brokers, ",") {
		var chosen []*peer
		for _, p := range peers {
			if p.broker == broker && match.MatchString(p.name) {
				chosen = append(chosen, p)
			}
		}
		if len(chosen) == 0 {
			return fmt.Errorf("no peers of broker %q match %q: brokers are kafka and rabbitmq", broker, o.peers)
		}
		results, err := prove(ctx, servers, broker, chosen, plan, o)
		if err != nil {
			return err
		}
		all = append(all, results...)
	}
	report(os.Stdout, all, plan, o.seed)
	for _, r := range all {
		if c := r.counts; r.peer.ours && c.Lost+c.Inverted+c.Overlapping+c.Rekeyed+r.stalled > 0 {
			failure = fmt.Errorf("Mainstay did not keep its promise: %s", r.ledger) //nolint:staticcheck // it is a name
		}
	}
	return failure
}

// report writes one table of all, and what the peers were set to.
func report(w io.Writer, all []result, plan faults, seed uint64) {
	fmt.Fprintf(w, "\n%d kills of brokers, %d cuts of connections, %d kills of consumers, %d rebalances on each broker; seed %d\n\n",
		plan.brokers, plan.cuts, plan.kills, plan.rebalances, seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tpublished\tsent again\tdelivered\tlost\tduplicate\tinverted\toverlapping\trekeyed\tstalled\t")
	broker := ""
	for _, r := range all {
		if r.peer.broker != broker {
			broker = r.peer.broker
			fmt.Fprintf(t, "%s\t\t\t\t\t\t\t\t\t\t\n", strings.ToUpper(broker))
		}
		c := r.counts
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n",
			r.peer.name, c.Published, r.again, c.Delivered, c.Lost, c.Duplicate, c.Inverted, c.Overlapping, c.Rekeyed, r.stalled)
	}
	_ = t.Flush()
	fmt.Fprint(w, `
lost         reported as sent by the client, and never handled
duplicate    handled again after it had been handled
inverted     handled after a later message of its key
overlapping  handling began while another of the same key was under way
rekeyed      handled with another key than it was published with
stalled      handled only when the consumers had been started anew
sent again   sends that failed and were repeated with the same ID: some of what was sent twice is duplicate

`)
	for _, r := range all {
		fmt.Fprintf(w, "%s (%s): %s\n", r.peer.name, r.peer.broker, r.peer.settings)
	}
}
