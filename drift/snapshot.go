package drift

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"
)

// Snapshot is what one process counted in one window that has closed. Those of
// several replicas are merged, and a monitor that sees no traffic of its own judges
// the sum: see [Monitor.Judge]. Counts are whole numbers, so the sum of eight
// replicas is, bit for bit, what one process would have counted.
//
// Windows have to begin and end at the same instants in all replicas, as those
// of [Every] and the quarters of a half-life of [Decaying] do. A Snapshot is a value of
// its owner's: it is not safe for concurrent use, and shares nothing with its monitor. The zero
// value is only there to be decoded into.
type Snapshot struct {
	reference string
	window    Window
	counted   *pane
}

// Snapshot returns what was counted in the last window that has closed, after judging
// those that wait; with [Decaying], in the last quarter of a half-life. It is false
// while none has closed since the monitor began or was rebased, and for windows
// that a number of rows closes, which replicas do not close together. A period
// without an observation is no window. Who collects snapshots asks at least once in each
// window, and tells by [Snapshot.Span] what is new.
func (m *Monitor) Snapshot() (*Snapshot, bool) {
	m.closeDue()
	m.judge.Lock()
	defer m.judge.Unlock()
	for m.judgeOldest() {
	}
	if m.opt.Window.paneSpan() == 0 || len(m.panes) == 0 {
		return nil, false
	}
	return &Snapshot{reference: m.live.Load().ref.id, window: m.opt.Window, counted: m.panes[len(m.panes)-1]}, true
}

// Reference returns the ID of the reference that was counted against.
func (s *Snapshot) Reference() string { return s.reference }

// Span returns from when to when was counted; zero times for the zero Snapshot.
func (s *Snapshot) Span() (from, to time.Time) {
	if s.counted == nil {
		return time.Time{}, time.Time{}
	}
	return s.counted.from, s.counted.to
}

// Rows returns the number of observations of the busiest feature.
func (s *Snapshot) Rows() int {
	rows := 0
	if s.counted != nil {
		for _, c := range s.counted.columns {
			rows = max(rows, c.rows)
		}
	}
	return rows
}

// Merge adds what o counted to s; o is unchanged. The order of merging does
// not matter. It is an error, and changes nothing, if they are not of the
// same reference, the same window and the same kind of window. Nothing tells
// that a snapshot is merged twice: keep one per replica.
func (s *Snapshot) Merge(o *Snapshot) error {
	switch {
	case s.counted == nil || o == nil || o.counted == nil:
		return errorf("an empty snapshot cannot be merged")
	case s.reference != o.reference:
		return errorf("snapshots of the references %.12s and %.12s cannot be merged", s.reference, o.reference)
	case s.window != o.window || !s.counted.from.Equal(o.counted.from) || !s.counted.to.Equal(o.counted.to):
		return errorf("snapshots of different windows cannot be merged: %s and %s", s.when(), o.when())
	}
	a, b := s.counted, o.counted
	sum := &pane{from: a.from, to: a.to, open: a.open, columns: make([]observed, len(a.columns))}
	if len(a.columns) != len(b.columns) || (a.labels == nil) != (b.labels == nil) {
		return errorf("the snapshots do not have the same features")
	}
	for i := range sum.columns {
		if len(a.columns[i].counts) != len(b.columns[i].counts) {
			return errorf("the snapshots do not have the same cells")
		}
		if uint64(a.columns[i].rows)+uint64(b.columns[i].rows) > snapshotRows {
			return errorf("more rows than can be counted")
		}
		sum.columns[i].add(a.columns[i])
		sum.columns[i].add(b.columns[i])
	}
	if a.labels != nil {
		if len(a.labels.positives) != len(b.labels.positives) {
			return errorf("the snapshots do not have the same cells")
		}
		if sum.labels = a.labels.plus(b.labels); uint64(sum.labels.rows()) > snapshotRows {
			return errorf("more labels than can be counted")
		}
	}
	s.counted = sum
	return nil
}

