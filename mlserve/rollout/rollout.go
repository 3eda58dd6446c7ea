// Package rollout brings a new version of a model into service as a saga: train,
// evaluate, register, shadow, canary by stages, promote; or undo all of it.
//
// # Steps
//
//	train     Plan.Train makes a candidate          undo: Plan.Forget
//	evaluate  Plan.Evaluate may reject it           changes nothing
//	register  publishes it, alias "challenger"      undo: the alias is taken away
//	shadow    it answers copies, nobody sees them   undo: all traffic to the champion
//	canary-1  it answers a share of the keys        undo: all traffic to the champion
//	canary-…  a larger share                        undo: all traffic to the champion
//	promote   the alias "champion" moves            the pivot
//	serve     all traffic to the new version        repeated until it succeeds
//	retire    the alias "challenger" is taken away  repeated until it succeeds
//
// The shadow step is left out if Plan.Shadow.For is zero. Outside its stages a
// rollout leaves no split: everything goes to the primary, which is the champion.
//
// # What holds after kill -9
//
// Every step may be repeated and may be interrupted anywhere. A server forgets
// its traffic when its process ends and then serves the champion alone; the saga
// goes on when its runner starts, at the step it had reached. A stage begins
// anew, with a new judge, and each of its polls makes sure that the split is
// still in place. When the saga has ended, alias, served version and history
// agree: completed, and the champion is the candidate; or rolled back, and the
// champion is the one from before. A published version stays in the registry
// either way, since versions never change.
//
// # What it relies on
//
// Only the rollout writes the traffic of its model, and only it moves the aliases
// "champion" and "challenger"; one rollout of a model goes on at a time (see
// [Trigger]). The server's Policy for the model must be mlserve.Alias("champion"),
// or Alias("champion", "challenger"): with Latest, publishing would promote. The
// champion alias must be set before the first rollout.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/saga"
)

const (
	champion   = "champion"
	challenger = "challenger"
)

// Plan says how a model is trained and how carefully it is rolled out. Its
// functions are called from any goroutine and may be called more than once for
// one rollout; Call.Key is then the same.
type Plan struct {
	// Model is the model's name; required.
	Model string
	// Server serves the model; required. The model must have been added when
	// the runner starts.
	Server *mlserve.Server
	// Registry keeps the versions, and is the source the server watches; required.
	Registry mlserve.Registry
	// Train makes a candidate; required. The cause is State.Cause. Repeated
	// calls with one Call.Key should give the same candidate, or one of another
	// version. saga.Ongoing polls a run that goes on elsewhere; saga.Reject says
	// that there is nothing to roll out.
	Train func(ctx context.Context, c saga.Call, cause string) (Candidate, error)
	// Forget removes what Train has left behind, when the rollout is undone. It
	// gets the zero Candidate if it is not known what Train did. Nil removes nothing.
	Forget func(ctx context.Context, c saga.Call, v Candidate) error
	// Evaluate looks at the candidate before anybody sees it; saga.Reject stops
	// the rollout. Nil accepts.
	Evaluate func(ctx context.Context, c saga.Call, v Candidate) error
	// Open gives the candidate's files; nil is os.DirFS(Location).
	Open func(v Candidate) (fs.FS, error)
	// Timeout bounds one call of Train, Evaluate and Forget, and of publishing
	// and loading; 1 h.
	Timeout time.Duration
	// Shadow is the time before anybody sees the candidate's answers; its Share
	// is ignored. A For of zero leaves it out.
	Shadow Stage
	// Canary are the stages, each with a larger Share than the one before; none
	// promotes without a trial.
	Canary []Stage
	// Judge makes the judge of one stage, as *mlserve.Sequential; nil lets time
	// alone decide. A Rollback ends the rollout at once. After its time a canary
	// stage goes on only with Promote; shadow answers that are not judged bad
	// are good enough.
	Judge func() mlserve.Judge
	// Patience is how long a canary stage waits beyond its For while the judge
	// holds, as it does with too few keys; then the rollout is undone. Zero is
	// ten times the stage's For, and at least a minute.
	Patience time.Duration
}

