// Package pause waits, for the packages of the client that try again. It depends on the standard library alone.
package pause

import (
	"context"
	"time"
)

// For returns after d, or earlier with the error of a context that is over.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
