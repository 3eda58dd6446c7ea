package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// receiver is a member of a group. One goroutine, run, joins the group and
// stays in it; another one keeps the lease; the client has one for each partition, ConsumeClaim, which fills
// the claim's queue. Receive takes from the queues, Settle moves the frontiers
// and commits them.
type receiver struct {
	broker *broker
	sub    driver.Subscription
	client sarama.Client
	group  sarama.ConsumerGroup
	tiers  []tier
	former []tier        // only read
	topics []string      // with those of both
	drain  time.Duration // of a revoked claim, less than the group allows

	woken   chan struct{} // holds one: look again
	gone    chan struct{} // closed when Close begins
	ended   chan struct{} // closed when nothing of it runs any more
	commits chan struct{} // holds one: who commits
	unsure  chan struct{} // holds one: a lease is needed now

	doubt func() <-chan struct{} // of every delivery

	mu     sync.Mutex
	closed bool
	err    error // why receiving cannot go on
	joined bool  // since Consume was called last
	claims []*claim
	turn   int
	room   int       // of a memo
	sure   time.Time // until then nobody else has the claims
	// renewed is closed, and nil again, when the lease is renewed; nil: nobody waits.
	renewed chan struct{}
}

// Subscribe implements driver.Broker.
func (b *broker) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if s.Group == "" || len(s.Topics) == 0 {
		return nil, errors.New("a subscription needs a group and a topic")
	}
	if err := b.Verify(ctx, driver.Subscription{Topics: s.Topics, Group: s.Group, Delays: s.Delays, Unordered: s.Unordered}); err != nil {
		return nil, err
	}
	exist, err := b.topics(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	tiers := tiersOf(&s)
	former, err := formerTiers(&s, exist)
	if err != nil {
		return nil, err
	}
	config := groupConfig(b.base, s.Drain)
	client, err := b.connect(ctx, config)
	if err != nil {
		return nil, err
	}
	group, err := sarama.NewConsumerGroupFromClient(s.Group, client)
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	r := &receiver{
		tiers: tiers, former: former, topics: slices.Concat(s.Topics, names(tiers), names(former)),
		broker: b, sub: s, client: client, group: group,
		room:  memoRoom,
		drain: min(s.Drain, config.Consumer.Group.Rebalance.Timeout-margin),
		woken: make(chan struct{}, 1), gone: make(chan struct{}), ended: make(chan struct{}), commits: make(chan struct{}, 1),
		unsure: make(chan struct{}, 1),
	}
	r.doubt = r.inDoubt
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = client.Close()
		return nil, driver.ErrClosed
	}
	b.receivers[r] = struct{}{}
	b.wg.Go(r.live)
	return r, nil
}

// live is the receiver from joining to leaving.
func (r *receiver) live() {
	defer close(r.ended)
	var wg sync.WaitGroup
	wg.Go(r.listen)
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		<-r.gone
		cancel()
	})
	wg.Go(func() { r.keepLease(ctx) })
	r.run(ctx)
	<-r.gone
	_ = r.group.Close() // leaves the group; what it says has no reader any more
	wg.Wait()
}

// patience is how long joining may fail before Receive says so.
const patience = 5 * time.Second

