// Package storetest is the conformance suite of the store: one behaviour on every database, races included.
//
// It depends on the testing package, on store and on the domain's words; only tests use it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// Now is the time of every change the suite makes.
func Now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC) }

// Run runs the suite. open returns a migrated, empty database of the test's own.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	for name, test := range map[string]func(*testing.T, *store.Store){
		"AZ-21 a fresh database has no user":                       testFresh,
		"members are found by id and folded username":              testMembers,
		"identifiers are claimed, held and taken back":             testIdentifiers,
		"USR-04 20 parallel claims of a name: one wins":            testParallelClaims,
		"AZ-17 PRE-03 stale guards change nothing":                 testGuards,
		"sessions open, rotate and end":                            testSessions,
		"THR-04 counters are exact under parallel attempts":        testThrottles,
		"THR-08 rates are exact under parallel requests":           testRates,
		"settings of an account are versioned":                     testSettings,
		"parallel settings: one wins":                              testParallelSettings,
		"an e-mail signs in where the rule says so":                testEmailSignsIn,
		"a held name is released once":                             testFree,
		"live sessions are listed, and ended once":                 testLiveSessions,
		"uses of sessions are told in the order of time":           testUses,
		"a user's activity is the user's own":                      testActivity,
		"SigningKeys are sealed and one of two new ones wins":      testSigningKeys,
		"clients are registered, disabled and listed":              testClients,
		"CFG-03 clients' secrets overlap and end":                  testClientRotation,
		"IDM-04 one of several requests holds a key":               testKeys,
		"IDM-02 an answer is kept with its change or not":          testKeptAnswers,
		"IDM-08 keys whose time is over are swept":                 testSweptKeys,
		"events are chained without a gap by parallel sealers":     testSealing,
		"the trail is read in pages, each event once":              testTrailPages,
		"the trail is narrowed by filters":                         testTrailFilters,
		"AZ-03 the trail is narrowed by reach":                     testTrailReach,
		"a new user is there whole or not at all":                  testCreate,
		"the last administrator stays, of any number at once":      testLastAdministrator,
		"who a change is about is held to the revision":            testHoldTarget,
		"imported users are what created ones are":                 testImport,
		"an import names what is taken, and is all or none":        testImportTaken,
		"AZ-16 an import that breaks off leaves no trace":          testImportBroken,
		"USR-04 parallel imports: one writes all":                  testParallelImports,
		"an import is told what is there already":                  testOccupied,
		"users are listed in pages, each once":                     testListing,
		"a service of all accounts lists each user once":           testListingEverywhere,
		"who held a name is found in generated histories":          testAttribution,
		"heads are noted and found again":                          testHeads,
		"messages are leased, and settled by the holder":           testOutbox,
		"parallel claimers get different messages":                 testParallelLeases,
		"NOT-04 parallel relays deliver each message once":         testRelays,
		"what is over is swept":                                    testSweep,
		"jobs are begun, listed and ended":                         testJobs,
		"an item is settled once, by who holds its lease":          testItems,
		"parallel claims of items get different ones":              testParallelClaimsOfItems,
		"REC-04 temporary passwords are handed out once":           testTemporaries,
		"EVT-06 events are queued with their change or not at all": testQueue,
		"a stream is one client's, and changed by one at a time":   testStreams,
		"SSF-08 events are handed out in order for each subject":   testHandout,
		"PSH-05 claims of pushes are exclusive, and end":           testClaims,
		"PSH-03 PSH-04 pushes are settled":                         testSettling,
		"SSF-08 what was revived is not overdue":                   testRevived,
		"equal rules for subjects at once are one":                 testParallelRules,
		"event keys are sealed and one of two new ones wins":       testEventKeys,
		"migrating again does nothing":                             testMigrateAgain,
		"AZ-16 a change that fails half-way leaves no trace":       testHalfWay,
		"parallel writers of one user: one wins, none is lost":     testParallelWriters,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func alex() user.User {
	at := Now()
	return user.User{
		ID: "alex-1", AccountID: "demo", Team: "/east/", Role: user.Agent, DisplayName: "Alex Reed", Status: user.Active, Username: "Alex",
		Email: "alex@demo.example", EmailVerified: true, AlsoManages: []user.Team{}, Generation: 1, Version: 1, Revision: 1, CreatedAt: at,
		Password: user.Password{Hash: "hash-1", SetBy: user.SetByOperator, ChangedAt: &at},
	}
}

func with(u user.User, id user.ID, name string) user.User {
	u.ID, u.Username, u.Email = id, name, name+"@demo.example"
	return u
}

func event(action audit.Action, u user.User) audit.Event {
	return audit.New(action, audit.Done, access.Actor{Kind: access.Operator}, u, access.Origin{RequestID: "request-1", IP: "192.0.2.1"}, Now())
}

