package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/secret"
)

// publishedKeys reads the key set as another service does.
func publishedKeys(t *testing.T, url string) map[string]ed25519.PublicKey {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/.well-known/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), `"d"`) {
		t.Fatalf("the key set holds a private key: %s", raw)
	}
	var set struct {
		Keys []struct{ Kty, Crv, X, Kid, Use, Alg string }
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || k.Kty != "OKP" || k.Crv != "Ed25519" || k.Alg != "EdDSA" || k.Use != "sig" {
			t.Fatalf("not a key of RFC 8037: %s (%v)", raw, err)
		}
		keys[k.Kid] = x
	}
	return keys
}

// verifiedBy verifies a token as another service does that knows the published keys, and returns its claims.
func verifiedBy(keys map[string]ed25519.PublicKey, raw, issuer string, now func() time.Time) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(raw, claims, func(parsed *jwt.Token) (any, error) {
		id, _ := parsed.Header["kid"].(string)
		if key, known := keys[id]; known {
			return key, nil
		}
		return nil, errors.New("unknown key")
	}, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(issuer), jwt.WithAudience("salesexec"), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(now))
	return claims, err
}

// api.md, RFC 9068 section 2: what the service mints verifies with the published keys alone, and says what it must.
func TestTokens_verifyElsewhere(t *testing.T) {
	own := func() *service { return start(t, databaseURL(t, "sqlite")) }
	given, ours := startWithKey(t)
	for name, s := range map[string]*service{"own key": own(), "SIGNING_KEY": given} {
		t.Run(name, func(t *testing.T) {
			keys := publishedKeys(t, s.demo.URL)
			if _, there := keys[ours.id()]; there != (s == given) || len(keys) != 1 {
				t.Errorf("the published keys: %v", keys)
			}
			opened := openSession(s, "ada", demoPassword)
			claims, err := verifiedBy(keys, opened.access, s.demo.URL, s.clock.now)
			if err != nil {
				t.Fatal(err)
			}
			wanted := map[string]any{
				"sub": s.user("ada").ID, "account_id": "demo", "sid": opened.session, "client_id": "salesexec-app",
				"iss": s.demo.URL, "scope": "credentials", "gen": float64(1),
			}
			for claim, value := range wanted {
				if claims[claim] != value {
					t.Errorf("%s is %v, want %v", claim, claims[claim], value)
				}
			}
			if claims["exp"].(float64)-claims["iat"].(float64) != 15*60 || claims["jti"] == "" || claims["auth_time"] == nil {
				t.Errorf("the claims: %v", claims)
			}
			if header := decodePart(t, opened.access, 0); header["typ"] != "at+jwt" || header["alg"] != "EdDSA" {
				t.Errorf("the header: %v", header)
			}
			service, err := verifiedBy(keys, serviceToken(s, "users:read"), s.demo.URL, s.clock.now)
			if err != nil || service["sub"] != "demo-service" || service["client_id"] != "demo-service" || service["scope"] != "users:read" || service["sid"] != nil {
				t.Errorf("the service's claims: %v (%v)", service, err)
			}
			if _, err := verifiedBy(keys, strings.Replace(opened.access, ".", ".e", 1), s.demo.URL, s.clock.now); err == nil {
				t.Error("a tampered token verifies")
			}
		})
	}
}

// peers bug 10 (CVE-2023-49097): where the keys and the token endpoint are comes from PUBLIC_URL, whatever a request says.
func TestTokens_metadata(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "TRUSTED_PROXIES=127.0.0.0/8")
	plain := s.want(s.call(http.MethodGet, "/.well-known/openid-configuration", "", nil), http.StatusOK, "")
	forged := s.want(s.call(http.MethodGet, "/.well-known/openid-configuration", "", nil, "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http",
		"Forwarded", "host=evil.example;proto=http", "Origin", "https://evil.example", "X-Original-Host", "evil.example"), http.StatusOK, "")
	if string(plain.raw) != string(forged.raw) || plain.text("issuer") != s.demo.URL || plain.text("jwks_uri") != s.demo.URL+"/.well-known/jwks.json" {
		t.Errorf("%s\n%s", plain.raw, forged.raw)
	}
	head, body := s.exchange("GET /.well-known/openid-configuration HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 200 ") || strings.Contains(body, "evil") {
		t.Errorf("%s\n%s", head, body)
	}
	raw := decodePart(t, s.token("alex", demoPassword), 1)
	if raw["iss"] != s.demo.URL {
		t.Errorf("iss %v", raw["iss"])
	}
}

// replica is one of several processes of the service on the same database, with its periodic work in the test's hands.
type replica struct {
	*app
	service *service
}

