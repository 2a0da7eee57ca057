package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// creation is the change that makes u.
func creation(u user.User) change.Change {
	return change.Change{
		At: Now(), Create: &u,
		Claim:  []change.Claim{{Key: identifier.Key(u.Username), UserID: u.ID, AccountID: u.AccountID, IsUsername: true}, {Key: identifier.Key(u.Email), UserID: u.ID, AccountID: u.AccountID, IsEmail: true}},
		Rename: &change.Rename{UserID: u.ID, AccountID: u.AccountID, NewUsername: u.Username, NewKey: identifier.Key(u.Username), At: Now()},
		Audit:  []audit.Event{event(audit.UserCreated, u)},
	}
}

// testCreate: a new user is there whole or not at all, and of 20 with one id, or with one name, one is made.
func testCreate(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	oneWins(t, parallel(20, func(i int) error {
		_, err := s.Commit(ctx, creation(with(alex(), "one-1", fmt.Sprintf("one%d", i))))
		return err
	}), change.ErrUserExists)
	oneWins(t, parallel(20, func(i int) error {
		_, err := s.Commit(ctx, creation(with(alex(), user.ID(fmt.Sprintf("two-%d", i)), "two")))
		return err
	}), change.ErrIdentifierTaken)
	taken := with(alex(), "three-1", "three")
	taken.Email = "ALEX"
	_, err := s.Commit(ctx, creation(taken))
	wantError(t, err, change.ErrIdentifierTaken)
	members, err := s.Members(ctx, actor(administrator("ada-1", "/")), allUsers(), "", 50)
	must(t, err)
	var names []string
	for _, m := range members {
		names = append(names, strings.TrimRight(m.User.Username, "0123456789"))
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"Alex", "one", "two"}) {
		t.Errorf("got %v", names)
	}
}

