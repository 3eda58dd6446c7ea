package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

// faults is how many of each there are.
type faults struct{ brokers, cuts, kills, rebalances int }

// peer is one client under one set of settings.
type peer struct {
	broker, name string
	ours         bool
	settings     string
	// declare makes topic, queue and group, before anything is published.
	declare func(ctx context.Context, at place) error
	// publisher opens one; publish returns nil when the client has reported
	// the message as sent, close ends it.
	publisher func(ctx context.Context, at place) (publish func(ctx context.Context, id, key string) error, end func(), err error)
	// consume handles messages until ctx ends or the client gives up.
	consume func(ctx context.Context, at place, handle handler) error
}

// peers are all there are, in the order of the table.
var peers = append(kafkaPeers(), rabbitmqPeers()...)

type result struct {
	peer    *peer
	counts  messagingtest.Counts
	again   int64
	stalled int
	ledger  *messagingtest.Ledger
}

// actor is a peer in a scene.
type actor struct {
	*peer
	at      place
	ledger  *messagingtest.Ledger
	again   atomic.Int64
	members []*process
	stalled int
}

// bench is what a proxy needs of a test.
type bench struct {
	testing.TB
	ends []func()
}

// Helper implements testing.TB.
func (b *bench) Helper() {}

// Context implements testing.TB.
func (b *bench) Context() context.Context { return context.Background() }

// Cleanup implements testing.TB.
func (b *bench) Cleanup(f func()) { b.ends = append(b.ends, f) }

// Fatalf implements testing.TB.
func (b *bench) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (b *bench) end() {
	for _, f := range b.ends {
		f()
	}
}

// prove puts chosen through the faults at the same time.
func prove(ctx context.Context, servers *servers, broker string, chosen []*peer, plan faults, o options) ([]result, error) {
	sayf("%s: starting", broker)
	addr, err := servers.start(ctx, broker)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := servers.stopOne(broker); err != nil {
			sayf("%v", err)
		}
	}()
	at := place{Servers: strings.Split(addr, ","), Through: make(map[string]string)}
	if u, err := url.Parse(addr); err == nil && u.Host != "" {
		at.Servers = []string{u.Host}
	}
	var tb bench
	defer tb.end()
	var proxies []*messagingtest.Proxy
	for _, server := range at.Servers {
		p := messagingtest.NewProxy(&tb, server)
		proxies = append(proxies, p)
		at.Through[server] = p.Addr()
	}
	actors := make([]*actor, len(chosen))
	defer func() {
		for _, a := range actors {
			if a != nil {
				a.dismiss()
			}
		}
	}()
	for i, p := range chosen {
		a := &actor{peer: p, at: at, ledger: messagingtest.NewLedger()}
		a.at.Topic = fmt.Sprintf("proof-%d-%d", time.Now().UnixNano(), i)
		actors[i] = a
		if err := a.declare(ctx, a.at); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		for range 2 {
			if err := a.hire(o.verbose); err != nil {
				return nil, err
			}
		}
	}
	pause(ctx, 8*time.Second) // all have joined: some begin at what is published from now on
	writing, enough := context.WithCancel(ctx)
	defer enough()
	var writers sync.WaitGroup
	for _, a := range actors {
		if err := a.write(ctx, writing, &writers); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
	}
	if err := disturb(ctx, servers, broker, actors, proxies, plan, o); err != nil {
		return nil, err
	}
	enough()
	writers.Wait()
	settle(ctx, actors, o.verbose)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	results := make([]result, len(actors))
	for i, a := range actors {
		a.dismiss()
		results[i] = result{peer: a.peer, counts: a.ledger.Counts(), again: a.again.Load(), stalled: a.stalled, ledger: a.ledger}
	}
	return results, nil
}

