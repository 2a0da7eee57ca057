package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

const acme = "https://login.acme.example"

// outsider is a running service that trusts one issuer, whose keys are published by a server of the test's own.
type outsider struct {
	*service
	server *keyServer
	keys   pair
}

func startOutsider(t *testing.T, database string, settings map[string]any) outsider {
	t.Helper()
	o := outsider{server: newKeyServer(t), keys: newPair(t, "ES256")}
	o.server.publish(o.keys.jwk("key-1"))
	issuer := map[string]any{"issuer": acme, "jwks_url": o.server.URL, "algorithms": []string{"ES256"}}
	maps.Copy(issuer, settings)
	o.service = start(t, databaseURL(t, database), trust(t, issuer))
	return o
}

// as returns a token of the issuer for a demo user, issued now, with changes.
func (o outsider) as(name string, claims map[string]any) string {
	return o.forger(name).forge(nil, claims)
}

func (o outsider) forger(name string) forger {
	return forger{t: o.t, keys: o.keys, header: outsideHeader(o.keys), payload: outsideClaims(o.service, acme, o.user(name))}
}

// keysAtHand reads the metric that says with how many keys the issuer's tokens can be verified.
func (o outsider) keysAtHand() string {
	o.t.Helper()
	found := regexp.MustCompile(`credentials_outside_issuer_keys\{issuer="` + acme + `"\} (\d+)`).FindStringSubmatch(scrape(o.t, o.service))
	if found == nil {
		o.t.Fatal("the metric is missing")
	}
	return found[1]
}

// JWT-09, JWT-10: keys rotate without a restart; a key is good until it is withdrawn; an unknown one makes the service ask
// once a minute, whatever comes; and while nobody answers, or answers nonsense, the keys at hand go on being used.
func TestOutside_keys(t *testing.T) {
	o := startOutsider(t, "sqlite", nil)
	s, next := o.service, newPair(t, "ES256")
	signedBy := func(keys pair, id string) string {
		f := o.forger("ada")
		f.keys = keys
		return f.forge(map[string]any{"kid": id}, nil)
	}
	if o.server.fetches() != 0 {
		t.Error("keys are fetched when a token asks for them")
	}
	for range 3 {
		wantAlive(s, o.as("ada", nil))
	}
	if n := o.server.fetches(); n != 1 {
		t.Fatalf("%d fetches", n)
	}
	flood := func() {
		for n := range 1000 {
			s.want(s.call(http.MethodGet, "/users/me", signedBy(next, fmt.Sprintf("unknown-%d", n)), nil), http.StatusUnauthorized, "unauthorized")
		}
	}
	flood()
	if n := o.server.fetches(); n != 1 {
		t.Fatalf("JWT-09: %d fetches within a minute of the first", n)
	}
	s.clock.advance(time.Minute)
	flood()
	if n := o.server.fetches(); n != 2 {
		t.Fatalf("JWT-09: %d fetches, one more was due", n)
	}

	o.server.publish(o.keys.jwk("key-1"), next.jwk("key-2"))
	s.want(s.call(http.MethodGet, "/users/me", signedBy(next, "key-2"), nil), http.StatusUnauthorized, "unauthorized") // asked a moment ago
	s.clock.advance(time.Minute)
	wantAlive(s, signedBy(next, "key-2"))
	wantAlive(s, o.as("ada", nil))

	for name, answer := range map[string]http.HandlerFunc{
		"an error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"a page":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<p>down for maintenance")) },
		"no keys":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"no end": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[`))
			for range 1 << 10 {
				_, _ = w.Write([]byte(strings.Repeat(" ", 1<<10)))
			}
		},
		"half an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"keys":[`))
		},
	} {
		t.Run("JWT-10 "+name, func(t *testing.T) {
			o.server.answers(answer)
			s.clock.advance(time.Minute)
			before := o.server.fetches()
			s.want(s.call(http.MethodGet, "/users/me", signedBy(next, "key-3"), nil), http.StatusUnauthorized, "unauthorized")
			if o.server.fetches() != before+1 {
				t.Fatal("nobody was asked: nothing is proven")
			}
			wantAlive(s, o.as("ada", nil))
			wantAlive(s, signedBy(next, "key-2"))
		})
	}
	if !strings.Contains(s.log.String(), "the keys of an outside issuer could not be fetched") {
		t.Error("an outage must be in the log")
	}

	o.server.publish(next.jwk("key-2"))
	s.clock.advance(time.Minute)
	s.want(s.call(http.MethodGet, "/users/me", signedBy(next, "key-4"), nil), http.StatusUnauthorized, "unauthorized")
	wantAlive(s, signedBy(next, "key-2"))
	wantInvalid(s, "JWT-10 a withdrawn key", o.as("ada", nil))
	s.wantProbe("/readyz", http.StatusOK)
}