func create(t *testing.T, s *store.Store, users ...user.User) {
	t.Helper()
	ctx := context.Background()
	must(t, s.CreateAccount(ctx, user.Account{ID: "demo", Name: "Demo Sales", Policy: user.Policy{MinLength: 12}}))
	for _, u := range users {
		must(t, s.CreateUser(ctx, u, event(audit.UserCreated, u)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func load(t *testing.T, s *store.Store, id user.ID) user.User {
	t.Helper()
	member, err := s.Member(context.Background(), id)
	must(t, err)
	return member.User
}

func testFresh(t *testing.T, s *store.Store) {
	members, err := s.Members(context.Background(), access.Actor{Kind: access.Service, AllAccounts: true}, allUsers(), "", 10)
	if err != nil || len(members) != 0 {
		t.Fatalf("got %v, %v", members, err)
	}
	_, err = s.MemberByUsername(context.Background(), "admin")
	wantError(t, err, session.ErrNotFound)
}

func testMembers(t *testing.T, s *store.Store) {
	create(t, s, alex())
	for _, find := range []func() (session.Member, error){
		func() (session.Member, error) { return s.Member(context.Background(), "alex-1") },
		func() (session.Member, error) {
			return s.MemberByUsername(context.Background(), identifier.Key("ALEX"))
		},
	} {
		member, err := find()
		must(t, err)
		want := session.Member{User: alex(), Account: user.Account{
			ID: "demo", Name: "Demo Sales", Policy: user.Policy{MinLength: 12}, PolicyVersion: 1,
			Naming: identifier.Rule{Kind: identifier.Either}, NamingVersion: 1,
		}}
		if diff := cmp.Diff(want, member); diff != "" {
			t.Fatal(diff)
		}
	}
	_, err := s.MemberByUsername(context.Background(), "alex@demo.example") // an e-mail is no username unless it is taken as one
	wantError(t, err, session.ErrNotFound)
	wantError(t, s.CreateUser(context.Background(), with(alex(), "alex-1", "other"), event(audit.UserCreated, alex())), store.ErrUserExists)
	for _, name := range []string{"aLEX", "alex@demo.example"} { // USR-03, peers bug 6: one namespace, both directions
		u := with(alex(), "new-1", "unused")
		u.Username = name
		wantError(t, s.CreateUser(context.Background(), u, event(audit.UserCreated, u)), change.ErrIdentifierTaken)
	}
}

// renameTo returns the change that renames u.
func renameTo(u user.User, name string, at time.Time) change.Change {
	after := u
	after.Username, after.Version = name, u.Version+1
	return change.Change{
		At: at, Target: &change.Guard{UserID: u.ID, Revision: u.Revision}, User: &after,
		Release: []change.Release{{Key: identifier.Key(u.Username), UserID: u.ID, Username: true, HeldUntil: at.Add(24 * time.Hour)}},
		Claim:   []change.Claim{{Key: identifier.Key(name), UserID: u.ID, AccountID: u.AccountID, IsUsername: true}},
		Rename:  &change.Rename{UserID: u.ID, AccountID: u.AccountID, NewUsername: name, NewKey: identifier.Key(name), At: at},
		Audit:   []audit.Event{event(audit.CredentialsChanged, u)},
	}
}

func testIdentifiers(t *testing.T, s *store.Store) {
	ctx := context.Background()
	bo := with(alex(), "bo-1", "bo")
	create(t, s, alex(), bo)
	_, err := s.Commit(ctx, renameTo(load(t, s, "alex-1"), "reed", Now()))
	must(t, err)
	_, err = s.Commit(ctx, renameTo(load(t, s, "bo-1"), "ALEX", Now().Add(time.Hour))) // held
	wantError(t, err, change.ErrIdentifierTaken)
	_, err = s.Commit(ctx, renameTo(load(t, s, "alex-1"), "alex", Now().Add(2*time.Hour))) // its former owner takes it back
	must(t, err)
	_, err = s.Commit(ctx, renameTo(load(t, s, "alex-1"), "reed2", Now().Add(3*time.Hour)))
	must(t, err)
	_, err = s.Commit(ctx, renameTo(load(t, s, "bo-1"), "alex", Now().Add(27*time.Hour))) // the hold is over
	must(t, err)
	member, err := s.MemberByUsername(ctx, "alex")
	if must(t, err); member.User.ID != "bo-1" {
		t.Fatalf("alex is %s", member.User.ID)
	}
	history, err := s.UsernameHistory(ctx, "alex-1")
	must(t, err)
	var names []string
	for _, held := range history {
		names = append(names, held.Username)
	}
	if diff := cmp.Diff([]string{"reed2", "alex", "reed", "Alex"}, names); diff != "" {
		t.Fatal(diff)
	}
}

// parallel runs n calls at once and returns their errors.
func parallel(n int, call func(i int) error) []error {
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { errs[i] = call(i) })
	}
	running.Wait()
	return errs
}

// oneWins fails unless exactly one call succeeded and all others lost with one of the errors.
func oneWins(t *testing.T, errs []error, losses ...error) {
	t.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		if !errors.Is(err, losses[0]) && !errors.Is(err, losses[len(losses)-1]) {
			t.Errorf("unexpected: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d won", won)
	}
}

func testParallelClaims(t *testing.T, s *store.Store) {
	var users []user.User
	for i := range 20 {
		users = append(users, with(alex(), user.ID(fmt.Sprintf("user-%d", i)), fmt.Sprintf("name%d", i)))
	}
	create(t, s, users...)
	oneWins(t, parallel(20, func(i int) error {
		_, err := s.Commit(context.Background(), renameTo(users[i], "star", Now()))
		return err
	}), change.ErrIdentifierTaken)
}

func testParallelWriters(t *testing.T, s *store.Store) {
	create(t, s, alex())
	oneWins(t, parallel(20, func(i int) error {
		_, err := s.Commit(context.Background(), renameTo(alex(), fmt.Sprintf("name%d", i), Now()))
		return err
	}), change.ErrConflict)
	if u := load(t, s, "alex-1"); u.Version != 2 || u.Revision != 2 {
		t.Errorf("version %d, revision %d", u.Version, u.Revision)
	}
}

func testGuards(t *testing.T, s *store.Store) {
	ctx := context.Background()
	ada := with(alex(), "ada-1", "ada")
	create(t, s, alex(), ada)
	for name, test := range map[string]struct {
		spoil func(*change.Change)
		want  error
	}{
		"target":             {func(c *change.Change) { c.Target.Revision = 7 }, change.ErrConflict},
		"If-Match":           {func(c *change.Change) { c.Target.Versions = []int64{5, 6} }, change.ErrVersion},
		"no version matches": {func(c *change.Change) { c.Target.Versions = []int64{} }, change.ErrVersion},
		// SES-07, peers bug 4: the administrator was moved or demoted while the request ran.
		"actor": {func(c *change.Change) { c.Actor = &change.Guard{UserID: "ada-1", Revision: 2} }, change.ErrConflict},
	} {
		c := renameTo(alex(), "reed", Now())
		test.spoil(&c)
		_, err := s.Commit(ctx, c)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	unchanged(t, s)
}

// unchanged fails when anything of a rename of alex to reed is there.
func unchanged(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := context.Background()
	if diff := cmp.Diff(alex(), load(t, s, "alex-1")); diff != "" {
		t.Errorf("the user changed: %s", diff)
	}
	if _, err := s.MemberByUsername(ctx, "reed"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the name was claimed: %v", err)
	}
	if history, err := s.UsernameHistory(ctx, "alex-1"); err != nil || len(history) != 1 {
		t.Errorf("the history changed: %v, %v", history, err)
	}
	events, err := s.AuditEvents(ctx, "demo", time.Time{}, 100)
	must(t, err)
	for _, e := range events {
		if e.Action == audit.CredentialsChanged {
			t.Errorf("an event tells of it: %+v", e)
		}
	}
}

// testHalfWay lets the last thing that a change writes fail: an event whose id is there already.
func testHalfWay(t *testing.T, s *store.Store) {
	create(t, s, alex())
	events, err := s.AuditEvents(context.Background(), "demo", time.Time{}, 1)
	must(t, err)
	c := renameTo(alex(), "reed", Now())
	c.Audit[0].ID = events[0].ID
	if _, err := s.Commit(context.Background(), c); err == nil {
		t.Fatal("the change was saved")
	}
	unchanged(t, s)
}

func testThrottles(t *testing.T, s *store.Store) {
	errs := parallel(50, func(int) error {
		return s.UpdateThrottles(context.Background(), "user:1", []string{"user:1", "user:1@net"}, func(states []throttle.State) ([]throttle.State, bool) {
			for i := range states {
				states[i].Failures++
			}
			return states, true
		})
	})
	must(t, errors.Join(errs...))
	standings, err := s.Standings(context.Background(), []string{"user:1"})
	if must(t, err); standings["user:1"].Failures != 50 {
		t.Fatalf("got %+v", standings)
	}
}

func testRates(t *testing.T, s *store.Store) {
	var mu sync.Mutex
	allowed := 0
	errs := parallel(40, func(int) error {
		allowance, err := s.AllowRate(context.Background(), "ip:1", 10, time.Minute, Now())
		mu.Lock()
		defer mu.Unlock()
		if allowance.Allowed {
			allowed++
		} else if allowance.RetryAfter <= 0 || allowance.RetryAfter > time.Minute {
			return fmt.Errorf("retry after %v", allowance.RetryAfter)
		}
		return err
	})
	if must(t, errors.Join(errs...)); allowed != 10 {
		t.Fatalf("%d of 10 were allowed", allowed)
	}
}
