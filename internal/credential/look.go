package credential

import (
	"context"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Filter narrows a listing of users. Zero members narrow nothing.
type Filter struct {
	Query      string    // part of the username, e-mail or display name; below three characters, the beginning of one
	Team       user.Team // at or below
	Status     user.Status
	Role       user.Role
	MustChange *bool
	Locked     *bool
}

// Held is a name a user has or had.
type Held struct {
	Username string
	From     time.Time
	Until    *time.Time // nil: now
	By       audit.Party
}

// Lister lists users within an actor's reach.
type Lister interface {
	// Members lists users in the order of their accounts and ids, after the one named.
	Members(ctx context.Context, actor access.Actor, f Filter, after user.ID, limit int) ([]session.Member, error)
	// UsernameHistory returns the names a user has had, the newest first.
	UsernameHistory(ctx context.Context, id user.ID) ([]Held, error)
	// Activity returns the events about the user that the user may see, the newest first, from before the position given.
	Activity(ctx context.Context, u user.User, before *audit.Position, limit int) ([]audit.Event, error)
	// Holdings returns who was called by the folded name, in the order of time.
	Holdings(ctx context.Context, key string) ([]Holding, error)
	// Attempts returns the newest sign-ins and failed sign-ins of a user, the newest first.
	Attempts(ctx context.Context, id user.ID, limit int) ([]audit.Event, error)
}

// recentAttempts is how many attempts to sign in are shown with a user.
const recentAttempts = 20

// Attempts returns the newest attempts to sign in of a user that was found for the actor, the newest first.
func (m *Manager) Attempts(ctx context.Context, u user.User) ([]audit.Event, error) {
	events, err := m.store.Attempts(ctx, u.ID, recentAttempts)
	if err != nil {
		return nil, fmt.Errorf("credential: attempts of %s: %w", u.ID, err)
	}
	return events, nil
}

// List returns up to limit users that the actor may look at, after the one named, and whether there are more.
func (m *Manager) List(ctx context.Context, actor access.Actor, f Filter, after user.ID, limit int) ([]session.Member, bool, error) {
	members, err := m.store.Members(ctx, actor, f, after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("credential: list users: %w", err)
	}
	if len(members) > limit {
		return members[:limit], true, nil
	}
	return members, false, nil
}

// UsernameHistory returns the names of a user that the actor may look at, the newest first. ErrNotFound as in Visible.
func (m *Manager) UsernameHistory(ctx context.Context, actor access.Actor, id user.ID) ([]Held, error) {
	if _, err := m.Visible(ctx, actor, id); err != nil {
		return nil, err
	}
	names, err := m.store.UsernameHistory(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("credential: username history: %w", err)
	}
	return names, nil
}

// Activity returns up to limit events about the actor's own credentials, the newest first, from before the position given,
// and whether there are more. What others tried in vain is not among them, unless nobody knows who they were.
func (m *Manager) Activity(ctx context.Context, actor access.Actor, before *audit.Position, limit int) ([]audit.Event, bool, error) {
	events, err := m.store.Activity(ctx, actor.User, before, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("credential: activity: %w", err)
	}
	if len(events) > limit {
		return events[:limit], true, nil
	}
	return events, false, nil
}
