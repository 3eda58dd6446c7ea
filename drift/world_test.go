package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A world draws rows of features of every awkward shape, and can shift some.
type world struct {
	*rand.Rand

	shift map[string]bool
}

type trait struct {
	name   string
	number func(w *world, shifted bool) float64
	text   func(w *world, shifted bool) string
}

func size(shifted bool, by float64) float64 {
	if shifted {
		return by
	}
	return 0
}

var traits = []trait{
	{name: "normal", number: func(w *world, s bool) float64 { return w.NormFloat64() + size(s, 0.6) }},
	{name: "lognormal", number: func(w *world, s bool) float64 { return math.Exp(1.5*w.NormFloat64() + size(s, 1)) }},
	{name: "heavy", number: func(w *world, s bool) float64 { return math.Pow(w.Float64(), -1.2) * (1 + size(s, 1)) }},
	{name: "five-values", number: func(w *world, s bool) float64 { return float64(w.IntN(5)) * (1 - size(s && w.IntN(3) == 0, 1)) }},
	{name: "zero-inflated", number: func(w *world, s bool) float64 {
		if w.Float64() < 0.7-size(s, 0.3) {
			return 0
		}
		return w.ExpFloat64()
	}},
	{name: "counts", number: func(w *world, s bool) float64 { return math.Floor(3 * w.ExpFloat64() * (1 + size(s, 0.7))) }},
	{name: "rare-ones", number: func(w *world, s bool) float64 {
		if w.Float64() < 0.004+size(s, 0.15) {
			return 1
		}
		return 0
	}},
	{name: "missing", number: func(w *world, s bool) float64 {
		if w.Float64() < 0.03+size(s, 0.2) {
			return math.NaN()
		}
		return w.NormFloat64()
	}},
	{name: "constant", number: func(w *world, s bool) float64 { return 4 + size(s && w.IntN(4) == 0, 1) }},
	{name: "zipf", text: func(w *world, s bool) string {
		k := int(math.Pow(40, w.Float64())) // about 1/k
		if s && w.IntN(3) == 0 {
			k = 41 // unseen
		}
		return string(rune('A' + k))
	}},
	{name: "plan", text: func(w *world, s bool) string {
		switch u := w.Float64(); {
		case u < 0.02:
			return ""
		case u < 0.7-size(s, 0.25):
			return "free"
		case u < 0.95:
			return "pro"
		}
		return "team"
	}},
}

func newWorld(seed uint64, shifted ...string) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 99)), shift: map[string]bool{}}
	for _, s := range shifted {
		w.shift[s] = true
	}
	return w
}

func (w *world) reference(t testing.TB, rows int, of []trait) *Reference {
	t.Helper()
	var columns []Column
	for _, tr := range of {
		if tr.number != nil {
			v := make([]float64, rows)
			for i := range v {
				v[i] = tr.number(w, false)
			}
			columns = append(columns, Numbers(tr.name, v))
			continue
		}
		v := make([]string, rows)
		for i := range v {
			v[i] = tr.text(w, false)
		}
		columns = append(columns, Categories(tr.name, v))
	}
	return fitted(t, columns...)
}

// observe feeds rows through the handles; after each row it calls tick.
type feeder struct {
	w       *world
	of      []trait
	numbers []*Numeric
	texts   []*Categorical
}

func (w *world) feeder(t testing.TB, m *Monitor, of []trait) *feeder {
	t.Helper()
	f := &feeder{w: w, of: of, numbers: make([]*Numeric, len(of)), texts: make([]*Categorical, len(of))}
	for i, tr := range of {
		var err error
		if tr.number != nil {
			f.numbers[i], err = m.Numeric(tr.name)
		} else {
			f.texts[i], err = m.Categorical(tr.name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *feeder) rows(n int, tick func()) {
	for range n {
		for i, tr := range f.of {
			s := f.w.shift[tr.name]
			if tr.number != nil {
				f.numbers[i].Observe(tr.number(f.w, s))
			} else {
				f.texts[i].Observe(tr.text(f.w, s))
			}
		}
		tick()
	}
}

// clock is event time: it moves when told.
type clock struct{ now time.Time }

func newClock() *clock {
	return &clock{now: time.Date(2011, 5, 1, 0, 0, 0, 0, time.UTC)}
}

func (c *clock) Now() time.Time { return c.now }

func (c *clock) step(d time.Duration) func() { return func() { c.now = c.now.Add(d) } }

// taken judges what has closed and takes the alerts, as Watch would.
func taken(m *Monitor) []Alert {
	m.settle()
	var out []Alert
	for {
		a, ok := m.oldestAlert()
		if !ok {
			return out
		}
		m.told(a.ID)
		out = append(out, a)
	}
}

func named(a Alert) []string {
	all := append([]string{a.Feature.Name}, a.Others...)
	slices.Sort(all)
	return all
}
