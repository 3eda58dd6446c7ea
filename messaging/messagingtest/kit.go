package messagingtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Harness is what the kit needs of a broker under test. The kit closes Driver.
type Harness struct {
	// Driver is a fresh connection. What it connects to may be shared: the kit
	// uses topics and groups with random names.
	Driver driver.Broker
	// Restart stops the broker hard and starts it again, and returns when it
	// takes connections. Nil: the rules that need it are skipped, visibly.
	Restart func(context.Context) error
	// Cut breaks the connection of Driver to the broker, and returns after
	// the given time with the connection possible again. Nil: skipped, visibly.
	Cut func(time.Duration)
	// Stall lets nothing pass between Driver and the broker for the given time
	// and returns then. Only TestFaults uses it.
	Stall func(time.Duration)
	// Unconfirmed: that Settle has returned says that acks were sent, not that
	// they arrived, as on RabbitMQ; or the broker may forget the last second when
	// it is killed. For TestFaults, which then allows that acks within a second
	// of a fault are lost.
	Unconfirmed bool
	// ByPosition: what was acked beyond a delivery that is not settled may be
	// delivered again after a fault, as on Kafka. For TestFaults.
	ByPosition bool
}

// TestBroker runs every rule of the driver contract, each on a Harness of its
// own, as a subtest. Rules about an ability the driver does not declare are
// skipped, visibly. A rule waits up to 60 s for what must happen, and 1.5 s to
// see that nothing happens, or 0.2 s where the broker is not durable: one in
// this process is quick.
func TestBroker(t *testing.T, open func(*testing.T) Harness) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			h := open(t)
			s := newScene(h)
			t.Cleanup(func() {
				if err := s.end(); err != nil {
					t.Errorf("after rule %q: close: %v", r.name, err)
				}
			})
			if r.needs != nil {
				if lacking := r.needs(h); lacking != "" {
					t.Skipf("rule %q needs %s", r.name, lacking)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := r.check(ctx, s); err != nil {
				t.Fatalf("broken rule %q: %s\n%v", r.name, r.text, err)
			}
		})
	}
}

const patience = 60 * time.Second

// rule is one promise of package driver, and how to find out.
type rule struct {
	name, text string
	needs      func(Harness) (lacking string)
	check      func(context.Context, *scene) error
}

var rules = []rule{
	{"every field arrives", "a message is delivered with every field and header as it was published", nil, everyField},
	{"bytes are not shared", "a published body may be changed after Publish, a delivered one by who got it", nil, bytesNotShared},
	{"results are aligned", "Publish answers for each message in its place, and one refused takes no other with it", needsLimit, resultsAligned},
	{"missing topics are named", "Verify, and after it Subscribe and Publish, refuse a topic that does not exist, by name; Declare makes it, twice without harm", needsDeclarer, missingTopics},
	{"order per key", "messages of one key are delivered in the order of publishing", needsOrder, orderPerKey},
	{"limit is binding", "Receive returns no more than its limit and stops waiting when its context ends", nil, limitBinding},
	{"acked is gone", "an acked message is not delivered again, not even to the next member", nil, ackedIsGone},
	{"unsettled comes again", "what a member leaves unsettled is delivered again, and nothing else, however acks were interleaved", nil, unsettledAgain},
	{"settling twice", "a settlement that took effect is accepted again", nil, settlingTwice},
	{"requeue", "a requeued message comes again, before later ones of its key, with no attempt counted", nil, requeue},
	{"retry waits", "a retried message comes again with its new headers, attempts counted anew, and not before its delay", needsDelay, retryWaits},
	{"retry holds its key", "after a retry no later message of the key overtakes, and other keys go on", needsOrderedDelay, retryHoldsKey},
	{"notes outlive their receiver", "what was noted of a delivery comes with it to the next receiver, in its order, until it is settled", needsNotes, notesOutlive},
	{"retries outlive their consumer", "when a consumer dies, a message that waits for a retry comes no sooner than it was due, with its attempts counted on and its key behind it", needsLastingOrder, retriesOutlive},
	{"unordered retries outlive their consumer", "the same without order, where the broker then delays by itself", needsDelayUnordered, unorderedRetriesOutlive},
	{"groups are independent", "every group gets every message", nil, groupsIndependent},
	{"new groups begin at the oldest", "a group that is new to a topic gets what was published before", needsReplay, beginAtOldest},
	{"members share", "members of a group share its messages: each is acked by one of them and once, a key is held by one at a time, none goes to nobody, and not all go to one", needsOrder, membersShare},
	{"revoked deliveries are refused", "when a partition moves, Lost is closed, settling is ErrRevoked, and the new owner gets what was not settled, and nothing else", needsOrder, revoked},
	{"close ends waiting", "Close ends a waiting Receive with ErrClosed, and a second Close is nil", nil, closeEnds},
	{"closed broker", "a closed broker refuses to publish, and a second Close is nil", nil, closedBroker},
	{"consumers keep order and lose nothing", "through messaging.Consumer, with failing handlers and members that come and go, nothing is lost, inverted or overlapping, no key changes, and what is settled does not come again", nil, consumersKeep},
	{"dead letters arrive", "what fails for good is in the dead-letter topic with its reason, and its key goes on", nil, deadLetters},
	{"undecodable messages stop nobody", "what cannot be decoded is in the dead-letter topic with its bytes, and its key goes on", nil, undecodable},
	{"two builds in one group", "members that know a new header and members that do not share a group: nothing is lost or misread, through retries too, and what is settled does not come again", nil, twoBuilds},
	{"lag", "Lag counts what is not settled and the age of the oldest", needsLagger, lag},
	{"waiting is bounded", "while the broker cannot be reached, publishing and receiving end with their contexts, and what was refused or unknown can be published afterwards", needsCut, waitingBounded},
	{"restart", "what was held before the broker died is delivered after it", needsRestart, restart},
	{"cut", "through a broken connection nothing is lost that was not refused or unknown", needsCut, cut},
}

