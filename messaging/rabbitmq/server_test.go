package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/rabbitmq"
)

func unique(what string) string { return fmt.Sprintf("%s-%d", what, time.Now().UnixNano()) }

// use opens a broker that the test closes.
func use(t *testing.T, url string, topology messaging.Topology) *messaging.Broker {
	t.Helper()
	b := open(t, url, topology)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, b.Close(ctx))
	})
	return b
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// raw returns a channel of the client.
func raw(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	c, err := amqp.Dial(url)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	ch, err := c.Channel()
	require.NoError(t, err)
	return ch
}

// run handles messages until f returns true.
func run(t *testing.T, b *messaging.Broker, group string, o *messaging.ConsumerOptions, topic string, f func(*messaging.Delivery) (bool, error)) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	done := false
	c, err := b.Consumer(group, o, messaging.On(topic, func(_ context.Context, d *messaging.Delivery) error {
		end, err := f(d)
		if end {
			done = true
			stop()
		}
		return err
	}))
	require.NoError(t, err)
	require.NoError(t, c.Run(ctx))
	require.True(t, done, "it did not come")
}

func TestWhatNobodyTakesIsUnroutable(t *testing.T) {
	url := servertest.AMQP(t)
	b, ctx := use(t, url, messaging.Verify), within(t, 20*time.Second)
	taken, untaken, missing := unique("taken"), unique("untaken"), unique("missing")
	c, err := b.Consumer("g", nil, messaging.On(taken, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(ctx))
	require.NoError(t, b.Declare(ctx, untaken))
	msgs := []*messaging.Message{{Topic: taken}, {Topic: untaken}, {Topic: missing}, {Topic: taken}}
	err = b.Publisher().Publish(ctx, msgs...)
	var e *messaging.Error
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, messaging.ErrUnroutable)
	require.NotErrorIs(t, err, messaging.ErrUnknown)
	require.Equal(t, msgs[1:3], e.Unsent)
	require.ErrorContains(t, err, untaken)
	require.ErrorContains(t, err, missing)
}

// A topic that is deleted while messages are on their way costs the channel:
// the others' fate is open then, and the publisher goes on.
func TestADeletedTopicIsNoticed(t *testing.T) {
	url := servertest.AMQP(t)
	b, ctx, topic := use(t, url, messaging.Verify), within(t, 20*time.Second), unique("deleted")
	c, err := b.Consumer("g", nil, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(ctx))
	require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: topic}))
	require.NoError(t, raw(t, url).ExchangeDelete(topic, false, false))
	err = b.Publisher().Publish(ctx, &messaging.Message{Topic: topic})
	require.ErrorContains(t, err, topic)
	require.ErrorIs(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: topic}), messaging.ErrUnroutable)
	require.NoError(t, c.Declare(ctx))
	require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: topic}))
}

func TestALateConfirmationIsUnknown(t *testing.T) {
	proxy, url := proxied(t, servertest.AMQP(t))
	b, topic := use(t, url, messaging.Verify), unique("late")
	c, err := b.Consumer("g", nil, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(within(t, 20*time.Second)))
	require.NoError(t, b.Publisher().Publish(t.Context(), &messaging.Message{Topic: topic}))
	ended := make(chan struct{})
	go func() {
		proxy.Stall(time.Second)
		close(ended)
	}()
	m := &messaging.Message{Topic: topic}
	for err = nil; err == nil; { // the stall may come a moment late
		err = b.Publisher().Publish(within(t, 200*time.Millisecond), m)
	}
	require.ErrorIs(t, err, messaging.ErrUnknown)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	<-ended
	require.NoError(t, b.Publisher().Publish(within(t, 20*time.Second), m))
}

