package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// link is one connection with one channel to publish on, in confirm mode. Two
// goroutines belong to it: write, which writes calls one after the other, and
// listen, which hears of returned messages, alarms and the end.
type link struct {
	conn *conn
	ch   *amqp.Channel

	calls   chan *call
	heard   chan struct{} // taken by listen when it has booked everything before
	given   chan leftover
	dead    chan struct{} // closed when the channel is
	ended   chan struct{} // closed when listen is through
	returns atomic.Int64  // returned messages that nobody has asked for

	mu       sync.Mutex
	cause    *amqp.Error
	unwanted map[parcelKey]*unwanted
	left     []leftover // as they were written
	alarm    string
	moved    chan struct{} // closed when alarm changes
}

func newLink(c *conn) (*link, error) {
	ch, err := c.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		return nil, fmt.Errorf("opening a channel: %w", err)
	}
	l := &link{
		conn: c, ch: ch, calls: make(chan *call), heard: make(chan struct{}), given: make(chan leftover),
		dead: make(chan struct{}), ended: make(chan struct{}), unwanted: make(map[parcelKey]*unwanted), moved: make(chan struct{}),
	}
	// Unbuffered: the client goes on to a message's confirmation only when
	// listen has taken its return.
	returns := ch.NotifyReturn(make(chan amqp.Return))
	blocking := c.NotifyBlocked(make(chan amqp.Blocking, 8))
	closing := ch.NotifyClose(make(chan *amqp.Error, 1))
	go l.listen(returns, blocking, closing) // ends with the channel
	return l, nil
}

func (l *link) listen(returns <-chan amqp.Return, blocking <-chan amqp.Blocking, closing <-chan *amqp.Error) {
	defer close(l.ended)
	for returns != nil || blocking != nil || closing != nil {
		select {
		case r, ok := <-returns:
			if !ok {
				returns = nil
				continue
			}
			l.book(&r)
		case b, ok := <-blocking:
			if !ok {
				blocking = nil
				continue
			}
			l.setAlarm(b)
		case e, ok := <-closing:
			if ok {
				l.mu.Lock()
				l.cause = e
				l.mu.Unlock()
				continue
			}
			closing = nil
			close(l.dead)
			l.conn.kill() // one channel is all there is to it
		case l.heard <- struct{}{}:
		case x := <-l.given:
			l.keep(x)
		}
	}
}

func (l *link) setAlarm(b amqp.Blocking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alarm = ""
	if b.Active {
		l.alarm = "memory or disk alarm: " + b.Reason
	}
	close(l.moved)
	l.moved = make(chan struct{})
}

// blocked returns why the server does not read, or "", and a channel that is
// closed when that changes.
func (l *link) blocked() (reason string, moved <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alarm, l.moved
}

func (l *link) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return l.ch.IsClosed()
	}
}

// why returns what the channel ended with.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		return errors.New("the connection was closed")
	}
	return fmt.Errorf("the connection was lost: %w", l.cause)
}

var errBlocked = errors.New("the server does not take messages")

// take hands c to write. An error means that nothing of it was sent.
func (l *link) take(ctx context.Context, c *call) error {
	for {
		reason, moved := l.blocked()
		calls := l.calls
		if reason != "" {
			calls = nil // what is written now would fill buffers and block others
		}
		select {
		case calls <- c:
			return nil
		case <-moved:
		case <-l.dead:
			return l.why()
		case <-ctx.Done():
			if reason != "" {
				return fmt.Errorf("%w (%s): %w", errBlocked, reason, context.Cause(ctx))
			}
			return context.Cause(ctx)
		}
	}
}

func (l *link) write() {
	for {
		select {
		case c := <-l.calls:
			l.writeAll(c)
		case <-l.dead:
			return
		}
	}
}

// writeAll writes c, and with it what other callers have ready: so many callers
// cost little more than one.
func (l *link) writeAll(c *call) {
	l.conn.raw.gather()
	defer l.conn.raw.flush()
	for {
		l.writeCall(c, l.publish)
		if c = l.more(); c == nil {
			return
		}
	}
}

func (l *link) writeCall(c *call, send func(*parcel) (confirmation, error)) {
	if p := c.write(send); p != nil {
		l.give(p)
	}
}

// more returns a call that is there already, or is when others have had their
// turn: those whose confirmations have just come are about to publish again.
func (l *link) more() *call {
	for range 2 {
		select {
		case c := <-l.calls:
			return c
		default:
			runtime.Gosched()
		}
	}
	return nil
}

func (l *link) publish(p *parcel) (confirmation, error) {
	d, err := l.ch.PublishWithDeferredConfirm(p.exchange, p.key, true, false, p.Publishing)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// end closes the connection. Who still waits for a confirmation then gets
// driver.ErrUnknown.
func (l *link) end(ctx context.Context) error {
	err := l.conn.end(ctx)
	select {
	case <-l.ended:
	case <-ctx.Done():
		err = errors.Join(err, context.Cause(ctx))
	}
	return err
}

// lost is the outcome of a message whose confirmation never comes.
func (l *link) lost() error { return fmt.Errorf("%w: %w", driver.ErrUnknown, l.why()) }
