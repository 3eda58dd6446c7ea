package idempotency

import (
	"context"
	"errors"
	"time"
)

var errDown = errors.New("the store is down")

// fakeStore is a memory store whose methods can be made to fail: an error that
// a hook returns is the answer, nil asks the memory store.
type fakeStore struct {
	*MemoryStore

	onBegin, onAbort func() error
	onRenew          func(context.Context) error
	onComplete       func(result []byte) error
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		MemoryStore: NewMemoryStore(1000),
		onBegin:     func() error { return nil },
		onRenew:     func(context.Context) error { return nil },
		onComplete:  func([]byte) error { return nil },
		onAbort:     func() error { return nil },
	}
}

func (s *fakeStore) Begin(ctx context.Context, c Claim) (Outcome, error) {
	if err := s.onBegin(); err != nil {
		return Outcome{}, err
	}
	return s.MemoryStore.Begin(ctx, c)
}

func (s *fakeStore) Renew(ctx context.Context, t Token, lease time.Duration) error {
	if err := s.onRenew(ctx); err != nil {
		return err
	}
	return s.MemoryStore.Renew(ctx, t, lease)
}

func (s *fakeStore) Complete(ctx context.Context, t Token, result []byte, ttl time.Duration) error {
	if err := s.onComplete(result); err != nil {
		return err
	}
	return s.MemoryStore.Complete(ctx, t, result, ttl)
}

func (s *fakeStore) Abort(ctx context.Context, t Token) error {
	if err := s.onAbort(); err != nil {
		return err
	}
	return s.MemoryStore.Abort(ctx, t)
}

func down() error { return errDown }

// look asks the store about a key without taking it for longer than the call.
func look(ctx context.Context, s Store, k Key) Outcome {
	out, err := s.Begin(ctx, Claim{Key: k, Lease: time.Minute})
	if err == nil && out.State == Acquired {
		err = s.Abort(ctx, out.Token)
	}
	if err != nil {
		panic(err)
	}
	return out
}