// While the server is away, a publish waits for it no longer than its context,
// and what was never sent is not unknown.
func TestAnOutageIsWaitedFor(t *testing.T) {
	proxy, url := proxied(t, servertest.AMQP(t))
	b, topic := use(t, url, messaging.Verify), unique("outage")
	c, err := b.Consumer("g", nil, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(within(t, 20*time.Second)))
	ended := make(chan struct{})
	cut := make(chan struct{})
	go func() {
		close(cut)
		proxy.Cut(2 * time.Second)
		close(ended)
	}()
	<-cut
	for err = nil; err == nil || errors.Is(err, messaging.ErrUnknown); { // until the cut is noticed
		err = b.Publisher().Publish(within(t, 300*time.Millisecond), &messaging.Message{Topic: topic})
	}
	require.ErrorContains(t, err, "not sent")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, b.Publisher().Publish(within(t, 20*time.Second), &messaging.Message{Topic: topic}), "it comes back meanwhile")
	<-ended
}

// control runs rabbitmqctl, or skips t.
func control(t *testing.T) func(args ...string) {
	t.Helper()
	ctl := os.Getenv("MAINSTAY_RABBITMQ_CTL")
	if ctl == "" {
		t.Skip("needs rabbitmqctl of the server: MAINSTAY_RABBITMQ_CTL is not set; scripts/integration sets it")
	}
	return func(args ...string) {
		out, err := exec.Command(ctl, args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

func TestAnAlarmIsNamedAndConsumersGoOn(t *testing.T) {
	ctl := control(t)
	t.Run("memory", func(t *testing.T) {
		alarm(t, func() { ctl("set_vm_memory_high_watermark", "absolute", "1000") }, func() { ctl("set_vm_memory_high_watermark", "0.4") })
	})
	t.Run("disk", func(t *testing.T) {
		alarm(t, func() { ctl("set_disk_free_limit", "100000GB") }, func() { ctl("set_disk_free_limit", "50MB") })
	})
}

// alarm publishes and consumes while the server is short of something.
func alarm(t *testing.T, raise, lift func()) {
	t.Helper()
	url := servertest.AMQP(t)
	b, topic := use(t, url, messaging.Declare), unique("alarm")
	o := &messaging.ConsumerOptions{
		Order: messaging.Unordered, Concurrency: 1, Prefetch: 2, Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Second}},
	}
	c, err := b.Consumer("g", o, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(within(t, 20*time.Second)))
	for _, id := range []string{"bad", "good 1", "good 2", "good 3", "good 4"} {
		require.NoError(t, b.Publisher().Publish(within(t, 20*time.Second), &messaging.Message{ID: id, Topic: topic}))
	}
	raise()
	defer lift()
	for err = nil; err == nil; { // it notices after a while
		err = b.Publisher().Publish(within(t, time.Second), &messaging.Message{ID: "first", Topic: topic})
	}
	require.ErrorContains(t, err, "alarm")
	err = b.Publisher().Publish(within(t, time.Second), &messaging.Message{ID: "second", Topic: topic})
	require.ErrorContains(t, err, "alarm")
	require.NotErrorIs(t, err, messaging.ErrUnknown, "it was not sent")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, b.Health(within(t, 20*time.Second)), "alarm")
	waited := make(chan error, 1)
	go func() {
		waited <- b.Publisher().Publish(within(t, 3*time.Minute), &messaging.Message{ID: "third", Topic: topic}) // rabbitmqctl takes its time
	}()
	run(t, b, "g", o, topic, func(d *messaging.Delivery) (bool, error) {
		switch {
		case d.ID == "good 4": // which comes only if those before it are acked
			lift()
		case d.ID == "bad" && d.Attempt == 1:
			return false, errors.New("its retry waits")
		}
		return d.ID == "bad", nil
	})
	require.NoError(t, <-waited)
	require.NoError(t, b.Health(within(t, 20*time.Second)))
}

