package redisstream_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
	"github.com/mainstay-go/mainstay/messaging/redisstream"
)

// scene is a broker with one partition for each topic, and a client beside it.
type scene struct {
	*testing.T
	raw    *redis.Client
	driver driver.Broker
	prefix string
}

func newScene(t *testing.T, o redisstream.Options) *scene {
	t.Helper()
	addr := servertest.Redis(t)
	s := &scene{T: t, raw: redis.NewClient(&redis.Options{Addr: addr}), prefix: "test:" + uuid.NewString() + ":"}
	o.Prefix, o.Partitions = s.prefix, 1
	if o.Lease == 0 {
		o.Lease = time.Second
	}
	s.driver = open(t, addr, &o).Driver()
	t.Cleanup(func() {
		ctx := context.Background()
		require.NoError(t, s.driver.Close(ctx))
		keys := s.raw.Scan(ctx, 0, s.prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			require.NoError(t, s.raw.Del(ctx, keys.Val()).Err())
		}
		require.NoError(t, keys.Err())
		require.NoError(t, s.raw.Close())
	})
	return s
}

func (s *scene) sub(group string) driver.Subscription {
	return driver.Subscription{Topics: []string{"t"}, Group: group, Prefetch: 100, Delays: []time.Duration{time.Second}, Drain: time.Second}
}

func (s *scene) declare(groups ...string) {
	s.Helper()
	for _, g := range append(groups, "") {
		require.NoError(s, s.driver.(driver.Declarer).Declare(s.Context(), s.sub(g)))
	}
}

func (s *scene) publish(n int) {
	s.Helper()
	msgs := make([]driver.Message, n)
	for i := range msgs {
		msgs[i] = driver.Message{ID: fmt.Sprint(i), Topic: "t", Key: "k", Body: []byte("x"), Time: time.Now()}
	}
	for _, err := range s.driver.Publish(s.Context(), msgs) {
		require.NoError(s, err)
	}
}

func (s *scene) join(group string) driver.Receiver {
	s.Helper()
	r, err := s.driver.Subscribe(s.Context(), s.sub(group))
	require.NoError(s, err)
	s.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}

func (s *scene) receive(r driver.Receiver, n int) (all []driver.Delivery) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	for len(all) < n {
		ds, err := r.Receive(ctx, n-len(all))
		require.NoError(s, err)
		all = append(all, ds...)
	}
	return all
}

func (s *scene) settle(r driver.Receiver, a driver.Action, delay time.Duration, ds ...driver.Delivery) {
	s.Helper()
	out := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		out[i] = driver.Settlement{Delivery: d, Action: a, Delay: delay}
	}
	require.NoError(s, r.Settle(s.Context(), out))
}

func (s *scene) stream() string { return s.prefix + "{t:0}" }

// What a group has not settled stays, however far the others are.
func TestTrimmingByTheSlowestGroup(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare("fast", "slow")
	s.publish(500)
	fast, slow := s.join("fast"), s.join("slow")
	s.settle(fast, driver.Ack, 0, s.receive(fast, 500)...)
	ds := s.receive(slow, 500)
	s.settle(slow, driver.Ack, 0, ds[:250]...)
	length := func() int64 { return s.raw.XLen(t.Context(), s.stream()).Val() }
	require.Eventually(t, func() bool { return length() < 500 }, 5*time.Second, 20*time.Millisecond)
	require.GreaterOrEqual(t, length(), int64(250), "what slow holds is still there")
	s.settle(slow, driver.Ack, 0, ds[250:]...)
	require.Eventually(t, func() bool { return length() <= 100 }, 5*time.Second, 20*time.Millisecond, "all but a node is gone")
}

func TestRetainKeepsWhatIsSettled(t *testing.T) {
	s := newScene(t, redisstream.Options{Retain: time.Hour})
	s.declare("g")
	s.publish(500)
	r := s.join("g")
	s.settle(r, driver.Ack, 0, s.receive(r, 500)...)
	time.Sleep(1500 * time.Millisecond) // trimming is due every second
	require.EqualValues(t, 500, s.raw.XLen(t.Context(), s.stream()).Val())
}

