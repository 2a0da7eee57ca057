package bearer_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/token"
	"github.com/salesexec/credentials/pkg/client/bearer"
)

const (
	issuer   = "https://credentials.example"
	audience = "salesexec"
	lifetime = 15 * time.Minute
	leeway   = 30 * time.Second
)

var start = time.Unix(1_800_000_000, 0).UTC()

// service publishes keys and mints tokens as the credentials service does: it is its own code.
type service struct {
	*token.Issuer
	key token.Key
	rsa *rsa.PrivateKey // signs its events
	url string

	mu      sync.Mutex
	at      time.Time
	fetches int
	answer  func(w http.ResponseWriter) // in place of the keys
	fetched chan struct{}               // receives after each fetch, if not nil
}

func newService(t testing.TB) *service {
	t.Helper()
	s := &service{at: start}
	var err error
	if s.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	made := 0
	s.Issuer, err = token.New(token.Config{Issuer: issuer, Audience: audience, Now: s.now, NewID: func() string { made++; return fmt.Sprint("jti-", made) }})
	if err != nil {
		t.Fatal(err)
	}
	s.key = newKey(t)
	s.SetKeys([]token.Key{s.key})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL + "/.well-known/jwks.json"
	return s
}

func newKey(t testing.TB) token.Key {
	t.Helper()
	key, err := token.NewKey(start.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (s *service) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *service) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.at.Add(d)
}

// ServeHTTP publishes the keys: those of access tokens, and the one that signs events.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.fetches++
	answer, fetched := s.answer, s.fetched
	s.mu.Unlock()
	if fetched != nil {
		defer func() { fetched <- struct{}{} }()
	}
	if answer != nil {
		answer(w)
		return
	}
	published, err := s.JWKS()
	if err != nil || r.URL.Path != "/.well-known/jwks.json" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	var set struct {
		Keys []any `json:"keys"`
	}
	_ = json.Unmarshal(published, &set) // made a line above
	set.Keys = append(set.Keys, members{
		"kty": "RSA", "kid": "events", "use": "sig", "alg": "RS256", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(s.rsa.N.Bytes()),
	})
	_ = json.NewEncoder(w).Encode(set) // a broken connection shows in the verifier
}

func (s *service) config() bearer.Config {
	return bearer.Config{Issuer: issuer, Audience: audience, KeysURL: s.url, Now: s.now}
}