// Candidate is a version that has been trained and is not yet published.
type Candidate struct {
	// Manifest describes it. Version is required and must be new; an empty Model
	// is the plan's.
	Manifest mlserve.Manifest
	// Location is where Plan.Open finds the files: a directory, if Open is nil.
	Location string
}

// Stage is a part of the trial, on the wall clock.
type Stage struct {
	// Share of the keys that get the candidate's answers, above 0 and below 1.
	Share float64
	// For is how long the stage takes at least; above 0.
	For time.Duration
}

// State is the state of the saga; what a rollout has found out so far.
type State struct {
	// Cause is why the rollout was started; given to Train.
	Cause string
	// Candidate is what Train returned.
	Candidate Candidate
	// Previous is the version that served before.
	Previous string
	// Stage is the number of canary stages passed.
	Stage int
	// Verdict is the judge's of the last stage passed. Infinite values of its
	// evidence are cut to the largest finite ones.
	Verdict mlserve.Verdict
}

// server is what a rollout needs of a *mlserve.Server.
type server interface {
	Load(ctx context.Context, model, version string) error
	Loaded(model string) []mlserve.Version
	Refresh(ctx context.Context, model string) error
	Split(model string, t mlserve.Traffic) error
	Traffic(model string) mlserve.Traffic
}

// rollout holds the plan for its steps.
type rollout struct {
	Plan

	server server
}

// Define returns the saga of a plan. What is wrong with the plan is in the
// definition's Err. Raise version when Shadow or the number of stages changes
// while a rollout may be in flight.
func Define(name string, version int, p Plan) *saga.Definition[State] {
	r := &rollout{Plan: p}
	if p.Server != nil {
		r.server = p.Server
	}
	return r.define(name, version)
}

func (r *rollout) define(name string, version int) *saga.Definition[State] {
	if r.Timeout == 0 {
		r.Timeout = time.Hour
	}
	if r.Open == nil {
		r.Open = func(v Candidate) (fs.FS, error) { return os.DirFS(v.Location), nil }
	}
	long := saga.StepOptions{Timeout: r.Timeout}
	before := saga.Before(
		saga.Undoable("train", r.train, r.forget, (*State).trained).With(long),
		saga.ReadOnly("evaluate", r.evaluate, nil).With(long),
		saga.Undoable("register", r.register, r.unregister, (*State).registered).With(long),
	)
	if r.Shadow.For > 0 {
		before = append(before, saga.Undoable("shadow", r.stage(0), r.restore, (*State).shadowed).With(long))
	}
	for n := range r.Canary {
		before = append(before, saga.Undoable(fmt.Sprintf("canary-%d", n+1), r.stage(n+1), r.restore, (*State).passed).With(long))
	}
	return saga.Define(name, version, before,
		saga.Pivot("promote", r.promote, nil),
		saga.Retriable("serve", r.serve, nil).With(long),
		saga.Retriable("retire", r.retire, nil),
	).WithErr(r.check())
}

func (s *State) trained(c Candidate)              { s.Candidate = c }
func (s *State) registered(previous string)       { s.Previous = previous }
func (s *State) shadowed(verdict mlserve.Verdict) { s.Verdict = verdict }
func (s *State) passed(verdict mlserve.Verdict) {
	s.Stage++
	s.Verdict = verdict
}

func (r *rollout) check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("Plan."+what))
		}
	}
	need(r.Model != "", "Model is required")
	need(r.server != nil, "Server is required")
	need(r.Registry != nil, "Registry is required")
	need(r.Train != nil, "Train is required")
	need(r.Timeout >= 0 && r.Patience >= 0 && r.Shadow.For >= 0, "Timeout, Patience and Shadow.For must not be negative")
	last := 0.0
	for n, s := range r.Canary {
		need(s.Share > last && s.Share < 1, fmt.Sprintf("Canary[%d].Share is %v; it must lie above the one before and below 1", n, s.Share))
		need(s.For > 0, fmt.Sprintf("Canary[%d].For must be above zero", n))
		last = s.Share
	}
	return errors.Join(errs...)
}