func TestTooLargeForTheServer(t *testing.T) {
	url, ctl := servertest.AMQP(t), control(t)
	b, topic := use(t, url, messaging.Verify), unique("large")
	c, err := b.Consumer("g", nil, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	ctx := within(t, 20*time.Second)
	require.NoError(t, c.Declare(ctx))
	ctl("eval", "application:set_env(rabbit, max_message_size, 1000).")
	defer ctl("eval", "application:set_env(rabbit, max_message_size, 134217728).")
	err = b.Publisher().Publish(ctx, &messaging.Message{Topic: topic, Body: make([]byte, 1001)})
	require.ErrorIs(t, err, messaging.ErrTooLarge)
	require.NotErrorIs(t, err, messaging.ErrUnknown)
	require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: topic, Body: make([]byte, 1000)}))
}

func TestAGroupHasOneShape(t *testing.T) {
	url, topic := servertest.AMQP(t), unique("shape")
	ctx := within(t, 20*time.Second)
	declare := func(partitions int, group string, order messaging.Order) error {
		b, err := rabbitmq.Open(ctx, url, &rabbitmq.Options{Partitions: partitions})
		require.NoError(t, err)
		defer b.Close(context.Background())
		c, err := b.Consumer(group, &messaging.ConsumerOptions{Order: order}, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
		require.NoError(t, err)
		return c.Declare(ctx)
	}
	require.NoError(t, declare(4, "ordered", messaging.ByKey))
	require.NoError(t, declare(4, "ordered", messaging.ByPartition))
	require.NoError(t, declare(2, "unordered", messaging.Unordered))
	for _, err := range []error{
		declare(8, "ordered", messaging.ByKey), declare(2, "ordered", messaging.ByKey),
		declare(4, "ordered", messaging.Unordered), declare(4, "unordered", messaging.ByKey),
	} {
		require.ErrorIs(t, err, messaging.ErrUnroutable)
		require.ErrorContains(t, err, "another group name")
	}
}

// A queue of the right name that was made otherwise loses order, or messages.
func TestAnUnfitQueueIsNamed(t *testing.T) {
	url, topic := servertest.AMQP(t), unique("unfit")
	d, ctx := use(t, url, messaging.Verify).Driver(), within(t, 40*time.Second)
	for name, c := range map[string]struct {
		unordered bool
		queue     string // after topic and group
		changes   amqp.Table
		names     string
	}{
		"ordered":  {false, "/0", amqp.Table{"x-single-active-consumer": nil}, "x-single-active-consumer"},
		"no limit": {false, "/7", amqp.Table{"x-delivery-limit": nil}, "x-delivery-limit"},
		"delay":    {true, "/retry-10s", amqp.Table{"x-message-ttl": nil}, "x-message-ttl"},
		"way back": {true, "/retry-10s", amqp.Table{"x-dead-letter-routing-key": "elsewhere"}, "x-dead-letter-routing-key"},
		"no exit":  {true, "", amqp.Table{"x-dead-letter-exchange": nil, "x-dead-letter-strategy": nil}, "x-dead-letter-exchange"},
		"classic":  {true, "", amqp.Table{"x-queue-type": "classic", "x-dead-letter-strategy": nil, "x-delivery-limit": nil}, "x-queue-type"},
		"notes":    {false, "/0/notes", amqp.Table{"x-max-length-bytes": nil}, "x-max-length-bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			group := strings.ReplaceAll(name, " ", "-")
			s := driver.Subscription{Topics: []string{topic}, Group: group, Prefetch: 10, Unordered: c.unordered}
			if c.unordered {
				s.Delays = []time.Duration{10 * time.Second}
			}
			require.NoError(t, d.(driver.Declarer).Declare(ctx, s))
			require.NoError(t, d.(driver.Declarer).Verify(ctx, s))
			args := amqp.Table{"x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
			switch c.queue {
			case "/0/notes":
				args = amqp.Table{"x-queue-type": "stream", "x-max-length-bytes": int64(16 << 20), "x-stream-max-segment-size-bytes": int64(4 << 20)}
			case "/retry-10s":
				args["x-dead-letter-exchange"], args["x-dead-letter-routing-key"], args["x-message-ttl"] = "", topic+"/"+group, int64(10_000)
			default:
				args["x-dead-letter-exchange"], args["x-delivery-limit"] = topic+"/"+group+"/dead", int32(100)
				if !c.unordered {
					args["x-single-active-consumer"] = true
				}
			}
			ch, queue := raw(t, url), topic+"/"+group+c.queue
			again := func() {
				_, err := ch.QueueDelete(queue, false, false, false)
				require.NoError(t, err)
				_, err = ch.QueueDeclare(queue, true, false, false, false, args)
				require.NoError(t, err)
			}
			again()
			require.NoError(t, d.(driver.Declarer).Verify(ctx, s), "by hand, as it should be")
			for k, v := range c.changes {
				if args[k] = v; v == nil {
					delete(args, k)
				}
			}
			again()
			err := d.(driver.Declarer).Verify(ctx, s)
			require.ErrorIs(t, err, driver.ErrUnroutable)
			require.ErrorContains(t, err, queue)
			require.ErrorContains(t, err, c.names)
			_, err = d.Subscribe(ctx, s)
			require.ErrorIs(t, err, driver.ErrUnroutable)
		})
	}
}

// Who may not declare cannot ask what a queue was made with.
func TestConsumersNeedNotBeAllowedToDeclare(t *testing.T) {
	server, ctl := servertest.AMQP(t), control(t)
	u, err := url.Parse(server)
	require.NoError(t, err)
	topic, user := unique("allowed"), unique("user")
	admin, ctx := use(t, server, messaging.Verify).Driver(), within(t, 60*time.Second)
	s := driver.Subscription{Topics: []string{topic}, Group: "g", Prefetch: 10}
	require.NoError(t, admin.(driver.Declarer).Declare(ctx, s))
	ctl("add_user", user, "secret")
	defer ctl("delete_user", user)
	own := `^(amq\.gen-.*|mainstay\.members)$`
	ctl("set_permissions", user, own, own+"|^"+topic+".*", own+"|^"+topic+".*")
	u.User = url.UserPassword(user, "secret")
	d := use(t, u.String(), messaging.Verify).Driver()
	require.NoError(t, d.(driver.Declarer).Verify(ctx, s))
	r, err := d.Subscribe(ctx, s)
	require.NoError(t, err)
	require.NoError(t, errors.Join(d.Publish(ctx, []driver.Message{{ID: "m", Topic: topic, Key: "k"}})...))
	got, err := r.Receive(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, "m", got[0].ID)
	require.NoError(t, r.Close(ctx))
}

// A retry of an unordered group waits at the server: who fails it may be gone.
func TestARetryOutlivesItsConsumer(t *testing.T) {
	url, topic := servertest.AMQP(t), unique("retry")
	o := &messaging.ConsumerOptions{Order: messaging.Unordered, Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Second}}}
	b := use(t, url, messaging.Declare)
	c, err := b.Consumer("g", o, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(within(t, 20*time.Second)))
	m := &messaging.Message{Topic: topic, Body: []byte("b"), Key: "k"}
	m.Headers.Add("kept", "as it was")
	require.NoError(t, b.Publisher().Publish(within(t, 20*time.Second), m))
	run(t, b, "g", o, topic, func(*messaging.Delivery) (bool, error) { return true, errors.New("not yet") })
	begin := time.Now()
	run(t, use(t, url, messaging.Verify), "g", o, topic, func(d *messaging.Delivery) (bool, error) {
		require.Equal(t, 2, d.Attempt)
		require.Equal(t, "not yet", d.LastError)
		require.Equal(t, m.ID, d.ID)
		require.Equal(t, m.Key, d.Key)
		require.Equal(t, m.Headers, d.Headers)
		return true, nil
	})
	require.Less(t, time.Since(begin), 20*time.Second)
}

