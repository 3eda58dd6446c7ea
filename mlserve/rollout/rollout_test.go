package rollout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/retrain"
	"github.com/mainstay-go/mainstay/saga"
	"github.com/mainstay-go/mainstay/saga/sagatest"
)

// Whatever fault befalls a rollout, it ends finished or undone.
func TestExplore(t *testing.T) {
	sagatest.Explore(t, func() sagatest.Case[State] {
		w := newWorld(t, newRegistry(t))
		return sagatest.Case[State]{
			Definition: w.definition(),
			Input:      State{Cause: "age drifted"},
			Check:      func(end sagatest.End[State]) error { return w.agree(end.Status, end.State) },
		}
	}, &sagatest.Options{Pairs: os.Getenv("MAINSTAY_SOAK") != ""})
}

func TestLaws(t *testing.T) {
	sagatest.Laws(t, func() sagatest.Case[State] {
		w := newWorld(t, newRegistry(t))
		// One stage: a compensation sends all traffic to the champion, not to
		// the stage before.
		w.plan.Shadow, w.plan.Canary = Stage{}, w.plan.Canary[:1]
		return sagatest.Case[State]{
			Definition: w.definition(),
			Snapshot: func() any {
				tr := w.server.Traffic("ranker")
				return []any{w.alias("champion"), w.alias("challenger"), tr.Arms, tr.Shadow, len(w.server.Loaded("ranker")), len(w.trained)}
			},
		}
	})
}

// running starts a runner of the world's rollouts, which the test stops.
func running(t *testing.T, w *world) (*saga.Definition[State], *saga.Runner, func()) {
	t.Helper()
	d := w.definition()
	r, err := saga.NewRunner(saga.NewMemoryStore(), nil, d)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return d, r, func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// run executes one rollout in a bubble.
func run(t *testing.T, w *world) (State, error) {
	t.Helper()
	d, r, stop := running(t, w)
	defer stop()
	require.NoError(t, d.Start(t.Context(), r, "1", State{Cause: "test"}))
	state, err := d.Wait(t.Context(), r, "1")
	info, getErr := r.Get(t.Context(), "1")
	require.NoError(t, getErr)
	require.NoError(t, w.agree(info.Status, state))
	return state, err
}

func TestStagesTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newRegistry(t))
		began := time.Now()
		watched := make(chan string)
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			var seen []string
			for ctx.Err() == nil {
				tr := w.server.Traffic("ranker")
				now := fmt.Sprint(tr.Shadow)
				for _, a := range tr.Arms {
					now += fmt.Sprintf(" %s=%.1f", a.Name, a.Weight)
				}
				if len(seen) == 0 || seen[len(seen)-1] != now {
					seen = append(seen, now)
				}
				time.Sleep(10 * time.Millisecond)
			}
			watched <- strings.Join(seen, "; ")
		}()
		state, err := run(t, w)
		require.NoError(t, err)
		require.InDelta(t, 50, time.Since(began).Seconds(), 1)
		require.Equal(t, mlserve.Promote, state.Verdict.Decision)
		require.Equal(t, "test", state.Candidate.Manifest.Data)
		stop()
		require.Equal(t, "[2]; [] champion=0.9 challenger=0.1; [] champion=0.5 challenger=0.5", strings.TrimPrefix(strings.TrimSuffix(<-watched, "; []"), "[]; "))
	})
}

