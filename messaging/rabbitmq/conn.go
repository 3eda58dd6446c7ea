package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// conn is one connection of the client, with what it stands on.
type conn struct {
	*amqp.Connection
	raw *guard
}

// kill ends the connection without a word to the server. It does not block.
func (c *conn) kill() { c.raw.cut() }

// end closes the connection, politely until ctx ends.
func (c *conn) end(ctx context.Context) error {
	defer context.AfterFunc(ctx, c.kill)()
	deadline := time.Now().Add(5 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.CloseDeadline(deadline); err != nil && !errors.Is(err, amqp.ErrClosed) {
		c.kill()
		return fmt.Errorf("closing a connection: %w", err)
	}
	return nil
}

// dial makes a connection for purpose, within ctx.
func (b *broker) dial(ctx context.Context, purpose string) (*conn, error) {
	dialing, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := wait.Answer(dialing, b.start, func() (*conn, error) { return b.connect(dialing, purpose) }, (*conn).kill)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return c, nil
}

func (b *broker) connect(ctx context.Context, purpose string) (*conn, error) {
	config := b.base
	config.Recovery = nil
	if config.TLSClientConfig != nil {
		config.TLSClientConfig = config.TLSClientConfig.Clone() // the client writes into it
	}
	if config.Properties = maps.Clone(config.Properties); config.Properties == nil {
		config.Properties = amqp.NewConnectionProperties()
	}
	if _, ok := config.Properties["connection_name"]; !ok {
		config.Properties.SetClientConnectionName("mainstay " + purpose)
	}
	own, raw := config.Dial, new(guard)
	config.Dial = func(network, addr string) (net.Conn, error) {
		var (
			c   net.Conn
			err error
		)
		if own != nil {
			c, err = own(network, addr)
		} else {
			c, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		if err != nil {
			return nil, err
		}
		raw.hold(c)
		if err := context.Cause(ctx); err != nil {
			raw.cut()
			return nil, err
		}
		return raw, nil
	}
	stop := context.AfterFunc(ctx, raw.cut)
	c, err := amqp.DialConfig(b.url, config)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		raw.cut()
		return nil, err
	}
	return &conn{Connection: c, raw: raw}, nil
}

// reason returns what the server said, or "".
func reason(err error) string {
	if e, ok := errors.AsType[*amqp.Error](err); ok {
		return e.Reason
	}
	return ""
}

// code returns the reply code of an error of the server, or 0.
func code(err error) int {
	if e, ok := errors.AsType[*amqp.Error](err); ok {
		return e.Code
	}
	return 0
}
