package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/user"
)

// why returns whether the user can sign in, and the codes of what stands in the way.
func why(t *testing.T, s *service, token, id string) (can bool, codes []string, signIn map[string]any) {
	t.Helper()
	shown := s.want(s.call(http.MethodGet, "/admin/users/"+id, token, nil), http.StatusOK, "")
	signIn = shown.body["sign_in"].(map[string]any)
	codes = []string{}
	for _, reason := range signIn["reasons"].([]any) {
		r := reason.(map[string]any)
		codes = append(codes, r["code"].(string))
		if len(r["detail"].(string)) < 20 {
			t.Errorf("%s says nothing that helps: %q", r["code"], r["detail"])
		}
	}
	return signIn["can_sign_in"].(bool), codes, signIn
}

// product.md "Troubleshooting": "why can't this user sign in?" is answered with every reason, and truly: the right password opens
// a session exactly when the answer says so.
func TestDiagnosis(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, db, bo := s.token("ada", demoPassword), s.database(), s.user("bo").ID
		member, err := db.Member(t.Context(), user.ID(bo))
		if err != nil {
			t.Fatal(err)
		}
		past, future := s.clock.now().Add(-time.Hour), s.clock.now().Add(time.Hour)
		for _, c := range []struct {
			name  string
			alter func(u *user.User)
			can   bool
			codes []string
		}{
			{"nothing", func(*user.User) {}, true, []string{}},
			{"disabled", func(u *user.User) { u.Status = user.Disabled }, false, []string{"disabled"}},
			{"password disabled", func(u *user.User) { u.Password.DisabledAt = &past }, false, []string{"password_disabled"}},
			{"no password", func(u *user.User) { u.Password.Hash = "" }, false, []string{"no_password"}},
			{"a password that cannot be checked", func(u *user.User) { u.Password.Hash = "$other$x" }, false, []string{"no_password"}},
			{"a temporary password", func(u *user.User) { u.Password.MustChange, u.Password.TemporaryUntil = true, &future }, true, []string{"must_change_password"}},
			{"an expired temporary password", func(u *user.User) { u.Password.MustChange, u.Password.TemporaryUntil = true, &past }, false, []string{"temporary_password_expired"}},
			{"several", func(u *user.User) { u.Status, u.Password.DisabledAt = user.Disabled, &past }, false, []string{"disabled", "password_disabled"}},
		} {
			alterUser(t, db, bo, func(u *user.User) { u.Status, u.Password = member.User.Status, member.User.Password; c.alter(u) })
			can, codes, _ := why(t, s, ada, bo)
			if can != c.can || !slices.Equal(codes, c.codes) {
				t.Errorf("%s: %v %v", c.name, can, codes)
			}
			if opened := s.signIn("bo", demoPassword).status == http.StatusCreated; opened != can {
				t.Errorf("%s: a session was opened: %v", c.name, opened)
			}
			s.clock.advance(2 * time.Hour) // over any delay
			past, future = s.clock.now().Add(-time.Hour), s.clock.now().Add(time.Hour)
			ada = s.token("ada", demoPassword)
		}
	})
}

// api.md: what happened when the user tried, the newest first.
func TestDiagnosis_recentAttempts(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		s.want(s.call(http.MethodPost, "/sessions", "", map[string]string{"username": "bo", "password": demoPassword}, "User-Agent", "phone/1.0"), http.StatusCreated, "")
		for range 5 {
			s.want(s.signIn("BO", "wrong orbit lantern"), http.StatusUnauthorized, "")
		}
		s.want(s.signIn("bo", demoPassword), http.StatusTooManyRequests, "throttled")
		can, codes, signIn := why(t, s, ada, bo)
		if can || !slices.Equal(codes, []string{"locked"}) || signIn["locked_until"] == nil || signIn["consecutive_failures"] != 5.0 {
			t.Errorf("%v", signIn)
		}
		var told []string
		for _, item := range signIn["recent"].([]any) {
			attempt := item.(map[string]any)
			code, _ := attempt["code"].(string)
			told = append(told, attempt["outcome"].(string)+" "+code)
			if attempt["ip"] != "127.0.0.1" {
				t.Errorf("%v", attempt)
			}
		}
		wrong := "refused wrong_password"
		if diff := cmp.Diff([]string{"refused throttled", wrong, wrong, wrong, wrong, wrong, "done "}, told); diff != "" {
			t.Error(diff)
		}
		if first := signIn["recent"].([]any)[6].(map[string]any); first["user_agent"] != "phone/1.0" {
			t.Errorf("%v", first)
		}
		listed := s.want(s.call(http.MethodGet, "/admin/users?query=bo@demo", ada, nil), http.StatusOK, "").items()
		if _, there := listed[0]["sign_in"].(map[string]any)["recent"]; there {
			t.Error("a list shows no attempts")
		}
	})
}

