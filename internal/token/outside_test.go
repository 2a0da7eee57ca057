package token_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/token"
)

const outsideIssuer = "https://login.example"

// setOf is a key set that publishes keys of this service's kind.
func setOf(keys ...token.Key) string {
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	for _, key := range keys {
		set.Keys = append(set.Keys, map[string]string{
			"kty": "OKP", "crv": "Ed25519", "kid": key.ID, "x": base64.RawURLEncoding.EncodeToString(key.Private.Public().(ed25519.PublicKey)),
		})
	}
	encoded, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

func trusted() token.Trust {
	return token.Trust{
		Issuer: outsideIssuer, Audience: audience, Algorithms: []string{"EdDSA"}, Accounts: []string{"account-1"}, AccountClaim: "account_id",
		RoleClaim: "roles", Administrators: []string{"admin"}, Lifetime: lifetime,
	}
}

func newOutside(t testing.TB, trust token.Trust, now func() time.Time) *token.Outside {
	t.Helper()
	o, err := token.NewOutside(trust, token.OutsideConfig{Leeway: leeway, Now: now, Client: token.NewKeysClient(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func outsidePayload() members {
	return members{
		"iss": outsideIssuer, "aud": audience, "sub": "user-1", "iat": start.Unix(), "exp": start.Add(lifetime).Unix(), "account_id": "account-1", "roles": []string{"admin"},
	}
}

// What a good token says, in the words of this service.
func TestOutside_claims(t *testing.T) {
	key := newKey(t, start)
	trust := trusted()
	trust.Keys = setOf(key)
	o := newOutside(t, trust, func() time.Time { return start })
	raw := forge(goodHeader(key.ID), outsidePayload().with(members{"auth_time": float64(start.Unix()) - 0.5, "gen": 7, "scope": "a b", "exp": float64(start.Add(lifetime).Unix()) + 0.9}), with(key))
	got, err := o.Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "user-1" || got.AccountID != "account-1" || got.Generation != 7 || got.Scope != "a b" || len(got.Roles) != 1 || got.Roles[0] != "administrator" ||
		!got.IssuedAt.Equal(start) || !got.AuthTime.Equal(start.Add(-time.Second)) || !got.ExpiresAt.Equal(start.Add(lifetime)) || got.SessionID != "" {
		t.Errorf("%+v", got)
	}
	if o.Keys() != 1 || o.Refresh(t.Context()) != nil || token.IssuerOf(raw) != outsideIssuer {
		t.Error("given keys are at hand and need no refresh")
	}
	for _, odd := range []string{"", "a.b.c", "a.!.c", raw + ".", strings.Repeat("a", 9<<10), segment(goodHeader("x")) + "." + segment(members{"iss": 1}) + ".AAAA"} {
		if issuer := token.IssuerOf(odd); issuer != "" {
			t.Errorf("%.40q is of %q", odd, issuer)
		}
	}
}

// JWT-01, JWT-11 (RFC 8725 section 3.1): a key that does not say its algorithm is good for one of those accepted, not for all.
func TestOutside_bindsTheKeyToOneAlgorithm(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	trust := trusted()
	trust.Keys, trust.Algorithms = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), []string{"EdDSA", "PS256", "RS256"}
	o := newOutside(t, trust, func() time.Time { return start })
	sign := func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	pss := func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	header := members{"alg": "PS256", "typ": "at+jwt"}
	if _, err := o.Verify(t.Context(), forge(header, outsidePayload(), pss)); err != nil {
		t.Errorf("the first that fits: %v", err)
	}
	if _, err := o.Verify(t.Context(), forge(header.with(members{"alg": "RS256"}), outsidePayload(), sign)); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("another that would fit as well: %v", err)
	}
}

// JWT-09: callers that come at once share one fetch, and one that has hung up does not spoil it for the others.
func TestOutside_callersShareAFetch(t *testing.T) {
	key := newKey(t, start)
	var fetches atomic.Int32
	entered, release := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		entered <- struct{}{}
		<-release
		_, _ = w.Write([]byte(setOf(key)))
	}))
	defer server.Close()
	trust := trusted()
	trust.KeysURL = server.URL
	o := newOutside(t, trust, func() time.Time { return start })
	raw := forge(goodHeader(key.ID), outsidePayload(), with(key))

	impatient, hangUp := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	callers.Go(func() { _, _ = o.Verify(impatient, raw) })
	<-entered
	for range 50 {
		callers.Go(func() {
			if _, err := o.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	}
	hangUp()
	close(release)
	callers.Wait()
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// JWT-02, JWT-03, JWT-04, JWT-11: expectations that would let anything in are refused, as are those that contradict.
func TestNewOutside_refuses(t *testing.T) {
	good := trusted()
	good.Keys = setOf(newKey(t, start))
	config := token.OutsideConfig{Leeway: leeway, Now: func() time.Time { return start }, Client: token.NewKeysClient()}
	if _, err := token.NewOutside(good, config); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(trust *token.Trust, config *token.OutsideConfig){
		"no issuer":             func(trust *token.Trust, _ *token.OutsideConfig) { trust.Issuer = "" },
		"no audience":           func(trust *token.Trust, _ *token.OutsideConfig) { trust.Audience = "" },
		"no algorithm":          func(trust *token.Trust, _ *token.OutsideConfig) { trust.Algorithms = nil },
		"a symmetric algorithm": func(trust *token.Trust, _ *token.OutsideConfig) { trust.Algorithms = []string{"EdDSA", "HS256"} },
		"none":                  func(trust *token.Trust, _ *token.OutsideConfig) { trust.Algorithms = []string{"none"} },
		"no account":            func(trust *token.Trust, _ *token.OutsideConfig) { trust.Accounts = nil },
		"all accounts without a claim": func(trust *token.Trust, _ *token.OutsideConfig) {
			trust.Accounts, trust.AccountClaim = []string{"*"}, ""
		},
		"two accounts without a claim": func(trust *token.Trust, _ *token.OutsideConfig) {
			trust.Accounts, trust.AccountClaim = []string{"a", "b"}, ""
		},
		"no keys":            func(trust *token.Trust, _ *token.OutsideConfig) { trust.Keys = "" },
		"two sorts of keys":  func(trust *token.Trust, _ *token.OutsideConfig) { trust.KeysURL = "https://x.example" },
		"a life of 25 hours": func(trust *token.Trust, _ *token.OutsideConfig) { trust.Lifetime = 25 * time.Hour },
		"keys that do not fit": func(trust *token.Trust, _ *token.OutsideConfig) {
			trust.Algorithms = []string{"ES256"}
		},
		"a leeway of two minutes": func(_ *token.Trust, config *token.OutsideConfig) { config.Leeway = 2 * time.Minute },
		"no clock":                func(_ *token.Trust, config *token.OutsideConfig) { config.Now = nil },
	} {
		trust, altered := good, config
		alter(&trust, &altered)
		if _, err := token.NewOutside(trust, altered); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// FuzzOutside: JWT-14, no text at all makes Verify panic, and none but the genuine token is accepted.
func FuzzOutside(f *testing.F) {
	key, err := token.NewKey(start)
	if err != nil {
		f.Fatal(err)
	}
	trust := trusted()
	trust.Keys = setOf(key)
	o := newOutside(f, trust, func() time.Time { return start })
	good := forge(goodHeader(key.ID), outsidePayload(), with(key))
	f.Add(good)
	f.Add(forge(nil, nil, with(key)))
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := o.Verify(t.Context(), raw); (err == nil) != (raw == good) {
			t.Fatalf("%q: %v", raw, err)
		}
		token.IssuerOf(raw)
	})
}
