package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
)

// peers section 4 "bulk" (nobody offers it): thousands are reset by one request, with what came of each, and temporary passwords
// that are shown once. Here two dozen and one who is signed in.
func TestBulk(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ids, ada := s.crew(24), s.token("ada", demoPassword)
		alex := s.token("alex", demoPassword)
		id := s.begin(ada, map[string]any{"user_ids": append(slices.Clone(ids), s.user("alex").ID, ids[0]), "reason": "Shared their passwords"})
		job := s.finished(ada, id)
		if diff := cmp.Diff(map[string]int{"total": 25, "done": 25, "passwords_waiting": 25}, job.counts()); diff != "" || job.text("status") != "completed" {
			t.Errorf("%s\n%s", job.raw, diff)
		}
		if by := job.body["begun_by"].(map[string]any); by["username"] != "ada" || job.text("reason") != "Shared their passwords" || job.text("method") != "temporary" {
			t.Errorf("%s", job.raw)
		}
		s.want(s.call(http.MethodGet, "/users/me", alex, nil), http.StatusUnauthorized, "unauthorized") // its sessions have ended

		first := s.handedOut(ada, id, "?limit=20")
		second := s.handedOut(ada, id, "")
		if len(first) != 20 || len(second) != 5 || len(s.handedOut(ada, id, "")) != 0 {
			t.Errorf("handed out %d and %d", len(first), len(second))
		}
		all := map[string]string{}
		for _, some := range []map[string]string{first, second} {
			for name, temporary := range some {
				all[name] = temporary
			}
		}
		if len(all) != 25 {
			t.Errorf("%d users got a password", len(all))
		}
		for _, name := range []string{"alex", "crew-000", "crew-023"} {
			opened := s.want(s.signIn(name, all[name]), http.StatusCreated, "")
			if opened.body["must_change_password"] != true {
				t.Errorf("%s", opened.raw)
			}
		}
		resets, handed := s.actions(audit.PasswordReset), s.actions(audit.PasswordHandedOut)
		for _, user := range append(ids, s.user("alex").ID) {
			if resets[user] != 1 || handed[user] != 1 {
				t.Errorf("%s: reset %d times, handed out %d times", user, resets[user], handed[user])
			}
		}
		checkJobTrail(t, s, ada, id)
		if text := s.log.String() + dump(t, s.databaseURL); strings.Contains(text, all["crew-000"]) { // also once it was handed out
			t.Error("a temporary password is in the log or in the database")
		}
	})
}

// checkJobTrail looks at what the audit trail tells of a job of 25 users.
func checkJobTrail(t *testing.T, s *service, token, id string) {
	t.Helper()
	about := s.trail(token, "?action=password.reset&limit=1", http.StatusOK, "").items()[0]
	if details := about["details"].(map[string]any); details["job"] != id || details["method"] != "temporary" || about["reason"] != "Shared their passwords" {
		t.Errorf("%v", about)
	}
	for _, action := range []string{"job.begun", "job.completed"} {
		items := s.trail(token, "?action="+action, http.StatusOK, "").items()
		if len(items) != 1 {
			t.Fatalf("%d events %s", len(items), action)
		}
		details := items[0]["details"].(map[string]any)
		if details["job"] != id || details["items"].(map[string]any)["total"] != float64(25) || items[0]["actor"].(map[string]any)["username"] != "ada" {
			t.Errorf("%v", items[0])
		}
	}
}

