package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

func policy() user.Policy {
	return user.Policy{MinLength: 20, BlockedWords: []string{"acme", "road runner"}, HoldDays: 40, ResetMethods: []user.ResetMethod{user.Set, user.Link}, MaxPlaces: 5}
}

func naming() identifier.Rule {
	return identifier.Rule{Kind: identifier.LoginName, Template: "{first}.{last}", MinLength: 3, MaxLength: 30, Reserved: []string{"desk", "sales"}}
}

func testSettings(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	want, err := s.Account(ctx, "demo")
	must(t, err)
	p, n := policy(), naming()
	for _, step := range []change.Settings{{Policy: &p, Version: 1}, {Naming: &n, Version: 1, Versions: []int64{1, 7}}} {
		step.AccountID = "demo"
		_, err := s.Commit(ctx, change.Change{At: Now(), Account: &step})
		must(t, err)
	}
	want.Policy, want.PolicyVersion, want.Naming, want.NamingVersion = p, 2, n, 2
	got, err := s.Account(ctx, "demo")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	member, err := s.Member(ctx, "alex-1")
	if diff := cmp.Diff(want, member.Account); err != nil || diff != "" {
		t.Fatalf("with the user: %v\n%s", err, diff)
	}
	// A stale version changes nothing, and one counts apart from the other.
	for name, c := range map[string]struct {
		settings change.Settings
		want     error
	}{
		"stale policy":       {change.Settings{AccountID: "demo", Policy: &user.Policy{}, Version: 1}, change.ErrConflict},
		"If-Match":           {change.Settings{AccountID: "demo", Policy: &user.Policy{}, Version: 2, Versions: []int64{1}}, change.ErrVersion},
		"no version matches": {change.Settings{AccountID: "demo", Naming: &identifier.Rule{}, Version: 2, Versions: []int64{}}, change.ErrVersion},
		"no such account":    {change.Settings{AccountID: "none", Policy: &user.Policy{}, Version: 1}, change.ErrConflict},
	} {
		_, err := s.Commit(ctx, change.Change{At: Now(), Account: &c.settings, Audit: []audit.Event{event(audit.PolicyChanged, alex())}})
		wantError(t, err, c.want)
		if got, err := s.Account(ctx, "demo"); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(want, got))
		}
	}
	// Back to what the deployment has.
	none := identifier.Rule{Kind: identifier.Either}
	for _, step := range []change.Settings{{Policy: &user.Policy{}, Version: 2}, {Naming: &none, Version: 2}} {
		step.AccountID = "demo"
		_, err := s.Commit(ctx, change.Change{At: Now(), Account: &step})
		must(t, err)
	}
	bare := user.Account{ID: "demo", Name: "Demo Sales", PolicyVersion: 3, Naming: none, NamingVersion: 3}
	if got, err := s.Account(ctx, "demo"); err != nil || !cmp.Equal(got, bare) {
		t.Errorf("%v %s", err, cmp.Diff(bare, got))
	}
	_, err = s.Account(ctx, "none")
	wantError(t, err, session.ErrNotFound)
}

func testParallelSettings(t *testing.T, s *store.Store) {
	create(t, s, alex())
	oneWins(t, parallel(12, func(i int) error {
		p := user.Policy{MinLength: 10 + i}
		_, err := s.Commit(context.Background(), change.Change{
			At: Now(), Account: &change.Settings{AccountID: "demo", Policy: &p, Version: 1}, Audit: []audit.Event{event(audit.PolicyChanged, alex())},
		})
		return err
	}), change.ErrConflict)
	events, err := s.AuditEvents(context.Background(), "demo", time.Time{}, 100)
	if must(t, err); len(events) != 2 { // of the user's creation, and of the one change
		t.Errorf("%d events", len(events))
	}
}

