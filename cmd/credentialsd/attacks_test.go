package main

import (
	"crypto/ed25519"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/user"
)

// JWT-01, JWT-05, JWT-06, JWT-08, JWT-09, JWT-11: forged headers, algorithms and keys.
func TestAttacks_headers(t *testing.T) {
	oneByOne(t)
	onEachIssuer(t, func(t *testing.T, i issuing) {
		s, f := i.service, i.forger("ada")
		wantRole(s, f.forge(nil, nil), "administrator") // what the forgeries start from is good
		spki, raw := i.keys.pem(), i.keys.pem()
		if public, ok := i.keys.private.Public().(ed25519.PublicKey); ok {
			raw = public
		}
		for _, alg := range []string{"none", "None", "noNE"} {
			wantInvalid(s, "JWT-01 alg "+alg, f.signed(altered(f.header, map[string]any{"alg": alg}), f.payload, noSignature))
			wantInvalid(s, "JWT-01 signed, alg "+alg, f.signed(altered(f.header, map[string]any{"alg": alg}), f.payload, f.keys.sign))
		}
		for _, alg := range []string{"HS256", "HS512", f.keys.algorithm} {
			for _, secret := range [][]byte{spki, raw, {}} {
				wantInvalid(s, "JWT-01 HMAC with the public key under "+alg, f.signed(altered(f.header, map[string]any{"alg": alg}), f.payload, hmacWith(secret)))
			}
		}
		for _, alg := range []string{"EdDSA", "ES256", "ES384", "RS256", "RS384", "PS256", strings.ToLower(f.keys.algorithm), f.keys.algorithm + " ", ""} {
			if alg != f.keys.algorithm {
				wantInvalid(s, "JWT-01 our signature under "+alg, f.signed(altered(f.header, map[string]any{"alg": alg}), f.payload, f.keys.sign))
			}
		}
		for _, algorithm := range []string{"EdDSA", "ES256", "RS256", "PS256"} {
			stranger := newPair(t, algorithm)
			wantInvalid(s, "JWT-11 another key under our kid, "+algorithm, f.signed(altered(f.header, map[string]any{"alg": algorithm}), f.payload, stranger.sign))
		}
		wantInvalid(s, "JWT-01 no alg", f.forge(map[string]any{"alg": gone{}}, nil))

		for _, kind := range []any{"JWT", gone{}, "", "secevent+jwt", "logout+jwt", "dpop+jwt", "at+jwt ", []string{"at+jwt"}, nil} {
			wantInvalid(s, "JWT-05, JWT-06 typ", f.forge(map[string]any{"typ": kind}, nil))
		}
		for _, kind := range []string{"AT+JWT", "application/at+jwt"} {
			wantAlive(s, f.forge(map[string]any{"typ": kind}, nil))
		}
		wantInvalid(s, "JWT-13 crit", f.forge(map[string]any{"crit": []string{"b64"}, "b64": false}, nil))
		attackWithKeys(t, i, f)
	})
}

// attackWithKeys brings keys along, or names some that are not the issuer's.
func attackWithKeys(t *testing.T, i issuing, f forger) {
	var outbound atomic.Int64
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { outbound.Add(1) }))
	defer evil.Close()
	attacker := newPair(t, f.keys.algorithm)
	jwk := attacker.jwk("theirs")
	for name, header := range map[string]map[string]any{
		"our kid": nil, "jwk": {"jwk": jwk}, "jwk and kid": {"jwk": jwk, "kid": "theirs"},
		"jku": {"jku": evil.URL, "kid": "theirs"}, "x5u": {"x5u": evil.URL}, "x5c": {"x5c": []string{"AAAA"}}, "no kid": {"kid": gone{}},
		"kid is a path": {"kid": "../../x"}, "kid is SQL": {"kid": "' OR 1=1"}, "kid is a URL": {"kid": evil.URL}, "kid is a number": {"kid": 1}, "kid is empty": {"kid": ""},
	} {
		wantInvalid(i.service, "JWT-08, JWT-09 "+name, f.signed(altered(f.header, header), f.payload, attacker.sign))
	}
	wantAlive(i.service, f.forge(map[string]any{"jwk": jwk, "jku": evil.URL, "x5u": evil.URL}, nil)) // ignored beside the right key
	if n := outbound.Load(); n != 0 {
		t.Errorf("JWT-08: the service made %d requests to the attacker", n)
	}
}

