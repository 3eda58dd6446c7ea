package featurestore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
)

// The stored state of one key of Windows:
//
//	format   1 byte
//	mark     8 bytes, time of the newest event
//	tiers    for each: number of tiles (4 bytes), closed tiles, ascending
//	open     number of tiles (4 bytes), tiles of the base width, ascending
//	events   to the end: the events of the open tiles, by (time, id)
//
// A tile is its index (time divided by width), the number of its events, the
// time of the newest, and the words of its folds; 8 bytes each. Numbers are
// little endian. Tiles have a fixed width, so a read touches only those inside
// the window, without decoding, and no events at all unless now lies before the
// newest event of a tile.
//
// An open tile holds the folds of all aggregates, folded over its events in
// order. When it has ended a horizon before the mark, it closes: it is merged
// into the last tile of each tier, in ascending order, and its events are
// forgotten. So every number is a function of the set of events, not of the
// order they came in.
const windowFormat = 1

const (
	word     = 8
	tileHead = 3 * word
)

// windowState is a parsed state. Its slices may alias a stored payload, which
// must not change; apply replaces what it changes.
type windowState struct {
	mark   int64
	tiers  [maxTiers][]byte
	open   []byte
	events []byte
}

// noMark is the mark of a key without events.
const noMark = math.MinInt64

func (p *windowPlan) parse(b []byte) (windowState, error) {
	st := windowState{mark: noMark}
	if len(b) < 1+word {
		return st, errCorrupt
	}
	if b[0] != windowFormat {
		return st, fmt.Errorf("window state has format %d, and this version reads %d", b[0], windowFormat)
	}
	mark, b := getInt(b[1:]), b[1+word:]
	var err error
	for i := range p.tiers {
		if st.tiers[i], b, err = cutTiles(b, p.tiers[i].width()); err != nil {
			return st, err
		}
	}
	if st.open, b, err = cutTiles(b, p.openWidth()); err != nil {
		return st, err
	}
	st.mark, st.events = mark, slices.Clip(b)
	return st, nil
}

func cutTiles(b []byte, width int) (tiles, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errCorrupt
	}
	n := uint64(binary.LittleEndian.Uint32(b)) * uint64(width)
	b = b[4:]
	if n > uint64(len(b)) {
		return nil, nil, errCorrupt
	}
	return b[:n:n], b[n:], nil
}

func (p *windowPlan) encode(st *windowState) []byte {
	size := 1 + word + 4 + len(st.open) + len(st.events)
	for _, t := range st.tiers[:len(p.tiers)] {
		size += 4 + len(t)
	}
	b := make([]byte, 0, size)
	b = append(b, windowFormat)
	b = binary.LittleEndian.AppendUint64(b, uint64(st.mark))
	for i, t := range st.tiers[:len(p.tiers)] {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t)/p.tiers[i].width()))
		b = append(b, t...)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(st.open)/p.openWidth()))
	b = append(b, st.open...)
	return append(b, st.events...)
}

func (t *tier) width() int           { return tileHead + t.words*word }
func (p *windowPlan) openWidth() int { return tileHead + p.words*word }

func getInt(b []byte) int64      { return int64(binary.LittleEndian.Uint64(b)) }
func putInt(b []byte, v int64)   { binary.LittleEndian.PutUint64(b, uint64(v)) }
func getNum(b []byte) float64    { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }
func putNum(b []byte, v float64) { binary.LittleEndian.PutUint64(b, math.Float64bits(v)) }

// tile is the bytes of one tile.
type tile []byte

func (t tile) index() int64  { return getInt(t) }
func (t tile) count() int64  { return getInt(t[word:]) }
func (t tile) newest() int64 { return getInt(t[2*word:]) }

// load reads the fold whose words begin at offset.
func (t tile) load(f fold, offset int) accumulator {
	if f == foldCount {
		return accumulator{float64(t.count())}
	}
	var a accumulator
	for i := range f.words() {
		a[i] = getNum(t[tileHead+(offset+i)*word:])
	}
	return a
}

