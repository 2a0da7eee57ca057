package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

// crew makes so many agents in the team /crew/ of the account demo and returns their ids, in order. They have an e-mail
// address and never had a password.
func (s *service) crew(number int) []string {
	s.t.Helper()
	db, ids := s.database(), make([]string, number)
	for i := range ids {
		name := fmt.Sprintf("crew-%03d", i)
		ids[i] = "u-" + name
		u := user.User{
			ID: user.ID(ids[i]), AccountID: "demo", Username: name, Email: name + "@demo.example", EmailVerified: true, DisplayName: "Crew " + strconv.Itoa(i),
			Role: user.Agent, Team: "/crew/", Status: user.Active, Generation: 1, Version: 1, Revision: 1, CreatedAt: s.clock.now(),
		}
		if err := createUser(context.Background(), db, u); err != nil {
			s.t.Fatal(err)
		}
	}
	return ids
}

const jobs = "/admin/password-resets"

// begin begins a job and returns its id.
func (s *service) begin(token string, body any) string {
	s.t.Helper()
	begun := s.want(s.call(http.MethodPost, jobs, token, body), http.StatusAccepted, "")
	if begun.header.Get("Location") != jobs+"/"+begun.text("id") {
		s.t.Errorf("Location is %q", begun.header.Get("Location"))
	}
	return begun.text("id")
}

func (s *service) job(token, id string) answer {
	s.t.Helper()
	return s.want(s.call(http.MethodGet, jobs+"/"+id, token, nil), http.StatusOK, "")
}

// finished waits until the job is over.
func (s *service) finished(token, id string) answer {
	s.t.Helper()
	return s.jobWhen(token, id, func(job answer) bool { return job.body["finished_at"] != nil })
}

// jobWhen waits until the job is as it is wanted.
func (s *service) jobWhen(token, id string, wanted func(job answer) bool) answer {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		job := s.job(token, id)
		if wanted(job) {
			return job
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the job does not get on: %s\n%s", job.raw, s.log)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// counts returns how many users of a job are in which state, and how many passwords wait.
func (a answer) counts() map[string]int {
	counts := map[string]int{}
	for _, name := range []string{"total", "done", "skipped", "failed", "cancelled", "passwords_waiting"} {
		if number := int(a.body[name].(float64)); number > 0 {
			counts[name] = number
		}
	}
	return counts
}

// results returns "state code" of every user of a job, by id, read in small pages.
func (s *service) results(token, id string) map[string]string {
	s.t.Helper()
	found := map[string]string{}
	for query := "?limit=7"; ; {
		page := s.want(s.call(http.MethodGet, jobs+"/"+id+"/results"+query, token, nil), http.StatusOK, "")
		for _, item := range page.items() {
			code, _ := item["code"].(string)
			found[item["user_id"].(string)] = strings.TrimSpace(item["state"].(string) + " " + code)
		}
		if page.body["next_cursor"] == nil {
			return found
		}
		query = "?limit=7&cursor=" + page.text("next_cursor")
	}
}

// foreseen is what a dry run tells in the words of results, read in small pages.
func (s *service) foreseen(token string, body map[string]any) map[string]string {
	s.t.Helper()
	found := map[string]string{}
	var summary map[string]any // of the first page alone
	body["dry_run"] = true
	defer delete(body, "dry_run")
	for query := "?limit=3"; ; {
		page := s.want(s.call(http.MethodPost, jobs+query, token, body), http.StatusOK, "")
		counted, first := page.body["summary"].(map[string]any)
		if first != (len(found) == 0) {
			s.t.Errorf("a summary comes with the first page alone: %s", page.raw)
		}
		if first {
			summary = counted
		}
		for _, item := range page.items() {
			state, code := "skipped", ""
			if item["would_reset"] == true {
				state = "done"
			} else {
				code = item["code"].(string)
			}
			found[item["user_id"].(string)] = strings.TrimSpace(state + " " + code)
		}
		if page.body["next_cursor"] == nil {
			done := 0
			for _, state := range found {
				if state == "done" {
					done++
				}
			}
			if summary["total"] != float64(len(found)) || summary["would_reset"] != float64(done) || summary["would_skip"] != float64(len(found)-done) {
				s.t.Errorf("the counts do not match the items: %v", summary)
			}
			return found
		}
		query = "?limit=3&cursor=" + page.text("next_cursor")
	}
}

// handedOut fetches temporary passwords, by username.
func (s *service) handedOut(token, id, query string) map[string]string {
	s.t.Helper()
	a := s.want(s.call(http.MethodPost, jobs+"/"+id+"/temporary-passwords"+query, token, nil), http.StatusOK, "")
	found := map[string]string{}
	for _, item := range a.items() {
		found[item["username"].(string)] = item["temporary_password"].(string)
	}
	return found
}

// actions counts the events of the account demo with an action, about each target.
func (s *service) actions(action audit.Action) map[string]int {
	s.t.Helper()
	events, err := s.database().AuditEvents(context.Background(), "demo", time.Time{}, 100_000)
	if err != nil {
		s.t.Fatal(err)
	}
	found := map[string]int{}
	for _, e := range events {
		if e.Action == action {
			found[e.Target.ID]++
		}
	}
	return found
}