// JWT-10: a service that starts while the issuer is away is ready for everybody else, and takes its tokens once it is back.
func TestOutside_startsWithoutKeys(t *testing.T) {
	o := startOutsider(t, "sqlite", nil)
	good := o.server.answer
	o.server.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	wantInvalid(o.service, "no keys yet", o.as("ada", nil))
	o.wantProbe("/readyz", http.StatusOK)
	wantAlive(o.service, o.token("ada", demoPassword))
	if n := o.keysAtHand(); n != "0" {
		t.Errorf("%s keys at hand", n)
	}
	o.server.answers(good)
	o.clock.advance(time.Minute)
	wantAlive(o.service, o.as("ada", nil))
	if n := o.keysAtHand(); n != "1" {
		t.Errorf("%s keys at hand", n)
	}
}

// JWT-11, JWT-01: of a published set the keys are used that verify signatures and are strong enough; the others do not spoil it.
func TestOutside_publishedKeys(t *testing.T) {
	o := startOutsider(t, "sqlite", map[string]any{"algorithms": []string{"ES256", "RS256", "EdDSA"}})
	with := func(members, changes map[string]any) map[string]any { return altered(members, changes) }
	weak := map[string]any{"kty": "RSA", "kid": "weak", "alg": "RS256", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(weakRSA(t).N.Bytes())}
	spare := newPair(t, "RS256")
	o.server.publish(
		weak, with(spare.jwk("e is one"), map[string]any{"e": "AQ"}),
		map[string]any{"kty": "oct", "kid": "symmetric", "alg": "HS256", "k": "AAAA"}, map[string]any{"kty": "new", "kid": "unknown kind"}, map[string]any{},
		with(newPair(t, "ES256").jwk("encrypts"), map[string]any{"use": "enc"}), with(newPair(t, "ES256").jwk("signs"), map[string]any{"key_ops": []string{"sign"}}),
		with(newPair(t, "ES256").jwk("off the curve"), map[string]any{"x": "AAAA"}), with(newPair(t, "ES256").jwk("x"), map[string]any{"kid": gone{}}),
		with(newPair(t, "EdDSA").jwk("other alg"), map[string]any{"alg": "ES256"}), with(spare.jwk("not accepted"), map[string]any{"alg": "PS256"}),
		with(newPair(t, "ES256").jwk("certificate elsewhere"), map[string]any{"x5u": o.server.URL + "/x5u"}),
		with(o.keys.jwk("key-1"), map[string]any{"alg": gone{}, "use": gone{}}), // bound to the first accepted that fits
	)
	wantAlive(o.service, o.as("ada", nil))
	if n := o.keysAtHand(); n != "2" { // key-1 and the one with a certificate, which is not looked at
		t.Errorf("%s keys at hand", n)
	}
	if n := o.server.fetches(); n != 1 {
		t.Errorf("JWT-08: %d requests, a certificate was fetched", n)
	}
}

// weakRSA returns an RSA key of 1024 bits, which Go itself does not make any more.
func weakRSA(t *testing.T) *rsa.PublicKey {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 1023))
	if err != nil {
		t.Fatal(err)
	}
	return &rsa.PublicKey{N: n.SetBit(n, 1023, 1).SetBit(n, 0, 1), E: 65537}
}