// What nobody settles 100 times is a dead letter that says so, kept although
// no group takes it.
func TestPoisonEndsAsADeadLetter(t *testing.T) {
	t.Run("at once", func(t *testing.T) { poison(t, false) })
	t.Run("after a retry", func(t *testing.T) { poison(t, true) })
}

func poison(t *testing.T, retried bool) {
	t.Helper()
	url, topic := servertest.AMQP(t), unique("poison")
	b, ctx := use(t, url, messaging.Verify), within(t, 60*time.Second)
	o := &messaging.ConsumerOptions{Order: messaging.Unordered, Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Second}}}
	c, err := b.Consumer("g", o, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(ctx))
	require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{ID: "poison", Topic: topic}))
	if retried {
		run(t, b, "g", o, topic, func(*messaging.Delivery) (bool, error) { return true, errors.New("not yet") })
	}
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	defer conn.Close()
	for range 101 { // consumers that die of it
		ch, err := conn.Channel()
		require.NoError(t, err)
		in, err := ch.Consume(topic+"/g", "", false, false, false, false, nil)
		require.NoError(t, err)
		<-in
		require.NoError(t, ch.Close())
	}
	ch := raw(t, url)
	var dead amqp.Delivery
	require.Eventually(t, func() bool {
		d, ok, err := ch.Get(topic+".dead.unclaimed", true)
		dead = d
		return ok && err == nil
	}, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, "poison", dead.MessageId)

	// With a group for dead letters it comes there, with its evidence.
	clerk, err := b.Consumer("clerk", o, messaging.On(topic+".dead", func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, clerk.Declare(ctx))
	require.NoError(t, ch.Publish(topic+".dead", "0", true, false, amqp.Publishing{MessageId: dead.MessageId, Headers: dead.Headers}))
	run(t, b, "clerk", o, topic+".dead", func(d *messaging.Delivery) (bool, error) {
		require.Equal(t, topic, d.Origin)
		require.Contains(t, d.LastError, "never settled")
		require.Equal(t, 1, d.Attempt)
		return true, nil
	})
}

