package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/internal/frontier"
)

// Who hears ErrRevoked because the session has ended may look at Lost at once.
// That the client ends the claim later changes nothing.
func TestAnAbandonedClaimIsLost(t *testing.T) {
	r := &receiver{}
	c := &claim{receiver: r, lost: make(chan struct{}), idle: make(chan struct{}), done: frontier.New(0, 0)}
	other := &claim{receiver: r}
	r.claims = []*claim{c, other}
	r.abandon(map[*claim]word{c: {}})
	for range 2 {
		select {
		case <-c.lost:
		default:
			t.Fatal("it is not lost")
		}
		require.Equal(t, []*claim{other}, r.claims, "nothing more is handed out")
		c.revoke()
	}
}