func startReplica(t *testing.T, getenv map[string]string, c *clock) replica {
	t.Helper()
	settings, err := config.Load(func(name string) string { return getenv[name] })
	if err != nil {
		t.Fatal(err)
	}
	log := newLogger(io.Discard, "error")
	db, err := openStore(t.Context(), settings, log, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeQuietly(db) })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	shown, err := devCommand{Password: demoPassword}.seed(t.Context(), db, c.now())
	if err != nil {
		t.Fatal(err)
	}
	a, err := wire(t.Context(), wiring{settings: settings, store: db, log: log, now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a.api)
	t.Cleanup(server.Close)
	shown.URL = server.URL
	return replica{app: a, service: &service{t: t, demo: shown, clock: c, databaseURL: getenv["DATABASE_URL"], http: server.Client()}}
}

func (r replica) tended(t *testing.T) {
	t.Helper()
	if err := r.keys.tend(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// JWT-09, JWT-10, api.md: keys rotate without a restart. A new one is published before it signs, the old one verifies
// until its last token has run out, and a replica that has not looked yet learns a new key from the first token.
func TestTokens_keyRotation(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			c, variables := &clock{}, fastHashing()
			maps.Copy(variables, map[string]string{
				"DATABASE_URL": databaseURL(t, database), "PUBLIC_URL": "https://credentials.example", "TOKEN_AUDIENCE": "salesexec",
				"SEALING_KEY": base64.StdEncoding.EncodeToString(secret.NewKey()), "SIGNING_KEY_MAX_AGE": "1h",
			})
			one, two := startReplica(t, variables, c), startReplica(t, variables, c)
			s := one.service
			kid := func(raw string) string { return decodePart(t, raw, 0)["kid"].(string) }
			first := kid(s.token("alex", demoPassword))
			if other := kid(two.service.token("alex", demoPassword)); other != first {
				t.Fatal("two replicas sign with different keys")
			}

			c.advance(time.Hour + time.Second)
			one.tended(t)
			one.tended(t) // the new key is young: nothing happens
			keys := publishedKeys(t, s.demo.URL)
			last := s.token("alex", demoPassword)
			if len(keys) != 2 || kid(last) != first {
				t.Fatalf("%d keys are published and %s signs: a new key must be known before it signs", len(keys), kid(last))
			}

			c.advance(announced)
			last = s.token("alex", demoPassword)
			second := kid(last)
			if _, err := verifiedBy(keys, last, "https://credentials.example", c.now); err != nil || second == first {
				t.Fatalf("the announced key must sign now and verify with the set from before: %v", err)
			}
			if _, knows := publishedKeys(t, two.service.demo.URL)[second]; knows {
				t.Fatal("the other replica knows the new key already: nothing would be proven")
			}
			old := two.service.token("alex", demoPassword)
			if kid(old) != first {
				t.Fatal("a replica that knows the old key alone must sign with it")
			}
			wantAlive(two.service, last) // learnt from its first token
			c.advance(14 * time.Minute)
			one.tended(t)
			wantAlive(s, old)
			wantAlive(two.service, old)
			if len(publishedKeys(t, s.demo.URL)) != 2 {
				t.Error("the old key must be published as long as its tokens are good")
			}
			c.advance(3 * time.Minute)
			one.tended(t)
			if keys = publishedKeys(t, s.demo.URL); len(keys) != 1 || keys[second] == nil {
				t.Errorf("the old key must be gone: %v", keys)
			}
		})
	}
}

// JWT-03, JWT-11: the service does not start with a key or an expectation that would let tokens of others in.
func TestTokens_refusedAtStart(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	good := map[string]string{
		"DATABASE_URL": databaseURL(t, "sqlite"), "PUBLIC_URL": "https://credentials.example", "TOKEN_AUDIENCE": "salesexec",
		"SEALING_KEY": base64.StdEncoding.EncodeToString(secret.NewKey()), "LISTEN_ADDR": "127.0.0.1:0", "OPS_ADDR": "127.0.0.1:0",
	}
	if err := migrate(t.Context(), good["DATABASE_URL"]); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]struct{ variable, value string }{
		"an RSA key": {"SIGNING_KEY", encoded(rsaKey)}, "an EC key": {"SIGNING_KEY", encoded(ecKey)},
		"a phrase": {"SIGNING_KEY", "correct horse battery staple correct horse"}, "no issuer": {"PUBLIC_URL", ""},
		"an issuer without https": {"PUBLIC_URL", "http://credentials.example"}, "no audience": {"TOKEN_AUDIENCE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			variables, said := maps.Clone(good), &output{}
			variables[bad.variable] = bad.value
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			code := run(ctx, []string{"serve"}, process{getenv: func(name string) string { return variables[name] }, stdout: said, stderr: said, now: time.Now})
			if code != 1 || !strings.Contains(said.String(), bad.variable) || ctx.Err() != nil {
				t.Errorf("exit code %d: %s", code, said)
			}
			if bad.variable == "SIGNING_KEY" && strings.Contains(said.String(), bad.value[:30]) {
				t.Error("the key is repeated")
			}
		})
	}
}
