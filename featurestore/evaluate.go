package featurestore

// window is what one aggregate's window holds at one time.
type window struct {
	value  float64 // NaN is null
	newest int64   // time of the newest event; noMark: there is none
}

// evaluate folds the window of one aggregate at time q. Both sides of the store
// use it: online with closed and open tiles, offline with open tiles only.
// Tiles are merged within each tile of the aggregate's tier first, and these
// from the oldest to the newest, whatever part of them is closed: the result
// is the same in every bit.
func (p *windowPlan) evaluate(st *windowState, a *aggPlan, q int64, strict bool) (window, error) {
	lo, hi := p.interval(a, q, strict)
	if p.mode == Sliding {
		x, err := p.foldEvents(st, a, lo, hi)
		return window{a.fold.result(&x.acc), x.newest}, err
	}
	t := &p.tiers[a.tier]
	g := grouping{fold: a.fold, group: a.fold.empty(), total: a.fold.empty(), newest: noMark}
	tiles, w := st.tiers[a.tier], t.width()
	tiles = tiles[seek(tiles, w, lo/t.hop):]
	for len(tiles) > 0 && tile(tiles[len(tiles)-w:]).index()*t.hop >= hi {
		tiles = tiles[:len(tiles)-w]
	}
	if last := len(tiles) - w; last >= 0 {
		// Every closed tile is a group of its own, but for the last, of which a
		// part may be open.
		a.fold.mergeTiles(&g.total, tiles[:last], w, a.offset)
		x := tile(tiles[last:])
		g.add(x.index(), &part{x.load(a.fold, a.offset), x.count(), x.newest()})
	}
	w = p.openWidth()
	for i := seek(st.open, w, lo/p.base); i < len(st.open); i += w {
		x := tile(st.open[i : i+w])
		start := x.index() * p.base
		if start >= hi {
			break
		}
		one := part{x.load(a.fold, a.open), x.count(), x.newest()}
		if one.newest >= hi { // q is before the newest event: the head, one by one
			var err error
			if one, err = p.foldEvents(st, a, start, hi); err != nil {
				return window{}, err
			}
		}
		g.add(floorDiv(start, t.hop), &one)
	}
	g.flush()
	return window{a.fold.result(&g.total), g.newest}, nil
}

// mergeTiles merges tiles into total, one after the other. Long windows have
// hundreds of them, which is what a read spends its time on, so the folds that
// are sums have loops of their own; they do what merge does.
func (f fold) mergeTiles(total *accumulator, tiles []byte, width, offset int) {
	at := tileHead + offset*word
	switch f {
	case foldCount:
		for ; len(tiles) >= width; tiles = tiles[width:] {
			total[0] += float64(tile(tiles).count())
		}
	case foldSum, foldAvg:
		n, sum := total[0], total[1]
		for ; len(tiles) >= width; tiles = tiles[width:] {
			n += getNum(tiles[at:])
			sum += getNum(tiles[at+word:])
		}
		total[0], total[1] = n, sum
	case foldMin, foldMax, foldFirst, foldLast, foldVariance:
		for ; len(tiles) >= width; tiles = tiles[width:] {
			acc := tile(tiles).load(f, offset)
			f.merge(total, &acc)
		}
	}
}

// part is the fold of some events.
type part struct {
	acc    accumulator
	count  int64
	newest int64
}

// grouping merges parts into groups and groups into a total, in order.
type grouping struct {
	fold         fold
	group, total accumulator
	index        int64 // of the group
	open         bool  // there is a group
	newest       int64
}

func (g *grouping) add(index int64, x *part) {
	if x.count == 0 {
		return
	}
	g.newest = max(g.newest, x.newest)
	if g.open && index == g.index {
		g.fold.merge(&g.group, &x.acc)
		return
	}
	g.flush()
	g.open, g.index, g.group = true, index, x.acc
}

func (g *grouping) flush() {
	if g.open {
		g.fold.merge(&g.total, &g.group)
	}
}

// foldEvents folds the remembered events in [lo, hi), one by one.
func (p *windowPlan) foldEvents(st *windowState, a *aggPlan, lo, hi int64) (part, error) {
	x := part{acc: a.fold.empty(), newest: noMark}
	for b := st.events; len(b) > 0; {
		e, err := p.event(b)
		if err != nil {
			return part{}, err
		}
		if e.at >= hi {
			break
		}
		if e.at >= lo {
			a.fold.add(&x.acc, e.value(a))
			x.count++
			x.newest = e.at
		}
		b = b[e.size:]
	}
	return x, nil
}
