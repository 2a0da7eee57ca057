package main

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/replay"
)

const idempotencyHeader = "Idempotency-Key"

// lostKey is the Idempotency-Key of a request whose answer is lost.
const lostKey = "6f2a9c1e-8d0b-4c1e-9a57-0d4f5b7c2e11"

// changes counts what was done, of an action, to a user.
func (s *service) changes(action audit.Action, id string) int {
	s.t.Helper()
	count := 0
	for _, e := range s.events(action) {
		if e.Outcome == audit.Done && e.Target.ID == id {
			count++
		}
	}
	return count
}

// sameAnswer fails the test unless the second answer is the first.
func (s *service) sameAnswer(first, second answer) {
	s.t.Helper()
	s.want(second, first.status, "")
	if !bytes.Equal(first.raw, second.raw) || first.header.Get("ETag") != second.header.Get("ETag") || first.header.Get("Content-Type") != second.header.Get("Content-Type") {
		s.t.Fatal("the second answer is not the first")
	}
}

// IDM-02, IDM-03, IDM-06, peers bugs 9 and 16: a phone lost the answer to its password change. The token from before gets that
// answer and nothing else; the key of another user is of no use.
func TestReplay_password(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		old, alex := s.token("alex", demoPassword), s.user("alex")
		elsewhere := s.token("alex", demoPassword)
		wanted := map[string]string{"current_password": demoPassword, "new_password": "canary lantern orbit five"}
		first := s.want(s.change(old, wanted, idempotencyHeader, lostKey), http.StatusOK, "")
		for range 2 {
			s.sameAnswer(first, s.change(old, wanted, idempotencyHeader, lostKey))
		}
		s.sameAnswer(first, s.change(first.text("access_token"), wanted, idempotencyHeader, lostKey))
		if count, mails := s.changes(audit.CredentialsChanged, alex.ID), len(s.mailbox(alexAddress)); count != 1 || mails != 1 {
			t.Errorf("%d events and %d mails of one change", count, mails)
		}
		other := map[string]string{"current_password": demoPassword, "new_password": "another lantern orbit five"}
		s.want(s.change(old, other, idempotencyHeader, lostKey), http.StatusUnprocessableEntity, "idempotency_key_reused")
		s.want(s.change(first.text("access_token"), other, idempotencyHeader, lostKey), http.StatusUnprocessableEntity, "idempotency_key_reused")

		for name, refused := range map[string]answer{
			"no key":               s.change(old, wanted),
			"another key":          s.change(old, wanted, idempotencyHeader, lostKey+"-2"),
			"a read":               s.call(http.MethodGet, "/users/me", old, nil, idempotencyHeader, lostKey),
			"a session that ended": s.change(elsewhere, wanted, idempotencyHeader, lostKey),
		} {
			if refused.status != http.StatusUnauthorized {
				t.Errorf("%s: %d", name, refused.status)
			}
		}
		bo := s.want(s.change(s.token("bo", demoPassword), wanted, idempotencyHeader, lostKey), http.StatusOK, "")
		if bo.text("user_id") != s.user("bo").ID {
			t.Error("another user's answer")
		}
		s.want(s.call(http.MethodGet, "/users/me", first.text("access_token"), nil), http.StatusOK, "")

		again := map[string]string{"current_password": wanted["new_password"], "new_password": "river lantern orbit nine"}
		s.want(s.change(first.text("access_token"), again), http.StatusOK, "")
		if late := s.change(old, wanted, idempotencyHeader, lostKey); late.status != http.StatusUnauthorized {
			t.Errorf("two changes later: %d", late.status)
		}
		for _, mark := range []string{"canary", lostKey} {
			if strings.Contains(s.log.String(), mark) {
				t.Errorf("the log holds %q", mark)
			}
		}
	})
}

// IDM-01, IDM-04, IDM-07, IDM-08: of 50 resets at once one is made; a refused one leaves its key free; a bad key is refused;
// the database does not hold the temporary password; after a day the key is new.
func TestReplay_reset(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo")
		for _, bad := range []string{"fifteen-letters", strings.Repeat("k", 129), "sixteen-letters-é", "sixteen\tletters-"} {
			s.want(s.reset(ada, bo.ID, nil, idempotencyHeader, bad), http.StatusBadRequest, "malformed_request")
		}
		s.want(s.reset(ada, bo.ID, nil, idempotencyHeader, lostKey, "If-Match", `"99"`), http.StatusPreconditionFailed, "precondition_failed")

		answers := make([]answer, 50)
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() {
				var err error
				if answers[i], err = s.try(http.MethodPost, "/admin/users/"+bo.ID+"/password-reset", ada, nil, idempotencyHeader, lostKey); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		first := s.want(s.reset(ada, bo.ID, nil, idempotencyHeader, lostKey), http.StatusOK, "")
		for _, a := range answers {
			if a.status == http.StatusConflict && a.code() == "idempotency_in_progress" && a.header.Get("Retry-After") != "" {
				continue
			}
			s.sameAnswer(first, a)
		}
		if count := s.changes(audit.PasswordReset, bo.ID); count != 1 {
			t.Errorf("%d resets", count)
		}
		stored := dump(t, s.databaseURL)
		if strings.Contains(stored, first.text("temporary_password")) || strings.Contains(stored, lostKey) {
			t.Error("the database holds the temporary password or the key")
		}

		s.clock.advance(replay.Life)
		if _, err := s.database().Sweep(t.Context(), s.clock.now().Add(-forgetAfter)); err != nil {
			t.Fatal(err)
		}
		if rows := rowsOf(t, connect(t, s.databaseURL), "SELECT * FROM idempotency_keys"); len(rows) != 0 {
			t.Errorf("%d keys are kept after a day", len(rows))
		}
		next := s.want(s.reset(s.token("ada", demoPassword), bo.ID, nil, idempotencyHeader, lostKey), http.StatusOK, "")
		if cmp.Equal(first.raw, next.raw) {
			t.Error("an answer of the day before")
		}
	})
}

// IDM-02: what was answered is answered again by a program that was started after the first one was killed; and what was saved just
// before the kill, whether its answer got out or not.
func TestReplay_killed(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			folder, db := dataFolder(t, url), connect(t, url)
			p := startProgram(t, url, folder)
			ada, bo, wanda := p.token("ada", demoPassword), p.user("bo"), p.user("wanda")
			first := p.want(p.reset(ada, bo.ID, nil, idempotencyHeader, lostKey), http.StatusOK, "")
			var asking sync.WaitGroup
			asking.Go(func() {
				_, _ = p.try(http.MethodPost, "/admin/users/"+wanda.ID+"/password-reset", ada, nil, idempotencyHeader, lostKey+"-2")
			})
			p.until("the second answer is kept", func() bool {
				return len(rowsOf(t, db, "SELECT 1 FROM idempotency_keys WHERE sealed IS NOT NULL")) == 2
			})
			p.kill()
			asking.Wait()
			p = startProgram(t, url, folder)
			ada = p.token("ada", demoPassword) // its port, and so the issuer of its tokens, is another
			p.sameAnswer(first, p.reset(ada, bo.ID, nil, idempotencyHeader, lostKey))
			second := p.want(p.reset(ada, wanda.ID, nil, idempotencyHeader, lostKey+"-2"), http.StatusOK, "")
			p.want(p.signIn("wanda", second.text("temporary_password")), http.StatusCreated, "")
			for _, u := range []demoUser{bo, wanda} {
				if count := p.changes(audit.PasswordReset, u.ID); count != 1 {
					t.Errorf("%d resets of %s", count, u.Username)
				}
			}
		})
	}
}