func needsLimit(h Harness) string {
	if n := h.Driver.Capabilities().MaxBytes; n <= 0 || n > 128<<20 {
		return "Capabilities.MaxBytes of at most 128 MiB"
	}
	return ""
}

func needsDeclarer(h Harness) string {
	if _, ok := h.Driver.(driver.Declarer); !ok {
		return "driver.Declarer"
	}
	return ""
}

func needsLagger(h Harness) string {
	if _, ok := h.Driver.(driver.Lagger); !ok {
		return "driver.Lagger"
	}
	return ""
}

func needsOrder(h Harness) string {
	if !h.Driver.Capabilities().KeyOrder {
		return "Capabilities.KeyOrder"
	}
	return ""
}

func needsDelay(h Harness) string {
	if c := h.Driver.Capabilities(); !c.Delay && !c.DelayUnordered {
		return "Capabilities.Delay or DelayUnordered"
	}
	return ""
}

func needsOrderedDelay(h Harness) string {
	if c := h.Driver.Capabilities(); !c.Delay || !c.KeyOrder {
		return "Capabilities.Delay and KeyOrder"
	}
	return ""
}

func needsNotes(h Harness) string {
	if !h.Driver.Capabilities().Notes {
		return "Capabilities.Notes"
	}
	return ""
}

func needsLastingOrder(h Harness) string {
	if c := h.Driver.Capabilities(); !c.Delay && !c.Notes {
		return "Capabilities.Delay or Notes"
	}
	return ""
}

func needsDelayUnordered(h Harness) string {
	if !h.Driver.Capabilities().DelayUnordered {
		return "Capabilities.DelayUnordered"
	}
	return ""
}

func needsReplay(h Harness) string {
	if !h.Driver.Capabilities().Replay {
		return "Capabilities.Replay"
	}
	return ""
}

func needsRestart(h Harness) string {
	if h.Restart == nil {
		return "Harness.Restart"
	}
	if !h.Driver.Capabilities().Durable {
		return "Capabilities.Durable"
	}
	return ""
}

func needsCut(h Harness) string {
	if h.Cut == nil {
		return "Harness.Cut"
	}
	return ""
}

// scene is one rule's broker with names nobody else uses.
type scene struct {
	Harness
	topic, group string
	quiet        time.Duration // to see that nothing happens
	delay        time.Duration // of a retry
	unordered    bool          // subscriptions ask for no order
	receivers    []driver.Receiver
}

func newScene(h Harness) *scene {
	name := "kit-" + strings.ToLower(rand.Text()[:12])
	s := &scene{Harness: h, topic: name, group: name + "-group", quiet: 200 * time.Millisecond, delay: 200 * time.Millisecond}
	if h.Driver.Capabilities().Durable {
		s.quiet, s.delay = 1500*time.Millisecond, time.Second
	}
	return s
}

func (s *scene) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	for _, r := range s.receivers {
		errs = append(errs, r.Close(ctx))
	}
	return errors.Join(append(errs, s.Driver.Close(ctx))...)
}

