// Package session opens, refreshes, checks and ends sessions: sign-in with its throttle and its upgrade of old hashes,
// rotating refresh tokens, and the check of every access token against what the database says now.
//
// It depends on packages access, audit, change, identifier, notice, password, secret, throttle and user, and names the store
// and the token issuer it needs. It knows neither HTTP nor SQL.
package session

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// What can be wrong with a sign-in or a token.
var (
	ErrNotFound           = errors.New("session: not found")
	ErrInvalidCredentials = errors.New("session: invalid credentials")
	ErrInvalidToken       = errors.New("session: invalid token")
	ErrUnsettled          = errors.New("session: the user kept changing during the sign-in")
	ErrNoSession          = errors.New("session: none of the live sessions that the user has with this service")
)

// Session starts with a sign-in, holds a rotating refresh token, and ends by sign-out, expiry or revocation.
type Session struct {
	ID                 string
	UserID             user.ID
	AccountID          string
	Generation         int64
	MustChangePassword bool // opened with a temporary password
	SignedInAt         time.Time
	LastUsedAt         time.Time
	ExpiresAt          time.Time
	EndedAt            *time.Time
	RefreshCount       int64  // number of the newest refresh token
	RefreshSalt        string // what its tokens are made with
	IP                 string
	Network            string
	UserAgent          string
}

// Member is a user with the account it belongs to.
type Member struct {
	User    user.User
	Account user.Account
}

// Rehash replaces a hash by a stronger one of the same password; it is no change of the credentials.
type Rehash struct{ Old, New string }

// Opening is what a successful sign-in writes.
type Opening struct {
	Session Session      // without an id none is opened: another service had the password verified
	Guard   change.Guard // the user the password was checked against must still be the same
	Rehash  *Rehash
	Device  string // what the app or browser is known as; empty: not known
	Letters notice.Letters
	Audit   []audit.Event
}

// Store is what sessions need of the database.
type Store interface {
	// MemberByUsername finds who signs in with the folded name. ErrNotFound when nobody does.
	MemberByUsername(ctx context.Context, key string) (Member, error)
	// KnowsNetwork tells whether the user has signed in from the network since then.
	KnowsNetwork(ctx context.Context, id user.ID, network string, since time.Time) (bool, error)
	// KnowsDevice tells whether the user has signed in with the device since then.
	KnowsDevice(ctx context.Context, id user.ID, device string, since time.Time) (bool, error)
	// Administrators returns the active administrators of an account that have an e-mail address.
	Administrators(ctx context.Context, accountID string) ([]user.User, error)
	// OpenSession writes an Opening whole or not at all. change.ErrConflict when the guard does not hold.
	OpenSession(ctx context.Context, opening Opening) error
	// Member finds a user with the account. ErrNotFound when there is none.
	Member(ctx context.Context, id user.ID) (Member, error)
	// Session finds a session with its user. ErrNotFound when there is none.
	Session(ctx context.Context, id string) (Session, Member, error)
	// LiveSessions returns the user's sessions that can be used at now, the newest first, after the one named.
	LiveSessions(ctx context.Context, u user.User, now time.Time, after string, limit int) ([]Session, error)
	// RotateRefresh moves the session's newest refresh token from one number to the next and notes its use, unless the
	// session is ended, has another salt or has moved on: change.ErrConflict.
	RotateRefresh(ctx context.Context, current Session, next int64, at time.Time) error
	// Standings tells what holds off attempts at the passwords of subjects.
	Standings(ctx context.Context, subjects []string) (map[string]throttle.Standing, error)
	// Commit saves a change whole or not at all.
	Commit(ctx context.Context, c change.Change) (change.Result, error)
}

// Clients finds the service that a token was issued to. ErrNotFound when there is none or it is disabled.
type Clients interface {
	ServiceActor(ctx context.Context, clientID string) (access.Actor, error)
}

// Grant is what an access token says.
type Grant struct {
	Subject    string
	ClientID   string
	SessionID  string
	AccountID  string
	Roles      []string
	Scope      string
	Generation int64
	SignedInAt time.Time // zero when the token does not say
	MustChange bool      // for other services to see: this one goes by the session
	Outside    *Outside  // nil for a token of this service
}

// Outside is what a token of another issuer says beside. It belongs to no session of this service, which could be looked up
// and ended.
type Outside struct {
	Issuer          string
	IssuedAt        time.Time // in whole seconds
	NamesGeneration bool      // the token says of which generation of the user it is, since its issuer was told
	LacksScope      string    // a scope that the issuer's tokens need for this service, and that this one has not
}

// Issuer mints and verifies access tokens.
type Issuer interface {
	Mint(grant Grant) (secret.Text, time.Time, error)
	// Verify returns what a good token says; any error means that it is none.
	Verify(ctx context.Context, raw string) (Grant, error)
}

// AppClientID is the client_id of tokens that a sign-in by password yields: the SalesExec apps.
const AppClientID = "salesexec-app"

// Config are a Manager's settings.
type Config struct {
	MaxAge     time.Duration // a session's whole life
	IdleTime   time.Duration // how long it lives without a refresh
	RefreshKey []byte        // what refresh tokens are authenticated with: 32 bytes, the same on every replica
	Notices    *notice.Composer
	Now        func() time.Time
	Log        *slog.Logger
}

// knownFor is how long a network stays known to a user (product.md decision 8).
const knownFor = 30 * 24 * time.Hour

// Manager opens, refreshes, checks and ends sessions.
type Manager struct {
	config  Config
	store   Store
	clients Clients
	hasher  *password.Hasher
	limiter *throttle.Limiter
	issuer  Issuer
	lockout *Lockout
}

// New returns a Manager.
func New(config Config, store Store, clients Clients, hasher *password.Hasher, limiter *throttle.Limiter, issuer Issuer) *Manager {
	return &Manager{config: config, store: store, clients: clients, hasher: hasher, limiter: limiter, issuer: issuer, lockout: NewLockout(store, config.Notices)}
}

// Tokens are what the signed-in user's app is given.
type Tokens struct {
	SessionID          string
	Access             secret.Text
	AccessExpiresAt    time.Time
	Refresh            secret.Text
	MustChangePassword bool
}

// TokensFor mints tokens for a session as it is about to be saved.
func (m *Manager) TokensFor(s Session, u user.User) (Tokens, error) {
	raw, expires, err := m.issuer.Mint(Grant{
		Subject: string(u.ID), ClientID: AppClientID, SessionID: s.ID, AccountID: u.AccountID,
		Roles: []string{string(u.Role)}, Scope: "credentials", Generation: s.Generation, SignedInAt: s.SignedInAt,
		MustChange: s.MustChangePassword,
	})
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{
		SessionID: s.ID, Access: raw, AccessExpiresAt: expires,
		Refresh: m.refreshToken(s, s.RefreshCount), MustChangePassword: s.MustChangePassword,
	}, nil
}

// usable tells whether the session is alive for this user at now.
func (s Session) usable(u user.User, now time.Time) bool {
	return s.EndedAt == nil && now.Before(s.ExpiresAt) && u.IsActive() && s.Generation == u.Generation
}
