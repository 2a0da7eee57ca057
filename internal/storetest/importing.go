package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/importing"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// newcomer is the user of a row: its id is "new-" and the number of the line.
func newcomer(line int) user.User {
	return with(alex(), user.ID(fmt.Sprintf("new-%d", line)), fmt.Sprintf("newcomer%d", line))
}

// loadOf hands out the users as rows from line 1 on, two at a time.
func loadOf(users ...user.User) importing.Load {
	var entries []importing.Entry
	for i, u := range users {
		entries = append(entries, importing.Entry{Line: i + 1, User: u, Event: event(audit.UserImported, u)})
	}
	return importing.Load{
		Accounts: []user.Account{{ID: "demo", Name: "Another name"}, {ID: "fresh", Name: "Fresh Sales"}},
		Entries: func(yield func([]importing.Entry, error) bool) {
			for batch := range slices.Chunk(entries, 2) {
				if !yield(batch, nil) {
					return
				}
			}
		},
	}
}

// imports counts the events that tell of imported users; the trail of the account must be whole.
func imports(t *testing.T, s *store.Store) int {
	t.Helper()
	ctx := context.Background()
	integrity, err := s.Integrity(ctx, "demo")
	if must(t, err); !integrity.Intact {
		t.Errorf("the trail: %+v", integrity)
	}
	events, err := s.AuditEvents(ctx, "demo", time.Time{}, 1000)
	must(t, err)
	count := 0
	for _, e := range events {
		if e.Action == audit.UserImported {
			count++
		}
	}
	return count
}

// testImport: imported users are what created ones are, in accounts that are made if they are new and else stay as they are.
func testImport(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	users := []user.User{newcomer(1), newcomer(2), newcomer(3)}
	users[0].Username = users[0].Email // one identifier for both
	users[1].AccountID, users[1].Role, users[1].AlsoManages = "fresh", user.Administrator, []user.Team{"/west/", "/north/"}
	users[2].Email, users[2].EmailVerified, users[2].Status, users[2].Password = "", false, user.Disabled, user.Password{}
	taken, err := s.ImportUsers(ctx, loadOf(users...))
	if must(t, err); taken != nil {
		t.Fatalf("taken: %+v", taken)
	}
	for _, u := range users {
		if diff := cmp.Diff(u, load(t, s, u.ID)); diff != "" {
			t.Error(diff)
		}
		member, err := s.MemberByUsername(ctx, identifier.Key(u.Username))
		if must(t, err); member.User.ID != u.ID {
			t.Errorf("%s is %s", u.Username, member.User.ID)
		}
		history, err := s.UsernameHistory(ctx, u.ID)
		must(t, err)
		if len(history) != 1 || history[0].Username != u.Username || history[0].By.Kind != access.Operator || !history[0].From.Equal(Now()) {
			t.Errorf("history of %s: %+v", u.ID, history)
		}
	}
	demo, err := s.Account(ctx, "demo")
	must(t, err)
	fresh, err := s.Account(ctx, "fresh")
	if must(t, err); demo.Name != "Demo Sales" || demo.Policy.MinLength != 12 || fresh.Name != "Fresh Sales" {
		t.Errorf("accounts: %+v, %+v", demo, fresh)
	}
	if n := imports(t, s); n != 2 { // and one in the other account
		t.Errorf("%d events", n)
	}
}

// testImportTaken: what is taken is named, and keeps all out or is left out.
func testImportTaken(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"))
	_, err := s.Commit(ctx, renameTo(load(t, s, "bo-1"), "beau", Now())) // holds bo
	must(t, err)
	_, err = s.Commit(ctx, renameTo(load(t, s, "alex-1"), "reed", Now().Add(-25*time.Hour))) // alex is free again
	must(t, err)
	users := make([]user.User, 7)
	for i := range users {
		users[i] = newcomer(i + 1)
	}
	users[1].ID = "alex-1"
	users[2].Username = "BO" // held
	users[4].Email = "Reed"  // nobody's username can equal somebody else's e-mail
	users[5].Username = "ALEX"
	want := []importing.Taken{{Line: 2, Column: "id"}, {Line: 3, Column: "username"}, {Line: 5, Column: "email"}}
	taken, err := s.ImportUsers(ctx, loadOf(users...))
	if diff := cmp.Diff(want, taken); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	for i := range users {
		_, err := s.Member(ctx, newcomer(i+1).ID)
		wantError(t, err, session.ErrNotFound)
	}
	_, err = s.Account(ctx, "fresh")
	wantError(t, err, session.ErrNotFound)
	if n := imports(t, s); n != 0 {
		t.Errorf("%d events", n)
	}

	some := loadOf(users...)
	some.LeaveOut = true
	taken, err = s.ImportUsers(ctx, some)
	if diff := cmp.Diff(want, taken); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	for i, u := range users {
		member, err := s.MemberByUsername(ctx, identifier.Key(u.Username))
		leftOut := slices.ContainsFunc(taken, func(left importing.Taken) bool { return left.Line == i+1 })
		if written := err == nil && member.User.ID == u.ID; written == leftOut {
			t.Errorf("line %d: written %v, %v", i+1, written, err)
		}
	}
	if n := imports(t, s); n != 4 {
		t.Errorf("%d events", n)
	}
}

