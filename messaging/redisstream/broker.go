package redisstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// maxBytes limits a message. Redis takes 512 MB in a string, but holds all of
// it in memory, several times while it is read.
const maxBytes = 64 << 20

type broker struct {
	client     redis.UniversalClient
	names      names
	lease      time.Duration
	partitions int
	retain     time.Duration
	held       string // see heldBy

	wg sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	known     map[string]int // partitions of topics
	turn      int            // of the next message without key
	receivers map[*receiver]struct{}
}

// Capabilities implements driver.Broker.
func (b *broker) Capabilities() driver.Capabilities {
	return driver.Capabilities{Name: "redis", Durable: true, KeyOrder: true, Delay: true, Replay: true, MaxBytes: maxBytes, Held: b.held}
}

// Health implements driver.Broker.
func (b *broker) Health(ctx context.Context) error {
	return wait.Call(ctx, b.start, func() error { return b.client.Ping(ctx).Err() })
}

// Close implements driver.Broker. The client is its owner's to close.
func (b *broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	open := make([]*receiver, 0, len(b.receivers))
	for r := range b.receivers {
		open = append(open, r)
	}
	b.mu.Unlock()
	errs := make([]error, len(open)+1)
	var wg sync.WaitGroup
	for i, r := range open {
		wg.Go(func() { errs[i] = r.Close(ctx) })
	}
	wg.Wait()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	errs[len(open)] = wait.End(ctx, &b.wg) // the last call ends by the timeouts of the client
	return errors.Join(errs...)
}

// start runs f in a goroutine that Close waits for. A closed broker starts
// nothing.
func (b *broker) start(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Go(f)
	return true
}

// call is one run of a script, or one command.
type call struct {
	script *redis.Script // nil: args are a command, with its first key after seven of them
	keys   []string
	args   []any
	cmd    *redis.Cmd
}

// run runs calls in one pipeline. Each has its own result. With once, the
// client does not send a call again whose answer was lost.
func (b *broker) run(ctx context.Context, once bool, calls ...*call) {
	again := b.send(ctx, once, calls, func(p redis.Pipeliner, c *call) *redis.Cmd {
		if c.script != nil {
			return c.script.EvalSha(ctx, p, c.keys, c.args...)
		}
		cmd := redis.NewCmd(ctx, c.args...)
		cmd.SetFirstKeyPos(readKey)
		_ = p.Process(ctx, cmd)
		return cmd
	})
	if len(again) > 0 { // the server has lost its scripts
		b.send(ctx, once, again, func(p redis.Pipeliner, c *call) *redis.Cmd {
			return c.script.Eval(ctx, p, c.keys, c.args...)
		})
	}
}

func (b *broker) send(ctx context.Context, once bool, calls []*call, how func(redis.Pipeliner, *call) *redis.Cmd) (again []*call) {
	p := b.client.Pipeline()
	for _, c := range calls {
		if once { // go-redis repeats no pipeline that has such a command
			_ = p.Process(ctx, redis.NewZeroCopyStringCmd(ctx, make([]byte, 256), "get", c.keys[1]))
		}
		c.cmd = how(p, c)
	}
	_, _ = p.Exec(ctx) // each command has its own error
	for _, c := range calls {
		if err := c.cmd.Err(); err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
			again = append(again, c)
		}
	}
	return again
}

// Declare implements driver.Declarer.
func (b *broker) Declare(ctx context.Context, s driver.Subscription) error {
	return wait.Call(ctx, b.start, func() error {
		for i, topic := range slices.Concat(s.Topics, s.DeadLetters) {
			group := s.Group
			if i >= len(s.Topics) {
				group = ""
			}
			record := b.names.topic(topic)
			if err := b.client.HSetNX(ctx, record, "partitions", b.partitions).Err(); err != nil {
				return fmt.Errorf("topic %q: %w", topic, err)
			}
			n, err := b.look(ctx, topic)
			if err == nil {
				err = b.makeStreams(ctx, topic, n, group)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *broker) makeStreams(ctx context.Context, topic string, partitions int, group string) error {
	calls := make([]*call, partitions)
	for p := range calls {
		calls[p] = &call{script: declareScript, keys: []string{b.names.stream(topic, p)}, args: []any{group}}
	}
	b.run(ctx, false, calls...)
	for _, c := range calls {
		if err := c.cmd.Err(); err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
	}
	return nil
}

// Verify implements driver.Declarer.
func (b *broker) Verify(ctx context.Context, s driver.Subscription) error {
	return wait.Call(ctx, b.start, func() error {
		var missing []string
		for _, topic := range slices.Concat(s.Topics, s.DeadLetters) {
			if _, err := b.look(ctx, topic); errors.Is(err, driver.ErrUnroutable) {
				missing = append(missing, fmt.Sprintf("%q", topic))
			} else if err != nil {
				return err
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%w: %s", driver.ErrUnroutable, strings.Join(missing, ", "))
		}
		return nil
	})
}

// look asks the server how many partitions topic has.
func (b *broker) look(ctx context.Context, topic string) (int, error) {
	n, err := b.client.HGet(ctx, b.names.topic(topic), "partitions").Int()
	switch {
	case errors.Is(err, redis.Nil):
		err = fmt.Errorf("%w: %q", driver.ErrUnroutable, topic)
	case err == nil && (n < 1 || n > maxPartitions):
		err = fmt.Errorf("topic %q: its record %s says %d partitions: 1 to %d are possible", topic, b.names.topic(topic), n, maxPartitions)
	case err != nil:
		err = fmt.Errorf("topic %q: %w", topic, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		delete(b.known, topic)
		return 0, err
	}
	b.known[topic] = n
	return n, nil
}

// Lag implements driver.Lagger.
func (b *broker) Lag(ctx context.Context, topic, group string) (int64, time.Duration, error) {
	type lag struct {
		n      int64
		oldest time.Duration
	}
	all, err := wait.Answer(ctx, b.start, func() (lag, error) {
		n, err := b.look(ctx, topic)
		if err != nil {
			return lag{}, err
		}
		calls := make([]*call, n)
		for p := range calls {
			calls[p] = &call{script: lagScript, keys: []string{b.names.stream(topic, p)}, args: []any{group}}
		}
		b.run(ctx, false, calls...)
		var sum lag
		for _, c := range calls {
			x, err := c.cmd.Int64Slice()
			if errors.Is(err, redis.Nil) {
				err = fmt.Errorf("topic %q has no group %q", topic, group)
			}
			if err != nil {
				return lag{}, err
			}
			sum.n += x[0]
			sum.oldest = max(sum.oldest, time.Duration(x[1])*time.Millisecond)
		}
		return sum, nil
	}, nil)
	return all.n, all.oldest, err
}
