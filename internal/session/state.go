package session

import (
	"context"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// Reason is why a user cannot sign in, or what waits after the sign-in.
type Reason struct{ Code, Detail string }

// State tells whether a user can sign in, and everything that stands in the way.
type State struct {
	CanSignIn   bool
	Reasons     []Reason
	LockedUntil *time.Time // until when attempts from at least one network are delayed
	Failures    int        // consecutive, over all networks
}

// States tells of each user whether it can sign in.
func (m *Manager) States(ctx context.Context, users []user.User) (map[user.ID]State, error) {
	subjects := make([]string, len(users))
	for i, u := range users {
		subjects[i] = ThrottleSubject(u.ID)
	}
	standings, err := m.store.Standings(ctx, subjects)
	if err != nil {
		return nil, fmt.Errorf("session: look at the throttle: %w", err)
	}
	states := make(map[user.ID]State, len(users))
	for _, u := range users {
		states[u.ID] = m.State(u, standings[ThrottleSubject(u.ID)])
	}
	return states, nil
}

// Standing returns what the throttle has counted against a user.
func (m *Manager) Standing(ctx context.Context, id user.ID) (throttle.Standing, error) {
	subject := ThrottleSubject(id)
	standings, err := m.store.Standings(ctx, []string{subject})
	if err != nil {
		return throttle.Standing{}, fmt.Errorf("session: look at the throttle: %w", err)
	}
	return standings[subject], nil
}

// State tells whether a user of that standing can sign in now.
func (m *Manager) State(u user.User, standing throttle.Standing) State {
	state := State{CanSignIn: true, LockedUntil: standing.BlockedUntil, Failures: standing.Failures, Reasons: []Reason{}}
	stop := func(code, detail string) {
		state.CanSignIn = false
		state.Reasons = append(state.Reasons, Reason{code, detail})
	}
	if !u.IsActive() {
		stop("disabled", "The user is disabled. Set the status to active; a password reset does not do that.")
	}
	switch {
	case u.Password.DisabledAt != nil:
		stop("password_disabled", "The password is disabled, after too many failed attempts or by an administrator. Reset the password.")
	case u.Password.Hash == "":
		stop("no_password", "No password was ever set. Reset the password.")
	case password.CheckHash(u.Password.Hash) != nil:
		stop("no_password", "The password is stored in a form that cannot be checked. Reset the password.")
	case u.Password.TemporaryExpired(m.config.Now()):
		stop("temporary_password_expired", "The temporary password was not used in time. Reset the password again.")
	case u.Password.MustChange:
		state.Reasons = append(state.Reasons, Reason{"must_change_password", "The user can sign in with the temporary password, and then has to choose a new one."})
	}
	if standing.BlockedUntil != nil {
		stop("locked", "Attempts from at least one network are delayed until locked_until, after failed ones. Wait, or unlock the user; a password reset lifts the delay as well.")
	}
	return state
}
