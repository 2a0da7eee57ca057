package main

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// sendLink resets a user's password by a link and returns its token.
func (s *service) sendLink(name string, more map[string]any) string {
	s.t.Helper()
	body := map[string]any{"method": "link", "reason": "forgot it"}
	for member, value := range more {
		body[member] = value
	}
	sent := s.want(s.reset(s.token("ada", demoPassword), s.user(name).ID, body), http.StatusOK, "")
	if sent.body["temporary_password"] != nil || sent.text("expires_at") == "" || sent.text("method") != "link" {
		s.t.Errorf("got %s", sent.raw)
	}
	return s.newest(name+"@demo.example", "/reset#").token(s.t, "reset")
}

// REC-06, REC-08, REC-09, peers bug 20: nothing changes until the link is used; the policy is that of everywhere and a refusal
// leaves the link good; using it ends every session and opens none.
func TestResetLink(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		before := s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
		link := s.sendLink("alex", nil)
		s.want(s.call(http.MethodGet, "/users/me", before.text("access_token"), nil), http.StatusOK, "")
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")

		for chosen, code := range map[string]string{
			"short": "too_short", strings.Repeat("x", 129): "too_long", "alexalexalex2026": "context_word",
			"passwordpassword": "blocklisted", "with a\ttab in the middle": "invalid_characters", demoPassword: "same_as_current",
		} {
			refused := s.want(s.redeem(link, chosen), http.StatusUnprocessableEntity, "policy_violation")
			if !strings.Contains(strings.Join(refused.fieldCodes(), " "), "/new_password "+code) {
				t.Errorf("%q: %v", chosen, refused.fieldCodes())
			}
		}
		done := s.want(s.redeem(link, "maple orbit lantern quiet"), http.StatusNoContent, "")
		if len(done.raw) != 0 || done.header.Get("Set-Cookie") != "" {
			t.Errorf("a reset signs nobody in: %s", done.raw)
		}
		s.want(s.call(http.MethodGet, "/users/me", before.text("access_token"), nil), http.StatusUnauthorized, "unauthorized")
		s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": before.text("refresh_token")}), http.StatusUnauthorized, "unauthorized")
		s.want(s.signIn("alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		opened := s.want(s.signIn("alex", "maple orbit lantern quiet"), http.StatusCreated, "")
		if opened.body["must_change_password"] != false {
			t.Error("the user chose the password: it is no temporary one")
		}
		s.want(s.redeem(link, "violet harbor stone drift"), http.StatusUnprocessableEntity, "link_invalid")
		told := s.newest(alexAddress, "password")
		if told.hasLink() {
			t.Error("what an administrator began is not undone by a link")
		}
	})
}

// Peers bug 2: of 100 redemptions at once exactly one succeeds, with one audit event and one notice.
func TestResetLink_parallel(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		link := s.sendLink("alex", nil)
		mails := len(s.mailbox(alexAddress))
		const many = 100
		answers := make([]answer, many)
		var running sync.WaitGroup
		for i := range many {
			running.Go(func() {
				for { // who is told to come again because too many wait for a hash does so
					answers[i], _ = s.try(http.MethodPost, "/password-resets/redeem", "", map[string]string{"token": link, "new_password": "maple orbit lantern quiet"})
					if answers[i].status != http.StatusServiceUnavailable {
						return
					}
				}
			})
		}
		running.Wait()
		won := 0
		for _, a := range answers {
			switch {
			case a.status == http.StatusNoContent:
				won++
			case a.code() != "link_invalid":
				t.Errorf("got %d %s", a.status, a.raw)
			}
		}
		if won != 1 {
			t.Fatalf("%d succeeded", won)
		}
		if n := len(s.events("password.reset_link_used")); n != 1 {
			t.Errorf("%d audit events", n)
		}
		if n := len(s.mailbox(alexAddress)) - mails; n != 1 {
			t.Errorf("%d notices", n)
		}
	}, "HASH_QUEUE=1000", "HASH_QUEUE_TIMEOUT=30s")
}