// JWT-02, JWT-03, JWT-04, JWT-06, JWT-07, JWT-13, JWT-18, JWT-19: claims that are wrong, under a signature that is right.
func TestAttacks_claims(t *testing.T) {
	oneByOne(t)
	onEachIssuer(t, func(t *testing.T, i issuing) {
		s, f := i.service, i.forger("ada")
		at := func(d time.Duration) int64 { return s.clock.now().Add(d).Unix() }
		attacks := map[string]map[string]any{
			"JWT-02 no exp": {"exp": gone{}}, "JWT-02 null exp": {"exp": nil}, "JWT-02 expired": {"iat": at(-time.Hour), "exp": at(-45 * time.Minute)},
			"JWT-02 far-future exp": {"exp": at(365 * 24 * time.Hour)}, "JWT-18 too long": {"exp": at(17 * time.Minute)}, "JWT-02 exp beyond every date": {"exp": 1e300},
			"JWT-03 no iss": {"iss": gone{}}, "JWT-03 wrong iss": {"iss": "https://evil.example"}, "JWT-03 almost": {"iss": i.name + "/"},
			"JWT-03 empty iss": {"iss": ""}, "JWT-03 list iss": {"iss": []string{i.name}}, "JWT-04 no aud": {"aud": gone{}}, "JWT-04 other aud": {"aud": "crm"},
			"JWT-04 no aud in the list": {"aud": []string{}}, "JWT-04 empty aud": {"aud": ""}, "JWT-06 an ID token": {"aud": "salesexec-app", "nonce": "n"},
			"JWT-07 nbf": {"nbf": at(2 * time.Minute)}, "JWT-07 iat": {"iat": at(2 * time.Minute), "exp": at(3 * time.Minute)}, "JWT-13 no iat": {"iat": gone{}},
			"JWT-13 array sub": {"sub": []string{s.user("ada").ID}}, "JWT-13 string exp": {"exp": "9999999999"}, "JWT-13 object aud": {"aud": map[string]any{"a": "salesexec"}},
			"JWT-12 no sub": {"sub": gone{}}, "JWT-12 empty sub": {"sub": ""}, "JWT-13 string iat": {"iat": "1"}, "JWT-13 string nbf": {"nbf": "1"},
			"JWT-13 string gen": {"gen": "1"}, "JWT-13 fraction as gen": {"gen": 1.5}, "JWT-13 number in aud": {"aud": []any{"salesexec", 1}}, "JWT-13 number as sub": {"sub": 1},
			"JWT-13 object roles": {"roles": map[string]any{"administrator": true}}, "JWT-13 list account": {"account_id": []string{"demo"}},
			"JWT-19 bound to a key": {"cnf": map[string]any{"jkt": "AAAA"}}, "JWT-19 bound to a certificate": {"cnf": map[string]any{"x5t#S256": "AAAA"}},
		}
		if i.own {
			maps.Copy(attacks, map[string]map[string]any{
				"JWT-13 no client_id": {"client_id": gone{}}, "JWT-13 no jti": {"jti": gone{}}, "JWT-13 string roles": {"roles": "administrator"},
				"JWT-13 no gen": {"gen": gone{}}, "JWT-13 no sid": {"sid": gone{}},
			})
		} else {
			maps.Copy(attacks, map[string]map[string]any{
				"JWT-06 an ID token for us": {"nonce": "n"}, "JWT-06 an ID token with a hash": {"at_hash": "AAAA"}, "JWT-06 a security event": {"events": map[string]any{}},
				"JWT-06 an ID token of another sort": {"token_use": "id"}, "peers bug 16 signed in tomorrow": {"auth_time": at(24 * time.Hour)},
				"JWT-13 string auth_time": {"auth_time": "1"}, "JWT-13 number in roles": {"roles": []any{"administrator", 1}}, "JWT-13 null in roles": {"roles": []any{nil}},
			})
		}
		for name, claims := range attacks {
			wantInvalid(s, name, f.forge(nil, claims))
		}
		wantInvalid(s, "JWT-13 claims are null", f.signed(f.header, nil, f.keys.sign))
		wantInvalid(s, "JWT-13 claims are a list", f.signed(f.header, []any{f.payload}, f.keys.sign))
		wantAlive(s, f.forge(nil, map[string]any{"aud": []string{"crm", "salesexec"}})) // JWT-04
		wantAlive(s, f.forge(nil, map[string]any{"iat": at(10 * time.Second)}))         // within the leeway
		wantAlive(s, f.forge(nil, map[string]any{"Sub": "another", "ISS": "another"}))  // other names
	})
}