// A retry that waits is not lost, forgotten or overtaken when its owner dies.
func TestARetryOutlivesItsOwner(t *testing.T) {
	addr := servertest.Redis(t)
	s := newScene(t, redisstream.Options{})
	s.declare("g")
	s.publish(3)
	wire := messagingtest.NewProxy(t, addr)
	doomed := open(t, wire.Addr(), &redisstream.Options{Prefix: s.prefix, Partitions: 1, Lease: time.Second}).Driver()
	first, err := doomed.Subscribe(t.Context(), s.sub("g"))
	require.NoError(t, err)
	ds := s.receive(first, 3)
	ds[0].Headers.Set("mainstay-attempts", "1")
	start := time.Now()
	s.settle(first, driver.Retry, 4*time.Second, ds[0])
	go wire.Cut(30 * time.Second) // it never comes back
	next := s.join("g")
	again := s.receive(next, 3)
	require.GreaterOrEqual(t, time.Since(start), 4*time.Second)
	require.Equal(t, []string{"0", "1", "2"}, []string{again[0].ID, again[1].ID, again[2].ID})
	require.Equal(t, "1", again[0].Headers.Get("mainstay-attempts"))
	require.Equal(t, []int{1, 2, 2}, []int{again[0].Attempt, again[1].Attempt, again[2].Attempt},
		"the retried one was not handed out since, the others were")
	s.settle(next, driver.Ack, 0, again...)
	for _, key := range []string{":delayed:g", ":headers:g"} {
		require.Zero(t, s.raw.Exists(t.Context(), s.stream()+key).Val(), "%s is cleaned up", key)
	}
	require.Equal(t, int64(1), int64(len(s.raw.XInfoConsumers(t.Context(), s.stream(), "g").Val())), "the dead consumer is deleted")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = doomed.Close(ctx)
}

func TestNoConsumerIsLeftBehind(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare("g")
	s.publish(10)
	for range 3 {
		r := s.join("g")
		s.settle(r, driver.Ack, 0, s.receive(r, 2)...)
		require.NoError(t, r.Close(t.Context()))
	}
	require.LessOrEqual(t, len(s.raw.XInfoConsumers(t.Context(), s.stream(), "g").Val()), 1)
	require.Zero(t, s.raw.Exists(t.Context(), s.stream()+":owner:g", s.prefix+"{t}:members:g").Val())
}

// A fake server that takes what it is sent and hangs up.
func TestALostAnswerIsUnknown(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare("g")
	wire := messagingtest.NewProxy(t, servertest.Redis(t))
	c := redis.NewClient(&redis.Options{Addr: wire.Addr(), ReadTimeout: 300 * time.Millisecond})
	defer c.Close()
	b, err := redisstream.Open(t.Context(), c, &redisstream.Options{Prefix: s.prefix})
	require.NoError(t, err)
	defer b.Close(context.Background())
	send := func(id string) []error {
		return b.Driver().Publish(t.Context(), []driver.Message{{ID: id, Topic: "t", Key: "k", Time: time.Now()}})
	}
	require.NoError(t, send("known")[0])
	ended := make(chan struct{})
	go func() {
		wire.Stall(2 * time.Second)
		close(ended)
	}()
	time.Sleep(200 * time.Millisecond) // let it begin
	err = send("lost")[0]
	require.ErrorIs(t, err, driver.ErrUnknown)
	<-ended
	require.LessOrEqual(t, s.raw.XLen(t.Context(), s.stream()).Val(), int64(2), "the client did not send it again by itself")

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	go wire.Stall(time.Second)
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	errs := b.Driver().Publish(ctx, []driver.Message{{ID: "late", Topic: "t", Time: time.Now()}})
	require.ErrorIs(t, errs[0], driver.ErrUnknown)
	require.ErrorIs(t, errs[0], context.DeadlineExceeded)
	require.Less(t, time.Since(start), 5*time.Second, "the context ends the call, not the client's timeouts")
}

func TestAServerThatIsAwayRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	c := redis.NewClient(&redis.Options{Addr: l.Addr().String(), MaxRetries: -1})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = redisstream.Open(ctx, c, nil)
	var e *messaging.Error
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, l.Addr().String())
}

func TestWrongCredentialsEndAtOnce(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: servertest.Redis(t), Username: "nobody", Password: "secret-word"})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := redisstream.Open(ctx, c, nil)
	var e *messaging.Error
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, "WRONGPASS")
	require.NotContains(t, err.Error(), "secret-word")
	require.NoError(t, ctx.Err())
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer c.Close()
	for name, o := range map[string]*redisstream.Options{
		"partitions": {Partitions: -1}, "too many": {Partitions: 1025}, "lease": {Lease: time.Millisecond}, "prefix": {Prefix: "{a}"},
	} {
		_, err := redisstream.Open(t.Context(), c, o)
		require.ErrorIs(t, err, messaging.ErrConfig, name)
	}
	_, err := redisstream.Open(t.Context(), nil, nil)
	require.ErrorIs(t, err, messaging.ErrConfig)
}

