package sagatest

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestLawsHold(t *testing.T) {
	Laws(t, func() Case[trip] { return newAgency("").testCase() })
}

func TestLawsAreBroken(t *testing.T) {
	cases := map[string]string{ // mistake → the first law it breaks
		"":                      "late action",
		"trusts the result":     "undo restores",
		"undo is not a no-op":   "undo without action",
		"fails the second time": "",
	}
	for broken, want := range cases {
		first := ""
		for _, l := range laws {
			synctest.Test(t, func(t *testing.T) {
				c := newAgency(broken).testCase()
				err := l.check(t.Context(), c.Snapshot, "hotel", func(f interceptor) error { return drive(t.Context(), c, f) })
				if err != nil && first == "" {
					first = l.name
				}
			})
		}
		if broken == "fails the second time" {
			want = "late action" // its compensations are not Known here, so only what every agency breaks
		}
		require.Equal(t, want, first, broken)
	}
}
