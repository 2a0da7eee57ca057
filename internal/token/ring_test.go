package token_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/token"
)

// JWT-09: forged key ids cannot turn into load on the store of keys.
func TestVerify_reloadsAtMostOnceAMinute(t *testing.T) {
	b := newBench(t)
	evil := newKey(t, start)
	thousand := func() {
		for n := range 1000 {
			b.refused(t, forge(goodHeader(fmt.Sprintf("unknown-%d", n)), goodPayload(), with(evil)))
		}
	}
	for _, step := range []struct {
		advance time.Duration
		reloads int
	}{{0, 1}, {time.Minute - 1, 1}, {1, 2}, {time.Second, 2}} {
		b.clock.advance(step.advance)
		thousand()
		if b.reloads != step.reloads {
			t.Fatalf("%d reloads at %v, want %d", b.reloads, b.clock.at.Sub(start), step.reloads)
		}
	}
}

// JWT-09: the same holds for callers that come at once; those that come during a reload profit from it.
func TestVerify_concurrentCallersShareAReload(t *testing.T) {
	next := newKey(t, start)
	var reloads atomic.Int32
	config := goodConfig()
	config.Reload = func(context.Context) ([]token.Key, error) {
		reloads.Add(1)
		return []token.Key{next}, nil
	}
	made, err := token.New(config)
	if err != nil {
		t.Fatal(err)
	}
	raw := forge(goodHeader(next.ID), goodPayload(), with(next))
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			if _, err := made.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if got := reloads.Load(); got != 1 {
		t.Fatalf("%d reloads", got)
	}
}

// JWT-09: a caller that has hung up neither waits nor spoils the reload for the others.
func TestVerify_cancelledCaller(t *testing.T) {
	next := newKey(t, start)
	entered, release := make(chan struct{}), make(chan struct{})
	config := goodConfig()
	config.Reload = func(ctx context.Context) ([]token.Key, error) {
		close(entered)
		<-release
		return []token.Key{next}, ctx.Err()
	}
	made, err := token.New(config)
	if err != nil {
		t.Fatal(err)
	}
	raw := forge(goodHeader(next.ID), goodPayload(), with(next))
	ctx, hangUp := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := made.Verify(ctx, raw)
		result <- err
	}()
	<-entered
	hangUp()
	if _, err := made.Verify(ctx, raw); !errors.Is(err, token.ErrInvalid) || !errors.Is(err, context.Canceled) {
		t.Errorf("while another reloads got %v, want ErrInvalid for the cancelled context", err)
	}
	close(release)
	if err := <-result; err != nil {
		t.Errorf("the reload was spoilt: %v", err)
	}
}

// JWT-10: rotation without restart, on the replica that did not make the new key.
func TestVerify_rotation(t *testing.T) {
	b := newBench(t)
	old := b.mint(t)
	next := newKey(t, start)
	retiring := b.key
	retiring.RetireAt = start.Add(lifetime + leeway)
	b.keys = []token.Key{next, retiring}

	b.accepted(t, forge(goodHeader(next.ID), goodPayload(), with(next)))
	b.accepted(t, old)
	if got := keyID(t, b.mint(t)); got != next.ID {
		t.Errorf("still signs with %s", got)
	}
	if b.reloads != 1 {
		t.Errorf("%d reloads, want 1", b.reloads)
	}
	b.clock.at = retiring.RetireAt
	fresh := goodPayload().with(members{"iat": b.clock.at.Unix(), "exp": b.clock.at.Add(lifetime).Unix()})
	b.refusedFor(t, forge(goodHeader(retiring.ID), fresh, with(retiring)), "unknown key")
	b.accepted(t, forge(goodHeader(next.ID), fresh, with(next)))
}

// JWT-10: a removed key is removed.
func TestVerify_removedKey(t *testing.T) {
	b := newBench(t)
	raw := b.mint(t)
	b.keys = []token.Key{newKey(t, start)}
	b.SetKeys(b.keys)
	b.refusedFor(t, raw, "unknown key")
}

// JWT-10: a key that is published but not yet active verifies: another replica's clock may be ahead.
func TestVerify_keyNotYetActive(t *testing.T) {
	b := newBench(t)
	next := newKey(t, start.Add(time.Second))
	b.SetKeys([]token.Key{b.key, next})
	b.accepted(t, forge(goodHeader(next.ID), goodPayload(), with(next)))
}

// JWT-10: when the store of keys is down, known keys go on and unknown ones stay refused.
func TestVerify_outage(t *testing.T) {
	b := newBench(t)
	raw := b.mint(t)
	b.keys, b.failure = nil, errors.New("store is down")
	evil := newKey(t, start)
	unknown := forge(goodHeader(evil.ID), goodPayload(), with(evil))
	_, err := b.Verify(t.Context(), unknown)
	if !errors.Is(err, token.ErrInvalid) || !errors.Is(err, b.failure) {
		t.Errorf("got %v, want ErrInvalid and the cause", err)
	}
	b.refusedFor(t, unknown, "unknown key")
	b.accepted(t, raw)
	if b.reloads != 1 || !b.HasKeys() {
		t.Errorf("%d reloads, has keys: %t", b.reloads, b.HasKeys())
	}
}

// JWT-09: without a way to reload, an unknown key is simply unknown.
func TestVerify_withoutReload(t *testing.T) {
	made, err := token.New(goodConfig())
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, start)
	if _, err := made.Verify(t.Context(), forge(goodHeader(key.ID), goodPayload(), with(key))); !errors.Is(err, token.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
}

// JWT-10: every key that may verify is published, and its public half alone.
func TestJWKS(t *testing.T) {
	b := newBench(t)
	next, retired := newKey(t, start.Add(time.Hour)), newKey(t, start.Add(-2*time.Hour))
	retired.RetireAt = start
	b.SetKeys([]token.Key{retired, b.key, next})
	type set struct{ Keys []map[string]string }
	public := func(key token.Key) map[string]string {
		x := base64.RawURLEncoding.EncodeToString(key.Private.Public().(ed25519.PublicKey))
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.ID, "use": "sig", "alg": "EdDSA"}
	}
	read := func() set {
		text, err := b.JWKS()
		if err != nil {
			t.Fatal(err)
		}
		var got set
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if diff := cmp.Diff(set{[]map[string]string{public(next), public(b.key)}}, read()); diff != "" {
		t.Error(diff)
	}
	b.SetKeys(nil)
	if diff := cmp.Diff(set{[]map[string]string{}}, read()); diff != "" {
		t.Errorf("an empty set must still be a list: %s", diff)
	}
}

// JWT-10: keys may change while tokens are minted and verified.
func TestIssuer_concurrentUse(t *testing.T) {
	config := goodConfig()
	config.NewID = func() string { return "jti" }
	made, err := token.New(config)
	if err != nil {
		t.Fatal(err)
	}
	keys := []token.Key{newKey(t, start.Add(-time.Hour)), newKey(t, start)}
	made.SetKeys(keys[:1])
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for n := range 50 {
				made.SetKeys(keys[:1+n%2])
				if _, _, err := made.Mint(userClaims()); err != nil {
					t.Error(err)
				}
				if _, err := made.Verify(t.Context(), forge(goodHeader(keys[0].ID), goodPayload(), with(keys[0]))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
}