// product.md decision 8: an administrator lifts the delays; a password that was disabled stays so, and the answer says it.
func TestUnlock(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		unlock := func(token, id string, body any, headers ...string) answer {
			return s.call(http.MethodPost, "/admin/users/"+id+"/unlock", token, body, headers...)
		}
		for range 6 {
			s.signIn("bo", "wrong orbit lantern")
		}
		s.want(s.signIn("bo", demoPassword), http.StatusTooManyRequests, "throttled")
		unlocked := s.want(unlock(ada, bo, map[string]string{"reason": "Mistyped it"}), http.StatusOK, "")
		if state := unlocked.body["sign_in"].(map[string]any); state["can_sign_in"] != true || state["consecutive_failures"] != 0.0 || unlocked.header.Get("ETag") != `"1"` {
			t.Errorf("%s", unlocked.raw)
		}
		s.want(s.signIn("bo", demoPassword), http.StatusCreated, "")
		told := s.trail(ada, "?action=user.unlocked", http.StatusOK, "").items()
		if len(told) != 1 || told[0]["reason"] != "Mistyped it" || told[0]["details"].(map[string]any)["failures"] != 5.0 {
			t.Errorf("%v", told)
		}

		// A delay does not matter where the password is disabled.
		now := s.clock.now()
		alterUser(t, s.database(), bo, func(u *user.User) { u.Password.DisabledAt = &now })
		still := s.want(unlock(ada, bo, nil), http.StatusOK, "").body["sign_in"].(map[string]any)
		if reasons := still["reasons"].([]any); still["can_sign_in"] != false || len(reasons) != 1 || !strings.Contains(reasons[0].(map[string]any)["detail"].(string), "Reset the password") {
			t.Errorf("%v", still)
		}
		s.want(s.signIn("bo", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		wantReach(s, func(token, id string, headers ...string) answer { return unlock(token, id, nil, headers...) })
		s.want(unlock(ada, bo, map[string]string{"reason": strings.Repeat("x", 501)}), http.StatusUnprocessableEntity, "validation_failed")
		s.want(unlock(ada, bo, `{"until":"never"}`), http.StatusBadRequest, "malformed_request")
		s.want(unlock(ada, bo, nil, "If-Match", `"0"`), http.StatusPreconditionFailed, "precondition_failed") // PRE-02
	})
}

// wantReach holds an operation on a user against the rule of who manages whom (AZ-03, AZ-04).
func wantReach(s *service, ask func(token, id string, headers ...string) answer) {
	s.t.Helper()
	const same = "the-same-request-id"
	erin, manager := s.token("erin", demoPassword), serviceToken(s, access.ScopeManage)
	for name, token := range map[string]string{"wanda": erin, "ada": erin, "olga": erin, "erin": manager} { // a service without the scope for administrators
		sameRefusal(s.t, name, ask(token, s.user(name).ID, "X-Request-Id", same), ask(token, unknownID, "X-Request-Id", same))
	}
	s.want(ask(erin, s.user("erin").ID), http.StatusForbidden, "use_self_service")
	s.want(ask(s.token("alex", demoPassword), s.user("bo").ID), http.StatusForbidden, "forbidden")
	s.want(ask(serviceToken(s, access.ScopeUsersWrite), s.user("bo").ID), http.StatusForbidden, "insufficient_scope")
	if a := ask(manager, s.user("bo").ID); a.status >= 300 {
		s.t.Errorf("a service with the scope: %d %s", a.status, a.raw)
	}
	if a := ask(erin, s.user("bo").ID); a.status >= 300 {
		s.t.Errorf("whom erin manages: %d %s", a.status, a.raw)
	}
}

// ASVS 7.4.5: an administrator ends all sessions of a user; every token is dead at once, and the password is as it was.
func TestEndUserSessions(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		end := func(token, id string, headers ...string) answer {
			return s.call(http.MethodDelete, "/admin/users/"+id+"/sessions", token, nil, headers...)
		}
		first, second, other := openSession(s, "bo", demoPassword), openSession(s, "bo", demoPassword), openSession(s, "alex", demoPassword)
		if done := s.want(end(ada, bo), http.StatusNoContent, ""); len(done.raw) != 0 {
			t.Errorf("%s", done.raw)
		}
		wantDead(s, first)
		wantDead(s, second)
		wantAlive(s, other.access)
		if etag := s.want(s.call(http.MethodGet, "/admin/users/"+bo, ada, nil), http.StatusOK, "").header.Get("ETag"); etag != `"1"` {
			t.Errorf("the credentials are those of before: %s", etag)
		}
		wantAlive(s, openSession(s, "bo", demoPassword).access)
		told := s.trail(ada, "?action=session.all_revoked", http.StatusOK, "").items()
		if len(told) != 1 || told[0]["details"].(map[string]any)["sessions_ended"] != 2.0 {
			t.Errorf("%v", told)
		}
		wantReach(s, end)
	})
}
