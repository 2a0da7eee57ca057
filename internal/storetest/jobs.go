package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/bulk"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// beginJob writes a job over so many users, who need not exist.
func beginJob(t *testing.T, s *store.Store, id string, number int) change.NewJob {
	t.Helper()
	j := change.NewJob{
		ID: id, AccountID: "demo", Begun: audit.Party{Kind: access.Person, ID: "ada", Username: "ada", Name: "Ada Marsh"}, SessionID: "session-1",
		Issuer: "https://id.example", Scopes: []string{"a", "b"}, Method: "temporary", Reason: "Leak",
		Origin: access.Origin{RequestID: "request-1", IP: "192.0.2.1", UserAgent: "test", OnBehalfOf: "kim"}, At: Now(), Unfinished: 2,
	}
	for i := range number {
		j.Users = append(j.Users, user.ID(fmt.Sprintf("u-%05d", i)))
	}
	_, err := s.Commit(context.Background(), change.Change{At: Now(), Job: &j})
	must(t, err)
	return j
}

func settled(item bulk.Claimed, state change.ItemState, code string) change.Change {
	return change.Change{At: Now(), Settle: &change.Settle{Item: change.Item{JobID: item.Job.ID, UserID: item.UserID, Lease: item.Lease}, State: state, Code: code}}
}

func testJobs(t *testing.T, s *store.Store) {
	create(t, s)
	ctx := context.Background()
	begun := beginJob(t, s, "job-1", 3)
	want := bulk.Job{
		ID: "job-1", AccountID: "demo", Begun: begun.Begun, SessionID: "session-1", Issuer: "https://id.example", Scopes: []string{"a", "b"}, Method: "temporary",
		Reason: "Leak", Origin: begun.Origin, Status: change.JobQueued, CreatedAt: Now(), Items: audit.Items{Total: 3},
	}
	job, err := s.Job(ctx, "job-1")
	must(t, err)
	if diff := cmp.Diff(want, job); diff != "" {
		t.Error(diff)
	}
	_, err = s.Job(ctx, "job-2")
	wantError(t, err, session.ErrNotFound)
	beginJob(t, s, "job-2", 1)
	_, err = s.Commit(ctx, change.Change{At: Now(), Job: &change.NewJob{ID: "job-3", AccountID: "demo", At: Now(), Unfinished: 2}})
	wantError(t, err, change.ErrTooManyJobs)
	jobs, err := s.Jobs(ctx, "demo", nil, "", 10)
	must(t, err)
	if len(jobs) != 2 || jobs[0].ID != "job-2" || jobs[1].Items.Total != 3 {
		t.Errorf("%+v", jobs)
	}
	jobs, err = s.Jobs(ctx, "demo", &audit.Party{Kind: access.Service, ID: "ada"}, "", 10)
	if err != nil || len(jobs) != 0 {
		t.Errorf("%+v, %v", jobs, err)
	}
	_, err = s.Commit(ctx, change.Change{At: Now(), EndJob: &change.EndJob{ID: "job-1", Status: change.JobCompleted}})
	wantError(t, err, change.ErrConflict) // there are pending items
	result, err := s.Commit(ctx, change.Change{At: Now(), EndJob: &change.EndJob{ID: "job-1", Status: change.JobCancelled, Rest: change.ItemCancelled}})
	if err != nil || result.Job != (audit.Items{Total: 3, Cancelled: 3}) {
		t.Errorf("%+v, %v", result, err)
	}
	_, err = s.Commit(ctx, change.Change{At: Now(), EndJob: &change.EndJob{ID: "job-1", Status: change.JobCompleted}})
	wantError(t, err, change.ErrConflict) // it is over
}

// The lease and the state decide who settles an item: one alone, once, and nothing else of the change is saved without it.
func testItems(t *testing.T, s *store.Store) {
	create(t, s, alex())
	ctx := context.Background()
	beginJob(t, s, "job-1", 1)
	stale, found, err := s.ClaimItem(ctx, Now(), Now().Add(time.Minute))
	if err != nil || !found || stale.Job.Reason != "Leak" {
		t.Fatalf("%+v, %v, %v", stale, found, err)
	}
	if _, found, err := s.ClaimItem(ctx, Now(), Now().Add(time.Minute)); found || err != nil {
		t.Errorf("a leased item was claimed: %v", err)
	}
	fresh, found, err := s.ClaimItem(ctx, Now().Add(time.Minute), Now().Add(2*time.Minute)) // the first lease is over
	if err != nil || !found || fresh.Lease == stale.Lease {
		t.Fatalf("%+v, %v, %v", fresh, found, err)
	}
	reset := settled(stale, change.ItemDone, "")
	after := alex()
	after.Version++
	reset.Target, reset.User = &change.Guard{UserID: after.ID, Revision: 1}, &after
	_, err = s.Commit(ctx, reset)
	wantError(t, err, change.ErrSettled)
	if u := load(t, s, after.ID); u.Version != 1 {
		t.Error("a user was changed by who had lost the lease")
	}
	must(t, s.PostponeItem(ctx, stale, Now(), true)) // not its item any more: nothing happens
	reset.Settle.Lease = fresh.Lease
	_, err = s.Commit(ctx, reset)
	must(t, err)
	for _, lease := range []string{fresh.Lease, ""} {
		late := settled(fresh, change.ItemFailed, "late")
		late.Settle.Lease = lease
		_, err = s.Commit(ctx, late)
		wantError(t, err, change.ErrSettled)
	}
	wantDone(t, s)
}

