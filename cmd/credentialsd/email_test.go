package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const alexAddress = "alex@demo.example"

// askEmail asks for another address and returns the token of the mail to it.
func (s *service) askEmail(token, address string) string {
	s.t.Helper()
	s.want(s.change(token, map[string]string{"email": address, "current_password": demoPassword}), http.StatusOK, "")
	return s.newest(address, "confirm-email").token(s.t, "confirm-email")
}

// EML-01, NOT-01, NOT-02: a new address takes effect when it is confirmed and not before; the old one is told at once, and
// both are told when it is done.
func TestEmail_pendingUntilConfirmed(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		asked := s.want(s.change(token, map[string]string{"email": "alex@new.example"}), http.StatusOK, "")
		if asked.text("email") != alexAddress || asked.text("pending_email") != "alex@new.example" || asked.header.Get("ETag") != `"2"` {
			t.Errorf("pending: %s", asked.raw)
		}
		ada, id := s.token("ada", demoPassword), s.user("alex").ID // administrators see what waits
		if seen := s.want(s.call(http.MethodGet, "/admin/users/"+id, ada, nil), http.StatusOK, ""); seen.text("email") != alexAddress || seen.text("pending_email") != "alex@new.example" {
			t.Errorf("an administrator sees: %s", seen.raw)
		}
		s.newest(alexAddress, "alex@new.example").token(t, "revert")
		confirmation := s.newest("alex@new.example", "confirm-email").token(t, "confirm-email")

		done := s.want(s.confirm(confirmation), http.StatusOK, "")
		if done.text("email") != "alex@new.example" || done.text("username") != "alex" || done.body["access_token"] != nil {
			t.Errorf("confirmed: %s", done.raw)
		}
		mine := s.want(s.call(http.MethodGet, "/users/me/credentials", token, nil), http.StatusOK, "") // product.md decision 12: the token lives
		if mine.text("email") != "alex@new.example" || mine.body["email_verified"] != true || mine.body["pending_email"] != nil {
			t.Errorf("after it: %s", mine.raw)
		}
		if seen := s.want(s.call(http.MethodGet, "/admin/users/"+id, ada, nil), http.StatusOK, ""); seen.text("email") != "alex@new.example" || seen.body["pending_email"] != nil {
			t.Errorf("an administrator sees after it: %s", seen.raw)
		}
		s.want(s.confirm(confirmation), http.StatusUnprocessableEntity, "link_invalid")
		old, now := s.mailbox(alexAddress), s.mailbox("alex@new.example")
		if len(old) != 2 || len(now) != 2 {
			t.Fatalf("%d mails to the old address, %d to the new one", len(old), len(now))
		}
		if !old[1].hasLink() || now[1].hasLink() {
			t.Error("the link that undoes it belongs to the address from before alone")
		}
	})
}

// REC-05: a confirmation is good for 24 hours, once, until a newer one, until it is taken back, and until a new password.
func TestEmail_confirmationsEnd(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		first := s.askEmail(token, "a1@new.example")
		second := s.askEmail(token, "a2@new.example")
		s.want(s.confirm(first), http.StatusUnprocessableEntity, "link_invalid")
		back := s.want(s.change(token, map[string]string{"email": alexAddress}), http.StatusOK, "")
		if back.body["pending_email"] != nil {
			t.Errorf("taken back: %s", back.raw)
		}
		s.want(s.confirm(second), http.StatusUnprocessableEntity, "link_invalid")

		third := s.askEmail(token, "a3@new.example")
		fresh := s.want(s.change(token, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "")
		if fresh.body["pending_email"] != nil {
			t.Errorf("a new password takes a pending address back: %s", fresh.raw)
		}
		s.want(s.confirm(third), http.StatusUnprocessableEntity, "link_invalid")

		both := s.want(s.change(fresh.text("access_token"), map[string]string{
			"email": "a4@new.example", "new_password": demoPassword, "current_password": "maple orbit lantern quiet",
		}), http.StatusOK, "")
		if both.text("pending_email") != "a4@new.example" {
			t.Errorf("one request asks for both: %s", both.raw)
		}
		fourth := s.newest("a4@new.example", "confirm-email").token(t, "confirm-email")
		s.clock.advance(24*time.Hour + time.Second)
		s.want(s.confirm(fourth), http.StatusUnprocessableEntity, "link_invalid")
		mine := s.call(http.MethodGet, "/users/me/credentials", s.token("alex", demoPassword), nil)
		if mine.text("email") != alexAddress || mine.body["pending_email"] != nil {
			t.Errorf("expired: %s", mine.raw)
		}
	})
}

// EML-03, peers bug 6 (pending values), peers bug 15: whether an address is somebody else's cannot be told from the answer:
// same status, same members, same values, and the same statements before it. The owner is told, without learning by whom.
func TestEmail_takenLooksFree(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		bo, wanda := s.token("bo", demoPassword), s.token("wanda", demoPassword)
		free := s.want(s.change(bo, map[string]string{"email": "free@new.example"}), http.StatusOK, "")
		taken := s.want(s.change(wanda, map[string]string{"email": "olga@other.example"}), http.StatusOK, "")
		for _, a := range []answer{free, taken} {
			for _, own := range []string{"user_id", "username", "email", "pending_email", "password_changed_at"} {
				delete(a.body, own)
			}
		}
		if !maps.EqualFunc(free.body, taken.body, func(a, b any) bool { return a == b }) {
			t.Errorf("free %v, taken %v", free.body, taken.body)
		}
		for _, name := range []string{"Content-Type", "ETag", "RateLimit-Policy"} {
			if free.header.Get(name) != taken.header.Get(name) {
				t.Errorf("%s differs", name)
			}
		}
		told := s.mailbox("olga@other.example")
		if len(told) != 1 || told[0].hasLink() || strings.Contains(strings.ToLower(told[0].Text+told[0].HTML), "wanda") {
			t.Errorf("the owner is told, once: %+v", told)
		}
		s.newest("wanda@demo.example", "olga@other.example") // and so is the address on file, as always
		// The same address in another case is the same; the answer stays the same, and nothing was reserved for anybody.
		s.want(s.change(wanda, map[string]string{"email": "OLGA@other.example"}), http.StatusOK, "")
		s.want(s.change(s.token("olga", demoPassword), map[string]string{"email": "olga@other.example"}), http.StatusOK, "")
	})
}

