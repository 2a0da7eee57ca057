package token_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/token"
)

func TestNew_refusesUnsafeConfigurations(t *testing.T) {
	for name, spoil := range map[string]func(*token.Config){
		"JWT-03 empty issuer":        func(c *token.Config) { c.Issuer = "" },
		"JWT-03 empty audience":      func(c *token.Config) { c.Audience = "" },
		"JWT-02 leeway over 60 s":    func(c *token.Config) { c.Leeway = time.Minute + 1 },
		"JWT-02 negative leeway":     func(c *token.Config) { c.Leeway = -1 },
		"JWT-18 negative lifetime":   func(c *token.Config) { c.Lifetime = -time.Minute },
		"JWT-18 less than a second":  func(c *token.Config) { c.Lifetime = time.Second - 1 },
		"JWT-02 no clock":            func(c *token.Config) { c.Now = nil },
		"JWT-13 no source of new id": func(c *token.Config) { c.NewID = nil },
	} {
		t.Run(name, func(t *testing.T) {
			config := goodConfig()
			spoil(&config)
			if _, err := token.New(config); err == nil {
				t.Fatal("accepted")
			}
		})
	}
	config := goodConfig()
	config.Leeway = time.Minute
	if _, err := token.New(config); err != nil {
		t.Fatalf("JWT-02: a leeway of 60 s is allowed: %v", err)
	}
}

// JWT-18: a lifetime of 0 stands for 15 minutes.
func TestNew_defaultLifetime(t *testing.T) {
	config := goodConfig()
	config.Lifetime = 0
	made, err := token.New(config)
	if err != nil {
		t.Fatal(err)
	}
	made.SetKeys([]token.Key{newKey(t, start)})
	_, expires, err := made.Mint(userClaims())
	if err != nil {
		t.Fatal(err)
	}
	if want := start.Add(15 * time.Minute); !expires.Equal(want) {
		t.Fatalf("expires at %v, want %v", expires, want)
	}
}

// JWT-02: a leeway of 0 stands for 30 seconds.
func TestNew_defaultLeeway(t *testing.T) {
	now := start
	config := goodConfig()
	config.Leeway, config.Now = 0, func() time.Time { return now }
	made, err := token.New(config)
	if err != nil {
		t.Fatal(err)
	}
	made.SetKeys([]token.Key{newKey(t, start)})
	raw, expires, err := made.Mint(userClaims())
	if err != nil {
		t.Fatal(err)
	}
	now = expires.Add(29 * time.Second)
	if _, err := made.Verify(t.Context(), raw.Reveal()); err != nil {
		t.Fatal(err)
	}
	now = expires.Add(30 * time.Second)
	if _, err := made.Verify(t.Context(), raw.Reveal()); !errors.Is(err, token.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
}

// JWT-13: what is minted is what is verified, for users and for clients acting for themselves.
func TestMint_roundTrip(t *testing.T) {
	b := newBench(t)
	b.clock.advance(300 * time.Millisecond) // times on the wire are whole seconds
	client := token.Claims{Subject: "svc", ClientID: "svc", AccountID: "account-1", Scope: "credentials:admin"}
	first := userClaims()
	first.Generation = 0
	for at, claims := range []token.Claims{userClaims(), client, first} {
		raw, expires, err := b.Mint(claims)
		if err != nil {
			t.Fatal(err)
		}
		want := claims
		want.TokenID = fmt.Sprintf("jti-%d", at+1)
		want.IssuedAt, want.ExpiresAt = start, start.Add(lifetime)
		if diff := cmp.Diff(want, b.accepted(t, raw.Reveal())); diff != "" {
			t.Error(diff)
		}
		if !expires.Equal(want.ExpiresAt) {
			t.Errorf("expires at %v, want %v", expires, want.ExpiresAt)
		}
	}
}

// JWT-18: with a lifetime of no whole seconds the token still lives no longer than the lifetime.
func TestMint_roundsTheLifetimeDown(t *testing.T) {
	config := goodConfig()
	config.Lifetime = 1999 * time.Millisecond
	made, err := token.New(config)
	if err != nil {
		t.Fatal(err)
	}
	made.SetKeys([]token.Key{newKey(t, start)})
	raw, expires, err := made.Mint(userClaims())
	if err != nil {
		t.Fatal(err)
	}
	if !expires.Equal(start.Add(time.Second)) {
		t.Fatalf("expires at %v", expires)
	}
	if _, err := made.Verify(t.Context(), raw.Reveal()); err != nil {
		t.Fatal(err)
	}
}

// JWT-05, JWT-13: the wire form is that of RFC 9068.
func TestMint_wireForm(t *testing.T) {
	b := newBench(t)
	parts := strings.Split(b.mint(t), ".")
	want := []map[string]any{
		{"alg": "EdDSA", "typ": "at+jwt", "kid": b.key.ID},
		{
			"iss": issuer, "aud": []any{audience}, "sub": "user-1", "client_id": "app", "jti": "jti-1",
			"iat": float64(start.Unix()), "exp": float64(start.Add(lifetime).Unix()),
			"auth_time": float64(start.Add(-time.Minute).Unix()), "sid": "session-1", "account_id": "account-1",
			"roles": []any{"admin"}, "scope": "credentials", "gen": float64(7),
		},
	}
	for at := range want {
		text, err := base64.RawURLEncoding.DecodeString(parts[at])
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[at], got); diff != "" {
			t.Error(diff)
		}
	}
}

