package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// RabbitMQ keeps no state for a message that waits in a consumer. What was noted
// of it is written to a stream beside the queue, which does not forget what is
// read. Whoever gets the message again, which the server then marks as
// redelivered, reads the stream once, from its beginning up to a mark of its
// own. Notes are found by the ID of the message.

const (
	// headerDue is when a noted message is due, RFC 3339 in UTC; headerMark says
	// that this is no note, and headerGone that what was noted is settled.
	headerDue, headerMark, headerGone = wire.Prefix + "not-before", wire.Prefix + "mark", wire.Prefix + "settled"
	// A stream is cut by whole segments when it is longer than notesBytes.
	notesBytes, notesSegment = 16 << 20, 4 << 20
	// reading bounds how long a queue stands still for its notes.
	reading = 10 * time.Second
	// marking bounds the time to say what is settled.
	marking = 5 * time.Second
)

func notesQueue(topic, group string, p int) queue {
	return queue{notesName(partitionName(topic, group, p)), amqp.Table{
		amqp.QueueTypeArg: amqp.QueueTypeStream, "x-max-length-bytes": int64(notesBytes), "x-stream-max-segment-size-bytes": int64(notesSegment),
	}}
}

func noteParcel(l *lane, id string, headers amqp.Table) parcel {
	return parcel{key: notesName(l.name), Publishing: amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: id, Headers: headers}}
}

// Note implements driver.Noter. An unordered group has none: its retries wait at
// the server.
func (r *receiver) Note(ctx context.Context, notes []driver.Noted) error {
	select {
	case r.noting <- struct{}{}:
		defer func() { <-r.noting }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var parcels []parcel
	r.mu.Lock()
	for i := range notes {
		t, ok := notes[i].Delivery.Handle.(*ticket)
		if !ok || t.lane.r != r || t.lane.revoked || t.acked || r.sub.Unordered {
			continue
		}
		n := &notes[i].Note
		t.lane.noted[t.msg.ID] = *n
		parcels = append(parcels, noteParcel(t.lane, t.msg.ID, amqp.Table{
			wire.Attempts: strconv.Itoa(n.Attempts), wire.FirstSeen: n.FirstSeen.UTC().Format(time.RFC3339Nano),
			headerDue: n.NotBefore.UTC().Format(time.RFC3339Nano), wire.Error: text([]byte(n.LastError)),
		}))
	}
	r.mu.Unlock()
	return r.write(ctx, parcels)
}

func (r *receiver) write(ctx context.Context, parcels []parcel) error {
	r.broker.pub.send(ctx, parcels)
	var errs []error
	for i := range parcels {
		if err := parcels[i].err; err != nil {
			errs = append(errs, fmt.Errorf("noting message %q in %q: %w", parcels[i].MessageId, parcels[i].key, err))
		}
	}
	return errors.Join(errs...)
}

// forget says that what was noted of ts is settled: another message may have
// their IDs one day, a dead letter that is sent back. Should it not get
// through, only that one would be counted on.
func (r *receiver) forget(ts []*ticket) {
	var parcels []parcel
	r.mu.Lock()
	for _, t := range ts {
		if _, ok := t.lane.noted[t.msg.ID]; ok && t.acked {
			delete(t.lane.noted, t.msg.ID)
			parcels = append(parcels, noteParcel(t.lane, t.msg.ID, amqp.Table{headerGone: true}))
		}
	}
	r.mu.Unlock()
	if len(parcels) > 0 {
		r.wg.Go(func() { _ = r.mark(parcels) })
	}
}

// mark writes what forget has found, after what is being noted: the last one
// counts.
func (r *receiver) mark(parcels []parcel) error {
	leaving, end := r.lasting(beatEvery)
	defer end()
	ctx, cancel := context.WithTimeout(leaving, marking)
	defer cancel()
	select {
	case r.noting <- struct{}{}:
		defer func() { <-r.noting }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return r.write(ctx, parcels)
}

// recall reads the notes of a queue. The mark may not be written while the
// server is short of memory: then what was read by the end of its time counts.
func (l *lane) recall() (map[string]driver.Note, error) {
	fail := func(err error) (map[string]driver.Note, error) {
		return nil, fmt.Errorf("reading what was noted of queue %q: %w", l.name, err)
	}
	ch, err := l.r.conn.Channel()
	if err != nil {
		return fail(err)
	}
	defer func() { _ = ch.Close() }()
	const most = 1000
	if err := ch.Qos(most, 0, false); err != nil {
		return fail(err)
	}
	in, err := ch.Consume(notesName(l.name), "", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
	if code(err) == amqp.NotFound {
		return map[string]driver.Note{}, nil // declared by a version that noted nothing
	}
	if err != nil {
		return fail(err)
	}
	mark := rand.Text()
	ctx, cancel := context.WithTimeout(context.Background(), reading)
	defer cancel()
	l.r.wg.Go(func() { _ = l.r.write(ctx, []parcel{noteParcel(l, mark, amqp.Table{headerMark: true})}) })
	notes := make(map[string]driver.Note)
	for n := 1; ; n++ {
		select {
		case d, ok := <-in:
			if !ok {
				return fail(errors.New("the server ended it"))
			}
			if d.MessageId == mark {
				return notes, nil
			}
			readNote(notes, &d)
			if n%(most/2) == 0 {
				if err := ch.Ack(d.DeliveryTag, true); err != nil {
					return fail(err)
				}
			}
		case <-ctx.Done():
			return notes, nil
		case <-l.r.gone:
			return notes, nil
		}
	}
}

func readNote(notes map[string]driver.Note, d *amqp.Delivery) {
	h := d.Headers
	attempts, err := strconv.Atoi(printed(h[wire.Attempts]))
	if h[headerGone] != nil || h[headerMark] != nil || err != nil || attempts < 1 {
		delete(notes, d.MessageId)
		return
	}
	n := driver.Note{Attempts: attempts, LastError: printed(h[wire.Error])}
	n.FirstSeen, _ = time.Parse(time.RFC3339Nano, printed(h[wire.FirstSeen]))
	n.NotBefore, _ = time.Parse(time.RFC3339Nano, printed(h[headerDue]))
	notes[d.MessageId] = n
}
