package redisstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// Publish implements driver.Publisher: one pipeline, in which each message has
// its own answer.
func (b *broker) Publish(ctx context.Context, msgs []driver.Message) []error {
	errs := make([]error, len(msgs))
	fail := func(err error) []error {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	own := make([]driver.Message, len(msgs)) // the client may read them beyond the end of ctx
	for i := range msgs {
		own[i] = msgs[i]
		own[i].Body = bytes.Clone(msgs[i].Body)
		own[i].Headers = cloneHeaders(msgs[i].Headers)
	}
	sent, err := wait.Answer(ctx, b.start, func() ([]error, error) { return b.append(ctx, own), nil }, nil)
	switch {
	case errors.Is(err, wait.ErrLate):
		return fail(fmt.Errorf("%w: %w", driver.ErrUnknown, err))
	case err != nil:
		return fail(err)
	}
	return sent
}

func (b *broker) append(ctx context.Context, msgs []driver.Message) []error {
	errs := make([]error, len(msgs))
	cmds := make([]*redis.ZeroCopyStringCmd, len(msgs))
	ids := make([]byte, 48*len(msgs)) // an entry's ID has 41 bytes at most
	pipe := b.client.Pipeline()
	for i := range msgs {
		m := &msgs[i]
		if n := m.Size(); n > maxBytes {
			errs[i] = fmt.Errorf("%w: %d bytes, at most %d", driver.ErrTooLarge, n, maxBytes)
			continue
		}
		stream, err := b.route(ctx, m)
		if err != nil {
			errs[i] = err
			continue
		}
		args := append(make([]any, 0, 16+2*len(m.Headers)), "xadd", stream, "nomkstream", "*")
		// This kind of command is never sent again by the client: whether the
		// first one arrived, nobody knows.
		cmds[i] = redis.NewZeroCopyStringCmd(ctx, ids[48*i:48*(i+1)], appendFields(args, m)...)
		_ = pipe.Process(ctx, cmds[i])
	}
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	for i, cmd := range cmds {
		if cmd == nil {
			continue
		}
		errs[i] = judge(cmd.Err(), msgs[i].Topic)
		if errors.Is(errs[i], driver.ErrUnroutable) {
			b.mu.Lock()
			delete(b.known, msgs[i].Topic)
			b.mu.Unlock()
		}
	}
	return errs
}

// route returns the stream of m's partition.
func (b *broker) route(ctx context.Context, m *driver.Message) (string, error) {
	b.mu.Lock()
	n := b.known[m.Topic]
	b.mu.Unlock()
	if n == 0 {
		var err error
		if n, err = b.look(ctx, m.Topic); err != nil {
			return "", err
		}
	}
	if m.Key != "" {
		return b.names.stream(m.Topic, partitionOf(m.Key, n)), nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn++
	return b.names.stream(m.Topic, b.turn%n), nil
}

// judge says what an error of XADD means. An answer of the server is a refusal,
// and so is a connection that never was; anything else leaves the fate open.
func judge(err error, topic string) error {
	var (
		reply redis.Error
		op    *net.OpError
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return fmt.Errorf("%w: %q", driver.ErrUnroutable, topic)
	case redis.HasErrorPrefix(err, "OOM"):
		return fmt.Errorf("the server's memory is full (maxmemory): topic %q takes nothing until groups that are behind have settled, or the limit is raised: %w", topic, err)
	case errors.As(err, &reply):
		return fmt.Errorf("topic %q: %w", topic, err)
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, redis.ErrClosed), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return fmt.Errorf("topic %q: %w", topic, err)
	}
	return fmt.Errorf("%w: topic %q: %w", driver.ErrUnknown, topic, err)
}

func cloneHeaders(h driver.Headers) driver.Headers {
	if h == nil {
		return nil
	}
	out := make(driver.Headers, len(h))
	for i := range h {
		out[i] = driver.Header{Key: h[i].Key, Value: bytes.Clone(h[i].Value)}
	}
	return out
}