func testEmailSignsIn(t *testing.T, s *store.Store) {
	ctx := context.Background()
	unsure := with(alex(), "bo-1", "bo")
	unsure.EmailVerified = false
	create(t, s, alex(), unsure)
	find := func(key string, want error) {
		t.Helper()
		member, err := s.MemberByUsername(ctx, key)
		if want == nil && (err != nil || member.User.ID != "alex-1") || want != nil {
			wantError(t, err, want)
		}
	}
	find("alex@demo.example", session.ErrNotFound)
	for version, kind := range []identifier.Kind{identifier.OwnEmail, identifier.LoginName, identifier.OwnEmail} {
		rule := identifier.Rule{Kind: kind}
		_, err := s.Commit(ctx, change.Change{At: Now(), Account: &change.Settings{AccountID: "demo", Naming: &rule, Version: int64(version + 1)}})
		must(t, err)
		find("alex", nil)
		find("bo@demo.example", session.ErrNotFound) // not confirmed
		if kind == identifier.OwnEmail {
			find("alex@demo.example", nil)
		} else {
			find("alex@demo.example", session.ErrNotFound)
		}
	}
	// Peers bug 7: an address that was given up signs nobody in, while it is held and after.
	moved := load(t, s, "alex-1")
	moved.Email = ""
	_, err := s.Commit(ctx, change.Change{
		At: Now(), Target: &change.Guard{UserID: "alex-1", Revision: 1}, User: &moved,
		Release: []change.Release{{Key: "alex@demo.example", UserID: "alex-1", HeldUntil: Now().Add(time.Hour)}},
	})
	must(t, err)
	find("alex@demo.example", session.ErrNotFound)
}

func testFree(t *testing.T, s *store.Store) {
	ctx := context.Background()
	bo, ada := with(alex(), "bo-1", "bo"), with(alex(), "ada-1", "ada")
	create(t, s, alex(), bo, ada)
	release := func(key string, at time.Time, owner change.Guard) error {
		_, err := s.Commit(ctx, change.Change{
			At: at, Target: &owner, Free: &change.Free{Key: key, UserID: owner.UserID}, Audit: []audit.Event{event(audit.NameReleased, alex())},
		})
		return err
	}
	owner := change.Guard{UserID: "alex-1", Revision: 1}
	wantError(t, release("alex", Now(), owner), change.ErrConflict) // in use
	_, err := s.Commit(ctx, renameTo(load(t, s, "alex-1"), "reed", Now()))
	must(t, err)
	found, err := s.Identifier(ctx, "alex")
	if must(t, err); found.UserID != "alex-1" || found.AccountID != "demo" || !found.HeldUntil.Equal(Now().Add(24*time.Hour)) {
		t.Errorf("held: %+v", found)
	}
	if found, err = s.Identifier(ctx, "reed"); err != nil || found.HeldUntil != nil {
		t.Errorf("in use: %+v, %v", found, err)
	}
	wantError(t, release("alex", Now(), owner), change.ErrConflict) // the owner was changed meanwhile
	owner.Revision = 2
	wantError(t, release("alex", Now(), change.Guard{UserID: "bo-1", Revision: 1}), change.ErrConflict)    // not bo's
	wantError(t, release("alex", Now().Add(24*time.Hour), owner), change.ErrConflict)                      // free already
	oneWins(t, parallel(10, func(int) error { return release("alex", Now(), owner) }), change.ErrConflict) // and once alone
	_, err = s.Identifier(ctx, "alex")
	wantError(t, err, session.ErrNotFound)
	_, err = s.Commit(ctx, renameTo(load(t, s, "bo-1"), "alex", Now())) // now it is anybody's
	must(t, err)

	// Taken back by its owner and released at the same moment: one of the two, never a name that is in use and free.
	_, err = s.Commit(ctx, renameTo(load(t, s, "ada-1"), "lovelace", Now()))
	must(t, err)
	ada = load(t, s, "ada-1")
	errs := parallel(2, func(i int) error {
		if i == 0 {
			return release("ada", Now(), change.Guard{UserID: "ada-1", Revision: ada.Revision})
		}
		_, err := s.Commit(ctx, renameTo(ada, "ada", Now()))
		return err
	})
	found, err = s.Identifier(ctx, "ada")
	if renamed := load(t, s, "ada-1").Username == "ada"; errs[1] != nil || !renamed || err != nil || found.HeldUntil != nil {
		t.Errorf("released %v, taken back %v (called so: %v), found %+v, %v", errs[0], errs[1], renamed, found, err)
	}
}

