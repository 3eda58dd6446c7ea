package featurestore

import (
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// tick is an event of the property tests: its values are integers, so that sums
// are exact and can be compared with a fold in any order.
type tick struct {
	at    int64
	id    string
	value float64 // NaN: none
}

var allFolds = []fold{foldCount, foldSum, foldAvg, foldMin, foldMax, foldFirst, foldLast, foldVariance}

type plans struct {
	plan    *windowPlan
	horizon int64
}

func drawPlan(t *rapid.T) plans {
	o := WindowOptions{Mode: Mode(rapid.IntRange(0, 2).Draw(t, "mode"))}
	if o.Mode != Sliding && rapid.Bool().Draw(t, "own hop") {
		o.Hop = time.Duration(rapid.IntRange(1, 900).Draw(t, "hop")) * time.Second
	}
	o.Lateness = time.Duration(rapid.IntRange(-1, 5000).Draw(t, "lateness")) * time.Second
	var specs []aggregateSpec
	var features []field
	for i := range rapid.IntRange(1, 6).Draw(t, "aggregates") {
		name := fmt.Sprint("a", i)
		w := rapid.OneOf(rapid.IntRange(1, 7200), rapid.IntRange(1, 86400), rapid.IntRange(1, 20*86400)).Draw(t, "window")
		specs = append(specs, aggregateSpec{name, rapid.SampledFrom(allFolds).Draw(t, "fold"), time.Duration(w) * time.Second})
		features = append(features, field{name: name, kind: kindFloat, typ: "float64", nullable: true})
	}
	p, err := newWindowPlan(o, features, specs)
	require.NoError(t, err)
	return plans{p, p.lateness}
}

func drawTicks(t *rapid.T) []tick {
	span := rapid.SampledFrom([]int64{600, 7200, 3 * 86400, 40 * 86400}).Draw(t, "span")
	origin := rapid.SampledFrom([]int64{0, 1_700_000_000, -86400}).Draw(t, "origin")
	gen := rapid.Custom(func(t *rapid.T) tick {
		v := float64(rapid.IntRange(-1000, 1000).Draw(t, "value"))
		if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
			v = math.NaN()
		}
		at := (origin + rapid.Int64Range(-span, span).Draw(t, "second")) * int64(time.Second)
		return tick{at: at + rapid.Int64Range(0, 1).Draw(t, "ns"), id: fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "id")), value: v}
	})
	ticks := rapid.SliceOfN(gen, 0, 60).Draw(t, "events")
	seen := map[string]int64{}
	for i, x := range ticks { // an id comes again only as the same event
		if at, ok := seen[x.id]; ok {
			ticks[i].at = at
			for _, y := range ticks[:i] {
				if y.id == x.id {
					ticks[i] = y
				}
			}
		}
		seen[x.id] = ticks[i].at
	}
	return ticks
}

func (x plans) raw(k tick) []byte {
	values := make([]float64, x.plan.values)
	for i := range values {
		values[i] = k.value
	}
	return appendEvent(nil, k.at, k.id, values)
}

// brute is the README's definition: filter, sort, fold, without tiles. Sums are
// made in rationals.
func brute(p *windowPlan, a *aggPlan, events []tick, q int64, strict bool) (value float64, newest int64) {
	hop := p.tiers[a.tier].hop
	div := func(a, b int64) int64 { return new(big.Int).Div(big.NewInt(a), big.NewInt(b)).Int64() } // Euclidean; b > 0: floor
	in := func(at int64) bool {
		switch {
		case p.mode == Sliding && strict:
			return at >= q-a.window && at < q
		case p.mode == Sliding:
			return at > q-a.window && at <= q
		case p.mode == Hopping:
			return at >= div(q-a.window, hop)*hop && at < div(q, hop)*hop
		case strict:
			return at >= div(q-a.window, hop)*hop && at < q
		}
		return at >= div(q-a.window, hop)*hop && at <= q
	}
	events = slices.Clone(events)
	slices.SortFunc(events, func(a, b tick) int {
		if a.at != b.at {
			return int(min(1, max(-1, a.at-b.at)))
		}
		return slices.Compare([]byte(a.id), []byte(b.id))
	})
	newest = noMark
	count, sum, n := 0, new(big.Rat), int64(0)
	var values []float64
	for _, e := range events {
		if !in(e.at) {
			continue
		}
		count++
		newest = e.at
		if e.value == e.value {
			n++
			values = append(values, e.value)
			sum.Add(sum, new(big.Rat).SetFloat64(e.value))
		}
	}
	if a.fold == foldCount {
		return float64(count), newest
	}
	if n == 0 {
		return math.NaN(), newest
	}
	mean := new(big.Rat).Quo(sum, big.NewRat(n, 1))
	r := new(big.Rat)
	switch a.fold {
	case foldSum:
		r = sum
	case foldAvg:
		r = mean
	case foldMin:
		return slices.Min(values), newest
	case foldMax:
		return slices.Max(values), newest
	case foldFirst:
		return values[0], newest
	case foldLast:
		return values[len(values)-1], newest
	case foldVariance:
		for _, v := range values {
			d := new(big.Rat).Sub(new(big.Rat).SetFloat64(v), mean)
			r.Add(r, d.Mul(d, d))
		}
		r.Quo(r, big.NewRat(n, 1))
	}
	f, _ := r.Float64()
	return f, newest
}

