// Package token issues and verifies the access tokens of the service, RFC 9068 JWTs signed with Ed25519 (RFC 8037), and
// verifies those of outside issuers that the operator trusts.
//
// It is an adapter around github.com/golang-jwt/jwt/v5 and, for the keys of others, github.com/MicahParks/jwkset; it
// depends on them, on package secret and on the standard library.
// Whether the subject exists, its session lives and its generation is current is for the caller to check.
package token

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/salesexec/credentials/internal/secret"
)

const (
	// algorithm is the only signature algorithm of the built-in issuer (RFC 8725 section 3.1).
	algorithm = "EdDSA"
	// mediaType is the header "typ" that tells an access token from every other kind of JWT (RFC 9068 section 2.1).
	mediaType = "at+jwt"
	// defaultLifetime is the upper end of what is recommended for access tokens that are checked without asking their issuer.
	defaultLifetime = 15 * time.Minute
	// defaultLeeway allows for clocks that differ between replicas.
	defaultLeeway = 30 * time.Second
	// maxLeeway is the most allowed: "no more than a few minutes" (RFC 7519 section 4.1.4), here one.
	maxLeeway = time.Minute
)

var (
	// ErrNoKey says that no key may sign now.
	ErrNoKey = errors.New("token: no key to sign with")
	// ErrClaims says that a token was asked for which Verify would refuse.
	ErrClaims = errors.New("token: incomplete claims")
)

// Claims is what an access token says about its bearer.
type Claims struct {
	// Subject ("sub") is a user id, or the client's own id when the client acts for itself.
	Subject string
	// TokenID ("jti") is unique to the token. Mint sets it.
	TokenID string
	// ClientID ("client_id") is the client the token was given to.
	ClientID string
	// SessionID ("sid") is the user's session; a client acting for itself has none.
	SessionID string
	// AccountID ("account_id") is the account the subject belongs to.
	AccountID string
	// Roles ("roles") are the subject's roles at the time of issue.
	Roles []string
	// Scope ("scope") is a list separated by spaces.
	Scope string
	// Generation ("gen") is the user's authentication generation; 0 for a client acting for itself.
	Generation int64
	// MustChange ("must_change_password") says that the session can do nothing but choose a new password, so that other services
	// let nobody in with it.
	MustChange bool
	// AuthTime ("auth_time") is when the user proved to be one, in whole seconds; zero for a client acting for itself.
	AuthTime time.Time
	// IssuedAt ("iat") and ExpiresAt ("exp") are in whole seconds. Mint sets them.
	IssuedAt, ExpiresAt time.Time
}

// Config is what an Issuer needs.
type Config struct {
	// Issuer is the exact "iss" of the tokens; Audience the "aud" that stands for this service. Neither may be empty.
	Issuer, Audience string
	// Lifetime is how long a token is good, and the longest that is accepted: 0 stands for 15 minutes, less than a second is
	// refused.
	Lifetime time.Duration
	// Leeway is allowed on every time of a token: 0 stands for 30 seconds, more than 60 is refused.
	Leeway time.Duration
	// Now is the clock.
	Now func() time.Time
	// NewID makes the id of a token; it must never repeat.
	NewID func() string
	// Reload fetches all keys. Verify calls it for an unknown key id, at most once a minute. May be nil.
	Reload func(context.Context) ([]Key, error)
}

func (c Config) check() error {
	switch {
	case c.Issuer == "" || c.Audience == "":
		// An empty expectation would turn the library's check off instead of failing it.
		return errors.New("token: the issuer and the audience must not be empty")
	case c.Lifetime < time.Second:
		return fmt.Errorf("token: a lifetime of %v is less than a second", c.Lifetime)
	case c.Leeway < 0 || c.Leeway > maxLeeway:
		return fmt.Errorf("token: a leeway of %v is not within 0 and %v", c.Leeway, maxLeeway)
	case c.Now == nil || c.NewID == nil:
		return errors.New("token: a clock and a source of ids are needed")
	}
	return nil
}

// Issuer mints and verifies access tokens. All its methods may be used concurrently.
type Issuer struct {
	config    Config
	parser    *jwt.Parser
	validator *jwt.Validator

	ring      atomic.Pointer[[]Key]
	refresher *refresher
}

// New returns an Issuer without keys: call SetKeys next. It refuses an empty issuer or audience, a lifetime below a
// second, a leeway over a minute, and a missing clock or source of ids.
func New(config Config) (*Issuer, error) {
	config.Lifetime = cmp.Or(config.Lifetime, defaultLifetime)
	config.Leeway = cmp.Or(config.Leeway, defaultLeeway)
	if err := config.check(); err != nil {
		return nil, err
	}
	i := &Issuer{config: config, parser: newParser(algorithm), validator: newValidator(config.Issuer, config.Audience, config.Leeway, config.Now)}
	i.refresher = newRefresher(config.Now, i.reload)
	return i, nil
}

// Mint signs an access token and returns it with the time it expires. It sets TokenID, IssuedAt and ExpiresAt itself,
// whatever claims holds. ErrClaims when a required claim is missing or a client has a session, ErrNoKey when no key may sign now.
func (i *Issuer) Mint(claims Claims) (secret.Text, time.Time, error) {
	now := i.config.Now()
	key, ok := i.signingKey(now)
	if !ok {
		return secret.Text{}, time.Time{}, ErrNoKey
	}
	claims.TokenID = i.config.NewID()
	claims.IssuedAt = now.Truncate(time.Second)
	claims.ExpiresAt = claims.IssuedAt.Add(i.config.Lifetime).Truncate(time.Second)
	content := newPayload(i.config, claims)
	if err := content.complete(); err != nil {
		return secret.Text{}, time.Time{}, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, content)
	unsigned.Header["typ"] = mediaType
	unsigned.Header["kid"] = key.ID
	signed, err := unsigned.SignedString(key.Private)
	if err != nil {
		return secret.Text{}, time.Time{}, fmt.Errorf("token: sign: %w", err)
	}
	return secret.New(signed), claims.ExpiresAt, nil
}