func TestAFullServerSaysSo(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare("g")
	ctx := context.Background()
	limit := s.raw.ConfigGet(ctx, "maxmemory").Val()["maxmemory"]
	defer func() { require.NoError(t, s.raw.ConfigSet(ctx, "maxmemory", limit).Err()) }()
	require.NoError(t, s.raw.ConfigSet(ctx, "maxmemory", "1").Err())
	errs := s.driver.Publish(t.Context(), []driver.Message{{ID: "1", Topic: "t", Time: time.Now(), Body: bytes.Repeat([]byte{'x'}, 1000)}})
	require.NoError(t, s.raw.ConfigSet(ctx, "maxmemory", limit).Err())
	require.ErrorContains(t, errs[0], "maxmemory")
	require.NotErrorIs(t, errs[0], driver.ErrUnknown)
	require.Zero(t, s.raw.XLen(ctx, s.stream()).Val())
	s.publish(1)
}

// A server that lost everything does not swallow messages: nobody would read
// streams that nobody declared.
func TestAVanishedTopicIsRefused(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare("g")
	s.publish(1)
	require.NoError(t, s.raw.Del(t.Context(), s.stream(), s.prefix+"{t}:topic").Err())
	for range 2 {
		errs := s.driver.Publish(t.Context(), []driver.Message{{ID: "1", Topic: "t", Key: "k", Time: time.Now()}})
		require.ErrorIs(t, errs[0], driver.ErrUnroutable)
		require.ErrorContains(t, errs[0], `"t"`)
	}
}

// A topic keeps the number of partitions it was declared with, whatever others
// are set to: a key must not move.
func TestPartitionsAreTheTopics(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare()
	other := open(t, servertest.Redis(t), &redisstream.Options{Prefix: s.prefix, Partitions: 16, Messaging: messaging.Options{Topology: messaging.Declare}})
	defer other.Close(context.Background())
	require.NoError(t, other.Declare(t.Context(), "t"))
	for i := range 20 {
		require.NoError(t, other.Publisher().Publish(t.Context(), &messaging.Message{Topic: "t", Key: fmt.Sprint(i)}))
	}
	require.EqualValues(t, 20, s.raw.XLen(t.Context(), s.stream()).Val())
}

// What others wrote is delivered with what is known.
func TestForeignEntries(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare("g")
	id := s.raw.XAdd(t.Context(), &redis.XAddArgs{Stream: s.stream(), Values: []string{"body", "hello", "order", "9"}}).Val()
	r := s.join("g")
	ds := s.receive(r, 1)
	require.Equal(t, "t/0/"+id, ds[0].ID)
	require.Equal(t, "hello", string(ds[0].Body))
	require.Equal(t, "9", ds[0].Headers.Get("order"))
	require.Equal(t, strings.Split(id, "-")[0], fmt.Sprint(ds[0].Time.UnixMilli()))
	s.settle(r, driver.Ack, 0, ds...)
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	s := newScene(t, redisstream.Options{})
	s.declare("g")
	s.publish(4)
	r := s.join("g")
	for range 2 {
		require.NoError(t, s.raw.ScriptFlush(t.Context()).Err())
		s.settle(r, driver.Ack, 0, s.receive(r, 2)...)
	}
	n, _, err := s.driver.(driver.Lagger).Lag(t.Context(), "t", "g")
	require.NoError(t, err)
	require.Zero(t, n)
}

// A server that refuses to share out partitions is an error of Receive once
// the lease has passed, not a consumer that waits for ever.
func TestRefusalsAreSaid(t *testing.T) {
	for name, key := range map[string]string{"members": "{t}:members:g", "owner": "{t:0}:owner:g"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, redisstream.Options{Lease: 500 * time.Millisecond})
			s.declare("g")
			require.NoError(t, s.raw.LPush(t.Context(), s.prefix+key, "foreign").Err())
			r := s.join("g")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := r.Receive(ctx, 1)
			require.ErrorContains(t, err, "WRONGTYPE")
		})
	}
}

