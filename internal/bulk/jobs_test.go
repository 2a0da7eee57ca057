package bulk_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/bulk"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/user"
)

// An account has at most ten unfinished jobs; one that ends makes room. The refusal is on record.
func TestBegin_tooMany(t *testing.T) {
	on(t, func(t *testing.T, h *house) {
		var first string
		for range 10 {
			first = h.begin()
		}
		wanted := bulk.Wanted{Selection: bulk.Selection{Filter: &credential.Filter{Team: "/"}}, Reason: "Leak"}
		if _, err := h.jobs.Begin(t.Context(), h.actor("ada"), wanted); !errors.Is(err, change.ErrTooManyJobs) {
			t.Fatalf("got %v", err)
		}
		if refused := h.events(audit.ChangeRefused); len(refused) != 1 || refused[0].Details.Code != "too_many_jobs" {
			t.Errorf("on record: %+v", refused)
		}
		if _, err := h.jobs.Cancel(t.Context(), h.actor("ada"), first, access.Origin{}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.jobs.Begin(t.Context(), h.actor("ada"), wanted); err != nil {
			t.Fatal(err)
		}
	})
}

// AZ-17: an administrator who was demoted after the request was let in begins, cancels and fetches nothing.
func TestJobs_staleActor(t *testing.T) {
	on(t, func(t *testing.T, h *house) {
		id := h.begin()
		h.work()
		running := h.begin()
		stale := h.actor("ada")
		h.alter("ada", func(u *user.User) { u.Role = user.Agent })
		_, err := h.jobs.Begin(t.Context(), stale, bulk.Wanted{Selection: bulk.Selection{UserIDs: []user.ID{"agent-0"}}, Reason: "Leak"})
		if !errors.Is(err, change.ErrConflict) {
			t.Errorf("begin: %v", err)
		}
		if _, err := h.jobs.Cancel(t.Context(), stale, running, access.Origin{}); !errors.Is(err, change.ErrConflict) {
			t.Errorf("cancel: %v", err)
		}
		if handed, err := h.jobs.HandOut(t.Context(), stale, id, bulk.Handing{Limit: 10}); !errors.Is(err, change.ErrConflict) || handed.Passwords != nil {
			t.Errorf("hand out: %v, %v", handed, err)
		}
		if told := h.events(audit.PasswordHandedOut); len(told) != 0 {
			t.Errorf("%d are said to be handed out", len(told))
		}
	})
}

// REC-04: of callers who fetch temporary passwords at once, each password reaches one, and one only.
func TestHandOut_parallel(t *testing.T) {
	on(t, func(t *testing.T, h *house) {
		id := h.begin()
		h.work()
		var mu sync.Mutex
		reached := map[user.ID]int{}
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				for {
					handed, err := h.jobs.HandOut(t.Context(), h.actor("ada"), id, bulk.Handing{Limit: 2})
					if err != nil && !errors.Is(err, change.ErrConflict) {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, one := range handed.Passwords {
						reached[one.UserID]++
					}
					mu.Unlock()
					if err == nil && handed.Waiting == 0 && len(handed.Passwords) == 0 {
						return
					}
				}
			})
		}
		running.Wait()
		told := map[string]int{}
		for _, e := range h.events(audit.PasswordHandedOut) {
			told[e.Target.ID]++
		}
		if len(reached) != 5 || len(told) != 5 {
			t.Errorf("reached %v, told %v", reached, told)
		}
		for id, times := range reached {
			if times != 1 || told[string(id)] != 1 {
				t.Errorf("%s: reached %d callers, told %d times", id, times, told[string(id)])
			}
		}
	})
}

// A short job does not wait for a long one: they take turns, user by user.
func TestRunner_takesTurns(t *testing.T) {
	on(t, func(t *testing.T, h *house) {
		long, short := h.begin(), h.begin()
		seen := map[string]int{}
		for range 4 {
			item, found, err := h.store.ClaimItem(t.Context(), h.now(), h.now().Add(leaseForTests))
			if err != nil || !found {
				t.Fatalf("%v, %v", found, err)
			}
			seen[item.Job.ID]++
		}
		if seen[long] != 2 || seen[short] != 2 {
			t.Errorf("taken up: %v", seen)
		}
	})
}
