package messagingtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

// broken is the broker in memory with one fault, to see that the kit finds it.
type broken struct {
	driver.Broker
	capabilities func(*driver.Capabilities)
	publish      func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error
	subscribe    func(*driver.Subscription)
	declare      func(inner driver.Broker, ctx context.Context, s driver.Subscription) error
	verify       func() error
	receive      func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error)
	settle       func(r *brokenReceiver, ctx context.Context, s []driver.Settlement) error
	note         func([]driver.Noted)
	health       func() error
	lag          func() (int64, time.Duration, error)
}

type brokenReceiver struct {
	driver.Receiver
	b *broken
}

func (b *broken) Capabilities() driver.Capabilities {
	c := b.Broker.Capabilities()
	if b.capabilities != nil {
		b.capabilities(&c)
	}
	return c
}

func (b *broken) Publish(ctx context.Context, msgs []driver.Message) []error {
	if b.publish != nil {
		return b.publish(b.Broker, ctx, msgs)
	}
	return b.Broker.Publish(ctx, msgs)
}

func (b *broken) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if b.subscribe != nil {
		b.subscribe(&s)
		if err := b.Declare(ctx, s); err != nil {
			return nil, err
		}
	}
	r, err := b.Broker.Subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	if b.note != nil {
		return &brokenNoter{&brokenReceiver{r, b}}, nil
	}
	return &brokenReceiver{r, b}, nil
}

type brokenNoter struct{ *brokenReceiver }

func (r *brokenNoter) Note(_ context.Context, notes []driver.Noted) error {
	r.b.note(notes)
	return nil
}

func (b *broken) Declare(ctx context.Context, s driver.Subscription) error {
	if b.declare != nil {
		return b.declare(b.Broker, ctx, s)
	}
	return b.Broker.(driver.Declarer).Declare(ctx, s)
}

func (b *broken) Verify(ctx context.Context, s driver.Subscription) error {
	if b.verify != nil {
		return b.verify()
	}
	return b.Broker.(driver.Declarer).Verify(ctx, s)
}

func (b *broken) Lag(ctx context.Context, topic, group string) (int64, time.Duration, error) {
	if b.lag != nil {
		return b.lag()
	}
	return b.Broker.(driver.Lagger).Lag(ctx, topic, group)
}

func (b *broken) Health(ctx context.Context) error {
	if b.health != nil {
		return b.health()
	}
	return b.Broker.Health(ctx)
}

func (r *brokenReceiver) Receive(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if r.b.receive != nil {
		return r.b.receive(r, ctx, limit)
	}
	return r.Receiver.Receive(ctx, limit)
}

func (r *brokenReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if r.b.settle != nil {
		return r.b.settle(r, ctx, s)
	}
	return r.Receiver.Settle(ctx, s)
}

// broker returns a driver in memory with room that the kit can fill.
func broker() driver.Broker { return memory.New(&memory.Options{MaxBytes: 1 << 20}).Driver() }

// run runs one rule in virtual time.
func run(t *testing.T, name string, b *broken) (err error) {
	t.Helper()
	at := slices.IndexFunc(rules, func(r rule) bool { return r.name == name })
	require.GreaterOrEqual(t, at, 0, "no rule %q", name)
	synctest.Test(t, func(t *testing.T) {
		b.Broker = broker()
		s := newScene(Harness{Driver: b, Cut: time.Sleep})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err = rules[at].check(ctx, s)
		require.NoError(t, s.end())
	})
	return err
}

func TestRulesHoldInMemory(t *testing.T) {
	held := 0
	for _, r := range rules {
		if r.needs == nil || r.needs(Harness{Driver: broker()}) == "" {
			require.NoError(t, run(t, r.name, &broken{}), r.name)
			held++
		}
	}
	require.Equal(t, len(rules)-5, held, "all but restart, two that cut, and two of brokers that cannot delay in order")
}

