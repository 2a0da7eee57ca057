package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/bulk"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func open(ctx context.Context, url string, now func() time.Time) (*store.Store, error) {
	sealer, err := secret.NewSealer(make([]byte, secret.KeySize))
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{URL: url, Sealer: sealer, Log: slog.New(slog.DiscardHandler), Now: now})
}

func migrate(ctx context.Context, url string) error {
	s, err := open(ctx, url, time.Now)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	_, err = s.Migrate(ctx)
	return err
}

// interposed is a real database in which something else happens just before a change is saved.
type interposed struct {
	*store.Store
	mu     sync.Mutex
	before func(c change.Change) // called once, before the first change that settles an item
}

func (i *interposed) Commit(ctx context.Context, c change.Change) (change.Result, error) {
	i.mu.Lock()
	before := i.before
	if c.Settle != nil {
		i.before = nil
	}
	i.mu.Unlock()
	if before != nil && c.Settle != nil {
		before(c)
	}
	return i.Store.Commit(ctx, c)
}

// nobody is a registry without services.
type nobody struct{}

func (nobody) ServiceActor(context.Context, string) (access.Actor, error) {
	return access.Actor{}, session.ErrNotFound
}

// house is jobs of one account on a database of their own. Its administrator ada manages the team /east/, where five agents are.
type house struct {
	t      *testing.T
	store  *interposed
	jobs   *bulk.Jobs
	runner *bulk.Runner
	mu     sync.Mutex
	ahead  time.Duration
}

func (h *house) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.ahead)
}