// Peers bug 6: a pending address reserves nothing; the first of many confirmations at once wins, and no two get it.
func TestEmail_firstConfirmationWins(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		names := []string{"alex", "bo", "wanda", "erin"}
		tokens := make([]string, len(names))
		for i, name := range names {
			token := s.token(name, demoPassword)
			before := len(s.mailbox("team@new.example"))
			s.want(s.change(token, map[string]string{"email": "team@new.example"}), http.StatusOK, "")
			tokens[i] = s.mailbox("team@new.example")[before].token(t, "confirm-email")
		}
		statuses := make([]int, len(names))
		var running sync.WaitGroup
		for i, token := range tokens {
			running.Go(func() { statuses[i] = s.confirm(token).status })
		}
		running.Wait()
		slices.Sort(statuses)
		if !slices.Equal(statuses, []int{200, 422, 422, 422}) {
			t.Fatalf("got %v", statuses)
		}
		owners := 0
		for _, name := range names {
			if s.call(http.MethodGet, "/users/me/credentials", s.token(name, demoPassword), nil).text("email") == "team@new.example" {
				owners++
			}
		}
		if owners != 1 {
			t.Errorf("%d users own the address", owners)
		}
	})
}

// Peers bug 7: a username that is the e-mail address follows it, and the old address signs nobody in any more, nor can
// anybody else have it.
func TestEmail_usernameFollows(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		s.want(s.change(token, map[string]string{"username": alexAddress}), http.StatusOK, "")
		done := s.want(s.confirm(s.askEmail(token, "Alex.Reed@new.example")), http.StatusOK, "")
		if done.text("username") != "Alex.Reed@new.example" {
			t.Errorf("got %s", done.raw)
		}
		s.want(s.signIn(alexAddress, demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signIn("alex.reed@NEW.example", demoPassword), http.StatusCreated, "")
		ada := s.token("ada", demoPassword)
		s.want(s.call(http.MethodPatch, "/admin/users/"+s.user("bo").ID+"/credentials", ada, map[string]string{"email": alexAddress}), http.StatusConflict, "identifier_taken")
		history := s.want(s.call(http.MethodGet, "/admin/users/"+s.user("alex").ID+"/username-history", ada, nil), http.StatusOK, "")
		if items := history.body["items"].([]any); len(items) != 3 {
			t.Errorf("the names are in the history: %s", history.raw)
		}
	})
}

// EML-04, peers bug 10: links start with the configured URL whatever the request says, and the receiver is never read from
// anything but one address in the body.
func TestEmail_linksIgnoreTheRequest(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		for _, header := range []string{"Host", "X-Forwarded-Host", "Forwarded", "Origin", "X-Forwarded-Proto", "Referer"} {
			s.want(s.change(token, map[string]string{"email": "alex@new.example"}, header, "evil.example"), http.StatusOK, "")
			if base, _ := s.newest("alex@new.example").link(t, "confirm-email"); base != "https://credentials.example.com" {
				t.Errorf("%s: the link leads to %s", header, base)
			}
		}
		for _, body := range []string{
			`{"email":["alex@new.example","evil@new.example"]}`, `{"email":"a@new.example","email":"evil@new.example"}`,
			`{"email":{"to":"evil@new.example"}}`, `{"email":"a@new.example","Email":"evil@new.example"}`,
		} {
			s.want(s.change(token, body), http.StatusBadRequest, "malformed_request")
		}
		s.want(s.change(token, map[string]string{"email": "a@new.example,evil@new.example"}), http.StatusUnprocessableEntity, "validation_failed")
		if len(s.mailbox("evil@new.example")) != 0 {
			t.Error("a mail went to an address that nobody asked for in a clear way")
		}
	}, "PUBLIC_URL=https://credentials.example.com")
}

// Nobody's mailbox is filled by somebody else: ten mails an hour for one user, and ten to one address.
func TestEmail_mailsAreLimited(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex, bo := s.token("alex", demoPassword), s.token("bo", demoPassword)
		for range 10 {
			s.want(s.change(alex, map[string]string{"email": "victim@new.example"}), http.StatusOK, "")
		}
		for _, who := range []string{alex, bo} {
			refused := s.want(s.change(who, map[string]string{"email": "victim@new.example"}), http.StatusTooManyRequests, "throttled")
			if refused.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		s.want(s.change(bo, map[string]string{"email": "bo@new.example"}), http.StatusOK, "")
		if n := len(s.mailbox("victim@new.example")); n != 10 {
			t.Errorf("%d mails", n)
		}
		s.clock.advance(time.Hour)
		s.want(s.change(s.token("alex", demoPassword), map[string]string{"email": "victim@new.example"}), http.StatusOK, "")
	})
}
