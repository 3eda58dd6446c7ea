package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// Where no order is asked for, retries wait in topics of the group, one for
// each delay: what comes first is due first, so whoever reads one waits for its
// first record. They cost the consumer nothing, however many there are. With
// order they would come back behind their key's successors.

// tier is a topic of retries.
type tier struct {
	name, topic string
	delay       time.Duration
}

// Headers of a record of a tier, beside those of the message.
const (
	// headerDue is when it is due, RFC 3339 in UTC.
	headerDue = wire.Prefix + "not-before"
	// headerOf is the group whose retry it is.
	headerOf = wire.Prefix + "retry-of"
)

// tiersOf returns the tiers of a subscription; with order it has none.
func tiersOf(s *driver.Subscription) (out []tier) {
	if !s.Unordered || s.Group == "" {
		return nil
	}
	for _, topic := range s.Topics {
		for _, d := range s.Delays {
			t := tier{tierName(topic, s.Group, d), topic, d}
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

// tierName is part of the wire contract: old and new members of a group must
// find what waits.
func tierName(topic, group string, d time.Duration) string {
	return tierPrefix(topic, group) + legal(d.String())
}

func tierPrefix(topic, group string) string { return topic + "." + legal(group) + ".retry-" }

// mostFormer bounds formerTiers for each topic.
const mostFormer = 32

// formerTiers returns what exists of the tiers of s beside those that it has:
// what waits there, since the delays were others or the group asked for no
// order, comes from there too. Nothing is sent there any more.
func formerTiers(s *driver.Subscription, exist []string) (out []tier, _ error) {
	has := append(names(tiersOf(s)), s.Topics...)
	for _, topic := range s.Topics {
		n, prefix := 0, tierPrefix(topic, s.Group)
		for _, name := range exist {
			text, ok := strings.CutPrefix(name, prefix)
			if !ok || slices.Contains(has, name) {
				continue
			}
			d, err := time.ParseDuration(strings.Replace(text, legal("µ"), "µ", 1))
			if err != nil || tierName(topic, s.Group, d) != name {
				continue
			}
			if n++; n > mostFormer {
				return nil, fmt.Errorf("more than %d topics %q of former delays: delete those in which nothing waits", mostFormer, prefix+"*")
			}
			out = append(out, tier{name, topic, d})
		}
	}
	return out, nil
}

// tierOf returns the tier of a topic, nil if it is none.
func (r *receiver) tierOf(topic string) *tier {
	for _, tiers := range [][]tier{r.tiers, r.former} {
		if i := slices.Index(names(tiers), topic); i >= 0 {
			return &tiers[i]
		}
	}
	return nil
}

// legal writes what Kafka does not take in a topic's name as its bytes.
func legal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

func names(tiers []tier) (out []string) {
	for _, t := range tiers {
		out = append(out, t.name)
	}
	return out
}

// keep is what a tier's topic is made with: records must outlast their delay,
// whatever the cluster's defaults are.
func (t *tier) keep(detail sarama.TopicDetail) sarama.TopicDetail {
	text := func(s string) *string { return &s }
	const week = 7 * 24 * time.Hour
	detail.ConfigEntries = map[string]*string{
		"cleanup.policy": text("delete"),
		"retention.ms":   text(strconv.FormatInt((t.delay + week).Milliseconds(), 10)),
	}
	return detail
}

// due is when the record may be handed out; zero: at once.
func due(m *sarama.ConsumerMessage) time.Time {
	for _, h := range m.Headers {
		if h != nil && string(h.Key) == headerDue {
			t, _ := time.Parse(time.RFC3339Nano, string(h.Value))
			return t
		}
	}
	return time.Time{}
}

// isOf reports whether a record of a tier is a retry of group. The tier may be
// another group's too: group c of topic a.b has the names of group b.c of topic a.
func isOf(m *sarama.ConsumerMessage, group string) bool {
	for _, h := range slices.Backward(m.Headers) {
		if h != nil && string(h.Key) == headerOf {
			return string(h.Value) == group
		}
	}
	return true
}

// original makes a record of a tier what it is a copy of.
func (t *tier) original(m driver.Message) driver.Message {
	m.Topic = t.topic
	m.Headers = slices.DeleteFunc(m.Headers, func(h driver.Header) bool { return h.Key == headerDue || h.Key == headerOf })
	return m
}

// copyOut publishes what is to be retried, each to the tier of its delay. The
// original is acked when its copy is confirmed. What was copied before, when
// something else failed, is not copied again.
func (r *receiver) copyOut(ctx context.Context, s []driver.Settlement) error {
	var (
		msgs    []driver.Message
		tickets []*ticket
		failed  []error
	)
	r.mu.Lock()
	for i := range s {
		t, ok := s[i].Delivery.Handle.(*ticket)
		if s[i].Action != driver.Retry || !ok || t.claim.receiver != r || t.claim.revoked || t.over || t.copied {
			continue
		}
		to := r.tierFor(s[i].Delivery.Topic, s[i].Delay)
		if to == nil {
			failed = append(failed, fmt.Errorf("message %q: no topic holds it for %v", s[i].Delivery.ID, s[i].Delay))
			continue
		}
		m := s[i].Delivery.Message
		m.Topic = to.name
		m.Headers.Set(headerOf, r.sub.Group)
		m.Headers.Set(headerDue, time.Now().Add(s[i].Delay).UTC().Format(time.RFC3339Nano))
		msgs, tickets = append(msgs, m), append(tickets, t)
	}
	r.mu.Unlock()
	if len(msgs) == 0 {
		return errors.Join(failed...)
	}
	errs := r.broker.Publish(ctx, msgs)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, err := range errs {
		tickets[i].copied = err == nil
		if err != nil {
			failed = append(failed, fmt.Errorf("message %q to %q: %w", msgs[i].ID, msgs[i].Topic, err))
		}
	}
	return errors.Join(failed...)
}

// tierFor returns the tier with the shortest delay that is no sooner than d.
func (r *receiver) tierFor(topic string, d time.Duration) (best *tier) {
	for i := range r.tiers {
		if t := &r.tiers[i]; t.topic == topic && t.delay >= d && (best == nil || t.delay < best.delay) {
			best = t
		}
	}
	return best
}