func TestWhatStopsARollout(t *testing.T) {
	cases := map[string]struct {
		change func(w *world)
		want   string
	}{
		"train refuses": {func(w *world) {
			w.plan.Train = func(context.Context, saga.Call, string) (Candidate, error) {
				return Candidate{}, saga.Reject(errors.New("too little data"))
			}
		}, "too little data"},
		"no version": {func(w *world) {
			w.plan.Train = func(context.Context, saga.Call, string) (Candidate, error) { return Candidate{}, nil }
		}, "no version"},
		"another model": {func(w *world) {
			w.plan.Train = func(context.Context, saga.Call, string) (Candidate, error) {
				return Candidate{Manifest: mlserve.Manifest{Model: "other", Version: "2"}}, nil
			}
		}, `model "other"`},
		"evaluation": {func(w *world) {
			w.plan.Evaluate = func(_ context.Context, _ saga.Call, v Candidate) error {
				return saga.Reject(fmt.Errorf("version %s is worse", v.Manifest.Version))
			}
		}, "version 2 is worse"},
		"the champion again": {func(w *world) {
			train := w.plan.Train
			w.plan.Train = func(ctx context.Context, c saga.Call, cause string) (Candidate, error) {
				v, err := train(ctx, c, cause)
				v.Manifest.Version = "1"
				return v, err
			}
		}, "champion already"},
		"no champion": {func(w *world) { delete(w.registry.(*registry).aliases, "champion") }, `no alias "champion"`},
		"wrong policy": {func(w *world) {
			w.policy = mlserve.Latest(1)
			require.NoError(w.t, w.registry.Publish(context.Background(), mlserve.Manifest{Model: "ranker", Version: "1.5"}, files("1.5")))
			w.boot()
		}, "needs a server that follows the champion"},
		"a version that is taken": {func(w *world) {
			require.NoError(w.t, w.registry.Publish(context.Background(), mlserve.Manifest{Model: "ranker", Version: "2"}, files("another")))
		}, "conflict"},
		"a file that does not load": {func(w *world) { w.answer = "corrupt" }, "corrupt"},
		"the judge":                 {func(w *world) { w.decision = mlserve.Rollback }, "the judge found the candidate worse"},
		"the judge cannot decide":   {func(w *world) { w.decision = mlserve.Hold }, "could not decide within 3m40s"},
		"impatience": {func(w *world) {
			w.decision = mlserve.Hold
			w.plan.Patience = time.Second
		}, "could not decide within 21s"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newRegistry(t))
				c.change(w)
				d, r, stop := running(t, w)
				defer stop()
				before := w.server.Loaded("ranker")[0].Version
				require.NoError(t, d.Start(t.Context(), r, "1", State{}))
				_, err := d.Wait(t.Context(), r, "1")
				require.ErrorIs(t, err, saga.ErrRolledBack)
				require.ErrorContains(t, err, c.want)
				require.Empty(t, w.trained)
				require.Empty(t, w.alias("challenger"))
				require.NotEqual(t, "2", w.alias("champion"))
				require.Equal(t, before, w.server.Loaded("ranker")[0].Version)
				require.Empty(t, w.server.Traffic("ranker").Arms)
			})
		})
	}
}

// Somebody who moves the champion by hand wins.
func TestChampionMovedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newRegistry(t))
		require.NoError(t, w.registry.Publish(t.Context(), mlserve.Manifest{Model: "ranker", Version: "1.1"}, files("1.1")))
		time.AfterFunc(25*time.Second, func() {
			require.NoError(t, w.registry.Alias(context.Background(), "ranker", "champion", "1.1"))
		})
		d, r, stop := running(t, w)
		defer stop()
		require.NoError(t, d.Start(t.Context(), r, "1", State{}))
		_, err := d.Wait(t.Context(), r, "1")
		require.ErrorContains(t, err, `the champion is "1.1" now`)
		require.Equal(t, "1.1", w.alias("champion"))
		require.Empty(t, w.server.Traffic("ranker").Arms)
	})
}