// testLastAdministrator: of administrators who are taken away at once, one stays.
func testLastAdministrator(t *testing.T, s *store.Store) {
	ctx := context.Background()
	var leaders []user.User
	for i := range 8 {
		leaders = append(leaders, administrator(user.ID(fmt.Sprintf("leader-%d", i)), user.Root))
	}
	create(t, s, leaders...)
	errs := parallel(len(leaders), func(i int) error {
		demoted := leaders[i]
		demoted.Role = user.Agent
		_, err := s.Commit(ctx, change.Change{
			At: Now(), Target: &change.Guard{UserID: demoted.ID, Revision: 1}, User: &demoted, KeepAdministrator: "demo", Audit: []audit.Event{event(audit.UserChanged, demoted)},
		})
		return err
	})
	lost := 0
	for _, err := range errs {
		if err != nil {
			wantError(t, err, change.ErrLastAdministrator)
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d stayed", lost)
	}
}

// testHoldTarget: a change about a user that does not change the row is held to the revision as well.
func testHoldTarget(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	c := change.Change{At: Now(), Target: &change.Guard{UserID: "alex-1", Revision: 1}, Forgive: []string{"user:alex-1"}, Audit: []audit.Event{event(audit.UserUnlocked, alex())}}
	_, err := s.Commit(ctx, c)
	must(t, err)
	c.Target, c.Audit = &change.Guard{UserID: "alex-1", Revision: 2}, []audit.Event{event(audit.UserUnlocked, alex())}
	_, err = s.Commit(ctx, c)
	wantError(t, err, change.ErrConflict)
}

// testListing: filters and pages, in the order of ids, each user once; locked are those whose password is disabled or whose
// attempts are delayed, and not those of whom only a session that is open is.
func testListing(t *testing.T, s *store.Store) {
	users, at := listedUsers(), Now()
	create(t, s, users...)
	blocked := func(subject, key string, until time.Time) {
		must(t, s.UpdateThrottles(context.Background(), subject, []string{key}, func([]throttle.State) ([]throttle.State, bool) {
			return []throttle.State{{Failures: 9, BlockedUntil: until}}, true
		}))
	}
	blocked("user:user-04", "user:user-04@192.0.2.0/24", at.Add(time.Hour))
	blocked("user:user-05", "user:user-05", at.Add(-time.Hour))
	blocked("user:user-06", "user:user-06#session-1", at.Add(time.Hour))
	blocked("name:user-08", "name:user-08", at.Add(time.Hour))
	yes, no := true, false
	for name, c := range map[string]struct {
		filter credential.Filter
		want   func(i int) bool
	}{
		"all":            {credential.Filter{}, func(int) bool { return true }},
		"team":           {credential.Filter{Team: "/region-1/"}, func(i int) bool { return i%3 == 1 }},
		"root":           {credential.Filter{Team: "/"}, func(int) bool { return true }},
		"must change":    {credential.Filter{MustChange: &yes}, func(i int) bool { return i%4 == 1 }},
		"need not":       {credential.Filter{MustChange: &no}, func(i int) bool { return i%4 != 1 }},
		"disabled":       {credential.Filter{Status: user.Disabled}, func(i int) bool { return i%7 == 3 }},
		"locked":         {credential.Filter{Locked: &yes}, func(i int) bool { return i%5 == 2 || i == 4 }},
		"not locked":     {credential.Filter{Locked: &no}, func(i int) bool { return i%5 != 2 && i != 4 }},
		"administrators": {credential.Filter{Role: user.Administrator}, func(int) bool { return false }},
		"part":           {credential.Filter{Query: "ame0"}, func(i int) bool { return i < 10 }},
		"beginning":      {credential.Filter{Query: "na"}, func(int) bool { return true }},
		"later line":     {credential.Filter{Query: "ZO"}, func(i int) bool { return i == 5 }},
		"no beginning":   {credential.Filter{Query: "am"}, func(int) bool { return false }},
		"together":       {credential.Filter{Query: "name1", Team: "/region-2/", Status: user.Active, Locked: &no}, func(i int) bool { return i >= 10 && i < 20 && i%3 == 2 && i%7 != 3 && i%5 != 2 }},
	} {
		var want []string
		for i := range users {
			if c.want(i) {
				want = append(want, string(users[i].ID))
			}
		}
		for _, limit := range []int{1, 4, 50} {
			if got := listed(t, s, actor(administrator("ada-1", "/")), c.filter, limit); !slices.Equal(got, want) {
				t.Errorf("%s, pages of %d: got %v, want %v", name, limit, got, want)
			}
		}
	}
}

// listedUsers are users who differ in all that lists are narrowed by.
func listedUsers() []user.User {
	var users []user.User
	at := Now()
	for i := range 23 {
		u := with(alex(), user.ID(fmt.Sprintf("user-%02d", i)), fmt.Sprintf("name%02d", i))
		u.Team = user.Team(fmt.Sprintf("/region-%d/", i%3))
		u.Password.MustChange = i%4 == 1
		if i%5 == 2 {
			u.Password.DisabledAt = &at
		}
		if i%7 == 3 {
			u.Status = user.Disabled
		}
		u.DisplayName = strings.Repeat("ﷺ", 200) // many times longer when it is folded
		if i == 5 {
			u.DisplayName = "Zoë Marsh"
		}
		users = append(users, u)
	}
	return users
}

// testListingEverywhere: a service of all accounts lists them one after the other, each user once, with a query and without.
func testListingEverywhere(t *testing.T, s *store.Store) {
	create(t, s)
	must(t, s.CreateAccount(context.Background(), user.Account{ID: "acme", Name: "Acme"}))
	for i := range 9 { // ids that do not know of accounts
		u := with(alex(), user.ID(fmt.Sprintf("user-%d", i)), fmt.Sprintf("name%d", i))
		if i%2 == 0 {
			u.AccountID = "acme"
		}
		must(t, s.CreateUser(context.Background(), u, event(audit.UserCreated, u)))
	}
	want := []string{"user-0", "user-2", "user-4", "user-6", "user-8", "user-1", "user-3", "user-5", "user-7"}
	for _, query := range []string{"", "na", "name"} {
		for _, limit := range []int{1, 4, 9, 50} {
			if got := listed(t, s, access.Actor{Kind: access.Service, AllAccounts: true}, credential.Filter{Query: query}, limit); !slices.Equal(got, want) {
				t.Errorf("%q, pages of %d: got %v, want %v", query, limit, got, want)
			}
		}
	}
}

// listed reads a list page by page.
func listed(t *testing.T, s *store.Store, by access.Actor, f credential.Filter, limit int) []string {
	t.Helper()
	var ids []string
	for after := user.ID(""); ; {
		page, err := s.Members(context.Background(), by, f, after, limit)
		must(t, err)
		for _, m := range page {
			ids, after = append(ids, string(m.User.ID)), m.User.ID
		}
		if len(page) < limit || len(ids) > 100 { // more than there are
			return ids
		}
	}
}
