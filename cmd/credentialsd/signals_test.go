package main

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// listener is a service that hears of the demo account by polling.
type listener struct {
	*service
	id    string // of its stream
	token string
	keys  map[string]*rsa.PublicKey
}

// set is a Security Event Token that a listener got.
type set struct {
	raw            string
	header, claims map[string]any
}

// listen creates a stream of the demo service; wanted is the body of the request.
func (s *service) listen(wanted any) *listener {
	s.t.Helper()
	l := &listener{service: s, token: s.serviceToken("ssf.manage")}
	l.id = s.want(s.call(http.MethodPost, "/ssf/streams", l.token, wanted), http.StatusCreated, "").text("stream_id")
	return l
}

// everything is the body of a stream that is polled for all events.
func everything() map[string]any { return map[string]any{} }

// eventKeys returns the RSA keys that the service publishes.
func (s *service) eventKeys() map[string]*rsa.PublicKey {
	s.t.Helper()
	var published struct {
		Keys []struct{ Kty, Kid, Use, Alg, N, E string }
	}
	a := s.want(s.call(http.MethodGet, "/.well-known/jwks.json", "", nil), http.StatusOK, "")
	if err := json.Unmarshal(a.raw, &published); err != nil {
		s.t.Fatal(err)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range published.Keys {
		if k.Kty != "RSA" {
			continue
		}
		n, err := base64.RawURLEncoding.DecodeString(k.N)
		if err != nil || k.Use != "sig" || k.Alg != "RS256" || k.E != "AQAB" {
			s.t.Fatalf("%+v, %v", k, err)
		}
		keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
	}
	return keys
}

// read verifies a SET through the published keys.
func (l *listener) read(raw string) set {
	l.t.Helper()
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	parsed, err := parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		if l.keys[kid] == nil {
			l.keys = l.eventKeys()
		}
		if l.keys[kid] == nil {
			return nil, fmt.Errorf("no key %q is published", kid)
		}
		return l.keys[kid], nil
	})
	if err != nil {
		l.t.Fatalf("a SET cannot be verified: %v", err)
	}
	return set{raw: raw, header: parsed.Header, claims: claims}
}

// event returns the type and the claims of a SET's one event.
func (s set) event() (string, map[string]any) {
	events, _ := s.claims["events"].(map[string]any)
	for kind, claims := range events {
		fields, _ := claims.(map[string]any)
		return kind, fields
	}
	return "", nil
}

func (s set) jti() string { return s.claims["jti"].(string) }

// kind is the last part of the event's type, after the program that defines it.
func (s set) kind() string {
	kind, _ := s.event()
	return kind[strings.LastIndexAny(kind, "/:")+1:]
}

// user is whom the SET is about.
func (s set) user() string {
	subject := s.claims["sub_id"].(map[string]any)
	if inner, ok := subject["user"].(map[string]any); ok {
		subject = inner
	}
	sub, _ := subject["sub"].(string)
	return sub
}

func (l *listener) pollRaw(body any) answer {
	l.t.Helper()
	return l.call(http.MethodPost, "/ssf/streams/"+l.id+"/poll", l.token, body)
}

// poll returns what one poll answers, in the order of the jtis, which is that of the changes of one process.
func (l *listener) poll(body any) []set {
	l.t.Helper()
	a := l.want(l.pollRaw(body), http.StatusOK, "")
	sets, ok := a.body["sets"].(map[string]any)
	if !ok {
		l.t.Fatalf("no sets in %s", a.raw)
	}
	var all []set
	for _, jti := range slices.Sorted(maps.Keys(sets)) {
		read := l.read(sets[jti].(string))
		if read.jti() != jti {
			l.t.Errorf("%s is under the name %s", read.jti(), jti)
		}
		all = append(all, read)
	}
	return all
}

// drain acknowledges and returns everything that waits.
func (l *listener) drain() []set {
	l.t.Helper()
	var all []set
	for ack := []string{}; ; {
		got := l.poll(map[string]any{"returnImmediately": true, "ack": ack})
		if len(got) == 0 {
			return all
		}
		ack = ack[:0]
		for _, one := range got {
			all, ack = append(all, one), append(ack, one.jti())
		}
	}
}

