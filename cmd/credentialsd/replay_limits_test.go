package main

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/audit"
)

// A dry run, what is refused and what is not there to hand out leave the key free: nothing was done that could be answered again.
func TestReplay_nothingDone(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex, ada := s.token("alex", demoPassword), s.token("ada", demoPassword)
		body := map[string]string{"current_password": "canary-wrong lantern", "new_password": "violet lantern orbit five"}
		s.want(s.change(alex, body, idempotencyHeader, lostKey), http.StatusForbidden, "wrong_current_password")
		body["current_password"] = demoPassword
		s.want(s.change(alex, body, idempotencyHeader, lostKey), http.StatusOK, "")

		wanted := map[string]any{"user_ids": []string{s.user("wanda").ID}, "reason": "Leak", "dry_run": true}
		s.want(s.call(http.MethodPost, jobs, ada, wanted, idempotencyHeader, lostKey), http.StatusOK, "")
		delete(wanted, "dry_run")
		s.want(s.call(http.MethodPost, jobs, ada, wanted, idempotencyHeader, lostKey), http.StatusAccepted, "")

		same := map[string]string{"username": "bo"} // as it is: what is answered is kept all the same
		path := "/admin/users/" + s.user("bo").ID + "/credentials"
		first := s.want(s.call(http.MethodPatch, path, ada, same, idempotencyHeader, lostKey+"-2"), http.StatusOK, "")
		s.want(s.call(http.MethodPatch, path, ada, map[string]string{"username": "bo.lund"}), http.StatusOK, "")
		s.sameAnswer(first, s.call(http.MethodPatch, path, ada, same, idempotencyHeader, lostKey+"-2"))
		if s.want(s.call(http.MethodGet, "/admin/users/"+s.user("bo").ID, ada, nil), http.StatusOK, "").text("username") != "bo.lund" {
			t.Error("what was asked for before the change undoes it")
		}
	})
}

// IDM-04: of a phone's impatient repetitions of one change one is carried out; the others get its answer, or are told to wait.
func TestReplay_parallel(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex, wanted := s.token("alex", demoPassword), map[string]string{"current_password": demoPassword, "new_password": "violet lantern orbit five"}
		answers := make([]answer, 20)
		var running sync.WaitGroup
		for i := range answers {
			running.Go(func() {
				answers[i], _ = s.try(http.MethodPatch, "/users/me/credentials", alex, wanted, idempotencyHeader, lostKey)
			})
		}
		running.Wait()
		first := s.want(s.change(alex, wanted, idempotencyHeader, lostKey), http.StatusOK, "")
		for _, a := range answers {
			if a.code() == "idempotency_in_progress" && a.status == http.StatusConflict {
				continue
			}
			s.sameAnswer(first, a)
		}
		if count, mails := s.changes(audit.CredentialsChanged, s.user("alex").ID), len(s.mailbox(alexAddress)); count != 1 || mails != 1 {
			t.Errorf("%d events and %d mails of one change", count, mails)
		}
	})
}

// IDM-06, SES-05: the token from before the change fetches the answer as long as nothing else is wrong with it.
func TestReplay_deadTokens(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada := s.token("ada", demoPassword)
		admin := func(method, name, rest string, body any) answer {
			return s.call(method, "/admin/users/"+s.user(name).ID+rest, ada, body)
		}
		for name, kill := range map[string]func(current string) answer{
			"alex": func(current string) answer { return s.call(http.MethodDelete, "/sessions/current", current, nil) },
			"bo":   func(string) answer { return admin(http.MethodPost, "bo", "/password-reset", nil) },
			"wanda": func(string) answer {
				return admin(http.MethodPatch, "wanda", "", map[string]string{"status": "disabled"})
			},
			"erin": func(string) answer { return admin(http.MethodDelete, "erin", "/sessions", nil) },
		} {
			old, wanted := s.token(name, demoPassword), map[string]string{"current_password": demoPassword, "new_password": "violet lantern orbit five"}
			first := s.want(s.change(old, wanted, idempotencyHeader, lostKey), http.StatusOK, "")
			s.sameAnswer(first, s.change(old, wanted, idempotencyHeader, lostKey))
			if done := kill(first.text("access_token")); done.status >= http.StatusBadRequest {
				t.Fatalf("%s: %d %s", name, done.status, done.raw)
			}
			s.want(s.change(old, wanted, idempotencyHeader, lostKey), http.StatusUnauthorized, "unauthorized")
			wanted["new_password"] = "another lantern orbit five"
			s.want(s.change(old, wanted, idempotencyHeader, lostKey), http.StatusUnauthorized, "unauthorized")
		}

		old, wanted := ada, map[string]string{"current_password": demoPassword, "new_password": "violet lantern orbit five"}
		s.want(s.change(old, wanted, idempotencyHeader, lostKey), http.StatusOK, "")
		for _, part := range []string{old[:strings.LastIndex(old, ".")+1] + "c2lnbmF0dXJl", old + "x"} {
			s.want(s.change(part, wanted, idempotencyHeader, lostKey), http.StatusUnauthorized, "unauthorized")
		}
		s.clock.advance(15*time.Minute + tokenLeeway + time.Second)
		s.want(s.change(old, wanted, idempotencyHeader, lostKey), http.StatusUnauthorized, "unauthorized")
	})
}
