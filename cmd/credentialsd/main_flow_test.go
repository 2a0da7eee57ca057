package main

import (
	"net/http"
	"testing"
	"time"
)

// The promise of the user guide: one request changes username and password; everything from before is over at once.
func TestChangeOwn_usernameAndPasswordInOneRequest(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		before := s.token("alex", demoPassword)
		other := s.token("alex", demoPassword)
		changed := s.want(s.change(before, map[string]string{
			"username": "alex.reed", "new_password": "maple orbit lantern quiet", "current_password": demoPassword,
		}), http.StatusOK, "")
		after := changed.text("access_token")

		// SES-02, SES-01, SES-03: tokens from before are dead on the next request, also within the same second.
		for _, dead := range []string{before, other} {
			refused := s.want(s.call(http.MethodGet, "/users/me", dead, nil), http.StatusUnauthorized, "unauthorized")
			if refused.header.Get("WWW-Authenticate") == "" { // BRR-02, BRR-05
				t.Error("a 401 without a challenge")
			}
		}
		me := s.want(s.call(http.MethodGet, "/users/me", after, nil), http.StatusOK, "")
		if me.text("id") != s.user("alex").ID || me.text("username") != "alex.reed" {
			t.Errorf("the id must stay and the name change: %s", me.raw)
		}
		s.want(s.signIn("alex", "maple orbit lantern quiet"), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signIn("alex.reed", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signIn("ALEX.Reed", "maple orbit lantern quiet"), http.StatusCreated, "")

		history := s.want(s.call(http.MethodGet, "/admin/users/"+s.user("alex").ID+"/username-history", s.token("ada", demoPassword), nil), http.StatusOK, "")
		items := history.body["items"].([]any)
		if len(items) != 2 || items[1].(map[string]any)["username"] != "alex" || items[1].(map[string]any)["held_until"] == nil {
			t.Errorf("the old name must be in the history: %s", history.raw)
		}
	})
}

// PAT-03, PW-21: whole or not at all.
func TestChangeOwn_badPasswordChangesNothing(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		s.want(s.change(token, map[string]string{"username": "alex.reed", "new_password": "short", "current_password": demoPassword}),
			http.StatusUnprocessableEntity, "policy_violation")
		mine := s.want(s.call(http.MethodGet, "/users/me/credentials", token, nil), http.StatusOK, "")
		if mine.text("username") != "alex" || mine.header.Get("ETag") != `"1"` {
			t.Errorf("something changed: %s", mine.raw)
		}
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
	})
}

// BRR-06, product.md decision 2: a wrong current password is 403, changes nothing, and the token stays good.
func TestChangeOwn_wrongCurrentPassword(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		refused := s.want(s.change(token, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": "wrong wrong wrong wrong"}),
			http.StatusForbidden, "wrong_current_password")
		if refused.text("type") != "urn:salesexec:problem:wrong_current_password" || refused.header.Get("WWW-Authenticate") != "" {
			t.Errorf("got %s", refused.raw)
		}
		s.want(s.call(http.MethodGet, "/users/me", token, nil), http.StatusOK, "")
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
	})
}

// REC-02, REC-05, SES-04: a temporary password can do nothing but choose a new one, and dies with that or after 24 hours.
func TestReset_temporaryPassword(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex := s.token("ada", demoPassword), s.user("alex")
		old := s.token("alex", demoPassword)
		first := s.want(s.reset(ada, alex.ID, nil), http.StatusOK, "")
		s.want(s.call(http.MethodGet, "/users/me", old, nil), http.StatusUnauthorized, "unauthorized")

		s.clock.advance(24*time.Hour + time.Second)
		s.want(s.signIn("alex", first.text("temporary_password")), http.StatusUnauthorized, "invalid_credentials")

		ada = s.token("ada", demoPassword)
		second := s.want(s.reset(ada, alex.ID, map[string]string{}), http.StatusOK, "").text("temporary_password")
		s.want(s.signIn("alex", first.text("temporary_password")), http.StatusUnauthorized, "invalid_credentials")
		opened := s.want(s.signIn("alex", second), http.StatusCreated, "")
		limited := opened.text("access_token")
		if opened.body["must_change_password"] != true {
			t.Error("must_change_password is not set")
		}
		s.want(s.call(http.MethodGet, "/users/me", limited, nil), http.StatusOK, "")
		s.want(s.change(limited, map[string]string{"username": "somebody", "current_password": second}), http.StatusForbidden, "must_change_password")
		s.want(s.change(limited, map[string]string{"new_password": second, "current_password": second}), http.StatusUnprocessableEntity, "policy_violation")
		fresh := s.want(s.change(limited, map[string]string{"new_password": "violet harbor stone drift", "current_password": second}), http.StatusOK, "")
		s.want(s.signIn("alex", second), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.change(fresh.text("access_token"), map[string]string{"username": "alex2", "current_password": "violet harbor stone drift"}), http.StatusOK, "")
	})
}
