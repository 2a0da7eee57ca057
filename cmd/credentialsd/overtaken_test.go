package main

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// overtakenStore lets another change be saved between what a use case has read and what it saves, once.
type overtakenStore struct {
	*store.Store
	overtake func()
}

func (s *overtakenStore) Commit(ctx context.Context, c change.Change) (change.Result, error) {
	if overtake := s.overtake; overtake != nil {
		s.overtake = nil
		overtake()
	}
	return s.Store.Commit(ctx, c)
}

// operation is what an administrator or a service does, and the reach that it takes: that of a user, or the whole account.
type operation struct {
	reach user.Team
	do    func(m *credential.Manager, actor access.Actor, target user.ID) error
}

// administration has every operation by which administrators change something.
func administration(t *testing.T) map[string]operation {
	ctx := t.Context()
	reset := func(wanted credential.Reset) operation {
		return operation{reach: "/west/", do: func(m *credential.Manager, actor access.Actor, target user.ID) error {
			_, err := m.Reset(ctx, actor, target, wanted)
			return err
		}}
	}
	name, disabled := "bo.renamed", user.Disabled
	return map[string]operation{
		"changeUserCredentials": {reach: "/west/", do: func(m *credential.Manager, actor access.Actor, target user.ID) error {
			_, err := m.ChangeAnother(ctx, actor, target, credential.ChangeAnother{Username: &name})
			return err
		}},
		"resetPassword":      reset(credential.Reset{}),
		"resetPassword link": reset(credential.Reset{Method: user.Link}),
		"lockUser": {reach: "/west/", do: func(m *credential.Manager, actor access.Actor, target user.ID) error {
			_, err := m.SecurityLock(ctx, actor, target, credential.SecurityLock{Reason: "a stolen phone"})
			return err
		}},
		"unlockUser": {reach: "/west/", do: func(m *credential.Manager, actor access.Actor, target user.ID) error {
			_, err := m.Unlock(ctx, actor, target, credential.Unlocking{})
			return err
		}},
		"endUserSessions": {reach: "/west/", do: func(m *credential.Manager, actor access.Actor, target user.ID) error {
			return m.EndSessions(ctx, actor, target, access.Origin{})
		}},
		"changeUser": {reach: "/west/", do: func(m *credential.Manager, actor access.Actor, target user.ID) error {
			_, err := m.ChangeUser(ctx, actor, target, credential.ChangeUser{Status: &disabled})
			return err
		}},
		"releaseHeldUsername": {reach: "/west/", do: func(m *credential.Manager, actor access.Actor, _ user.ID) error {
			return m.ReleaseName(ctx, actor, "bo", "", access.Origin{})
		}},
		"createUser": {reach: "/", do: func(m *credential.Manager, actor access.Actor, _ user.ID) error {
			_, err := m.CreateUser(ctx, actor, credential.NewUser{Username: "nora.berg", DisplayName: "Nora Berg", Team: "/west/", Role: user.Agent})
			return err
		}},
		"setAccountPasswordPolicy": {reach: "/", do: func(m *credential.Manager, actor access.Actor, _ user.ID) error {
			_, err := m.SetPolicy(ctx, actor, user.Policy{MinLength: 20}, credential.Setting{})
			return err
		}},
		"setNamingRule": {reach: "/", do: func(m *credential.Manager, actor access.Actor, _ user.ID) error {
			_, err := m.SetNaming(ctx, actor, identifier.Rule{MinLength: 5}, credential.Setting{})
			return err
		}},
	}
}

