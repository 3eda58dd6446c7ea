package messaging_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// lease is what a driver knows of who has its deliveries.
type lease struct {
	mu    sync.Mutex
	again chan struct{} // nil: sure
	lost  chan struct{}
}

func (l *lease) doubt() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.again
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again = make(chan struct{})
}

func (l *lease) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.again)
	l.again = nil
}

// lose ends what was handed out, and not what will be.
func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.lost)
	l.lost = make(chan struct{})
}

func (l *lease) attach(d *driver.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Doubt, d.Lost = l.doubt, l.lost
}

// What is not surely ours is not begun, neither what waits in line nor what
// waited for a retry.
func TestNothingIsBegunInDoubt(t *testing.T) {
	both(t, func(t *testing.T, d *faulty) {
		d.lease = &lease{lost: make(chan struct{})}
		b := d.front()
		begin := time.Now()
		begun := make(chan string, 20)
		stop := start(t, consumer(t, b, &messaging.ConsumerOptions{Concurrency: 2, Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Minute}}},
			messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
				begun <- fmt.Sprintf("%s at %v", d.ID, time.Since(begin))
				time.Sleep(10 * time.Second)
				if d.ID == "fails" && d.Attempt == 1 {
					return errBroken
				}
				return nil
			})))
		publish(t, b, msg("fails", "a"), msg("1", "b"))
		time.Sleep(time.Second)
		publish(t, b, msg("2", "b"), msg("3", "c"))
		time.Sleep(time.Second)
		d.lease.end() // two handlers run
		got := map[string]bool{<-begun: true, <-begun: true}
		require.Equal(t, map[string]bool{"fails at 0s": true, "1 at 0s": true}, got)
		never(t, begun, 10*time.Minute, "begun in doubt")
		d.lease.renew()
		got = map[string]bool{<-begun: true, <-begun: true, <-begun: true}
		require.Len(t, got, 3, "all of what waited, once")
		require.NoError(t, stop())
		require.Empty(t, begun)
	})
}

// In doubt, what was lost and what is stopped is given back.
func TestWhatIsInDoubtCanBeGivenBack(t *testing.T) {
	for _, how := range []string{"lost", "stopped"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newFaulty()
				d.lease = &lease{lost: make(chan struct{})}
				d.lease.end()
				back := 0
				d.settle = func(s []driver.Settlement) error {
					for _, x := range s {
						require.Equal(t, driver.Requeue, x.Action)
						back++
					}
					return nil
				}
				b := d.front()
				stop := start(t, consumer(t, b, nil, messaging.On("t", func(context.Context, *messaging.Delivery) error {
					t.Error("begun in doubt")
					return nil
				})))
				publish(t, b, msg("m", "k"))
				time.Sleep(time.Minute)
				require.Zero(t, back)
				if how == "lost" {
					d.lease.lose()
					synctest.Wait()
					require.Equal(t, 1, back) // and it comes again, as there is no other member
				}
				begun, before := time.Now(), back
				require.NoError(t, stop())
				require.Less(t, time.Since(begun), time.Second)
				require.Equal(t, before+1, back)
			})
		})
	}
}
