package mlservetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/mlserve"
)

// ErrFaulty is the error of a [Faulty] model.
var ErrFaulty = errors.New("mlservetest: injected failure")

// Faulty is a model that fails and dawdles. Set the fields before use and use
// it by its address; it is safe for concurrent use.
type Faulty struct {
	// Model answers what is not made to fail.
	mlserve.Model
	// ErrorRate is the share of predictions that fail with ErrFaulty, 0 to 1.
	ErrorRate float64
	// Delay comes before every prediction; it ends early with the context,
	// whose error is then the answer.
	Delay time.Duration
	// Seed of the failures: the same seed gives the same sequence.
	Seed uint64

	mu  sync.Mutex
	rng *rand.Rand
}

// Predict waits, then fails or answers as Model does.
func (f *Faulty) Predict(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if f.fails() {
		return nil, ErrFaulty
	}
	return f.Model.Predict(ctx, in)
}

func (f *Faulty) fails() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rng == nil {
		f.rng = rand.New(rand.NewPCG(f.Seed, 0))
	}
	return f.rng.Float64() < f.ErrorRate
}
