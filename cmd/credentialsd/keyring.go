package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/token"
)

// tokenLeeway is the difference of clocks that tokens are forgiven.
const tokenLeeway = 30 * time.Second

// keyring holds the signing keys and lets the domain mint and verify tokens with them, and verify those of outside issuers.
type keyring struct {
	issuer   *token.Issuer
	outside  map[string]*token.Outside // by their issuer
	store    *store.Store
	fixed    *token.Key // given by configuration: never replaced
	maxAge   time.Duration
	lifetime time.Duration
	now      func() time.Time
}

var _ session.Issuer = (*keyring)(nil)

func newKeyring(ctx context.Context, w wiring) (*keyring, error) {
	settings := w.settings
	k := &keyring{store: w.store, now: w.now, maxAge: settings.SigningKeyMaxAge, lifetime: settings.TokenLifetime}
	if !settings.SigningKey.Empty() {
		key, err := token.ParseKey(settings.SigningKey)
		if err != nil {
			return nil, fmt.Errorf("SIGNING_KEY: %w", err)
		}
		k.fixed = &key
	}
	var err error
	k.issuer, err = token.New(token.Config{
		Issuer: settings.PublicURL, Audience: settings.TokenAudience, Lifetime: settings.TokenLifetime, Leeway: tokenLeeway,
		Now: w.now, NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Reload: k.load,
	})
	if err != nil {
		return nil, err
	}
	if k.outside, err = outsideIssuers(settings, w); err != nil {
		return nil, err
	}
	return k, k.tend(ctx)
}

func outsideIssuers(settings config.Config, w wiring) (map[string]*token.Outside, error) {
	outside, client := map[string]*token.Outside{}, token.NewKeysClient()
	for _, trusted := range settings.TrustedIssuers {
		if trusted.Issuer == settings.PublicURL {
			return nil, fmt.Errorf("TRUSTED_ISSUERS: %s is this service itself", trusted.Issuer)
		}
		issuer, err := token.NewOutside(token.Trust{
			Issuer: trusted.Issuer, Audience: trusted.Audience, KeysURL: trusted.KeysURL, Keys: trusted.Keys, Algorithms: trusted.Algorithms,
			Accounts: trusted.Accounts, AccountClaim: trusted.AccountClaim, RoleClaim: trusted.RoleClaim, Administrators: trusted.AdministratorRoles,
			Scope: trusted.RequiredScope, Lifetime: trusted.MaxTokenLife, AllowMissingTyp: trusted.AllowMissingTyp,
		}, token.OutsideConfig{Leeway: tokenLeeway, Now: w.now, Client: client, Log: w.log})
		if err != nil {
			return nil, fmt.Errorf("TRUSTED_ISSUERS: %w", err)
		}
		outside[trusted.Issuer] = issuer
	}
	return outside, nil
}

// fetchOutside renews what is known of the outside issuers' keys. One that does not answer must not keep the others from
// being asked, nor this service from being ready: its tokens are one account's matter.
func (k *keyring) fetchOutside(ctx context.Context) error {
	var failed error
	for _, issuer := range k.outside {
		failed = errors.Join(failed, issuer.Refresh(ctx))
	}
	return failed
}

func (k *keyring) load(ctx context.Context) ([]token.Key, error) {
	if k.fixed != nil {
		return []token.Key{*k.fixed}, nil
	}
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]token.Key, len(stored))
	for i, kept := range stored {
		if keys[i], err = token.ParseKey(kept.Private); err != nil {
			return nil, err
		}
		keys[i].ActiveFrom = kept.ActiveFrom
		if kept.RetireAt != nil {
			keys[i].RetireAt = *kept.RetireAt
		}
	}
	return keys, nil
}

// announced is how long a new key is published before it signs, so that every replica and every cache knows it by then.
const announced = 10 * time.Minute

// tend loads the keys, and makes a new one when there is none or the newest is too old. The old one stays until its last
// token has run out.
func (k *keyring) tend(ctx context.Context) error {
	keys, err := k.load(ctx)
	if err != nil {
		return err
	}
	now := k.now()
	from, newest := now, ""
	if len(keys) > 0 {
		last := keys[len(keys)-1]
		if k.fixed != nil || now.Before(last.ActiveFrom.Add(k.maxAge)) {
			k.issuer.SetKeys(keys)
			return nil
		}
		from, newest = now.Add(announced), last.ID
	}
	key, err := token.NewKey(from)
	if err != nil {
		return err
	}
	private, err := key.Marshal()
	if err != nil {
		return err
	}
	retire := from.Add(k.lifetime + 2*tokenLeeway)
	err = k.store.AddSigningKey(ctx, store.SigningKey{ID: key.ID, Private: private, ActiveFrom: from}, newest, retire)
	if err != nil && !errors.Is(err, store.ErrNewerKey) {
		return err
	}
	if keys, err = k.load(ctx); err != nil {
		return err
	}
	k.issuer.SetKeys(keys)
	return nil
}

func (k *keyring) ready(context.Context) error {
	if !k.issuer.HasKeys() {
		return errors.New("no signing key")
	}
	return nil
}

// Mint makes an access token.
func (k *keyring) Mint(g session.Grant) (secret.Text, time.Time, error) {
	return k.issuer.Mint(token.Claims{
		Subject: g.Subject, ClientID: g.ClientID, SessionID: g.SessionID, AccountID: g.AccountID,
		Roles: g.Roles, Scope: g.Scope, Generation: g.Generation, AuthTime: g.SignedInAt, MustChange: g.MustChange,
	})
}

// Verify reads an access token, of this service or of an outside issuer.
func (k *keyring) Verify(ctx context.Context, raw string) (session.Grant, error) {
	if issuer, ok := k.outside[token.IssuerOf(raw)]; ok {
		return verifyOutside(ctx, issuer, raw)
	}
	c, err := k.issuer.Verify(ctx, raw)
	if err != nil {
		return session.Grant{}, err
	}
	return session.Grant{
		Subject: c.Subject, ClientID: c.ClientID, SessionID: c.SessionID, AccountID: c.AccountID,
		Roles: c.Roles, Scope: c.Scope, Generation: c.Generation, SignedInAt: c.AuthTime, MustChange: c.MustChange,
	}, nil
}

func verifyOutside(ctx context.Context, issuer *token.Outside, raw string) (session.Grant, error) {
	c, err := issuer.Verify(ctx, raw)
	if err != nil {
		return session.Grant{}, err
	}
	return session.Grant{
		Subject: c.Subject, AccountID: c.AccountID, Roles: c.Roles, Scope: c.Scope, Generation: c.Generation, SignedInAt: c.AuthTime,
		Outside: &session.Outside{Issuer: issuer.Issuer(), IssuedAt: c.IssuedAt, NamesGeneration: c.Generation > 0, LacksScope: issuer.Lacks(c.Scope)},
	}, nil
}