// What a lease guards is checked where messages are read: without the guard
// the server hands out nothing, also to a member that believes it owns the
// partition; it hears of it, and takes the partition anew.
func TestNobodyReadsWithoutALease(t *testing.T) {
	s := newScene(t, redisstream.Options{Lease: 2 * time.Second})
	s.declare("g")
	s.publish(1)
	r := s.join("g")
	s.settle(r, driver.Ack, 0, s.receive(r, 1)...)
	guards := func() []string { return s.raw.Keys(t.Context(), s.prefix+"{t:0}:guard:*").Val() }
	require.Len(t, guards(), 1)
	former := guards()[0]
	var guard, lease *redis.DurationCmd
	_, err := s.raw.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		guard, lease = p.PTTL(t.Context(), former), p.PTTL(t.Context(), s.stream()+":owner:g")
		return nil
	})
	require.NoError(t, err)
	require.Positive(t, guard.Val(), "it ends by itself")
	require.LessOrEqual(t, guard.Val(), lease.Val(), "and no later than the lease")
	read := func() int64 { return s.raw.XInfoGroups(t.Context(), s.stream()).Val()[0].EntriesRead }

	next := make(chan []driver.Delivery)
	go func() { next <- s.receive(r, 1) }()
	require.Eventually(t, func() bool { return strings.Contains(s.raw.ClientList(t.Context()).Val(), "cmd=xread ") }, 5*time.Second, time.Millisecond,
		"it waits for messages")
	require.NoError(t, s.raw.Del(t.Context(), former).Err())
	s.publish(1)
	ds := <-next
	require.Len(t, guards(), 1, "it was read under a lease")
	require.NotEqual(t, former, guards()[0], "of its own")
	require.Equal(t, 1, ds[0].Attempt, "nobody had read it in between")
	before := read()
	s.publish(1)
	err = s.raw.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: "g", Consumer: "late", Count: 10, Block: -1, Streams: []string{s.stream(), former, ">", ">"},
	}).Err()
	require.ErrorContains(t, err, "NOGROUP", "as a member would read that does not know yet")
	s.settle(r, driver.Ack, 0, append(ds, s.receive(r, 1)...)...)
	require.Equal(t, before+1, read())
	require.NoError(t, r.Close(t.Context()))
	require.Empty(t, guards())
}

// narrow passes connections on to a server, and hangs up where an answer has
// more than so many bytes, as a client does that has waited for long enough.
func narrow(t *testing.T, target string, most int) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	serve := func(client net.Conn) {
		defer client.Close()
		server, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer server.Close()
		var answer atomic.Int64
		wg.Go(func() {
			b := make([]byte, 64<<10)
			for {
				n, err := client.Read(b)
				answer.Store(0)
				if _, werr := server.Write(b[:n]); err != nil || werr != nil {
					_ = server.Close()
					return
				}
			}
		})
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			if err != nil || answer.Add(int64(n)) > int64(most) {
				return
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	return l.Addr().String()
}

// An answer that is too large to arrive is asked for in smaller parts, and is no
// attempt: nobody was handed anything.
func TestAnswersThatDoNotArrive(t *testing.T) {
	s := newScene(t, redisstream.Options{Lease: 3 * time.Second})
	s.declare("g", "h")
	s.publish(300)
	var large []driver.Message
	for i := range 32 {
		large = append(large, driver.Message{ID: fmt.Sprint("large ", i), Topic: "t", Key: "k", Body: make([]byte, 1<<20), Time: time.Now()})
	}
	for _, err := range s.driver.Publish(t.Context(), large) {
		require.NoError(t, err)
	}
	slow := open(t, narrow(t, servertest.Redis(t), 5<<20), &redisstream.Options{Prefix: s.prefix, Partitions: 1, Lease: 3 * time.Second}).Driver()
	defer func() { require.NoError(t, slow.Close(context.Background())) }()
	sub := s.sub("g")
	sub.Prefetch = 1000
	r, err := slow.Subscribe(t.Context(), sub)
	require.NoError(t, err)
	ds := s.receive(r, 332)
	for _, d := range ds {
		require.Equal(t, 1, d.Attempt, d.ID)
	}
	require.NoError(t, r.Close(t.Context()))

	// What was left by a member counts once, however often its way to the next
	// one is tried.
	sub.Group = "h"
	first, err := s.driver.Subscribe(t.Context(), sub)
	require.NoError(t, err)
	ds = s.receive(first, 332)
	require.NoError(t, first.Close(t.Context()))
	r, err = slow.Subscribe(t.Context(), sub)
	require.NoError(t, err)
	again := s.receive(r, 332)
	for i, d := range again {
		require.Equal(t, ds[i].ID, d.ID)
		require.Equal(t, 2, d.Attempt, d.ID)
	}
}