// wantDone holds that the only item of job-1 is done, and that nothing is left of the job.
func wantDone(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := context.Background()
	drained, err := s.DrainedJobs(ctx)
	if err != nil || len(drained) != 1 || drained[0].ID != "job-1" {
		t.Errorf("%+v, %v", drained, err)
	}
	items, err := s.Items(ctx, "job-1", change.ItemDone, "", 10)
	if err != nil || len(items) != 1 || items[0].SettledAt == nil || items[0].ExpiresAt != nil {
		t.Errorf("%+v, %v", items, err)
	}
}

// Replicas that claim at once get different items, each once.
func testParallelClaimsOfItems(t *testing.T, s *store.Store) {
	create(t, s)
	const number = 60
	beginJob(t, s, "job-1", number/2)
	beginJob(t, s, "job-2", number/2)
	var mu sync.Mutex
	claimed := map[string]int{}
	var running sync.WaitGroup
	for range 6 {
		running.Go(func() {
			for {
				item, found, err := s.ClaimItem(context.Background(), Now(), Now().Add(time.Minute))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if found {
					claimed[item.Job.ID+string(item.UserID)]++
				}
				enough := len(claimed) == number
				mu.Unlock()
				if err != nil || enough {
					return
				}
			}
		})
	}
	running.Wait()
	for item, times := range claimed {
		if times != 1 {
			t.Errorf("%s was claimed %d times", item, times)
		}
	}
	if _, found, err := s.ClaimItem(context.Background(), Now(), Now().Add(time.Minute)); found || err != nil {
		t.Errorf("one was left: %v", err)
	}
}

// REC-04: a temporary password is sealed in the database, handed out once, and swept when its time is over.
func testTemporaries(t *testing.T, s *store.Store) {
	create(t, s, with(alex(), "u-00000", "bo"), with(alex(), "u-00001", "cy"), with(alex(), "u-00002", "di"))
	ctx := context.Background()
	beginJob(t, s, "job-1", 3)
	for {
		item, found, err := s.ClaimItem(ctx, Now(), Now().Add(time.Minute))
		must(t, err)
		if !found {
			break
		}
		c := settled(item, change.ItemDone, "")
		c.Settle.Password, c.Settle.ExpiresAt = secret.New("temporary of "+string(item.UserID)), Now().Add(time.Hour)
		_, err = s.Commit(ctx, c)
		must(t, err)
	}
	found, err := s.Temporaries(ctx, "job-1", Now(), "u-00000", 1)
	if err != nil || len(found) != 1 || found[0].UserID != "u-00001" || found[0].Password.Reveal() != "temporary of u-00001" || !found[0].ExpiresAt.Equal(Now().Add(time.Hour)) {
		t.Fatalf("%+v, %v", found, err)
	}
	handOut := func(guards ...change.Guard) error {
		_, err := s.Commit(ctx, change.Change{At: Now(), HandOut: &change.HandOut{JobID: "job-1", Users: guards}})
		return err
	}
	first, second := change.Guard{UserID: "u-00000", Revision: 1}, change.Guard{UserID: "u-00001", Revision: 1}
	wantError(t, handOut(first, change.Guard{UserID: "u-00001", Revision: 2}), change.ErrConflict) // a user was changed: neither goes
	must(t, handOut(first, second))
	wantError(t, handOut(second, change.Guard{UserID: "u-00002", Revision: 1}), change.ErrConflict)
	job, err := s.Job(ctx, "job-1")
	if err != nil || job.Passwords != 1 {
		t.Errorf("%d wait, %v", job.Passwords, err)
	}
	wantSwept(t, s)
}

// wantSwept holds that temporary passwords of job-1 end after their hour, and its items with the job.
func wantSwept(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := context.Background()
	if late, err := s.Temporaries(ctx, "job-1", Now().Add(time.Hour), "", 10); err != nil || len(late) != 0 {
		t.Errorf("%d are good too long, %v", len(late), err)
	}
	swept, err := s.Sweep(ctx, Now())
	if err != nil || swept != 0 { // its hour is not over
		t.Errorf("swept %d, %v", swept, err)
	}
	_, err = s.Commit(ctx, change.Change{At: Now().Add(-time.Hour), EndJob: &change.EndJob{ID: "job-1", Status: change.JobCompleted}})
	must(t, err)
	swept, err = s.Sweep(ctx, Now())
	if err != nil || swept != 4 { // the job and its items
		t.Errorf("swept %d, %v", swept, err)
	}
	_, err = s.Job(ctx, "job-1")
	wantError(t, err, session.ErrNotFound)
}