// AZ-17, product.md decision 5: what a dry run tells is what then happens, user by user: those out of reach, those who do not
// exist, and oneself are left out, each with its reason, and nobody can tell the first from the second.
func TestBulk_dryRun(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		erin, ada := s.token("erin", demoPassword), s.token("ada", demoPassword)
		everybody := []string{"nobody-1"}
		for _, u := range s.demo.Users {
			everybody = append(everybody, u.ID)
		}
		of := func(name string) string { return s.user(name).ID }
		execute(t, s.databaseURL, "UPDATE users SET email_verified = false WHERE id = '"+of("alex")+"'")
		for _, c := range []struct {
			token, method string
			selection     map[string]any
			want          map[string]string
		}{
			{erin, "link", map[string]any{"user_ids": everybody}, map[string]string{
				"nobody-1": "skipped not_found", of("ada"): "skipped not_found", of("erin"): "skipped use_self_service", of("alex"): "skipped no_confirmed_email",
				of("bo"): "done", of("wanda"): "skipped not_found", of("dora"): "done", of("oscar"): "skipped not_found", of("olga"): "skipped not_found"}},
			{erin, "temporary", map[string]any{"filter": map[string]any{"team": "/"}}, map[string]string{
				of("erin"): "skipped use_self_service", of("alex"): "done", of("bo"): "done", of("dora"): "done"}},
			{ada, "temporary", map[string]any{"filter": map[string]any{"team": "/east/", "status": "active", "role": "agent"}}, map[string]string{
				of("alex"): "done", of("bo"): "done"}},
			{ada, "temporary", map[string]any{"filter": map[string]any{"query": "nobody has this name"}}, map[string]string{}},
		} {
			body := map[string]any{"method": c.method, "reason": "Audit"}
			for name, value := range c.selection {
				body[name] = value
			}
			before := len(s.actions(audit.PasswordReset)) + len(s.actions(audit.ResetLinkSent)) + len(s.actions(audit.ChangeRefused))
			foreseen := s.foreseen(c.token, body)
			if diff := cmp.Diff(c.want, foreseen); diff != "" {
				t.Errorf("foreseen: %s", diff)
			}
			if after := len(s.actions(audit.PasswordReset)) + len(s.actions(audit.ResetLinkSent)) + len(s.actions(audit.ChangeRefused)); after != before {
				t.Errorf("a dry run did something")
			}
			if c.token == erin && s.call(http.MethodGet, "/users/me", erin, nil).status != http.StatusOK {
				t.Fatal("a dry run has reset somebody")
			}
			id := s.begin(c.token, body)
			s.finished(c.token, id)
			if diff := cmp.Diff(foreseen, s.results(c.token, id)); diff != "" {
				t.Errorf("foreseen (-), done (+): %s", diff)
			}
		}
	})
}

// The method link mails each user a link, and hands nothing out.
func TestBulk_links(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.crew(3)
		ada := s.token("ada", demoPassword)
		id := s.begin(ada, map[string]any{"filter": map[string]any{"team": "/crew/"}, "method": "link", "reason": "Leak"})
		job := s.finished(ada, id)
		if diff := cmp.Diff(map[string]int{"total": 3, "done": 3}, job.counts()); diff != "" {
			t.Error(diff)
		}
		if handed := s.handedOut(ada, id, ""); len(handed) != 0 {
			t.Errorf("handed out %v", handed)
		}
		var token string
		for deadline := time.Now().Add(time.Minute); token == ""; <-time.After(20 * time.Millisecond) {
			for _, l := range s.mailbox("crew-001@demo.example") {
				_, token = l.link(t, "reset")
			}
			if time.Now().After(deadline) {
				t.Fatal("no mail")
			}
		}
		s.want(s.call(http.MethodPost, "/password-resets/redeem", "", map[string]string{"token": token, "new_password": "maple orbit lantern quiet"}), http.StatusNoContent, "")
		s.token("crew-001", "maple orbit lantern quiet")
	})
}