func newHouse(t *testing.T, url string) *house {
	t.Helper()
	h := &house{t: t}
	opened, err := open(t.Context(), url, h.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	h.store = &interposed{Store: opened}
	hasher, err := password.NewHasher(password.HasherConfig{Params: password.Params{MemoryKiB: 12288, Time: 3, Threads: 1}, QueueTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	credentials := credential.New(credential.Config{
		Policy: password.Policy{MinLength: 15}, HoldTime: time.Hour, Notices: notice.NewComposer(false), Now: h.now, Log: log,
	}, h.store, hasher, throttle.New(opened, time.Minute, h.now), nil)
	h.jobs = bulk.New(h.store, credentials, h.now)
	h.runner = bulk.NewRunner(bulk.RunnerConfig{
		Store: h.store, Credentials: credentials, Services: nobody{}, Workers: 1, Lease: time.Minute, Observe: func(change.ItemState) {}, Now: h.now, Log: log,
	})
	if err := opened.CreateAccount(t.Context(), user.Account{ID: "demo", Name: "Demo Sales"}); err != nil {
		t.Fatal(err)
	}
	h.create("ada", "/east/", user.Administrator)
	for i := range 5 {
		h.create(fmt.Sprintf("agent-%d", i), "/east/", user.Agent)
	}
	return h
}

func (h *house) create(name string, team user.Team, role user.Role) {
	h.t.Helper()
	u := user.User{
		ID: user.ID(name), AccountID: "demo", Username: name, DisplayName: name, Role: role, Team: team, Status: user.Active,
		Generation: 1, Version: 1, Revision: 1, CreatedAt: h.now(),
	}
	event := audit.New(audit.UserCreated, audit.Done, access.Actor{Kind: access.Operator}, u, access.Origin{}, u.CreatedAt)
	if err := h.store.CreateUser(h.t.Context(), u, event); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) user(name string) user.User {
	h.t.Helper()
	member, err := h.store.Member(h.t.Context(), user.ID(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return member.User
}

// alter changes a user as an administrator's PATCH does.
func (h *house) alter(name string, how func(u *user.User)) {
	h.t.Helper()
	u := h.user(name)
	guard := &change.Guard{UserID: u.ID, Revision: u.Revision}
	how(&u)
	if _, err := h.store.Store.Commit(context.Background(), change.Change{At: h.now(), User: &u, Target: guard}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) actor(name string) access.Actor {
	u := h.user(name)
	return access.Actor{Kind: access.Person, User: u, Role: u.Role, Account: user.Account{ID: "demo", Name: "Demo Sales"}}
}

// begin begins a job over the five agents.
func (h *house) begin() string {
	h.t.Helper()
	wanted := bulk.Wanted{Reason: "Leak"}
	for i := range 5 {
		wanted.Selection.UserIDs = append(wanted.Selection.UserIDs, user.ID(fmt.Sprintf("agent-%d", i)))
	}
	job, err := h.jobs.Begin(h.t.Context(), h.actor("ada"), wanted)
	if err != nil {
		h.t.Fatal(err)
	}
	return job.ID
}

func (h *house) work() {
	h.t.Helper()
	if err := h.runner.Work(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// outcome is "state code" of every agent, after it was checked that those and only those who are done were reset, each once.
func (h *house) outcome(id string) []string {
	h.t.Helper()
	items, err := h.store.Items(h.t.Context(), id, "", "", 100)
	if err != nil {
		h.t.Fatal(err)
	}
	events, err := h.store.AuditEvents(h.t.Context(), "demo", time.Time{}, 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	var told []string
	for _, item := range items {
		resets := 0
		for _, e := range events {
			if e.Action == audit.PasswordReset && e.Target.ID == string(item.UserID) {
				resets++
			}
		}
		wanted := 0
		if item.State == change.ItemDone {
			wanted = 1
		}
		u := h.user(string(item.UserID))
		if resets != wanted || (u.Password.Hash != "") != (wanted == 1) {
			h.t.Errorf("%s is %s, with %d events and the hash %q", item.UserID, item.State, resets, u.Password.Hash)
		}
		told = append(told, string(item.State)+" "+item.Code)
	}
	return told
}

func on(t *testing.T, test func(t *testing.T, h *house)) {
	t.Run("sqlite", func(t *testing.T) {
		url := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
		if err := migrate(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		test(t, newHouse(t, url))
	})
	t.Run("postgres", func(t *testing.T) { test(t, newHouse(t, pgtest.Database(t, migrate))) })
}

// AZ-16, AZ-17, peers bug 4: a reset rests on the authority of the moment it is saved. What happens between the decision and
// the save, while the password is hashed, cannot be exploited.
func TestRunner_interleaved(t *testing.T) {
	const done, failed, unreachable = "done ", "failed forbidden", "skipped not_found"
	for name, c := range map[string]struct {
		meanwhile func(h *house, job string)
		want      []string
	}{
		"the user is moved out of reach": {func(h *house, _ string) { h.alter("agent-0", func(u *user.User) { u.Team = "/west/" }) },
			[]string{unreachable, done, done, done, done}},
		"the user comes to manage more than the administrator": {func(h *house, _ string) {
			h.alter("agent-0", func(u *user.User) { u.Role, u.AlsoManages = user.Administrator, []user.Team{"/"} })
		}, []string{unreachable, done, done, done, done}},
		"the administrator is moved": {func(h *house, _ string) { h.alter("ada", func(u *user.User) { u.Team = "/west/" }) },
			[]string{unreachable, unreachable, unreachable, unreachable, unreachable}},
		"the administrator is demoted": {func(h *house, _ string) { h.alter("ada", func(u *user.User) { u.Role = user.Agent }) },
			[]string{failed, failed, failed, failed, failed}},
		"the administrator is disabled": {func(h *house, _ string) { h.alter("ada", func(u *user.User) { u.Status = user.Disabled }) },
			[]string{failed, failed, failed, failed, failed}},
		"the administrator is locked for a security concern": {func(h *house, _ string) {
			now := h.now()
			h.alter("ada", func(u *user.User) { u.Password.DisabledAt = &now })
		}, []string{failed, failed, failed, failed, failed}},
		"the user changes the own name": {func(h *house, _ string) { h.alter("agent-0", func(u *user.User) { u.Version++ }) },
			[]string{done, done, done, done, done}},
		"the administrator changes the own name": {func(h *house, _ string) { h.alter("ada", func(u *user.User) { u.Version++ }) },
			[]string{done, done, done, done, done}},
		"the job is cancelled": {func(h *house, job string) {
			if _, err := h.jobs.Cancel(context.Background(), h.actor("ada"), job, access.Origin{}); err != nil {
				h.t.Error(err)
			}
		}, []string{"cancelled ", "cancelled ", "cancelled ", "cancelled ", "cancelled "}},
		"the lease ends and another replica is quicker": {func(h *house, _ string) {
			h.mu.Lock()
			h.ahead += 2 * time.Minute
			h.mu.Unlock()
			h.work()
		}, []string{done, done, done, done, done}},
	} {
		t.Run(name, func(t *testing.T) {
			on(t, func(t *testing.T, h *house) {
				id := h.begin()
				h.store.before = func(change.Change) { c.meanwhile(h, id) }
				h.work()
				h.work() // what was given back
				if diff := cmp.Diff(c.want, h.outcome(id)); diff != "" {
					t.Error(diff)
				}
				job, err := h.store.Job(t.Context(), id)
				if err != nil || !job.Over() {
					t.Errorf("the job goes on: %+v, %v", job, err)
				}
			})
		})
	}
}

// failing is a database that cannot save what settles a certain user's item.
type failing struct {
	*store.Store
	id    user.ID
	cause error
}

func (f failing) Commit(ctx context.Context, c change.Change) (change.Result, error) {
	if c.Settle != nil && c.Settle.UserID == f.id && c.Settle.State == change.ItemDone {
		return change.Result{}, f.cause
	}
	return f.Store.Commit(ctx, c)
}

// A user who cannot be reset does not hold up the job: it is tried a few times, given up with a reason, and on record.
func TestRunner_givesUp(t *testing.T) {
	for code, cause := range map[string]error{"internal": errors.New("a fault"), "conflict": change.ErrConflict} {
		t.Run(code, func(t *testing.T) {
			on(t, func(t *testing.T, h *house) {
				log := slog.New(slog.DiscardHandler)
				hasher, err := password.NewHasher(password.HasherConfig{Params: password.Params{MemoryKiB: 12288, Time: 3, Threads: 1}})
				if err != nil {
					t.Fatal(err)
				}
				broken := failing{Store: h.store.Store, id: "agent-2", cause: cause}
				credentials := credential.New(credential.Config{Policy: password.Policy{MinLength: 15}, Notices: notice.NewComposer(false), Now: h.now, Log: log},
					broken, hasher, throttle.New(h.store.Store, time.Minute, h.now), nil)
				runner := bulk.NewRunner(bulk.RunnerConfig{
					Store: h.store, Credentials: credentials, Services: nobody{}, Workers: 2, Lease: time.Minute, Observe: func(change.ItemState) {}, Now: h.now, Log: log,
				})
				id := h.begin()
				for range 5 {
					if err := runner.Work(t.Context()); err != nil {
						t.Fatal(err)
					}
					h.mu.Lock()
					h.ahead += time.Minute
					h.mu.Unlock()
				}
				if diff := cmp.Diff([]string{"done ", "done ", "failed " + code, "done ", "done "}, h.outcome(id)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A replica that is stopped gives the item it works on back at once: nobody waits for the end of its lease.
func TestRunner_givesBack(t *testing.T) {
	on(t, func(t *testing.T, h *house) {
		id := h.begin()
		ctx, stop := context.WithCancel(t.Context())
		stopped := false
		h.runner = bulk.NewRunner(bulk.RunnerConfig{
			Store: h.store, Credentials: stopping{stop: func() { stopped = true; stop() }}, Services: nobody{}, Workers: 1, Lease: time.Hour,
			Observe: func(change.ItemState) {}, Now: h.now, Log: slog.New(slog.DiscardHandler),
		})
		if err := h.runner.Work(ctx); err != nil || !stopped {
			t.Fatalf("%v, %v", err, stopped)
		}
		claimed := map[user.ID]bool{}
		for {
			item, found, err := h.store.ClaimItem(t.Context(), h.now(), h.now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if !found {
				break
			}
			claimed[item.UserID] = true
		}
		if len(claimed) != 5 {
			t.Errorf("%d of 5 can be taken up", len(claimed))
		}
		if job, err := h.store.Job(t.Context(), id); err != nil || job.Items.Pending() != 5 {
			t.Errorf("%+v, %v", job, err)
		}
	})
}

// stopping is the use cases in a process that is stopped while a password is hashed.
type stopping struct {
	bulk.Credentials
	stop func()
}

func (s stopping) ResetItem(ctx context.Context, _ access.Actor, _ change.Item, _ credential.Reset) (change.ItemState, error) {
	s.stop()
	<-ctx.Done()
	return "", ctx.Err()
}

const leaseForTests = time.Minute

// events returns the events of the account with an action.
func (h *house) events(action audit.Action) []audit.Event {
	h.t.Helper()
	all, err := h.store.AuditEvents(h.t.Context(), "demo", time.Time{}, 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	var found []audit.Event
	for _, e := range all {
		if e.Action == action {
			found = append(found, e)
		}
	}
	return found
}
