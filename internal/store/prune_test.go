package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
	"github.com/salesexec/credentials/internal/user"
)

// aged writes events of the account, one a day, and seals them.
func aged(t *testing.T, s *store.Store, account string, days ...int) {
	t.Helper()
	must(t, s.CreateAccount(t.Context(), user.Account{ID: account, Name: account}))
	for _, day := range days {
		e := event(audit.SignedIn, user.User{ID: "alex-1", AccountID: account})
		e.At = storetest.Now().AddDate(0, 0, day)
		_, err := s.Commit(t.Context(), change.Change{At: e.At, Audit: []audit.Event{e}})
		must(t, err)
		_, err = s.Seal(t.Context())
		must(t, err)
	}
}

// pruned prunes what is older than the day.
func pruned(t *testing.T, s *store.Store, account string, day int) store.Pruning {
	t.Helper()
	plan, err := s.PlanPruning(t.Context(), account, storetest.Now().AddDate(0, 0, day))
	must(t, err)
	must(t, s.Prune(t.Context(), account, plan))
	return plan
}

// exported returns the account's trail as lines.
func exported(t *testing.T, s *store.Store, account string) string {
	t.Helper()
	export, err := audit.NewTrail(s, storetest.Now).Open(t.Context(), audit.Query{Actor: access.Actor{Kind: access.Operator}, AccountID: account})
	must(t, err)
	var text bytes.Buffer
	must(t, export.Write(t.Context(), &text, func() error { return nil }))
	return text.String()
}

// wantWhole fails unless the chain is intact in the database and in an export, with so many events after so many.
func wantWhole(t *testing.T, s *store.Store, account string, after, events int64, heads ...string) audit.Integrity {
	t.Helper()
	got := check(t, s, account)
	if !got.Intact || got.Events != events || got.Checkpoint.Sequence != after || got.Sequence != after+events {
		t.Fatalf("want %d events after %d: %+v", events, after, got)
	}
	found, err := audit.Verify(strings.NewReader(exported(t, s, account)), audit.Expected{Heads: append(heads, got.Head)})
	must(t, err)
	if found.Events != events || found.After != after || found.Head != got.Head {
		t.Errorf("offline: %+v", found)
	}
	return got
}

// Retention: the oldest events go, and what is left is verifiable from a recorded checkpoint on, again and again; the chain tells
// of each pruning itself, and goes on where it ended.
func TestPrune(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		aged(t, s, "demo", -50, -40, -30, -20, -10, -45) // the last one came late
		aged(t, s, "other", -50)
		before := wantWhole(t, s, "demo", 0, 6)
		archive := exported(t, s, "demo")

		plan := pruned(t, s, "demo", -25)
		if plan.Events != 3 || plan.Checkpoint.Sequence != 3 || !plan.Newest.Equal(storetest.Now().AddDate(0, 0, -30)) {
			t.Errorf("%+v", plan)
		}
		wantWhole(t, s, "demo", 3, 4, before.Head) // three of old, and one that tells
		if left := db.rows(t, "SELECT count(*) FROM audit_events WHERE account_id = 'demo'"); left[0] != "4" {
			t.Errorf("%s events are left", left)
		}
		// What was exported before holds the link that the trail begins after now.
		if _, err := audit.Verify(strings.NewReader(archive), audit.Expected{Heads: []string{plan.Checkpoint.Chain}}); err != nil {
			t.Error(err)
		}

		if again := pruned(t, s, "demo", -25); again.Events != 0 || again.Checkpoint.Sequence != 3 {
			t.Errorf("again: %+v", again)
		}
		pruned(t, s, "demo", -5) // the late one with the others
		wantWhole(t, s, "demo", 6, 2)
		pruned(t, s, "demo", +1) // everything, what told of earlier prunings too
		wantWhole(t, s, "demo", 8, 1)
		aged(t, s, "demo", 2)
		last := wantWhole(t, s, "demo", 8, 2)
		if holds, err := s.Holds(t.Context(), audit.Head{AccountID: "demo", Sequence: before.Sequence, Chain: before.Head}); err != nil || !holds {
			t.Errorf("a head that was pruned is none that was lost: %v %v", holds, err)
		}
		if holds, err := s.Holds(t.Context(), audit.Head{AccountID: "demo", Sequence: last.Sequence + 1, Chain: last.Head}); err != nil || holds {
			t.Errorf("one that never was is: %v %v", holds, err)
		}
		wantWhole(t, s, "other", 0, 1)
	})
}

