package messaging

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

var (
	errNotRunning = errors.New("Run is not running")
	errTimeout    = errors.New("the handler took longer than its Timeout")
	errAttempts   = errors.New("attempts used up: it was delivered and never settled, so a consumer may have died of it")
	errDrained    = errors.New("draining took longer than Drain")
)

// heldFactor is how many times Prefetch may wait here for a retry.
const heldFactor = 64

// configure fills in defaults and refuses what cannot work.
func (c *Consumer) configure(routes []Route) error {
	o := &c.opts
	if err := c.route(routes); err != nil {
		return err
	}
	explicit := o.Retry.Delays != nil
	setDefault(&o.Concurrency, max(16, largest(routes)))
	setDefault(&o.Prefetch, 2*o.Concurrency)
	setDefault(&o.Timeout, 30*time.Second)
	setDefault(&o.Drain, 20*time.Second)
	setDefault(&o.Retry.MaxAttempts, 5)
	if len(o.Retry.Delays) == 0 {
		o.Retry.Delays = []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute}
	} else {
		o.Retry.Delays = slices.Clone(o.Retry.Delays)
	}
	can := c.broker.driver.Capabilities()
	switch {
	case c.group == "":
		return configf("a consumer needs a group: its members share messages, other groups get their own")
	case o.Order < ByKey || o.Order > Unordered:
		return configf("Order %d is none of ByKey, ByPartition, Unordered", o.Order)
	case o.Order != Unordered && !can.KeyOrder:
		return configf("%s does not keep order, and Order is %q: set Order to Unordered if the handlers allow it", can.Name, o.Order)
	case o.Concurrency < 0:
		return configf("Concurrency is %d: it must be positive, or 0 for 16", o.Concurrency)
	case o.Prefetch < o.Concurrency:
		return configf("Prefetch %d is below Concurrency %d: %d handlers could never run", o.Prefetch, o.Concurrency, o.Concurrency-o.Prefetch)
	case o.Drain < 0:
		return configf("Drain is %v: it must be positive, or 0 for 20 s", o.Drain)
	case o.Retry.Inline < 0:
		return configf("Retry.Inline is %d: it must not be negative", o.Retry.Inline)
	case explicit && o.Retry.MaxAttempts == 1 && len(o.Retry.Delays) > 0:
		return configf("Retry.Delays are set, and MaxAttempts 1 never waits: raise MaxAttempts or leave Delays out")
	case slices.Min(o.Retry.Delays) < 0:
		return configf("Retry.Delays has %v: a delay must not be negative", slices.Min(o.Retry.Delays))
	}
	if err := c.batches(routes); err != nil {
		return err
	}
	if o.Inbox != nil {
		if keep, need := o.Inbox.Retention(), c.longestRetry(); keep < need {
			return configf("the Inbox remembers for %s, and a message may be tried again for %s: "+
				"it would take effect twice; raise the inbox's retention, or lower Retry.MaxAttempts or Retry.Delays", short(keep), short(need))
		}
	}
	c.sub = driver.Subscription{
		Topics: c.topics, Group: c.group, Prefetch: o.Prefetch, DeadLetters: c.deadLetters(),
		Unordered: o.Order == Unordered, Drain: o.Drain,
	}
	// A partition as a whole can only wait here.
	waits := can.Delay && o.Order != ByPartition || can.DelayUnordered && o.Order == Unordered
	if waits && o.Retry.MaxAttempts != 1 {
		c.sub.Delays = o.Retry.Delays
	}
	return nil
}

func (c *Consumer) route(routes []Route) error {
	if len(routes) == 0 {
		return configf("a consumer needs a route: pass topic.On(f)")
	}
	for _, r := range routes {
		switch {
		case r.topic == "":
			return configf("a route has no topic: use Topic.On, or On with a name")
		case r.handler == nil:
			return configf("the route of %q has no handler", r.topic)
		case c.routes[r.topic] != nil:
			return configf("two routes of topic %q: one would take the other's messages; "+
				"join them in one handler, or give one of them a group of its own", r.topic)
		}
		h := r.handler
		if c.opts.Inbox != nil {
			h = c.opts.Inbox.Once(h)
		}
		c.routes[r.topic] = h
		c.topics = append(c.topics, r.topic)
	}
	for _, topic := range c.topics {
		if dead := c.deadLetter(topic); c.routes[dead] != nil {
			return configf("topic %q has its dead letters in %q, which this consumer handles too: what fails would go round; "+
				"handle dead letters in a group of their own", topic, dead)
		}
	}
	return nil
}