// run stays in the group. What fails is tried again for a while; then the
// front hears of it, and begins anew.
func (r *receiver) run(ctx context.Context) {
	var failing time.Time
	for ctx.Err() == nil {
		err := r.group.Consume(ctx, r.topics, handler{r})
		r.mu.Lock()
		if r.joined || err == nil {
			failing = time.Time{}
		}
		r.joined = false
		r.mu.Unlock()
		if err != nil {
			if failing.IsZero() {
				failing = time.Now()
			}
			if permanent(err) || time.Since(failing) > patience {
				r.fail(fmt.Errorf("group %q: %w", r.sub.Group, err))
				return
			}
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// listen hears of errors that the client goes on from by itself, or believes so.
func (r *receiver) listen() {
	for err := range r.group.Errors() {
		if permanent(err) {
			r.fail(fmt.Errorf("group %q: %w", r.sub.Group, err))
		}
	}
}

// permanent reports what does not pass by waiting.
func permanent(err error) bool {
	return errors.Is(err, sarama.ErrClosedConsumerGroup) || errors.Is(err, sarama.ErrClosedClient) ||
		errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrGroupAuthorizationFailed) ||
		errors.Is(err, sarama.ErrClusterAuthorizationFailed) || errors.Is(err, sarama.ErrSASLAuthenticationFailed) ||
		errors.Is(err, sarama.ErrInconsistentGroupProtocol) || errors.Is(err, sarama.ErrFencedInstancedId)
}

func (r *receiver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.wake()
}

// wake makes Receive look again.
func (r *receiver) wake() { wait.Ring(r.woken) }

// Receive implements driver.Receiver.
func (r *receiver) Receive(ctx context.Context, limit int) ([]driver.Delivery, error) {
	return wait.Deliveries(ctx, limit, r.woken, r.gone, r.take)
}

// take goes round the claims, beginning with another one each time. due is when
// a retry may be taken that waits; zero: none does.
func (r *receiver) take(limit int) (ds []driver.Delivery, due time.Time, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, due, driver.ErrClosed
	}
	if r.err != nil {
		return nil, due, r.err
	}
	if len(r.claims) > 0 && !r.isSure() {
		return nil, due, nil // until the lease is renewed
	}
	r.turn++
	for i := range r.claims {
		var at time.Time
		ds, at = r.claims[(i+r.turn)%len(r.claims)].take(ds, limit)
		if len(ds) == limit {
			break
		}
		if !at.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	return ds, due, nil
}

// Settle implements driver.Receiver. It returns when the frontiers that moved
// are committed: what is settled beyond a message that is not cannot be.
func (r *receiver) Settle(ctx context.Context, s []driver.Settlement) error {
	failed := r.copyOut(ctx, s)
	refused, dirty, err := r.settle(s)
	if err != nil {
		return err
	}
	if len(dirty) > 0 {
		gone, err := r.commit(ctx, dirty)
		if err != nil {
			return err
		}
		refused = append(refused, gone...)
	}
	if failed != nil { // and not that all others took effect
		return failed
	}
	return errors.Join(refused...)
}

func (r *receiver) settle(s []driver.Settlement) (refused []error, dirty []*claim, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range s { // all or nothing, as far as the caller's mistakes go
		t, ok := s[i].Delivery.Handle.(*ticket)
		switch {
		case !ok || t.claim.receiver != r:
			return nil, nil, fmt.Errorf("delivery of message %q at %s is not of this receiver", s[i].Delivery.ID, s[i].Delivery.Position)
		case s[i].Action < driver.Ack || s[i].Action > driver.Retry || s[i].Action == driver.Retry && len(r.tiers) == 0:
			return nil, nil, fmt.Errorf("message %q: %v is not supported", s[i].Delivery.ID, s[i].Action)
		}
	}
	for i := range s {
		t := s[i].Delivery.Handle.(*ticket)
		switch c := t.claim; {
		case c.revoked:
			c.giveBack(t)
			refused = append(refused, fmt.Errorf("%w: message %q at %s", driver.ErrRevoked, s[i].Delivery.ID, s[i].Delivery.Position))
		case s[i].Action == driver.Requeue:
			c.requeue(t)
		case s[i].Action == driver.Retry && !t.copied:
		default:
			c.ack(t)
			if c.dirty() && !slices.Contains(dirty, c) {
				dirty = append(dirty, c)
			}
		}
	}
	return refused, dirty, nil
}

// Note implements driver.Noter.
func (r *receiver) Note(ctx context.Context, notes []driver.Noted) error {
	r.mu.Lock()
	var dirty []*claim
	for i := range notes {
		t, ok := notes[i].Delivery.Handle.(*ticket)
		if !ok || t.claim.revoked || t.claim.receiver != r || !t.claim.done.Pending(t.record.Offset) {
			continue
		}
		c := t.claim
		c.notes[t.record.Offset] = notes[i].Note
		c.changes++
		if !slices.Contains(dirty, c) {
			dirty = append(dirty, c)
		}
	}
	r.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	_, err := r.commit(ctx, dirty)
	return err
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
	var late error
	select {
	case <-r.ended:
	case <-ctx.Done():
		late = fmt.Errorf("leaving group %q: %w", r.sub.Group, context.Cause(ctx))
	}
	if err := r.client.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) { // ends what still waits for a broker
		return errors.Join(late, err)
	}
	return late
}
