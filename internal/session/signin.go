package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// signInTries bounds how often a sign-in starts over because the user was changed while the password was checked.
const signInTries = 3

// SignIn checks a name and a password and opens a session. Whatever is wrong with them, the answer is
// ErrInvalidCredentials after the same work; *throttle.DelayedError, throttle.ErrBusy and *password.OverloadedError say
// that nothing was checked.
func (m *Manager) SignIn(ctx context.Context, typed string, pw secret.Text, origin access.Origin) (Tokens, error) {
	if missing := missingFrom(typed, pw); missing != nil {
		return Tokens{}, &change.RejectedError{Fields: missing}
	}
	for range signInTries {
		tokens, err := m.signIn(ctx, typed, pw, origin)
		if !errors.Is(err, change.ErrConflict) {
			return tokens, err
		}
	}
	return Tokens{}, ErrUnsettled
}

func missingFrom(typed string, pw secret.Text) []change.FieldError {
	var missing []change.FieldError
	if typed == "" {
		missing = append(missing, change.Required("/username", "Give the username."))
	}
	if pw.Empty() {
		missing = append(missing, change.Required("/password", "Give the password."))
	}
	return missing
}

// attempt is one sign-in on its way, or one that another service asks about.
type attempt struct {
	member   Member       // zero when nobody has the name, or nobody whom the service may know of
	by       access.Actor // the service that asks; zero for a sign-in here
	key      string
	origin   access.Origin
	known    bool // the user has signed in from this network lately
	reserved *throttle.Attempt
}

func (m *Manager) signIn(ctx context.Context, typed string, pw secret.Text, origin access.Origin) (Tokens, error) {
	a := attempt{key: identifier.Key(typed), origin: origin}
	verdict, err := m.prove(ctx, &a, pw)
	if err != nil {
		return Tokens{}, err
	}
	return m.open(ctx, a, pw, verdict)
}

// prove finds who has the name and compares the password. What it returns without an error is right, and the attempt is still
// reserved.
func (m *Manager) prove(ctx context.Context, a *attempt, pw secret.Text) (password.Verdict, error) {
	var err error
	a.member, err = m.store.MemberByUsername(ctx, a.key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return password.Verdict{}, fmt.Errorf("session: find who signs in: %w", err)
	}
	if a.by.Kind == access.Service && !a.by.SeesAccount(a.member.User.AccountID) {
		a.member = Member{}
	}
	if err = m.reserveSignIn(ctx, a); err != nil {
		return password.Verdict{}, err
	}
	verdict, err := m.compare(ctx, *a, pw)
	if err != nil {
		return password.Verdict{}, errors.Join(err, settle(ctx, a.reserved, throttle.GivenBack))
	}
	if code := m.refusal(*a, verdict); code != "" {
		return password.Verdict{}, m.fail(ctx, *a, code)
	}
	return verdict, nil
}

// subject is who failures are counted for. A name that nobody has is counted like a user; only a digest of it is kept.
func (a attempt) subject() string {
	if a.member.User.ID != "" {
		return ThrottleSubject(a.member.User.ID)
	}
	return "name:" + fingerprint(a.key)
}

// lane is whose share of the hashing lanes the attempt takes.
func (a attempt) lane() password.Class {
	if a.by.Kind == access.Service {
		return password.Staff
	}
	return password.People
}

// ThrottleSubject is who the failures of a user are counted for.
func ThrottleSubject(id user.ID) string { return "user:" + string(id) }

func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

func settle(ctx context.Context, reserved *throttle.Attempt, outcome throttle.Outcome) error {
	_, err := reserved.Settle(ctx, outcome)
	return err
}

func (m *Manager) reserveSignIn(ctx context.Context, a *attempt) error {
	network := throttle.Network(a.origin.IP)
	var err error
	a.known, err = m.store.KnowsNetwork(ctx, a.member.User.ID, network, m.config.Now().Add(-knownFor))
	if err != nil {
		return fmt.Errorf("session: look up the network: %w", err)
	}
	a.reserved, err = m.limiter.SignIn(ctx, a.subject(), network, a.known)
	if _, delayed := errors.AsType[*throttle.DelayedError](err); delayed {
		return errors.Join(err, m.record(ctx, m.failure(*a, "throttled")))
	}
	return err
}

// compare does the same work whether or not there is somebody to compare with.
func (m *Manager) compare(ctx context.Context, a attempt, pw secret.Text) (password.Verdict, error) {
	if a.reserved.Exhausted || a.member.User.Password.Hash == "" {
		return password.Verdict{}, m.hasher.VerifyNothing(ctx, a.lane(), pw)
	}
	verdict, err := m.hasher.Verify(ctx, a.lane(), a.member.User.Password.Hash, pw)
	if errors.Is(err, password.ErrUnusableHash) {
		m.config.Log.ErrorContext(ctx, "a stored password hash is unusable", "user_id", string(a.member.User.ID), "error", err)
		return password.Verdict{}, nil
	}
	return verdict, err
}

