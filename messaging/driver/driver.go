package driver

import (
	"context"
	"errors"
	"time"
)

// What a driver's errors wrap where the front must tell cases apart. Any other
// error is a failure whose message was certainly not taken (Publish) or that
// may pass (Receive, Settle, Subscribe).
var (
	// ErrUnknown marks a message of which nobody knows whether the broker
	// holds it: it was sent, and the confirmation was lost.
	ErrUnknown = errors.New("outcome unknown: the broker's confirmation did not arrive")
	// ErrUnroutable marks a topic that does not exist or leads nowhere.
	ErrUnroutable = errors.New("no such topic, or nothing is bound to it")
	// ErrTooLarge marks a message over the broker's limit.
	ErrTooLarge = errors.New("message is larger than the broker takes")
	// ErrRevoked marks deliveries that the receiver no longer owns.
	ErrRevoked = errors.New("delivery was revoked: its partition moved to another consumer")
	// ErrClosed marks the use of a closed broker or receiver.
	ErrClosed = errors.New("closed")
)

// Publisher puts messages where they are durable.
type Publisher interface {
	// Publish sends msgs and waits until each is held, refused or unknown, or
	// ctx ends. The result is aligned with msgs and as long; nil means that
	// the broker holds the message; an error that wraps ErrUnknown, that it
	// may. A message whose fate is open when ctx ends is unknown.
	// Messages of one topic and key are held in the order given; if one of
	// them fails, later ones of the same key may still be held.
	// The messages are the front's copies, but the bodies are the caller's:
	// none is changed, or used after the return.
	// Safe for concurrent use.
	Publish(ctx context.Context, msgs []Message) []error
}

// Broker is a connection to one broker or cluster. All methods are safe for
// concurrent use. An adapter's Open does what I/O is needed and gives the
// Broker to messaging.NewBroker.
type Broker interface {
	Publisher
	// Capabilities says what the broker can do. It is constant.
	Capabilities() Capabilities
	// Subscribe makes a member of a group. It may return before the broker
	// has assigned anything to it; that happens inside Receive. A topic
	// that does not exist is ErrUnroutable and named.
	Subscribe(ctx context.Context, s Subscription) (Receiver, error)
	// Health returns nil if the broker answers.
	Health(ctx context.Context) error
	// Close frees what the broker holds, also the receivers that are still
	// open. A second call does nothing and returns nil.
	Close(ctx context.Context) error
}

// Capabilities are the abilities the front asks about before it promises
// something.
type Capabilities struct {
	// Name is the broker's name in telemetry, the messaging.system of
	// OpenTelemetry: kafka, rabbitmq, redis, memory.
	Name string
	// Durable: what is held survives the death of this process.
	Durable bool
	// Held says what this broker's settings make of "held", where they decide
	// how much a crash of the server takes: "on disk within about a second
	// (appendfsync everysec)". It becomes a part of Consumer.Guarantee. Empty:
	// there is nothing to add.
	Held string
	// KeyOrder: see the package comment.
	KeyOrder bool
	// Delay: the Retry action waits at the broker, for any duration given in
	// Subscription.Delays, and a crash in between loses neither the message
	// nor its new headers. Without it the front waits itself, holding the
	// delivery, and never sends Retry.
	//
	// Unless the subscription is Unordered, the key waits with the message.
	// Once Settle has returned, no Receive that begins afterwards hands out
	// anything of that key until all of it that was handed out before has
	// been settled too (the front gives it back with Requeue), and until the
	// delay has passed; then the key goes on in its order, the retried
	// message first, with a higher Delivery.Turn.
	Delay bool
	// DelayUnordered: the Retry action waits at the broker as Delay says, but
	// only for Unordered subscriptions: the broker cannot hold a key back.
	// Where order is kept, the front waits itself. Not set beside Delay.
	DelayUnordered bool
	// Notes: where the front waits itself, the broker remembers a Note beside
	// the delivery that waits, and receivers are Noters. Without Notes and
	// without delays, a crash makes the count of attempts begin anew.
	Notes bool
	// Replay: a group that is new to a topic begins at the oldest message
	// there is. Without it, a group gets what is published once it has been
	// declared.
	Replay bool
	// MaxBytes limits Message.Size of one message; 0: no limit known.
	MaxBytes int
}

// Subscription says what a member of a group wants.
type Subscription struct {
	// Topics to receive from; at least one, each once.
	Topics []string
	// Group shares the messages among its members. Empty only in Declare and
	// Verify: the topics are for publishing.
	Group string
	// Prefetch is the most deliveries the front will hold unsettled, a hint
	// for brokers that push. Receive's limit is binding. Positive.
	Prefetch int
	// Delays are the durations Retry will be used with; empty where it is
	// not used.
	Delays []time.Duration
	// DeadLetters are the topics that dead letters will be published to.
	DeadLetters []string
	// Unordered: order by key is not asked for. A retried message need not
	// hold back its key, and one key may go to several members at once.
	Unordered bool
	// Drain is how long the front may take to give back a delivery after
	// Lost is closed. A driver that can wait before the next owner starts
	// waits that long at most, or less where its broker would expel it.
	Drain time.Duration
}