// A producer without Mainstay sets what it likes.
func TestForeignProducers(t *testing.T) {
	url, topic := servertest.AMQP(t), unique("foreign")
	b := use(t, url, messaging.Declare)
	c, err := b.Consumer("g", nil, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(within(t, 20*time.Second)))
	ch := raw(t, url)
	require.NoError(t, ch.Publish(topic, "", true, false, amqp.Publishing{
		Body: []byte("b"), ContentType: "text/plain", Headers: amqp.Table{"n": int32(7)}, CorrelationId: "c",
	}))
	run(t, b, "g", nil, topic, func(d *messaging.Delivery) (bool, error) {
		require.Equal(t, "7", d.Headers.Get("n"))
		require.Equal(t, "text/plain", d.ContentType)
		require.NotEmpty(t, d.ID)
		var native *amqp.Delivery
		require.True(t, d.Native(&native))
		require.Equal(t, "c", native.CorrelationId)
		return true, nil
	})
}

// What Mainstay has no field for stays with the message, when it is tried again
// and when it is given up.
func TestForeignPropertiesStay(t *testing.T) {
	url, topic := servertest.AMQP(t), unique("properties")
	o := &messaging.ConsumerOptions{Order: messaging.Unordered, Retry: messaging.RetryPolicy{MaxAttempts: 2, Delays: []time.Duration{time.Second}}}
	b := use(t, url, messaging.Declare)
	c, err := b.Consumer("g", o, messaging.On(topic, func(context.Context, *messaging.Delivery) error { return nil }))
	require.NoError(t, err)
	require.NoError(t, c.Declare(within(t, 20*time.Second)))
	ch := raw(t, url)
	require.NoError(t, ch.Publish(topic, "0", true, false, amqp.Publishing{
		MessageId: "m", ContentEncoding: "gzip", CorrelationId: "c", ReplyTo: "q", Type: "t", AppId: "a", Expiration: "60000", UserId: "guest",
	}))
	run(t, b, "g", o, topic, func(d *messaging.Delivery) (bool, error) {
		var native *amqp.Delivery
		require.True(t, d.Native(&native))
		require.Equal(t, []string{"gzip", "c", "q", "t", "a"}, []string{native.ContentEncoding, native.CorrelationId, native.ReplyTo, native.Type, native.AppId})
		require.Empty(t, d.Headers)
		return d.Attempt == 2, errors.New("no")
	})
	dead, ok, err := ch.Get(topic+".dead.unclaimed", true)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []string{"gzip", "c", "q", "t", "a"}, []string{dead.ContentEncoding, dead.CorrelationId, dead.ReplyTo, dead.Type, dead.AppId})
	require.NotContains(t, dead.Headers, "mainstay-properties")
}

