package mlserve

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type testKey struct{}

// Whether and when the timer is armed, the context behaves as the one it
// stands for.
func TestDeadlineIsAContext(t *testing.T) {
	reason := errors.New("reason")
	for name, arm := range map[string]func(context.Context){
		"never":    func(context.Context) {},
		"at once":  func(ctx context.Context) { ctx.Done() },
		"by child": func(ctx context.Context) { _, cancel := context.WithCancel(ctx); _ = cancel },
	} {
		for end, c := range map[string]struct {
			do         func(parent context.CancelCauseFunc, stop context.CancelFunc)
			err, cause error
		}{
			"runs":    {func(context.CancelCauseFunc, context.CancelFunc) {}, nil, nil},
			"expires": {func(context.CancelCauseFunc, context.CancelFunc) { time.Sleep(2 * time.Second) }, context.DeadlineExceeded, context.DeadlineExceeded},
			"parent":  {func(p context.CancelCauseFunc, _ context.CancelFunc) { p(reason) }, context.Canceled, reason},
			"stopped": {func(_ context.CancelCauseFunc, stop context.CancelFunc) { stop() }, context.Canceled, context.Canceled},
			"expires, then the parent": {func(p context.CancelCauseFunc, _ context.CancelFunc) {
				time.Sleep(2 * time.Second)
				p(reason)
			}, context.DeadlineExceeded, context.DeadlineExceeded},
		} {
			if name == "never" && end == "expires, then the parent" {
				continue // nobody looked while only the deadline had passed
			}
			t.Run(name+"/"+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancelCause(context.WithValue(context.Background(), testKey{}, 7))
					defer cancel(nil)
					ctx, stop := within(parent, time.Now().Add(time.Second))
					defer stop()
					arm(ctx)
					require.NoError(t, ctx.Err())
					c.do(cancel, stop)
					for range 2 {
						require.Equal(t, c.err, ctx.Err())
						require.Equal(t, c.cause, context.Cause(ctx))
						require.Equal(t, 7, ctx.Value(testKey{}))
					}
					select {
					case <-ctx.Done():
						require.Error(t, c.err)
					default:
						require.NoError(t, c.err)
					}
					if c.err == nil {
						child, cancelChild := context.WithTimeout(ctx, time.Hour)
						defer cancelChild()
						start := time.Now()
						<-child.Done()
						require.Equal(t, time.Second, time.Since(start))
						require.Equal(t, context.DeadlineExceeded, child.Err())
					}
				})
			})
		}
	}
}
