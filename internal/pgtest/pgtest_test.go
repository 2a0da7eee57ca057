package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/salesexec/credentials/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// newMigration returns a migration that makes one table, and its count of runs.
func newMigration() (func(context.Context, string) error, *atomic.Int64) {
	runs := new(atomic.Int64)
	return func(ctx context.Context, url string) error {
		runs.Add(1)
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "CREATE TABLE note (text text)")
		return err
	}, runs
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func count(t *testing.T, conn *pgx.Conn, query string, args ...any) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDatabasesAreIsolated(t *testing.T) {
	migrate, runs := newMigration()
	first, second := pgtest.Database(t, migrate), pgtest.Database(t, migrate)
	if !strings.HasPrefix(first, "postgres://") {
		t.Errorf("URL %q does not begin with postgres://", first)
	}
	if first == second {
		t.Fatalf("both databases are %s", first)
	}
	if _, err := connect(t, first).Exec(t.Context(), "INSERT INTO note VALUES ('a')"); err != nil {
		t.Fatal(err)
	}
	if n := count(t, connect(t, second), "SELECT count(*) FROM note"); n != 0 {
		t.Errorf("the second database sees %d rows of the first", n)
	}
	// At most: under -count=2 the template of the first round serves the second.
	if n := runs.Load(); n > 1 {
		t.Errorf("migrate ran %d times, want once", n)
	}
}

func TestDatabaseIsDroppedAtCleanup(t *testing.T) {
	migrate, _ := newMigration()
	var dropped string
	t.Run("user", func(t *testing.T) {
		dropped = pgtest.Database(t, migrate)
		conn, err := pgx.Connect(t.Context(), dropped) // left open: the drop must be forced
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if dropped == "" {
		t.Skip("no database was to be had")
	}
	u, err := url.Parse(dropped)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, pgtest.Database(t, migrate))
	if n := count(t, conn, "SELECT count(*) FROM pg_database WHERE datname = $1", u.Path[1:]); n != 0 {
		t.Errorf("database %s is still there", u.Path[1:])
	}
}

// TestKilledBinaryLeavesNoServer runs itself in a second process, which holds a
// server until it is killed; the end of the server shows as the end of a connection.
func TestKilledBinaryLeavesNoServer(t *testing.T) {
	const role = "PGTEST_HOLD_SERVER"
	migrate, _ := newMigration()
	database := pgtest.Database(t, migrate)
	if os.Getenv(role) != "" {
		fmt.Println(database)
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		return
	}
	if os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip("the server is not private")
	}
	held, kill := holdServer(t, role)
	u, err := url.Parse(held)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(u.Query().Get("host")) })
	conn := connect(t, held)
	kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := conn.WaitForNotification(ctx); ctx.Err() != nil {
		t.Errorf("the server outlived its test binary: %v", err)
	}
}

// holdServer starts this test in a second process and returns the URL of its
// database and a function that kills the process.
func holdServer(t *testing.T, role string) (database string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledBinaryLeavesNoServer$")
	cmd.Env = append(os.Environ(), role+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = stdin.Close()
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "postgres://") {
		kill()
		t.Fatalf("the second process said %q: %v", line, err)
	}
	return strings.TrimSpace(line), kill
}
