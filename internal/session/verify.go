package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// Verification is what another service asks: a name and a password as they were typed there, and where from if it knows.
type Verification struct {
	Username  string
	Password  secret.Text
	IP        string // empty: not known; failures without it are counted as those of one network
	UserAgent string // empty: not known
	Origin    access.Origin
}

// Verify checks a name and a password for another service, as a sign-in does: with the same work whatever is wrong, counted
// by the same throttle, with the upgrade of an outdated hash and the notice of a new device. It opens no session. A user of an
// account that the service does not work for is a name that nobody has. It returns ErrInvalidCredentials, ErrUnsettled and the
// errors of SignIn.
func (m *Manager) Verify(ctx context.Context, service access.Actor, v Verification) (user.User, error) {
	wrong := missingFrom(v.Username, v.Password)
	if _, err := netip.ParseAddr(v.IP); v.IP != "" && err != nil {
		wrong = append(wrong, change.FieldError{Pointer: "/ip", Code: "invalid", Detail: "Give an IPv4 or IPv6 address."})
	}
	if strings.ContainsFunc(v.UserAgent, unicode.IsControl) {
		wrong = append(wrong, change.FieldError{Pointer: "/user_agent", Code: "invalid_characters", Detail: "Leave control characters out."})
	}
	if wrong != nil {
		return user.User{}, &change.RejectedError{Fields: wrong}
	}
	v.Origin.IP, v.Origin.UserAgent = v.IP, v.UserAgent
	for range signInTries {
		u, err := m.verify(ctx, service, v)
		if !errors.Is(err, change.ErrConflict) {
			return u, err
		}
	}
	return user.User{}, ErrUnsettled
}

func (m *Manager) verify(ctx context.Context, service access.Actor, v Verification) (user.User, error) {
	a := attempt{by: service, key: identifier.Key(v.Username), origin: v.Origin}
	verdict, err := m.prove(ctx, &a, v.Password)
	if err != nil {
		return user.User{}, err
	}
	return a.member.User, m.verified(ctx, a, v.Password, verdict)
}

// verified saves that the password was right.
func (m *Manager) verified(ctx context.Context, a attempt, pw secret.Text, verdict password.Verdict) error {
	u := a.member.User
	seen := Session{UserID: u.ID, AccountID: u.AccountID, SignedInAt: m.config.Now(), Network: throttle.Network(a.origin.IP)}
	event := audit.New(audit.PasswordVerified, audit.Done, a.by, u, a.origin, seen.SignedInAt)
	if err := m.openWith(ctx, seen, a, pw, verdict, event, a.by); err != nil {
		return errors.Join(fmt.Errorf("session: verify: %w", err), settle(ctx, a.reserved, throttle.GivenBack))
	}
	return settle(ctx, a.reserved, throttle.Right)
}