func (t tile) store(f fold, offset int, a *accumulator) {
	for i := range f.words() {
		putNum(t[tileHead+(offset+i)*word:], a[i])
	}
}

// seek returns the byte offset of the first tile with at least the index.
func seek(tiles []byte, width int, index int64) int {
	return width * sort.Search(len(tiles)/width, func(i int) bool { return tile(tiles[i*width:]).index() >= index })
}

// event is one event as bytes: time, length of id (uvarint), id, values.
type event struct {
	at     int64
	id     []byte
	values []byte // 8 bytes each; NaN is none
	size   int    // in bytes, all of it
}

func appendEvent(b []byte, at int64, id string, values []float64) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b = binary.AppendUvarint(b, uint64(len(id)))
	b = append(b, id...)
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

// event reads the first event of b.
func (p *windowPlan) event(b []byte) (event, error) {
	if len(b) < word+1 {
		return event{}, errCorrupt
	}
	n, m := binary.Uvarint(b[word:])
	if m <= 0 || n > maxEventID || int(n)+word+m+p.values*word > len(b) {
		return event{}, errCorrupt
	}
	id := word + m
	values := id + int(n)
	end := values + p.values*word
	return event{at: getInt(b), id: b[id:values], values: b[values:end], size: end}, nil
}

func (e *event) value(a *aggPlan) float64 {
	if a.value < 0 {
		return 0
	}
	return getNum(e.values[a.value*word:])
}

// before orders events by (time, id).
func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && bytes.Compare(e.id, o.id) < 0
}

// late says whether an event at time at comes after its tile has closed.
func (p *windowPlan) late(at, mark, horizon int64) bool {
	return mark != noMark && (floorDiv(at, p.base)+1)*p.base+horizon <= mark
}

// apply adds one event. Stale is too late.
func (p *windowPlan) apply(st *windowState, raw []byte, horizon int64) (Outcome, error) {
	e, err := p.event(raw)
	if err != nil {
		return 0, err
	}
	if p.late(e.at, st.mark, horizon) {
		return Stale, nil
	}
	place, err := p.place(st.events, &e)
	if err != nil || place.duplicate {
		return Duplicate, err
	}
	st.events = slices.Insert(slices.Clip(st.events), place.at, raw...)
	if p.mode != Sliding {
		place.to += len(raw)
		if err := p.refold(st, &e, place); err != nil {
			return 0, err
		}
	}
	if e.at > st.mark {
		st.mark = e.at
		if err := p.advance(st, horizon); err != nil {
			return 0, err
		}
	}
	return Applied, nil
}

// place is where an event belongs among the remembered ones, in bytes: at,
// inside the part [from, to) of its tile.
type place struct {
	at, from, to int
	duplicate    bool
}

// place finds that in one pass.
func (p *windowPlan) place(events []byte, e *event) (place, error) {
	start := floorDiv(e.at, p.base) * p.base
	x := place{from: -1, at: -1, to: -1}
	for i := 0; i < len(events); {
		o, err := p.event(events[i:])
		if err != nil {
			return place{}, err
		}
		if bytes.Equal(o.id, e.id) {
			return place{duplicate: true}, nil
		}
		if x.from < 0 && o.at >= start {
			x.from = i
		}
		if x.at < 0 && e.before(&o) {
			x.at = i
		}
		if x.to < 0 && o.at-start >= p.base {
			x.to = i
		}
		i += o.size
	}
	for _, end := range []*int{&x.from, &x.at, &x.to} {
		if *end < 0 {
			*end = len(events)
		}
	}
	return x, nil
}