func (s *scene) subscription(group string) driver.Subscription {
	sub := driver.Subscription{Topics: []string{s.topic}, Group: group, Prefetch: 1000, Drain: time.Second, Unordered: s.unordered}
	if c := s.Driver.Capabilities(); c.Delay || c.DelayUnordered && s.unordered {
		sub.Delays = []time.Duration{s.delay}
	}
	return sub
}

// declare makes the topic and these groups.
func (s *scene) declare(ctx context.Context, groups ...string) error {
	d, ok := s.Driver.(driver.Declarer)
	if !ok {
		return nil
	}
	for _, g := range append(groups, "") {
		sub := s.subscription(g)
		if g == "" {
			sub = driver.Subscription{Topics: sub.Topics}
		}
		if err := d.Declare(ctx, sub); err != nil {
			return fmt.Errorf("declare topic %q group %q: %w", s.topic, g, err)
		}
	}
	return nil
}

func (s *scene) join(ctx context.Context, group string) (driver.Receiver, error) {
	r, err := s.Driver.Subscribe(ctx, s.subscription(group))
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.receivers = append(s.receivers, r)
	return r, nil
}

// message returns the n-th message, of key n modulo keys.
func (s *scene) message(n, keys int) driver.Message {
	return driver.Message{
		ID: fmt.Sprintf("%s-%06d", s.topic, n), Topic: s.topic, Key: fmt.Sprintf("key-%d", n%keys),
		Body: fmt.Appendf(nil, "body %d", n), Time: time.Now(),
	}
}

// full is message with everything a message has.
func (s *scene) full(n, keys int) driver.Message {
	m := s.message(n, keys)
	m.ContentType, m.Schema = "text/plain; charset=utf-8", "v2"
	m.Headers = driver.Headers{
		{Key: "twice", Value: []byte("first")}, {Key: "Case", Value: []byte{0, 255, 10}},
		{Key: "twice", Value: []byte("second")}, {Key: "empty", Value: []byte{}},
	}
	return m
}

// publish declares the topic and publishes count full messages over some keys.
func (s *scene) publish(ctx context.Context, count, keys int) ([]driver.Message, error) {
	if err := s.declare(ctx, s.group); err != nil {
		return nil, err
	}
	msgs := make([]driver.Message, count)
	for n := range msgs {
		msgs[n] = s.full(n, keys)
	}
	return msgs, s.send(ctx, msgs)
}

func (s *scene) send(ctx context.Context, msgs []driver.Message) error {
	errs := s.Driver.Publish(ctx, msgs)
	if len(errs) != len(msgs) {
		return fmt.Errorf("publishing %d messages gave %d results", len(msgs), len(errs))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// collect receives until n different messages have come. Repeated ones, which
// at-least-once allows, are left out of the result.
func collect(ctx context.Context, r driver.Receiver, n int) ([]driver.Delivery, error) {
	var out []driver.Delivery
	seen := make(map[string]bool)
	for len(out) < n {
		ds, err := r.Receive(ctx, n-len(out))
		if err != nil {
			return out, fmt.Errorf("received %d of %d messages, then: %w", len(out), n, err)
		}
		if len(ds) == 0 || len(ds) > n-len(out) {
			return out, fmt.Errorf("asked for 1 to %d deliveries, Receive returned %d and no error", n-len(out), len(ds))
		}
		for _, d := range ds {
			if !seen[d.ID] {
				seen[d.ID] = true
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// silence fails if r delivers anything within a while.
func (s *scene) silence(ctx context.Context, r driver.Receiver) error {
	ctx, cancel := context.WithTimeout(ctx, s.quiet)
	defer cancel()
	ds, err := r.Receive(ctx, 10)
	if err == nil {
		return fmt.Errorf("expected nothing, got %s", names(ds))
	}
	if ctx.Err() == nil {
		return fmt.Errorf("expected nothing, got the error %w", err)
	}
	return nil
}

func settle(ctx context.Context, r driver.Receiver, a driver.Action, ds ...driver.Delivery) error {
	s := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		s[i] = driver.Settlement{Delivery: d, Action: a}
	}
	if err := r.Settle(ctx, s); err != nil {
		return fmt.Errorf("settle (%v) %s: %w", a, names(ds), err)
	}
	return nil
}

// says prints an error that may be nil.
func says(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func names(ds []driver.Delivery) string {
	var b strings.Builder
	for i, d := range ds {
		if i == 8 {
			fmt.Fprintf(&b, " and %d more", len(ds)-i)
			break
		}
		fmt.Fprintf(&b, " %s@%s/%s", d.ID, d.Lane, d.Position)
	}
	return strings.TrimSpace(b.String())
}
