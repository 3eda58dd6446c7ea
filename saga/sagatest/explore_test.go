package sagatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/saga"
)

// trip is a state, agency the world: who holds what, by idempotency key.
type trip struct{ Hotel, Flight, Mail string }

type agency struct {
	hotels, flights, mails map[string]bool
	calls                  int
	broken                 string // which mistake the steps make
}

func newAgency(broken string) *agency {
	return &agency{hotels: map[string]bool{}, flights: map[string]bool{}, mails: map[string]bool{}, broken: broken}
}

func (a *agency) reserve(_ context.Context, c saga.Call, _ trip) (string, error) {
	key := "hotel of " + c.Saga
	if a.broken == "not idempotent" {
		a.calls++
		key = fmt.Sprintf("hotel %d of %s", a.calls, c.Saga)
	}
	a.hotels[key] = true
	return key, nil
}

func (a *agency) release(_ context.Context, c saga.Call, _ trip, o saga.Outcome[string]) error {
	key := "hotel of " + c.Saga
	switch a.broken {
	case "trusts the result":
		key = o.Value
	case "undo is not a no-op":
		if !a.hotels[key] {
			a.mails["sorry, we never booked"] = true
		}
	case "fails the second time":
		if !a.hotels[key] && o.Known {
			return saga.Reject(errors.New("there is no such reservation"))
		}
	}
	delete(a.hotels, key)
	return nil
}

func (a *agency) look(context.Context, saga.Call, trip) (int, error) { return len(a.hotels), nil }

func (a *agency) buy(_ context.Context, c saga.Call, _ trip) (string, error) {
	a.flights[c.Key.String()] = true
	return c.Key.String(), nil
}

func (a *agency) mail(_ context.Context, c saga.Call, _ trip) (string, error) {
	a.mails[c.Key.String()] = true
	return "sent", nil
}

func (a *agency) check(end End[trip]) error {
	h, f, m := len(a.hotels), len(a.flights), len(a.mails)
	switch {
	case end.Status == saga.Completed && (h != 1 || f != 1 || m != 1):
		return fmt.Errorf("completed with %d hotels, %d flights, %d mails", h, f, m)
	case end.Status == saga.Completed && (end.State.Hotel == "" || end.State.Flight == "" || end.State.Mail == ""):
		return fmt.Errorf("completed with state %+v", end.State)
	case end.Status == saga.RolledBack && h+f+m != 0:
		return fmt.Errorf("rolled back with %d hotels, %d flights, %d mails", h, f, m)
	case end.Status == saga.Parked && f > 1:
		return fmt.Errorf("parked with %d flights", f)
	}
	return nil
}

func (a *agency) definition() *saga.Definition[trip] {
	return saga.Define("book-trip", 1,
		saga.Before(
			saga.Undoable("hotel", a.reserve, a.release, func(t *trip, id string) { t.Hotel = id }),
			saga.ReadOnly("look", a.look, nil),
		),
		saga.Pivot("flight", a.buy, func(t *trip, id string) { t.Flight = id }),
		saga.Retriable("mail", a.mail, func(t *trip, s string) { t.Mail = s }),
	)
}

func (a *agency) testCase() Case[trip] {
	return Case[trip]{
		Definition: a.definition(), Check: a.check,
		Snapshot: func() any { return []map[string]bool{maps.Clone(a.hotels), maps.Clone(a.flights), maps.Clone(a.mails)} },
	}
}

func TestExploreSound(t *testing.T) {
	Explore(t, func() Case[trip] { return newAgency("").testCase() }, nil)
}

func TestExplorePairs(t *testing.T) {
	Explore(t, func() Case[trip] { return newAgency("").testCase() }, &Options{Pairs: true})
}

func explorerOf(t *testing.T, broken string) *explorer[trip] {
	return &explorer[trip]{t: t, fresh: func() Case[trip] { return newAgency(broken).testCase() }, options: &Options{}, done: map[string]bool{}}
}

func TestFaultsHappen(t *testing.T) {
	base := explorerOf(t, "").run(nil)
	require.NoError(t, base.err)
	require.Equal(t, saga.Completed, base.status)
	writes := 0
	for _, p := range base.points {
		if p.step == "" {
			writes++
		}
	}
	require.Equal(t, 5, writes, "four steps cost five durable writes")

	cases := map[string]saga.Status{
		"reject:hotel.action#1":                                        saga.RolledBack,
		"reject:flight.action#1":                                       saga.RolledBack,
		"unknown-done:hotel.action#1":                                  saga.RolledBack,
		"unknown-not-done:hotel.action#1":                              saga.RolledBack,
		"fails-after:flight.action#1":                                  saga.Completed,
		"unknown-done:flight.action#1":                                 saga.Completed, // after Resume
		"crash-before:write#3":                                         saga.Completed,
		"zombie:write#4":                                               saga.Completed,
		"cut-off:write#1":                                              saga.Completed,
		"cut-off:write#4":                                              saga.Completed,
		"crash-after:write#2 answer-lost:claim#1":                      saga.Completed,
		"crash-before:write#2 crash-after:claim#1":                     saga.Completed,
		"reject:flight.action#1 cut-off:write#4":                       saga.RolledBack,
		"reject:flight.action#1 zombie:write#5":                        saga.RolledBack,
		"reject:flight.action#1 unknown-not-done:hotel.compensation#1": saga.RolledBack, // after Resume
	}
	for text, want := range cases {
		s, err := parseSchedule(text)
		require.NoError(t, err)
		require.Equal(t, text, s.String())
		r := explorerOf(t, "").run(s)
		require.NoError(t, r.err, "%s\n%s", text, r.log)
		require.Equal(t, want, r.status, "%s\n%s", text, r.log)
		for _, f := range s {
			require.Contains(t, r.log, fmt.Sprintf("%s  ← %s", f.at, f.kind), text)
		}
	}
}

// Each mistake is found, by the fault that shows it.
func TestMistakesAreFound(t *testing.T) {
	cases := []struct{ broken, schedule, text string }{
		{"not idempotent", "crash-before:write#2", "completed with 2 hotels"},
		{"trusts the result", "unknown-done:hotel.action#1", "rolled back with 1 hotels"},
		{"fails the second time", "reject:look.action#1 crash-before:write#4", "ended parked"},
	}
	for _, c := range cases {
		s, err := parseSchedule(c.schedule)
		require.NoError(t, err)
		e := explorerOf(t, c.broken)
		first := e.run(s[:len(s)-1])
		require.NoError(t, first.err)
		r := e.run(s)
		if r.err == nil && r.status != first.status {
			r.err = fmt.Errorf("ended %v", r.status)
		}
		require.ErrorContains(t, r.err, c.text, "%s\n%s", c.broken, r.log)
	}
}

func TestParseScheduleRefuses(t *testing.T) {
	for _, text := range []string{"crash:write#1", "crash-after:write", "crash-after:write#0", "reject:write#1", "crash-after:a.action#1", "reject:.action#1", "reject:a.undo#1", "zombie:claim#1", "x"} {
		_, err := parseSchedule(text)
		require.Error(t, err, text)
	}
	s, err := parseSchedule("")
	require.NoError(t, err)
	require.Empty(t, s)
}
