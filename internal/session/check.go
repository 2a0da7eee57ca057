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
	if grant.Outside != nil {
		return m.authenticateOutside(ctx, grant)
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
	if !s.usable(u, m.config.Now()) || grant.Generation < u.Generation-1 || grant.Generation > u.Generation {
		return access.Actor{}, fmt.Errorf("%w: the session is over", ErrInvalidToken)
	}
	actor := access.Actor{
		Kind: access.Person, User: u, Role: grant.lesserRole(u), Account: member.Account, SessionID: s.ID, SignedInAt: grant.SignedInAt,
		MustChangePassword: s.MustChangePassword || u.Password.MustChange,
	}
	if grant.Generation < u.Generation {
		return access.Actor{}, &OutgrownError{Actor: actor}
	}
	return actor, nil
}

// OutgrownError says that a token is of the generation before the user's, and good in all else: its session has lived on
// through the change that ended it. It is an ErrInvalidToken. The answer to that very change is all that the token may still
// fetch, since whoever asked for it may never have got it.
type OutgrownError struct{ Actor access.Actor }

// Error says what is wrong with the token.
func (*OutgrownError) Error() string { return "session: the token is of the generation before" }

// Unwrap returns ErrInvalidToken.
func (*OutgrownError) Unwrap() error { return ErrInvalidToken }

// lesserRole is the role that counts: a token can take authority away from what the database says, never add to it.
func (g Grant) lesserRole(u user.User) user.Role {
	if !slices.Contains(g.Roles, string(user.Administrator)) {
		return user.Agent
	}
	return u.Role
}

// ScopeError says which scope a token of an outside issuer lacks. It is an access.ErrInsufficientScope.
type ScopeError struct{ Scope string }

// Error names the scope, which the operator chose.
func (e *ScopeError) Error() string { return "session: the token lacks the scope " + e.Scope }

// Unwrap returns access.ErrInsufficientScope.
func (*ScopeError) Unwrap() error { return access.ErrInsufficientScope }

// authenticateOutside tells who sent a token of another issuer. There is no session to look at: the user must be there, in
// the account that the issuer speaks for, and must not have outgrown the token.
func (m *Manager) authenticateOutside(ctx context.Context, grant Grant) (access.Actor, error) {
	id := user.ID(grant.Subject)
	if !id.Valid() {
		return access.Actor{}, fmt.Errorf("%w: the subject is no user id", ErrInvalidToken)
	}
	member, err := m.store.Member(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return access.Actor{}, fmt.Errorf("%w: no such user", ErrInvalidToken)
	}
	if err != nil {
		return access.Actor{}, fmt.Errorf("session: authenticate: %w", err)
	}
	u := member.User
	if u.AccountID != grant.AccountID || !u.IsActive() || !grant.isCurrent(u) {
		return access.Actor{}, fmt.Errorf("%w: of another account, a disabled user or an older generation", ErrInvalidToken)
	}
	if grant.Outside.LacksScope != "" {
		return access.Actor{}, &ScopeError{Scope: grant.Outside.LacksScope}
	}
	return access.Actor{
		Kind: access.Person, User: u, Role: grant.lesserRole(u), Account: member.Account, Issuer: grant.Outside.Issuer, SignedInAt: grant.SignedInAt,
		MustChangePassword: u.Password.MustChange,
	}, nil
}

// isCurrent tells whether an outside token is of the user's present generation. One that does not name it must have been
// issued in a later second than that in which the generation began: within that second nobody can tell which was first, and
// a token from before must not live on (SES-03, "round up").
func (g Grant) isCurrent(u user.User) bool {
	if g.Outside.NamesGeneration {
		return g.Generation == u.Generation
	}
	return u.GenerationSince == nil || g.Outside.IssuedAt.Unix() > u.GenerationSince.Unix()
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

// SignOut ends the actor's own session. ErrNoSession for a token of another issuer: its session is ended there.
func (m *Manager) SignOut(ctx context.Context, actor access.Actor, origin access.Origin) error {
	if actor.SessionID == "" {
		return ErrNoSession
	}
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