// REC-07, peers bugs 1 and 16: a link is good for one user and one purpose, and nothing stands for it: not being signed in, not another
// link, not a part of it.
func TestLinks_areBound(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex := s.token("alex", demoPassword)
		reset, confirmation := s.sendLink("alex", nil), s.askEmail(alex, "alex@new.example")
		undo := s.newest(alexAddress, "/revert#").token(t, "revert")
		const good = "maple orbit lantern quiet"
		for _, wrong := range []string{confirmation, undo, reset[:42], reset + "x", strings.ToUpper(reset), "x", alex} {
			s.want(s.redeem(wrong, good), http.StatusUnprocessableEntity, "link_invalid")
		}
		for _, wrong := range []string{reset, undo} {
			s.want(s.confirm(wrong), http.StatusUnprocessableEntity, "link_invalid")
		}
		for _, wrong := range []string{reset, confirmation} {
			s.want(s.revert(wrong), http.StatusUnprocessableEntity, "link_invalid")
		}
		for _, body := range []string{`{"new_password":"` + good + `"}`, `{"token":"","new_password":"` + good + `"}`} { // the secret is part of the very request
			a := s.call(http.MethodPost, "/password-resets/redeem", alex, body)
			if a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.raw), "/token") {
				t.Errorf("%s: %d %s", body, a.status, a.raw)
			}
		}
		// A link names its user alone: a user id beside it is refused, and bo's password stays as it is.
		s.want(s.call(http.MethodPost, "/password-resets/redeem", "", map[string]string{"token": reset, "new_password": good, "user_id": s.user("bo").ID}),
			http.StatusBadRequest, "malformed_request")
		s.want(s.redeem(reset, good), http.StatusNoContent, "")
		s.want(s.signIn("bo", demoPassword), http.StatusCreated, "")
	})
}

// REC-05, peers bug 9: a link ends after 24 hours, by a newer one, by any change of the password, and by a change of the address it went to.
func TestResetLink_ends(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const good = "maple orbit lantern quiet"
		void := func(why, link string) {
			t.Helper()
			if a := s.redeem(link, good); a.code() != "link_invalid" {
				t.Errorf("%s: %d %s", why, a.status, a.raw)
			}
		}
		first := s.sendLink("alex", nil)
		second := s.sendLink("alex", nil)
		void("a newer link", first)
		alex := s.token("alex", demoPassword)
		s.want(s.change(alex, map[string]string{"new_password": "violet harbor stone drift", "current_password": demoPassword}), http.StatusOK, "")
		void("the user's own change", second)
		third := s.sendLink("alex", nil)
		s.want(s.reset(s.token("ada", demoPassword), s.user("alex").ID, map[string]string{"method": "set", "new_password": demoPassword}), http.StatusOK, "")
		void("a reset by an administrator", third)

		fourth := s.sendLink("bo", nil)
		s.want(s.call(http.MethodPatch, "/admin/users/"+s.user("bo").ID+"/credentials", s.token("ada", demoPassword), map[string]string{"email": "bo@new.example"}), http.StatusOK, "")
		void("another address", fourth)
		s.want(s.reset(s.token("ada", demoPassword), s.user("bo").ID, map[string]string{"method": "link"}), http.StatusOK, "")
		fifth := s.newest("bo@new.example", "/reset#").token(t, "reset")
		s.clock.advance(24 * time.Hour)
		void("24 hours", fifth)
	})
}

// Peers bugs 10, 16 and 17 for links: where a reset link leads and whom it is mailed to is not read from the request; nothing that a
// browser sends by itself, as a form does, uses one; there is one token in clear, and whose session the request comes with is nothing.
func TestLinks_fromElsewhere(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	const good = "maple orbit lantern quiet"
	ada, alex := s.token("ada", demoPassword), s.user("alex").ID
	bo := s.token("bo", demoPassword)
	for _, header := range []string{"Host", "X-Forwarded-Host", "Forwarded", "Origin", "X-Forwarded-Proto", "Referer"} {
		s.want(s.reset(ada, alex, map[string]any{"method": "link"}, header, "evil.example"), http.StatusOK, "")
		if base, _ := s.newest(alexAddress, "/reset#").link(t, "reset"); base != s.demo.URL {
			t.Errorf("%s: the link leads to %s", header, base)
		}
	}
	for _, member := range []string{"email", "to", "Email"} {
		s.want(s.reset(ada, alex, map[string]any{"method": "link", member: "evil@new.example"}), http.StatusBadRequest, "malformed_request")
	}
	reset, confirmation := s.sendLink("alex", nil), s.askEmail(bo, "bo@new.example")
	undo := s.newest("bo@demo.example", "/revert#").token(t, "revert")
	for _, link := range []string{reset, confirmation, undo} {
		wantInvalid(s, "JWT-06 a link's token", link)
	}
	before := dump(t, s.databaseURL)
	for path, body := range map[string]string{
		"/password-resets/redeem": `"` + reset + `","new_password":"` + good + `"}`, "/email-confirmations": `"` + confirmation + `"}`, "/credential-reverts": `"` + undo + `"}`,
	} {
		for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} { // Fetch: no preflight
			a := s.call(http.MethodPost, path, "", `{"token":`+body, "Content-Type", media, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site", "Cookie", "access_token="+bo)
			s.want(a, http.StatusUnsupportedMediaType, "unsupported_media_type")
		}
		for _, start := range []string{`{"token":"x","token":`, `{"token":null,"token":`, `{"Token":"x","token":`, `{"token":["x"],"tokens":`} {
			s.want(s.call(http.MethodPost, path, "", start+body), http.StatusBadRequest, "malformed_request")
		}
		preflight := s.call(http.MethodOptions, path, "", nil, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
		if allowed := preflight.header.Get("Access-Control-Allow-Origin"); allowed != "" {
			t.Errorf("%s: another site may call it: %q", path, allowed)
		}
	}
	if after := dump(t, s.databaseURL); withoutRates(after) != withoutRates(before) {
		t.Error("something was changed")
	}
	s.want(s.call(http.MethodPost, "/password-resets/redeem", bo, map[string]string{"token": reset, "new_password": good}), http.StatusNoContent, "")
	s.want(s.signIn("bo", good), http.StatusUnauthorized, "invalid_credentials")
	s.want(s.signIn("alex", good), http.StatusCreated, "")
}

// Peers bug 8: what would stop a sign-in is looked at again when the link is used; a disabled user is not let in by it. A
// lock-out by failures is what a reset is for: it ends with it.
func TestResetLink_disabledUser(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.want(s.reset(s.token("ada", demoPassword), s.user("dora").ID, map[string]string{"method": "link"}), http.StatusOK, "")
		link := s.newest("dora@demo.example", "/reset#").token(t, "reset")
		s.want(s.redeem(link, "maple orbit lantern quiet"), http.StatusUnprocessableEntity, "link_invalid")
		s.want(s.signIn("dora", "maple orbit lantern quiet"), http.StatusUnauthorized, "invalid_credentials")

		for range 5 {
			s.signIn("wanda", "wrong wrong wrong wrong")
		}
		s.want(s.signIn("wanda", demoPassword), http.StatusTooManyRequests, "throttled")
		s.want(s.redeem(s.sendLink("wanda", nil), "maple orbit lantern quiet"), http.StatusNoContent, "")
		s.want(s.signIn("wanda", "maple orbit lantern quiet"), http.StatusCreated, "")
	})
}