// Receiver is one member of a group. Receive is called by one goroutine at a
// time, Settle by one at a time, both at the same time.
type Receiver interface {
	// Receive waits until there is at least one delivery and returns between
	// one and limit of them, in order. It returns an error, and no
	// deliveries, when ctx ends or the receiver is closed. A driver
	// reconnects by itself where its client does; any other error makes the
	// front close the receiver and subscribe anew, after a pause.
	Receive(ctx context.Context, limit int) ([]Delivery, error)
	// Settle says what became of deliveries and returns once the broker
	// knows. Every delivery is settled once, in any order, also one that was
	// lost: that is how a driver learns that nobody works on it any more.
	// Lost deliveries are refused, whatever the action. An error that wraps
	// ErrRevoked means just that: some were lost, their Lost is closed by
	// now, and all others took effect. On any other error the front settles the same deliveries
	// again, so what took effect already must be accepted and ignored, and what can take
	// effect does, although something beside it does not. An error that wraps ErrTooLarge
	// means a Retry that never will, as its copy is larger than the broker takes: the
	// front settles each alone, to learn which, and lets that one wait itself.
	Settle(ctx context.Context, s []Settlement) error
	// Close leaves the group. What is not settled is delivered again, to
	// whoever is a member then, and nothing else, as long as the broker can be
	// told. Receive, if it waits, returns ErrClosed. A second call returns nil.
	Close(ctx context.Context) error
}

// Delivery is one message handed out.
type Delivery struct {
	// Message as it was published, with the headers of its last Retry. Body
	// and headers belong to the receiver's caller.
	Message
	// Attempt counts the deliveries to this group since the message was
	// published or last retried, from 1, as far as the broker counts them: a
	// poison message that kills its consumers is caught by it. Requeued and
	// revoked deliveries do not count. 0: the broker does not count.
	Attempt int
	// FirstSeen is when the group first got it; zero: the broker does not know.
	FirstSeen time.Time
	// Position says where the message is, in the broker's own words
	// ("3/1042": partition and offset), for logs and people.
	Position string
	// Lane names the partition, queue or stream the delivery came from.
	// Deliveries of one lane arrive in the order of the lane.
	Lane string
	// Turn tells what was handed out before something of the key was put back
	// (Retry, Requeue, a revocation) from what is handed out since: it rises
	// when the key goes on, and is the same for deliveries of a key that are
	// out together. The front gives back what a Retry has made stale by it.
	// From 1 with Capabilities.Delay; 0 without.
	Turn uint64
	// Note is what the group had noted of it and not settled since, nil if
	// nothing: it waits, or ran when its consumer died.
	Note *Note
	// Lost is closed when the delivery no longer belongs to the receiver.
	// Nil: that cannot happen. Deliveries of one assignment share a channel.
	Lost <-chan struct{}
	// Doubt is asked before anything is begun on the delivery. It returns nil
	// while nobody else can have it, else a channel that is closed when it is
	// to be asked again: a receiver that its broker does not answer may have
	// been replaced, and not know. Nil: there is no doubt until Lost is closed.
	// It is safe for concurrent use, and cheap.
	Doubt func() <-chan struct{}
	// Native is the client library's own message, or nil: what
	// messaging.Delivery.Native gives to programs.
	Native any
	// Handle is the driver's own: the front passes it back in Settle,
	// untouched, and looks at nothing in it.
	Handle any
}

// Settlement is what became of a delivery.
type Settlement struct {
	// Delivery as it was received. For Retry its Headers may differ: they are
	// the ones to deliver next time. Other fields are not changed.
	Delivery Delivery
	// Action is what to do.
	Action Action
	// Delay is the least time until the next delivery; Retry only.
	Delay time.Duration
}

// Action is what Settle does with a delivery. The zero value is none of them
// and is refused.
type Action int

const (
	// Ack ends the message for this group.
	Ack Action = iota + 1
	// Requeue puts it back in its place, to be delivered again at once. No
	// attempt is counted.
	Requeue
	// Retry delivers it again after Delay, with the headers of the
	// settlement. Only with the delays that Subscription.Delays names.
	Retry
)

// String returns the name of a.
func (a Action) String() string {
	switch a {
	case Ack:
		return "ack"
	case Requeue:
		return "requeue"
	case Retry:
		return "retry"
	}
	return "no action"
}

// Note is what a group remembers of a message whose retry waits in the front.
type Note struct {
	// Attempts is the number of deliveries that are used up.
	Attempts int
	// FirstSeen is when the group got the message first; to the millisecond.
	FirstSeen time.Time
	// NotBefore is when the next attempt is due; to the millisecond, later
	// rather than sooner.
	NotBefore time.Time
	// LastError is the text of the last failure. A broker with little room may
	// cut it.
	LastError string
}

// Noted is a delivery with its note.
type Noted struct {
	Delivery Delivery
	Note     Note
}

// Noter is a Receiver with Capabilities.Notes.
type Noter interface {
	Receiver
	// Note remembers the notes and returns when the broker has them: should
	// this receiver die, the next delivery of the message comes with the last
	// one as Delivery.Note, in its place in the order. Settling forgets it,
	// unless the action is Requeue. The delivery stays handed out, and its key
	// is the front's to hold back. A note about a lost delivery is ignored, a
	// note about one that was settled harms nobody.
	// Called by one goroutine at a time, beside Receive and Settle.
	Note(ctx context.Context, notes []Noted) error
}

// Declarer is implemented by brokers whose topics are made and checked by
// clients. Both methods look at Topics, Group, Delays and DeadLetters; with an
// empty Group, at Topics only.
type Declarer interface {
	// Declare makes what is missing and changes nothing that exists.
	Declare(ctx context.Context, s Subscription) error
	// Verify returns an error that wraps ErrUnroutable and names everything
	// that is missing or unfit, or nil.
	Verify(ctx context.Context, s Subscription) error
}

// Lagger is implemented by brokers that know how far behind a group is.
type Lagger interface {
	// Lag returns the number of messages of topic that group has not settled,
	// and the age of the oldest of them, 0 if there is none.
	Lag(ctx context.Context, topic, group string) (messages int64, oldest time.Duration, err error)
}
