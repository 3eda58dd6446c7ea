package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// judged is a test that fails without failing.
type judged struct {
	testing.TB
	mu    sync.Mutex
	wrong []string
}

func (j *judged) Errorf(format string, args ...any) { j.add(fmt.Sprintf(format, args...)) }
func (j *judged) Error(args ...any)                 { j.add(fmt.Sprint(args...)) }
func (j *judged) add(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wrong = append(j.wrong, text)
}

func (j *judged) Failed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.wrong) > 0
}

// visitor is one client of a broker in memory, which outlives it.
type visitor struct{ *broken }

func (visitor) Close(context.Context) error { return nil }

// endure runs TestFaults in virtual time.
func endure(t *testing.T, b *broken, f Faults) string {
	t.Helper()
	j := &judged{}
	synctest.Test(t, func(t *testing.T) {
		j.TB = t
		b.Broker = broker()
		besiege(j, func() Harness { return Harness{Driver: visitor{b}, Cut: time.Sleep, Stall: time.Sleep} }, f)
		require.NoError(t, b.Close(context.Background()))
	})
	return strings.Join(j.wrong, "\n")
}

func TestFaultsHoldInMemory(t *testing.T) {
	require.Empty(t, endure(t, &broken{}, Faults{Cuts: 1, Kills: 1, Stalls: 1, Pause: time.Second}))
}

// twice hands out again what was acked, to whichever of so many members asks
// when it is told to, and takes a second ack as well.
func twice(when func(members int) bool) *broken {
	var (
		mu      sync.Mutex
		members = make(map[*brokenReceiver]bool)
		acked   []driver.Delivery
	)
	again := func(d *driver.Delivery) bool { return strings.HasPrefix(d.Position, "again") }
	return &broken{
		settle: func(r *brokenReceiver, ctx context.Context, s []driver.Settlement) error {
			mu.Lock()
			defer mu.Unlock()
			var own []driver.Settlement
			for _, x := range s {
				if !again(&x.Delivery) {
					own = append(own, x)
				}
				if x.Action == driver.Ack {
					acked = append(acked, x.Delivery)
				}
			}
			return r.Receiver.Settle(ctx, own)
		},
		receive: func(r *brokenReceiver, ctx context.Context, limit int) ([]driver.Delivery, error) {
			for {
				mu.Lock()
				members[r] = true
				if n := len(acked); n > 0 && when(len(members)) {
					d := acked[n-1]
					d.Lost, d.Position, acked = nil, "again "+d.ID, acked[:n-1]
					mu.Unlock()
					return []driver.Delivery{d}, nil
				}
				mu.Unlock()
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond) // and ask again
				ds, err := r.Receiver.Receive(short, limit)
				cancel()
				if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
					return ds, err
				}
			}
		},
	}
}

func TestFaultsFindWhatIsHandledAgain(t *testing.T) {
	t.Run("under way", func(t *testing.T) {
		asked := 0
		found := endure(t, twice(func(int) bool {
			asked++
			return asked%1000 == 0
		}), Faults{Cuts: 1, Kills: 2, Pause: time.Second})
		require.Contains(t, found, "after they had been settled")
	})
	t.Run("when all have left", func(t *testing.T) {
		done := false
		found := endure(t, twice(func(members int) bool {
			now := members == 3 && !done
			done = done || now
			return now
		}), Faults{})
		require.Contains(t, found, "1 messages were handled again after they had been settled")
	})
	t.Run("without end", func(t *testing.T) {
		var last time.Time
		found := endure(t, twice(func(members int) bool {
			now := members == 3 && time.Since(last) > 100*time.Millisecond
			if now {
				last = time.Now()
			}
			return now
		}), Faults{})
		require.Contains(t, found, "deliveries go on")
	})
}
