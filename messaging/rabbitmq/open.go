package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging"
)

// Options are the settings of a connection to RabbitMQ.
type Options struct {
	// Messaging are the options of every broker.
	Messaging messaging.Options
	// AMQP is where the client's settings begin: TLS, SASL, virtual host,
	// heartbeat, client properties, a dialer. It is copied. Recovery is not
	// used: connections are made anew here. Nil: the client's defaults, and
	// what the URL says.
	AMQP *amqp.Config
	// Partitions is the number of queues of an ordered group for each topic
	// it consumes, at most 64, and with it the most members of the group that
	// can work at a time. The same for all members; it is refused if it
	// differs from what is declared. Default: 8.
	Partitions int
	// MaxBytes is the largest body, in bytes, that the server takes: its
	// max_message_size. Default: 16 MiB, which is RabbitMQ 4's; earlier
	// versions take 128 MiB. A body over the server's limit costs a
	// connection, so it is refused here.
	MaxBytes int
}

// Open connects to the server at url, "amqp://user:password@host:5672/vhost"
// or amqps for TLS; several nodes stand behind one name or a load balancer. It
// returns within ctx: with an error that names the host if it does not answer
// or refuses the credentials. It tries once; a program that may start before
// its broker calls it again. o may be nil.
func Open(ctx context.Context, url string, o *Options) (*messaging.Broker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	fail := func(err error) (*messaging.Broker, error) {
		return nil, &messaging.Error{Op: "open", Err: fmt.Errorf("rabbitmq at %s: %w", hostOf(url), err)}
	}
	if opts.Partitions < 0 || opts.Partitions > slots || opts.MaxBytes < 0 {
		return fail(fmt.Errorf("%w: Partitions is %d, it must be 1 to %d, or 0 for 8; MaxBytes is %d, it must not be negative",
			messaging.ErrConfig, opts.Partitions, slots, opts.MaxBytes))
	}
	if _, err := amqp.ParseURI(url); err != nil {
		return fail(fmt.Errorf("%w: the URL is not one of AMQP: %s", messaging.ErrConfig, withoutURL(err)))
	}
	if opts.Partitions == 0 {
		opts.Partitions = 8
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 16 << 20
	}
	b := newBroker(url, &opts)
	if err := b.Health(ctx); err != nil {
		_ = b.Close(ctx)
		return fail(err)
	}
	return messaging.NewBroker(b, &opts.Messaging), nil
}

// hostOf returns what may be shown of a URL that may hold a password.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "?"
	}
	return u.Host + u.Path
}

// withoutURL takes the URL, and its password, out of the error of a parser.
func withoutURL(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
