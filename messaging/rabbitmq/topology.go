package rabbitmq

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// deliveryLimit is how often RabbitMQ hands out a message that is never
// settled, before it makes a dead letter of it. It counts every close of a
// consumer's channel, restarts included, so it is a last resort, far above the
// attempts of any policy. With a limit, what comes back goes to the head of
// the queue; without one, to its end, and order is lost.
const deliveryLimit = 100

// queue is one queue, with what it is declared with.
type queue struct {
	name string
	args amqp.Table
}

func quorum(args amqp.Table) amqp.Table {
	args[amqp.QueueTypeArg] = amqp.QueueTypeQuorum
	return args
}

// dying has expired and poisoned messages confirmed where they go, before they
// leave the queue.
func dying(exchange string, args amqp.Table) amqp.Table {
	args["x-dead-letter-exchange"] = exchange
	args["x-dead-letter-strategy"] = "at-least-once"
	args["x-overflow"] = "reject-publish" // the strategy asks for it
	return quorum(args)
}

// workQueues are the queues that members consume.
func (b *broker) workQueues(topic string, s *driver.Subscription) (out []queue) {
	args := func() amqp.Table {
		return dying(deathName(topic, s.Group), amqp.Table{"x-delivery-limit": int32(deliveryLimit)})
	}
	if s.Unordered {
		return []queue{{queueName(topic, s.Group), args()}}
	}
	for p := range b.partitions {
		q := queue{partitionName(topic, s.Group, p), args()}
		q.args["x-single-active-consumer"] = true
		out = append(out, q)
	}
	return out
}

// besides are the queues that retries need: without order, one for each delay,
// which holds messages and sends them back to the work queue; with order, a
// stream for each partition, which holds notes.
func (b *broker) besides(topic string, s *driver.Subscription) (out []queue) {
	if !s.Unordered {
		for p := range b.partitions {
			out = append(out, notesQueue(topic, s.Group, p))
		}
		return out
	}
	for _, d := range s.Delays {
		args := dying("", amqp.Table{"x-dead-letter-routing-key": queueName(topic, s.Group), "x-message-ttl": ttl(d)})
		out = append(out, queue{retryName(topic, s.Group, d), args})
	}
	return out
}

