package rank

import (
	"sync/atomic"
	"time"
)

// Clock is event time: it stands at the latest time it was told of. The zero
// Clock stands at 1970. It is safe for concurrent use.
type Clock struct{ nanos atomic.Int64 }

// Advance moves the clock to t, never back.
func (c *Clock) Advance(t time.Time) {
	for n := t.UnixNano(); ; {
		now := c.nanos.Load()
		if n <= now || c.nanos.CompareAndSwap(now, n) {
			return
		}
	}
}

// Now returns where the clock stands.
func (c *Clock) Now() time.Time { return time.Unix(0, c.nanos.Load()).UTC() }
