package main

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
)

// each returns the number one for every id.
func each(ids []string) map[string]int {
	ones := map[string]int{}
	for _, id := range ids {
		ones[id] = 1
	}
	return ones
}

// A job survives kill -9: the next process goes on with it, and each user is reset exactly once, with its event, its password
// and its result.
func TestBulk_kill(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			folder := dataFolder(t, url)
			p := startProgram(t, url, folder)
			ids, ada := p.crew(60), p.token("ada", demoPassword)
			id := p.begin(ada, map[string]any{"user_ids": ids, "reason": "Leak"})
			for _, done := range []int{3, 10, 20} {
				p.jobWhen(ada, id, func(job answer) bool { return job.counts()["done"] >= done })
				p.kill()
				execute(t, url, "UPDATE bulk_items SET due_at = (SELECT created_at FROM bulk_jobs WHERE id = job_id) WHERE lease <> ''") // leases are over
				p = startProgram(t, url, folder)
				ada = p.token("ada", demoPassword)
				if p.job(ada, id).text("status") == "completed" {
					t.Fatal("the job was over before it could be interrupted again")
				}
			}
			job := p.finished(ada, id)
			if diff := cmp.Diff(map[string]int{"total": 60, "done": 60, "passwords_waiting": 60}, job.counts()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(each(ids), p.actions(audit.PasswordReset)); diff != "" {
				t.Errorf("users reset: %s", diff)
			}
			if diff := cmp.Diff(map[string]int{"": 1}, p.actions(audit.JobCompleted)); diff != "" {
				t.Errorf("completed: %s", diff)
			}
			handed := p.handedOut(ada, id, "?limit=200")
			if len(handed) != 60 {
				t.Errorf("%d passwords are there", len(handed))
			}
			p.token("crew-000", handed["crew-000"])
			p.token("crew-059", handed["crew-059"])
			p.kill()
			if integrity, err := p.database().Integrity(context.Background(), "demo"); err != nil || !integrity.Intact {
				t.Errorf("the chain is broken: %+v, %v", integrity, err)
			}
		})
	}
}

// Two replicas on one database share a job: both reset users, and each user is reset once. A job goes on where a replica ends.
func TestBulk_twoReplicas(t *testing.T) {
	url := databaseURL(t, "postgres")
	one := start(t, url)
	two := start(t, url)
	ids, ada := one.crew(60), one.token("ada", demoPassword)
	id := one.begin(ada, map[string]any{"user_ids": ids, "reason": "Leak"})
	const done = `credentials_bulk_reset_users_total{state="done"}`
	one.jobWhen(ada, id, func(answer) bool { return one.metric(done) > 0 && two.metric(done) > 0 })
	byOne := func() float64 { by := one.metric(done); one.stop(); return by }()
	ada = two.token("ada", demoPassword) // the replicas of dev are issuers of their own
	job := two.finished(ada, id)
	if diff := cmp.Diff(map[string]int{"total": 60, "done": 60, "passwords_waiting": 60}, job.counts()); diff != "" {
		t.Error(diff)
	}
	if by := two.metric(done); byOne == 0 || by == 0 || byOne+by > 60 { // the first may have done one more after it was asked
		t.Errorf("%v and %v users were reset", byOne, by)
	}
	if diff := cmp.Diff(each(ids), two.actions(audit.PasswordReset)); diff != "" {
		t.Errorf("users reset: %s", diff)
	}
}
