package token

import (
	"context"
	"time"
)

const (
	// refreshEvery is the shortest time between two refreshes for unknown key ids, so that forged ids cannot turn into load
	// on whoever publishes the keys (RFC 8725 section 3.10).
	refreshEvery = time.Minute
	// refreshWithin bounds one refresh: the callers behind it wait for it.
	refreshWithin = 5 * time.Second
)

// refresher fetches keys at most once in refreshEvery, however many callers ask for keys that are not there.
type refresher struct {
	now   func() time.Time
	fetch func(context.Context) error
	turn  chan struct{} // held during a refresh; guards begun
	begun time.Time     // when the last one began
}

func newRefresher(now func() time.Time, fetch func(context.Context) error) *refresher {
	return &refresher{now: now, fetch: fetch, turn: make(chan struct{}, 1)}
}

// refresh fetches unless that was tried within refreshEvery. Callers that come during a fetch wait for its outcome.
func (r *refresher) refresh(ctx context.Context) error { return r.after(ctx, refreshEvery) }

// renew fetches in any case: it is for periodic work.
func (r *refresher) renew(ctx context.Context) error { return r.after(ctx, 0) }

func (r *refresher) after(ctx context.Context, pause time.Duration) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	now := r.now()
	if !r.begun.IsZero() && now.Sub(r.begun) < pause {
		return nil
	}
	r.begun = now
	// Cut off from the caller's cancellation: a caller that hangs up must not waste the one refresh of the minute.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshWithin)
	defer cancel()
	return r.fetch(ctx)
}
