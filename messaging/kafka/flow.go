package kafka

import (
	"time"

	"github.com/IBM/sarama"
)

const (
	// From easy records on, the client is held up for linger before it may hand
	// over another one: who handles thousands in a second never sees a pause of
	// fetching, which the client ends a tenth of a second late. With most
	// records or bytes, fetching pauses; what has been fetched by then still
	// comes, one response at most.
	easy      = 512
	linger    = time.Millisecond
	most      = 4096
	mostBytes = 8 << 20
	// What a record and a header take in memory besides their bytes.
	recordBytes, headerBytes = 256, 64
	// maxGap bounds the records of a partition beyond the first that is not
	// settled, where what is settled of them cannot be written down: what a
	// restart delivers again. farGap bounds them where it can.
	maxGap = 16384
	farGap = 1 << 18
)

// size is what m takes in memory.
func size(m *sarama.ConsumerMessage) int {
	n := recordBytes + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += headerBytes + len(h.Key) + len(h.Value)
	}
	return n
}

// flow pauses and resumes fetching. It is called under the receiver's lock
// whenever the queue or the gap has changed. The client pauses partitions, not
// claims: what was paused when a claim ends stays so for the next one, and a
// claim that has ended would speak for it.
func (c *claim) flow() {
	if c.revoked {
		return
	}
	gap := farGap
	if c.overflow {
		gap = maxGap
	}
	full := len(c.queue) >= most || c.bytes >= mostBytes || c.done.Gap() >= gap
	room := len(c.queue) < most/2 && c.bytes < mostBytes/2 && c.done.Gap() < gap*3/4
	if len(c.queue) < easy {
		select {
		case c.room <- struct{}{}:
		default:
		}
	}
	switch {
	case full && !c.paused:
		c.paused = true
		c.receiver.group.Pause(map[string][]int32{c.topic: {c.partition}})
	case room && c.paused:
		c.resume()
	}
}

func (c *claim) resume() {
	c.paused = false
	c.receiver.group.Resume(map[string][]int32{c.topic: {c.partition}})
}
