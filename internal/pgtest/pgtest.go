// Package pgtest gives each test a PostgreSQL database of its own.
//
// A test binary that asks for a database gets one private server, started at
// the first request and stopped by [Main]. The schema is migrated once, into a
// template, and every test works on a clone of it, so tests may run in parallel
// and commit freely. Only tests import this package; it depends on pgx and on
// the PostgreSQL 13 (or later) server programs, and runs on Unix systems.
//
// Environment:
//   - TEST_DATABASE_URL: use this server (a postgres:// URL of a role that may
//     create databases) in place of a private one.
//   - PG_BIN: directory of initdb and postgres; without it the highest version
//     below /usr/lib/postgresql is used, then PATH.
//   - REQUIRE_POSTGRES=1: fail, where a test would be skipped for want of PostgreSQL.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// prepareTimeout bounds starting the server and migrating the template, and
// statementTimeout each later CREATE or DROP DATABASE, so that a server that
// hangs is reported as an error of its own and not as a test timeout.
const (
	prepareTimeout   = 2 * time.Minute
	statementTimeout = time.Minute
)

// errUnavailable marks the errors that mean this machine has no PostgreSQL, as
// opposed to one that is there and does not work.
var errUnavailable = errors.New("no PostgreSQL available")

// shared is the server of this test binary. The testing package offers no way
// to hand a value from TestMain to the tests, so it has to live here: Main sets
// it before the first test starts and nothing changes it afterwards.
var shared *server

// server is a PostgreSQL server with one migrated template database.
type server struct {
	once    sync.Once
	err     error        // outcome of prepare
	admin   *url.URL     // database from which others are created; nil until known
	cluster *cluster     // nil when the server is that of TEST_DATABASE_URL
	prefix  string       // begins every database name; unique among test binaries
	clones  atomic.Int64 // number of databases handed out
}

// Main runs the tests of m, then stops the server if one was started and
// removes all that it left. It returns the exit code: that of m.Run, or 1 if the
// tests passed and the clearing up failed. Use it as
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
func Main(m *testing.M) int {
	shared = &server{prefix: fmt.Sprintf("pgtest_%016x", rand.Uint64())}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	return code
}

// Database returns the postgres:// URL of a new database for t alone, which is
// dropped, with any connection still open, when t ends.
//
// The database is a clone of a template on which migrate ran once. All tests of
// one binary share the template, so they must pass equivalent functions, and
// migrate must close its connections, since PostgreSQL clones no database in use.
//
// Without PostgreSQL on this machine t is skipped, or fails if REQUIRE_POSTGRES
// is 1. A server that does not start, a TEST_DATABASE_URL that does not answer
// and an error of migrate always fail t.
func Database(t testing.TB, migrate func(ctx context.Context, url string) error) string {
	t.Helper()
	if shared == nil {
		t.Fatal("pgtest: TestMain of this package must call pgtest.Main")
	}
	shared.once.Do(func() { shared.err = shared.prepare(migrate) })
	if shared.err != nil {
		giveUp(t, shared.err)
	}
	name := fmt.Sprintf("%s_%d", shared.prefix, shared.clones.Add(1))
	if err := shared.exec("CREATE DATABASE " + name + " TEMPLATE " + shared.template()); err != nil {
		t.Fatalf("pgtest: clone the template: %v", err)
	}
	t.Cleanup(func() {
		if err := shared.drop(name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return shared.url(name)
}

// giveUp ends t: as skipped if PostgreSQL is merely absent and not required.
func giveUp(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errUnavailable) && os.Getenv("REQUIRE_POSTGRES") != "1" {
		t.Skipf("pgtest: %v", err)
	}
	t.Fatalf("pgtest: %v", err)
}

// prepare finds or starts the server and makes the template.
func (s *server) prepare(migrate func(ctx context.Context, url string) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), prepareTimeout)
	defer cancel()
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.exec("CREATE DATABASE " + s.template()); err != nil {
		return fmt.Errorf("create the template: %w", err)
	}
	if err := migrate(ctx, s.url(s.template())); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	// A test that wrote to the template would change the databases of all others.
	return s.exec("ALTER DATABASE " + s.template() + " ALLOW_CONNECTIONS false")
}

// connect sets s.admin, after starting a private server if none is given.
func (s *server) connect(ctx context.Context) error {
	if given := os.Getenv("TEST_DATABASE_URL"); given != "" {
		admin, err := url.Parse(given)
		if err != nil || !strings.HasPrefix(admin.Scheme, "postgres") {
			// The parser's error quotes the URL, which may hold a password.
			return errors.New("TEST_DATABASE_URL is not a postgres:// URL")
		}
		admin.Scheme = "postgres"
		s.admin = admin
		return nil
	}
	c, err := startCluster(ctx)
	if err != nil {
		return err
	}
	s.cluster, s.admin = c, c.url()
	return nil
}

// close stops the private server, or removes the template from the given one.
func (s *server) close() error {
	switch {
	case s.cluster != nil:
		return s.cluster.stop()
	case s.admin != nil:
		return s.drop(s.template())
	}
	return nil
}

func (s *server) template() string { return s.prefix + "_template" }

// url returns the address of the named database on s.
func (s *server) url(name string) string {
	u := *s.admin
	u.Path = "/" + name
	return u.String()
}

func (s *server) drop(name string) error {
	if err := s.exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// exec runs one statement on a connection of its own. Database names need no
// quoting: they are made of lower-case letters, digits and underscores only.
func (s *server) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}