// disturb does all faults, in random order.
func disturb(ctx context.Context, servers *servers, broker string, actors []*actor, proxies []*messagingtest.Proxy, plan faults, o options) error {
	random := rand.New(rand.NewPCG(o.seed, 0))
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(random.Int64N(int64(most-least)))
	}
	var list []func() (string, error)
	for n := range plan.brokers {
		list = append(list, func() (string, error) { return servers.kill(ctx, broker, n) })
	}
	for range plan.cuts {
		d := between(0, time.Second)
		list = append(list, func() (string, error) {
			var wg sync.WaitGroup
			for _, p := range proxies {
				wg.Go(func() { p.Cut(d) })
			}
			wg.Wait()
			return fmt.Sprintf("connections cut for %v", d.Round(time.Millisecond)), nil
		})
	}
	guests := func(end func(*process), what string) func() (string, error) {
		stay := between(3*time.Second, 5*time.Second)
		return func() (string, error) {
			for _, a := range actors {
				if err := a.hire(o.verbose); err != nil {
					return "", err
				}
			}
			pause(ctx, stay)
			var wg sync.WaitGroup
			for _, a := range actors { // one of the old ones
				old := a.members[0]
				a.members = a.members[1:]
				wg.Go(func() { end(old) })
			}
			wg.Wait()
			return what, nil
		}
	}
	for range plan.kills {
		list = append(list, guests((*process).kill, "consumer killed"))
	}
	for range plan.rebalances {
		list = append(list, guests((*process).leave, "consumer joined, another one left"))
	}
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for i, f := range list {
		pause(ctx, between(time.Second, 2500*time.Millisecond))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		what, err := f()
		if err != nil {
			return err
		}
		sayf("%s: %d of %d: %s", broker, i+1, len(list), what)
	}
	pause(ctx, 2*time.Second)
	return nil
}

// hire starts a consumer process.
func (a *actor) hire(verbose bool) error {
	m, err := startMember(a.peer, a.at, a.ledger, verbose)
	if err == nil {
		a.members = append(a.members, m)
	}
	return err
}

func (a *actor) dismiss() {
	var wg sync.WaitGroup
	for _, m := range a.members {
		wg.Go(m.leave)
	}
	wg.Wait()
	a.members = nil
}

// write starts 4 writers of 5 keys each, until writing ends.
func (a *actor) write(ctx, writing context.Context, wg *sync.WaitGroup) error {
	publish, end, err := a.publisher(ctx, a.at)
	if err != nil {
		return err
	}
	var mine sync.WaitGroup
	for w := range 4 {
		mine.Go(func() {
			for n := 0; writing.Err() == nil; n++ {
				a.send(ctx, publish, fmt.Sprintf("%d-%d", w, n), fmt.Sprintf("%d-%d", w, n%5))
				pause(writing, 10*time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		mine.Wait()
		end()
	})
	return nil
}

var errHung = errors.New("the client did not answer within 20 s")

// send repeats until the client reports that the message is sent. A client
// that does not answer is asked again, as a caller with a deadline would.
func (a *actor) send(ctx context.Context, publish func(ctx context.Context, id, key string) error, id, key string) {
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		answer := make(chan error, 1)
		go func() { answer <- publish(one, id, key) }()
		var err error
		select {
		case err = <-answer:
		case <-time.After(20 * time.Second): // it does not look at its context
			err = errHung
		case <-ctx.Done():
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			a.ledger.Sent(id, key, nil)
			return
		}
		a.again.Add(1)
		pause(ctx, 100*time.Millisecond)
	}
}

// settle waits until everything is handled, or nothing moves any more. Peers
// that stand still get new consumers once.
func settle(ctx context.Context, actors []*actor, verbose bool) {
	const patience = 30 * time.Second
	var wg sync.WaitGroup
	for _, a := range actors {
		wg.Go(func() {
			a.wait(ctx, patience)
			left := a.ledger.Counts().Lost
			if left == 0 || ctx.Err() != nil {
				return
			}
			sayf("%s: %s: %d messages are missing, consumers are started anew", a.broker, a.name, left)
			a.dismiss()
			for range 2 {
				if err := a.hire(verbose); err != nil {
					sayf("%v", err)
				}
			}
			a.wait(ctx, patience)
			a.stalled = left - a.ledger.Counts().Lost
		})
	}
	wg.Wait()
	pause(ctx, 3*time.Second) // what comes twice may come late
}

// wait returns when nothing is missing, or nothing has been delivered for so long.
func (a *actor) wait(ctx context.Context, patience time.Duration) {
	last, since := -1, time.Now()
	for ctx.Err() == nil {
		c := a.ledger.Counts()
		if c.Lost == 0 {
			return
		}
		if c.Delivered != last {
			last, since = c.Delivered, time.Now()
		}
		if time.Since(since) > patience {
			return
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func sayf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
