package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

// verify is POST /internal/credentials/verify, for somebody at an address; "" is not known.
func (s *service) verify(token, ip, username, pw string, headers ...string) answer {
	s.t.Helper()
	body := map[string]string{"username": username, "password": pw}
	if ip != "" {
		body["ip"] = ip
	}
	return s.call(http.MethodPost, "/internal/credentials/verify", token, body, headers...)
}

// wantVerified fails unless the answer says so of a demo user.
func (s *service) wantVerified(a answer, name string, mustChange bool, generation int) {
	s.t.Helper()
	u := s.user(name)
	want := map[string]any{
		"verified": true, "user_id": u.ID, "account_id": u.AccountID, "role": u.Role, "team": u.Team, "must_change_password": mustChange, "generation": float64(generation),
	}
	if diff := cmp.Diff(want, s.want(a, http.StatusOK, "").body); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// wantUnverified fails unless the answer is the one for whatever is wrong.
func (s *service) wantUnverified(a answer) {
	s.t.Helper()
	if s.want(a, http.StatusOK, ""); string(a.raw) != `{"verified":false}`+"\n" {
		s.t.Errorf("got %q", a.raw)
	}
}

// api.md "POST /internal/credentials/verify", peers bug 15: who it is, if name and password are right; else one answer for
// everything, after the same work.
func TestVerify_answers(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := serviceToken(s, access.ScopeVerify)
		ada := s.token("ada", demoPassword)
		s.wantVerified(s.verify(token, "192.0.2.1", "ALEX", demoPassword), "alex", false, 1)
		s.wantVerified(s.verify(token, "2001:db8::1", "ada", demoPassword), "ada", false, 1)
		s.wantVerified(s.verify(token, "", "ada", demoPassword), "ada", false, 1)

		temporary := s.want(s.reset(ada, s.user("bo").ID, nil), http.StatusOK, "").text("temporary_password")
		s.wantVerified(s.verify(token, "192.0.2.1", "bo", temporary), "bo", true, 2)
		expired := s.want(s.reset(ada, s.user("wanda").ID, nil), http.StatusOK, "").text("temporary_password")
		alterUser(t, s.database(), s.user("wanda").ID, func(u *user.User) { past := time.Now().Add(-time.Hour); u.Password.TemporaryUntil = &past })
		alterUser(t, s.database(), s.user("erin").ID, func(u *user.User) { now := time.Now(); u.Password.DisabledAt = &now })

		for what, typed := range map[string][2]string{
			"a wrong password": {"alex", "wrong"}, "an unknown name": {"nobody-there", demoPassword}, "a disabled user": {"dora", demoPassword},
			"an expired temporary password": {"wanda", expired}, "a disabled password": {"erin", demoPassword}, "the password before a reset": {"bo", demoPassword},
			"another account's user": {"oscar", demoPassword}, "another account's user, wrong": {"oscar", "wrong"}, "an e-mail address": {"alex@demo.example", demoPassword},
			"NUL": {"al\x00ex", demoPassword}, "an id": {s.user("alex").ID, demoPassword},
		} {
			before := s.hashes()
			s.wantUnverified(s.verify(token, "192.0.2.1", typed[0], typed[1]))
			var hashed, compared int
			if _, err := fmt.Sscanf(before, "hash %d, verify %d", &hashed, &compared); err != nil {
				t.Fatalf("%q: %v", before, err)
			}
			if want := fmt.Sprintf("hash %d, verify %d", hashed, compared+1); s.hashes() != want {
				t.Errorf("%s: computed %s, want %s", what, s.hashes(), want)
			}
		}

		everywhere := s.tokenOf("everywhere", s.secretOf("client create everywhere --all-accounts --scope credentials:verify"))
		s.wantVerified(s.verify(everywhere, "192.0.2.1", "oscar", demoPassword), "oscar", false, 1)
		s.wantVerified(s.verify(everywhere, "192.0.2.1", "alex", demoPassword), "alex", false, 1)
		if list := s.want(s.call(http.MethodGet, "/admin/users/"+s.user("alex").ID, ada, nil), http.StatusOK, ""); list.body["last_sign_in_at"] == nil {
			t.Errorf("a verification is a sign-in elsewhere: %s", list.raw)
		}
		for _, row := range rowsOf(t, connect(t, s.databaseURL), "SELECT count(*) FROM sessions WHERE user_id = '"+s.user("alex").ID+"'") {
			if fmt.Sprint(row[0]) != "0" {
				t.Errorf("%v sessions were opened", row[0])
			}
		}
	})
}

