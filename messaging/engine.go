package messaging

import (
	"context"
	"errors"
)

// Run handles messages until ctx ends.
func (c *Consumer) Run(_ context.Context) error { return c.fail("consume", errors.ErrUnsupported) }