// A job is cancelled between two users: who was reset stays so, the others are as they were, and nothing of it is half done.
func TestBulk_cancel(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ids, ada := s.crew(60), s.token("ada", demoPassword)
		id := s.begin(ada, map[string]any{"user_ids": ids, "reason": "Leak"})
		s.jobWhen(ada, id, func(job answer) bool { return job.counts()["done"] > 2 })
		cancel := jobs + "/" + id + "/cancel"
		cancelled := s.want(s.call(http.MethodPost, cancel, ada, nil), http.StatusOK, "")
		counts := cancelled.counts()
		if cancelled.text("status") != "cancelled" || counts["done"]+counts["cancelled"] != 60 || counts["cancelled"] == 0 {
			t.Fatalf("%s", cancelled.raw)
		}
		again := s.want(s.call(http.MethodPost, cancel, ada, nil), http.StatusOK, "")
		if again.text("finished_at") != cancelled.text("finished_at") {
			t.Errorf("it was cancelled twice: %s", again.raw)
		}
		resets := s.actions(audit.PasswordReset)
		for user, state := range s.results(ada, id) {
			u := s.want(s.call(http.MethodGet, "/admin/users/"+user, ada, nil), http.StatusOK, "")
			done := state == "done"
			if done != (u.body["version"] == float64(2)) || done != (resets[user] == 1) {
				t.Errorf("%s is %s: version %v, %d events", user, state, u.body["version"], resets[user])
			}
		}
		if told := s.actions(audit.JobCancelled); told[""] != 1 {
			t.Errorf("told %v", told)
		}
		if handed := s.handedOut(ada, id, "?limit=200"); len(handed) != counts["done"] { // they were made, and are needed
			t.Errorf("%d passwords of %d", len(handed), counts["done"])
		}
		completed := s.begin(ada, map[string]any{"user_ids": ids[:1], "reason": "Leak"})
		s.finished(ada, completed)
		s.want(s.call(http.MethodPost, jobs+"/"+completed+"/cancel", ada, nil), http.StatusConflict, "conflict")
	})
}