// Two rollouts that were started past the trigger do not share the traffic: one
// ends the other at its first stage.
func TestTwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newRegistry(t))
		w.plan.Train = func(_ context.Context, c saga.Call, _ string) (Candidate, error) {
			if c.Saga == "2" {
				time.Sleep(7 * time.Second) // into the first one's shadow stage
				return Candidate{Manifest: mlserve.Manifest{Version: "3"}}, nil
			}
			return Candidate{Manifest: mlserve.Manifest{Version: "2"}}, nil
		}
		d, r, stop := running(t, w)
		defer stop()
		require.NoError(t, d.Start(t.Context(), r, "1", State{}))
		require.NoError(t, d.Start(t.Context(), r, "2", State{}))
		_, err := d.Wait(t.Context(), r, "2")
		require.ErrorIs(t, err, saga.ErrRolledBack)
		require.ErrorContains(t, err, `the traffic belongs to the rollout "1"`)
		require.Equal(t, []string{"2"}, w.server.Traffic("ranker").Shadow, "undisturbed")
		_, err = d.Wait(t.Context(), r, "1")
		require.NoError(t, err)
		require.Equal(t, "2", w.alias("champion"))
	})
}

// stopStore crashes the runner before or after its nth write.
type stopStore struct {
	saga.Store

	at    int
	after bool
	n     int
	dead  bool
	crash func()
}

func (s *stopStore) Commit(ctx context.Context, c []saga.Change) ([]error, error) {
	if s.dead {
		return nil, errors.New("crashed")
	}
	s.n++
	if s.n != s.at {
		return s.Store.Commit(ctx, c)
	}
	if s.after {
		if _, err := s.Store.Commit(ctx, c); err != nil {
			return nil, err
		}
	}
	s.dead = true
	s.crash()
	return nil, errors.New("crashed")
}

// A process that ends takes its server's traffic with it. The next one goes on
// with a server that knows only the registry.
func TestRestartAtEachWrite(t *testing.T) {
	for _, decision := range []mlserve.Decision{mlserve.Promote, mlserve.Rollback} {
		crashed := 0
		for n := 1; n <= 12; n++ {
			for _, after := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, seed(t, t.TempDir()))
					w.decision = decision
					if decision == mlserve.Rollback {
						w.plan.Shadow = Stage{} // so that it gets to a canary
					}
					store := saga.NewMemoryStore()
					for incarnation := range 2 {
						w.boot()
						d := w.definition()
						ctx, cancel := context.WithCancel(t.Context())
						s := &stopStore{Store: store, crash: cancel}
						if incarnation == 0 {
							s.at, s.after = n, after
						}
						r, err := saga.NewRunner(s, &saga.Options{Drain: time.Nanosecond}, d)
						require.NoError(t, err)
						ended := make(chan error, 1)
						go func() { ended <- r.Run(ctx) }()
						require.NoError(t, d.Start(ctx, r, "1", State{}))
						state, err := d.Wait(ctx, r, "1")
						if s.dead {
							crashed++
							require.NoError(t, <-ended)
							continue
						}
						status := saga.Completed
						if decision == mlserve.Rollback {
							status = saga.RolledBack
							require.ErrorIs(t, err, saga.ErrRolledBack)
						} else {
							require.NoError(t, err)
						}
						require.NoError(t, w.agree(status, state), "%v write %d, after: %v", decision, n, after)
						cancel()
						require.NoError(t, <-ended)
						break
					}
				})
			}
		}
		// Nine steps; or three, the decision and two compensations.
		require.Equal(t, map[mlserve.Decision]int{mlserve.Promote: 18, mlserve.Rollback: 12}[decision], crashed, decision)
	}
}

