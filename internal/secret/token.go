package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// tokenBytes is the length of a token before encoding: 256 random bits, where ASVS 6.5.3 and 11.5.1 ask for 128.
const tokenBytes = 32

// NewToken returns a random secret of 256 bits, 43 characters of the URL-safe base64 alphabet: for mailed links and for
// clients.
func NewToken() Text {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // crypto/rand.Read never fails (Go 1.24)
	return New(base64.RawURLEncoding.EncodeToString(raw))
}

// Digest returns the hex SHA-256 of a token, which is what may be stored of it: with 256 random bits no slow hash is
// needed (ASVS 6.5.2). It is not for passwords.
func (t Text) Digest() string {
	sum := sha256.Sum256([]byte(t.value))
	return hex.EncodeToString(sum[:])
}
