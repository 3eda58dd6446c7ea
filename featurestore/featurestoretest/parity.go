package featurestoretest

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
)

// Options configures Parity. Nil or the zero value is a good default.
type Options struct {
	// Seed of the order of arrival; 0: 1.
	Seed uint64
	// Duplicates is the share of events that arrive twice. 0: 0.1; negative: none.
	Duplicates float64
	// Late is the share of events that arrive late. 0: 0.1; negative: none.
	Late float64
	// Lateness is how late these are at most; 0: 30 minutes. Beyond the lateness
	// of the windows events are left out online, which the join must know.
	Lateness time.Duration
	// Online opens the store that is served from; nil: one in memory. It must
	// be empty, or hold no key of the feeds.
	Online func(t *testing.T) featurestore.Online
}

// Feed is what happened to one definition; Events and Puts make one.
type Feed struct{ items []item }

type item struct {
	event   time.Time
	arrival time.Time // fixed; zero: Parity chooses it
	early   bool      // may arrive before its event time, by a clock that is ahead
	deliver func(ctx context.Context, s *featurestore.Store, arrival time.Time) error
}

// Events feeds windows with events, in any order.
func Events[K, E, F any](w *featurestore.Windows[K, E, F], events []E) Feed {
	var f Feed
	for _, e := range events {
		f.items = append(f.items, item{
			event: w.EventTime(e), early: true,
			deliver: func(ctx context.Context, s *featurestore.Store, _ time.Time) error {
				return w.Ingest(s)(ctx, e, nil)
			},
		})
	}
	return f
}

// Puts feeds a view with puts, in any order. One with a Created arrives then,
// or at its Event if that lies further ahead than the store's MaxFuture, which
// is the default; the Created of the others is their arrival.
func Puts[K, F any](v *featurestore.View[K, F], puts []featurestore.Put[K, F]) Feed {
	var f Feed
	for _, p := range puts {
		it := item{event: p.Event, early: true, deliver: func(ctx context.Context, s *featurestore.Store, arrival time.Time) error {
			if p.Created.IsZero() {
				p.Created = arrival // a second delivery is of the same put
			}
			_, err := v.PutBatch(ctx, s, []featurestore.Put[K, F]{p})
			return err
		}}
		if !p.Created.IsZero() {
			it.arrival = p.Created
			if p.Event.After(p.Created.Add(maxFuture)) {
				it.arrival = p.Event
			}
		}
		f.items = append(f.items, it)
	}
	return f
}

// arrival is one delivery of an item.
type arrival struct {
	item *item
	at   time.Time
}

const (
	clockError = 30 * time.Second // of producers whose clock is ahead
	maxFuture  = 10 * time.Minute // of the store
)

func (o *Options) schedule(feeds []Feed) []arrival {
	rng := rand.New(rand.NewPCG(o.Seed, 0x9e3779b97f4a7c15))
	within := func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d) + 1)) }
	var all []arrival
	for i := range feeds {
		for j := range feeds[i].items {
			it := &feeds[i].items[j]
			at := it.arrival
			if at.IsZero() {
				at = it.event.Add(within(time.Second))
				switch {
				case rng.Float64() < o.Late:
					at = it.event.Add(within(o.Lateness))
				case it.early && rng.Float64() < 0.1:
					at = it.event.Add(-within(clockError))
				}
			}
			all = append(all, arrival{it, at})
			if rng.Float64() < o.Duplicates {
				all = append(all, arrival{it, at.Add(within(2 * o.Lateness))})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return a.at.Compare(b.at) })
	for i := 1; i < len(all); i++ { // no two at once: their order would be open
		if !all[i].at.After(all[i-1].at) {
			all[i].at = all[i-1].at.Add(1)
		}
	}
	return all
}

func (o *Options) withDefaults() *Options {
	d := Options{}
	if o != nil {
		d = *o
	}
	if d.Seed == 0 {
		d.Seed = 1
	}
	if d.Duplicates == 0 {
		d.Duplicates = 0.1
	}
	if d.Late == 0 {
		d.Late = 0.1
	}
	if d.Lateness <= 0 {
		d.Lateness = 30 * time.Minute
	}
	if d.Online == nil {
		d.Online = func(*testing.T) featurestore.Online { return featurestore.NewMemoryOnline(1_000_000) }
	}
	return &d
}

// Parity fails t unless the service answers online, at the time of each label,
// with exactly the vector and the statuses that the offline join has for it.
// The feeds are delivered through the real ingest path, in a random order of
// arrival, some late, some twice, on a clock that Parity sets. Labels may come
// in any order; those at the very time of an event are the sharpest. The join
// is the default one, as known then. Online knows no NotYetKnown, which counts
// as Missing. It also fails if no label finds any row, since that shows nothing.
func Parity[R any](t *testing.T, s *featurestore.Service[R], labels []featurestore.Label[R], o *Options, feeds ...Feed) {
	t.Helper()
	o = o.withDefaults()
	labels = slices.Clone(labels)
	slices.SortStableFunc(labels, func(a, b featurestore.Label[R]) int { return a.Time.Compare(b.Time) })

	var now time.Time
	store := featurestore.New(o.Online(t), featurestore.NewMemoryOffline(),
		&featurestore.Options{MaxFuture: maxFuture, Now: func() time.Time { return now }})
	arrivals := o.schedule(feeds)
	deliver := func(until time.Time, all bool) {
		t.Helper()
		for len(arrivals) > 0 && (all || !arrivals[0].at.After(until)) {
			now = arrivals[0].at
			if err := arrivals[0].item.deliver(t.Context(), store, now); err != nil {
				t.Fatalf("delivery of the event of %v at %v: %v", arrivals[0].item.event, now, err)
			}
			arrivals = arrivals[1:]
		}
	}
	online := make([]featurestore.Vectors, len(labels))
	for i, l := range labels {
		deliver(l.Time, false)
		now = l.Time
		var err error
		if online[i], err = s.Vectors(t.Context(), store, l.Request); err != nil {
			t.Fatalf("vector of label %d (%+v at %v): %v", i, l.Request, l.Time, err)
		}
	}
	deliver(now, true)

	source := func(yield func(featurestore.Label[R], error) bool) {
		for _, l := range labels {
			if !yield(l, nil) {
				return
			}
		}
	}
	i, hits, wrong := 0, 0, 0
	columns := s.Columns()
	for ex, err := range s.Join(t.Context(), store, source, nil) {
		if err != nil {
			t.Fatalf("join of label %d: %v", i, err)
		}
		for j, want := range ex.Values {
			got := online[i].Values[0][j]
			if math.Float64bits(got) != math.Float64bits(want) && (got == got || want == want) {
				t.Errorf("label %d (%+v at %v): %s is %v online and %v offline",
					i, ex.Request, ex.Time.Format(time.RFC3339Nano), columns[j], got, want)
				wrong++
			}
		}
		for j, want := range ex.Status {
			if want == featurestore.NotYetKnown {
				want = featurestore.Missing
			}
			if want == featurestore.Hit {
				hits++
			}
			if got := online[i].Status[0][j]; got != want {
				t.Errorf("label %d (%+v at %v): definition %d is %v online and %v offline",
					i, ex.Request, ex.Time.Format(time.RFC3339Nano), j, got, want)
				wrong++
			}
		}
		if wrong >= 10 {
			t.Fatal("stopped after ten differences")
		}
		i++
	}
	if i != len(labels) {
		t.Errorf("the join gave %d examples for %d labels", i, len(labels))
	}
	if hits == 0 {
		t.Error("no label found any row: nothing was compared")
	}
}
