package drift

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// detectors are all of them, with settings that are reached within a short stream.
func detectors(t testing.TB) map[string]Detector {
	t.Helper()
	sliding, err := NewSlidingKS(normals(1, 300), 100, 1e-4)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Detector{
		"adwin": &ADWIN{}, "adwin-1": &ADWIN{Clock: 1, Buckets: 1, MinWindow: 1, Grace: 1},
		"page-hinkley": &PageHinkley{}, "page-hinkley-raw": &PageHinkley{Raw: true, Fade: 0.9999},
		"ddm": &DDM{}, "eddm": &EDDM{}, "hddm-a": &HDDMA{TwoSided: true}, "hddm-w": &HDDMW{TwoSided: true},
		"kswin":     &KSWIN{},
		"e-process": &EProcess{Reference: normals(2, 300)}, "e-process-learning": &EProcess{Learn: 50},
		"sliding-ks": sliding,
	}
}

// Whatever is fed, a detector answers with a verdict, its numbers stay finite, what is missing
// changes nothing, and Reset makes it what it was.
func TestDetectorsTakeAnything(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	r := rand.New(rand.NewPCG(5, 5))
	pick := func(from ...float64) func() float64 { return func() float64 { return from[r.IntN(len(from))] } }
	streams := map[string]func() float64{
		"constant": pick(3), "zero": pick(0), "huge": pick(math.MaxFloat64), "two": pick(0, 1),
		"extremes": pick(inf, -inf, nan, math.MaxFloat64, -math.MaxFloat64, 5e-324, 0, math.Copysign(0, -1), 1),
		"only inf": pick(inf), "both inf": pick(inf, -inf), "nan": pick(nan), "inf at times": func() float64 {
			if r.IntN(50) == 0 {
				return inf
			}
			return r.NormFloat64()
		},
		"normal": r.NormFloat64, "shifted": func() float64 { return 1e9 + r.NormFloat64() },
		"tiny spread": func() float64 { return 1e15 + float64(r.IntN(2)) },
	}
	for name, d := range detectors(t) {
		for what, next := range streams {
			t.Run(name+"/"+what, func(t *testing.T) {
				d.Reset()
				if d.Verdict() != Insufficient {
					t.Fatalf("after Reset the verdict is %v", d.Verdict())
				}
				var v []float64
				var said []Verdict
				for range 3000 {
					x := next()
					v = append(v, x)
					now := d.Observe(x)
					said = append(said, now)
					if now < Insufficient || now > Drift || now == WeakReference || now != d.Verdict() {
						t.Fatalf("Observe(%v) = %v, then Verdict %v", x, now, d.Verdict())
					}
					if now == Drift && (what == "constant" || what == "zero" || what == "nan") && name != "sliding-ks" && !strings.HasPrefix(name, "e-process") {
						t.Fatalf("drift in a constant stream")
					}
					finiteDetector(t, d)
				}
				if e, ok := d.(*EProcess); ok {
					e.rng.Seed(e.Seed, 0)
				}
				d.Reset()
				if e, ok := d.(*EProcess); ok && (len(e.Reference) == 0 || what != "normal") {
					return // what it learned it keeps, and ties are broken at random
				}
				for i, x := range v {
					if now := d.Observe(x); now != said[i] {
						t.Fatalf("value %d: %v, and after Reset %v", i, said[i], now)
					}
				}
			})
		}
	}
}

func finiteDetector(t *testing.T, d Detector) {
	t.Helper()
	check := func(what string, x float64) {
		t.Helper()
		if x-x != 0 {
			t.Fatalf("%s is %v", what, x)
		}
	}
	switch d := d.(type) {
	case *ADWIN:
		check("Mean", d.Mean())
		check("variance", d.variance)
	case *PageHinkley:
		check("sum", d.up+d.down+d.least+d.hi)
		check("squares", d.squares)
	case *EProcess:
		check("Winnings", d.Winnings())
	case *SlidingKS:
		check("Score", float64(d.tree[1].high+d.tree[1].low))
	case *HDDMW:
		check("mean", d.all.mean)
	case *DDM:
		check("rate", d.rate.mean)
	case *EDDM:
		check("most", d.most)
	}
}