// noting remembers notes beside a broker in memory. forget is asked before one
// is kept.
func noting(forget func(old *driver.Note, n driver.Note) bool) *broken {
	notes := make(map[string]*driver.Note)
	return &broken{
		capabilities: func(c *driver.Capabilities) { c.Delay, c.Notes = false, true },
		note: func(all []driver.Noted) {
			for _, n := range all {
				if !forget(notes[n.Delivery.Topic+n.Delivery.ID], n.Note) {
					notes[n.Delivery.Topic+n.Delivery.ID] = &n.Note
				}
			}
		},
		receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			for i := range ds {
				ds[i].Note = notes[ds[i].Topic+ds[i].ID]
			}
			return ds, err
		},
	}
}

func TestRulesAboutNotes(t *testing.T) {
	for _, rule := range []string{"notes outlive their receiver", "retries outlive their consumer"} {
		require.NoError(t, run(t, rule, noting(func(*driver.Note, driver.Note) bool { return false })))
		for fault, forget := range map[string]func(*driver.Note, driver.Note) bool{
			"nothing is kept":  func(*driver.Note, driver.Note) bool { return true },
			"the first counts": func(old *driver.Note, _ driver.Note) bool { return old != nil },
		} {
			t.Run(rule+"/"+fault, func(t *testing.T) {
				err := run(t, rule, noting(forget))
				require.Error(t, err)
				t.Log(err)
			})
		}
	}
	require.ErrorContains(t, run(t, "notes outlive their receiver", &broken{}), "no driver.Noter")
}

// doubling hands out copies of deliveries, when they are handed out or when they
// are acked, to another member or to the same one, and takes every ack.
func doubling(which func(d driver.Delivery, acked bool) bool, same bool) *broken {
	type spare struct {
		d  driver.Delivery
		by *brokenReceiver
	}
	var (
		mu     sync.Mutex
		spares []spare
	)
	const mark = "copy of "
	copied := func(r *brokenReceiver, d driver.Delivery) {
		d.Position = mark + d.Position
		spares = append(spares, spare{d, r})
	}
	return &broken{
		receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			for {
				mu.Lock()
				if i := slices.IndexFunc(spares, func(s spare) bool { return (s.by == r) == same }); i >= 0 {
					d := spares[i].d
					spares = slices.Delete(spares, i, i+1)
					mu.Unlock()
					return []driver.Delivery{d}, nil
				}
				mu.Unlock()
				short, cancel := context.WithTimeout(ctx, 20*time.Millisecond) // and look again
				ds, err := r.Receiver.Receive(short, limit)
				cancel()
				if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
					continue
				}
				mu.Lock()
				defer mu.Unlock()
				for _, d := range ds {
					if which(d, false) {
						copied(r, d)
					}
				}
				return ds, err
			}
		},
		settle: func(r *brokenReceiver, ctx context.Context, s []driver.Settlement) error {
			mu.Lock()
			defer mu.Unlock()
			var own []driver.Settlement
			for _, x := range s {
				if strings.HasPrefix(x.Delivery.Position, mark) {
					continue
				}
				own = append(own, x)
				if x.Action == driver.Ack && which(x.Delivery, true) {
					copied(r, x.Delivery)
				}
			}
			return r.Receiver.Settle(ctx, own)
		},
	}
}

func oneInThree(d *driver.Delivery) bool { return strings.ContainsAny(d.ID[len(d.ID)-1:], "369") }