// ERR-04, AZ-14: what is wrong with the question itself.
func TestVerify_refusals(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	token := serviceToken(s, access.ScopeVerify)
	ask := func(body any) answer { return s.call(http.MethodPost, "/internal/credentials/verify", token, body) }
	for _, c := range []struct {
		body any
		want []string
	}{
		{map[string]string{}, []string{"/username required", "/password required"}},
		{map[string]string{"username": "alex", "password": "x", "ip": "nowhere"}, []string{"/ip invalid"}},
		{map[string]string{"username": "alex", "password": "x", "ip": "192.0.2.0/24", "user_agent": "a\x00b"}, []string{"/ip invalid", "/user_agent invalid_characters"}},
	} {
		a := s.want(ask(c.body), http.StatusUnprocessableEntity, "validation_failed")
		if diff := cmp.Diff(c.want, a.fieldCodes()); diff != "" {
			t.Error(diff)
		}
	}
	s.want(ask(map[string]any{"username": "alex", "password": "x", "account_id": "demo"}), http.StatusBadRequest, "malformed_request")
	s.want(ask(map[string]any{"username": "alex", "password": 1}), http.StatusBadRequest, "malformed_request")
	s.want(s.verify(s.token("ada", demoPassword), "", "alex", demoPassword), http.StatusForbidden, "forbidden")
	s.want(s.verify(serviceToken(s, access.ScopeUsersRead), "", "alex", demoPassword), http.StatusForbidden, "insufficient_scope")
	s.wantVerified(ask(map[string]string{"username": "alex", "password": demoPassword, "user_agent": strings.Repeat("ü", 500)}), "alex", false, 1)
}

// THR-03, THR-04, THR-07, peers bug 8: guesses by way of a service count together with those here, by the address that the
// service names; and a service cannot make the owner of a name in another account wait.
func TestVerify_throttle(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		const home, elsewhere = "198.51.100.7", "203.0.113.7"
		token := serviceToken(s, access.ScopeVerify)
		s.wantVerified(s.verify(token, home, "alex", demoPassword), "alex", false, 1) // from now on it is known
		for i := range 5 {
			if i%2 == 0 {
				s.wantUnverified(s.verify(token, elsewhere, "alex", "wrong"))
				continue
			}
			s.want(s.signInFrom(elsewhere, "alex", "wrong"), http.StatusUnauthorized, "invalid_credentials")
		}
		s.want(s.signInFrom(elsewhere, "alex", demoPassword), http.StatusTooManyRequests, "throttled")
		if wait := s.retryAfter(s.want(s.verify(token, "203.0.113.99", "alex", demoPassword), http.StatusTooManyRequests, "throttled")); wait > 30*time.Second {
			t.Errorf("wait %s", wait)
		}
		s.wantVerified(s.verify(token, home, "alex", demoPassword), "alex", false, 1)
		for i := range 20 {
			s.wantUnverified(s.verify(token, fmt.Sprintf("203.1.%d.7", i), "alex", "wrong"))
		}
		s.want(s.verify(token, "203.2.0.7", "alex", demoPassword), http.StatusTooManyRequests, "throttled") // a stranger's network
		s.wantVerified(s.verify(token, home, "alex", demoPassword), "alex", false, 1)                       // THR-07: a known one
		if n := s.standing(s.user("alex").ID).Failures; n != 0 {
			t.Errorf("%d failures after a right password", n)
		}

		foreign := s.tokenOf("foreign", s.secretOf("client create foreign --account other --scope credentials:verify"))
		for range 5 {
			s.wantUnverified(s.verify(foreign, home, "alex", "wrong"))
		}
		s.want(s.verify(foreign, home, "alex", "wrong"), http.StatusTooManyRequests, "throttled") // as for a name that nobody has
		s.want(s.signInFrom(home, "alex", demoPassword), http.StatusCreated, "")

		var running sync.WaitGroup
		var mu sync.Mutex
		answered := map[int]int{}
		for range 60 {
			running.Go(func() {
				a, err := s.try(http.MethodPost, "/internal/credentials/verify", token, map[string]string{"username": "bo", "password": "wrong", "ip": elsewhere})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					answered[a.status]++
				}
			})
		}
		running.Wait()
		if answered[http.StatusOK] != 5 || answered[http.StatusOK]+answered[http.StatusTooManyRequests] != 60 {
			t.Errorf("of 60 guesses at once five may be compared: %v", answered)
		}
	}, behindProxy, patient)
}