// told describes what a SET says, in one line: what happened to whom, by whom, and what is special about it.
func (l *listener) told(s set) string {
	_, claims := s.event()
	text := s.kind() + " " + l.nameOf(s.user())
	for _, member := range []string{"change_type", "reason", "old_username", "new_username", "generation", "initiating_entity"} {
		if value, there := claims[member]; there {
			text += fmt.Sprintf(" %v", value)
		}
	}
	if subject := s.claims["sub_id"].(map[string]any); subject["session"] != nil {
		text += " in one session"
	}
	return text
}

func (l *listener) nameOf(id string) string {
	for _, u := range l.demo.Users {
		if u.ID == id {
			name, _, _ := strings.Cut(u.Email, "@")
			return name
		}
	}
	return id
}

// wantTold fails the test unless exactly these events wait, and returns them.
func (l *listener) wantTold(what string, want ...string) []set {
	l.t.Helper()
	sets := l.drain()
	got := make([]string, len(sets))
	for i, s := range sets {
		got[i] = l.told(s)
	}
	if diff := cmp.Diff(want, got); diff != "" && (len(want) > 0 || len(got) > 0) {
		l.t.Errorf("%s: wanted (-) and got (+)\n%s", what, diff)
	}
	txns := map[any]bool{}
	for _, s := range sets {
		txns[s.claims["txn"]] = true
	}
	if len(txns) > 1 {
		l.t.Errorf("%s: %d transactions", what, len(txns))
	}
	return sets
}

