package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A thief with alex's session takes the account over; alex uses the link of the first notice: every session ends, the names
// from before come back, the password is disabled until a reset, and those who manage alex are told. Peers bug 9: access
// tokens, refresh tokens and links of the thief are all dead.
func TestRevert(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		owner := s.token("alex", demoPassword)
		thief := s.want(s.signIn("alex", demoPassword), http.StatusCreated, "").text("access_token")
		confirmation := s.askEmail(thief, "thief@new.example")
		undo := s.newest(alexAddress, "thief@new.example").token(t, "revert")
		s.want(s.confirm(confirmation), http.StatusOK, "")
		s.newest(alexAddress, "thief@new.example").token(t, "revert")
		taken := s.want(s.change(thief, map[string]string{"username": "mine.now", "new_password": "violet harbor stone drift", "current_password": demoPassword}), http.StatusOK, "")
		s.want(s.call(http.MethodGet, "/users/me", owner, nil), http.StatusUnauthorized, "unauthorized")
		later := s.askNothing("thief@new.example")

		done := s.want(s.revert(undo), http.StatusOK, "")
		if done.text("username") != "alex" || done.text("email") != alexAddress || done.body["sessions_ended"] != 1.0 || done.body["access_token"] != nil {
			t.Errorf("got %s", done.raw)
		}
		s.want(s.call(http.MethodGet, "/users/me", taken.text("access_token"), nil), http.StatusUnauthorized, "unauthorized")
		s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": taken.text("refresh_token")}), http.StatusUnauthorized, "unauthorized")
		for _, name := range []string{"alex", "mine.now"} {
			for _, pw := range []string{demoPassword, "violet harbor stone drift"} {
				s.want(s.signIn(name, pw), http.StatusUnauthorized, "invalid_credentials")
			}
		}
		for _, link := range append(later, undo) { // those of later changes would bring the thief's names back
			s.want(s.revert(link), http.StatusUnprocessableEntity, "link_invalid")
		}
		s.newest(alexAddress, "administrator")
		s.newest("erin@demo.example", "alex")
		s.newest("ada@demo.example", "alex")
		if len(s.mailbox("oscar@other.example")) != 0 {
			t.Error("another account's administrator was told")
		}

		// Only a reset lets alex in again; the name that the thief had is held for alex, and free for nobody else.
		temporary := s.want(s.reset(s.token("ada", demoPassword), s.user("alex").ID, nil), http.StatusOK, "").text("temporary_password")
		s.want(s.signIn("alex", temporary), http.StatusCreated, "")
		s.want(s.change(s.token("bo", demoPassword), map[string]string{"username": "mine.now"}), http.StatusConflict, "identifier_taken")
	})
}

// askNothing returns the tokens of every link that undoes something in the mails to an address.
func (s *service) askNothing(to string) []string {
	s.t.Helper()
	var tokens []string
	for _, l := range s.mailbox(to) {
		for _, found := range mailedLink.FindAllStringSubmatch(l.Text, -1) {
			if found[2] == "revert" {
				tokens = append(tokens, found[3])
			}
		}
	}
	return tokens
}

// A link undoes within 7 days, and the names of before that very change. EML-02: it cancels an address that is pending.
func TestRevert_times(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex := s.token("alex", demoPassword)
		s.want(s.change(alex, map[string]string{"username": "first.name"}), http.StatusOK, "")
		first := s.newest(alexAddress, "first.name").token(t, "revert")
		s.clock.advance(time.Hour)
		alex = s.token("first.name", demoPassword)
		s.want(s.change(alex, map[string]string{"username": "second.name"}), http.StatusOK, "")
		second := s.newest(alexAddress, "second.name").token(t, "revert")
		confirmation := s.askEmail(alex, "alex@new.example")
		if done := s.want(s.revert(second), http.StatusOK, ""); done.text("username") != "first.name" {
			t.Errorf("got %s", done.raw)
		}
		s.want(s.confirm(confirmation), http.StatusUnprocessableEntity, "link_invalid")
		if done := s.want(s.revert(first), http.StatusOK, ""); done.text("username") != "alex" { // of an earlier change: it still brings back what was before
			t.Errorf("got %s", done.raw)
		}

		bo := s.token("bo", demoPassword)
		s.want(s.change(bo, map[string]string{"username": "bo.lind"}), http.StatusOK, "")
		late := s.newest("bo@demo.example", "bo.lind").token(t, "revert")
		s.clock.advance(7 * 24 * time.Hour)
		s.want(s.revert(late), http.StatusUnprocessableEntity, "link_invalid")
	})
}

// What an administrator changed cannot be undone this way, and an administrator's repair voids the links there are.
func TestRevert_administrators(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		repairs := map[string]func(ada, id string){
			"alex": func(ada, id string) { s.want(s.reset(ada, id, nil), http.StatusOK, "") },
			"bo": func(ada, id string) {
				s.want(s.call(http.MethodPatch, "/admin/users/"+id+"/credentials", ada, map[string]string{"username": "put.right"}), http.StatusOK, "")
			},
			"wanda": func(ada, id string) {
				s.want(s.reset(ada, id, map[string]any{"method": "link", "disable_now": true}), http.StatusOK, "")
			},
		}
		for name, repair := range repairs {
			address := name + "@demo.example"
			s.want(s.change(s.token(name, demoPassword), map[string]string{"username": name + ".two"}), http.StatusOK, "")
			undo := s.newest(address, name+".two").token(t, "revert")
			repair(s.token("ada", demoPassword), s.user(name).ID)
			s.want(s.revert(undo), http.StatusUnprocessableEntity, "link_invalid")
			if told := s.newest(address, "Ada Marsh"); strings.Contains(told.Text, "/revert#") {
				t.Errorf("%s: an administrator's doing comes with a link to undo it: %s", name, told.Text)
			}
		}
	})
}