// refusal names why the attempt opens no session; the caller of the API learns only that it does not.
func (m *Manager) refusal(a attempt, verdict password.Verdict) string {
	u := a.member.User
	switch {
	case u.ID == "":
		return "unknown_username"
	case u.Password.DisabledAt != nil || a.reserved.Exhausted:
		return "password_disabled"
	case u.Password.Hash == "":
		return "no_password"
	case !verdict.Match:
		return "wrong_password"
	case !u.IsActive():
		return "disabled"
	case u.Password.TemporaryExpired(m.config.Now()):
		return "temporary_password_expired"
	}
	return ""
}

// fail counts the failure, whatever it was, so that the throttle tells nothing either, and records it.
func (m *Manager) fail(ctx context.Context, a attempt, code string) error {
	failures, err := a.reserved.Settle(ctx, throttle.Wrong)
	if err != nil {
		return err
	}
	event := m.failure(a, code)
	event.Details.Failures = failures.Password
	if err := m.record(ctx, event); err != nil {
		return err
	}
	if failures.Password >= throttle.PasswordLimit {
		if err := m.lockout.Disable(ctx, a.member, access.Actor{}, a.origin, m.config.Now()); err != nil {
			return err
		}
	}
	return ErrInvalidCredentials
}

func (m *Manager) failure(a attempt, code string) audit.Event {
	action, target := audit.SignInFailed, a.member.User
	if a.by.Kind == access.Service {
		action = audit.VerifyFailed
		target.AccountID = cmp.Or(target.AccountID, a.by.ClientAccount) // it is that account's to know of
	}
	event := audit.New(action, audit.Refused, a.by, target, a.origin, m.config.Now())
	event.Details.Code = code
	if a.member.User.ID == "" {
		event.Details.Typed = fingerprint(a.key)
	}
	return event
}

func (m *Manager) record(ctx context.Context, event audit.Event) error {
	_, err := m.store.Commit(context.WithoutCancel(ctx), change.Change{At: event.At, Audit: []audit.Event{event}})
	if err != nil {
		return fmt.Errorf("session: record %s: %w", event.Action, err)
	}
	return nil
}

func (m *Manager) open(ctx context.Context, a attempt, pw secret.Text, verdict password.Verdict) (Tokens, error) {
	u := a.member.User
	s := m.newSession(u, a.origin)
	tokens, err := m.TokensFor(s, u)
	if err == nil {
		by := access.Actor{Kind: access.Person, User: u, SessionID: s.ID}
		err = m.openWith(ctx, s, a, pw, verdict, audit.New(audit.SignedIn, audit.Done, by, u, a.origin, s.SignedInAt), by)
	}
	if err != nil {
		return Tokens{}, errors.Join(fmt.Errorf("session: open: %w", err), settle(ctx, a.reserved, throttle.GivenBack))
	}
	return tokens, settle(ctx, a.reserved, throttle.Right)
}

func (m *Manager) newSession(u user.User, origin access.Origin) Session {
	now := m.config.Now()
	s := Session{
		ID: uuid.Must(uuid.NewV7()).String(), UserID: u.ID, AccountID: u.AccountID, Generation: u.Generation,
		MustChangePassword: u.Password.MustChange, SignedInAt: now, LastUsedAt: now,
		RefreshCount: 1, RefreshSalt: newRefreshSalt(),
		IP: origin.IP, Network: throttle.Network(origin.IP), UserAgent: origin.UserAgent,
	}
	s.ExpiresAt = m.expiry(s, u)
	return s
}

// openWith saves what follows from a right password: the session, if it has an id, the event that tells of it, where the user
// was, and a stronger hash in the place of an outdated one.
func (m *Manager) openWith(ctx context.Context, s Session, a attempt, pw secret.Text, verdict password.Verdict, event audit.Event, by access.Actor) error {
	u := a.member.User
	opening := Opening{Session: s, Guard: change.Guard{UserID: u.ID, Revision: u.Revision}, Audit: []audit.Event{event}}
	if a.origin.UserAgent != "" || a.by.Kind != access.Service {
		opening.Device = deviceOf(a.origin.UserAgent)
	}
	if err := m.tellOfNewDevice(ctx, a, &opening); err != nil {
		return err
	}
	if verdict.Outdated {
		m.upgrade(ctx, a, pw, &opening, by)
	}
	return m.store.OpenSession(context.WithoutCancel(ctx), opening)
}

// upgrade adds a stronger hash: the user has just proven the password. One that finds no free lane is made at the next
// sign-in.
func (m *Manager) upgrade(ctx context.Context, a attempt, pw secret.Text, opening *Opening, by access.Actor) {
	stronger, err := m.hasher.Hash(ctx, a.lane(), pw)
	if err != nil {
		return
	}
	u := a.member.User
	opening.Rehash = &Rehash{Old: u.Password.Hash, New: stronger}
	event := audit.New(audit.PasswordRehashed, audit.Done, by, u, a.origin, opening.Session.SignedInAt)
	event.Details.Scheme = password.Scheme(u.Password.Hash)
	opening.Audit = append(opening.Audit, event)
}

// newRefreshSalt returns 128 random bits in hex: refresh tokens made with an older salt are good for nothing.
func newRefreshSalt() string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // crypto/rand.Read never fails (Go 1.24)
	return hex.EncodeToString(salt)
}
