package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

// A refresh token is "<session id>.<number>.<MAC>". The number tells the newest token, its predecessor and older ones
// apart, so nothing but the newest number is stored, and a predecessor that is sent again gets the very same successor:
// an app that lost the answer, or asked twice at once, goes on with one token.

func (m *Manager) refreshToken(s Session, number int64) secret.Text {
	head := s.ID + "." + strconv.FormatInt(number, 10)
	return secret.New(head + "." + base64.RawURLEncoding.EncodeToString(m.refreshMAC(head, s.RefreshSalt)))
}

func (m *Manager) refreshMAC(head, salt string) []byte {
	mac := hmac.New(sha256.New, m.config.RefreshKey)
	mac.Write([]byte(head + "." + salt))
	return mac.Sum(nil)
}

// maxRefreshToken bounds a refresh token in bytes.
const maxRefreshToken = 512

func parseRefresh(raw string) (sessionID string, number int64, ok bool) {
	parts := strings.Split(raw, ".")
	if len(raw) > maxRefreshToken || len(parts) != 3 {
		return "", 0, false
	}
	number, err := strconv.ParseInt(parts[1], 10, 64)
	return parts[0], number, err == nil && number > 0 && user.ID(parts[0]).Valid() && parts[1] == strconv.FormatInt(number, 10)
}

// Refresh gives new tokens for the newest refresh token or its predecessor. Any older one ends the session, since two
// parties hold its tokens. Everything that is wrong with the token is ErrInvalidToken.
func (m *Manager) Refresh(ctx context.Context, raw secret.Text, origin access.Origin) (Tokens, error) {
	if raw.Empty() {
		return Tokens{}, &change.RejectedError{Fields: []change.FieldError{change.Required("/refresh_token", "Give the refresh token of the session.")}}
	}
	sessionID, number, ok := parseRefresh(raw.Reveal())
	if !ok {
		return Tokens{}, fmt.Errorf("%w: not a refresh token", ErrInvalidToken)
	}
	s, member, err := m.store.Session(ctx, sessionID)
	if errors.Is(err, ErrNotFound) {
		return Tokens{}, fmt.Errorf("%w: no such session", ErrInvalidToken)
	}
	if err != nil {
		return Tokens{}, fmt.Errorf("session: refresh: %w", err)
	}
	if !raw.Equal(m.refreshToken(s, number)) {
		return Tokens{}, fmt.Errorf("%w: wrong authentication of a refresh token", ErrInvalidToken)
	}
	if !s.usable(member.User, m.config.Now()) {
		return Tokens{}, fmt.Errorf("%w: the session is over", ErrInvalidToken)
	}
	if number < s.RefreshCount-1 || number > s.RefreshCount {
		return Tokens{}, m.endReused(ctx, s, member.User, origin)
	}
	return m.rotate(ctx, s, member.User, number)
}

func (m *Manager) rotate(ctx context.Context, s Session, u user.User, number int64) (Tokens, error) {
	now := m.config.Now()
	next := s
	next.RefreshCount, next.LastUsedAt, next.ExpiresAt = number+1, now, m.expiry(s, u)
	tokens, err := m.TokensFor(next, u)
	if err != nil {
		return Tokens{}, fmt.Errorf("session: refresh: %w", err)
	}
	err = m.store.RotateRefresh(context.WithoutCancel(ctx), next, s.RefreshCount, now)
	if errors.Is(err, change.ErrConflict) && m.successorStands(ctx, next) {
		return tokens, nil // the same token came twice at once: both get the same successor
	}
	if errors.Is(err, change.ErrConflict) {
		return Tokens{}, fmt.Errorf("%w: the session ended meanwhile", ErrInvalidToken)
	}
	if err != nil {
		return Tokens{}, fmt.Errorf("session: refresh: %w", err)
	}
	return tokens, nil
}

func (m *Manager) successorStands(ctx context.Context, next Session) bool {
	s, member, err := m.store.Session(ctx, next.ID)
	return err == nil && s.usable(member.User, m.config.Now()) &&
		s.RefreshSalt == next.RefreshSalt && s.RefreshCount == next.RefreshCount
}

// endReused ends a session whose outgrown refresh token came back (RFC 9700 section 4.14.2).
func (m *Manager) endReused(ctx context.Context, s Session, u user.User, origin access.Origin) error {
	now := m.config.Now()
	event := audit.New(audit.SessionReuse, audit.Refused, access.Actor{}, u, origin, now)
	event.SessionID = s.ID
	_, err := m.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: now, End: &change.EndSessions{UserID: u.ID, Only: s.ID, Why: "refresh_reused"}, Audit: []audit.Event{event},
	})
	if err != nil {
		return fmt.Errorf("session: end a session whose refresh token was reused: %w", err)
	}
	return fmt.Errorf("%w: an older refresh token was used again", ErrInvalidToken)
}

// Renewed returns the actor's session as it goes on after a password change, with tokens for it: in the new generation
// of the changed user, with a new salt, so that every token from before is good for nothing.
func (m *Manager) Renewed(ctx context.Context, actor access.Actor, changed user.User) (change.Renew, Tokens, error) {
	s, _, err := m.store.Session(ctx, actor.SessionID)
	if err != nil {
		return change.Renew{}, Tokens{}, fmt.Errorf("session: renew: %w", err)
	}
	s.Generation, s.RefreshSalt, s.MustChangePassword = changed.Generation, newRefreshSalt(), false
	s.RefreshCount++
	s.ExpiresAt = m.expiry(s, changed)
	tokens, err := m.TokensFor(s, changed)
	if err != nil {
		return change.Renew{}, Tokens{}, fmt.Errorf("session: renew: %w", err)
	}
	return change.Renew{
		SessionID: s.ID, Generation: s.Generation, RefreshSalt: s.RefreshSalt, RefreshCount: s.RefreshCount, ExpiresAt: s.ExpiresAt,
	}, tokens, nil
}