// REC-05: temporary passwords are sealed until they are handed out, gone a day later, and not handed out when they are no
// longer the user's or the user is out of reach.
func TestBulk_temporaryPasswords(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ids, ada, erin := s.crew(6), s.token("ada", demoPassword), s.token("erin", demoPassword)
		execute(t, s.databaseURL, "UPDATE users SET team = '/east/' WHERE team = '/crew/'")
		id := s.begin(erin, map[string]any{"user_ids": ids, "reason": "Leak"})
		s.finished(erin, id)
		if sealed := rowsOf(t, connect(t, s.databaseURL), "SELECT user_id FROM bulk_items WHERE sealed IS NOT NULL"); len(sealed) != 6 {
			t.Fatalf("%d are sealed", len(sealed))
		}
		execute(t, s.databaseURL, "UPDATE users SET team = '/west/', revision = revision + 1 WHERE id = '"+ids[0]+"'")
		newer := s.want(s.reset(ada, ids[1], nil), http.StatusOK, "").text("temporary_password")
		handed := s.handedOut(erin, id, "?limit=2")
		if diff := cmp.Diff([]string{"crew-002", "crew-003"}, slices.Sorted(mapKeys(handed))); diff != "" {
			t.Errorf("handed out: %s", diff)
		}
		s.token("crew-001", newer)
		// An administrator of the whole company may fetch what another's job made.
		if handed := s.handedOut(ada, id, "?limit=1"); len(handed) != 1 || handed["crew-000"] == "" {
			t.Errorf("handed out %v", handed)
		}
		s.clock.advance(24 * time.Hour)
		ada = s.token("ada", demoPassword)
		if handed := s.handedOut(ada, id, ""); len(handed) != 0 || s.job(ada, id).counts()["passwords_waiting"] != 0 {
			t.Errorf("handed out %v a day later", handed)
		}
		if _, err := s.database().Sweep(t.Context(), s.clock.now().Add(-forgetAfter)); err != nil {
			t.Fatal(err)
		}
		if sealed := rowsOf(t, connect(t, s.databaseURL), "SELECT user_id FROM bulk_items WHERE sealed IS NOT NULL"); len(sealed) != 0 {
			t.Errorf("%d are still sealed", len(sealed))
		}
		s.clock.advance(forgetAfter)
		if _, err := s.database().Sweep(t.Context(), s.clock.now().Add(-forgetAfter)); err != nil {
			t.Fatal(err)
		}
		s.want(s.call(http.MethodGet, jobs+"/"+id, s.token("ada", demoPassword), nil), http.StatusNotFound, "not_found")
	})
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// ERR-01, AZ-13: what no job can be made of is refused with everything that is wrong with it, and is on record.
func TestBulk_refusals(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada := s.token("ada", demoPassword)
		many := func(number int) []string {
			ids := make([]string, number)
			for i := range ids {
				ids[i] = fmt.Sprintf("%064d", i)
			}
			return ids
		}
		one := []string{"u-1"}
		for _, c := range []struct {
			query  string
			body   map[string]any
			fields []string
		}{
			{"", map[string]any{"reason": ""}, []string{"/reason required", "/user_ids required"}},
			{"", map[string]any{"user_ids": one, "filter": map[string]any{"team": "/"}, "reason": "x"}, []string{"/user_ids required"}},
			{"", map[string]any{"user_ids": []string{}, "reason": "x"}, []string{"/user_ids required"}},
			{"", map[string]any{"user_ids": []string{"u-1", "a b", "", "\x00"}, "reason": "x"}, []string{"/user_ids/1 invalid", "/user_ids/2 invalid", "/user_ids/3 invalid"}},
			{"", map[string]any{"filter": map[string]any{}, "reason": "x"}, []string{"/filter required"}},
			{"", map[string]any{"filter": map[string]any{"team": "east", "status": "gone", "role": "owner", "query": "\x00"}, "reason": "x"},
				[]string{"/filter/query invalid", "/filter/team invalid", "/filter/status invalid", "/filter/role invalid"}},
			{"", map[string]any{"user_ids": one, "method": "set", "reason": strings.Repeat("x", 501)}, []string{"/reason too_long", "/method invalid"}},
			{"", map[string]any{"user_ids": many(50_001), "reason": "x"}, []string{"/user_ids too_long"}},
			{"?limit=5", map[string]any{"user_ids": one, "reason": "x"}, []string{"/dry_run invalid"}},
			{"?limit=0&cursor=%20", map[string]any{"user_ids": one, "reason": "x", "dry_run": true}, []string{"/limit invalid", "/cursor invalid"}},
		} {
			a := s.want(s.call(http.MethodPost, jobs+c.query, ada, c.body), http.StatusUnprocessableEntity, "validation_failed")
			if diff := cmp.Diff(c.fields, a.fieldCodes()); diff != "" {
				t.Error(diff)
			}
		}
		if refused := s.actions(audit.ChangeRefused); refused[""] != 8 {
			t.Errorf("%v are on record", refused)
		}
		s.want(s.call(http.MethodPost, jobs, ada, map[string]any{"user_ids": one, "reason": "x", "whom": "all"}), http.StatusBadRequest, "malformed_request")
		s.want(s.call(http.MethodPost, jobs, ada, `{"reason":"`+strings.Repeat("x", 4<<20)+`"}`), http.StatusRequestEntityTooLarge, "body_too_large")
		dry := s.want(s.call(http.MethodPost, jobs, ada, map[string]any{"user_ids": many(50_000), "reason": "x", "dry_run": true}), http.StatusOK, "")
		if summary, _ := dry.body["summary"].(map[string]any); summary["would_skip"] != float64(50_000) {
			t.Errorf("%s", dry.raw[:200])
		}
		large := `{"reason":"` + strings.Repeat("x", 20<<10) + `"}`
		s.want(s.reset(ada, s.user("bo").ID, large), http.StatusRequestEntityTooLarge, "body_too_large") // everything else stays small
	})
}

