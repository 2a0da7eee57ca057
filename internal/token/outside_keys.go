package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
)

const (
	// minRSABits is the least length of an RSA key (NIST SP 800-131A, RFC 7518 section 3.3).
	minRSABits = 2048
	// maxKeySet bounds the bytes of a JWK set, far over the handful of keys that issuers publish.
	maxKeySet = 256 << 10
)

// Algorithms returns the signature algorithms that can be accepted of outside issuers: no symmetric one, for which the
// verifier's key would be the signer's.
func Algorithms() []string {
	return []string{"EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}

// outsideKey is a public key of an outside issuer, bound to one algorithm (RFC 8725 section 3.1).
type outsideKey struct {
	id        string
	anonymous bool // the only key, given without an id
	algorithm string
	public    crypto.PublicKey
}

// fits tells whether the key is of the algorithm's kind, and strong enough.
func fits(algorithm string, public crypto.PublicKey) bool {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return algorithm == "EdDSA" && len(key) == ed25519.PublicKeySize
	case *rsa.PublicKey:
		return (strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")) && key.N.BitLen() >= minRSABits && key.E >= 3
	case *ecdsa.PublicKey:
		switch algorithm {
		case "ES256":
			return key.Curve == elliptic.P256()
		case "ES384":
			return key.Curve == elliptic.P384()
		case "ES512":
			return key.Curve == elliptic.P521()
		}
	}
	return false
}

// bind makes a key of the one algorithm that it names, or of the first accepted one that fits it.
func (t Trust) bind(id, named string, public crypto.PublicKey) (outsideKey, bool) {
	for _, algorithm := range t.Algorithms {
		if (named == "" || named == algorithm) && fits(algorithm, public) {
			return outsideKey{id: id, algorithm: algorithm, public: public}, true
		}
	}
	return outsideKey{}, false
}

// keysOf reads a JWK set and returns its keys that may be used to verify: one that is not understood, is for something else
// or is weak must not keep the others from being used.
func (t Trust) keysOf(set []byte) ([]outsideKey, error) {
	var listed struct {
		Keys []jwkset.JWKMarshal `json:"keys"`
	}
	if err := json.Unmarshal(set, &listed); err != nil {
		return nil, errors.New("not a JWK set")
	}
	var keys []outsideKey
	for _, jwk := range listed.Keys {
		// Certificates play no part, and must not be fetched.
		jwk.X5U, jwk.X5C, jwk.X5T, jwk.X5TS256 = "", nil, "", ""
		parsed, err := jwkset.NewJWKFromMarshal(jwk, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil || jwk.KID == "" || (jwk.USE != "" && jwk.USE != jwkset.UseSig) || (len(jwk.KEYOPS) > 0 && !slices.Contains(jwk.KEYOPS, jwkset.KeyOpsVerify)) {
			continue
		}
		if key, ok := t.bind(jwk.KID, jwk.ALG.String(), parsed.Key()); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// givenKeys reads the keys of the configuration; weak ones are refused (JWT-11).
func (t Trust) givenKeys() ([]outsideKey, error) {
	block, rest := pem.Decode([]byte(t.Keys))
	if block == nil {
		keys, err := t.keysOf([]byte(t.Keys))
		if err == nil && len(keys) == 0 {
			err = errors.New("no key in the set fits the algorithms, has an id and is strong enough")
		}
		return keys, err
	}
	if block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("the PEM must be one PUBLIC KEY")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM holds no public key")
	}
	key, ok := t.bind("", "", public)
	if !ok {
		return nil, errors.New("the public key does not fit the algorithms, or is weak")
	}
	key.anonymous = true
	return []outsideKey{key}, nil
}

// NewKeysClient returns an HTTP client for JWK sets that follows no redirect: the operator named one address.
func NewKeysClient() *http.Client {
	return &http.Client{
		Timeout:       refreshWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 10, MaxResponseHeaderBytes: 64 << 10},
	}
}

// fetch replaces the keys by those that the issuer publishes now. An answer without a usable key is no answer: the keys at
// hand stay, as they do when nothing answers (ASVS 16.5.2).
func (o *Outside) fetch(ctx context.Context) error {
	set, err := o.download(ctx)
	if err != nil {
		return fmt.Errorf("token: keys of %s: %w", o.trust.Issuer, err)
	}
	keys, err := o.trust.keysOf(set)
	if err == nil && len(keys) == 0 {
		err = errors.New("no usable key")
	}
	if err != nil {
		return fmt.Errorf("token: keys of %s: %w", o.trust.Issuer, err)
	}
	o.keys.Store(&keys)
	return nil
}

func (o *Outside) download(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.trust.KeysURL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := o.config.Client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answer %d", response.StatusCode)
	}
	set, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(set) > maxKeySet {
		return nil, fmt.Errorf("longer than %d bytes", maxKeySet)
	}
	return set, nil
}
