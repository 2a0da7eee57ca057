package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/user"
)

// expiry returns when a session that is used now ends if it is not used again: never after its whole life, and never
// after the temporary password it was opened with.
func (m *Manager) expiry(s Session, u user.User) time.Time {
	expires := earlier(m.config.Now().Add(m.config.IdleTime), s.SignedInAt.Add(m.config.MaxAge))
	if until := u.Password.TemporaryUntil; until != nil {
		return earlier(expires, *until)
	}
	return expires
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Authenticate tells who sent an access token, as the database sees them now. Everything that is wrong with the token,
// its session or its user is ErrInvalidToken.
func (m *Manager) Authenticate(ctx context.Context, raw string) (access.Actor, error) {
	grant, err := m.issuer.Verify(ctx, raw)
	if err != nil {
		return access.Actor{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	if grant.Subject == grant.ClientID {
		return m.authenticateService(ctx, grant)
	}
	s, member, err := m.store.Session(ctx, grant.SessionID)
	if errors.Is(err, ErrNotFound) {
		return access.Actor{}, fmt.Errorf("%w: no such session", ErrInvalidToken)
	}
	if err != nil {
		return access.Actor{}, fmt.Errorf("session: authenticate: %w", err)
	}
	u := member.User
	if string(u.ID) != grant.Subject || u.AccountID != grant.AccountID {
		return access.Actor{}, fmt.Errorf("%w: the token's user is not the session's", ErrInvalidToken)
	}
	if grant.Generation != u.Generation || !s.usable(u, m.config.Now()) {
		return access.Actor{}, fmt.Errorf("%w: the session is over", ErrInvalidToken)
	}
	role := u.Role
	if !slices.Contains(grant.Roles, string(user.Administrator)) {
		role = user.Agent
	}
	return access.Actor{
		Kind: access.Person, User: u, Role: role, Account: member.Account, SessionID: s.ID, SignedInAt: grant.SignedInAt,
		MustChangePassword: s.MustChangePassword || u.Password.MustChange,
	}, nil
}

func (m *Manager) authenticateService(ctx context.Context, grant Grant) (access.Actor, error) {
	actor, err := m.clients.ServiceActor(ctx, grant.ClientID)
	if errors.Is(err, ErrNotFound) {
		return access.Actor{}, fmt.Errorf("%w: no such client", ErrInvalidToken)
	}
	if err != nil {
		return access.Actor{}, fmt.Errorf("session: authenticate a service: %w", err)
	}
	granted := strings.Fields(grant.Scope)
	actor.Scopes = slices.DeleteFunc(slices.Clone(actor.Scopes), func(s string) bool { return !slices.Contains(granted, s) })
	return actor, nil
}

// SignOut ends the actor's own session.
func (m *Manager) SignOut(ctx context.Context, actor access.Actor, origin access.Origin) error {
	now := m.config.Now()
	event := audit.New(audit.SessionEnded, audit.Done, actor, actor.User, origin, now)
	event.Details.Code = "sign_out"
	_, err := m.store.Commit(ctx, change.Change{
		At: now, End: &change.EndSessions{UserID: actor.User.ID, Only: actor.SessionID, Why: "sign_out"}, Audit: []audit.Event{event},
	})
	if err != nil {
		return fmt.Errorf("session: sign out: %w", err)
	}
	return nil
}