// snapshotRows bounds the rows of a feature, and its labels, so that no sum overflows, on
// 32-bit machines neither.
const snapshotRows = min(maxRows, math.MaxInt>>1)

func (s *Snapshot) when() string {
	return fmt.Sprintf("%s to %s", s.counted.from.UTC().Format(time.RFC3339), s.counted.to.UTC().Format(time.RFC3339))
}

// Judge judges what others have counted as if m had: a monitor of a whole fleet,
// with one budget of false alarms, confirmation and alerts. Its options need the
// Window of the replicas, and nothing is observed on it. The replicas' own monitors
// may go on to judge what they see, each with a budget of its own.
//
// Windows are judged in their order, each once, when all replicas have told theirs: a
// window that does not end after the last is an error, as are another
// reference than m has now, which is [ErrSchema], and another kind of window. After an error nothing
// has changed. s is not kept, and may be judged by other monitors too.
func (m *Monitor) Judge(s *Snapshot) error {
	if s == nil || s.counted == nil {
		return errorf("an empty snapshot cannot be judged")
	}
	m.judge.Lock()
	defer m.judge.Unlock()
	ref, span := m.live.Load().ref, m.opt.Window.paneSpan()
	switch {
	case s.reference != ref.id:
		return errorf("a snapshot of the reference %.12s, and the monitor has %.12s: %w", s.reference, ref.id, ErrSchema)
	case s.window != m.opt.Window || s.counted.to.Sub(s.counted.from) != span || !aligned(s.counted.to, span).Equal(s.counted.to):
		return errorf("a snapshot of %s is not of a window that this monitor has", s.when())
	case len(m.panes) > 0 && !s.counted.to.After(m.panes[len(m.panes)-1].to):
		return errorf("the window of %s is not after the last that was judged", s.when())
	}
	if err := s.fits(ref); err != nil {
		return err
	}
	m.judged(ref, s.counted)
	return nil
}

// fits refuses counts that a reference does not have, which only a forger's ID could claim.
func (s *Snapshot) fits(r *Reference) error {
	p := s.counted
	if len(p.columns) != len(r.features) || (p.labels != nil) != (r.predictions >= 0) {
		return errorf("%d features, and the reference has %d: %w", len(p.columns), len(r.features), ErrSchema)
	}
	for i, f := range r.features {
		if len(p.columns[i].counts) != len(f.counts) || f.kind == numeric && p.columns[i].unseen > 0 {
			return featureError(f.name, fmt.Errorf("%d cells, and the reference has %d: %w", len(p.columns[i].counts), len(f.counts), ErrSchema))
		}
	}
	if p.labels != nil && len(p.labels.positives) != len(r.features[r.predictions].counts) {
		return featureError(r.features[r.predictions].performanceName(), fmt.Errorf("labels of other cells: %w", ErrSchema))
	}
	return nil
}

// The binary form: magic, version, the reference's ID in 16 bytes, kind and span of the window, its
// beginning and end in nanoseconds since the Unix epoch, the columns, labels if there are
// any, SHA-256 of all before it. Integers are unsigned varints, times 8 bytes little endian.
const (
	snapshotMagic   = "DRFS"
	snapshotVersion = 1
)

