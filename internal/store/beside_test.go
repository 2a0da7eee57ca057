package store_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// besides is a database reached past the store, as somebody with a database tool reaches it.
type besides struct {
	*sql.DB
	postgres bool
}

// onEachDatabase runs a test with the URL of a migrated database and a connection beside the store's.
func onEachDatabase(t *testing.T, test func(t *testing.T, url string, db besides)) {
	t.Run("sqlite", func(t *testing.T) {
		url := sqliteURL(t)
		test(t, url, beside(t, url))
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgtest.Database(t, migrate)
		test(t, url, beside(t, url))
	})
}

func beside(t testing.TB, url string) besides {
	t.Helper()
	driver, dsn := "pgx", url
	path, lite := strings.CutPrefix(url, "sqlite:")
	if lite {
		driver, dsn = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return besides{DB: db, postgres: !lite}
}

// exec runs statements, which are the same text for both databases.
func (b besides) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := b.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// contents returns every row of every table, each table's in one text.
func (b besides) contents(t *testing.T) map[string]string {
	t.Helper()
	tables := "SELECT name FROM sqlite_master WHERE type = 'table'"
	if b.postgres {
		tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
	}
	found := map[string]string{}
	for _, table := range b.rows(t, tables) {
		rows := b.rows(t, "SELECT * FROM "+table)
		slices.Sort(rows)
		found[table] = strings.Join(rows, "\n")
	}
	return found
}

func (b besides) rows(t *testing.T, query string) []string {
	t.Helper()
	rows, err := b.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for rows.Next() {
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		found = append(found, strings.TrimSuffix(fmt.Sprintln(values...), "\n"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// person is a user of the account demo as an operator makes it.
func person() user.User {
	at := storetest.Now()
	return user.User{
		ID: "alex-1", AccountID: "demo", Team: "/east/", Role: user.Agent, Status: user.Active, Username: "alex", Email: "alex@demo.example",
		EmailVerified: true, AlsoManages: []user.Team{}, Generation: 1, Version: 1, Revision: 1, CreatedAt: at,
		Password: user.Password{Hash: "hash-1", SetBy: user.SetByOperator, ChangedAt: &at},
	}
}

func event(action audit.Action, u user.User) audit.Event {
	return audit.New(action, audit.Done, access.Actor{Kind: access.Operator}, u, access.Origin{RequestID: "request-1", IP: "192.0.2.1"}, storetest.Now())
}

// seed makes the user with the session in use, another one, one that ran out, a counted failure, and a reserved key.
func seed(t *testing.T, s *store.Store, u user.User) {
	t.Helper()
	at := storetest.Now()
	must(t, s.CreateAccount(t.Context(), user.Account{ID: u.AccountID, Name: "Demo Sales"}))
	must(t, s.CreateUser(t.Context(), u, event(audit.UserCreated, u)))
	for id, expires := range map[string]time.Time{"own": at.Add(time.Hour), "other": at.Add(time.Hour), "expired": at.Add(-time.Second)} {
		must(t, s.OpenSession(t.Context(), session.Opening{
			Session: session.Session{
				ID: id, UserID: u.ID, AccountID: u.AccountID, Generation: 1, SignedInAt: at, LastUsedAt: at, ExpiresAt: expires,
				RefreshCount: 1, RefreshSalt: "salt-1", IP: "192.0.2.1", Network: "192.0.2.0/24", UserAgent: "test",
			},
			Guard: change.Guard{UserID: u.ID, Revision: 1}, Audit: []audit.Event{event(audit.SignedIn, u)},
		}))
	}
	subject := session.ThrottleSubject(u.ID)
	must(t, s.UpdateThrottles(t.Context(), subject, []string{subject}, func([]throttle.State) ([]throttle.State, bool) {
		return []throttle.State{{Failures: 3}}, true
	}))
	_, _, err := s.ReserveKey(t.Context(), replay.Entry{Lookup: "lookup-1", Owner: "owner-1", LeaseUntil: at.Add(time.Minute), ExpiresAt: at.Add(replay.Life)}, at)
	must(t, err)
}

// fullChange is a change of username, e-mail and password in the session "own": it writes to every table a change writes to.
func fullChange(u user.User, hash string) change.Change {
	at := storetest.Now().Add(time.Minute)
	after := u
	after.Username, after.Email, after.Version, after.Generation = "reed", "reed@demo.example", u.Version+1, u.Generation+1
	after.Password = user.Password{Hash: hash, SetBy: user.SetBySelf, ChangedAt: &at}
	hold := at.Add(time.Hour)
	return change.Change{
		At: at, Target: &change.Guard{UserID: u.ID, Revision: u.Revision}, User: &after,
		Release: []change.Release{
			{Key: identifier.Key(u.Username), UserID: u.ID, Username: true, HeldUntil: hold}, {Key: identifier.Key(u.Email), UserID: u.ID, HeldUntil: hold},
		},
		Claim: []change.Claim{
			{Key: "reed", UserID: u.ID, AccountID: u.AccountID, IsUsername: true}, {Key: "reed@demo.example", UserID: u.ID, AccountID: u.AccountID, IsEmail: true},
		},
		Rename:  &change.Rename{UserID: u.ID, AccountID: u.AccountID, OldKey: identifier.Key(u.Username), NewUsername: "reed", NewKey: "reed", At: at},
		End:     &change.EndSessions{UserID: u.ID, Except: "own", Why: "password_changed"},
		Renew:   &change.Renew{SessionID: "own", Generation: 2, RefreshSalt: "salt-2", RefreshCount: 2, ExpiresAt: at.Add(time.Hour)},
		Forgive: []string{session.ThrottleSubject(u.ID)},
		Replay: &change.Replay{
			Slot: change.Slot{Lookup: "lookup-1", Owner: "owner-1"}, Generation: after.Generation,
			Seal: func(change.Result) ([]byte, error) { return []byte("sealed"), nil },
		},
		Audit: []audit.Event{event(audit.CredentialsChanged, u)},
	}
}
