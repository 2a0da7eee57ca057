package signals

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"github.com/salesexec/credentials/pkg/client/internal/keyset"
)

const (
	// fetchEvery is the shortest time between two fetches for unknown key ids, so that forged ids cannot turn into load on the service
	// (RFC 8725 section 3.10); after a fetch that failed it is retryEvery.
	fetchEvery, retryEvery = time.Minute, 5 * time.Second
	// stale is when the keys are fetched anew, so that a key which was taken back is not trusted for ever.
	stale = 10 * time.Minute
	// fetchWithin bounds one fetch.
	fetchWithin = 5 * time.Second
	// leastBits is the smallest key that is believed (CAEP interoperability profile section 2.6).
	leastBits = 2048
)

// keys are the public keys of the service. Who holds turn may look at the rest: waiting for it ends with the caller's context.
type keys struct {
	url    string
	client *http.Client
	now    func() time.Time
	turn   chan struct{}

	known   map[string]*rsa.PublicKey
	fetched time.Time
	failed  bool
}

func newKeys(config Config) *keys {
	return &keys{url: config.KeysURL, client: config.Client, now: config.Now, turn: make(chan struct{}, 1)}
}

// find returns the key with the id. It is refused if the service was asked just now and has none; a key that cannot be asked for yet
// is ErrUnavailable, since it may be a new one.
func (k *keys) find(ctx context.Context, id string) (*rsa.PublicKey, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	key, pause := k.known[id], fetchEvery
	switch {
	case k.failed:
		pause = retryEvery
	case key != nil:
		pause = stale
	}
	if !k.fetched.IsZero() && k.now().Sub(k.fetched) < pause {
		if key == nil {
			return nil, ErrUnavailable
		}
		return key, nil
	}
	known, err := k.fetch(ctx)
	if ctx.Err() == nil { // a caller that hangs up tells nothing of the service
		k.fetched, k.failed = k.now(), err != nil
	}
	if err == nil {
		k.known = known
		if known[id] == nil {
			return nil, refuse(invalidKey, "the key is not published")
		}
		return known[id], nil
	}
	if key == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return key, nil // the keys at hand stay (ASVS 16.5.2)
}

func (k *keys) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	set, err := keyset.Fetch(ctx, k.client, k.url)
	if err != nil {
		return nil, err
	}
	return parse(set)
}

// parse reads the RSA keys of a JWK set. Those of access tokens are in it too, which must not verify an event (RFC 8725 section 3.12).
func parse(set []byte) (map[string]*rsa.PublicKey, error) {
	var listed struct {
		Keys []struct {
			KeyType   string `json:"kty"`
			N         string `json:"n"`
			E         string `json:"e"`
			ID        string `json:"kid"`
			Use       string `json:"use"`
			Algorithm string `json:"alg"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(set, &listed); err != nil {
		return nil, errors.New("not a JWK set")
	}
	known := map[string]*rsa.PublicKey{}
	for _, jwk := range listed.Keys {
		if jwk.KeyType != "RSA" || jwk.ID == "" || jwk.Algorithm != algorithm || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		n, err := base64.RawURLEncoding.DecodeString(jwk.N)
		if err != nil || jwk.E != "AQAB" { // 65537, the exponent of every key the service makes
			continue
		}
		if modulus := new(big.Int).SetBytes(n); modulus.BitLen() >= leastBits {
			known[jwk.ID] = &rsa.PublicKey{N: modulus, E: 65537}
		}
	}
	if len(known) == 0 { // the service may not know its own keys right now: those at hand stay
		return nil, errors.New("no usable key")
	}
	return known, nil
}