func newVerifier(t testing.TB, config bearer.Config) *bearer.Verifier {
	t.Helper()
	v, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func userClaims() token.Claims {
	return token.Claims{
		Subject: "user-1", ClientID: "app", SessionID: "session-1", AccountID: "account-1",
		Roles: []string{"agent"}, Scope: "leads:read leads:write", Generation: 7, AuthTime: start.Add(-time.Minute),
	}
}

func (s *service) mint(t testing.TB, claims token.Claims) string {
	t.Helper()
	raw, _, err := s.Mint(claims)
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

func goodHeader(keyID string) members { return members{"alg": "EdDSA", "typ": "at+jwt", "kid": keyID} }

func goodPayload() members {
	return members{
		"iss": issuer, "aud": audience, "sub": "user-1", "client_id": "app", "jti": "jti-0",
		"iat": start.Unix(), "exp": start.Add(lifetime).Unix(), "auth_time": start.Unix(),
		"sid": "session-1", "account_id": "account-1", "roles": []string{"agent"}, "scope": "leads:read", "gen": 7,
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

// wantRefused checks that the token is invalid for the reason, and that the error does not repeat it.
func wantRefused(t *testing.T, v *bearer.Verifier, raw, why string) {
	t.Helper()
	_, err := v.Verify(t.Context(), raw)
	if !errors.Is(err, bearer.ErrInvalid) || !strings.HasSuffix(err.Error(), ": "+why) {
		t.Errorf("got %v, not ErrInvalid for %q", err, why)
		return
	}
	for part := range strings.SplitSeq(raw, ".") {
		if len(part) > 3 && strings.Contains(err.Error(), part) {
			t.Errorf("the error repeats the token: %.200v", err)
		}
	}
}

// What the service mints is understood: a user's token and a service's.
func TestVerify_acceptsWhatTheServiceMints(t *testing.T) {
	s := newService(t)
	v := newVerifier(t, s.config())
	got, err := v.Verify(t.Context(), s.mint(t, userClaims()))
	want := bearer.Claims{
		Subject: "user-1", ClientID: "app", AccountID: "account-1", SessionID: "session-1", Roles: []string{"agent"},
		Scopes: []string{"leads:read", "leads:write"}, Generation: 7, AuthTime: start.Add(-time.Minute), TokenID: "jti-1",
		IssuedAt: start, ExpiresAt: start.Add(lifetime),
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if got.OfService() || !got.HasScope("leads:read") || got.HasScope("leads") {
		t.Errorf("misread %+v", got)
	}
	got, err = v.Verify(t.Context(), s.mint(t, token.Claims{Subject: "dialer", ClientID: "dialer", AccountID: "account-1", Scope: "users:read"}))
	if err != nil || !got.OfService() || !got.AuthTime.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
}

// standards.md part 8, as for the service itself: what differs from a good token in one thing is refused for that.
func TestVerify_refusesForgeries(t *testing.T) {
	s := newService(t)
	v := newVerifier(t, s.config())
	if _, err := v.Verify(t.Context(), forge(goodHeader(s.key.ID), goodPayload(), with(s.key))); err != nil {
		t.Fatalf("what the forgeries start from is refused: %v", err)
	}
	evil := newKey(t)
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	hs256 := func(text string) []byte {
		mac := hmac.New(sha256.New, s.key.Private.Public().(ed25519.PublicKey))
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	rs256 := func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, s.rsa, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	for name, attack := range map[string]struct {
		header, payload members
		sign            signer
		why             string
	}{
		"JWT-01 none":                      {members{"alg": "none"}, nil, with(s.key), "wrong algorithm or signature"},
		"JWT-01 HS256 with the public key": {members{"alg": "HS256"}, nil, hs256, "wrong algorithm or signature"},
		"JWT-01 eddsa in another case":     {members{"alg": "eddsa"}, nil, with(s.key), "unknown algorithm"},
		"JWT-01 RS256, key of events":      {members{"alg": "RS256", "kid": "events"}, nil, rs256, "wrong algorithm or signature"},
		"JWT-11 EdDSA, key of events":      {members{"kid": "events"}, nil, rs256, "unknown key"},
		"JWT-01 signature of zeroes":       {nil, nil, func(string) []byte { return make([]byte, 64) }, "wrong algorithm or signature"},
		"JWT-02 no exp":                    {nil, members{"exp": absent{}}, nil, "no exp"},
		"JWT-02 expired":                   {nil, members{"iat": at(-lifetime), "exp": at(-leeway)}, nil, "expired"},
		"JWT-03 wrong iss":                 {nil, members{"iss": issuer + "/"}, nil, "another issuer"},
		"JWT-03 no iss":                    {nil, members{"iss": absent{}}, nil, "no iss"},
		"JWT-04 other aud":                 {nil, members{"aud": []string{"another"}}, nil, "another audience"},
		"JWT-04 no aud":                    {nil, members{"aud": absent{}}, nil, "no aud"},
		"JWT-04 aud of nothing":            {nil, members{"aud": []string{""}}, nil, "no aud"},
		"JWT-05 typ JWT":                   {members{"typ": "JWT"}, nil, nil, "not of type at+jwt"},
		"JWT-05 no typ":                    {members{"typ": absent{}}, nil, nil, "not of type at+jwt"},
		"JWT-06 a security event token":    {members{"typ": "secevent+jwt"}, nil, nil, "not of type at+jwt"},
		"JWT-07 nbf in the future":         {nil, members{"nbf": at(leeway + time.Second)}, nil, "not valid yet"},
		"JWT-07 iat in the future":         {nil, members{"iat": at(leeway + time.Second)}, nil, "issued in the future"},
		"JWT-08 another key, our kid":      {nil, nil, with(evil), "wrong algorithm or signature"},
		"JWT-08 jwk":                       {members{"jwk": members{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(evil.Private.Public().(ed25519.PublicKey))}}, nil, with(evil), "wrong algorithm or signature"},
		"JWT-08 jku":                       {members{"jku": "https://evil.example/jwks"}, nil, with(evil), "wrong algorithm or signature"},
		"JWT-09 kid is a path":             {members{"kid": "../../x"}, nil, nil, "unknown key"},
		"JWT-09 no kid":                    {members{"kid": absent{}}, nil, nil, "no key id"},
		"JWT-12 empty sub":                 {nil, members{"sub": ""}, nil, "no sub"},
		"JWT-13 no client_id":              {nil, members{"client_id": absent{}}, nil, "no client_id"},
		"JWT-13 no jti":                    {nil, members{"jti": absent{}}, nil, "no jti"},
		"JWT-13 no iat":                    {nil, members{"iat": absent{}}, nil, "no iat"},
		"JWT-13 no account_id":             {nil, members{"account_id": absent{}}, nil, "no account_id"},
		"JWT-13 no sid":                    {nil, members{"sid": absent{}}, nil, "no sid"},
		"JWT-13 no gen":                    {nil, members{"gen": absent{}}, nil, "no gen"},
		"JWT-13 string exp":                {nil, members{"exp": "1800000900"}, nil, "malformed"},
		"JWT-13 array sub":                 {nil, members{"sub": []string{"user-1"}}, nil, "malformed"},
		"JWT-13 a user as a service":       {nil, members{"sub": "app"}, nil, "a service with a session"},
		"JWT-13 crit":                      {members{"crit": []string{"b64"}, "b64": false}, nil, nil, "unknown critical header"},
		"JWT-18 for too long":              {nil, members{"exp": at(lifetime + time.Second)}, nil, "made for too long a time"},
		"JWT-19 bound to a key":            {nil, members{"cnf": members{"jkt": "x"}}, nil, "bound to a key that was not proven"},
	} {
		t.Run(name, func(t *testing.T) {
			if attack.sign == nil {
				attack.sign = with(s.key)
			}
			wantRefused(t, v, forge(goodHeader(s.key.ID).with(attack.header), goodPayload().with(attack.payload), attack.sign), attack.why)
		})
	}
	good := s.mint(t, userClaims())
	for name, raw := range map[string]string{
		"JWT-14 empty": "", "JWT-14 two parts": strings.Join(strings.Split(good, ".")[:2], "."), "JWT-14 a line end": good + "\n",
		"JWT-14 dots": strings.Repeat(".", 1<<20), "JWT-14 padding": good + "=", "JWT-14 no signature": good[:strings.LastIndex(good, ".")+1],
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, v, raw, "not in compact form, or too long") })
	}
}

// view is a revocation view that a test writes.
type view func(userID, sessionID string, generation int64) bool

func (f view) Revoked(userID, sessionID string, generation int64) bool {
	return f(userID, sessionID, generation)
}

// A token that the view knows as revoked is refused; a service's is none of its business.
func TestVerify_asksTheView(t *testing.T) {
	s := newService(t)
	config, asked := s.config(), ""
	config.Revocations = view(func(userID, sessionID string, generation int64) bool {
		asked = fmt.Sprint(userID, " ", sessionID, " ", generation)
		return generation < 8
	})
	v := newVerifier(t, config)
	claims := userClaims()
	wantRefused(t, v, s.mint(t, claims), "revoked")
	if asked != "user-1 session-1 7" {
		t.Errorf("the view was asked about %q", asked)
	}
	claims.Generation = 8
	if _, err := v.Verify(t.Context(), s.mint(t, claims)); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), s.mint(t, token.Claims{Subject: "dialer", ClientID: "dialer", AccountID: "account-1"})); err != nil {
		t.Error(err)
	}
}

// JWT-03 and the bounds: what would turn a check off is refused at the start.
func TestNew_refuses(t *testing.T) {
	good := bearer.Config{Issuer: issuer, Audience: audience}
	if _, err := bearer.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *bearer.Config){
		"no issuer":            func(c *bearer.Config) { c.Issuer = "" },
		"no audience":          func(c *bearer.Config) { c.Audience = "" },
		"an issuer without":    func(c *bearer.Config) { c.Issuer = "credentials" },
		"another scheme":       func(c *bearer.Config) { c.KeysURL = "file:///etc/keys" },
		"too much leeway":      func(c *bearer.Config) { c.Leeway = time.Minute + 1 },
		"less than no leeway":  func(c *bearer.Config) { c.Leeway = -1 },
		"less than a lifetime": func(c *bearer.Config) { c.Lifetime = time.Millisecond },
	} {
		config := good
		change(&config)
		if _, err := bearer.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzVerify: JWT-14, no text at all makes Verify panic, and none but the genuine token is accepted.
func FuzzVerify(f *testing.F) {
	s := newService(f)
	v := newVerifier(f, s.config())
	good := forge(goodHeader(s.key.ID), goodPayload(), with(s.key))
	f.Add(good)
	f.Add(forge(nil, nil, with(s.key)))
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := v.Verify(t.Context(), raw); (err == nil) != (raw == good) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}