// A missing value is as if it had never been.
func TestDetectorsPassOverNaN(t *testing.T) {
	plain, gappy := detectors(t), detectors(t)
	for name := range plain {
		t.Run(name, func(t *testing.T) {
			a, b := plain[name], gappy[name]
			r := rand.New(rand.NewPCG(8, 8))
			drifts := 0
			for i := range 6000 {
				x := r.Float64()
				switch name {
				case "ddm", "eddm", "hddm-a", "hddm-w":
					x = number(x < 0.1+float64(i/3000)*0.6)
				default:
					x += float64(i / 3000)
				}
				if r.IntN(3) == 0 {
					if v := b.Observe(math.NaN()); v == Drift && name != "sliding-ks" {
						t.Fatal("a missing value raised an alarm")
					}
				}
				va, vb := a.Observe(x), b.Observe(x)
				if va != vb {
					t.Fatalf("value %d: %v, with gaps %v", i, va, vb)
				}
				if va == Drift {
					drifts++
				}
			}
			if drifts == 0 {
				t.Error("no alarm at a change that all of them can find")
			}
		})
	}
}

// No detector allocates once it is going.
func TestDetectorsAllocateNothing(t *testing.T) {
	for name, d := range detectors(t) {
		r := rand.New(rand.NewPCG(3, 3))
		for range 500 {
			d.Observe(r.NormFloat64())
		}
		if n := testing.AllocsPerRun(2000, func() { d.Observe(r.NormFloat64()) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Settings that mean nothing mean the default.
func TestDetectorDefaults(t *testing.T) {
	nan := math.NaN()
	odd := map[string]Detector{
		"adwin":        &ADWIN{Delta: nan, Clock: -1, Buckets: -5, MinWindow: -1, Grace: -1},
		"page-hinkley": &PageHinkley{Lambda: -1, Fade: 7, Min: -4},
		"ddm":          &DDM{Warn: nan, Alarm: -1, Warm: -1},
		"eddm":         &EDDM{Warn: 3, Alarm: nan, Warm: -1},
		"hddm-a":       &HDDMA{Alarm: 1, Warn: -1, TwoSided: true},
		"hddm-w":       &HDDMW{Alarm: 2, Warn: nan, Lambda: 1, TwoSided: true},
		"kswin":        &KSWIN{Alpha: 1, Window: -1, Recent: -1},
		"e-process":    &EProcess{Reference: normals(2, 300), Bins: -3, RunLength: nan, Learn: -1},
	}
	for name, want := range detectors(t) {
		d, ok := odd[name]
		if !ok {
			continue
		}
		r := rand.New(rand.NewPCG(8, 8))
		for i := range 4000 {
			x := r.Float64() + 0.5*float64(i/2000)
			if a, b := d.Observe(x), want.Observe(x); a != b {
				t.Fatalf("%s, value %d: %v, the default %v", name, i, a, b)
			}
		}
	}
}

// A naive ADWIN: all values are kept and every sum is taken anew; only the buckets' sizes are
// remembered, since they say where the window may be cut.
type naiveADWIN struct {
	d     ADWIN
	v     []float64
	sizes []int // oldest first
	tick  int
}

func (a *naiveADWIN) observe(x float64) bool {
	a.v = append(a.v, x)
	a.sizes = append(a.sizes, 1)
	for size := 1; ; size *= 2 {
		first := slices.Index(a.sizes, size)
		n := 0
		for _, s := range a.sizes {
			if s == size {
				n++
			}
		}
		if n <= a.d.Buckets {
			break
		}
		a.sizes[first] *= 2
		a.sizes = slices.Delete(a.sizes, first+1, first+2)
	}
	a.tick++
	if a.tick%a.d.Clock != 0 || len(a.v) <= a.d.Grace {
		return false
	}
	drift := false
	for a.differs() {
		a.v = a.v[a.sizes[0]:]
		a.sizes = a.sizes[1:]
		drift = true
	}
	return drift
}

func (a *naiveADWIN) differs() bool {
	n := len(a.v)
	mean := meanOf(a.v)
	v := 0.0
	for _, x := range a.v {
		v += (x - mean) * (x - mean) / float64(n)
	}
	l := math.Log(2 * math.Log(float64(n)) / a.d.Delta)
	cut := 0
	for _, s := range a.sizes {
		cut += s
		if cut < a.d.MinWindow || n-cut < a.d.MinWindow {
			continue
		}
		m := 1/float64(cut-a.d.MinWindow+1) + 1/float64(n-cut-a.d.MinWindow+1)
		if math.Abs(meanOf(a.v[:cut])-meanOf(a.v[cut:])) > math.Sqrt(2*m*v*l)+2.0/3*l*m {
			return true
		}
	}
	return false
}

func meanOf(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func TestADWINAgainstAllValuesKept(t *testing.T) {
	runs := 60
	if brief() {
		runs = 5
	}
	drifts := 0
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := ADWIN{Delta: 0.001 + 0.2*r.Float64(), Clock: 1 + r.IntN(10), Buckets: 1 + r.IntN(6), MinWindow: 1 + r.IntN(8), Grace: 1 + r.IntN(20)}
		naive := naiveADWIN{d: d}
		level, spread, outliers := 0.0, 1.0, r.IntN(4) == 0
		for i := range 800 {
			if r.IntN(120) == 0 {
				level, spread = r.NormFloat64(), 0.2+r.ExpFloat64()
			}
			x := level + spread*r.Float64()
			if outliers && r.IntN(100) == 0 {
				x *= 1e6
			}
			got, want := d.Observe(x) == Drift, naive.observe(x)
			if got != want || d.Width() != len(naive.v) {
				t.Fatalf("seed %d, value %d: drift %v and width %d, want %v and %d", seed, i, got, d.Width(), want, len(naive.v))
			}
			if off := math.Abs(d.Mean() - meanOf(naive.v)); off > 1e-9*max(1, math.Abs(d.Mean())) && !outliers {
				t.Fatalf("seed %d, value %d: mean %v, want %v", seed, i, d.Mean(), meanOf(naive.v))
			}
			if got {
				drifts++
			}
		}
	}
	if drifts < runs {
		t.Errorf("only %d alarms in all, the streams test little", drifts)
	}
}

// After a huge value has left the window, nothing of it is left in the sums.
func TestADWINForgetsHugeValues(t *testing.T) {
	d := &ADWIN{Clock: 1}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		d.Observe(r.Float64())
	}
	for range 20 {
		d.Observe(math.MaxFloat64)
	}
	for range 3000 {
		d.Observe(r.Float64())
	}
	if d.Mean() < 0.4 || d.Mean() > 0.6 {
		t.Errorf("the mean of uniform values is %v, of %d", d.Mean(), d.Width())
	}
}

// The unit of the values is of no matter.
func TestPageHinkleyHasNoUnit(t *testing.T) {
	for _, f := range []struct{ scale, shift float64 }{{1000, 7}, {-3, 100}, {1e-9, 0}, {1e120, 0}} {
		a, b := &PageHinkley{Lambda: 10}, &PageHinkley{Lambda: 10}
		r := rand.New(rand.NewPCG(2, 2))
		alarms := 0
		for i := range 20_000 {
			x := math.Floor(4*r.NormFloat64()) + float64(i/5000)
			va, vb := a.Observe(x), b.Observe(f.scale*x+f.shift)
			if va != vb {
				t.Fatalf("%v: value %d: %v and %v", f, i, va, vb)
			}
			if va == Drift {
				alarms++
			}
		}
		if alarms == 0 {
			t.Error("no alarm at all")
		}
	}
}

func TestPageHinkleySides(t *testing.T) {
	for _, way := range []float64{1, -1} {
		for side, finds := range map[Side]bool{Both: true, Up: way > 0, Down: way < 0} {
			d := &PageHinkley{Side: side}
			r := rand.New(rand.NewPCG(2, 2))
			found := false
			for i := range 2300 {
				found = d.Observe(r.NormFloat64()+way*float64(i/2000)) == Drift || found
			}
			if found != finds {
				t.Errorf("side %d, shift by %v: found %v", side, way, found)
			}
		}
	}
}

// slow is the sliding test by KS, from nothing each time.
func TestSlidingKSAgainstKS(t *testing.T) {
	runs := 80
	if brief() {
		runs = 8
	}
	drifts, calm := 0, 0
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 7))
		draw := func() float64 { return r.NormFloat64() }
		switch seed % 4 {
		case 1:
			draw = func() float64 { return float64(r.IntN(5)) }
		case 2:
			draw = func() float64 { return math.Floor(20 * r.ExpFloat64()) }
		case 3:
			draw = func() float64 {
				return []float64{math.Inf(-1), -1, 0, math.Copysign(0, -1), 0.5, math.Inf(1), r.Float64(), math.NaN()}[r.IntN(8)]
			}
		}
		ref := make([]float64, 1+r.IntN(200))
		for i := range ref {
			ref[i] = draw()
		}
		ref[0] = 0
		window := 2 + r.IntN(60)
		before := slices.Clone(ref)
		d, err := NewSlidingKS(ref, window, 0.2)
		if err != nil {
			continue // too few to differ
		}
		if !slices.EqualFunc(ref, before, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
			t.Fatal("the reference was modified")
		}
		var kept []float64
		for i := range 400 {
			x := draw()
			if i > 200 {
				x++
			}
			verdict := d.Observe(x)
			if x == x {
				kept = append(kept, x)
			}
			kept = kept[max(0, len(kept)-window):]
			want := KS(ref, kept)
			got := d.Score()
			if got.Stat != want.Stat || got.N != want.N || got.M != want.M || got.HasP != want.HasP {
				t.Fatalf("seed %d, value %d: %+v, want %+v", seed, i, got, want)
			}
			if got.P < want.P*(1-1e-9) {
				t.Fatalf("seed %d, value %d: P %v is below the exact %v", seed, i, got.P, want.P)
			}
			if full := len(kept) == window; full != (verdict != Insufficient) {
				t.Fatalf("seed %d, value %d: %d of %d values and %v", seed, i, len(kept), window, verdict)
			} else if full {
				// In integers: the gap that the tree found is that of the samples.
				above, below, _ := maxGap(ascending(ref), ascending(kept))
				if h := max(d.tree[1].high, -d.tree[1].low); h != max(above, below) {
					t.Fatalf("seed %d, value %d: gap %d, want %d", seed, i, h, max(above, below))
				}
				if (verdict == Drift) != (max(above, below) >= d.limit) {
					t.Fatalf("seed %d, value %d: %v at a gap of %d, limit %d", seed, i, verdict, max(above, below), d.limit)
				}
				if verdict == Drift {
					drifts++
				} else {
					calm++
				}
			}
		}
	}
	if drifts < 100 || calm < 100 {
		t.Errorf("%d drifts and %d others: the streams test little", drifts, calm)
	}
}

