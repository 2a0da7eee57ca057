package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/access"
)

// ErrNoTrail says that there is no trail of this account for the actor.
var ErrNoTrail = errors.New("audit: no such account for this actor")

// Filter narrows the trail. Zero members narrow nothing.
type Filter struct {
	Actor   string // id of the user or service that acted
	Target  string // id of the user it was about
	Action  Action
	Outcome Outcome
	From    time.Time // at or after
	To      time.Time // before
}

// Query asks for the events of one account's trail that match the filter and that the actor may see: all of them when it
// reaches everybody, else those about users within its reach now.
type Query struct {
	Actor     access.Actor
	AccountID string
	Filter    Filter
}

// Position is a place in a trail between two events.
type Position struct {
	At time.Time
	ID string
}

// Record is an event with its link of the chain, which a new one gets within a second.
type Record struct {
	Event Event
	Seal  *Seal
}

// Store is what reading the trail needs of the database.
type Store interface {
	// HasAccount tells whether there is an account with the id.
	HasAccount(ctx context.Context, id string) (bool, error)
	// EventsBefore returns up to limit events that the query asks for, the newest first, those before the position if one
	// is given.
	EventsBefore(ctx context.Context, q Query, before *Position, limit int) ([]Record, error)
	// Head seals what waits and returns the end of the account's chain.
	Head(ctx context.Context, account string) (Head, error)
	// SealedEvents returns, in the order of the chain, the events that the query asks for and that have a link after
	// after, up to and with upTo.
	SealedEvents(ctx context.Context, q Query, after, upTo int64) ([]Record, error)
	// Integrity checks the account's whole chain.
	Integrity(ctx context.Context, account string) (Integrity, error)
}

// Trail reads what happened.
type Trail struct {
	store    Store
	now      func() time.Time
	checking chan struct{} // holds one while a chain is checked
}

// NewTrail returns a Trail.
func NewTrail(store Store, now func() time.Time) *Trail {
	return &Trail{store: store, now: now, checking: make(chan struct{}, 1)}
}

// visible says whether the actor has any business with the account's trail. The trail of names nobody has belongs to those
// who are there for every account.
func (t *Trail) visible(ctx context.Context, actor access.Actor, account string) error {
	if account == "" || !actor.SeesAccount(account) {
		return ErrNoTrail
	}
	if account == actor.OwnAccount() || account == UnknownAccount {
		return nil
	}
	there, err := t.store.HasAccount(ctx, account)
	if err != nil {
		return fmt.Errorf("audit: look for the account: %w", err)
	}
	if !there {
		return ErrNoTrail
	}
	return nil
}

// Page returns up to limit events, the newest first, after the position if one is given, and whether there are more.
// ErrNoTrail.
func (t *Trail) Page(ctx context.Context, q Query, before *Position, limit int) (records []Record, more bool, err error) {
	if err := t.visible(ctx, q.Actor, q.AccountID); err != nil {
		return nil, false, err
	}
	records, err = t.store.EventsBefore(ctx, q, before, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("audit: read the trail: %w", err)
	}
	if len(records) > limit {
		return records[:limit], true, nil
	}
	return records, false, nil
}

// Check checks the whole chain of an account, one at a time in this process: it reads every event. ErrNoTrail, and
// access.ErrForbidden for an actor that does not reach everybody in the account.
func (t *Trail) Check(ctx context.Context, actor access.Actor, account string) (Integrity, error) {
	if err := t.visible(ctx, actor, account); err != nil {
		return Integrity{}, err
	}
	if !actor.ReachesAll() {
		return Integrity{}, access.ErrForbidden
	}
	select {
	case t.checking <- struct{}{}:
		defer func() { <-t.checking }()
	case <-ctx.Done():
		return Integrity{}, fmt.Errorf("audit: wait for another check: %w", ctx.Err())
	}
	found, err := t.store.Integrity(ctx, account)
	if err != nil {
		return Integrity{}, fmt.Errorf("audit: check the chain: %w", err)
	}
	return found, nil
}