func requireWindow(t *rapid.T, p *windowPlan, st *windowState, events []tick, q int64, strict bool, what string) {
	for i := range p.aggs {
		a := &p.aggs[i]
		got, err := p.evaluate(st, a, q, strict)
		require.NoError(t, err)
		want, newest := brute(p, a, events, q, strict)
		msg := fmt.Sprintf("%s: %s over %v at %d, strict %v", what, foldNames[a.fold], time.Duration(a.window), q, strict)
		require.Equal(t, newest, got.newest, msg)
		if math.IsNaN(want) {
			require.True(t, math.IsNaN(got.value), "%s: %v is not null", msg, got.value)
			continue
		}
		tolerance := 0.0
		if a.fold == foldVariance || a.fold == foldAvg {
			tolerance = 1e-9 * (1 + math.Abs(want))
		}
		require.InDelta(t, want, got.value, tolerance, msg)
	}
}

// A state, whatever of it is closed, answers like a fold over the events it
// took in, and is the same bytes for every order of arrival in which none is
// too late.
func TestTilesEqualFold(t *testing.T) {
	closedTiles, late := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		x := drawPlan(t)
		p := x.plan
		st := &windowState{mark: noMark}
		var taken []tick
		ids := map[string]bool{}
		for _, k := range drawTicks(t) {
			if rapid.Bool().Draw(t, "stored between") && st.mark != noMark {
				again, err := p.parse(p.encode(st))
				require.NoError(t, err)
				st = &again
			}
			tooLate := p.late(k.at, st.mark, x.horizon)
			out, err := p.apply(st, x.raw(k), x.horizon)
			require.NoError(t, err)
			switch {
			case tooLate:
				require.Equal(t, Stale, out)
				late++
			case ids[k.id]:
				require.Equal(t, Duplicate, out)
			default:
				require.Equal(t, Applied, out)
				ids[k.id] = true
				taken = append(taken, k)
			}
		}
		if st.mark == noMark {
			return
		}
		for _, tier := range st.tiers {
			closedTiles += len(tier)
		}
		// From the oldest time a clock may show on.
		for _, d := range []int64{0, 1, -x.horizon, -x.horizon / 2, rapid.Int64Range(-x.horizon, int64(30*24*time.Hour)).Draw(t, "later")} {
			requireWindow(t, p, st, taken, st.mark+d, false, "online")
		}
		// Offline: the same events as open tiles only, equal in every bit.
		off := &windowState{}
		slices.SortFunc(taken, func(a, b tick) int {
			ea, _ := p.event(x.raw(a))
			eb, _ := p.event(x.raw(b))
			if ea.before(&eb) {
				return -1
			}
			return 1
		})
		for _, k := range taken {
			off.events = append(off.events, x.raw(k)...)
		}
		if p.mode != Sliding {
			require.NoError(t, p.foldAll(off))
		}
		for i := range p.aggs {
			on, err := p.evaluate(st, &p.aggs[i], st.mark, false)
			require.NoError(t, err)
			of, err := p.evaluate(off, &p.aggs[i], st.mark, false)
			require.NoError(t, err)
			require.Equal(t, math.Float64bits(on.value), math.Float64bits(of.value), "online %v, offline %v", on.value, of.value)
		}
		q := st.mark + rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "label")
		requireWindow(t, p, off, taken, q, true, "offline")
		requireWindow(t, p, off, taken, q, false, "offline")
	})
	require.Positive(t, closedTiles, "tiles were closed")
	require.Positive(t, late, "events were too late")
}