// JWT-03, JWT-11, CFG-01: the service does not start with an issuer that could let tokens of others in.
func TestOutside_refusedAtStart(t *testing.T) {
	folder := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKIXPublicKey(weakRSA(t))
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...map[string]any) []byte {
		encoded, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	rs256, es256 := newPair(t, "RS256"), newPair(t, "ES256")
	good := map[string]any{"issuer": acme, "audience": "salesexec", "key_file": file("good", rs256.pem()), "algorithms": []string{"RS256"}, "accounts": []string{"demo"}}
	url := databaseURL(t, "sqlite")
	if err := migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	refused := func(t *testing.T, value, says string) {
		t.Helper()
		variables := serving(url)
		variables["TRUSTED_ISSUERS"] = value
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		said := &output{}
		code := run(ctx, []string{"serve"}, process{getenv: func(name string) string { return variables[name] }, stdout: said, stderr: said, now: time.Now})
		if code != 1 || !strings.Contains(said.String(), "TRUSTED_ISSUERS") || !strings.Contains(said.String(), says) || ctx.Err() != nil {
			t.Errorf("exit code %d, want %q:\n%s", code, says, said)
		}
	}
	for name, bad := range map[string]struct {
		changes map[string]any
		says    string
	}{
		"no issuer":                {map[string]any{"issuer": ""}, "issuer and audience must be given"},
		"no audience":              {map[string]any{"audience": gone{}}, "issuer and audience must be given"},
		"no algorithm":             {map[string]any{"algorithms": []string{}}, "algorithms must name"},
		"none":                     {map[string]any{"algorithms": []string{"RS256", "none"}}, `the algorithm "none"`},
		"HS256":                    {map[string]any{"algorithms": []string{"HS256"}}, `the algorithm "HS256"`},
		"no keys":                  {map[string]any{"key_file": gone{}}, "exactly one of jwks_url and key_file"},
		"two sorts of keys":        {map[string]any{"jwks_url": "https://x.example"}, "exactly one of jwks_url and key_file"},
		"keys over http":           {map[string]any{"key_file": gone{}, "jwks_url": "http://login.acme.example/keys"}, "jwks_url must be https"},
		"keys of a file URL":       {map[string]any{"key_file": gone{}, "jwks_url": "file:///etc/keys"}, "jwks_url must be"},
		"no file":                  {map[string]any{"key_file": filepath.Join(folder, "nowhere")}, "key_file cannot be read"},
		"a weak key":               {map[string]any{"key_file": file("weak", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, "is weak"},
		"a key of another kind":    {map[string]any{"key_file": file("ec", es256.pem())}, "does not fit"},
		"a private key":            {map[string]any{"key_file": file("private", []byte(newPair(t, "EdDSA").signingKey())), "algorithms": []string{"EdDSA"}}, "must be one PUBLIC KEY"},
		"two keys in PEM":          {map[string]any{"key_file": file("two", append(rs256.pem(), rs256.pem()...))}, "must be one PUBLIC KEY"},
		"a set without ids":        {map[string]any{"key_file": file("set", set(altered(rs256.jwk(""), map[string]any{"kid": gone{}})))}, "no key in the set"},
		"a set of weak keys":       {map[string]any{"key_file": file("oct", set(map[string]any{"kty": "oct", "kid": "a", "k": "AAAA"}))}, "no key in the set"},
		"a phrase":                 {map[string]any{"key_file": file("phrase", []byte("correct horse battery staple"))}, "not a JWK set"},
		"no account":               {map[string]any{"accounts": []string{}}, "accounts must name"},
		"an account that is none":  {map[string]any{"accounts": []string{"demo", "*"}}, "accounts must name"},
		"a life of two days":       {map[string]any{"max_token_life": "48h"}, "max_token_life must be"},
		"a life of nothing":        {map[string]any{"max_token_life": "0s"}, "max_token_life must be"},
		"this service itself":      {map[string]any{"issuer": "https://credentials.example.com"}, "is this service itself"},
		"a member nobody knows":    {map[string]any{"allow_none": true}, "not known"},
		"a switch that is no bool": {map[string]any{"allow_missing_typ": "yes"}, "allow_missing_typ"},
	} {
		t.Run(name, func(t *testing.T) {
			encoded, err := json.Marshal([]map[string]any{altered(good, bad.changes)})
			if err != nil {
				t.Fatal(err)
			}
			refused(t, string(encoded), bad.says)
		})
	}
	encoded, err := json.Marshal([]map[string]any{good, good})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, string(encoded), "is there already")
	refused(t, `{"issuer":"x"}`, "must be a JSON array")
	refused(t, `[1]`, "Give one JSON object")
}

// JWT-05, JWT-06, the documented switch for issuers that cannot set typ: no typ, and that of any JWT, but never the typ or
// the marks of something else.
func TestOutside_allowMissingTyp(t *testing.T) {
	o := startOutsider(t, "sqlite", map[string]any{"allow_missing_typ": true})
	f := o.forger("ada")
	for _, kind := range []any{gone{}, "JWT", "jwt", "at+jwt"} {
		wantAlive(o.service, f.forge(map[string]any{"typ": kind}, nil))
	}
	for _, kind := range []any{"secevent+jwt", "logout+jwt", "dpop+jwt", "", nil, 1, []string{"JWT"}} {
		wantInvalid(o.service, fmt.Sprintf("JWT-06 typ %v", kind), f.forge(map[string]any{"typ": kind}, nil))
	}
	for name, claims := range map[string]map[string]any{
		"JWT-06 an ID token": {"nonce": "n"}, "JWT-06 a security event": {"events": map[string]any{"urn:x": map[string]any{}}}, "JWT-06 another audience": {"aud": "acme-portal"},
	} {
		wantInvalid(o.service, name, f.forge(map[string]any{"typ": "JWT"}, claims))
	}
}

// Issue "claim mapping for account and role": which claims tell them, and what they mean, is the operator's to say.
func TestOutside_claimMapping(t *testing.T) {
	t.Run("names of the issuer's own", func(t *testing.T) {
		o := startOutsider(t, "sqlite", map[string]any{
			"accounts": []string{"*"}, "account_claim": "https://acme.example/tenant", "role_claim": "groups", "administrator_roles": []string{"sales-admins", "it"},
		})
		named := func(name, account string, groups any) string {
			return o.as(name, map[string]any{"https://acme.example/tenant": account, "groups": groups, "account_id": gone{}, "roles": []string{"administrator"}})
		}
		wantRole(o.service, named("ada", "demo", []string{"staff", "it"}), "administrator")
		wantRole(o.service, named("ada", "demo", "sales-admins"), "administrator")
		wantRole(o.service, named("ada", "demo", []string{"administrator", "staff"}), "agent")
		wantRole(o.service, named("ada", "demo", gone{}), "agent")
		wantRole(o.service, named("oscar", "other", []string{"it"}), "administrator")
		wantInvalid(o.service, "of another account", named("oscar", "demo", nil))
		wantInvalid(o.service, "of no account", o.as("ada", nil))
	})
	t.Run("one account, which the tokens need not name", func(t *testing.T) {
		o := startOutsider(t, "sqlite", map[string]any{"account_claim": gone{}})
		wantRole(o.service, o.as("ada", map[string]any{"account_id": gone{}}), "administrator")
		wantInvalid(o.service, "another account's user", o.as("oscar", map[string]any{"account_id": gone{}}))
	})
}

// JWT-15: with a required scope, a token that the issuer gave for something else reaches nothing, and says what it lacks.
func TestOutside_requiredScope(t *testing.T) {
	o := startOutsider(t, "sqlite", map[string]any{"required_scope": "salesexec:credentials"})
	for _, claims := range []map[string]any{{"scope": "openid salesexec:credentials"}, {"scope": gone{}, "scp": []string{"openid", "salesexec:credentials"}}, {"scope": gone{}, "scp": "salesexec:credentials"}} {
		wantAlive(o.service, o.as("ada", claims))
	}
	for _, claims := range []map[string]any{{"scope": gone{}}, {"scope": "leads:read"}, {"scope": "salesexec:credentials2"}, {"scope": "leads:read", "scp": "salesexec:credentials"}} {
		for _, path := range []string{"/users/me", "/admin/users"} {
			a := o.want(o.call(http.MethodGet, path, o.as("ada", claims), nil), http.StatusForbidden, "insufficient_scope")
			if challenge := a.header.Get("WWW-Authenticate"); !strings.HasSuffix(challenge, `error="insufficient_scope", scope="salesexec:credentials"`) {
				t.Errorf("the challenge is %q", challenge)
			}
		}
	}
}

// SES-02, SES-03, peers bug 9: a token of another issuer dies with the generation it was issued in. One that names none must
// be of a later second than the change; one that names it is judged by that alone.
func TestOutside_generations(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			o := startOutsider(t, database, nil)
			at := func(second int64, claims map[string]any) string {
				return o.as("alex", altered(map[string]any{"iat": second, "exp": second + 600}, claims))
			}
			before := o.as("alex", nil)
			named := o.as("alex", map[string]any{"gen": 1})
			wantAlive(o.service, before)
			wantAlive(o.service, named)

			o.want(o.reset(o.token("ada", demoPassword), o.user("alex").ID, nil), http.StatusOK, "")
			since := o.generationSince("alex")
			wantInvalid(o.service, "SES-02 from before", before)
			wantInvalid(o.service, "SES-02 naming the one before", named)
			wantInvalid(o.service, "SES-03 a second before", at(since-1, nil))
			wantInvalid(o.service, "SES-03 in the same second", at(since, nil))
			wantInvalid(o.service, "SES-03 a fraction of the same second", at(0, map[string]any{"iat": float64(since) + 0.999, "exp": since + 600}))
			wantInvalid(o.service, "naming the one before, younger", at(since+1, map[string]any{"gen": 1}))
			wantAlive(o.service, at(since+1, nil))
			wantAlive(o.service, at(since, map[string]any{"gen": 2}))
			wantAlive(o.service, at(since-1, map[string]any{"gen": 2})) // its issuer was told of it, whatever its clock says
		})
	}
}

