package audit

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// HeadStore is what a Watch needs of the database.
type HeadStore interface {
	// Heads seals what waits and returns the end of every chain that has one.
	Heads(ctx context.Context) ([]Head, error)
	// Holds tells whether a head that was noted earlier is still a link of its chain, or was pruned.
	Holds(ctx context.Context, noted Head) (bool, error)
	// Overdue counts the chains that hold events older than the time.
	Overdue(ctx context.Context, olderThan time.Time) (int64, error)
}

// Watched is what a look at all chains found.
type Watched struct {
	At       time.Time
	Chains   int
	Sequence int64 // of all heads, added up: it never falls, unless the end of a chain was removed
	Lost     int   // chains that no longer hold the head that was seen before
}

// overdueAfter is how long after its time an event may be there before it is complained about: pruning is a daily job.
const overdueAfter = 48 * time.Hour

// Watch writes the heads of all chains into the log, which is kept elsewhere: who removes the newest events with their links
// leaves a shorter chain that is whole, and only a noted head tells. It remembers what it wrote, and tells at the next look.
type Watch struct {
	store     HeadStore
	retention time.Duration // 0: events are kept for ever
	now       func() time.Time
	log       *slog.Logger
	observe   func(Watched)
	noted     map[string]Head
}

// NewWatch returns a Watch. observe hears of every look.
func NewWatch(store HeadStore, retention time.Duration, now func() time.Time, log *slog.Logger, observe func(Watched)) *Watch {
	return &Watch{store: store, retention: retention, now: now, log: log, observe: observe, noted: map[string]Head{}}
}

// Look writes every head and holds those of the last look against the chains. One goroutine at a time may call it.
func (w *Watch) Look(ctx context.Context) error {
	heads, err := w.store.Heads(ctx)
	if err != nil {
		return fmt.Errorf("audit: look at the heads: %w", err)
	}
	found := Watched{At: w.now(), Chains: len(heads)}
	now := make(map[string]Head, len(heads))
	for _, head := range heads {
		now[head.AccountID] = head
		found.Sequence += head.Sequence
		w.log.InfoContext(ctx, "audit head", "account_id", head.AccountID, "sequence", head.Sequence, "head", head.Chain)
	}
	for account, noted := range w.noted {
		if now[account] == noted {
			continue
		}
		holds, err := w.store.Holds(ctx, noted)
		if err != nil {
			return fmt.Errorf("audit: look for a noted head: %w", err)
		}
		if holds {
			continue
		}
		found.Lost++
		w.log.ErrorContext(ctx, "the audit trail has lost its end: the head that was noted is no longer in the chain",
			"account_id", account, "sequence", noted.Sequence, "head", noted.Chain, "sequence_now", now[account].Sequence)
	}
	w.noted = now
	w.observe(found)
	return w.complain(ctx, found.At)
}

// complain says that events are older than they may get: the service's role cannot remove them, the operator must.
func (w *Watch) complain(ctx context.Context, now time.Time) error {
	if w.retention == 0 {
		return nil
	}
	chains, err := w.store.Overdue(ctx, now.Add(-w.retention-overdueAfter))
	if err != nil {
		return fmt.Errorf("audit: look for events that are too old: %w", err)
	}
	if chains > 0 {
		w.log.WarnContext(ctx, "the audit trail holds events older than AUDIT_RETENTION: run credentialsd audit prune as the owner of the tables", "accounts", chains)
	}
	return nil
}