// Product.md decision 6: with disable_now the old password and all sessions end at once.
func TestResetLink_disableNow(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex := s.token("alex", demoPassword)
		link := s.sendLink("alex", map[string]any{"disable_now": true})
		s.want(s.call(http.MethodGet, "/users/me", alex, nil), http.StatusUnauthorized, "unauthorized")
		s.want(s.signIn("alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.redeem(link, "maple orbit lantern quiet"), http.StatusNoContent, "")
		s.want(s.signIn("alex", "maple orbit lantern quiet"), http.StatusCreated, "")
	})
}

// A link goes to a confirmed address or nowhere.
func TestResetLink_needsAnAddress(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		s.want(s.call(http.MethodPatch, "/admin/users/"+bo+"/credentials", ada, map[string]string{"email": ""}), http.StatusOK, "")
		refused := s.want(s.reset(ada, bo, map[string]string{"method": "link"}), http.StatusUnprocessableEntity, "validation_failed")
		if codes := refused.fieldCodes(); len(codes) != 1 || codes[0] != "/method unavailable" {
			t.Errorf("got %v", codes)
		}
	})
}

// REC-04: what the database holds of a link opens nothing: neither the token nor the mail that carries it can be read there.
func TestLinks_areNotInTheDatabase(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex := s.token("alex", demoPassword)
		s.want(s.reset(s.token("ada", demoPassword), s.user("bo").ID, map[string]string{"method": "link"}), http.StatusOK, "")
		s.want(s.change(alex, map[string]string{"email": "alex@new.example", "username": "alex.reed"}), http.StatusOK, "")
		waiting := dump(t, s.databaseURL) // some of it may have left by now, the links stay
		tokens := []string{
			s.newest("bo@demo.example").token(t, "reset"), s.newest("alex@new.example").token(t, "confirm-email"), s.newest(alexAddress).token(t, "revert"),
		}
		for _, token := range tokens {
			for place, text := range map[string]string{"database": waiting + dump(t, s.databaseURL), "log": s.log.String()} {
				if strings.Contains(text, token) {
					t.Errorf("the %s holds a link's token", place)
				}
			}
		}
	})
}

// REC-10: a reset touches nothing of a user but the password and what goes with it.
func TestReset_changesNothingElse(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex := s.token("ada", demoPassword), s.user("alex").ID
		before := s.call(http.MethodGet, "/admin/users/"+alex, ada, nil)
		s.want(s.redeem(s.sendLink("alex", nil), "maple orbit lantern quiet"), http.StatusNoContent, "")
		s.want(s.reset(ada, alex, nil), http.StatusOK, "")
		after := s.call(http.MethodGet, "/admin/users/"+alex, ada, nil)
		for _, of := range []string{"must_change_password", "temporary_password_expires_at", "password_changed_at", "version", "sign_in"} {
			delete(before.body, of)
			delete(after.body, of)
		}
		for member, value := range before.body {
			if list, ok := value.([]any); ok && len(list) == 0 || member == "recent_sign_ins" {
				continue
			}
			if after.body[member] != value {
				t.Errorf("%s was %v and is %v", member, value, after.body[member])
			}
		}
	})
}