// RL-01, THR-08: the wider limit counts the address that the service names, not the service's own, for which all its users
// would share one.
func TestVerify_rateLimit(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "RATE_LIMIT_PER_MINUTE=10")
	token := serviceToken(s, access.ScopeVerify)
	for i := range 30 {
		s.wantUnverified(s.verify(token, fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("name-%d", i), "wrong"))
	}
	last := answer{}
	for i := range 12 {
		last = s.verify(token, "198.51.100.7", fmt.Sprintf("other-%d", i), "wrong")
	}
	s.retryAfter(s.want(last, http.StatusTooManyRequests, "throttled"))
}

// HASH-08, AUD-01, decision 8: a right password upgrades an outdated hash; what was asked is told with the service as actor, in
// the account it is about; a user hears of a new device.
func TestVerify_isToldOf(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := serviceToken(s, access.ScopeVerify)
		alex := s.user("alex")
		before := func() string {
			member, err := s.database().Member(context.Background(), user.ID(alex.ID))
			if err != nil {
				t.Fatal(err)
			}
			return member.User.Password.Hash
		}
		ask := func(name, pw, agent string) answer {
			body := map[string]string{"username": name, "password": pw, "ip": "192.0.2.7", "user_agent": agent}
			return s.call(http.MethodPost, "/internal/credentials/verify", token, body, "X-Request-Id", "request-of-"+name, "X-On-Behalf-Of", alex.ID)
		}
		s.wantVerified(ask("alex", demoPassword, "app/1"), "alex", false, 1)
		alterUser(t, s.database(), alex.ID, func(u *user.User) { u.Password.Hash = bcryptHash(t, demoPassword, 10) })
		s.wantVerified(ask("alex", demoPassword, "app/2"), "alex", false, 1) // the same sort of app
		if !newHash.MatchString(before()) {
			t.Errorf("not upgraded: %s", before())
		}
		s.wantVerified(s.verify(token, "", "alex", demoPassword), "alex", false, 1) // of which nobody can tell whether it is new
		if mails := s.mailbox(alex.Email); len(mails) != 0 {
			t.Errorf("told of what is not new: %+v", mails)
		}
		s.wantVerified(ask("alex", demoPassword, "another"), "alex", false, 1)
		if mails := s.mailbox(alex.Email); len(mails) != 1 || !mails[0].hasLink() {
			t.Errorf("a new device: %+v", mails)
		}
		s.wantUnverified(ask("alex", "wrong", "app/2"))
		s.wantUnverified(ask("oscar", demoPassword, "app/2"))

		events, err := s.database().AuditEvents(t.Context(), "demo", time.Time{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range events {
			if e.Actor.ID != "demo-service" || e.Action == audit.ServiceTokenIssued || e.Origin.IP == "" {
				continue
			}
			if e.Origin.IP != "192.0.2.7" || string(e.Origin.OnBehalfOf) != alex.ID || !strings.HasPrefix(e.Origin.RequestID, "request-of-") || e.SessionID != "" {
				t.Errorf("%+v", e)
			}
			told = append(told, strings.Join([]string{string(e.Action), string(e.Outcome), e.Target.Username, e.Details.Code, e.Origin.UserAgent, e.Details.Scheme}, " "))
		}
		want := []string{
			"password.verified done alex  app/1 ", "password.verified done alex  app/2 ", "password.rehashed done alex  app/2 bcrypt",
			"password.verified done alex  another ", "password.verify_failed refused alex wrong_password app/2 ", "password.verify_failed refused  unknown_username app/2 ",
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
		s.stop()
		if text := dump(t, s.databaseURL); strings.Contains(text, demoPassword) || strings.Contains(s.log.String(), demoPassword) {
			t.Error("a password is stored or logged")
		}
	})
}