func testLiveSessions(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"))
	for i := range 5 {
		must(t, s.OpenSession(ctx, opening(fmt.Sprintf("session-%d", i))))
	}
	for id, spoil := range map[string]func(*session.Session){
		"spoilt-1": func(o *session.Session) { o.ExpiresAt = Now() },
		"spoilt-2": func(o *session.Session) { o.Generation = 0 },
		"spoilt-3": func(o *session.Session) { at := Now(); o.EndedAt = &at },
		"spoilt-4": func(o *session.Session) { o.UserID = "bo-1" },
	} {
		o := opening(id)
		spoil(&o.Session)
		o.Guard.UserID = o.Session.UserID
		must(t, s.OpenSession(ctx, o))
	}
	list := func(after string, limit int) []string {
		t.Helper()
		sessions, err := s.LiveSessions(ctx, alex(), Now(), after, limit)
		must(t, err)
		ids := []string{}
		for _, one := range sessions {
			ids = append(ids, one.ID)
		}
		return ids
	}
	if diff := cmp.Diff([]string{"session-4", "session-3", "session-2"}, list("", 3)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"session-1", "session-0"}, list("session-2", 3)); diff != "" {
		t.Error(diff)
	}
	end := func(id string) error {
		_, err := s.Commit(ctx, change.Change{At: Now(), End: &change.EndSessions{UserID: "alex-1", Only: id, Live: true, Why: "ended_by_user"}})
		return err
	}
	oneWins(t, parallel(8, func(int) error { return end("session-3") }), change.ErrConflict)
	for _, none := range []string{"session-3", "spoilt-1", "spoilt-3", "spoilt-4", "none"} {
		wantError(t, end(none), change.ErrConflict)
	}
	if diff := cmp.Diff([]string{"session-4", "session-2", "session-1", "session-0"}, list("", 50)); diff != "" {
		t.Error(diff)
	}
}

func testActivity(t *testing.T, s *store.Store) {
	ctx := context.Background()
	bo := with(alex(), "bo-1", "bo")
	create(t, s, alex(), bo)
	var want []string
	record := func(seen bool, at time.Time, e audit.Event) {
		t.Helper()
		e.At = at
		_, err := s.Commit(ctx, change.Change{At: at, Audit: []audit.Event{e}})
		must(t, err)
		if seen {
			want = append([]string{e.ID}, want...)
		}
	}
	self, elsewhere, abroad := access.Actor{Kind: access.Person, User: alex()}, alex(), access.Actor{Kind: access.Person, User: bo}
	elsewhere.AccountID = "other" // as an administrator of another account who asked for this id is told of there
	by := func(action audit.Action, outcome audit.Outcome, actor access.Actor, target user.User) audit.Event {
		return audit.New(action, outcome, actor, target, access.Origin{}, Now())
	}
	first, err := s.Activity(ctx, alex(), nil, 10)
	if must(t, err); len(first) != 1 || first[0].Action != audit.UserCreated {
		t.Fatalf("%+v", first)
	}
	want = append(want, first[0].ID)
	record(true, Now(), by(audit.SignInFailed, audit.Refused, access.Actor{}, alex()))
	record(true, Now(), by(audit.SignedIn, audit.Done, self, alex())) // at the very same time
	record(true, Now().Add(time.Second), by(audit.ChangeRefused, audit.Refused, self, alex()))
	record(false, Now().Add(time.Second), by(audit.ChangeRefused, audit.Refused, abroad, alex()))    // what an administrator could not do
	record(false, Now().Add(time.Second), by(audit.ChangeRefused, audit.Refused, abroad, elsewhere)) // nor one of another account
	record(false, Now().Add(time.Second), by(audit.PasswordReset, audit.Done, abroad, elsewhere))    // nor what is told there
	record(false, Now().Add(time.Second), by(audit.PasswordRehashed, audit.Done, self, alex()))      // nothing that a user could tell
	record(false, Now().Add(time.Second), by(audit.CredentialsChanged, audit.Done, abroad, bo))      // somebody else's
	record(false, Now().Add(time.Second), audit.About(audit.PolicyChanged, audit.Done, abroad, user.Account{ID: "alex-1"}, access.Origin{}, Now()))
	record(true, Now().Add(2*time.Second), by(audit.PasswordReset, audit.Done, abroad, alex()))

	var got []string
	var before *audit.Position
	for range 10 {
		events, err := s.Activity(ctx, alex(), before, 2)
		must(t, err)
		if len(events) == 0 {
			break
		}
		for _, e := range events {
			got, before = append(got, e.ID), &audit.Position{At: e.At, ID: e.ID}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