// generationSince returns the second in which a demo user's generation began.
func (o outsider) generationSince(name string) int64 {
	o.t.Helper()
	member, err := o.database().Member(o.t.Context(), user.ID(o.user(name).ID))
	if err != nil || member.User.GenerationSince == nil {
		o.t.Fatalf("%+v, %v", member.User, err)
	}
	return member.User.GenerationSince.Unix()
}

// A user whose account has its own identity provider: there is no session here that could be shown, renewed or ended.
func TestOutside_withoutSession(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			o := startOutsider(t, database, nil)
			s := o.service
			alex := o.as("alex", map[string]any{"auth_time": gone{}})
			me := s.want(s.call(http.MethodGet, "/users/me", alex, nil), http.StatusOK, "")
			if me.body["session_id"] != nil || me.body["auth_time"] != nil {
				t.Errorf("%s", me.raw)
			}
			opened := openSession(s, "alex", demoPassword)
			s.want(s.call(http.MethodDelete, "/sessions/current", alex, nil), http.StatusNotFound, "not_found")
			wantAlive(s, opened.access) // signing out of a session that is not there ends none that is

			// SES-06, peers bug 16: a fresh sign-in counts if the issuer says so, and an unknown one does not.
			s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusUnprocessableEntity, "validation_failed")
			s.want(s.change(o.as("alex", nil), map[string]string{"username": "alex.reed"}), http.StatusUnprocessableEntity, "validation_failed")
			fresh := o.as("alex", map[string]any{"auth_time": s.clock.now().Add(-time.Minute).Unix()})
			s.want(s.change(fresh, map[string]string{"username": "alex.reed"}), http.StatusOK, "")

			changed := s.want(s.change(alex, map[string]string{"new_password": otherPassword, "current_password": demoPassword}), http.StatusOK, "")
			if changed.body["access_token"] != nil || changed.body["refresh_token"] != nil {
				t.Errorf("there is no session to go on with: %s", changed.raw)
			}
			wantDead(s, opened)
			wantInvalid(s, "peers bug 9 the token that changed it", alex)
			wantAlive(s, o.as("alex", map[string]any{"iat": o.generationSince("alex") + 1}))
			s.want(s.signIn("alex.reed", otherPassword), http.StatusCreated, "")

			events, err := s.database().AuditEvents(t.Context(), "demo", time.Time{}, 1000)
			if err != nil {
				t.Fatal(err)
			}
			vouched := 0
			for _, e := range events {
				if e.Action == audit.CredentialsChanged && e.Details.Issuer == acme && e.SessionID == "" && e.Actor.ID == s.user("alex").ID {
					vouched++
				}
			}
			if vouched != 2 {
				t.Errorf("%d changes are told with the issuer that vouched for the user", vouched)
			}
		})
	}
}

// THR-04: wrong current passwords of a token without a session are counted by user and issuer: they are delayed, and end
// nobody's session.
func TestOutside_wrongCurrentPasswords(t *testing.T) {
	o := startOutsider(t, "sqlite", nil)
	s := o.service
	opened := openSession(s, "alex", demoPassword)
	wrong := func() answer {
		return s.change(o.as("alex", nil), map[string]string{"new_password": otherPassword, "current_password": "wrong orbit lantern"})
	}
	for range 5 {
		s.want(wrong(), http.StatusForbidden, "wrong_current_password")
	}
	s.want(wrong(), http.StatusTooManyRequests, "throttled")
	for range 7 {
		s.clock.advance(time.Hour)
		s.want(wrong(), http.StatusForbidden, "wrong_current_password")
		s.want(wrong(), http.StatusTooManyRequests, "throttled")
	}
	s.want(sendRefresh(s, opened.refresh), http.StatusOK, "")
}
