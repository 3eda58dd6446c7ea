package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// A group's position in a partition is one number, and Kafka keeps a short text
// beside it. There stands what the number cannot say: what is settled beyond
// it, and what was noted of the messages that wait for a retry. All of it counts
// from the position, so the text says which that is: a topic that was deleted and
// made anew is read from elsewhere, and whoever copies positions to where offsets
// differ, as MirrorMaker does, copies the text as it is. Believed there, it would
// have messages skipped that nobody has settled.

const (
	// memoPrefix begins the text, for whoever reads it, and for versions to come.
	memoPrefix = "mainstay2:"
	// memoRoom is the text's length that brokers take by default
	// (offset.metadata.max.bytes is 4096).
	memoRoom = 4000
	// memoError is how much of an error's text is kept, memoErrors how many.
	memoError, memoErrors = 120, 64
	// memoFrame is what the position, the base and two counts take at most.
	memoFrame = 2*binary.MaxVarintLen64 + 2*binary.MaxVarintLen16
)

// memo is what is known of a partition beyond the position.
type memo struct {
	notes map[int64]driver.Note
	done  []span
}

// span is settled offsets, from the first to before the second.
type span struct{ from, to int64 }

// settled reports whether offset is in a span. Offsets are asked for as they rise.
func (m *memo) settled(offset int64) bool {
	for len(m.done) > 0 && m.done[0].to <= offset {
		m.done = m.done[1:]
	}
	return len(m.done) > 0 && m.done[0].from <= offset
}

// encodeMemo returns a text of at most room bytes; complete is false if
// something had to be left out: texts of errors first, then notes and spans of
// the highest offsets, since all before them must be known again first.
func encodeMemo(position int64, notes map[int64]driver.Note, done iter.Seq2[int64, int64], room int) (text string, complete bool) {
	most := (room - len(memoPrefix)) / 4 * 3
	if most < memoFrame {
		for range done {
			return "", false
		}
		return "", len(notes) == 0
	}
	b, complete := encodeNotes(position, notes, most, true)
	if !complete {
		b, complete = encodeNotes(position, notes, most, false)
	}
	at, empty := position, len(notes) == 0
	for from, to := range done {
		more := binary.AppendUvarint(nil, uint64(from-at))
		more = binary.AppendUvarint(more, uint64(to-from))
		if len(b)+len(more) > most {
			complete = false
			break
		}
		b, at, empty = append(b, more...), to, false
	}
	if empty {
		return "", complete
	}
	return memoPrefix + base64.RawStdEncoding.EncodeToString(b), complete
}

func encodeNotes(position int64, notes map[int64]driver.Note, most int, withErrors bool) (b []byte, complete bool) {
	offsets := make([]int64, 0, len(notes))
	for o := range notes {
		offsets = append(offsets, o)
	}
	slices.Sort(offsets)
	var (
		texts []string
		base  int64
		body  []byte
		count int
		used  int // by texts
	)
	if len(offsets) > 0 {
		base = notes[offsets[0]].NotBefore.UnixMilli()
	}
	at := position
	complete = true
	for _, o := range offsets {
		n := notes[o]
		which := 0
		if withErrors && n.LastError != "" {
			short := strings.ToValidUTF8(n.LastError[:min(len(n.LastError), memoError)], "") // not half a character
			if which = slices.Index(texts, short) + 1; which == 0 && len(texts) < memoErrors {
				texts = append(texts, short)
				which, used = len(texts), used+len(short)+2
			}
		}
		more := binary.AppendUvarint(nil, uint64(o-at))
		more = binary.AppendUvarint(more, uint64(n.Attempts))
		more = binary.AppendVarint(more, n.NotBefore.Add(time.Millisecond-1).UnixMilli()-base)
		more = binary.AppendVarint(more, n.FirstSeen.UnixMilli()-base)
		more = binary.AppendUvarint(more, uint64(which))
		if memoFrame+len(body)+len(more)+used > most {
			complete = false
			break
		}
		body, at = append(body, more...), o
		count++
	}
	b = binary.AppendVarint(nil, position)
	b = binary.AppendVarint(b, base)
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, t := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	b = binary.AppendUvarint(b, uint64(count))
	return append(b, body...), complete
}

// decodeMemo reads what encodeMemo wrote of position. What is of another one, not
// from here or from another version, is no memo: then everything beyond the
// position is delivered again, and its attempts are counted anew.
func decodeMemo(position int64, text string) (m memo, ok bool) {
	encoded, ok := strings.CutPrefix(text, memoPrefix)
	if !ok {
		return memo{}, false
	}
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return memo{}, false
	}
	r := reader{b: b}
	if r.int() != position || position < 0 {
		return memo{}, false
	}
	base := r.int()
	texts := make([]string, 0, min(r.peek(), memoErrors))
	for range r.count() {
		texts = append(texts, r.text())
	}
	m.notes = make(map[int64]driver.Note)
	at := position
	for range r.count() {
		at += r.step()
		n := driver.Note{Attempts: int(r.step())}
		n.NotBefore = time.UnixMilli(base + r.int())
		n.FirstSeen = time.UnixMilli(base + r.int())
		if which := r.step(); which > 0 && which <= int64(len(texts)) {
			n.LastError = texts[which-1]
		}
		m.notes[at] = n
	}
	for at = position; len(r.b) > 0 && !r.bad; {
		s := span{from: at + r.step()}
		s.to = s.from + r.step()
		m.done, at = append(m.done, s), s.to
	}
	if r.bad {
		return memo{}, false
	}
	return m, true
}

// reader takes numbers from bytes that may be anybody's.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// step is a number that is not negative and small enough to be added.
func (r *reader) step() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<40 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

// count is a number of things that are still to come, each of which takes a
// byte at least.
func (r *reader) count() int {
	n := r.step()
	if n > int64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) peek() int {
	v, _ := binary.Uvarint(r.b)
	return int(min(v, uint64(len(r.b))))
}

func (r *reader) text() string {
	n := r.count()
	if r.bad {
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// memoOf asks what group knows of a partition that is read from position on.
// That need not be the one the group has: where the log no longer has it, or
// never had, the client begins with the oldest message.
func (b *broker) memoOf(topic, group string, partition int32, position int64) (memo, error) {
	admin, err := sarama.NewClusterAdminFromClient(b.control) // closing it would close the client
	if err != nil {
		return memo{}, err
	}
	answer, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		return memo{}, err
	}
	block := answer.GetBlock(topic, partition)
	switch {
	case block == nil:
		return memo{}, nil
	case block.Err != sarama.ErrNoError:
		return memo{}, block.Err
	}
	m, _ := decodeMemo(position, block.Metadata) // or there is nothing, or somebody else's
	return m, nil
}
