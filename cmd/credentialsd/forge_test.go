package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/token"
)

// pair is the key pair of an issuer, or of an attacker.
type pair struct {
	t         *testing.T
	algorithm string
	private   crypto.Signer
}

func newPair(t *testing.T, algorithm string) pair {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256", "PS256":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		t.Fatalf("no key for %s", algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pair{t: t, algorithm: algorithm, private: private}
}

func (p pair) sign(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	var err error
	switch key := p.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, []byte(text))
	case *ecdsa.PrivateKey:
		r, s, failed := ecdsa.Sign(rand.Reader, key, sum[:])
		if err = failed; err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if p.algorithm == "PS256" {
			signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return signature
}

// pem is the public key as an operator gets it.
func (p pair) pem() []byte {
	der, err := x509.MarshalPKIXPublicKey(p.private.Public())
	if err != nil {
		p.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// jwk is the public key as an issuer publishes it.
func (p pair) jwk(id string) map[string]any {
	encode := base64.RawURLEncoding.EncodeToString
	members := map[string]any{"kid": id, "use": "sig", "alg": p.algorithm}
	switch key := p.private.Public().(type) {
	case ed25519.PublicKey:
		maps.Copy(members, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(key)})
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			p.t.Fatal(err)
		}
		maps.Copy(members, map[string]any{"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])})
	case *rsa.PublicKey:
		maps.Copy(members, map[string]any{"kty": "RSA", "n": encode(key.N.Bytes()), "e": "AQAB"})
	}
	return members
}

// forger makes tokens by hand from a good one.
type forger struct {
	t       *testing.T
	keys    pair
	header  map[string]any
	payload map[string]any
}

func newForger(t *testing.T, keys pair, good string) forger {
	t.Helper()
	return forger{t: t, keys: keys, header: decodePart(t, good, 0), payload: decodePart(t, good, 1)}
}

// decodePart reads the header (0) or the claims (1) of a token.
func decodePart(t *testing.T, raw string, part int) map[string]any {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[part])
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(decoded)))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		t.Fatal(err)
	}
	return members
}

// gone as a value takes a member out.
type gone struct{}

func altered(members, changes map[string]any) map[string]any {
	out := maps.Clone(members)
	maps.Copy(out, changes)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == gone{} })
	return out
}

// forge signs the good token with changes.
func (f forger) forge(header, payload map[string]any) string {
	return f.signed(altered(f.header, header), altered(f.payload, payload), f.keys.sign)
}

