package mlserve

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// closing says when it is closed.
type closing struct{ closed atomic.Int32 }

func (c *closing) Signature() Signature { return Signature{} }

func (c *closing) Predict(context.Context, Batch) (Batch, error) { return Batch{}, nil }

func (c *closing) Close() error {
	c.closed.Add(1)
	return nil
}

func TestInstanceCannotBeTakenAgain(t *testing.T) {
	for _, drain := range []time.Duration{0, time.Second} {
		m := &closing{}
		i := newInstance(Version{}, m, nil)
		require.True(t, i.acquire())
		i.release()
		require.Zero(t, m.closed.Load())
		require.True(t, i.retire(drain))
		require.True(t, i.retire(drain), "only the first call counts")
		require.False(t, i.acquire())
		require.EqualValues(t, 1, m.closed.Load())
	}
}

// Whoever holds a reference finds the model open, whenever it is retired and
// whether the owner waits, gives up or never waits; it is closed once.
func TestInstanceIsClosedOnceAndNotUnderneath(t *testing.T) {
	for n := range 2000 {
		m := &closing{}
		i := newInstance(Version{}, m, nil)
		var users sync.WaitGroup
		for range 3 {
			users.Go(func() {
				for i.acquire() {
					if m.closed.Load() != 0 {
						t.Error("closed while in use")
					}
					i.release()
				}
			})
		}
		i.retire([]time.Duration{0, time.Nanosecond, time.Second}[n%3])
		users.Wait()
		require.EqualValues(t, 1, m.closed.Load())
	}
}