// largest returns the size of the largest batch.
func largest(routes []Route) (n int) {
	for _, r := range routes {
		if r.batch != nil {
			n = max(n, r.batch.most)
		}
	}
	return n
}

func (c *Consumer) batches(routes []Route) error {
	o := &c.opts
	for _, r := range routes {
		b := r.batch
		switch {
		case b == nil:
		case b.most < 1:
			return configf("the batches of %q have %d messages: at least 1", r.topic, b.most)
		case b.most > o.Concurrency:
			return configf("the batches of %q have %d messages, and Concurrency is %d: they would never be full; raise Concurrency, or leave it out",
				r.topic, b.most, o.Concurrency)
		case b.wait <= 0:
			return configf("the batches of %q wait %v to be full: it must be positive", r.topic, b.wait)
		case o.Timeout > 0 && b.wait >= o.Timeout:
			return configf("the batches of %q wait %v to be full, and Timeout is %v: their first message would time out", r.topic, b.wait, o.Timeout)
		case b.wait >= o.Drain:
			return configf("the batches of %q wait %v to be full, and Drain is %v: the last one would be cut off", r.topic, b.wait, o.Drain)
		}
	}
	return nil
}

// deadLetter returns the dead-letter topic of topic.
func (c *Consumer) deadLetter(topic string) string {
	if c.opts.Retry.DeadLetter != "" {
		return c.opts.Retry.DeadLetter
	}
	return topic + ".dead"
}

func (c *Consumer) deadLetters() []string {
	set := make(map[string]bool)
	for _, topic := range c.topics {
		set[c.deadLetter(topic)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// delay is the time between deliveries attempt and attempt+1.
func (p *RetryPolicy) delay(attempt int) time.Duration {
	return p.Delays[min(max(attempt, 1), len(p.Delays))-1]
}

// longestRetry bounds the time from the first delivery of a message to its
// last run. Without an end to the attempts it is the longest pause between two
// of them: a success is remembered from when it happened.
func (c *Consumer) longestRetry() time.Duration {
	p := &c.opts.Retry
	each := times(max(c.opts.Timeout, 0), 1+p.Inline)
	pause := max(p.Backoff.Max, p.Backoff.Min)
	if p.Backoff.Max <= 0 {
		pause = max(pause, 5*time.Second) // concurrency.Backoff's default
	}
	each = plus(each, times(pause, p.Inline))
	if p.MaxAttempts < 0 {
		return plus(slices.Max(p.Delays), each)
	}
	sum := times(each, p.MaxAttempts)
	for n := 1; n < p.MaxAttempts; n++ {
		if n >= len(p.Delays) { // the last one repeats
			return plus(sum, times(p.delay(n), p.MaxAttempts-n))
		}
		sum = plus(sum, p.delay(n))
	}
	return sum
}

// times and plus stop at the largest duration. Their arguments are not negative.
func times(d time.Duration, n int) time.Duration {
	if n > 0 && d > math.MaxInt64/time.Duration(n) {
		return math.MaxInt64
	}
	return d * time.Duration(n)
}

func plus(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Guarantee returns one sentence: what holds with these settings on this
// broker. Log it at start.
func (c *Consumer) Guarantee() string {
	can, p := c.broker.driver.Capabilities(), &c.opts.Retry
	var say []string
	say = append(say, "at least once")
	if !can.Durable {
		say[0] += " while this process lives"
	}
	if can.Held != "" {
		say = append(say, can.Held)
	}
	if c.opts.Inbox != nil {
		say = append(say, fmt.Sprintf("effects once for %s", short(c.opts.Inbox.Retention())))
	}
	say = append(say, c.opts.Order.String())
	dead := strings.Join(c.deadLetters(), ", ")
	anew := ""
	if can.Durable && !can.Notes && len(c.sub.Delays) == 0 {
		anew = " (counted anew after a crash)"
	}
	switch {
	case p.MaxAttempts < 0:
		say = append(say, "attempts without end, only permanent failures to "+dead)
	case p.MaxAttempts == 1:
		say = append(say, "1 attempt", "then "+dead)
	default:
		say = append(say, fmt.Sprintf("%d attempts%s", p.MaxAttempts, anew), "then "+dead)
	}
	return strings.Join(say, ", ")
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// short prints d without the zeros of time.Duration.String.
func short(d time.Duration) string {
	const day = 24 * time.Hour
	if d == math.MaxInt64 {
		return "ever"
	}
	if d >= day && d%day == 0 {
		if d == day {
			return "1 day"
		}
		return fmt.Sprintf("%d days", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