func TestSettlementsOfOthersAreRefused(t *testing.T) {
	url, topic := servertest.AMQP(t), unique("settle")
	d, ctx := use(t, url, messaging.Verify).Driver(), within(t, 20*time.Second)
	s := driver.Subscription{Topics: []string{topic}, Group: "g", Prefetch: 10}
	require.NoError(t, d.(driver.Declarer).Declare(ctx, s))
	r, err := d.Subscribe(ctx, s)
	require.NoError(t, err)
	require.Error(t, r.Settle(ctx, []driver.Settlement{{Action: driver.Ack}}), "not handed out")
	require.NoError(t, errors.Join(d.Publish(ctx, []driver.Message{{ID: "m", Topic: topic, Key: "k"}})...))
	got, err := r.Receive(ctx, 10)
	require.NoError(t, err)
	require.Error(t, r.Settle(ctx, []driver.Settlement{{Delivery: got[0]}}), "no action")
	require.Error(t, r.Settle(ctx, []driver.Settlement{{Delivery: got[0], Action: driver.Retry, Delay: time.Second}}), "order is kept")
	_, err = r.Receive(ctx, 0)
	require.Error(t, err)
	_, err = d.Subscribe(ctx, driver.Subscription{})
	require.Error(t, err)
}

// An ack that cannot be written has a reason: the deliveries are lost, and Lost is
// closed when Settle says so.
func TestAnAckThatFailsIsARevocation(t *testing.T) {
	url, topic := servertest.AMQP(t), unique("broken")
	d, ctx := use(t, url, messaging.Verify).Driver(), within(t, 40*time.Second)
	s := driver.Subscription{Topics: []string{topic}, Group: "g", Prefetch: 10}
	require.NoError(t, d.(driver.Declarer).Declare(ctx, s))
	require.NoError(t, errors.Join(d.Publish(ctx, []driver.Message{{ID: "m", Topic: topic, Key: "k"}})...))
	for range 2 {
		r, err := d.Subscribe(ctx, s)
		require.NoError(t, err)
		got, err := r.Receive(ctx, 1)
		require.NoError(t, err)
		require.NoError(t, got[0].Native.(*amqp.Delivery).Acknowledger.(*amqp.Channel).Close())
		require.ErrorIs(t, r.Settle(ctx, []driver.Settlement{{Delivery: got[0], Action: driver.Ack}}), driver.ErrRevoked)
		select {
		case <-got[0].Lost:
		default:
			t.Fatal("it is not lost")
		}
		require.NoError(t, r.Close(ctx))
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	url := servertest.AMQP(t)
	name := unique("leak")
	use := func() {
		b := open(t, url, messaging.Declare)
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		c, err := b.Consumer(name, nil, messaging.On(name, func(context.Context, *messaging.Delivery) error {
			stop()
			return nil
		}))
		require.NoError(t, err)
		require.NoError(t, c.Declare(ctx))
		require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: name}))
		require.NoError(t, c.Run(ctx))
		require.NoError(t, b.Close(context.Background()))
	}
	use()
	before := runtime.NumGoroutine()
	use()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 10*time.Second, 50*time.Millisecond, // Eventually has one
		"there were %d goroutines, and there are %d", before, runtime.NumGoroutine())
}
