package signal

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/salesexec/credentials/internal/secret"
)

const (
	// keyBits is the least that CAEP's interoperability profile takes (section 2.6) and NIST SP 800-131A allows.
	keyBits = 2048
	// pemType is the label of a PKCS#8 private key (RFC 7468 section 10).
	pemType = "PRIVATE KEY"
	// announced is how long a new key is published before it signs, so that every replica and every cache knows it by then.
	announced = 10 * time.Minute
	// published is how long a key stays published after the last event it signed: receivers may look at them later.
	published = 7 * 24 * time.Hour
)

// What can be wrong with keys.
var (
	ErrKey      = errors.New("signal: not an RSA private key of 2048 bits or more in PKCS#8 PEM")
	ErrNewerKey = errors.New("signal: another replica has made a newer signing key")
)

// StoredKey is a signing key as it is kept.
type StoredKey struct {
	ID         string // RFC 7638 thumbprint
	Private    secret.Text
	ActiveFrom time.Time
	RetireAt   *time.Time // when it is no longer published; nil for the newest
}

// KeyStore keeps the signing keys, sealed.
type KeyStore interface {
	// EventKeys returns the keys that are not retired yet, the oldest first.
	EventKeys(ctx context.Context) ([]StoredKey, error)
	// AddEventKey makes key the newest and lets the one before retire at retire. ErrNewerKey when the newest is no longer the one
	// the caller knew ("" for none).
	AddEventKey(ctx context.Context, key StoredKey, newest string, retire time.Time) error
}

// key signs SETs with RS256 alone (CAEP interoperability profile section 2.6; RFC 8725 section 3.1). It is never that of access
// tokens (RFC 8725 section 3.12).
type key struct {
	id         string
	private    *rsa.PrivateKey
	activeFrom time.Time
}

// Ring holds the keys that sign SETs. The first is made when the first stream is.
type Ring struct {
	store  KeyStore
	maxAge time.Duration
	now    func() time.Time

	mu     sync.Mutex
	keys   []key // the oldest first
	loaded time.Time
}

// NewRing returns a Ring whose keys are replaced when they are older than maxAge.
func NewRing(store KeyStore, maxAge time.Duration, now func() time.Time) *Ring {
	return &Ring{store: store, maxAge: maxAge, now: now}
}

// Ensure makes the first key if there is none.
func (r *Ring) Ensure(ctx context.Context) error {
	stored, err := r.load(ctx)
	if err != nil || len(stored) > 0 {
		return err
	}
	return r.add(ctx, r.now(), "")
}

// Tend loads the keys and makes a new one when the newest is too old.
func (r *Ring) Tend(ctx context.Context) error {
	stored, err := r.load(ctx)
	if err != nil || len(stored) == 0 {
		return err
	}
	newest, now := stored[len(stored)-1], r.now()
	if now.Before(newest.ActiveFrom.Add(r.maxAge)) {
		return nil
	}
	return r.add(ctx, now.Add(announced), newest.ID)
}

func (r *Ring) add(ctx context.Context, from time.Time, newest string) error {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return fmt.Errorf("signal: make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("signal: encode a key: %w", err)
	}
	text := secret.New(string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})))
	made := StoredKey{ID: thumbprint(private), Private: text, ActiveFrom: from}
	if err := r.store.AddEventKey(ctx, made, newest, from.Add(published)); err != nil && !errors.Is(err, ErrNewerKey) {
		return fmt.Errorf("signal: add a key: %w", err)
	}
	_, err = r.load(ctx)
	return err
}

func (r *Ring) load(ctx context.Context) ([]StoredKey, error) {
	stored, err := r.store.EventKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("signal: load the keys: %w", err)
	}
	keys := make([]key, len(stored))
	for i, kept := range stored {
		if keys[i], err = parseKey(kept); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys, r.loaded = keys, r.now()
	return stored, nil
}

func parseKey(kept StoredKey) (key, error) {
	block, rest := pem.Decode([]byte(kept.Private.Reveal()))
	if block == nil || block.Type != pemType || strings.TrimSpace(string(rest)) != "" {
		return key{}, ErrKey
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key{}, ErrKey // the cause is left out: it could describe the secret bytes
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok || private.N.BitLen() < keyBits {
		return key{}, ErrKey
	}
	return key{id: thumbprint(private), private: private, activeFrom: kept.ActiveFrom}, nil
}

// signing returns the newest key that may sign now; it asks the store when none is at hand, since another replica may have made
// the first.
func (r *Ring) signing(ctx context.Context) (key, error) {
	if k, ok := r.active(); ok {
		return k, nil
	}
	if err := r.Ensure(ctx); err != nil {
		return key{}, err
	}
	if k, ok := r.active(); ok {
		return k, nil
	}
	return key{}, errors.New("signal: no key may sign now")
}

func (r *Ring) active() (key, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for i := len(r.keys) - 1; i >= 0; i-- {
		if !r.keys[i].activeFrom.After(now) {
			return r.keys[i], true
		}
	}
	return key{}, false
}

// JWK is a public key of RFC 7517.
type JWK struct {
	KeyType   string `json:"kty"`
	N         string `json:"n"`
	E         string `json:"e"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// freshFor is how long keys at hand are published without a look at the store: a new one is there long before it signs.
const freshFor = time.Minute

// loadWithin bounds the wait for the store where the keys at hand will do.
const loadWithin = 2 * time.Second

// JWKS returns the public keys, also those that do not sign yet. The first may have been made and used by another replica a moment
// ago, so that the store is asked while there is none. When it does not answer, what it said last counts; it is an error only if
// it never did (see Tend), since a set without keys is believed.
func (r *Ring) JWKS(ctx context.Context) ([]JWK, error) {
	if r.outdated() {
		bounded, cancel := context.WithTimeout(ctx, loadWithin)
		defer cancel()
		if _, err := r.load(bounded); err != nil && !r.known() {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]JWK, len(r.keys))
	for i, k := range r.keys {
		n, e := members(k.private)
		keys[i] = JWK{KeyType: "RSA", N: n, E: e, ID: k.id, Use: "sig", Algorithm: algorithm}
	}
	return keys, nil
}

func (r *Ring) known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.loaded.IsZero()
}

func (r *Ring) outdated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.keys) == 0 || r.now().Sub(r.loaded) >= freshFor
}

// members returns the modulus and the exponent as RFC 7518 section 6.3.1 writes them.
func members(private *rsa.PrivateKey) (n, e string) {
	encode := base64.RawURLEncoding.EncodeToString
	return encode(private.N.Bytes()), encode(big.NewInt(int64(private.E)).Bytes())
}

// thumbprint is the RFC 7638 thumbprint over the members of section 3.2, in their fixed order.
func thumbprint(private *rsa.PrivateKey) string {
	n, e := members(private)
	sum := sha256.Sum256([]byte(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
