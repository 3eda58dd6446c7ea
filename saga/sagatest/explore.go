package sagatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mainstay-go/mainstay/saga"
)

// Case is a saga in a world of its own.
type Case[S any] struct {
	// Definition is the saga.
	Definition *saga.Definition[S]
	// Input is the state it is started with.
	Input S
	// Check says whether the world is as it must be at the end. It is also
	// called for a parked saga, which is then resumed. Nil checks nothing.
	Check func(End[S]) error
	// Snapshot returns the world in a form that reflect.DeepEqual can compare,
	// for [Laws] and for failure messages. It must share nothing with the world.
	// Explore does without it.
	Snapshot func() any
	// LateActions makes [Laws] demand that an action which arrives after its
	// compensation does nothing.
	LateActions bool
}

// End is how a saga ended.
type End[S any] struct {
	// Status is Completed, RolledBack or Parked.
	Status saga.Status
	// State is the saga's state.
	State S
	// Parked is the step at which it is parked; empty otherwise.
	Parked string
}

// Options choose what is explored; nil explores single faults on memory stores.
type Options struct {
	// Pairs also explores every fault after every other. It takes the square of
	// the time.
	Pairs bool
	// Schedule replays one schedule, as a failure printed it, and nothing else.
	Schedule string
	// Store opens an empty store for one run, in that run's bubble of virtual
	// time. Nil is saga.NewMemoryStore. One that syncs to disk is slow; switch
	// the syncs off.
	Store func(testing.TB) saga.Store
}

// maxFailures is how many failing schedules are printed.
const maxFailures = 5

// Explore runs the saga of fresh() under every schedule of faults that Options
// choose, each in a fresh world, in virtual time: timeouts, pauses and leases
// take none. It fails t for a schedule after which
//
//   - the saga has not ended within a week of virtual time;
//   - faults that must not matter (crashes, a failing store, a replaced runner,
//     an effect that happens twice) changed whether the saga is completed or
//     undone, unless its deadline passed;
//   - a replaced runner's write was accepted, or it began a call that it had not
//     begun before;
//   - Case.Check returns an error.
//
// Without Pairs, that is every single fault on the way forward, for each step
// that can reject, every single fault on the way back, and after each crash, a
// claim whose answer is lost. Fresh, and all
// that the steps do, runs in a testing/synctest bubble: no real network, and no
// waiting for what is outside. Failures are printed shortest schedule first.
func Explore[S any](t *testing.T, fresh func() Case[S], o *Options) {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	e := &explorer[S]{t: t, fresh: fresh, options: o, done: map[string]bool{}}
	if o.Schedule != "" {
		s, err := parseSchedule(o.Schedule)
		if err != nil {
			t.Fatal(err)
		}
		r := e.run(s)
		t.Logf("schedule %s\n%s", s, r.log)
		if r.err != nil {
			t.Errorf("schedule %q: %v", s, r.err)
		}
		return
	}
	base := e.try(nil, 0)
	if base.err != nil {
		return // nothing else makes sense
	}
	type way struct {
		first fault
		result
	}
	var ways []way
	for _, p := range base.points {
		for _, f := range faultsAt(p, base.rejectable) {
			r := e.try(schedule{f}, base.status)
			if r.err == nil && (o.Pairs || f.kind == reject || f.kind == crashAfter) {
				ways = append(ways, way{f, r})
			}
		}
	}
	for _, w := range ways {
		for _, p := range w.after(w.first.at) {
			if !o.Pairs && w.first.kind == crashAfter && !p.claim {
				continue
			}
			for _, f := range faultsAt(p, w.rejectable) {
				want := w.status
				if slices.Contains(callKinds, w.first.kind) && w.first.kind != duplicate {
					want = 0 // a second fault may use up its attempts
				}
				e.try(schedule{w.first, f}, want)
			}
		}
	}
	t.Logf("sagatest: explored %d schedules, %d failed", len(e.done), e.failed)
}

// explorer runs schedules.
type explorer[S any] struct {
	t       *testing.T
	fresh   func() Case[S]
	options *Options
	done    map[string]bool
	failed  int
}

// try runs a schedule and reports what is wrong. If every fault that is not in
// its way back is neutral, the saga has to end with status want, if not 0.
func (e *explorer[S]) try(s schedule, want saga.Status) result {
	e.t.Helper()
	r := e.run(s)
	e.done[s.String()] = true
	if r.err == nil && want != 0 && s[len(s)-1].kind.neutral() && r.status != want && !r.overdue {
		r.err = fmt.Errorf("the saga ended %v, and without this fault it ends %v; %s must not change that", r.status, want, s[len(s)-1])
	}
	if r.err != nil {
		if e.failed++; e.failed <= maxFailures {
			name := s.String()
			if name == "" {
				name = "(no fault)"
			}
			e.t.Errorf("schedule %q: %v\n%s", name, r.err, r.log)
		}
	}
	return r
}

// result is what a run brought.
type result struct {
	points     []point
	status     saga.Status
	overdue    bool
	rejectable map[string]bool
	log        string
	err        error
}

// after lists the points beyond one.
func (r result) after(p point) []point {
	return r.points[slices.Index(r.points, p)+1:]
}

// rejectable lists the steps before the pivot and the pivot.
func rejectable(shape saga.Shape) (map[string]bool, error) {
	steps, err := readShape(shape)
	names := map[string]bool{}
	for _, st := range steps {
		names[st.Name] = st.Kind != "retriable"
	}
	return names, err
}

func readShape(shape saga.Shape) ([]stepKind, error) {
	var s struct{ Steps []stepKind }
	if err := json.Unmarshal([]byte(shape), &s); err != nil {
		return nil, fmt.Errorf("read the definition's shape: %w", err)
	}
	return s.Steps, nil
}

func (e *explorer[S]) run(s schedule) (r result) {
	synctest.Test(e.t, func(t *testing.T) {
		var store saga.Store = saga.NewMemoryStore()
		if e.options.Store != nil {
			store = e.options.Store(t)
		}
		w := &world[S]{turn: make(chan struct{}, 1), c: e.fresh(), store: store, faults: s, seen: map[point]int{}}
		r.err = w.live(t.Context())
		r.points, r.status, r.overdue = w.points, w.end.Status, w.overdue
		r.log = strings.Join(w.log, "\n")
		if r.err != nil && w.c.Snapshot != nil {
			r.log += fmt.Sprintf("\n  the world: %+v", w.c.Snapshot())
		}
		var err error
		if r.rejectable, err = rejectable(w.c.Definition.Shape()); err != nil {
			r.err = errors.Join(r.err, err)
		}
	})
	return r
}
