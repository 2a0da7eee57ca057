package credential

import (
	"context"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/user"
)

// Holding is one line of the history of a username: who was called so, from when until when.
type Holding struct {
	UserID          user.ID
	AccountID       string
	From            time.Time
	Until           *time.Time // nil: now
	CurrentUsername string     // what the user is called now
}

// Attribute tells who held a username at a time, or without one who holds it now or held it last: records that carry a name
// only are never read as somebody else's, however often it was given up and taken since. ErrNotFound for a name that nobody of
// the accounts the actor is there for held then.
func (m *Manager) Attribute(ctx context.Context, actor access.Actor, username string, at *time.Time) (Holding, error) {
	holdings, err := m.store.Holdings(ctx, identifier.Key(username))
	if err != nil {
		return Holding{}, fmt.Errorf("credential: who held the name: %w", err)
	}
	var found *Holding
	for _, h := range joined(holdings) {
		if actor.SeesAccount(h.AccountID) && (at == nil || h.at(*at)) {
			found = &h
		}
	}
	if found == nil {
		return Holding{}, ErrNotFound
	}
	return *found, nil
}

// at tells whether the name was held at the time: from its first moment, up to but not with the one it was given up at.
func (h Holding) at(t time.Time) bool {
	return !t.Before(h.From) && (h.Until == nil || t.Before(*h.Until))
}

// joined makes one of holdings of one user that follow each other without a gap: only the spelling changed. They come in the
// order of time.
func joined(holdings []Holding) []Holding {
	var all []Holding
	for _, h := range holdings {
		if last := len(all) - 1; last >= 0 && all[last].UserID == h.UserID && all[last].Until != nil && all[last].Until.Equal(h.From) {
			all[last].Until = h.Until
			continue
		}
		all = append(all, h)
	}
	return all
}