// testImportBroken: whatever breaks an import off, nothing of it is there.
func testImportBroken(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	whole := loadOf(newcomer(1), newcomer(2), newcomer(3))
	gone := errors.New("the file is gone")
	broken := whole
	broken.Entries = func(yield func([]importing.Entry, error) bool) {
		for batch, err := range whole.Entries {
			if !yield(batch, err) {
				return
			}
		}
		yield(nil, gone)
	}
	_, err := s.ImportUsers(ctx, broken)
	wantError(t, err, gone)
	twice := loadOf(newcomer(1), newcomer(2), newcomer(3)) // the last event is there already: a fault, and nothing that is taken
	events, err := s.AuditEvents(ctx, "demo", time.Time{}, 1)
	must(t, err)
	entries := twice.Entries
	twice.Entries = func(yield func([]importing.Entry, error) bool) {
		for batch, err := range entries {
			if batch[0].Line == 3 {
				batch[0].Event.ID = events[0].ID
			}
			if !yield(batch, err) {
				return
			}
		}
	}
	if _, err := s.ImportUsers(ctx, twice); err == nil {
		t.Error("an event was written twice")
	}
	for line := range 3 {
		_, err := s.Member(ctx, newcomer(line+1).ID)
		wantError(t, err, session.ErrNotFound)
	}
	_, err = s.Account(ctx, "fresh")
	wantError(t, err, session.ErrNotFound)
	if n := imports(t, s); n != 0 {
		t.Errorf("%d events", n)
	}
}

// testParallelImports: of imports of the same users, in whatever order, one writes all and the others nothing.
func testParallelImports(t *testing.T, s *store.Store) {
	create(t, s, alex())
	errTaken := errors.New("taken")
	oneWins(t, parallel(6, func(i int) error {
		users := []user.User{newcomer(1), newcomer(2), newcomer(3), newcomer(4), newcomer(5)}
		if i%2 == 1 {
			slices.Reverse(users)
		}
		taken, err := s.ImportUsers(context.Background(), loadOf(users...))
		if err == nil && len(taken) > 0 {
			return errTaken
		}
		return err
	}), errTaken)
	if n := imports(t, s); n != 5 {
		t.Errorf("%d events", n)
	}
}

// testOccupied: what is there already is found, and what is free again is not.
func testOccupied(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"))
	_, err := s.Commit(ctx, renameTo(load(t, s, "bo-1"), "beau", Now()))
	must(t, err)
	_, err = s.Commit(ctx, renameTo(load(t, s, "alex-1"), "reed", Now().Add(-25*time.Hour)))
	must(t, err)
	found, err := s.Occupied(ctx, importing.Wanted{
		IDs: []user.ID{"alex-1", "alex-2"}, Keys: []string{"alex", "reed", "bo", "beau", "alex@demo.example", "carl"}, Accounts: []string{"demo", "fresh"},
	})
	want := importing.Found{
		IDs: map[user.ID]bool{"alex-1": true},
		Keys: map[string]importing.Holder{
			"reed": {UserID: "alex-1"}, "bo": {UserID: "bo-1", Held: true}, "beau": {UserID: "bo-1"}, "alex@demo.example": {UserID: "alex-1"},
		},
		Accounts: map[string]identifier.Rule{"demo": {Kind: identifier.Either}},
	}
	if diff := cmp.Diff(want, found); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	found, err = s.Occupied(ctx, importing.Wanted{})
	if must(t, err); len(found.IDs)+len(found.Keys)+len(found.Accounts) != 0 {
		t.Errorf("nothing was asked for: %+v", found)
	}
}
