package kafka

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// A producer that is replaced, between a caller's look at it and its send, says
// nothing about the broker: a consumer would end of ErrClosed.
func TestARetiredProducerIsNotAClosedBroker(t *testing.T) {
	p := &producer{closing: make(chan struct{})}
	close(p.closing)
	b := &broker{producer: p, known: map[string]bool{"t": true}, maxBytes: 1000}
	p.broker = b
	publish := func() error {
		return errors.Join(b.Publish(t.Context(), []driver.Message{{ID: "1", Topic: "t", Time: time.Now()}})...)
	}
	err := publish()
	require.ErrorIs(t, err, errReplaced)
	require.NotErrorIs(t, err, driver.ErrClosed)
	require.NotErrorIs(t, err, driver.ErrUnknown, "it was certainly not sent")

	b.closed = true
	require.ErrorIs(t, p.send(t.Context(), nil), driver.ErrClosed)
}
