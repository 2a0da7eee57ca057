package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the length of a sealing key in bytes.
const KeySize = 32

// ErrSealed says that a sealed value could not be opened: another key, another purpose, or damaged.
var ErrSealed = errors.New("secret: cannot open a sealed value")

// Sealer seals what must be stored but not be readable in the database: AES-256-GCM under keys derived from one master
// key (HKDF-SHA256, RFC 5869), one for each purpose.
type Sealer struct{ master []byte }

// NewSealer returns a Sealer with a master key of KeySize random bytes.
func NewSealer(master []byte) (*Sealer, error) {
	if len(master) != KeySize {
		return nil, fmt.Errorf("secret: a sealing key has %d bytes, not %d", KeySize, len(master))
	}
	return &Sealer{master: master}, nil
}

// Derive returns a key of KeySize bytes for one purpose; the same master gives the same key on every replica.
func (s *Sealer) Derive(purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, s.master, nil, "salesexec credentials: "+purpose, KeySize)
	if err != nil {
		return nil, fmt.Errorf("secret: derive a key for %s: %w", purpose, err)
	}
	return key, nil
}

func (s *Sealer) aead(purpose string) (cipher.AEAD, error) {
	key, err := s.Derive(purpose)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("secret: seal for %s: %w", purpose, err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal encrypts value for the purpose; context (a row's key, say) must be given again to open it.
func (s *Sealer) Seal(purpose, context string, value Text) ([]byte, error) {
	aead, err := s.aead(purpose)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, []byte(value.Reveal()), []byte(context)), nil
}

// Open decrypts what Seal made for the same purpose and context. ErrSealed when it cannot.
func (s *Sealer) Open(purpose, context string, sealed []byte) (Text, error) {
	aead, err := s.aead(purpose)
	if err != nil {
		return Text{}, err
	}
	value, err := aead.Open(nil, nil, sealed, []byte(context))
	if err != nil {
		return Text{}, fmt.Errorf("%w: %s", ErrSealed, purpose)
	}
	return New(string(value)), nil
}

// NewKey returns KeySize random bytes.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // crypto/rand.Read never fails (Go 1.24)
	return key
}
