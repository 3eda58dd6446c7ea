package redisstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// receiver is a member of one group on each of its topics. Two goroutines are
// its own: feed reads entries, keep holds its partitions.
type receiver struct {
	broker *broker
	sub    driver.Subscription
	name   string         // the member's in Redis
	topics map[string]int // partitions
	woken  chan struct{}  // holds one: Receive looks again
	want   chan struct{}  // holds one: somebody waits for messages
	kick   chan struct{}  // holds one: keep looks again
	gone   chan struct{}  // closed when it leaves
	ended  chan struct{}  // closed when its goroutines have ended

	mu      sync.Mutex
	closed  bool
	err     error        // why it cannot go on
	waiting int          // the limit of a Receive that waits
	parts   []*partition // owned
	ceding  []*partition // revoked, until they are given back
	turn    int
	tokens  int
	left    error // what went wrong while it left
}

// Subscribe implements driver.Broker.
func (b *broker) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if s.Group == "" || len(s.Topics) == 0 {
		return nil, errors.New("a subscription needs a group and a topic")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r := &receiver{
		broker: b, sub: s, topics: make(map[string]int),
		name:  fmt.Sprintf("%.64s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:8])),
		woken: make(chan struct{}, 1), want: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		gone: make(chan struct{}), ended: make(chan struct{}),
	}
	counts, err := wait.Answer(ctx, b.start, func() (map[string]int, error) {
		counts := make(map[string]int)
		for _, topic := range s.Topics {
			n, err := b.look(ctx, topic)
			if err == nil {
				err = b.makeStreams(ctx, topic, n, s.Group)
			}
			if err != nil {
				return nil, err
			}
			counts[topic] = n
		}
		return counts, nil
	}, nil)
	if err != nil {
		return nil, err
	}
	r.topics = counts
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, driver.ErrClosed
	}
	b.receivers[r] = struct{}{}
	b.wg.Go(func() {
		defer close(r.ended)
		var wg sync.WaitGroup
		values := context.WithoutCancel(ctx)
		wg.Go(func() { r.feed(values) })
		r.keep(values)
		wg.Wait()
	})
	return r, nil
}

// fail ends Receive: the front subscribes anew.
func (r *receiver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = fmt.Errorf("group %q: %w", r.sub.Group, err)
	}
	wait.Ring(r.woken)
}

// Receive implements driver.Receiver.
func (r *receiver) Receive(ctx context.Context, limit int) ([]driver.Delivery, error) {
	return wait.Deliveries(ctx, limit, r.woken, r.gone, r.take)
}

// take goes round the partitions, beginning with another one each time.
func (r *receiver) take(limit int) (ds []driver.Delivery, due time.Time, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = 0
	if r.closed {
		return nil, due, driver.ErrClosed
	}
	if r.err != nil {
		return nil, due, r.err
	}
	r.turn++
	now := time.Now()
	for i := range r.parts {
		var at time.Time
		ds, at = r.parts[(i+r.turn)%len(r.parts)].take(ds, limit, now)
		if !at.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
		if len(ds) == limit {
			break
		}
	}
	if len(ds) == 0 {
		r.waiting = limit
	}
	if len(ds) == 0 || r.idle() < r.ahead()/2 {
		wait.Ring(r.want)
	}
	return ds, due, nil
}