// Sums of any floats depend on the order of addition, and still any order of
// arrival within the lateness ends in the same bytes.
func TestAnyOrderEndsInTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawPlan(t)
		ticks := drawTicks(t)
		for i := range ticks {
			ticks[i].value = rapid.Float64Range(-1e6, 1e6).Draw(t, "float")
		}
		fold := func(ticks []tick, horizon int64) ([]byte, bool) {
			st := &windowState{mark: noMark}
			for _, k := range ticks {
				out, err := x.plan.apply(st, x.raw(k), horizon)
				require.NoError(t, err)
				if out == Stale {
					return nil, false
				}
			}
			return x.plan.encode(st), true
		}
		seen := map[string]bool{}
		ticks = slices.DeleteFunc(ticks, func(k tick) bool { dup := seen[k.id]; seen[k.id] = true; return dup })
		sorted := slices.Clone(ticks)
		slices.SortFunc(sorted, func(a, b tick) int { return int(min(1, max(-1, a.at-b.at))) })
		want, ok := fold(sorted, x.horizon)
		require.True(t, ok, "in order nothing is too late")
		// Shuffle by arrival: each event is late by less than the horizon.
		arrival := map[string]int64{}
		for _, k := range ticks {
			arrival[k.id] = k.at + rapid.Int64Range(0, x.horizon).Draw(t, "delay")
		}
		slices.SortFunc(ticks, func(a, b tick) int { return int(min(1, max(-1, arrival[a.id]-arrival[b.id]))) })
		got, ok := fold(ticks, x.horizon)
		require.True(t, ok, "later than the newest by at most the lateness")
		require.Equal(t, want, got)
	})
}

func TestStateDoesNotChangeItsPayload(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawPlan(t)
		st := &windowState{mark: noMark}
		for _, k := range drawTicks(t) {
			payload := x.plan.encode(st)
			kept := slices.Clone(payload)
			parsed, err := x.plan.parse(payload)
			require.NoError(t, err)
			st = &parsed
			_, err = x.plan.apply(st, x.raw(k), x.horizon)
			require.NoError(t, err)
			require.Equal(t, kept, payload, "payloads are shared with the store and its readers")
		}
	})
}

// The state of a busy key is bounded by tiles once events are past the
// lateness.
func TestStateIsBounded(t *testing.T) {
	features := []field{{name: "n", kind: kindFloat, typ: "float64"}}
	p, err := newWindowPlan(WindowOptions{Lateness: 10 * time.Minute}, features, []aggregateSpec{{"n", foldCount, time.Hour}})
	require.NoError(t, err)
	st := &windowState{mark: noMark}
	largest := 0
	for i := range int64(20_000) { // ten a minute, more than a day
		out, err := p.apply(st, appendEvent(nil, i*6e9, fmt.Sprint(i), nil), p.lateness)
		require.NoError(t, err)
		require.Equal(t, Applied, out)
		if i%100 == 0 {
			largest = max(largest, len(p.encode(st)))
		}
	}
	// 150 events of at most 15 bytes, 4 open and 15 closed tiles of 24 bytes.
	require.Less(t, largest, 150*15+20*24+100)
}

var fuzzFields = func() []field {
	type row struct {
		I  int64    `feature:"i"`
		I8 *int8    `feature:"i8"`
		U  uint32   `feature:"u"`
		F  *float64 `feature:"f"`
		G  float32  `feature:"g"`
		B  bool     `feature:"b"`
		S  *string  `feature:"s"`
		T  string   `feature:"t"`
	}
	fields, err := fieldsOf(reflect.TypeFor[row]())
	if err != nil {
		panic(err)
	}
	return fields
}()

func TestRowRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := make([]cell, len(fuzzFields))
		for i := range fuzzFields {
			f := &fuzzFields[i]
			switch {
			case f.nullable && rapid.Bool().Draw(t, "null"):
				want[i] = null
			case f.kind == kindString:
				want[i] = cell{text: rapid.String().Draw(t, "text")}
			case f.kind == kindBool:
				want[i] = boolCell(rapid.Bool().Draw(t, "bool"))
			default:
				want[i] = cell{bits: rapid.Uint64().Draw(t, "bits")}
			}
		}
		b := encodeRow(fuzzFields, func(f *field) cell { return want[f.index] })
		got := make([]cell, len(want))
		require.NoError(t, decodeRow(fuzzFields, b, got))
		require.Equal(t, want, got)
		require.ErrorIs(t, decodeRow(fuzzFields, append(b, 0), got), errCorrupt)
	})
}

func TestKeysAreUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields := []field{{kind: kindString}, {kind: kindString}, {kind: kindInt}, {kind: kindBool}}
		text := rapid.SampledFrom([]string{"", "|", `\`, "a"})
		draw := func() ([]cell, string) {
			cells := []cell{
				{text: text.Draw(t, "a") + text.Draw(t, "b")}, {text: text.Draw(t, "c") + text.Draw(t, "d")},
				{bits: uint64(rapid.Int64Range(-1, 1).Draw(t, "n"))}, boolCell(rapid.Bool().Draw(t, "e")),
			}
			var b []byte
			for i := range fields {
				b = appendKey(b, i == 0, &fields[i], cells[i])
			}
			return cells, string(b)
		}
		a, ka := draw()
		b, kb := draw()
		require.Equal(t, reflect.DeepEqual(a, b), ka == kb, "%v and %v are %q and %q", a, b, ka, kb)
	})
}

func TestKeyEscapes(t *testing.T) {
	fields := []field{{kind: kindString}, {kind: kindString}}
	seen := map[string][2]string{}
	for _, pair := range [][2]string{{`\`, "|y"}, {`|\`, "y"}, {"a", "b"}, {"a|b", ""}, {"", "a|b"}, {`a\`, "b"}, {`a\|b`, ""}, {"", ""}, {"|", ""}, {"", "|"}} {
		b := appendKey(nil, true, &fields[0], cell{text: pair[0]})
		b = appendKey(b, false, &fields[1], cell{text: pair[1]})
		other, taken := seen[string(b)]
		require.False(t, taken, "%q and %q are both %q", pair, other, b)
		seen[string(b)] = pair
	}
	require.Contains(t, seen, "a|b", "readable where nothing needs escaping")
}

func FuzzRow(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0xff})
	f.Add(encodeRow(fuzzFields, func(*field) cell { return cell{bits: 1, text: "x"} }))
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		out := make([]cell, len(fuzzFields))
		if decodeRow(fuzzFields, b, out) != nil {
			return
		}
		again := make([]cell, len(fuzzFields))
		if err := decodeRow(fuzzFields, encodeRow(fuzzFields, func(f *field) cell { return out[f.index] }), again); err != nil {
			t.Fatalf("%x was read, and what it says cannot be: %v", b, err)
		}
		if !reflect.DeepEqual(out, again) {
			t.Fatalf("%x says %v, then %v", b, out, again)
		}
	})
}

func FuzzWindowState(f *testing.F) {
	features := []field{{name: "n", kind: kindFloat, typ: "float64"}, {name: "v", kind: kindFloat, typ: "float64", nullable: true}}
	p, err := newWindowPlan(WindowOptions{}, features, []aggregateSpec{{"n", foldCount, time.Hour}, {"v", foldVariance, 7 * 24 * time.Hour}})
	if err != nil {
		f.Fatal(err)
	}
	st := &windowState{mark: noMark}
	f.Add(p.encode(st), int64(5))
	for i := range int64(6) {
		if _, err := p.apply(st, appendEvent(nil, i*i*3e12, fmt.Sprint(i), []float64{float64(i)}), p.lateness); err != nil {
			f.Fatal(err)
		}
		f.Add(p.encode(st), i*i*3e12)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		at %= lastTime.UnixNano()
		parsed, err := p.parse(b)
		if err != nil {
			return
		}
		st := &parsed
		if string(p.encode(st)) != string(b) {
			t.Fatalf("%x is not written as it was read", b)
		}
		for i := range p.aggs {
			_, _ = p.evaluate(st, &p.aggs[i], at, false) // must not panic, whatever the tiles say
		}
		_, _ = p.apply(st, appendEvent(nil, at, "fuzz", []float64{1}), p.lateness)
	})
}