// EVT-01: each operation tells exactly what the table of the standard says, in its order; whatever changes nothing, and whatever
// is refused, tells nothing. SET-05: what one change tells has one txn. Peers bug 9: also a session that its own user ended is told of.
func TestSignals_ofEachOperation(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(everything())
		alex, ada, bo := s.token("alex", demoPassword), s.token("ada", demoPassword), s.user("bo").ID
		l.wantTold("a sign-in")

		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		l.wantTold("an own rename", "username-changed alex alex alex.reed user")
		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		l.wantTold("a rename to the same name")
		changed := s.want(s.change(alex, map[string]string{"username": "Alex", "new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "")
		l.wantTold("an own change of both", "credential-change alex update user", "username-changed alex alex.reed Alex user", "session-revoked alex 2 user")
		alex = changed.text("access_token")

		pending := s.askEmailWith(alex, "alex@new.example", "maple orbit lantern quiet")
		l.wantTold("an address that is not confirmed")
		s.want(s.confirm(pending), http.StatusOK, "")
		l.wantTold("a confirmed address", "recovery-information-changed alex")

		s.refusals(l, alex, ada)
		s.endings(l)

		s.want(s.call(http.MethodPatch, "/admin/users/"+bo+"/credentials", ada, map[string]string{"username": "bo.lind", "email": "bo@new.example"}), http.StatusOK, "")
		l.wantTold("an administrator's change", "username-changed bo bo bo.lind admin", "recovery-information-changed bo")
		s.want(s.reset(ada, bo, map[string]string{"reason": "forgot it"}), http.StatusOK, "")
		l.wantTold("a reset", "credential-change bo update admin", "session-revoked bo 2 admin", "account-credential-change-required bo")
		s.want(s.reset(s.serviceToken("credentials:reset"), bo, map[string]string{"method": "set", "new_password": "nine amber lanterns at noon"}), http.StatusOK, "")
		l.wantTold("a service's reset", "credential-change bo update system", "session-revoked bo 3 system", "account-credential-change-required bo")
		limited := s.token("bo.lind", "nine amber lanterns at noon")
		s.want(s.change(limited, map[string]string{"new_password": "tall copper ships in fog", "current_password": "nine amber lanterns at noon"}), http.StatusOK, "")
		l.wantTold("the change that a reset asks for", "credential-change bo update user", "session-revoked bo 4 user")

		s.locks(l, ada)
	})
}

// askEmailWith asks for another address and returns the token of the mail to it.
func (s *service) askEmailWith(token, address, current string) string {
	s.t.Helper()
	s.want(s.change(token, map[string]string{"email": address, "current_password": current}), http.StatusOK, "")
	return s.newest(address, "confirm-email").token(s.t, "confirm-email")
}

// refusals tells nobody anything.
func (s *service) refusals(l *listener, alex, ada string) {
	s.t.Helper()
	s.want(s.change(alex, map[string]string{"username": "bo"}), http.StatusConflict, "identifier_taken")
	s.want(s.change(alex, map[string]string{"new_password": "short", "current_password": "maple orbit lantern quiet"}), http.StatusUnprocessableEntity, "policy_violation")
	s.want(s.change(alex, map[string]string{"new_password": "nine amber lanterns at noon", "current_password": "wrong wrong wrong"}), http.StatusForbidden, "wrong_current_password")
	s.want(s.change(alex, map[string]string{"username": "alexandra"}, "If-Match", `"1"`), http.StatusPreconditionFailed, "")
	s.want(s.reset(ada, s.user("olga").ID, nil), http.StatusNotFound, "not_found")
	s.want(s.reset(alex, s.user("bo").ID, nil), http.StatusForbidden, "forbidden")
	s.want(s.signIn("alex", "wrong wrong wrong"), http.StatusUnauthorized, "")
	s.want(s.redeem("nobody-has-it", "nine amber lanterns at noon"), http.StatusUnprocessableEntity, "link_invalid")
	l.wantTold("refused changes")
}

// endings are ends of sessions, each told of by itself: no token of another session has died.
func (s *service) endings(l *listener) {
	s.t.Helper()
	s.want(s.call(http.MethodDelete, "/sessions/current", s.token("wanda", demoPassword), nil), http.StatusNoContent, "")
	l.wantTold("signing out", "session-revoked wanda user in one session")

	reused := s.want(s.signIn("wanda", demoPassword), http.StatusCreated, "")
	for token, i := reused.text("refresh_token"), 0; i < 2; i++ {
		token = s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": token}), http.StatusOK, "").text("refresh_token")
	}
	s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": reused.text("refresh_token")}), http.StatusUnauthorized, "")
	l.wantTold("an outgrown refresh token", "session-revoked wanda policy in one session")

	first, second, third := s.want(s.signIn("wanda", demoPassword), http.StatusCreated, ""), s.token("wanda", demoPassword), s.token("wanda", demoPassword)
	s.want(s.call(http.MethodDelete, "/users/me/sessions/"+first.text("session_id"), second, nil), http.StatusNoContent, "")
	got := l.wantTold("ending one session", "session-revoked wanda user in one session")
	want := map[string]any{
		"format": "complex", "user": map[string]any{"format": "iss_sub", "iss": s.demo.URL, "sub": s.user("wanda").ID},
		"session": map[string]any{"format": "opaque", "id": first.text("session_id")}, "tenant": map[string]any{"format": "opaque", "id": "demo"},
	}
	if diff := cmp.Diff(want, got[0].claims["sub_id"]); diff != "" {
		s.t.Errorf("the subject of a session: %s", diff)
	}
	s.want(s.call(http.MethodDelete, "/users/me/sessions", third, nil), http.StatusOK, "")
	l.wantTold("ending all others", "session-revoked wanda user in one session")
}

// locks keep users from signing in, and let them in again.
func (s *service) locks(l *listener, ada string) {
	s.t.Helper()
	bo := s.user("bo").ID
	s.want(s.call(http.MethodPost, "/admin/users/"+bo+"/security-lock", ada, map[string]string{"reason": "laptop stolen"}), http.StatusOK, "")
	l.wantTold("a security lock", "credential-change bo revoke admin", "session-revoked bo 5 admin", "account-disabled bo hijacking")
	s.want(s.reset(ada, bo, nil), http.StatusOK, "")
	l.wantTold("the reset that lifts it", "credential-change bo update admin", "session-revoked bo 6 admin",
		"account-credential-change-required bo", "account-enabled bo")

	link := s.sendLink("wanda", nil)
	l.wantTold("a reset link", "recovery-activated wanda")
	s.want(s.redeem(link, "nine amber lanterns at noon"), http.StatusNoContent, "")
	l.wantTold("its use", "credential-change wanda update user", "session-revoked wanda 2 user")
	link = s.sendLink("wanda", map[string]any{"disable_now": true})
	l.wantTold("a reset link that disables", "credential-change wanda revoke admin", "session-revoked wanda 3 admin",
		"recovery-activated wanda", "account-disabled wanda")
	s.want(s.redeem(link, "tall copper ships in fog"), http.StatusNoContent, "")
	l.wantTold("its use", "credential-change wanda update user", "session-revoked wanda 4 user", "account-enabled wanda")

	alex := s.token("alex", "maple orbit lantern quiet")
	s.want(s.change(alex, map[string]string{"username": "alexander"}), http.StatusOK, "")
	l.wantTold("a rename by somebody else", "username-changed alex Alex alexander user")
	s.want(s.revert(s.newest("alex@new.example", "/revert#").token(s.t, "revert")), http.StatusOK, "")
	l.wantTold("its reversal", "credential-compromise alex", "credential-change alex revoke user", "username-changed alex alexander Alex user",
		"session-revoked alex 3 user", "account-disabled alex hijacking")

	s.statuses(l, ada)

	s.disablePassword("ada")
	l.token = s.serviceToken("ssf.read") // that took days
	l.wantTold("the hundredth failure", "account-disabled ada")
}

// statuses are what an administrator does to the user bo beside the credentials.
func (s *service) statuses(l *listener, ada string) {
	s.t.Helper()
	bo := "/admin/users/" + s.user("bo").ID
	set := func(changes map[string]string) { s.want(s.call(http.MethodPatch, bo, ada, changes), http.StatusOK, "") }
	set(map[string]string{"status": "disabled"})
	l.wantTold("a disabled user", "session-revoked bo 7 admin", "account-disabled bo")
	s.want(s.reset(ada, s.user("bo").ID, nil), http.StatusOK, "") // a reset enables nobody
	l.wantTold("its reset", "credential-change bo update admin", "session-revoked bo 8 admin", "account-credential-change-required bo")
	set(map[string]string{"status": "active"})
	l.wantTold("an enabled user", "account-enabled bo")
	set(map[string]string{"display_name": "Bo Lindgren", "team": "/east/"})
	s.want(s.call(http.MethodPost, bo+"/unlock", ada, nil), http.StatusOK, "")
	l.wantTold("what concerns no credentials")
	s.want(s.call(http.MethodDelete, bo+"/sessions", ada, nil), http.StatusNoContent, "")
	l.wantTold("ending all sessions of a user", "session-revoked bo 9 admin")
}

// disablePassword fails so often that the password is disabled.
func (s *service) disablePassword(name string) {
	s.t.Helper()
	for i := range 100 {
		s.clock.advance(2 * time.Hour)
		if a := s.signIn(name, fmt.Sprintf("wrong wrong wrong %d", i)); a.status != http.StatusUnauthorized {
			s.t.Fatalf("failure %d: %d %s", i, a.status, a.raw)
		}
	}
}

// EVT-02, EVT-03, EVT-04, EVT-05, SET-10, SET-11: what each event may hold, and nothing else.
func TestSignals_claims(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(everything())
		before := s.clock.now().Unix()
		alex := s.token("alex", demoPassword)
		s.want(s.change(alex, map[string]string{"username": "alex.reed", "new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "")
		s.want(s.call(http.MethodPatch, "/admin/users/"+s.user("alex").ID+"/credentials", s.token("ada", demoPassword),
			map[string]string{"email": "alex@new.example", "reason": "canary reason"}), http.StatusOK, "")
		s.want(s.reset(s.token("ada", demoPassword), s.user("bo").ID, map[string]string{"reason": "canary reason"}), http.StatusOK, "")
		sets := l.drain()
		after := s.clock.now().Unix()
		allowed := map[string][]string{
			"credential-change":                  {"change_type", "credential_type", "event_timestamp", "initiating_entity", "reason_admin"},
			"session-revoked":                    {"event_timestamp", "generation", "initiating_entity", "reason_admin"},
			"username-changed":                   {"account_id", "changed_at", "event_timestamp", "initiating_entity", "new_username", "old_username", "reason_admin", "user_id", "version"},
			"account-credential-change-required": nil, // "Attributes: none"
			"recovery-information-changed":       nil,
		}
		seen := map[string]bool{}
		for _, got := range sets {
			kind, claims := got.event()
			seen[got.kind()] = true
			if diff := cmp.Diff(allowed[got.kind()], slices.Sorted(maps.Keys(claims))); diff != "" {
				t.Errorf("%s: %s", kind, diff)
			}
			if kind == "https://schemas.openid.net/secevent/risc/event-type/sessions-revoked" || strings.HasSuffix(kind, "identifier-changed") {
				t.Errorf("%s is never sent", kind)
			}
			if at, there := claims["event_timestamp"]; there && (int64(at.(float64)) < before || int64(at.(float64)) > after) {
				t.Errorf("%s happened at %v, not in %d to %d", kind, at, before, after)
			}
			if reason, there := claims["reason_admin"]; there {
				if text, _ := reason.(map[string]any)["en"].(string); text == "" || strings.Contains(text, "canary") {
					t.Errorf("%s for the reason %v", kind, reason)
				}
			}
			if got.kind() == "credential-change" && (claims["credential_type"] != "password" || claims["change_type"] != "update") {
				t.Errorf("%v", claims)
			}
			for _, secret := range []string{demoPassword, "maple orbit", "@demo.example", "@new.example", "canary", "argon2"} {
				if encoded, _ := json.Marshal(got.claims); strings.Contains(string(encoded), secret) {
					t.Errorf("%s holds %q: %s", kind, secret, encoded)
				}
			}
		}
		if len(seen) != len(allowed) {
			t.Errorf("only %v", seen)
		}
	})
}

// SET-01, SET-02, SET-03, SET-04, SET-05, SET-06, SET-07, SET-08: the form of every SET, member by member; it is the same when it
// is sent again.
func TestSignals_form(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(everything())
		s.want(s.change(s.token("alex", demoPassword), map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "")
		first, again := l.poll(map[string]any{"returnImmediately": true}), l.poll(map[string]any{"returnImmediately": true})
		if len(first) != 1 || len(again) != 1 {
			t.Fatalf("of one user the oldest alone: %d, %d", len(first), len(again))
		}
		if diff := cmp.Diff(first[0].claims, again[0].claims); diff != "" {
			t.Errorf("sent again it differs: %s", diff)
		}
		sets := l.drain()
		config := s.want(s.call(http.MethodGet, "/ssf/streams?stream_id="+l.id, l.token, nil), http.StatusOK, "")
		metadata := s.want(s.call(http.MethodGet, "/.well-known/ssf-configuration", "", nil), http.StatusOK, "")
		jtis := map[string]bool{}
		for _, got := range sets {
			jtis[got.jti()] = true
			if diff := cmp.Diff([]string{"alg", "kid", "typ"}, slices.Sorted(maps.Keys(got.header))); diff != "" {
				t.Errorf("header: %s", diff)
			}
			if got.header["typ"] != "secevent+jwt" || got.header["alg"] != "RS256" {
				t.Errorf("header %v", got.header)
			}
			if diff := cmp.Diff([]string{"aud", "events", "iat", "iss", "jti", "sub_id", "txn"}, slices.Sorted(maps.Keys(got.claims))); diff != "" {
				t.Errorf("claims: %s", diff)
			}
			if got.claims["iss"] != config.text("iss") || got.claims["iss"] != metadata.text("issuer") || got.claims["aud"] != config.text("aud") {
				t.Errorf("iss %v, aud %v", got.claims["iss"], got.claims["aud"])
			}
			if events := got.claims["events"].(map[string]any); len(events) != 1 {
				t.Errorf("events %v", events)
			}
			want := map[string]any{"format": "iss_sub", "iss": s.demo.URL, "sub": s.user("alex").ID}
			if diff := cmp.Diff(want, got.claims["sub_id"]); diff != "" {
				t.Errorf("subject: %s", diff)
			}
		}
		if len(sets) != 2 || len(jtis) != 2 {
			t.Errorf("%d events, %d ids", len(sets), len(jtis))
		}
		if metadata.text("jwks_uri") != s.demo.URL+"/.well-known/jwks.json" {
			t.Errorf("%s", metadata.raw)
		}
		for _, key := range s.eventKeys() {
			if key.N.BitLen() < 2048 {
				t.Errorf("a key of %d bits", key.N.BitLen())
			}
		}
	})
}

// SET-09: no event is good as an access token, and the keys of the two are different.
func TestSignals_areNoTokens(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(everything())
		alex := s.token("alex", demoPassword)
		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		got := l.drain()
		wantInvalid(s, "a SET", got[0].raw)
		if kid := decodePart(t, alex, 0)["kid"]; l.eventKeys()[kid.(string)] != nil {
			t.Error("one key for both")
		}
	})
}
