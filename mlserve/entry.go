package mlserve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Serving is called after another version has become the primary, with its
// files and manifest. No lock is held: it may block, predict and split, while
// only the next swap of this model waits (so it must not load or refresh the
// same model). Server.Add returns its error; Run logs it and calls it again at
// the next poll.
type Serving func(ctx context.Context, files fs.FS, m Manifest) error

// entry is one model of a server.
//
// Two locks: swapping is held while versions are loaded and drained, which may
// take long; mu only while a new state is made from the old one. Requests take
// neither: they read state.
type entry struct {
	server *Server
	name   string
	source Source // nil for AddModel
	loader Loader
	opts   ModelOptions
	ready  atomic.Bool // Add has returned

	swapping chan struct{}
	failed   map[string]failure // under swapping
	unserved *instance          // under swapping: the primary that Serving has not accepted

	mu     sync.Mutex
	state  atomic.Pointer[state] // written under mu
	picked []*instance           // under mu and swapping: the policy's choice
	held   map[string]bool       // under mu: versions kept for Load
	seen   []Version             // under mu: what the source said last
	ended  bool                  // under mu
}

// state is what requests see: one pointer, so that a request sees one moment.
// It never changes after it is published.
type state struct {
	loaded  []*instance // the primary first
	traffic Traffic
	routes  []route
	buckets []uint8 // route by bucket; nil with a single route
	seed    uint64
	shadows []*instance
}

// failure keeps a version that would not load from being tried at every poll.
type failure struct {
	times int
	next  time.Time
}

const maxRetry = 10 * time.Minute

func newEntry(s *Server, name string, o *ModelOptions) *entry {
	e := &entry{server: s, name: name, swapping: make(chan struct{}, 1), failed: map[string]failure{}, held: map[string]bool{}}
	if o != nil {
		e.opts = *o
		e.opts.Ladder = slices.Clone(o.Ladder)
	}
	e.opts.Timeout = positive(e.opts.Timeout, time.Second)
	e.opts.Classes = positive(e.opts.Classes, 10)
	e.state.Store(&state{})
	return e
}

func (st *state) primary() *instance {
	if len(st.loaded) == 0 {
		return nil
	}
	return st.loaded[0]
}

func (st *state) find(version string) *instance {
	for _, i := range st.loaded {
		if i.version.Version == version {
			return i
		}
	}
	return nil
}

func (e *entry) lock(ctx context.Context) error {
	select {
	case e.swapping <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another swap: %w", context.Cause(ctx))
	}
}

func (e *entry) tryLock() bool {
	select {
	case e.swapping <- struct{}{}:
		return true
	default:
		return false
	}
}

func (e *entry) unlock() { <-e.swapping }

func (e *entry) serves() bool { return e.state.Load().primary() != nil }

func (e *entry) versions() []Version {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Version
	for _, i := range e.state.Load().loaded {
		v := i.version
		for _, s := range e.seen {
			if s.Version == v.Version {
				v = s // aliases move after a version was loaded
			}
		}
		v.Aliases = slices.Clone(v.Aliases)
		out = append(out, v)
	}
	return out
}

// refresh makes the loaded versions those that the policy picks. Under
// swapping. With force, versions that failed are tried again at once.
func (e *entry) refresh(ctx context.Context, force bool) error {
	versions, err := e.source.Versions(ctx, e.name)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.seen = versions
	e.mu.Unlock()
	policy := e.opts.Policy
	if policy == nil {
		policy = Latest(1)
	}
	picked := policy(slices.Clone(versions))
	if len(picked) == 0 {
		return fmt.Errorf("%w: the policy picks none of %d versions", ErrNotReady, len(versions))
	}
	var want []*instance
	var errs []error
	for n, v := range picked {
		inst := e.state.Load().find(v.Version)
		if inst == nil {
			if inst, err = e.open(ctx, v, force); err != nil {
				errs = append(errs, fail("load", e.name, v.Version, err))
				if n == 0 && !e.serves() {
					return errs[0]
				}
				if n == 0 { // without its primary the choice does not count: what was chosen stays
					want = slices.Clone(e.picked)
				}
				continue
			}
		}
		if !slices.Contains(want, inst) {
			want = append(want, inst)
		}
	}
	if want[0] != e.state.Load().primary() {
		e.unserved = want[0]
	}
	dropped, _ := e.publish(change{picked: want})
	err = e.serve(ctx)
	e.drain(ctx, dropped)
	return errors.Join(append(errs, err)...)
}

// open loads a version unless it failed lately.
func (e *entry) open(ctx context.Context, v Version, force bool) (*instance, error) {
	f := e.failed[v.Version]
	if wait := time.Until(f.next); wait > 0 && !force {
		return nil, fmt.Errorf("failed %d times, tried again in %v", f.times, wait.Round(time.Second))
	}
	inst, err := e.server.load(ctx, e, v)
	if err != nil {
		if ctx.Err() == nil {
			f.times++
			f.next = time.Now().Add(min(e.server.opts.Poll<<min(f.times, 10), maxRetry))
			e.failed[v.Version] = f
		}
		return nil, err
	}
	delete(e.failed, v.Version)
	return inst, nil
}