// Settle implements driver.Receiver. What it says takes effect only while the
// partition is still ours: the server compares the token.
func (r *receiver) Settle(ctx context.Context, s []driver.Settlement) error {
	refused, jobs, err := r.sort(s)
	if err != nil {
		return err
	}
	if len(jobs) > 0 {
		calls := make([]*call, len(jobs))
		for i, j := range jobs {
			calls[i] = j.call(r)
		}
		err := wait.Call(ctx, r.broker.start, func() error {
			r.broker.run(ctx, false, calls...)
			return nil
		})
		if err != nil {
			return err // the calls are still the goroutine's
		}
		for i, j := range jobs {
			gone, jerr := r.settled(j, calls[i].cmd)
			refused = append(refused, gone...)
			if jerr != nil {
				err = jerr
			}
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(refused...)
}

// job is what one script settles in one partition.
type job struct {
	part    *partition
	acks    []*ticket
	retries []*driver.Settlement
}

const maxJob = 1000 // arguments that a script unpacks are limited

func (r *receiver) sort(s []driver.Settlement) (refused []error, jobs []*job, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range s { // all or nothing, as far as the caller's mistakes go
		t, ok := s[i].Delivery.Handle.(*ticket)
		switch {
		case !ok || !strings.HasPrefix(t.part.token, r.name+"/"):
			return nil, nil, fmt.Errorf("delivery of message %q at %s is not of this receiver", s[i].Delivery.ID, s[i].Delivery.Position)
		case s[i].Action < driver.Ack || s[i].Action > driver.Retry:
			return nil, nil, fmt.Errorf("message %q: %v", s[i].Delivery.ID, s[i].Action)
		}
	}
	open := make(map[*partition]*job)
	for i := range s {
		t := s[i].Delivery.Handle.(*ticket)
		if t.part.revoked {
			refused = append(refused, r.refuse(t))
			continue
		}
		if t.over {
			continue
		}
		if s[i].Action == driver.Requeue {
			t.entry.attempt--
			t.part.hold(t)
			wait.Ring(r.woken)
			continue
		}
		j := open[t.part]
		if j == nil || len(j.acks)+len(j.retries) == maxJob {
			j = &job{part: t.part}
			open[t.part] = j
			jobs = append(jobs, j)
		}
		if s[i].Action == driver.Ack {
			j.acks = append(j.acks, t)
		} else {
			j.retries = append(j.retries, &s[i])
		}
	}
	return refused, jobs, nil
}

func (r *receiver) refuse(t *ticket) error {
	if !t.over {
		t.part.giveBack(t)
		if t.part.out == 0 {
			wait.Ring(r.kick)
		}
	}
	return fmt.Errorf("%w: message %q at %s", driver.ErrRevoked, t.entry.msg.ID, t.part.lane)
}

func (j *job) call(r *receiver) *call {
	args := make([]any, 0, 3+len(j.acks)+3*len(j.retries))
	args = append(args, j.part.token, r.sub.Group, len(j.acks))
	for _, t := range j.acks {
		args = append(args, t.entry.id.String())
	}
	for _, s := range j.retries {
		t := s.Delivery.Handle.(*ticket)
		args = append(args, t.entry.id.String(), max(s.Delay, 0).Milliseconds()+1, packHeaders(s.Delivery.Headers))
	}
	return &call{script: settleScript, keys: j.part.keys, args: args}
}

// settled books what the server has carried out.
func (r *receiver) settled(j *job, cmd *redis.Cmd) (refused []error, _ error) {
	answer, err := cmd.Text()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !j.part.revoked {
		return nil, fmt.Errorf("settling in %s: %w", j.part.lane, err)
	}
	if answer == lostReply {
		r.lose(j.part)
	}
	// Carried out, and revoked since: it is done, whoever has it now.
	took := answer == "ok"
	for _, t := range j.acks {
		switch {
		case t.over:
		case j.part.revoked && took:
			t.over = true
			j.part.out--
		case j.part.revoked:
			refused = append(refused, r.refuse(t))
		default:
			j.part.finish(t)
		}
	}
	for _, s := range j.retries {
		t := s.Delivery.Handle.(*ticket)
		switch {
		case t.over:
		case j.part.revoked && took:
			t.over = true
			j.part.out--
		case j.part.revoked:
			refused = append(refused, r.refuse(t))
		default:
			e := t.entry
			j.part.bytes -= e.msg.Size()
			e.msg.Headers = cloneHeaders(s.Delivery.Headers)
			j.part.bytes += e.msg.Size()
			e.attempt, e.until = 0, time.Now().Add(max(s.Delay, 0))
			j.part.hold(t)
		}
	}
	if j.part.revoked {
		wait.Ring(r.kick)
	}
	wait.Ring(r.woken)
	return refused, nil
}

// Close implements driver.Receiver.
func (r *receiver) Close(ctx context.Context) error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.gone)
	}
	r.mu.Unlock()
	r.broker.mu.Lock()
	delete(r.broker.receivers, r)
	r.broker.mu.Unlock()
	select {
	case <-r.ended:
		r.mu.Lock()
		defer r.mu.Unlock()
		left := r.left
		r.left = nil // is told once
		return left
	case <-ctx.Done():
		return fmt.Errorf("leaving group %q: %w", r.sub.Group, context.Cause(ctx))
	}
}
