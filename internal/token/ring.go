package token

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// SetKeys replaces all keys. It may be called at any time from any goroutine; keys that cannot sign are left out.
func (i *Issuer) SetKeys(keys []Key) {
	ring := slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return !k.sound() })
	// Newest first; the id settles a tie, so that every replica chooses the same key.
	slices.SortFunc(ring, func(a, b Key) int {
		return cmp.Or(b.ActiveFrom.Compare(a.ActiveFrom), cmp.Compare(a.ID, b.ID))
	})
	i.ring.Store(&ring)
}

// HasKeys tells whether there is a key to sign with now; without one the service is not ready.
func (i *Issuer) HasKeys() bool {
	_, ok := i.signingKey(i.config.Now())
	return ok
}

// JWKS returns the public keys as a JWK set (RFC 7517, RFC 8037): all that are not retired, also those not yet active,
// so that verifiers know a key before it first signs.
func (i *Issuer) JWKS() ([]byte, error) {
	type jwk struct {
		KeyType   string `json:"kty"`
		Curve     string `json:"crv"`
		X         string `json:"x"`
		ID        string `json:"kid"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	now := i.config.Now()
	for _, key := range i.keys() {
		if !key.retired(now) {
			set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", encodePublic(key.public()), key.ID, "sig", algorithm})
		}
	}
	out, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("token: encode the key set: %w", err)
	}
	return out, nil
}

// keys returns the ring, newest first. It is shared: never written to.
func (i *Issuer) keys() []Key {
	if ring := i.ring.Load(); ring != nil {
		return *ring
	}
	return nil
}

func (i *Issuer) signingKey(now time.Time) (Key, bool) {
	return first(i.keys(), func(k Key) bool { return k.signs(now) })
}

// knownKey finds the key by its id, compared as an opaque text. A key not yet active verifies too: the clock of the
// replica that signs may be a little ahead.
func (i *Issuer) knownKey(id string) (Key, bool) {
	now := i.config.Now()
	return first(i.keys(), func(k Key) bool { return k.ID == id && !k.retired(now) })
}

func first(keys []Key, fits func(Key) bool) (Key, bool) {
	at := slices.IndexFunc(keys, fits)
	if at < 0 {
		return Key{}, false
	}
	return keys[at], true
}

// verifyingKey finds the key, reloading the keys when the id is not known: another replica may have made it.
func (i *Issuer) verifyingKey(ctx context.Context, id string) (Key, error) {
	if key, ok := i.knownKey(id); ok {
		return key, nil
	}
	err := i.refresher.refresh(ctx)
	if key, ok := i.knownKey(id); ok {
		return key, nil
	}
	if err != nil {
		return Key{}, fmt.Errorf("unknown key: %w", err)
	}
	return Key{}, refusal("unknown key")
}

// reload fetches the keys. When that fails the keys at hand stay.
func (i *Issuer) reload(ctx context.Context) error {
	if i.config.Reload == nil {
		return nil
	}
	keys, err := i.config.Reload(ctx)
	if err != nil {
		return fmt.Errorf("reload the keys: %w", err)
	}
	i.SetKeys(keys)
	return nil
}