// JWT-13: what Verify would refuse is not minted.
func TestMint_refusesIncompleteClaims(t *testing.T) {
	b := newBench(t)
	for name, spoil := range map[string]func(*token.Claims){
		"sub":        func(c *token.Claims) { c.Subject = "" },
		"client_id":  func(c *token.Claims) { c.ClientID = "" },
		"account_id": func(c *token.Claims) { c.AccountID = "" },
		"sid":        func(c *token.Claims) { c.SessionID = "" },
		// An imported user may have any id, so also that of a client.
		"user with the id of a client": func(c *token.Claims) { c.Subject = c.ClientID },
	} {
		t.Run("JWT-13 "+name, func(t *testing.T) {
			claims := userClaims()
			spoil(&claims)
			if _, _, err := b.Mint(claims); !errors.Is(err, token.ErrClaims) {
				t.Fatalf("got %v, want ErrClaims", err)
			}
		})
	}
}

// JWT-10: a key signs from ActiveFrom on and until RetireAt, the newest first.
func TestMint_choosesTheKey(t *testing.T) {
	b := newBench(t)
	current, older, next := newKey(t, start.Add(-time.Hour)), newKey(t, start.Add(-2*time.Hour)), newKey(t, start.Add(time.Hour))
	current.RetireAt = start.Add(30 * time.Minute)
	b.SetKeys([]token.Key{older, next, current})
	for _, step := range []struct {
		after time.Duration
		want  token.Key
	}{
		{0, current},
		{30*time.Minute - 1, current},
		{30 * time.Minute, older},
		{time.Hour - 1, older},
		{time.Hour, next},
	} {
		b.clock.at = start.Add(step.after)
		if got := keyID(t, b.mint(t)); got != step.want.ID {
			t.Errorf("after %v signed with %s, want %s", step.after, got, step.want.ID)
		}
	}
}

func TestMint_needsAKey(t *testing.T) {
	retired, future := newKey(t, start.Add(-time.Hour)), newKey(t, start.Add(time.Second))
	retired.RetireAt = start
	for name, keys := range map[string][]token.Key{
		"JWT-10 none":           nil,
		"JWT-10 retired":        {retired},
		"JWT-10 not yet active": {future},
		"JWT-11 no private key": {{ID: "x"}},
		"JWT-11 short key":      {{ID: "x", Private: make(ed25519.PrivateKey, 32)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if !b.HasKeys() {
				t.Fatal("no keys to begin with")
			}
			b.SetKeys(keys)
			if b.HasKeys() {
				t.Error("HasKeys")
			}
			if _, _, err := b.Mint(userClaims()); !errors.Is(err, token.ErrNoKey) {
				t.Errorf("got %v, want ErrNoKey", err)
			}
		})
	}
	made, err := token.New(goodConfig())
	if err != nil {
		t.Fatal(err)
	}
	if made.HasKeys() {
		t.Error("a new Issuer has keys")
	}
	if _, err := made.Verify(t.Context(), newBench(t).mint(t)); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("JWT-10: without keys got %v, want ErrInvalid", err)
	}
}

// JWT-10: replicas with the same keys choose the same one, whatever order they were given in.
func TestMint_tieIsSettledAlike(t *testing.T) {
	b := newBench(t)
	keys := []token.Key{newKey(t, start), newKey(t, start), newKey(t, start)}
	b.SetKeys(keys)
	one := keyID(t, b.mint(t))
	slices.Reverse(keys)
	if other := keyID(t, b.mint(t)); other != one {
		t.Fatal("SetKeys kept the caller's slice")
	}
	b.SetKeys(keys)
	if other := keyID(t, b.mint(t)); other != one {
		t.Fatalf("%s, then %s", one, other)
	}
}

func keyID(t *testing.T, raw string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(raw[:strings.IndexByte(raw, '.')])
	if err != nil {
		t.Fatal(err)
	}
	var header struct {
		ID string `json:"kid"`
	}
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	return header.ID
}
