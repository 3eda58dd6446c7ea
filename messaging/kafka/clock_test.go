package kafka

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// suspended returns what the clock says when the machine has slept for d at t: the
// wall went on, and the monotonic clock stood still. A negative d is a wall clock
// that was set back.
func suspended(t time.Time, d time.Duration) time.Time {
	t = t.Add(d)
	*(*int64)(unsafe.Add(unsafe.Pointer(&t), unsafe.Sizeof(uint64(0)))) -= int64(d) // no other way leads to it
	return t
}

// Others have the partitions of a member whose machine was suspended, and none of
// its clocks alone says so.
func TestALeaseEndsByBothClocks(t *testing.T) {
	now := time.Now()
	sure := now.Add(10 * time.Second)
	require.Zero(t, suspended(now, time.Hour).Sub(now), "the monotonic clock stood still")
	require.Equal(t, time.Hour, suspended(now, time.Hour).Round(0).Sub(now.Round(0)), "the wall went on")
	for name, at := range map[string]struct {
		now  time.Time
		held bool
	}{
		"at once":                     {now, true},
		"shortly before":              {now.Add(10*time.Second - 1), true},
		"at its end":                  {now.Add(10 * time.Second), false},
		"slept for less":              {suspended(now, 5*time.Second), true},
		"slept for an hour":           {suspended(now, time.Hour), false},
		"worked and slept":            {suspended(now.Add(6*time.Second), 6*time.Second), false},
		"the wall was set back":       {suspended(now.Add(5*time.Second), -time.Hour), true},
		"the wall was set back, late": {suspended(now.Add(11*time.Second), -time.Hour), false},
	} {
		require.Equal(t, at.held, held(at.now, sure), name)
	}
	require.False(t, held(now, time.Time{}), "there was none yet")
}