func (f forger) signed(header, payload any, sign func(text string) []byte) string {
	part := func(value any) string {
		encoded, err := json.Marshal(value)
		if err != nil {
			f.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(encoded)
	}
	text := part(header) + "." + part(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

func noSignature(string) []byte { return nil }

func hmacWith(key []byte) func(string) []byte {
	return func(text string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
}

// keyServer publishes the keys of an outside issuer, as well as it can.
type keyServer struct {
	*httptest.Server
	mu      sync.Mutex
	answer  http.HandlerFunc
	fetched int
}

func newKeyServer(t *testing.T) *keyServer {
	t.Helper()
	k := &keyServer{}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		k.fetched++
		answer := k.answer
		k.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(k.Close)
	return k
}

// publish answers with the keys from now on.
func (k *keyServer) publish(keys ...map[string]any) {
	k.answers(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	})
}

func (k *keyServer) answers(with http.HandlerFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = with
}

// fetches returns how often the keys were asked for.
func (k *keyServer) fetches() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fetched
}

// issuing is a running service and one of the issuers whose tokens it takes, whose key is the test's own: so what is wrong
// with a forgery is one thing.
type issuing struct {
	*service
	own  bool
	keys pair
	name string // what it calls itself
}

// outsideHeader is the header of a good token of an outside issuer.
func outsideHeader(keys pair) map[string]any {
	return map[string]any{"alg": keys.algorithm, "typ": "at+jwt", "kid": "key-1"}
}

// outsideClaims are those of a good token of an outside issuer for the user.
func outsideClaims(s *service, issuer string, u demoUser) map[string]any {
	now := s.clock.now()
	return map[string]any{
		"iss": issuer, "aud": "salesexec", "sub": u.ID, "client_id": "acme-portal", "jti": uuid.NewString(), "iat": now.Unix(),
		"exp": now.Add(15 * time.Minute).Unix(), "auth_time": now.Add(-time.Hour).Unix(), "account_id": u.AccountID, "roles": []string{u.Role}, "scope": "credentials",
	}
}

// forger starts from a good token of a demo user, as it would be issued now.
func (i issuing) forger(user string) forger {
	i.t.Helper()
	if i.own {
		return newForger(i.t, i.keys, i.token(user, demoPassword))
	}
	return forger{t: i.t, keys: i.keys, header: outsideHeader(i.keys), payload: outsideClaims(i.service, i.name, i.user(user))}
}

// trust writes TRUSTED_ISSUERS.
func trust(t *testing.T, issuers ...map[string]any) string {
	t.Helper()
	for _, issuer := range issuers {
		for member, unset := range map[string]any{"audience": "salesexec", "accounts": []string{"demo"}, "account_claim": "account_id", "max_token_life": "15m"} {
			if _, given := issuer[member]; !given {
				issuer[member] = unset
			}
			if issuer[member] == (gone{}) {
				delete(issuer, member)
			}
		}
	}
	encoded, err := json.Marshal(issuers)
	if err != nil {
		t.Fatal(err)
	}
	return "TRUSTED_ISSUERS=" + string(encoded)
}

// signingKey is the private half of an Ed25519 pair as the service's own key, with its id.
func (p pair) signingKey() string {
	text, err := token.Key{ID: "any", Private: p.private.(ed25519.PrivateKey)}.Marshal()
	if err != nil {
		p.t.Fatal(err)
	}
	return text.Reveal()
}

// id is what the service calls the key.
func (p pair) id() string {
	key, err := token.ParseKey(secret.New(p.signingKey()))
	if err != nil {
		p.t.Fatal(err)
	}
	return key.ID
}

// startWithKey runs a service that signs with a key of the test's own.
func startWithKey(t *testing.T, env ...string) (*service, pair) {
	t.Helper()
	keys := newPair(t, "EdDSA")
	return start(t, databaseURL(t, "sqlite"), append(env, "SIGNING_KEY="+keys.signingKey())...), keys
}

// onEachIssuer runs a test for the built-in issuer and for outside issuers with keys of every kind, published and given, all
// of them trusted by one running service.
func onEachIssuer(t *testing.T, test func(t *testing.T, i issuing), env ...string) {
	outside := map[string]pair{"EdDSA": newPair(t, "EdDSA"), "ES256": newPair(t, "ES256"), "PS256": newPair(t, "PS256"), "RS256": newPair(t, "RS256")}
	name := func(algorithm string) string { return "https://" + strings.ToLower(algorithm) + ".example" }
	var trusted []map[string]any
	for algorithm, keys := range outside {
		issuer := map[string]any{"issuer": name(algorithm), "algorithms": []string{algorithm}}
		if algorithm == "RS256" {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, keys.pem(), 0o600); err != nil {
				t.Fatal(err)
			}
			issuer["key_file"] = path
		} else {
			server := newKeyServer(t)
			server.publish(keys.jwk("key-1"))
			issuer["jwks_url"] = server.URL
		}
		trusted = append(trusted, issuer)
	}
	env = append(env, trust(t, trusted...))
	t.Run("own", func(t *testing.T) {
		s, keys := startWithKey(t, env...)
		test(t, issuing{service: s, own: true, keys: keys, name: s.demo.URL})
	})
	for algorithm, keys := range outside {
		t.Run("outside "+algorithm, func(t *testing.T) {
			s, _ := startWithKey(t, env...)
			keys.t = t
			test(t, issuing{service: s, keys: keys, name: name(algorithm)})
		})
	}
}

// wantInvalid fails unless the token is refused everywhere alike, with the challenge of RFC 6750 section 3.1.
func wantInvalid(s *service, name, raw string) {
	s.t.Helper()
	for _, path := range []string{"/users/me", "/admin/users", "/password-policy"} {
		a := s.call(http.MethodGet, path, raw, nil)
		if a.status != http.StatusUnauthorized || a.code() != "unauthorized" {
			s.t.Errorf("%s on %s: got %d %s", name, path, a.status, a.raw)
		}
		if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer ") || !strings.Contains(challenge, `error="invalid_token"`) {
			s.t.Errorf("%s on %s: the challenge is %q", name, path, challenge)
		}
	}
}

// wantRole fails unless the token is good, and the role that counts is this.
func wantRole(s *service, raw, role string) {
	s.t.Helper()
	if me := s.want(s.call(http.MethodGet, "/users/me", raw, nil), http.StatusOK, ""); me.text("role") != role {
		s.t.Errorf("the role is %s, not %s", me.text("role"), role)
	}
}
