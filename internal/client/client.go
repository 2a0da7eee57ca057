// Package client knows the other services: who they are, how they prove it, and what they may do.
//
// It depends on packages access, audit, change, secret, session (whose issuer mints their tokens) and user, and names the
// stores it needs.
package client

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// What can be wrong with a request for a token (RFC 6749 section 5.2).
var (
	ErrInvalidClient = errors.New("client: unknown client or wrong secret")
	ErrInvalidScope  = errors.New("client: a scope that the client was not given")
)

// Client is a registered service.
type Client struct {
	ID        string
	Name      string
	AccountID string // empty: every account
	Scopes    []string
	Disabled  bool
	CreatedAt time.Time
}

// Secret is what is kept of one of a client's secrets. A client has more than one while they are rotated.
type Secret struct {
	Digest    string // secret.Text.Digest of it: it opens nothing
	CreatedAt time.Time
	ExpiresAt *time.Time // when it stops being good; nil for the newest
}

// good tells whether the secret may still be used at now.
func (s Secret) good(now time.Time) bool { return s.ExpiresAt == nil || now.Before(*s.ExpiresAt) }

// Store is what the answers about clients need of the database.
type Store interface {
	// Client finds a client. session.ErrNotFound when there is none.
	Client(ctx context.Context, id string) (Client, error)
	// ClientSecrets returns a client's secrets, the newest first.
	ClientSecrets(ctx context.Context, id string) ([]Secret, error)
	// Account finds an account. session.ErrNotFound when there is none.
	Account(ctx context.Context, id string) (user.Account, error)
	// Commit saves a change whole or not at all.
	Commit(ctx context.Context, c change.Change) (change.Result, error)
}

// Registry answers who a service is.
type Registry struct {
	store  Store
	issuer session.Issuer
	now    func() time.Time
}

// New returns a Registry.
func New(store Store, issuer session.Issuer, now func() time.Time) *Registry {
	return &Registry{store: store, issuer: issuer, now: now}
}

// ServiceActor returns the service as an actor with all its scopes. session.ErrNotFound when there is no such client or
// it is disabled.
func (r *Registry) ServiceActor(ctx context.Context, clientID string) (access.Actor, error) {
	c, err := r.store.Client(ctx, clientID)
	if err != nil {
		return access.Actor{}, err
	}
	if c.Disabled {
		return access.Actor{}, session.ErrNotFound
	}
	actor := c.actor()
	if c.AccountID != "" {
		if actor.Account, err = r.store.Account(ctx, c.AccountID); err != nil {
			return access.Actor{}, fmt.Errorf("client: account of %s: %w", c.ID, err)
		}
	}
	return actor, nil
}

func (c Client) actor() access.Actor {
	return access.Actor{
		Kind: access.Service, ClientID: c.ID, ClientName: c.Name,
		AllAccounts: c.AccountID == "", ClientAccount: c.AccountID, Scopes: c.Scopes,
	}
}

// Token is the answer to a request for a token.
type Token struct {
	Access    secret.Text
	ExpiresAt time.Time
	Scope     string
}

// IssueToken gives a client that proves itself a token with the wanted scopes, or with all it has when scope is empty.
// It returns ErrInvalidClient or ErrInvalidScope when not.
func (r *Registry) IssueToken(ctx context.Context, id string, proof secret.Text, scope string, origin access.Origin) (Token, error) {
	c, err := r.store.Client(ctx, id)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return Token{}, fmt.Errorf("client: issue a token: %w", err)
	}
	proven, err := r.proves(ctx, c, proof)
	if err != nil {
		return Token{}, err
	}
	if !proven || c.Disabled {
		return Token{}, errors.Join(ErrInvalidClient, r.record(ctx, c, audit.ServiceTokenRefused, audit.Refused, "invalid_client", origin))
	}
	scopes := c.Scopes
	if scope != "" {
		scopes = wantedScopes(scope)
	}
	if len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(c.Scopes, s) }) {
		return Token{}, errors.Join(ErrInvalidScope, r.record(ctx, c, audit.ServiceTokenRefused, audit.Refused, "invalid_scope", origin))
	}
	granted := strings.Join(scopes, " ")
	raw, expires, err := r.issuer.Mint(session.Grant{
		Subject: c.ID, ClientID: c.ID, AccountID: accountClaim(c), Scope: granted,
	})
	if err != nil {
		return Token{}, fmt.Errorf("client: mint a token: %w", err)
	}
	if err := r.record(ctx, c, audit.ServiceTokenIssued, audit.Done, "", origin); err != nil {
		return Token{}, err
	}
	return Token{Access: raw, ExpiresAt: expires, Scope: granted}, nil
}

// proves tells whether proof is one of the client's secrets that are good now.
func (r *Registry) proves(ctx context.Context, c Client, proof secret.Text) (bool, error) {
	secrets, err := r.store.ClientSecrets(ctx, c.ID)
	if err != nil {
		return false, fmt.Errorf("client: secrets of %s: %w", c.ID, err)
	}
	digest, proven := []byte(proof.Digest()), false
	for _, s := range secrets {
		if s.good(r.now()) && subtle.ConstantTimeCompare(digest, []byte(s.Digest)) == 1 {
			proven = true
		}
	}
	return proven, nil
}

// wantedScopes returns the scopes of a request, each once: it is a set (RFC 6749 section 3.3).
func wantedScopes(scope string) []string {
	var wanted []string
	for s := range strings.FieldsSeq(scope) {
		if !slices.Contains(wanted, s) {
			wanted = append(wanted, s)
		}
	}
	return wanted
}

// allAccounts stands in the account_id of a token whose client is registered for every account.
const allAccounts = "*"

func accountClaim(c Client) string {
	if c.AccountID == "" {
		return allAccounts
	}
	return c.AccountID
}

func (r *Registry) record(ctx context.Context, c Client, action audit.Action, outcome audit.Outcome, code string, origin access.Origin) error {
	actor := access.Actor{}
	if c.ID != "" {
		actor = c.actor()
	}
	event := audit.New(action, outcome, actor, user.User{AccountID: c.AccountID}, origin, r.now())
	event.Details.Code = code
	if _, err := r.store.Commit(context.WithoutCancel(ctx), change.Change{At: event.At, Audit: []audit.Event{event}}); err != nil {
		return fmt.Errorf("client: record %s: %w", action, err)
	}
	return nil
}