// A chain of which nothing is left goes on after its checkpoint, and not from the beginning.
func TestPrune_nothingIsLeft(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		aged(t, s, "demo", -50, -40)
		plan, err := s.PlanPruning(t.Context(), "demo", storetest.Now())
		must(t, err)
		must(t, s.Prune(t.Context(), "demo", plan))
		db.exec(t, "DELETE FROM audit_unsealed") // the event that tells is lost before it was sealed
		if got := check(t, s, "demo"); got.Intact {
			t.Errorf("%+v", got)
		}
		aged(t, s, "demo", 1)
		if seals := db.rows(t, "SELECT sequence FROM audit_seals"); fmt.Sprint(seals) != "[3]" {
			t.Errorf("links %v", seals)
		}
	})
}

// One that was interrupted leaves a whole chain, and the next finishes it.
func TestPrune_interrupted(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		aged(t, s, "demo", -50, -40, -30)
		remove := fault{"an event is removed", "DELETE", "audit_events", ""}.install(t, db)
		plan, err := s.PlanPruning(t.Context(), "demo", storetest.Now().AddDate(0, 0, -35))
		must(t, err)
		if err := s.Prune(t.Context(), "demo", plan); err == nil {
			t.Fatal("the fault did not show")
		}
		wantWhole(t, s, "demo", 2, 2)
		remove()
		if next := pruned(t, s, "demo", -35); next.Events != 0 {
			t.Errorf("%+v", next)
		}
		wantWhole(t, s, "demo", 2, 2)
		if left := db.rows(t, "SELECT count(*) FROM audit_events"); left[0] != "2" {
			t.Errorf("%s events are left", left)
		}
		if err := s.Prune(t.Context(), "demo", plan); !errors.Is(err, change.ErrConflict) {
			t.Errorf("the same plan again: %v", err)
		}
	})
}

// A chain that is not intact is evidence: nothing of it is pruned. And no made-up checkpoint passes for a pruning.
func TestPrune_brokenChains(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		aged(t, s, "demo", -50, -40, -30)
		db.exec(t, "UPDATE audit_events SET reason = 'other' WHERE id = (SELECT event_id FROM audit_seals WHERE sequence = 2)")
		if _, err := s.PlanPruning(t.Context(), "demo", storetest.Now()); !errors.Is(err, store.ErrBrokenChain) {
			t.Errorf("got %v", err)
		}

		aged(t, s, "forged", -50, -40, -30, -20)
		link := db.rows(t, "SELECT chain FROM audit_seals WHERE account_id = 'forged' AND sequence = 2")[0]
		db.exec(t, fmt.Sprintf("INSERT INTO audit_checkpoints (account_id, sequence, chain, pruned_at) VALUES ('forged', 2, '%s', '2026-03-01 12:00:00+00:00')", link),
			"DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_seals WHERE account_id = 'forged' AND sequence <= 2)",
			"DELETE FROM audit_seals WHERE account_id = 'forged' AND sequence <= 2")
		if got := check(t, s, "forged"); got.Intact || got.FirstBroken != "" || got.Events != 2 {
			t.Errorf("%+v", got)
		}
		if _, err := audit.Verify(strings.NewReader(exported(t, s, "forged")), audit.Expected{}); err == nil || !strings.Contains(err.Error(), "does not tell that they were pruned") {
			t.Errorf("offline: %v", err)
		}

		aged(t, s, "moved", -50, -40, -30, -20)
		pruned(t, s, "moved", -45)
		db.exec(t, "UPDATE audit_checkpoints SET sequence = 2, chain = (SELECT chain FROM audit_seals WHERE account_id = 'moved' AND sequence = 2) WHERE account_id = 'moved'")
		if got := check(t, s, "moved"); got.Intact {
			t.Errorf("%+v", got)
		}
	})
}

// AZ-18, LOG-06: the role of a running service cannot prune, and is told who can.
func TestPrune_serviceRole(t *testing.T) {
	owner := pgtest.Database(t, migrate)
	aged(t, opened(t, owner), "demo", -50, -40)
	s := opened(t, asServiceRole(t, owner))
	plan, err := s.PlanPruning(t.Context(), "demo", storetest.Now().Add(-time.Hour))
	must(t, err)
	if err := s.Prune(t.Context(), "demo", plan); !errors.Is(err, store.ErrNotOwner) {
		t.Errorf("got %v", err)
	}
	wantWhole(t, s, "demo", 0, 2)
}
