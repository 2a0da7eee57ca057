package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// NOT-01, NOT-02, NOT-03: each event tells every address on file what happened, when, from where and by whom, and what to do;
// never a password.
func TestNotices(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada := s.token("ada", demoPassword)
		bo := s.user("bo").ID
		expect := func(what, to string, count int, parts ...string) {
			t.Helper()
			found := s.mailbox(to)
			if len(found) != count {
				t.Fatalf("%s: %d mails to %s, want %d", what, len(found), to, count)
			}
			newest := found[len(found)-1]
			for _, part := range append(parts, "Demo Sales", "UTC") {
				if !strings.Contains(newest.Text, part) || !strings.Contains(newest.HTML, part) {
					t.Errorf("%s: the mail lacks %q:\n%s\n%s", what, part, newest.Text, newest.HTML)
				}
			}
			if strings.Contains(newest.Text+newest.HTML+newest.Subject, demoPassword) {
				t.Errorf("%s: the mail holds a password", what)
			}
		}
		alex := s.token("alex", demoPassword)
		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		expect("rename", alexAddress, 1, "alex.reed", "127.0.0.1", "/revert#token=")
		alex = s.want(s.change(alex, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "").text("access_token")
		expect("password", alexAddress, 2, "password", "127.0.0.1", "/revert#token=")
		s.want(s.reset(ada, bo, nil), http.StatusOK, "")
		expect("reset", "bo@demo.example", 1, "Ada Marsh", "password")
		s.want(s.call(http.MethodPatch, "/admin/users/"+bo+"/credentials", ada, map[string]string{"username": "bo.lind", "email": "bo@new.example"}), http.StatusOK, "")
		expect("e-mail by an administrator, old address", "bo@demo.example", 3, "bo@new.example", "Ada Marsh")
		expect("e-mail by an administrator, new address", "bo@new.example", 1, "bo@new.example", "Ada Marsh")
		service := serviceToken(s, "credentials:reset")
		s.want(s.reset(service, s.user("wanda").ID, nil), http.StatusOK, "")
		expect("reset by a service", "wanda@demo.example", 1, "Demo service")

		before := len(s.mailbox(""))
		s.want(s.change(alex, map[string]string{"username": "x", "current_password": "maple orbit lantern quiet"}), http.StatusUnprocessableEntity, "policy_violation")
		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		if after := len(s.mailbox("")); after != before {
			t.Errorf("%d mails tell of what did not happen", after-before)
		}
	})
}

// A sign-in from another device or network tells the user; the first one of all, and one from the same place, do not.
func TestNotices_newDevice(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const here, phone = "Mozilla/5.0 (X11; Linux) Firefox/140.0", "SalesExec/4.2 (iPhone; iOS 19.1)"
		signIn := func(agent, from string) int {
			t.Helper()
			s.want(s.call(http.MethodPost, "/sessions", "", map[string]string{"username": "alex", "password": demoPassword}, "User-Agent", agent, "X-Forwarded-For", from), http.StatusCreated, "")
			return len(s.mailbox(alexAddress))
		}
		for i, step := range []struct {
			what, agent, from string
			mails             int
		}{
			{"the first", here, "192.0.2.1", 0},
			{"the same again", here, "192.0.2.1", 0},
			{"an update of the browser", strings.ReplaceAll(here, "140", "141"), "192.0.2.77", 0},
			{"a phone", phone, "192.0.2.1", 1},
			{"the phone again", phone, "192.0.2.1", 1},
			{"another network", phone, "198.51.100.7", 2},
			{"that network again", here, "198.51.100.9", 2},
		} {
			if got := signIn(step.agent, step.from); got != step.mails {
				t.Errorf("%d, %s: %d mails, want %d", i, step.what, got, step.mails)
			}
		}
		told := s.newest(alexAddress, "198.51.100.7")
		s.want(s.revert(told.token(t, "revert")), http.StatusOK, "")
		s.want(s.signIn("alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
	}, "TRUSTED_PROXIES=127.0.0.1")
}

// Product.md decision 8: at the 100th failure the password is disabled, and the user and those who manage it are told.
func TestNotices_passwordDisabled(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		for range 100 {
			s.signIn("alex", "wrong wrong wrong wrong")
			s.clock.advance(time.Hour)
		}
		s.newest(alexAddress, "opens nothing any more")
		for _, manager := range []string{"ada@demo.example", "erin@demo.example"} {
			if told := s.mailbox(manager); len(told) != 1 || !strings.Contains(told[0].Text, "alex") || told[0].hasLink() {
				t.Errorf("%s: %+v", manager, told)
			}
		}
		if told := s.mailbox(alexAddress); len(told) != 1 || told[0].hasLink() {
			t.Errorf("alex: %+v", told)
		}
		for _, other := range []string{"bo@demo.example", "oscar@other.example"} {
			if len(s.mailbox(other)) != 0 {
				t.Errorf("%s was told", other)
			}
		}
	})
}
