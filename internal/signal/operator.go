package signal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
)

// Overview is a stream as the operator sees it.
type Overview struct {
	Stream
	Waiting int        // events that wait for the receiver
	Oldest  *time.Time // since when the oldest of them does
	Dead    int        // dead letters
}

// Desk is what the operator needs of the database.
type Desk interface {
	// Stream finds a stream. ErrNotFound.
	Stream(ctx context.Context, id string) (Stream, error)
	// Streams returns every stream, in the order of their clients.
	Streams(ctx context.Context) ([]Overview, error)
	// DeadLetters returns up to limit dead letters of a stream, the oldest first.
	DeadLetters(ctx context.Context, id string, limit int) ([]Delivery, error)
	// Revive lets dead letters of a stream be delivered again, those with the jtis or, if there are none, all. It returns how many.
	Revive(ctx context.Context, id string, jtis []string, now time.Time, event audit.Event) (int, error)
	// SaveStream applies a Saving. change.ErrConflict when the stream was changed meanwhile.
	SaveStream(ctx context.Context, s Saving) error
	// Verify queues a verification unless one was queued after since.
	Verify(ctx context.Context, d Delivery, since time.Time) (last time.Time, queued bool, err error)
}

// Operator looks after streams from the command line.
type Operator struct {
	desk Desk
	now  func() time.Time
}

// NewOperator returns an Operator.
func NewOperator(desk Desk, now func() time.Time) *Operator { return &Operator{desk: desk, now: now} }

// List returns every stream.
func (o *Operator) List(ctx context.Context) ([]Overview, error) {
	streams, err := o.desk.Streams(ctx)
	if err != nil {
		return nil, fmt.Errorf("signal: list streams: %w", err)
	}
	return streams, nil
}

// DeadLetters returns up to limit events that the receiver of a stream has refused, the oldest first. ErrNotFound.
func (o *Operator) DeadLetters(ctx context.Context, id string, limit int) ([]Delivery, error) {
	if _, err := o.desk.Stream(ctx, id); err != nil {
		return nil, err
	}
	letters, err := o.desk.DeadLetters(ctx, id, limit)
	if err != nil {
		return nil, fmt.Errorf("signal: list dead letters: %w", err)
	}
	return letters, nil
}

// Retry lets dead letters be delivered again: those with the jtis or, if there are none, all. ErrNotFound.
func (o *Operator) Retry(ctx context.Context, id string, jtis []string) (int, error) {
	if _, err := o.desk.Stream(ctx, id); err != nil {
		return 0, err
	}
	revived, err := o.desk.Revive(ctx, id, jtis, o.now(), o.event(id, "dead letters retried"))
	if err != nil {
		return 0, fmt.Errorf("signal: retry dead letters: %w", err)
	}
	return revived, nil
}

// SetStatus enables, pauses or disables a stream and tells its receiver. ErrNotFound, change.ErrConflict; *InvalidError for an
// unknown status.
func (o *Operator) SetStatus(ctx context.Context, id string, status Status, reason string) error {
	if !slices.Contains([]Status{Enabled, Paused, Disabled}, status) {
		return invalid("status must be enabled, paused or disabled.")
	}
	if err := checkText("reason", reason, maxReason); err != nil {
		return err
	}
	s, err := o.desk.Stream(ctx, id)
	if err != nil {
		return err
	}
	saving := statusSet(s, status, reason, o.now())
	saving.Event = o.event(id, "status "+string(status))
	return o.desk.SaveStream(ctx, saving)
}

// Verify sends the receiver a verification that it did not ask for, which has no state (SSF 1.0 section 8.1.4). ErrNotFound.
func (o *Operator) Verify(ctx context.Context, id string) error {
	s, err := o.desk.Stream(ctx, id)
	if err != nil {
		return err
	}
	now := o.now()
	if _, _, err := o.desk.Verify(ctx, verification(s, nil, now), now); err != nil {
		return fmt.Errorf("signal: verify: %w", err)
	}
	return nil
}

func (o *Operator) event(id, changed string) audit.Event {
	return eventOf(access.Actor{Kind: access.Operator}, id, access.Origin{}, audit.StreamChanged, audit.Done, o.now(), changed)
}
