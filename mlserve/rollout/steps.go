package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/saga"
)

// nothing is the result of a step that finds nothing out.
type nothing = struct{}

func (r *rollout) train(ctx context.Context, c saga.Call, s State) (Candidate, error) {
	v, err := r.Train(ctx, c, s.Cause)
	if err != nil {
		return Candidate{}, err
	}
	if v.Manifest.Model == "" {
		v.Manifest.Model = r.Model
	}
	switch {
	case v.Manifest.Model != r.Model:
		err = fmt.Errorf("the candidate is one of model %q, the plan is for %q", v.Manifest.Model, r.Model)
	case v.Manifest.Version == "":
		err = errors.New("the candidate's manifest has no version")
	default:
		return v, nil
	}
	// Not a rejection: there is something to forget.
	return Candidate{}, permanent(err)
}

func (r *rollout) forget(ctx context.Context, c saga.Call, _ State, o saga.Outcome[Candidate]) error {
	if r.Forget == nil {
		return nil
	}
	return r.Forget(ctx, c, o.Value)
}

func (r *rollout) evaluate(ctx context.Context, c saga.Call, s State) (nothing, error) {
	if r.Evaluate == nil {
		return nothing{}, nil
	}
	return nothing{}, r.Evaluate(ctx, c, s.Candidate)
}

// register publishes the candidate and returns the version that serves now.
func (r *rollout) register(ctx context.Context, _ saga.Call, s State) (string, error) {
	v := s.Candidate.Manifest.Version
	previous, err := r.aliased(ctx, champion)
	switch {
	case err != nil:
		return "", err
	case previous == "":
		return "", saga.Reject(fmt.Errorf("model %q has no alias %q in the registry; set it to the version that serves", r.Model, champion))
	case previous == v:
		return "", saga.Reject(fmt.Errorf("the candidate is version %q, which is the champion already", v))
	}
	if err := r.primaryIs(ctx, previous); err != nil {
		if errors.Is(err, errPolicy) {
			err = saga.Reject(err)
		}
		return "", err
	}
	files, err := r.Open(s.Candidate)
	if err != nil {
		return "", fmt.Errorf("open the candidate's files at %q: %w", s.Candidate.Location, err)
	}
	switch err := r.Registry.Publish(ctx, s.Candidate.Manifest, files); {
	case isDefinite(err):
		return "", saga.Reject(err)
	case err != nil:
		return "", err
	}
	if err := r.Registry.Alias(ctx, r.Model, challenger, v); err != nil {
		return "", err
	}
	// From here on there is something to undo, so a wrong policy is no rejection.
	if err := r.primaryIs(ctx, previous); err != nil {
		if errors.Is(err, errPolicy) {
			err = permanent(err)
		}
		return "", err
	}
	return previous, nil
}

var errPolicy = errors.New("a rollout needs a server that follows the champion, by the policy mlserve.Alias(\"champion\")")

// isDefinite reports whether publishing can never succeed and has changed nothing.
func isDefinite(err error) bool {
	return errors.Is(err, mlserve.ErrConflict) || errors.Is(err, mlserve.ErrInput) || errors.Is(err, mlserve.ErrModelFile)
}

// primaryIs makes the server look at the registry, and refuses a server that
// does not follow the champion's alias.
func (r *rollout) primaryIs(ctx context.Context, version string) error {
	if err := r.server.Refresh(ctx, r.Model); err != nil {
		return err
	}
	loaded := r.server.Loaded(r.Model)
	if len(loaded) == 0 {
		return fmt.Errorf("no version of model %q serves", r.Model)
	}
	if primary := loaded[0].Version; primary != version {
		return fmt.Errorf("model %q is served by version %q, and its alias %q is version %q: %w",
			r.Model, primary, champion, version, errPolicy)
	}
	return nil
}

// unregister takes the challenger's alias away. The published version stays:
// versions never change, and without an alias nobody serves it.
func (r *rollout) unregister(ctx context.Context, _ saga.Call, s State, _ saga.Outcome[string]) error {
	return r.clearChallenger(ctx, s)
}

func (r *rollout) clearChallenger(ctx context.Context, s State) error {
	v, err := r.aliased(ctx, challenger)
	if err != nil {
		return err
	}
	if v == "" || v != s.Candidate.Manifest.Version {
		return nil // never set, or another rollout's
	}
	if err := r.Registry.Alias(ctx, r.Model, challenger, ""); err != nil {
		return err
	}
	return r.server.Refresh(ctx, r.Model)
}

// promote is the pivot.
func (r *rollout) promote(ctx context.Context, _ saga.Call, s State) (nothing, error) {
	v := s.Candidate.Manifest.Version
	now, err := r.aliased(ctx, champion)
	switch {
	case err != nil:
		return nothing{}, err
	case now != v && now != s.Previous:
		// Nothing that this pivot did can have led here.
		return nothing{}, saga.Reject(fmt.Errorf("the champion is %q now; the candidate was compared with %q", now, s.Previous))
	}
	return nothing{}, r.Registry.Alias(ctx, r.Model, champion, v)
}

// serve makes the new champion the primary before the split ends, so that no
// key goes back to the old one in between.
func (r *rollout) serve(ctx context.Context, _ saga.Call, s State) (nothing, error) {
	if err := r.server.Refresh(ctx, r.Model); err != nil {
		return nothing{}, err
	}
	v := s.Candidate.Manifest.Version
	if loaded := r.server.Loaded(r.Model); len(loaded) == 0 || loaded[0].Version != v {
		return nothing{}, fmt.Errorf("version %q is the champion, and the server's policy does not make it the primary", v)
	}
	return nothing{}, r.server.Split(r.Model, mlserve.Traffic{})
}

func (r *rollout) retire(ctx context.Context, _ saga.Call, s State) (nothing, error) {
	return nothing{}, r.clearChallenger(ctx, s)
}

// aliased returns the version that an alias points at, or "".
func (r *rollout) aliased(ctx context.Context, alias string) (string, error) {
	versions, err := r.Registry.Versions(ctx, r.Model)
	if err != nil && !errors.Is(err, mlserve.ErrNotFound) {
		return "", err
	}
	for _, v := range versions {
		if slices.Contains(v.Aliases, alias) {
			return v.Version, nil
		}
	}
	return "", nil
}