// Without ties the limit is the least gap whose exact P is at most alpha.
func TestSlidingKSLimitIsExact(t *testing.T) {
	for _, c := range []struct{ n, m int }{{10, 10}, {50, 40}, {100, 7}, {1000, 100}, {3, 200}} {
		for _, alpha := range []float64{0.05, 0.001} {
			d, err := NewSlidingKS(normals(1, c.n), c.m, alpha)
			if err != nil {
				if ksScore(c.n, c.m, int64(c.n)*d.orOne(c.n, c.m), twoSided, nil, exactCells).P <= alpha {
					t.Errorf("%v: %v, and D = 1 has such a P", c, err)
				}
				continue
			}
			at := ksScore(c.n, c.m, d.limit, twoSided, nil, exactCells)
			under := ksScore(c.n, c.m, d.limit-1, twoSided, nil, exactCells)
			if at.P > alpha || under.P <= alpha {
				t.Errorf("%v at %v: P is %v at the limit, %v below it", c, alpha, at.P, under.P)
			}
		}
	}
}

func (d *SlidingKS) orOne(n, m int) int64 {
	_, ms := scaled(n, m)
	return ms
}

func TestNewSlidingKSRefuses(t *testing.T) {
	ref := normals(1, 100)
	for _, c := range []struct {
		ref    []float64
		window int
		alpha  float64
	}{
		{nil, 10, 0.1}, {[]float64{math.NaN()}, 10, 0.1}, {ref, 1, 0.1}, {ref, -5, 0.1}, {ref, maxWindow + 1, 0.1},
		{ref, 10, 0}, {ref, 10, 1}, {ref, 10, math.NaN()}, {ref, 2, 1e-9}, {[]float64{1, 1, 1}, 10, 1e-9},
	} {
		d, err := NewSlidingKS(c.ref, c.window, c.alpha)
		if err == nil || d != nil {
			t.Errorf("%d values, window %d, alpha %v: no error", len(c.ref), c.window, c.alpha)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Row != -1 {
			t.Errorf("%v: it is of no row", err)
		}
	}
}

// Where the window has no value between two of the reference, Score is KS: the ties are known, and that there are none.
func TestSlidingKSScoreIsKS(t *testing.T) {
	between := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(i) + 0.5
		}
		return v
	}
	for name, c := range map[string]struct{ ref, window []float64 }{
		"ties in both":              {valuesOf(5, 4, 6, 5), valuesOf(1, 2, 4, 3)},
		"ties in the reference":     {valuesOf(5, 0, 6, 5), []float64{0, 2, 3}},
		"ties in the window":        {valuesOf(1, 1, 1, 1, 1, 1), valuesOf(0, 3, 0, 4)},
		"one tie between the two":   {valuesOf(1, 1, 1, 1, 1, 1), append(between(5)[:4:4], 3)},
		"the same values":           {valuesOf(1, 1, 1, 1, 1, 1), valuesOf(1, 1, 1, 1, 1)},
		"no ties":                   {valuesOf(1, 1, 1, 1, 1, 1, 1), between(5)},
		"no ties, as many of each":  {valuesOf(1, 1, 1, 1, 1, 1, 1), between(7)},
		"as many of each, one tie":  {valuesOf(1, 1, 1, 1, 1, 1, 1), append(between(6), 2)},
		"beyond the last, and ties": {valuesOf(2, 2, 2), []float64{9, 0, 1, 2}},
	} {
		d, err := NewSlidingKS(c.ref, len(c.window), 0.9)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range c.window {
			d.Observe(x)
		}
		got, want := d.Score(), KS(c.ref, c.window)
		if math.Abs(got.P-want.P) > 1e-12 || got.Method != want.Method || got.Stat != want.Stat {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// Groups as the reference has them, in proportion to reference and window together, but for 64 values at either end.
func TestSlidingKSExpectsTies(t *testing.T) {
	ones := func(n int) []int { return slices.Repeat([]int{1}, n) }
	for _, c := range []struct {
		times  []int // of the reference's values
		window int
		want   []int
	}{
		{[]int{500, 500}, 100, slices.Concat(ones(64), []int{486, 486}, ones(64))},
		{[]int{1000}, 100, slices.Concat(ones(64), []int{972}, ones(64))},
		{[]int{60, 1, 39}, 100, slices.Concat(ones(64), []int{56}, ones(2), []int{14}, ones(64))}, // up to 120, 122, 200
		{[]int{5, 1, 994}, 1000, slices.Concat(ones(10), ones(2), ones(52), []int{1872}, ones(64))},
		{[]int{30, 30}, 60, ones(120)},
	} {
		d, err := NewSlidingKS(valuesOf(c.times...), c.window, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.expectedTies(); !slices.Equal(got, c.want) {
			t.Errorf("%v and a window of %d: %v, want %v", c.times, c.window, got, c.want)
		}
	}
	// Three values against three: D = 1 has a P of 1/10.
	if d, err := NewSlidingKS([]float64{1, 2, 3}, 3, 0.1); err != nil || d.limit != 3 {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := NewSlidingKS([]float64{1, 2, 3}, 3, 0.09); err == nil {
		t.Error("no window of three values has such a P")
	}
}

// Of two values D is a difference of shares: 1.96 times its standard deviation, sqrt(pq(1/n+1/m)), and not the 1.358*sqrt(1/n+1/m) of
// values without ties. (Some values at the ends are taken as untied, which adds a little.)
func TestSlidingKSKnowsTies(t *testing.T) {
	n, m := 3000, 300
	noise := math.Sqrt(1/float64(n) + 1/float64(m))
	limit := func(ref []float64) float64 {
		d, err := NewSlidingKS(ref, m, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		_, ms := scaled(n, m)
		return float64(d.limit) / float64(n) / float64(ms) / noise
	}
	if got := limit(normals(1, n)); math.Abs(got-1.358) > 0.03 {
		t.Errorf("without ties the limit is %.3f of the noise, want 1.358", got)
	}
	if got := limit(valuesOf(n/2, n/2)); got < 0.97 || got > 1.1 {
		t.Errorf("of two values the limit is %.3f of the noise, want 0.98 or a little more", got)
	}
}

// A wrong order of updates would show as a different window: KSWIN equals KS of the halves.
func TestKSWINAgainstKS(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 11))
		d := &KSWIN{Window: 20 + r.IntN(40), Alpha: 0.01}
		d.Recent = 5 + r.IntN(d.Window-10)
		var v []float64
		alarms := 0
		for i := range 1500 {
			x := r.NormFloat64() + 2*float64(i/100%2)
			v = append(v, x)
			want := Insufficient
			if len(v) >= d.Window {
				w := v[len(v)-d.Window:]
				want = Stable
				if KS(w[:d.Window-d.Recent], w[d.Window-d.Recent:]).P <= 0.01 {
					want = Drift
				}
			}
			if got := d.Observe(x); got != want {
				t.Fatalf("seed %d, value %d: %v, want %v", seed, i, got, want)
			}
			if want == Drift {
				v = v[:0]
				alarms++
			}
		}
		if alarms == 0 && d.Recent > 10 && d.Window-d.Recent > 10 {
			t.Errorf("window %d, recent %d: no alarm", d.Window, d.Recent)
		}
	}
}

// Reset forgets values wherever in the reference, or beyond it, they lay.
func TestSlidingKSForgets(t *testing.T) {
	ref := []float64{1, 2, 3, 4, 5}
	for _, x := range []float64{0, 1, 2, 3, 3.5, 4, 4.5, 5, 6} {
		d, err := NewSlidingKS(ref, 4, 0.2)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			d.Observe(x)
		}
		d.Reset()
		for _, y := range []float64{1, 2, 4, 5} { // at most 0.2 from the reference
			d.Observe(y)
		}
		if d.Verdict() != Stable {
			t.Errorf("after %v and Reset: %v", x, d.Verdict())
		}
	}
}