// Each fault breaks the rule that names it: a rule which cannot fail proves
// nothing.
func TestRulesFindFaults(t *testing.T) {
	type settlements = []driver.Settlement
	var mu sync.Mutex // members share what f remembers
	change := func(f func(*driver.Delivery)) *broken {
		return &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			mu.Lock()
			defer mu.Unlock()
			for i := range ds {
				f(&ds[i])
			}
			return ds, err
		}}
	}
	action := func(f func(*driver.Settlement)) *broken {
		return &broken{settle: func(r *brokenReceiver, ctx context.Context, s settlements) error {
			s = slices.Clone(s)
			for i := range s {
				f(&s[i])
			}
			return r.Receiver.Settle(ctx, s)
		}}
	}
	shared := make(map[string][]byte)
	counts := make(map[string]int)
	var last []driver.Settlement
	var only atomic.Pointer[brokenReceiver]
	// later changes what comes again.
	later := func(f func(*driver.Delivery)) *broken {
		return change(func(d *driver.Delivery) {
			if counts[d.ID]++; counts[d.ID] > 1 {
				f(d)
			}
		})
	}
	forgetful := func() *broken {
		return &broken{settle: func(r *brokenReceiver, ctx context.Context, s settlements) error {
			return r.Receiver.Settle(ctx, slices.DeleteFunc(slices.Clone(s), func(x driver.Settlement) bool { return x.Action == driver.Ack }))
		}}
	}
	anywhere := func(keys int) *broken {
		return &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			for i := range msgs {
				msgs[i].Key = "" // and thus to any partition
			}
			return inner.Publish(ctx, msgs)
		}, receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			for i := range ds {
				n, _ := strconv.Atoi(ds[i].ID[len(ds[i].ID)-6:])
				ds[i].Key = fmt.Sprintf("key-%d", n%keys)
			}
			return ds, err
		}}
	}
	for _, c := range []struct {
		rule, fault string
		b           *broken
	}{
		{"every field arrives", "time in milliseconds", change(func(d *driver.Delivery) { d.Time = d.Time.Truncate(time.Millisecond) })},
		{"every field arrives", "headers as a map", change(func(d *driver.Delivery) {
			if len(d.Headers) > 0 {
				d.Headers.Set("twice", "second")
			}
		})},
		{"every field arrives", "no schema", change(func(d *driver.Delivery) { d.Schema = "" })},
		{"every field arrives", "no position", change(func(d *driver.Delivery) { d.Position = "" })},
		{"bytes are not shared", "one body for all groups", change(func(d *driver.Delivery) {
			if b, ok := shared[d.ID]; ok {
				d.Body = b
			}
			shared[d.ID] = d.Body
		})},
		{"results are aligned", "results in another order", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			errs := inner.Publish(ctx, msgs)
			slices.SortFunc(errs, func(a, _ error) int {
				if a == nil {
					return -1
				}
				return 1
			})
			return errs
		}}},
		{"results are aligned", "all or nothing", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			errs := inner.Publish(ctx, msgs)
			if err := errors.Join(errs...); err != nil {
				for i := range errs {
					errs[i] = err
				}
			}
			return errs
		}}},
		{"missing topics are named", "verify says yes", &broken{verify: func() error { return nil }}},
		{"missing topics are named", "no names", &broken{verify: func() error { return driver.ErrUnroutable }}},
		{"order per key", "batches reversed", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			slices.Reverse(msgs)
			return inner.Publish(ctx, msgs)
		}}},
		{"limit is binding", "one more than asked for", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			return r.Receiver.Receive(ctx, limit+1)
		}}},
		{"limit is binding", "returns nothing instead of waiting", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			if ctx.Err() != nil {
				err = nil
			}
			return ds, err
		}}},
		{"acked is gone", "acks are forgotten", forgetful()},
		{"unsettled comes again", "acked when handed out", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			if err == nil {
				err = settle(ctx, r.Receiver, driver.Ack, ds...)
			}
			return ds, err
		}}},
		{"unsettled comes again", "the highest ack acks all before it", &broken{settle: func(r *brokenReceiver, ctx context.Context, s settlements) error {
			return r.Receiver.Settle(ctx, s)
		}, receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			if err == nil && len(ds) > 10 {
				err = settle(ctx, r.Receiver, driver.Ack, ds[:10]...)
			}
			return ds, err
		}}},
		{"unsettled comes again", "acks are forgotten", forgetful()},
		{"unsettled comes again", "and once more", doubling(func(d driver.Delivery, acked bool) bool { return acked && d.Attempt > 1 }, true)},
		{"unsettled comes again", "attempts always 1", change(func(d *driver.Delivery) { d.Attempt = 1 })},
		{"settling twice", "the second is an error", &broken{settle: func(r *brokenReceiver, ctx context.Context, s settlements) error {
			if last != nil {
				return errors.New("unknown delivery")
			}
			last = s
			return r.Receiver.Settle(ctx, s)
		}}},
		{"requeue", "requeue is ack", action(func(s *driver.Settlement) { s.Action = driver.Ack })},
		{"requeue", "requeue counts", change(func(d *driver.Delivery) { counts[d.ID]++; d.Attempt = counts[d.ID] })},
		{"retry waits", "at once", action(func(s *driver.Settlement) { s.Delay = 0 })},
		{"retry waits", "with the old headers", action(func(s *driver.Settlement) { s.Delivery.Headers = nil })},
		{"retry waits", "attempts go on", change(func(d *driver.Delivery) { counts[d.ID]++; d.Attempt = counts[d.ID] })},
		{"retry waits", "content type is lost", later(func(d *driver.Delivery) { d.ContentType = "" })},
		{"retry waits", "time is that of the retry", later(func(d *driver.Delivery) { d.Time = time.Now().Add(time.Minute) })},
		{"retry waits", "other headers are lost", later(func(d *driver.Delivery) {
			d.Headers = slices.DeleteFunc(d.Headers, func(h driver.Header) bool { return h.Key != "mainstay-attempts" })
		})},
		{"requeue", "schema is lost", later(func(d *driver.Delivery) { d.Schema = "" })},
		{"unsettled comes again", "headers are lost", later(func(d *driver.Delivery) { d.Headers = nil })},
		{"retry holds its key", "a retry goes to the end", &broken{settle: func(r *brokenReceiver, ctx context.Context, s settlements) error {
			s = slices.Clone(s)
			for i := range s {
				if s[i].Action == driver.Retry {
					s[i].Action = driver.Ack
					go func() {
						time.Sleep(s[i].Delay)
						r.b.Broker.Publish(ctx, []driver.Message{s[i].Delivery.Message})
					}()
				}
			}
			return r.Receiver.Settle(ctx, s)
		}}},
		{"retry holds its key", "no turns", change(func(d *driver.Delivery) { d.Turn = 0 })},
		{"retries outlive their consumer", "attempts are forgotten", change(func(d *driver.Delivery) { d.Headers = nil })},
		{"retries outlive their consumer", "due at once", action(func(s *driver.Settlement) { s.Delay = 0 })},
		{"retries outlive their consumer", "the key goes on", change(func(d *driver.Delivery) {
			if strings.HasSuffix(d.ID, "2") {
				d.Key = "another"
			}
		})},
		{"unordered retries outlive their consumer", "attempts are forgotten", change(func(d *driver.Delivery) { d.Headers = nil })},
		{"groups are independent", "one group for all", &broken{subscribe: func(s *driver.Subscription) { s.Group = "all" }}},
		{"new groups begin at the oldest", "they begin at the newest", &broken{declare: func(inner driver.Broker, ctx context.Context, s driver.Subscription) error {
			if err := inner.(driver.Declarer).Declare(ctx, s); err != nil || s.Group == "" {
				return err
			}
			r, err := inner.Subscribe(ctx, s)
			if err != nil {
				return err
			}
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			for {
				ds, err := r.Receive(short, 100)
				if err != nil {
					return r.Close(ctx)
				}
				if err := settle(ctx, r, driver.Ack, ds...); err != nil {
					return err
				}
			}
		}}},
		{"members share", "each gets everything", &broken{subscribe: func(s *driver.Subscription) { s.Group += rand.Text() }}},
		{"members share", "a message is dropped", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			if len(ds) > 1 {
				err = settle(ctx, r.Receiver, driver.Ack, ds[0])
				ds = ds[1:]
			}
			return ds, err
		}}},
		{"members share", "one in three goes to two of them", doubling(func(d driver.Delivery, _ bool) bool { return oneInThree(&d) }, false)},
		{"members share", "one in three goes to another when it was acked", doubling(func(d driver.Delivery, acked bool) bool {
			return acked && oneInThree(&d)
		}, false)},
		{"members share", "one in three comes again where it was acked", doubling(func(d driver.Delivery, acked bool) bool {
			return acked && oneInThree(&d)
		}, true)},
		{"members share", "one gets everything", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			only.CompareAndSwap(nil, r)
			if r != only.Load() {
				if err := r.Close(ctx); err != nil { // and the others share its part
					return nil, err
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return r.Receiver.Receive(ctx, limit)
		}}},
		{"members share", "keys go to any of them", anywhere(39)},
		{"revoked deliveries are refused", "they are accepted", &broken{settle: func(r *brokenReceiver, ctx context.Context, s settlements) error {
			if err := r.Receiver.Settle(ctx, s); !errors.Is(err, driver.ErrRevoked) {
				return err
			}
			return nil
		}}},
		{"revoked deliveries are refused", "acks are forgotten", forgetful()},
		{"revoked deliveries are refused", "Lost is never closed", change(func(d *driver.Delivery) { d.Lost = make(chan struct{}) })},
		{"close ends waiting", "with another error", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			if _, err := r.Receiver.Receive(ctx, limit); err != nil {
				return nil, errors.New("EOF")
			}
			return nil, nil
		}}},
		{"closed broker", "healthy for ever", &broken{health: func() error { return nil }}},
		{"closed broker", "swallows messages", &broken{publish: func(_ driver.Broker, _ context.Context, msgs []driver.Message) []error {
			return make([]error, len(msgs))
		}}},
		{"consumers keep order and lose nothing", "the highest ack acks all", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, limit)
			if err == nil {
				err = settle(ctx, r.Receiver, driver.Ack, ds...)
			}
			return ds, err
		}}},
		{"consumers keep order and lose nothing", "keys go anywhere", anywhere(7)},
		{"consumers keep order and lose nothing", "few come again when they were acked", doubling(func(d driver.Delivery, acked bool) bool { return acked && strings.HasSuffix(d.ID, "33") }, false)},
		{"consumers keep order and lose nothing", "keys are lost when they come again", later(func(d *driver.Delivery) { d.Key = "" })},
		{"two builds in one group", "few come again when they were acked", doubling(func(d driver.Delivery, acked bool) bool { return acked && strings.HasSuffix(d.ID, "33") }, false)},
		{"two builds in one group", "keys are spelled another way", change(func(d *driver.Delivery) { d.Key = "x" + d.Key })},
		{"dead letters arrive", "the dead-letter topic swallows", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			if strings.HasSuffix(msgs[0].Topic, ".dead") {
				return make([]error, len(msgs))
			}
			return inner.Publish(ctx, msgs)
		}}},
		{"undecodable messages stop nobody", "bodies are made valid", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			for i := range msgs {
				if strings.HasSuffix(msgs[i].Topic, ".dead") {
					msgs[i].Body = []byte(strings.ToValidUTF8(string(msgs[i].Body), "?"))
				}
			}
			return inner.Publish(ctx, msgs)
		}}},
		{"two builds in one group", "unknown headers are dropped", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			for i := range msgs {
				msgs[i].Headers = slices.DeleteFunc(slices.Clone(msgs[i].Headers), func(h driver.Header) bool { return h.Key == "added-in-v2" })
			}
			return inner.Publish(ctx, msgs)
		}}},
		{"missing topics are named", "publishing makes the topic", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			if err := inner.(driver.Declarer).Declare(ctx, driver.Subscription{Topics: []string{msgs[0].Topic}}); err != nil {
				return []error{err}
			}
			return inner.Publish(ctx, msgs)
		}}},
		{"waiting is bounded", "publishing has a timeout of its own", &broken{publish: func(inner driver.Broker, ctx context.Context, msgs []driver.Message) []error {
			time.Sleep(10 * time.Second)
			return inner.Publish(ctx, msgs)
		}}},
		{"waiting is bounded", "receiving has a timeout of its own", &broken{receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			time.Sleep(10 * time.Second)
			return r.Receiver.Receive(ctx, limit)
		}}},
		{"lag", "always none", &broken{lag: func() (int64, time.Duration, error) { return 0, 0, nil }}},
	} {
		t.Run(c.rule+"/"+c.fault, func(t *testing.T) {
			clear(shared)
			clear(counts)
			last = nil
			only.Store(nil)
			err := run(t, c.rule, c.b)
			require.Error(t, err)
			t.Log(err)
		})
	}
}