// Requests with keys, two real versions, the real judge.
func TestWithTraffic(t *testing.T) {
	for _, candidate := range []string{"2", "broken"} {
		t.Run(candidate, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed(t, t.TempDir()))
				w.answer = candidate
				w.plan.Judge = func() mlserve.Judge { return &mlserve.Sequential{MinKeys: 200} }
				w.plan.Shadow = Stage{}
				ctx, stop := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- w.server.Run(ctx) }()
				answers := make(chan map[float64]int)
				go func() {
					got := map[float64]int{}
					for n := 0; ctx.Err() == nil; n++ {
						a, err := w.server.Predict(ctx, "ranker", mlserve.Request{Key: fmt.Sprint("customer-", n), Input: mlserve.Rows([]float64{1})})
						if err == nil {
							got[a.Output[0].Data.([]float64)[0]]++
						} else {
							got[0]++
						}
						time.Sleep(5 * time.Millisecond)
					}
					answers <- got
				}()
				_, err := run(t, w)
				stop()
				got := <-answers
				require.NoError(t, <-served)
				require.Positive(t, got[1])
				if candidate == "2" {
					require.NoError(t, err)
					require.Zero(t, got[0], "no request failed")
					require.Positive(t, got[2])
					return
				}
				require.ErrorIs(t, err, saga.ErrRolledBack)
				require.ErrorContains(t, err, "the judge found the candidate worse")
				require.Less(t, got[0], 60, "a tenth of the keys, until the judge was sure")
			})
		})
	}
}

func TestDefineRefuses(t *testing.T) {
	good := newWorld(t, newRegistry(t))
	cases := map[string]func(*Plan){
		"Plan.Model":            func(p *Plan) { p.Model = "" },
		"Plan.Server":           func(p *Plan) { p.Server = nil },
		"Plan.Registry":         func(p *Plan) { p.Registry = nil },
		"Plan.Train":            func(p *Plan) { p.Train = nil },
		"Plan.Canary[0].Share":  func(p *Plan) { p.Canary = []Stage{{Share: 1, For: 1}} },
		"Plan.Canary[1].Share":  func(p *Plan) { p.Canary = []Stage{{Share: 0.5, For: 1}, {Share: 0.5, For: 1}} },
		"Plan.Canary[0].For":    func(p *Plan) { p.Canary = []Stage{{Share: 0.5}} },
		"must not be negative":  func(p *Plan) { p.Timeout = -1 },
		"must not be negative ": func(p *Plan) { p.Patience = -1 },
	}
	for want, change := range cases {
		p := good.plan
		p.Server = good.server
		require.NoError(t, Define("rollout", 1, p).Err())
		change(&p)
		err := Define("rollout", 1, p).Err()
		require.ErrorIs(t, err, saga.ErrDefinition)
		require.ErrorContains(t, err, strings.TrimSpace(want))
	}
}

func TestTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newRegistry(t))
		ctx := t.Context()
		d, r, stop := running(t, w)
		defer stop()
		trigger := Trigger(d, r)
		request := func(id string) retrain.Request {
			return retrain.Request{Key: idempotency.Key{Scope: "drift", ID: id}, Model: "ranker", Reason: "age"}
		}
		first, err := trigger(ctx, request("1"))
		require.NoError(t, err)
		again, err := trigger(ctx, request("1"))
		require.NoError(t, err)
		require.Equal(t, first, again)
		_, err = trigger(ctx, request("2"))
		require.ErrorIs(t, err, retrain.ErrBusy)
		require.ErrorContains(t, err, first.ID+" is running")
		_, err = trigger(ctx, retrain.Request{})
		require.ErrorIs(t, err, idempotency.ErrKey)
		state, err := d.Wait(ctx, r, first.ID)
		require.NoError(t, err)
		require.Equal(t, "age", state.Cause)
		again, err = trigger(ctx, request("1"))
		require.NoError(t, err)
		require.Equal(t, first, again, "long after")
		long, err := trigger(ctx, request(strings.Repeat("x", 500)))
		require.NoError(t, err)
		require.Less(t, len(long.ID), 256)
		again, err = trigger(ctx, request("1"))
		require.NoError(t, err)
		require.Equal(t, first, again, "while another goes on")
	})
}

func TestFinite(t *testing.T) {
	inf := 1.0
	for range 2000 {
		inf *= 10
	}
	v := finite(mlserve.Verdict{Evidence: []mlserve.Evidence{{EValue: inf, Control: inf - inf, Candidate: -inf}}})
	e := v.Evidence[0]
	require.Zero(t, e.Control)
	require.Less(t, e.EValue, inf)
	require.Greater(t, e.Candidate, -inf)
}