// ttl rounds up: not before the delay.
func ttl(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// Declare implements driver.Declarer.
func (b *broker) Declare(ctx context.Context, s driver.Subscription) error {
	if err := names(&s); err != nil {
		return err
	}
	err := b.ask(ctx, func(c *channels) error {
		for _, topic := range slices.Concat(s.Topics, s.DeadLetters) {
			if err := declareTopic(c, topic); err != nil {
				return err
			}
		}
		for _, topic := range s.DeadLetters {
			if err := declareKeeper(c, topic); err != nil {
				return err
			}
		}
		if s.Group == "" {
			return nil
		}
		if err := exchange(c, membersExchange, amqp.ExchangeDirect, nil); err != nil {
			return err
		}
		for _, topic := range s.Topics {
			if err := b.unlike(c, topic, &s); err != nil {
				return err
			}
			if err := b.declareGroup(c, topic, &s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range slices.Concat(s.Topics, s.DeadLetters) {
		b.known[topic] = true
	}
	return nil
}

func exchange(c *channels, name, kind string, args amqp.Table) error {
	ch, err := c.channel()
	if err == nil {
		err = ch.ExchangeDeclare(name, kind, true, false, false, false, args)
	}
	if err != nil {
		return fmt.Errorf("exchange %q: %w", name, err)
	}
	return nil
}

func (q *queue) declare(c *channels) error {
	ch, err := c.channel()
	if err == nil {
		_, err = ch.QueueDeclare(q.name, true, false, false, false, q.args)
	}
	if err != nil {
		return fmt.Errorf("queue %q: %w", q.name, err)
	}
	return nil
}

func bind(c *channels, to, from string, keys ...string) error {
	ch, err := c.channel()
	for _, key := range keys {
		if err == nil { // nobody waits for the answers: what follows finds a channel that failed
			err = ch.QueueBind(to, key, from, true, nil)
		}
	}
	if err != nil {
		return fmt.Errorf("binding queue %q to %q: %w", to, from, err)
	}
	return nil
}

// declareTopic makes the exchange of a topic, and the one for what it cannot
// route, which leads nowhere unless the topic is one of dead letters.
func declareTopic(c *channels, topic string) error {
	if err := exchange(c, unclaimedName(topic), amqp.ExchangeFanout, nil); err != nil {
		return err
	}
	return exchange(c, topic, amqp.ExchangeTopic, amqp.Table{"alternate-exchange": unclaimedName(topic)})
}

// declareKeeper makes a queue that keeps what no group takes: a dead letter
// must have a place.
func declareKeeper(c *channels, topic string) error {
	q := queue{unclaimedName(topic), quorum(amqp.Table{})}
	if err := q.declare(c); err != nil {
		return err
	}
	if err := bind(c, q.name, q.name, ""); err != nil {
		return err
	}
	return q.declare(c) // a round trip: the binding is there
}

func (b *broker) declareGroup(c *channels, topic string, s *driver.Subscription) error {
	death := deathName(topic, s.Group)
	if err := exchange(c, death, amqp.ExchangeFanout, nil); err != nil {
		return err
	}
	ch, err := c.channel()
	if err != nil {
		return err
	}
	if dead := deadLetterOf(topic, s.DeadLetters); dead != "" {
		if err := ch.ExchangeBind(dead, "", death, false, nil); err != nil {
			return fmt.Errorf("binding exchange %q to %q: %w", dead, death, err)
		}
	}
	queues := b.workQueues(topic, s)
	for _, q := range slices.Backward(slices.Concat(queues, b.besides(topic, s))) { // see unlike
		if err := q.declare(c); err != nil {
			return err
		}
	}
	for p, q := range queues {
		keys := []string{"#"}
		if !s.Unordered {
			keys = keys[:0]
			for i := p; i < slots; i += b.partitions {
				keys = append(keys, slotNames[i])
			}
			if p == 0 {
				keys = append(keys, "") // from producers that know no slots
			}
		}
		if err := bind(c, q.name, topic, keys...); err != nil {
			return err
		}
	}
	return queues[0].declare(c) // a round trip: the bindings are there
}

// deadLetterOf finds the dead-letter topic of topic among those of a
// subscription, which are one for all or one for each.
func deadLetterOf(topic string, all []string) string {
	if own := topic + ".dead"; slices.Contains(all, own) {
		return own
	}
	if len(all) == 1 {
		return all[0]
	}
	return ""
}

// unlike refuses a group that is declared in another shape: with another order
// or another number of partitions, it would get every message twice, or not in
// order.
func (b *broker) unlike(c *channels, topic string, s *driver.Subscription) error {
	has := func(name string) (bool, error) { return exists(c, name) }
	ordered, err := has(partitionName(topic, s.Group, 0))
	if err != nil {
		return err
	}
	const remedy = "let its members drain the old queues and delete them, or take another group name"
	refuse := func(is string) error {
		return fmt.Errorf("%w: group %q of topic %q is declared %s: %s", driver.ErrUnroutable, s.Group, topic, is, remedy)
	}
	if s.Unordered {
		if ordered {
			return refuse("with order, and asks for none")
		}
		return nil
	}
	unordered, err := has(queueName(topic, s.Group))
	if err != nil {
		return err
	}
	if unordered {
		return refuse("without order, and asks for it")
	}
	last, err := has(partitionName(topic, s.Group, b.partitions-1))
	if err != nil {
		return err
	}
	more, err := has(partitionName(topic, s.Group, b.partitions))
	if err != nil {
		return err
	}
	// The first partition is declared last, so that a declaration which was
	// broken off does not look like one of fewer partitions.
	if more || ordered && !last {
		return refuse(fmt.Sprintf("with another number of partitions than %d, see Options.Partitions", b.partitions))
	}
	return nil
}

// exists asks for a queue, at the price of a channel if there is none.
func exists(c *channels, name string) (bool, error) {
	ch, err := c.channel()
	if err == nil {
		_, err = ch.QueueDeclarePassive(name, true, false, false, false, nil)
	}
	switch code(err) {
	case 0:
		return err == nil, err
	case amqp.NotFound:
		return false, nil
	}
	return false, fmt.Errorf("queue %q: %w", name, err)
}

// problem returns what is wrong with the queue, or "". What it was made with
// only a declaration finds out, which changes nothing of a queue that is there.
// That needs a permission: without it, ask becomes false.
func (q *queue) problem(c *channels, ask *bool) (string, error) {
	ok, err := exists(c, q.name)
	if err != nil {
		return "", err
	}
	if !ok {
		return fmt.Sprintf("queue %q", q.name), nil
	}
	if !*ask {
		return "", nil
	}
	err = q.declare(c)
	switch code(err) {
	case amqp.PreconditionFailed:
		return fmt.Sprintf("queue %q as it is needed (%s)", q.name, reason(err)), nil
	case amqp.AccessRefused:
		*ask = false
		return "", nil
	}
	return "", err
}

// Verify implements driver.Declarer.
func (b *broker) Verify(ctx context.Context, s driver.Subscription) error {
	if err := names(&s); err != nil {
		return err
	}
	var missing []string
	err := b.ask(ctx, func(c *channels) error {
		missing = nil
		ask := true
		for _, topic := range slices.Concat(s.Topics, s.DeadLetters) {
			ok, err := hasTopic(c, topic)
			if err != nil {
				return err
			}
			if !ok {
				missing = append(missing, fmt.Sprintf("%q", topic))
			}
		}
		if s.Group == "" || len(missing) > 0 {
			return nil
		}
		if ok, err := hasExchange(c, membersExchange, amqp.ExchangeDirect); err != nil || !ok {
			missing = append(missing, fmt.Sprintf("exchange %q", membersExchange))
			return err
		}
		for _, topic := range s.Topics {
			if err := b.unlike(c, topic, &s); err != nil {
				return err
			}
			for _, q := range slices.Concat(b.workQueues(topic, &s), b.besides(topic, &s)) {
				problem, err := q.problem(c, &ask)
				if err != nil {
					return err
				}
				if problem != "" {
					missing = append(missing, problem)
				}
			}
		}
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", driver.ErrUnroutable, strings.Join(missing, ", "))
}

func hasTopic(c *channels, topic string) (bool, error) {
	return hasExchange(c, topic, amqp.ExchangeTopic)
}

func hasExchange(c *channels, name, kind string) (bool, error) {
	ch, err := c.channel()
	if err == nil {
		err = ch.ExchangeDeclarePassive(name, kind, true, false, false, false, nil)
	}
	switch code(err) {
	case 0:
		return err == nil, err
	case amqp.NotFound:
		return false, nil
	}
	return false, fmt.Errorf("exchange %q: %w", name, err)
}