// JWT-12, SES-02, SES-04, peers bugs 5 and 16: who a token names must exist, be enabled, and be the one it was issued to.
func TestAttacks_parties(t *testing.T) {
	oneByOne(t)
	onEachIssuer(t, func(t *testing.T, i issuing) {
		s, f, adas := i.service, i.forger("alex"), i.forger("ada")
		alex, wanda := s.user("alex").ID, s.user("wanda").ID
		parties := map[string]map[string]any{
			"unknown sub": {"sub": uuid.NewString()}, "a disabled sub": {"sub": s.user("dora").ID}, "sub is a username": {"sub": "alex"},
			"sub is SQL": {"sub": "' OR 1=1 --"}, "sub is NUL": {"sub": "\x00"}, "sub is long": {"sub": strings.Repeat("a", 65)},
			"another account": {"account_id": "other"}, "another account's user": {"sub": s.user("oscar").ID},
			"another account's user and account": {"sub": s.user("oscar").ID, "account_id": "other"},
			"no account":                         {"account_id": gone{}}, "an empty account": {"account_id": ""}, "all accounts": {"account_id": "*"},
			"a later generation": {"gen": 2}, "no generation that there is": {"gen": 0}, "a user as a client": {"client_id": alex},
			"a client": {"sub": "demo-service", "client_id": "demo-service"},
		}
		if i.own {
			maps.Copy(parties, map[string]map[string]any{
				"another's sub": {"sub": s.user("ada").ID}, "another's session": {"sid": adas.payload["sid"]}, "unknown session": {"sid": uuid.NewString()},
				"a user as a client without a session": {"client_id": alex, "sid": gone{}, "gen": gone{}, "auth_time": gone{}},
				"the app as itself":                    {"sub": "salesexec-app", "client_id": "salesexec-app", "sid": gone{}, "gen": gone{}, "auth_time": gone{}},
				"an unknown client":                    {"sub": "x", "client_id": "x", "sid": gone{}, "gen": gone{}, "auth_time": gone{}, "scope": "users:read"},
			})
		} else {
			maps.Copy(parties, map[string]map[string]any{
				"a user as azp": {"azp": alex}, "a user as cid": {"cid": alex}, "a user as appid": {"appid": alex}, "a list as azp": {"azp": []string{alex}},
				"a registered client": {"sub": "demo-service", "client_id": "portal", "scope": "users:read"},
			})
		}
		for name, claims := range parties {
			wantInvalid(s, "JWT-12 "+name, f.forge(nil, claims))
		}

		// SES-07, peers bug 5: the role that counts is the lesser of the token's and the database's, and the scopes of services
		// are nothing to a user.
		for name, claims := range map[string]map[string]any{
			"an agent that calls itself administrator": {"roles": []string{"administrator"}}, "an agent with scopes": {"scope": "credentials users:read credentials:reset"},
		} {
			raw := f.forge(nil, claims)
			wantRole(s, raw, "agent")
			if a := s.call(http.MethodGet, "/admin/users", raw, nil); a.status != http.StatusForbidden || a.code() != "forbidden" {
				t.Errorf("%s: got %d %s", name, a.status, a.raw)
			}
		}
		lesser := adas.forge(nil, map[string]any{"roles": []string{"agent"}})
		wantRole(s, lesser, "agent")
		s.want(s.reset(lesser, wanda, nil), http.StatusForbidden, "forbidden")

		alterUser(t, s.database(), alex, func(u *user.User) { u.Status = user.Disabled })
		wantInvalid(s, "JWT-12, SES-04 disabled since", f.forge(nil, nil))
	})
}

// AZ-20, JWT-15, peers bug 5: what a service's token says beyond its registration gives nothing.
func TestAttacks_services(t *testing.T) {
	s, keys := startWithKey(t)
	services := newForger(t, keys, serviceToken(s, "users:read"))
	wider := services.forge(nil, map[string]any{"account_id": "*"})
	s.want(s.call(http.MethodGet, "/admin/users/"+s.user("olga").ID, wider, nil), http.StatusNotFound, "not_found")
	everything := services.forge(nil, map[string]any{"scope": "users:read users:delete *"})
	s.want(s.reset(everything, s.user("wanda").ID, nil), http.StatusForbidden, "insufficient_scope")
	for name, claims := range map[string]map[string]any{"a session": {"sid": "s"}, "a sign-in": {"auth_time": 1}, "a generation": {"gen": 1}, "an unknown one": {"sub": "x", "client_id": "x"}} {
		wantInvalid(s, "JWT-12 a client with "+name, services.forge(nil, claims))
	}
}

// JWT-14: nothing but a compact JWS of a bearable size is looked at.
func TestAttacks_form(t *testing.T) {
	oneByOne(t)
	onEachIssuer(t, func(t *testing.T, i issuing) {
		s, f := i.service, i.forger("ada")
		good := f.forge(nil, nil)
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
	})
}

// JWT-16, JWT-17, peers bug 17: where and how a token is sent. What a browser sends by itself proves nothing.
func TestAttacks_transport(t *testing.T) {
	oneByOne(t)
	onEachIssuer(t, func(t *testing.T, i issuing) {
		s := i.service
		good := i.forger("alex").forge(nil, nil)
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
		for path, body := range map[string]any{ // nor does it get a token, of a session that somebody else chose
			"/sessions": map[string]string{"username": "alex", "password": demoPassword}, "/sessions/refresh": map[string]string{"refresh_token": "x"},
		} {
			for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
				s.want(s.call(http.MethodPost, path, "", body, "Content-Type", media), http.StatusUnsupportedMediaType, "unsupported_media_type")
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
	}, "LOG_LEVEL=debug")
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
