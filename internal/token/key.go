package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/secret"
)

// pemType is the label of a PKCS#8 private key (RFC 7468 section 10).
const pemType = "PRIVATE KEY"

// ErrKey says that a text is not one Ed25519 private key as PKCS#8 PEM. It never holds any of the text.
var ErrKey = errors.New("token: not an Ed25519 private key in PKCS#8 PEM")

// Key is an Ed25519 signing key; it is used with EdDSA alone (RFC 8725 section 3.1).
type Key struct {
	// ID is the RFC 7638 thumbprint of the public half, so that every replica gives one key the same id.
	ID string
	// Private signs; its public half verifies.
	Private ed25519.PrivateKey
	// ActiveFrom is when the key may begin to sign. It is published before, so that others learn it in time.
	ActiveFrom time.Time
	// RetireAt is when the key stops signing, verifying and being published; zero means that it is not retired. In a
	// rotation it lies at least a token's lifetime and the leeway after the successor's ActiveFrom.
	RetireAt time.Time
}

// NewKey makes a random key which may sign from activeFrom on and is not retired.
func NewKey(activeFrom time.Time) (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("token: make a key: %w", err)
	}
	return Key{ID: thumbprint(private), Private: private, ActiveFrom: activeFrom}, nil
}

// Marshal returns the private key as PKCS#8 PEM; the times are not part of it.
func (k Key) Marshal() (secret.Text, error) {
	if !k.sound() {
		return secret.Text{}, ErrKey
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		return secret.Text{}, fmt.Errorf("token: encode a key: %w", err)
	}
	return secret.New(string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))), nil
}

// ParseKey reads what Marshal wrote, or a key given by configuration. The times are left zero: active at once, not
// retired. ErrKey when the text is anything but one Ed25519 private key.
func ParseKey(text secret.Text) (Key, error) {
	block, rest := pem.Decode([]byte(text.Reveal()))
	if block == nil || block.Type != pemType || strings.TrimSpace(string(rest)) != "" {
		return Key{}, ErrKey
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, ErrKey // the cause is left out: it could describe the secret bytes
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Key{}, ErrKey
	}
	return Key{ID: thumbprint(private), Private: private}, nil
}

// sound tells whether the key can sign; ed25519 panics on a key of another size.
func (k Key) sound() bool { return k.ID != "" && len(k.Private) == ed25519.PrivateKeySize }

// retired tells whether the key may no longer be used at all.
func (k Key) retired(now time.Time) bool { return !k.RetireAt.IsZero() && !now.Before(k.RetireAt) }

// signs tells whether the key may sign now.
func (k Key) signs(now time.Time) bool { return !k.ActiveFrom.After(now) && !k.retired(now) }

// public returns the half that verifies.
func (k Key) public() ed25519.PublicKey { return publicOf(k.Private) }

// publicOf reads the public half, which the second 32 bytes of an Ed25519 private key are (RFC 8032 section 5.1.5).
func publicOf(private ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(private[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

// encodePublic writes a public key as the member "x" of a JWK (RFC 8037 section 2).
func encodePublic(key ed25519.PublicKey) string { return base64.RawURLEncoding.EncodeToString(key) }

// thumbprint is the RFC 7638 thumbprint over the members RFC 8037 appendix A.3 names, in their fixed order.
func thumbprint(private ed25519.PrivateKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + encodePublic(publicOf(private)) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
