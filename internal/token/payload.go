package token

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// refusal is a fixed reason: it never repeats anything a token holds.
type refusal string

func (r refusal) Error() string { return string(r) }

// payload is the claims set on the wire (RFC 9068 section 2.2). Times are whole seconds and pointers tell a missing
// number from 0; the library's own NumericDate would also take a number written as a string.
type payload struct {
	Issuer     string           `json:"iss"`
	Audience   jwt.ClaimStrings `json:"aud"`
	Subject    string           `json:"sub"`
	ClientID   string           `json:"client_id"`
	TokenID    string           `json:"jti"`
	IssuedAt   *int64           `json:"iat"`
	ExpiresAt  *int64           `json:"exp"`
	NotBefore  *int64           `json:"nbf,omitempty"`
	AuthTime   *int64           `json:"auth_time,omitempty"`
	SessionID  string           `json:"sid,omitempty"`
	AccountID  string           `json:"account_id"`
	Roles      []string         `json:"roles,omitempty"`
	Scope      string           `json:"scope,omitempty"`
	Generation *int64           `json:"gen,omitempty"`
	MustChange bool             `json:"must_change_password,omitempty"`
	// Confirmation is what a token is bound to (RFC 7800). This service binds none, and can check no proof.
	Confirmation json.RawMessage `json:"cnf,omitempty"`
}

func newPayload(config Config, claims Claims) payload {
	p := payload{
		Issuer: config.Issuer, Audience: jwt.ClaimStrings{config.Audience},
		Subject: claims.Subject, ClientID: claims.ClientID, TokenID: claims.TokenID,
		IssuedAt: seconds(claims.IssuedAt), ExpiresAt: seconds(claims.ExpiresAt), AuthTime: seconds(claims.AuthTime),
		SessionID: claims.SessionID, AccountID: claims.AccountID, Roles: claims.Roles, Scope: claims.Scope,
		MustChange: claims.MustChange,
	}
	if !p.ofClient() || claims.Generation != 0 {
		p.Generation = &claims.Generation
	}
	return p
}

// claims is the payload as the rest of the service sees it; the payload must be complete.
func (p payload) claims() Claims {
	c := Claims{
		Subject: p.Subject, TokenID: p.TokenID, ClientID: p.ClientID, SessionID: p.SessionID, AccountID: p.AccountID,
		Roles: p.Roles, Scope: p.Scope, MustChange: p.MustChange,
		IssuedAt: instant(*p.IssuedAt), ExpiresAt: instant(*p.ExpiresAt),
	}
	if p.AuthTime != nil {
		c.AuthTime = instant(*p.AuthTime)
	}
	if p.Generation != nil {
		c.Generation = *p.Generation
	}
	return c
}

// complete refuses a payload that lacks a claim the service relies on, or mixes those of a user and a client (RFC 9068 sections 2.2 and 4).
func (p payload) complete() error {
	required := []struct {
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
		{"sid", p.SessionID != "" || p.ofClient()},
		{"gen", p.Generation != nil || p.ofClient()},
	}
	for _, claim := range required {
		if !claim.has {
			return refusal("no " + claim.name)
		}
	}
	if p.Confirmation != nil {
		return refusal("bound to a key that was not proven")
	}
	if p.ofClient() && (p.SessionID != "" || p.AuthTime != nil || p.Generation != nil) {
		// Or a user whose id is also a client's would pass for that client (RFC 9068 section 5).
		return refusal("a client with a session")
	}
	return nil
}

// ofClient tells whether a client acts for itself, which has neither session nor generation (RFC 9068 section 2.2).
func (p payload) ofClient() bool { return p.Subject == p.ClientID }

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

// seconds is nil for the zero time.
func seconds(at time.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	unix := at.Unix()
	return &unix
}

func instant(unix int64) time.Time { return time.Unix(unix, 0).UTC() }
