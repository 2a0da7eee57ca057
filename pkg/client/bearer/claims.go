package bearer

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims is what a good access token says about its bearer.
type Claims struct {
	// Subject is the id of a user, which never changes, or of a service that acts for itself; see OfService.
	Subject string
	// ClientID is whom the token was given to: the service itself, or what the user signed in with.
	ClientID string
	// AccountID is the account of the subject.
	AccountID string
	// SessionID is the user's session; a service has none.
	SessionID string
	// Roles are the user's roles when the token was issued.
	Roles []string
	// Scopes are those of the token; a user's token may have none.
	Scopes []string
	// Generation is the user's authentication generation: tokens of a smaller one have ended.
	Generation int64
	// AuthTime is when the user signed in; zero for a service.
	AuthTime time.Time
	// TokenID is unique to the token.
	TokenID string
	// IssuedAt and ExpiresAt are in whole seconds.
	IssuedAt, ExpiresAt time.Time
}

// OfService tells whether a service acts for itself: Subject is the id of a service then, never to be taken for a user's (RFC 9068
// section 5).
func (c Claims) OfService() bool { return c.Subject == c.ClientID }

// HasScope tells whether the token has the scope.
func (c Claims) HasScope(scope string) bool { return slices.Contains(c.Scopes, scope) }

// payload is the claims set on the wire (RFC 9068 section 2.2). Times are whole seconds and pointers tell a missing number
// from 0; the library's own NumericDate would also take a number written as a string.
type payload struct {
	Issuer     string           `json:"iss"`
	Audience   jwt.ClaimStrings `json:"aud"`
	Subject    string           `json:"sub"`
	ClientID   string           `json:"client_id"`
	TokenID    string           `json:"jti"`
	IssuedAt   *int64           `json:"iat"`
	ExpiresAt  *int64           `json:"exp"`
	NotBefore  *int64           `json:"nbf"`
	AuthTime   *int64           `json:"auth_time"`
	SessionID  string           `json:"sid"`
	AccountID  string           `json:"account_id"`
	Roles      []string         `json:"roles"`
	Scope      string           `json:"scope"`
	Generation *int64           `json:"gen"`
	MustChange bool             `json:"must_change_password"`
	// Confirmation is what a token is bound to (RFC 7800): no proof of it can be checked here.
	Confirmation json.RawMessage `json:"cnf"`
}

// complete refuses a payload that lacks a claim which every token of the service has, or mixes those of a user and a service.
func (p payload) complete() error {
	ofService := p.Subject == p.ClientID
	for _, claim := range []struct {
		name string
		has  bool
	}{
		{"iss", p.Issuer != ""},
		{"aud", slices.ContainsFunc(p.Audience, func(a string) bool { return a != "" })},
		{"sub", p.Subject != ""},
		{"client_id", p.ClientID != ""},
		{"jti", p.TokenID != ""},
		{"iat", p.IssuedAt != nil},
		{"exp", p.ExpiresAt != nil},
		{"account_id", p.AccountID != ""},
		{"sid", p.SessionID != "" || ofService},
		{"gen", p.Generation != nil || ofService},
	} {
		if !claim.has {
			return refusal("no " + claim.name)
		}
	}
	if p.Confirmation != nil {
		return refusal("bound to a key that was not proven")
	}
	if p.MustChange {
		return refusal("of a session that can only choose a new password")
	}
	if ofService && (p.SessionID != "" || p.AuthTime != nil || p.Generation != nil) {
		return refusal("a service with a session")
	}
	return nil
}

// claims is the payload for the outside; it must be complete.
func (p payload) claims() Claims {
	c := Claims{
		Subject: p.Subject, ClientID: p.ClientID, AccountID: p.AccountID, SessionID: p.SessionID, TokenID: p.TokenID,
		Roles: p.Roles, Scopes: strings.Fields(p.Scope), IssuedAt: instant(*p.IssuedAt), ExpiresAt: instant(*p.ExpiresAt),
	}
	if p.AuthTime != nil {
		c.AuthTime = instant(*p.AuthTime)
	}
	if p.Generation != nil {
		c.Generation = *p.Generation
	}
	return c
}

// lifetime is how long the token was made for; the payload must be complete.
func (p payload) lifetime() time.Duration { return instant(*p.ExpiresAt).Sub(instant(*p.IssuedAt)) }

// The getters make payload a jwt.Claims, which the library's validator reads.

// GetIssuer returns "iss".
func (p payload) GetIssuer() (string, error) { return p.Issuer, nil }

// GetSubject returns "sub".
func (p payload) GetSubject() (string, error) { return p.Subject, nil }

// GetAudience returns "aud".
func (p payload) GetAudience() (jwt.ClaimStrings, error) { return p.Audience, nil }

// GetIssuedAt returns "iat", nil when it is missing.
func (p payload) GetIssuedAt() (*jwt.NumericDate, error) { return numericDate(p.IssuedAt), nil }

// GetExpirationTime returns "exp", nil when it is missing.
func (p payload) GetExpirationTime() (*jwt.NumericDate, error) { return numericDate(p.ExpiresAt), nil }

// GetNotBefore returns "nbf", nil when it is missing.
func (p payload) GetNotBefore() (*jwt.NumericDate, error) { return numericDate(p.NotBefore), nil }

func numericDate(unix *int64) *jwt.NumericDate {
	if unix == nil {
		return nil
	}
	return jwt.NewNumericDate(instant(*unix))
}

func instant(unix int64) time.Time { return time.Unix(unix, 0).UTC() }
