package main

import (
	"context"
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
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/token"
	"github.com/salesexec/credentials/internal/user"
)

// forger makes tokens by hand from a good one, with the service's own key or any other.
type forger struct {
	t       *testing.T
	key     token.Key
	header  map[string]any
	payload map[string]any
}

// startWithKey runs a service that signs with a key of the test's own, so that what is wrong with a forgery is one thing.
func startWithKey(t *testing.T) (*service, token.Key) {
	t.Helper()
	key, err := token.NewKey(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, databaseURL(t, "sqlite"), "SIGNING_KEY="+text.Reveal()), key
}

func newForger(t *testing.T, key token.Key, good string) forger {
	t.Helper()
	return forger{t: t, key: key, header: decodePart(t, good, 0), payload: decodePart(t, good, 1)}
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
	return f.signed(altered(f.header, header), altered(f.payload, payload), f.eddsa)
}

func (f forger) eddsa(text string) []byte { return ed25519.Sign(f.key.Private, []byte(text)) }

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

func noSignature(string) []byte { return nil }

func hmacWith(key []byte) func(string) []byte {
	return func(text string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
}

// JWT-01, JWT-05, JWT-06, JWT-08, JWT-09, JWT-11: forged headers, algorithms and keys.
func TestTokens_forgedHeaders(t *testing.T) {
	s, key := startWithKey(t)
	f := newForger(t, key, s.token("ada", demoPassword))
	wantAlive(s, f.forge(nil, nil)) // what the forgeries start from is good
	var outbound atomic.Int64
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { outbound.Add(1) }))
	defer evil.Close()

	public := key.Private.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	spki := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for alg, sign := range map[string]func(string) []byte{
		"none": noSignature, "None": noSignature, "noNE": noSignature, "NONE": f.eddsa, "eddsa": f.eddsa, "ES256": f.eddsa, "RS256": f.eddsa,
		"HS256": hmacWith(public), "HS512": hmacWith(spki), "": f.eddsa,
	} {
		wantInvalid(s, "JWT-01 alg "+alg, f.signed(altered(f.header, map[string]any{"alg": alg}), f.payload, sign))
	}
	wantInvalid(s, "JWT-01 HMAC with the public key in PEM", f.signed(altered(f.header, map[string]any{"alg": "HS256"}), f.payload, hmacWith(spki)))
	wantInvalid(s, "JWT-01 HMAC under EdDSA", f.signed(f.header, f.payload, hmacWith(public)))

	for _, kind := range []any{"JWT", gone{}, "", "secevent+jwt", "logout+jwt", "dpop+jwt", []string{"at+jwt"}, nil} {
		wantInvalid(s, "JWT-05, JWT-06 typ", f.forge(map[string]any{"typ": kind}, nil))
	}
	for _, kind := range []string{"AT+JWT", "application/at+jwt"} {
		wantAlive(s, f.forge(map[string]any{"typ": kind}, nil))
	}

	attacker, err := token.NewKey(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	theirs := newForger(t, attacker, f.forge(nil, nil))
	x := base64.RawURLEncoding.EncodeToString(attacker.Private.Public().(ed25519.PublicKey))
	jwk := map[string]any{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": attacker.ID}
	for name, header := range map[string]map[string]any{
		"our kid": nil, "jwk": {"jwk": jwk}, "jwk and kid": {"jwk": jwk, "kid": attacker.ID},
		"jku": {"jku": evil.URL, "kid": attacker.ID}, "x5u": {"x5u": evil.URL}, "x5c": {"x5c": []string{x}}, "no kid": {"kid": gone{}},
		"kid is a path": {"kid": "../../x"}, "kid is SQL": {"kid": "' OR 1=1"}, "kid is a URL": {"kid": evil.URL}, "kid is a number": {"kid": 1},
	} {
		wantInvalid(s, "JWT-08, JWT-09 "+name, theirs.forge(header, nil))
	}
	wantInvalid(s, "JWT-13 crit", f.forge(map[string]any{"crit": []string{"b64"}, "b64": false}, nil))
	if n := outbound.Load(); n != 0 {
		t.Errorf("JWT-08: the service made %d requests to the attacker", n)
	}
}

// JWT-02, JWT-03, JWT-04, JWT-06, JWT-07, JWT-13, JWT-18: claims that are wrong, under a signature that is right.
func TestTokens_forgedClaims(t *testing.T) {
	s, key := startWithKey(t)
	f := newForger(t, key, s.token("ada", demoPassword))
	at := func(d time.Duration) int64 { return s.clock.now().Add(d).Unix() }
	for name, claims := range map[string]map[string]any{
		"JWT-02 no exp": {"exp": gone{}}, "JWT-02 expired": {"iat": at(-time.Hour), "exp": at(-45 * time.Minute)},
		"JWT-02 far-future exp": {"exp": at(365 * 24 * time.Hour)}, "JWT-18 too long": {"exp": at(17 * time.Minute)},
		"JWT-03 no iss": {"iss": gone{}}, "JWT-03 wrong iss": {"iss": "https://evil.example"}, "JWT-03 almost": {"iss": s.demo.URL + "/"},
		"JWT-03 empty iss": {"iss": ""}, "JWT-04 no aud": {"aud": gone{}}, "JWT-04 other aud": {"aud": "crm"},
		"JWT-04 no aud in the list": {"aud": []string{}}, "JWT-04 empty aud": {"aud": ""}, "JWT-06 an ID token": {"aud": "salesexec-app", "nonce": "n"},
		"JWT-07 nbf": {"nbf": at(2 * time.Minute)}, "JWT-07 iat": {"iat": at(2 * time.Minute), "exp": at(3 * time.Minute)}, "JWT-13 no iat": {"iat": gone{}},
		"JWT-13 array sub": {"sub": []string{s.user("ada").ID}}, "JWT-13 string exp": {"exp": "9999999999"}, "JWT-13 object aud": {"aud": map[string]any{"a": "salesexec"}},
		"JWT-13 no client_id": {"client_id": gone{}}, "JWT-13 no jti": {"jti": gone{}}, "JWT-13 string roles": {"roles": "administrator"},
		"JWT-13 no gen": {"gen": gone{}}, "JWT-13 no sid": {"sid": gone{}}, "JWT-12 no sub": {"sub": gone{}}, "JWT-12 empty sub": {"sub": ""},
	} {
		wantInvalid(s, name, f.forge(nil, claims))
	}
	wantAlive(s, f.forge(nil, map[string]any{"aud": []string{"crm", "salesexec"}})) // JWT-04
	wantAlive(s, f.forge(nil, map[string]any{"iat": at(10 * time.Second)}))         // within the leeway
}

// JWT-12, SES-02, peers bug 16: who a token names must exist, be enabled, and be the one whose session it is.
func TestTokens_namedParties(t *testing.T) {
	s, key := startWithKey(t)
	ada, alex, wanda := s.user("ada").ID, s.user("alex").ID, s.user("wanda").ID
	f := newForger(t, key, s.token("alex", demoPassword))
	adas := newForger(t, key, s.token("ada", demoPassword))
	for name, claims := range map[string]map[string]any{
		"unknown sub": {"sub": uuid.NewString()}, "another's sub": {"sub": ada}, "a disabled sub": {"sub": s.user("dora").ID},
		"sub is a username": {"sub": "alex"}, "sub is SQL": {"sub": "' OR 1=1 --"},
		"another's session": {"sid": adas.payload["sid"]}, "unknown session": {"sid": uuid.NewString()},
		"another account": {"account_id": "other"}, "no account": {"account_id": ""},
		"an older generation": {"gen": 0}, "a later generation": {"gen": 2},
		"a user as a client": {"client_id": alex}, "a user as a client without a session": {"client_id": alex, "sid": gone{}, "gen": gone{}, "auth_time": gone{}},
		"the app as itself": {"sub": "salesexec-app", "client_id": "salesexec-app", "sid": gone{}, "gen": gone{}, "auth_time": gone{}},
		"an unknown client": {"sub": "x", "client_id": "x", "sid": gone{}, "gen": gone{}, "auth_time": gone{}, "scope": "users:read"},
	} {
		wantInvalid(s, "JWT-12 "+name, f.forge(nil, claims))
	}

	// A role, a scope or an account that only the token claims gives nothing (peers bug 5).
	s.want(s.call(http.MethodGet, "/admin/users", f.forge(nil, map[string]any{"roles": []string{"administrator"}}), nil), http.StatusForbidden, "forbidden")
	scoped := f.forge(nil, map[string]any{"scope": "users:read credentials:reset"})
	s.want(s.call(http.MethodGet, "/admin/users", scoped, nil), http.StatusForbidden, "forbidden")
	lesser := adas.forge(nil, map[string]any{"roles": []string{"agent"}})
	s.want(s.reset(lesser, wanda, nil), http.StatusForbidden, "forbidden")

	db := s.database()
	services := newForger(t, key, serviceToken(s, "users:read"))
	wider := services.forge(nil, map[string]any{"account_id": "*"})
	s.want(s.call(http.MethodGet, "/admin/users/"+s.user("olga").ID, wider, nil), http.StatusNotFound, "not_found")
	everything := services.forge(nil, map[string]any{"scope": "users:read users:delete *"})
	s.want(s.reset(everything, wanda, nil), http.StatusForbidden, "insufficient_scope")
	alterUser(t, db, alex, func(u *user.User) { u.Status = user.Disabled })
	wantInvalid(s, "JWT-12 disabled since", f.forge(nil, nil))
}

// JWT-14: nothing but a compact JWS of a bearable size is looked at.
func TestTokens_form(t *testing.T) {
	s, key := startWithKey(t)
	good := s.token("ada", demoPassword)
	f := newForger(t, key, good)
	parts := strings.Split(good, ".")
	general := `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`
	for name, raw := range map[string]string{
		"general JSON": general, "flattened JSON": `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
		"dots": strings.Repeat(".", 1000), "many dots": strings.Repeat(".", 12<<10), "too long": f.forge(nil, map[string]any{"pad": strings.Repeat("a", 9<<10)}),
		"two parts": parts[0] + "." + parts[1], "four parts": good + ".x", "encrypted": good + ".x.y", "padded": good + "=", "a space in it": parts[0] + " ." + parts[1] + "." + parts[2],
		"standard base64": strings.Join(parts, ".") + "+/", "quoted": `"` + good + `"`, "nothing": "", "twice": good + " " + good, "a list": good + "," + good,
		"another header": parts[0][:len(parts[0])-2] + "." + parts[1] + "." + parts[2], "no signature": parts[0] + "." + parts[1] + ".",
	} {
		a := s.call(http.MethodGet, "/users/me", "", nil, "Authorization", "Bearer "+raw)
		if a.status != http.StatusUnauthorized || a.code() != "unauthorized" {
			t.Errorf("JWT-14 %s: got %d %s", name, a.status, a.raw)
		}
		if strings.Contains(string(a.raw), parts[2]) {
			t.Errorf("JWT-14 %s: the answer repeats the token", name)
		}
	}
	huge := service{t: t, demo: s.demo, http: &http.Client{Transport: &http.Transport{}}} // the server answers before the contract begins
	defer huge.http.CloseIdleConnections()
	a, err := huge.try(http.MethodGet, "/users/me", strings.Repeat(".", 1<<20), nil)
	if err == nil && a.status != http.StatusRequestHeaderFieldsTooLarge { // or the server hung up while it was being sent
		t.Errorf("JWT-14 1 MiB of dots: got %d", a.status)
	}
	wantAlive(s, good)
}

// JWT-16, JWT-17: where and how a token is sent.
func TestTokens_transport(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "LOG_LEVEL=debug")
	good := s.token("alex", demoPassword)
	for name, a := range map[string]answer{
		"query":            s.call(http.MethodGet, "/users/me?access_token="+good, "", nil),
		"query, on PATCH":  s.call(http.MethodPatch, "/users/me/credentials?access_token="+good, "", map[string]string{"username": "a1"}),
		"body":             s.change("", map[string]string{"username": "a1", "access_token": good}),
		"form":             s.change("", "access_token="+good, "Content-Type", "application/x-www-form-urlencoded"),
		"cookie":           s.call(http.MethodGet, "/users/me", "", nil, "Cookie", "access_token="+good+"; Authorization=Bearer "+good),
		"X-Access-Token":   s.call(http.MethodGet, "/users/me", "", nil, "X-Access-Token", good),
		"Basic":            s.call(http.MethodGet, "/users/me", "", nil, "Authorization", "Basic "+good),
		"DPoP":             s.call(http.MethodGet, "/users/me", "", nil, "Authorization", "DPoP "+good),
		"no scheme":        s.call(http.MethodGet, "/users/me", "", nil, "Authorization", good),
		"a proxy's header": s.call(http.MethodGet, "/users/me", "", nil, "Proxy-Authorization", "Bearer "+good),
	} {
		s.want(a, http.StatusUnauthorized, "unauthorized")
		if challenge := a.header.Get("WWW-Authenticate"); challenge != `Bearer realm="salesexec"` { // no token was sent: no error code
			t.Errorf("JWT-16 %s: the challenge is %q", name, challenge)
		}
	}
	for _, scheme := range []string{"bearer ", "BEARER ", "Bearer  "} { // RFC 9110 section 11.1
		s.want(s.call(http.MethodGet, "/users/me", "", nil, "Authorization", scheme+good), http.StatusOK, "")
	}
	for _, second := range []string{"Bearer " + good, "Basic x", ""} {
		if a := sendTwoTokens(s, "Bearer "+good, second); a != http.StatusUnauthorized && a != http.StatusBadRequest {
			t.Errorf("JWT-17 two headers: got %d", a)
		}
	}
	if log := s.log.String(); strings.Contains(log, good) || strings.Contains(log, strings.Split(good, ".")[2]) || strings.Contains(log, "access_token") {
		t.Error("JWT-16: the token is in the log")
	}
}

func sendTwoTokens(s *service, first, second string) int {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.demo.URL+"/users/me", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header["Authorization"] = []string{first, second}
	response, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

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
	given, key := startWithKey(t)
	for name, s := range map[string]*service{"own key": own(), "SIGNING_KEY": given} {
		t.Run(name, func(t *testing.T) {
			keys := publishedKeys(t, s.demo.URL)
			if _, there := keys[key.ID]; there != (s == given) || len(keys) != 1 {
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
