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
	for i := seek(tiles, w, lo/t.hop); i < len(tiles); i += w {
		x := tile(tiles[i : i+w])
		if x.index()*t.hop >= hi {
			break
		}
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
