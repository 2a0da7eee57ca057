package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/audit"
)

// A security concern is one call: every session, token and link of the user is dead on the next request, the password opens
// nothing, the user and those who manage it hear of it, and a reset undoes it (SES-04, SES-05, peers bug 9).
func TestSecurityLock(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex := s.token("ada", demoPassword), s.user("alex").ID
		opened := s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
		link := s.sendLink("alex", nil)
		confirmation := s.askEmail(opened.text("access_token"), "thief@new.example")
		lock := "/admin/users/" + alex + "/security-lock"
		for _, body := range []map[string]string{{"reason": ""}, {"reason": strings.Repeat("x", 501)}} {
			refused := s.want(s.call(http.MethodPost, lock, ada, body), http.StatusUnprocessableEntity, "validation_failed")
			if !strings.HasPrefix(strings.Join(refused.fieldCodes(), " "), "/reason ") {
				t.Errorf("got %v", refused.fieldCodes())
			}
		}
		s.want(s.call(http.MethodPost, lock, ada, map[string]string{"reason": "old page"}, "If-Match", `"1"`), http.StatusPreconditionFailed, "precondition_failed")
		s.want(s.call(http.MethodGet, "/users/me", opened.text("access_token"), nil), http.StatusOK, "")

		locked := s.want(s.call(http.MethodPost, lock, ada, map[string]string{"reason": "laptop stolen"}), http.StatusOK, "")
		if locked.body["sessions_ended"] != 1.0 || locked.body["password_disabled"] != true {
			t.Errorf("got %s", locked.raw)
		}
		s.want(s.call(http.MethodGet, "/users/me", opened.text("access_token"), nil), http.StatusUnauthorized, "unauthorized")
		s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": opened.text("refresh_token")}), http.StatusUnauthorized, "unauthorized")
		s.want(s.signIn("alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.redeem(link, "maple orbit lantern quiet"), http.StatusUnprocessableEntity, "link_invalid")
		s.want(s.confirm(confirmation), http.StatusUnprocessableEntity, "link_invalid")
		shown := s.call(http.MethodGet, "/admin/users/"+alex, ada, nil)
		if !strings.Contains(string(shown.raw), "password_disabled") {
			t.Errorf("the reason is not shown: %s", shown.raw)
		}
		if told := s.newest(alexAddress, "Ada Marsh"); strings.Contains(told.Text, "laptop") || told.hasLink() {
			t.Errorf("the user's notice: %s", told.Text)
		}
		s.newest("erin@demo.example", "alex", "Ada Marsh")
		events := s.events("user.security_locked")
		if len(events) != 1 || events[0].Reason != "laptop stolen" || events[0].Actor.Name != "Ada Marsh" || events[0].Details.SessionsEnded != 1 {
			t.Errorf("got %+v", events)
		}
		temporary := s.want(s.reset(ada, alex, nil), http.StatusOK, "").text("temporary_password")
		s.want(s.signIn("alex", temporary), http.StatusCreated, "")
	})
}

// REC-11, AZ-03: who may lock whom is who may reset whom.
func TestSecurityLock_reach(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		erin := s.token("erin", demoPassword)
		concern := map[string]string{"reason": "concern"}
		for name, want := range map[string]int{"wanda": 404, "ada": 404, "olga": 404, "erin": 403, "alex": 200} {
			if a := s.call(http.MethodPost, "/admin/users/"+s.user(name).ID+"/security-lock", erin, concern); a.status != want {
				t.Errorf("%s: %d %s", name, a.status, a.raw)
			}
		}
		reset := serviceToken(s, "credentials:reset")
		s.want(s.call(http.MethodPost, "/admin/users/"+s.user("erin").ID+"/security-lock", reset, concern), http.StatusNotFound, "not_found")
		s.want(s.call(http.MethodPost, "/admin/users/"+s.user("wanda").ID+"/security-lock", reset, concern), http.StatusOK, "")
		if refused := s.events("credentials.change_refused"); !slices.ContainsFunc(refused, func(e audit.Event) bool { return e.Details.Code == "use_self_service" }) {
			t.Error("a refusal is not in the audit trail")
		}
	})
}
