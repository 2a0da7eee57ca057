package token_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/token"
)

const (
	issuer   = "https://credentials.example"
	audience = "salesexec-credentials"
	lifetime = 15 * time.Minute
	leeway   = 30 * time.Second
)

var start = time.Unix(1_800_000_000, 0).UTC()

// clock is a settable clock.
type clock struct{ at time.Time }

func (c *clock) now() time.Time           { return c.at }
func (c *clock) advance(by time.Duration) { c.at = c.at.Add(by) }

// bench is an Issuer with one active key, a settable clock and counted reloads.
type bench struct {
	*token.Issuer
	clock   *clock
	key     token.Key
	reloads int
	// keys and failure are what the next reload yields.
	keys    []token.Key
	failure error
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{clock: &clock{at: start}, key: newKey(t, start.Add(-time.Hour))}
	b.keys = []token.Key{b.key}
	config := goodConfig()
	config.Now = b.clock.now
	config.Reload = func(context.Context) ([]token.Key, error) {
		b.reloads++
		return b.keys, b.failure
	}
	made, err := token.New(config)
	if err != nil {
		t.Fatal(err)
	}
	made.SetKeys(b.keys)
	b.Issuer = made
	return b
}

func goodConfig() token.Config {
	made := 0
	return token.Config{
		Issuer: issuer, Audience: audience, Lifetime: lifetime, Leeway: leeway,
		Now:   func() time.Time { return start },
		NewID: func() string { made++; return "jti-" + strconv.Itoa(made) },
	}
}

func newKey(t *testing.T, activeFrom time.Time) token.Key {
	t.Helper()
	key, err := token.NewKey(activeFrom)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func userClaims() token.Claims {
	return token.Claims{
		Subject: "user-1", ClientID: "app", SessionID: "session-1", AccountID: "account-1",
		Roles: []string{"admin"}, Scope: "credentials", Generation: 7, AuthTime: start.Add(-time.Minute),
	}
}

func (b *bench) mint(t *testing.T) string {
	t.Helper()
	raw, _, err := b.Mint(userClaims())
	if err != nil {
		t.Fatal(err)
	}
	return raw.Reveal()
}

// members are a JSON object; absent as a value takes the member out.
type members map[string]any

type absent struct{}

func (m members) with(changes members) members {
	out := maps.Clone(m)
	maps.Copy(out, changes)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == absent{} })
	return out
}

func goodHeader(keyID string) members {
	return members{"alg": "EdDSA", "typ": "at+jwt", "kid": keyID}
}

func goodPayload() members {
	return members{
		"iss": issuer, "aud": audience, "sub": "user-1", "client_id": "app", "jti": "jti-0",
		"iat": start.Unix(), "exp": start.Add(lifetime).Unix(), "auth_time": start.Unix(),
		"sid": "session-1", "account_id": "account-1", "roles": []string{"admin"}, "scope": "credentials", "gen": 7,
	}
}

type signer func(text string) []byte

func with(key token.Key) signer {
	return func(text string) []byte { return ed25519.Sign(key.Private, []byte(text)) }
}

// forge builds a compact JWS by hand, so that nothing but the code under test judges it.
func forge(header, payload any, sign signer) string {
	text := segment(header) + "." + segment(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

func segment(value any) string {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// refused checks that Verify refuses raw with ErrInvalid and without repeating any part of it.
func (b *bench) refused(t *testing.T, raw string) {
	t.Helper()
	claims, err := b.Verify(t.Context(), raw)
	if !errors.Is(err, token.ErrInvalid) {
		t.Fatalf("got %+v and error %v, want ErrInvalid", claims, err)
	}
	for part := range strings.SplitSeq(raw, ".") {
		if len(part) > 3 && strings.Contains(err.Error(), part) {
			t.Fatalf("the error repeats the token: %.200v", err)
		}
	}
}

// refusedFor is refused with the reason too, so that a forgery cannot pass the test by failing for something else.
func (b *bench) refusedFor(t *testing.T, raw, reason string) {
	t.Helper()
	b.refused(t, raw)
	if _, err := b.Verify(t.Context(), raw); !strings.HasSuffix(err.Error(), ": "+reason) {
		t.Fatalf("refused with %q, want the reason %q", err, reason)
	}
}

func (b *bench) accepted(t *testing.T, raw string) token.Claims {
	t.Helper()
	claims, err := b.Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