// AppendBinary appends the binary form to b: what a replica sends. It fails only for an
// empty Snapshot.
func (s *Snapshot) AppendBinary(b []byte) ([]byte, error) {
	id, err := hex.DecodeString(s.reference)
	if s.counted == nil || err != nil {
		return b, errorf("an empty snapshot has no binary form")
	}
	start := len(b)
	b = append(b, snapshotMagic...)
	b = append(b, snapshotVersion)
	b = append(b, id...)
	b = append(b, byte(s.window.kind))
	b = binary.AppendUvarint(b, uint64(s.window.span))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.counted.from.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.counted.to.UnixNano()))
	b = binary.AppendUvarint(b, uint64(len(s.counted.columns)))
	for _, c := range s.counted.columns {
		b = binary.AppendUvarint(b, uint64(c.missing))
		b = binary.AppendUvarint(b, uint64(c.unseen))
		b = binary.AppendUvarint(b, uint64(len(c.counts)))
		for _, n := range c.counts {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	if l := s.counted.labels; l != nil {
		b = binary.AppendUvarint(b, uint64(len(l.positives)))
		b = l.append(b)
	}
	sum := sha256.Sum256(b[start:])
	return append(b, sum[:]...), nil
}

// MarshalBinary implements encoding.BinaryMarshaler: see AppendBinary.
func (s *Snapshot) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// UnmarshalBinary implements encoding.BinaryUnmarshaler. Anything but the
// undamaged output of MarshalBinary is an error that is [ErrFormat]; s is then
// unchanged. data is not kept. The checksum is against accidents: who listens to
// replicas authenticates them.
func (s *Snapshot) UnmarshalBinary(data []byte) error {
	bad := func(format string, a ...any) error {
		return errorf("snapshot: %s: %w", fmt.Sprintf(format, a...), ErrFormat)
	}
	if len(data) < len(snapshotMagic)+1+sha256.Size || string(data[:len(snapshotMagic)]) != snapshotMagic {
		return bad("cut short, or does not begin with %q", snapshotMagic)
	}
	if v := data[len(snapshotMagic)]; v != snapshotVersion {
		return bad("format version %d, this program reads %d", v, snapshotVersion)
	}
	end := len(data) - sha256.Size
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return bad("the checksum does not match: damaged or cut short")
	}
	n, err := decodeSnapshot(data[len(snapshotMagic)+1 : end])
	if err != nil {
		return bad("%v", err)
	}
	*s = *n
	return nil
}

// decodeSnapshot reads what stands between version and checksum.
func decodeSnapshot(b []byte) (*Snapshot, error) {
	d := &decoder{b: b}
	s := &Snapshot{reference: hex.EncodeToString(d.bytes(schemaSize, "the reference")), counted: &pane{}}
	if k := d.bytes(1, "the window"); len(k) == 1 {
		s.window.kind = windowKind(k[0])
	}
	s.window.span = time.Duration(d.uvarint(1<<62, "the window"))
	if d.err == nil && s.window.check() != nil { // one by rows has none here
		return nil, errors.New("not a window by time")
	}
	p := s.counted
	for _, at := range []*time.Time{&p.from, &p.to} {
		if t := d.bytes(8, "a time"); t != nil {
			*at = time.Unix(0, int64(binary.LittleEndian.Uint64(t))).UTC()
		}
	}
	p.open = p.budget()
	p.columns = make([]observed, d.length(maxFeatures, 3, "the number of features"))
	for i := range p.columns {
		if d.column(&p.columns[i]); d.err != nil {
			return nil, d.err
		}
	}
	if len(d.b) > 0 {
		p.labels = d.labels(d.length(maxCells+1, 2, "the number of cells"))
	}
	if len(d.b) > 0 {
		d.fail("bytes are left over")
	}
	if d.err != nil {
		return nil, d.err
	}
	if p.labels != nil {
		if err := p.labels.sound(); err != nil {
			return nil, err
		}
		if uint64(p.labels.rows()) > snapshotRows {
			return nil, errors.New("more labels than can be counted")
		}
	}
	return s, nil
}

func (d *decoder) column(o *observed) {
	missing, unseen := d.uvarint(snapshotRows, "a count"), d.uvarint(snapshotRows, "a count")
	o.counts = make([]int, d.length(maxCounts, 1, "the number of counts"))
	rows := missing + unseen
	for k := range o.counts {
		n := d.uvarint(snapshotRows, "a count")
		o.counts[k] = int(n)
		rows += n // at most 2^14 times 2^38
	}
	if rows > snapshotRows {
		d.fail("more rows than can be counted")
		return
	}
	o.missing, o.unseen, o.rows = int(missing), int(unseen), int(rows)
	o.present = o.rows - o.missing
}