// refold brings the open tile of e up to date: by adding e if it is the last
// of the tile's events, else by folding all of them again, in order.
func (p *windowPlan) refold(st *windowState, e *event, x place) error {
	w, index := p.openWidth(), floorDiv(e.at, p.base)
	i := seek(st.open, w, index)
	st.open = slices.Clone(st.open)
	if i == len(st.open) || tile(st.open[i:]).index() != index {
		st.open = slices.Insert(st.open, i, p.emptyTile(index)...)
	}
	t := tile(st.open[i : i+w])
	if x.at+e.size == x.to {
		p.add(t, e)
		return nil
	}
	copy(t, p.emptyTile(index))
	for b := st.events[x.from:x.to]; len(b) > 0; {
		o, err := p.event(b)
		if err != nil {
			return err
		}
		p.add(t, &o)
		b = b[o.size:]
	}
	return nil
}

func (p *windowPlan) emptyTile(index int64) tile {
	t := make(tile, p.openWidth())
	putInt(t, index)
	putInt(t[2*word:], noMark)
	for i := range p.aggs {
		a := p.aggs[i].fold.empty()
		t.store(p.aggs[i].fold, p.aggs[i].open, &a)
	}
	return t
}

// add folds an event that is later than those in the open tile t.
func (p *windowPlan) add(t tile, e *event) {
	putInt(t[word:], t.count()+1)
	putInt(t[2*word:], max(t.newest(), e.at))
	for i := range p.aggs {
		a := &p.aggs[i]
		acc := t.load(a.fold, a.open)
		a.fold.add(&acc, e.value(a))
		t.store(a.fold, a.open, &acc)
	}
}

// advance closes and forgets what the mark has left behind.
func (p *windowPlan) advance(st *windowState, horizon int64) error {
	if p.mode == Sliding {
		return p.forget(st, st.mark-horizon-p.tiers[0].span)
	}
	w, closed := p.openWidth(), 0
	for ; closed < len(st.open); closed += w {
		t := tile(st.open[closed : closed+w])
		if !p.late(t.index()*p.base, st.mark, horizon) {
			break
		}
		for i := range p.tiers {
			p.close(st, i, t)
		}
	}
	if closed > 0 {
		st.open = st.open[closed:len(st.open):len(st.open)]
		oldest := int64(math.MaxInt64)
		if len(st.open) > 0 {
			oldest = tile(st.open).index() * p.base
		}
		if err := p.forget(st, oldest); err != nil {
			return err
		}
	}
	for i := range p.tiers {
		t := &p.tiers[i]
		n := seek(st.tiers[i], t.width(), floorDiv(st.mark-horizon-t.span, t.hop))
		st.tiers[i] = st.tiers[i][n:]
	}
	return nil
}

// forget drops the events before a time.
func (p *windowPlan) forget(st *windowState, before int64) error {
	for len(st.events) > 0 {
		e, err := p.event(st.events)
		if err != nil {
			return err
		}
		if e.at >= before {
			break
		}
		st.events = st.events[e.size:]
	}
	return nil
}

// close merges an open tile into the last tile of a tier.
func (p *windowPlan) close(st *windowState, i int, open tile) {
	t := &p.tiers[i]
	w, index := t.width(), floorDiv(open.index()*p.base, t.hop)
	tiles := st.tiers[i]
	if len(tiles) > 0 && tile(tiles[len(tiles)-w:]).index() == index {
		tiles = slices.Clone(tiles)
	} else {
		fresh := make(tile, w)
		putInt(fresh, index)
		putInt(fresh[2*word:], noMark)
		for _, j := range t.aggs {
			a := p.aggs[j].fold.empty()
			fresh.store(p.aggs[j].fold, p.aggs[j].offset, &a)
		}
		tiles = append(slices.Clip(tiles), fresh...)
	}
	last := tile(tiles[len(tiles)-w:])
	for _, j := range t.aggs {
		a := &p.aggs[j]
		acc, more := last.load(a.fold, a.offset), open.load(a.fold, a.open)
		a.fold.merge(&acc, &more)
		last.store(a.fold, a.offset, &acc)
	}
	putInt(last[word:], last.count()+open.count())
	putInt(last[2*word:], max(last.newest(), open.newest()))
	st.tiers[i] = tiles
}