// change is what one call of publish changes; zero fields leave as it is.
type change struct {
	picked  []*instance // the new choice of the policy, the primary first
	added   *instance   // loaded, and held from now on
	traffic *Traffic    // checked by publish
}

// publish makes the next state and returns what is no longer listed, for the
// caller to drain. Loaded stay the policy's choice, what the traffic names and
// what is held. The error is about the traffic only; then nothing changed.
func (e *entry) publish(c change) (dropped []*instance, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.state.Load()
	mine := slices.Clone(c.picked)
	if c.added != nil {
		mine = append(mine, c.added)
	}
	if e.ended {
		return mine, nil
	}
	next := &state{traffic: old.traffic}
	if c.traffic != nil {
		next.traffic = *c.traffic
		if err := next.traffic.check(old); err != nil {
			return nil, err
		}
		maps.DeleteFunc(e.held, func(v string, _ bool) bool { return !next.traffic.names(v) })
	}
	if c.added != nil {
		e.held[c.added.version.Version] = true
	}
	if c.picked != nil {
		e.picked = c.picked
	}
	next.loaded = slices.Clone(e.picked)
	for _, i := range append(mine, old.loaded...) {
		if v := i.version.Version; !slices.Contains(next.loaded, i) && (next.traffic.names(v) || e.held[v]) {
			next.loaded = append(next.loaded, i)
		}
	}
	next.route(e)
	e.state.Store(next)
	for _, i := range old.loaded {
		if !slices.Contains(next.loaded, i) {
			dropped = append(dropped, i)
		}
	}
	return dropped, nil
}

// serve tells Serving about a new primary. Under swapping.
func (e *entry) serve(ctx context.Context) error {
	if e.unserved == nil || e.opts.Serving == nil {
		return nil
	}
	i := e.unserved
	err := guard(func() error { return e.opts.Serving(ctx, i.files, i.manifest) })
	if err != nil {
		return &Error{Op: "serving hook", Model: e.name, Version: i.version.Version, Err: err}
	}
	e.unserved = nil
	return nil
}

// drain retires versions that are no longer listed.
func (e *entry) drain(ctx context.Context, dropped []*instance) {
	deadline := time.Now().Add(e.server.opts.Drain)
	for _, i := range dropped {
		if !i.retire(max(time.Until(deadline), 0)) {
			e.server.tel.log.WarnContext(ctx, "mlserve: a drained version is still in use; its last user closes it",
				"model", e.name, "version", i.version.Version)
		}
	}
}

// load makes one version ready and holds it. Under swapping.
func (e *entry) load(ctx context.Context, version string) error {
	if err := checkName("version", version); err != nil {
		return err
	}
	inst := e.state.Load().find(version)
	if inst == nil && e.source == nil {
		return fmt.Errorf("%w: the version was not added", ErrNotFound)
	}
	if inst == nil {
		versions, err := e.source.Versions(ctx, e.name)
		if err != nil {
			return err
		}
		n := slices.IndexFunc(versions, func(v Version) bool { return v.Version == version })
		if n < 0 {
			return fmt.Errorf("%w: the source has no such version", ErrNotFound)
		}
		if inst, err = e.open(ctx, versions[n], true); err != nil {
			return err
		}
	}
	dropped, err := e.publish(change{added: inst})
	e.drain(ctx, dropped)
	return err
}

// addFixed is the swap of AddModel.
func (e *entry) addFixed(version string, m Model) error {
	if e.source != nil {
		return fmt.Errorf("%w: the versions of this model come from a source", ErrConflict)
	}
	ctx := context.Background()
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	old := e.state.Load()
	if old.find(version) != nil {
		return fmt.Errorf("%w: the version is already there", ErrConflict)
	}
	inst, err := e.server.vet(ctx, e, Version{Model: e.name, Version: version, Created: time.Now()}, m, nil)
	if err != nil {
		return err
	}
	picked := []*instance{inst}
	if e.opts.Policy != nil {
		versions := make([]Version, 0, len(old.loaded))
		for _, i := range old.loaded {
			versions = append(versions, i.version)
		}
		for _, v := range e.opts.Policy(append(versions, inst.version)) {
			if i := old.find(v.Version); i != nil {
				picked = append(picked, i)
			}
		}
	}
	dropped, err := e.publish(change{picked: picked})
	e.drain(ctx, dropped)
	return err
}

// end retires everything; nothing can be published afterwards.
func (e *entry) end(drain time.Duration) {
	e.mu.Lock()
	e.ended = true
	old := e.state.Swap(&state{})
	e.mu.Unlock()
	var wg sync.WaitGroup
	for _, i := range old.loaded {
		wg.Go(func() { i.retire(drain) })
	}
	wg.Wait()
}
