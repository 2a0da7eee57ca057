package bearer

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/salesexec/credentials/pkg/client/internal/keyset"
)

const (
	// refreshEvery is the shortest time between two fetches for unknown key ids, so that forged ids cannot turn into load on the
	// service (RFC 8725 section 3.10); after a fetch that failed it is retryEvery.
	refreshEvery, retryEvery = time.Minute, 5 * time.Second
	// stale is when the keys are fetched anew, beside the work, so that a key which was taken back is not trusted for ever.
	stale = 10 * time.Minute
	// refreshWithin bounds one fetch: the callers behind it wait for it.
	refreshWithin = 5 * time.Second
)

// newClient returns an HTTP client that goes where it is told and nowhere else.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       refreshWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// keys are the public keys of the service, by id, and when they were fetched.
type keys struct {
	url    string
	client *http.Client
	now    func() time.Time
	group  singleflight.Group

	mu      sync.Mutex
	known   map[string]ed25519.PublicKey
	begun   time.Time // the last fetch
	running bool      // it is on its way
	done    int       // fetches that have ended
	failure error     // of the last fetch
}

func newKeys(config Config) *keys {
	return &keys{url: config.KeysURL, client: config.Client, now: config.Now}
}

// Refresh fetches the keys. Call it when the service starts, to learn of a wrong address before the first request does; the
// Verifier fetches them by itself whenever it needs to. When that fails the keys at hand stay (ASVS 16.5.2).
func (v *Verifier) Refresh(ctx context.Context) error {
	_, done, _ := v.keys.look("")
	return v.keys.refresh(ctx, done)
}

// find returns the key with the id. An id that is not known makes it fetch the keys, at most once a minute.
func (k *keys) find(ctx context.Context, id string) (ed25519.PublicKey, error) {
	key, done, due := k.look(id)
	switch {
	case key != nil && due: // the outcome is for the tokens to come
		k.group.DoChan("", k.fetching(ctx, done))
		return key, nil
	case key != nil:
		return key, nil
	case due:
		if err := k.refresh(ctx, done); ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, ok := k.known[id]; ok {
		return key, nil
	}
	if k.failure != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, k.failure)
	}
	return nil, refusal("unknown key")
}

// look finds a key among those at hand, nil if it is not there. It tells how many fetches have ended, and whether another is due or
// on its way.
func (k *keys) look(id string) (key ed25519.PublicKey, done int, due bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key = k.known[id]
	pause := refreshEvery
	switch {
	case k.failure != nil:
		pause = retryEvery
	case key != nil:
		pause = stale
	}
	return key, k.done, k.running || k.begun.IsZero() || k.now().Sub(k.begun) >= pause
}

// refresh fetches the keys, or waits for the fetch that is on its way. done are the fetches that did not suffice.
func (k *keys) refresh(ctx context.Context, done int) error {
	select {
	case result := <-k.group.DoChan("", k.fetching(ctx, done)):
		return result.Err
	case <-ctx.Done():
		return fmt.Errorf("bearer: fetch the keys: %w", ctx.Err())
	}
}

// fetching is cut off from the caller's cancellation: a caller that hangs up must not waste the one fetch of the minute.
func (k *keys) fetching(ctx context.Context, done int) func() (any, error) {
	return func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshWithin)
		defer cancel()
		if begun, failure := k.begin(done); !begun {
			return nil, failure
		}
		known, err := k.fetch(ctx)
		if err != nil {
			err = fmt.Errorf("bearer: fetch the keys: %w", err)
		}
		k.end(known, err)
		return nil, err
	}
}

// begin notes that a fetch begins, unless another has ended since.
func (k *keys) begin(done int) (begun bool, failure error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done != done {
		return false, k.failure
	}
	k.begun, k.running = k.now(), true
	return true, nil
}

// end notes what a fetch brought. When it failed the keys at hand stay.
func (k *keys) end(known map[string]ed25519.PublicKey, failure error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running, k.failure = false, failure
	k.done++
	if failure == nil {
		k.known = known
	}
}

// fetch answers the keys that the service publishes now. An answer without a usable key is no answer.
func (k *keys) fetch(ctx context.Context) (map[string]ed25519.PublicKey, error) {
	set, err := keyset.Fetch(ctx, k.client, k.url)
	if err != nil {
		return nil, err
	}
	return parse(set)
}

// parse reads the Ed25519 keys of a JWK set (RFC 8037 section 2). Others are in it too: the service signs its events with RSA keys,
// which must not verify a token (RFC 8725 section 3.5).
func parse(set []byte) (map[string]ed25519.PublicKey, error) {
	var listed struct {
		Keys []struct {
			KeyType   string `json:"kty"`
			Curve     string `json:"crv"`
			X         string `json:"x"`
			ID        string `json:"kid"`
			Use       string `json:"use"`
			Algorithm string `json:"alg"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(set, &listed); err != nil {
		return nil, errors.New("not a JWK set")
	}
	known := map[string]ed25519.PublicKey{}
	for _, jwk := range listed.Keys {
		if jwk.KeyType != "OKP" || jwk.Curve != "Ed25519" || jwk.ID == "" || jwk.Algorithm != algorithm || (jwk.Use != "" && jwk.Use != "sig") {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(jwk.X)
		if err == nil && len(x) == ed25519.PublicKeySize {
			known[jwk.ID] = ed25519.PublicKey(x)
		}
	}
	if len(known) == 0 {
		return nil, errors.New("no usable key")
	}
	return known, nil
}