// product.md decision 5: a job is the affair of who began it, and of administrators of the whole company; to everybody else it
// does not exist.
func TestBulk_whoseJobs(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin, oscar := s.token("ada", demoPassword), s.token("erin", demoPassword), s.token("oscar", demoPassword)
		service := serviceToken(s, access.ScopeReset)
		whole := map[string]any{"filter": map[string]any{"team": "/west/"}, "reason": "Leak"}
		of := map[string]string{"ada": s.begin(ada, whole), "service": s.begin(service, whole)}
		of["erin"] = s.begin(erin, map[string]any{"filter": map[string]any{"team": "/east/boston/"}, "reason": "Leak"})
		for name, c := range map[string]struct {
			token string
			sees  []string
		}{"ada": {ada, []string{"ada", "erin", "service"}}, "erin": {erin, []string{"erin"}}, "oscar": {oscar, nil}, "service": {service, []string{"service"}}} {
			for owner, id := range of {
				want := http.StatusNotFound
				if slices.Contains(c.sees, owner) {
					want = http.StatusOK
				}
				for _, path := range []string{"", "/results"} {
					if a := s.call(http.MethodGet, jobs+"/"+id+path, c.token, nil); a.status != want {
						t.Errorf("%s on %s's job%s: %d, want %d", name, owner, path, a.status, want)
					}
				}
				if a := s.call(http.MethodPost, jobs+"/"+id+"/temporary-passwords?limit=1", c.token, nil); a.status != want {
					t.Errorf("%s fetches passwords of %s's job: %d, want %d", name, owner, a.status, want)
				}
				if want == http.StatusNotFound {
					s.want(s.call(http.MethodPost, jobs+"/"+id+"/cancel", c.token, nil), want, "not_found")
				}
			}
			var listed []string
			for query := "?limit=1"; ; {
				page := s.want(s.call(http.MethodGet, jobs+query, c.token, nil), http.StatusOK, "")
				for _, item := range page.items() {
					listed = append(listed, item["id"].(string))
				}
				if page.body["next_cursor"] == nil {
					break
				}
				query = "?limit=1&cursor=" + page.text("next_cursor")
			}
			if len(listed) != len(c.sees) || !slices.IsSortedFunc(listed, func(a, b string) int { return strings.Compare(b, a) }) {
				t.Errorf("%s is shown %v", name, listed)
			}
		}
	})
}

// A service resets by its scope, administrators by another one, and within one account by name if it works for all of them.
func TestBulk_services(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		body := map[string]any{"user_ids": []string{s.user("erin").ID, s.user("bo").ID, s.user("olga").ID}, "reason": "Leak"}
		want := map[string]string{s.user("erin").ID: "skipped not_found", s.user("bo").ID: "done", s.user("olga").ID: "skipped not_found"}
		plain, wide := serviceToken(s, access.ScopeReset), serviceToken(s, access.ScopeReset+" "+access.ScopeResetAdministrators)
		id := s.begin(plain, body)
		s.finished(plain, id)
		if diff := cmp.Diff(want, s.results(plain, id)); diff != "" {
			t.Error(diff)
		}
		want[s.user("erin").ID] = "done"
		id = s.begin(wide, body)
		s.finished(wide, id)
		if diff := cmp.Diff(want, s.results(wide, id)); diff != "" {
			t.Error(diff)
		}
		s.want(s.call(http.MethodPost, jobs+"?account_id=other", wide, body), http.StatusNotFound, "not_found")

		alterDemoClient(t, s, "account_id = NULL")
		all := serviceToken(s, access.ScopeReset)
		s.want(s.call(http.MethodPost, jobs, all, body), http.StatusUnprocessableEntity, "validation_failed")
		s.want(s.call(http.MethodPost, jobs+"?account_id=nowhere", all, body), http.StatusNotFound, "not_found")
		other := s.want(s.call(http.MethodPost, jobs+"?account_id=other", all, body), http.StatusAccepted, "").text("id")
		s.finished(all, other)
		want = map[string]string{s.user("erin").ID: "skipped not_found", s.user("bo").ID: "skipped not_found", s.user("olga").ID: "done"}
		if diff := cmp.Diff(want, s.results(all, other)); diff != "" {
			t.Error(diff)
		}
		listed := s.want(s.call(http.MethodGet, jobs+"?"+url.Values{"account_id": {"other"}}.Encode(), all, nil), http.StatusOK, "").items()
		if len(listed) != 1 || listed[0]["id"] != other || listed[0]["account_id"] != "other" {
			t.Errorf("%v", listed)
		}
	})
}
