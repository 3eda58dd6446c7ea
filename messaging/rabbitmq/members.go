package rabbitmq

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Members of a group share its partitions among them. RabbitMQ sees to it that
// a partition has one consumer at a time (x-single-active-consumer), so a
// mistake here costs time and not order. Who should consume what, each member
// works out for itself, from who is there: every member has a queue of its own
// on the exchange "mainstay.members", routed by group, and says there from
// time to time that it lives. It publishes that on the broker's connection for
// publishing, because the server stops reading from one that publishes when it
// is short of memory, and acks must go on.
const (
	beatEvery  = time.Second
	beatsToDie = 3
	// gather is how long a new member listens before it takes anything.
	gather = 250 * time.Millisecond
)

// beat says that a member is there.
type beat struct {
	ID     string   `json:"id"`
	Topics []string `json:"topics"`
	TTL    int64    `json:"ttl_ms"` // it is dead if nothing is heard for so long; 0: it leaves
}

// join makes the member's queue and begins to share.
func (r *receiver) join() error {
	fail := func(err error) error { return fmt.Errorf("joining group %q: %w", r.sub.Group, err) }
	ch, err := r.conn.Channel()
	if err != nil {
		return fail(err)
	}
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return fail(err)
	}
	if err := ch.QueueBind(q.Name, r.sub.Group, membersExchange, false, nil); err != nil {
		return fail(err)
	}
	in, err := ch.Consume(q.Name, "", true, true, false, false, nil)
	if err != nil {
		return fail(err)
	}
	beats, kicks := make(chan beat), make(chan int, 1)
	kicks <- 1
	r.wg.Go(func() {
		defer close(beats)
		for d := range in {
			var b beat
			if len(d.Body) > 64<<10 || json.Unmarshal(d.Body, &b) != nil || b.ID == "" {
				continue // from a version or a program we do not know
			}
			select {
			case beats <- b:
			case <-r.gone:
				return
			}
		}
	})
	said := make(chan bool, 1)
	r.wg.Go(func() { r.say(kicks, said) })
	r.wg.Go(func() { r.share(beats, kicks, said) })
	return nil
}

// say publishes a beat for each kick; its value is the number of members.
func (r *receiver) say(kicks <-chan int, said chan<- bool) {
	saying, cancel := r.lasting(0)
	defer cancel()
	for {
		var n int
		select {
		case n = <-kicks:
		case <-r.gone:
			return
		}
		ctx, done := context.WithTimeout(saying, beatEvery)
		err := r.publish(ctx, beat{ID: r.id, Topics: r.sub.Topics, TTL: (beatsToDie * interval(n)).Milliseconds()})
		done()
		select {
		case said <- err == nil:
		default:
		}
	}
}

// interval lets large groups say less: everybody hears everybody.
func interval(members int) time.Duration { return max(beatEvery, time.Duration(members)*beatEvery/10) }

func (r *receiver) publish(ctx context.Context, b beat) error {
	body, err := json.Marshal(b)
	if err != nil {
		return err
	}
	p := []parcel{{exchange: membersExchange, key: r.sub.Group, Publishing: amqp.Publishing{
		ContentType: "application/json", DeliveryMode: amqp.Transient, MessageId: r.id, Body: body,
	}}}
	r.broker.pub.send(ctx, p)
	return p[0].err
}

// leave tells the others, so that they need not wait.
func (r *receiver) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	_ = r.publish(ctx, beat{ID: r.id, Topics: r.sub.Topics}) // they notice without it, later
}

// share keeps the lanes as they should be, until the receiver ends.
func (r *receiver) share(beats <-chan beat, kicks chan<- int, said <-chan bool) {
	others := make(map[string]*other)
	ready := time.NewTimer(gather)
	defer ready.Stop()
	next := time.NewTimer(beatEvery)
	defer next.Stop()
	gathered, heard := false, true
	lanes := make(map[string]*lane) // by queue, those being released included
	for {
		select {
		case b, ok := <-beats:
			if !ok {
				return
			}
			if b.ID == r.id {
				continue
			}
			if hear(others, b, time.Now()) && b.TTL > 0 {
				kick(kicks, len(others)+1) // it should know about us soon
			}
		case heard = <-said:
		case <-ready.C:
			gathered = true
		case <-next.C:
			n := len(others) + 1
			kick(kicks, n)
			next.Reset(interval(n))
			if heard { // while nobody hears us, we cannot expect to hear
				bury(others, time.Now())
			}
		case <-r.moved:
			for name, l := range lanes {
				select {
				case <-l.over:
					delete(lanes, name)
				default:
				}
			}
		case <-r.gone:
			return
		}
		if gathered && !r.arrange(lanes, others) {
			return
		}
	}
}

func kick(kicks chan<- int, n int) {
	select {
	case kicks <- n:
	default:
	}
}

// other is another member.
type other struct {
	topics []string
	until  time.Time
}

// hear books a beat, and reports whether it is of a member that was not known.
func hear(others map[string]*other, b beat, now time.Time) (changed bool) {
	if b.TTL <= 0 {
		delete(others, b.ID)
		return true
	}
	_, known := others[b.ID]
	ttl := min(time.Duration(b.TTL)*time.Millisecond, time.Minute)
	others[b.ID] = &other{b.Topics, now.Add(ttl)}
	return !known
}

func bury(others map[string]*other, now time.Time) {
	for id, o := range others {
		if now.After(o.until) {
			delete(others, id)
		}
	}
}

// arrange opens and releases lanes. It returns false when the receiver failed.
func (r *receiver) arrange(lanes map[string]*lane, others map[string]*other) bool {
	want := make(map[string]string) // queue to topic
	for _, topic := range r.sub.Topics {
		members := []string{r.id}
		for id, o := range others {
			if slices.Contains(o.topics, topic) {
				members = append(members, id)
			}
		}
		for p, owner := range assign(members, topic, r.broker.partitions) {
			if owner == r.id {
				want[partitionName(topic, r.sub.Group, p)] = topic
			}
		}
	}
	r.mu.Lock()
	for name, l := range lanes {
		if _, ok := want[name]; !ok && !l.revoked {
			l.revoke()
			r.wg.Go(func() { l.release(r.sub.Drain) })
		}
	}
	failed := r.err != nil
	r.mu.Unlock()
	if failed {
		return false
	}
	for name, topic := range want {
		if lanes[name] != nil { // or it is still being released: then it is opened later
			continue
		}
		l, err := r.open(topic, name, window)
		if err != nil {
			r.fail(err)
			return false
		}
		lanes[name] = l
	}
	return true
}

// assign gives each of n partitions one of members, so that shares differ by
// one at most and few change hands when a member comes or goes: a member takes
// those that rank it highest, while it has room. All members find the same.
func assign(members []string, topic string, n int) []string {
	slices.Sort(members)
	low, more := n/len(members), n%len(members) // so many have one more than low
	share := make(map[string]int, len(members))
	owners := make([]string, n)
	for p := range owners {
		var best uint64
		for _, m := range members {
			if share[m] > low || share[m] == low && more == 0 {
				continue
			}
			if rank := rankOf(m, topic, p); owners[p] == "" || rank > best {
				owners[p], best = m, rank
			}
		}
		if share[owners[p]]++; share[owners[p]] == low+1 {
			more--
		}
	}
	return owners
}

func rankOf(member, topic string, p int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(member + "\x00" + topic + "\x00"))
	_, _ = h.Write([]byte{byte(p)})
	x := h.Sum64() // its high bits say little about the last byte
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

var _ driver.Receiver = (*receiver)(nil)