// newManager returns the use cases over a store of the test's.
func newManager(t *testing.T, s *service, db *overtakenStore) *credential.Manager {
	t.Helper()
	hasher, err := password.NewHasher(password.HasherConfig{
		Params: password.Params{MemoryKiB: 12288, Time: 3, Threads: 1}, QueueTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return credential.New(credential.Config{
		Policy: password.Policy{MinLength: 15}, HoldTime: 180 * 24 * time.Hour, Notices: notice.NewComposer(true), Now: s.clock.now, Log: newLogger(s.log, "error"),
	}, db, hasher, throttle.New(db, time.Second, s.clock.now), nil)
}

// sealingStore opens the service's database with a sealing key of its own, for mails that nobody will read.
func sealingStore(t *testing.T, s *service) *store.Store {
	t.Helper()
	sealer, err := secret.NewSealer(make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{URL: s.databaseURL, Log: newLogger(s.log, "error"), Now: s.clock.now, Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeQuietly(db) })
	return db
}

// state is everything that an operation could change, as it stands in the database; of the events those of what was done.
func state(t *testing.T, beside *sql.DB, db *store.Store) map[string][][]any {
	t.Helper()
	all := map[string][][]any{}
	for table, order := range map[string]string{"users": "id", "identifiers": "key", "username_history": "id", "sessions": "id", "one_time_tokens": "digest", "outbox": "id", "accounts": "id"} {
		all[table] = rowsOf(t, beside, "SELECT * FROM "+table+" ORDER BY "+order)
	}
	events, err := db.AuditEvents(t.Context(), "demo", time.Time{}, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Outcome == audit.Done {
			all["events"] = append(all["events"], []any{e.ID})
		}
	}
	return all
}

// AZ-17, SES-07, peers bug 4 (forced interleaving): who may do what is decided on what was read, and holds when it is saved: for
// every operation of administrators and services that changes something, whoever of the two was changed in between. Nothing is
// done then, and the trail tells of the refusal.
func TestOvertaken_everyChange(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.stop() // it made the users; nothing else happens in its database
		db := &overtakenStore{Store: sealingStore(t, s)}
		m, beside := newManager(t, s, db), connect(t, s.databaseURL)
		ada, bo := s.user("ada").ID, s.user("bo").ID
		clientIs := func(columns string) func() {
			return func() {
				if _, err := beside.ExecContext(t.Context(), "UPDATE clients SET "+columns+" WHERE id = 'demo-service'"); err != nil {
					t.Fatal(err)
				}
			}
		}
		begin := func(reach user.Team) { // it is by also_manages alone that ada reaches bo, and the account
			alterUser(t, db.Store, ada, func(u *user.User) {
				u.Role, u.Team, u.Status, u.AlsoManages = user.Administrator, "/east/", user.Active, []user.Team{reach}
			})
			alterUser(t, db.Store, bo, func(u *user.User) {
				u.Role, u.Team, u.Status, u.AlsoManages = user.Agent, "/west/", user.Active, nil
			})
			clientIs("disabled = false, account_id = 'demo', scopes = '" + access.ScopeUsersWrite + " " + access.ScopeManage + " " + access.ScopeReset + "'")()
			s.clock.advance(2 * time.Hour) // so that no limit on mails stands in the way
		}
		person := func() access.Actor {
			member, err := db.Member(t.Context(), user.ID(ada))
			if err != nil {
				t.Fatal(err)
			}
			return access.Actor{Kind: access.Person, Account: member.Account, User: member.User, Role: member.User.Role, SessionID: "s"}
		}
		machine := func() access.Actor {
			c, err := db.Client(t.Context(), "demo-service")
			if err != nil {
				t.Fatal(err)
			}
			return access.Actor{Kind: access.Service, Account: person().Account, ClientID: c.ID, ClientAccount: c.AccountID, Scopes: c.Scopes}
		}
		actorIs := func(alter func(u *user.User)) func() { return func() { alterUser(t, db.Store, ada, alter) } }
		targetIs := func(alter func(u *user.User)) func() { return func() { alterUser(t, db.Store, bo, alter) } }

		begin("/")
		name := "bo.two" // and "bo" is held
		if _, err := m.ChangeAnother(t.Context(), person(), user.ID(bo), credential.ChangeAnother{Username: &name}); err != nil {
			t.Fatal(err)
		}
		for what, o := range map[string]struct {
			actor    func() access.Actor
			overtake func()
			target   bool // it is the target that changes
		}{
			"the administrator is demoted":      {person, actorIs(func(u *user.User) { u.Role, u.AlsoManages = user.Agent, nil }), false},
			"the administrator is disabled":     {person, actorIs(func(u *user.User) { u.Status = user.Disabled }), false},
			"the administrator is moved":        {person, actorIs(func(u *user.User) { u.Team, u.AlsoManages = "/north/", nil }), false},
			"also_manages is taken away":        {person, actorIs(func(u *user.User) { u.AlsoManages = nil }), false},
			"the user is moved":                 {person, targetIs(func(u *user.User) { u.Team = "/north/" }), true},
			"the user gets a reach":             {person, targetIs(func(u *user.User) { u.Role, u.AlsoManages = user.Administrator, []user.Team{"/"} }), true},
			"the service is disabled":           {machine, clientIs("disabled = true"), false},
			"the service loses its scopes":      {machine, clientIs("scopes = 'users:read'"), false},
			"the service gets another account":  {machine, clientIs("account_id = 'other'"), false},
			"the user becomes an administrator": {machine, targetIs(func(u *user.User) { u.Role = user.Administrator }), true},
		} {
			for id, operation := range administration(t) {
				if o.target && operation.reach == "/" {
					continue
				}
				begin(operation.reach)
				var before map[string][][]any
				actor := o.actor()
				db.overtake = func() { o.overtake(); before = state(t, beside, db.Store) }
				err := operation.do(m, actor, user.ID(bo))
				// A release looks again, and finds that the user is out of reach.
				if !errors.Is(err, change.ErrConflict) && (id != "releaseHeldUsername" || !errors.Is(err, credential.ErrNotFound)) {
					t.Errorf("%s, %s: got %v", what, id, err)
				}
				if diff := cmp.Diff(before, state(t, beside, db.Store)); diff != "" || before == nil {
					t.Errorf("%s, %s: something was done:\n%s", what, id, diff)
				}
			}
		}
		done := map[string]bool{}
		for id, operation := range administration(t) { // each would have been done if nothing had come in between
			for _, actor := range []func() access.Actor{person, machine} {
				begin(operation.reach)
				err := operation.do(m, actor(), user.ID(bo))
				done[id] = done[id] || err == nil
				if err != nil && !(id == "releaseHeldUsername" && errors.Is(err, credential.ErrNotFound)) && !(id == "createUser" && errors.Is(err, change.ErrIdentifierTaken)) {
					t.Errorf("%s: %v", id, err)
				}
			}
			if !done[id] {
				t.Errorf("%s is never done", id)
			}
		}
	})
}

// Every operation by which administrators change something is among those that are overtaken.
func TestOvertaken_isComplete(t *testing.T) {
	t.Parallel()
	tried := administration(t)
	for _, job := range []string{"beginPasswordResetJob", "cancelPasswordResetJob", "handOutTemporaryPasswords"} { // TestJobs_staleActor in internal/bulk
		tried[job] = operation{}
	}
	for _, rule := range access.Table() {
		if rule.Role != user.Administrator || rule.ReadOnly || !rule.Limited {
			continue
		}
		if _, there := tried[rule.Operation]; !there {
			t.Errorf("%s changes something, and is not tried", rule.Operation)
		}
	}
}
