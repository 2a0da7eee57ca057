package store_test

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/review"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// crowdsSessions gives every user of the crowd two sessions, and one in 1,000 of them six within the hour, each from a network of
// its own.
func crowdsSessions(tb testing.TB, db besides) {
	tb.Helper()
	for _, statement := range []string{
		`INSERT INTO sessions (id, user_id, account_id, generation, must_change, signed_in_at, last_used_at, expires_at, refresh_count, refresh_salt, ip, network, user_agent)
			SELECT id || '-' || n, id, account_id, 1, false, at, at + interval '40 minutes', at + interval '12 hours', 3, 'salt', '192.0.2.1', '10.0.' || n || '.0/24', 'bench'
			FROM (SELECT id, account_id, n, now() - n * interval '7 minutes' AS at FROM users, generate_series(1, 6) n WHERE n <= 2 OR id LIKE '%777big') uses`,
		"VACUUM ANALYZE sessions",
	} {
		if _, err := db.ExecContext(tb.Context(), statement); err != nil {
			tb.Fatal(err)
		}
	}
}

// A review is read by indexes: no window of users looks at all of them, or at all sessions. A window here is to the account what one
// of a review is to an account of 400,000.
func TestReview_plans(t *testing.T) {
	url := pgtest.Database(t, migrate)
	db := beside(t, url)
	crowd(t, db, 40_000)
	crowdsSessions(t, db)
	s := opened(t, url)
	users, uses := windowPlans(t, s, 100)
	for plan, index := range map[string]string{users: "users_page", uses: "sessions_by_user"} {
		if strings.Contains(plan, "Seq Scan on users") || strings.Contains(plan, "Seq Scan on sessions") || !strings.Contains(plan, index) {
			t.Errorf("it is not found by %s:\n%s", index, plan)
		}
	}
}

// windowPlans returns how PostgreSQL finds a window of users, and the uses of their sessions.
func windowPlans(tb testing.TB, s *store.Store, size int) (users, uses string) {
	tb.Helper()
	company := access.Actor{Kind: access.Person, User: user.User{ID: "nobody-1", AccountID: "big", Role: user.Administrator, Team: "/"}}
	members, err := s.Members(tb.Context(), company, credential.Filter{}, "user-8", size)
	if err != nil {
		tb.Fatal(err)
	}
	var ids []user.ID
	for _, m := range members {
		ids = append(ids, m.User.ID)
	}
	plans, err := s.ExplainMembers(tb.Context(), company, credential.Filter{}, "user-8", size)
	if err != nil {
		tb.Fatal(err)
	}
	if uses, err = s.ExplainUses(tb.Context(), ids); err != nil {
		tb.Fatal(err)
	}
	return strings.Join(plans, "\n"), uses
}

// peak follows the heap of the process until it is stopped, and returns the most that was in use.
func peak() (stop func() uint64) {
	var most atomic.Uint64
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(done); <-over; return most.Load() }
}

// meter notes when the first line arrived, and counts the lines.
type meter struct {
	began time.Time
	first time.Duration
	lines int
}

func (m *meter) Write(p []byte) (int, error) {
	if m.first == 0 {
		m.first = time.Since(m.began)
	}
	m.lines += bytes.Count(p, []byte("\n"))
	return len(p), nil
}

// BenchmarkReview measures the file of a credential review and the first page with its summary, of an account of BENCH_USERS users
// (1,000,000 if that is not set) with two sessions each, in a PostgreSQL of its own:
//
//	go test -run '^$' -bench Review -benchtime 1x -timeout 1h ./internal/store
func BenchmarkReview(b *testing.B) {
	users := 1_000_000
	if given, err := strconv.Atoi(os.Getenv("BENCH_USERS")); err == nil {
		users = given
	}
	url := pgtest.Database(b, migrate)
	db := beside(b, url)
	crowd(b, db, users)
	crowdsSessions(b, db)
	s := opened(b, url)
	window, uses := windowPlans(b, s, 1000)
	b.Logf("a window of 1,000 users:\n%s\n%s", window, uses)
	account, err := s.Account(b.Context(), "big")
	if err != nil {
		b.Fatal(err)
	}
	describe := func(string) (string, bool) { return "argon2id", false }
	r := review.New(s, describe, time.Now)
	query := review.Query{
		Actor:   access.Actor{Kind: access.Person, Account: account, User: user.User{ID: "nobody-1", AccountID: "big", Role: user.Administrator, Team: "/"}},
		Account: account, OldDays: review.DefaultOldDays, DormantDays: review.DefaultDormantDays,
	}
	measure := func(b *testing.B, lines int, work func(ctx context.Context, m *meter) error) {
		for b.Loop() {
			runtime.GC()
			stop, m := peak(), &meter{began: time.Now()}
			if err := work(b.Context(), m); err != nil {
				b.Fatal(err)
			}
			took := time.Since(m.began)
			if m.lines != lines {
				b.Fatalf("%d lines", m.lines)
			}
			b.ReportMetric(float64(stop())/(1<<20), "heap-MiB")
			if lines > 0 {
				b.ReportMetric(float64(m.first.Milliseconds()), "first-ms")
				b.ReportMetric(float64(users)/took.Seconds(), "users/s")
			}
		}
	}
	b.Run("file", func(b *testing.B) {
		measure(b, users+1, func(ctx context.Context, m *meter) error {
			file, err := r.Open(ctx, query)
			if err != nil {
				return err
			}
			return file.Write(ctx, m, func() error { return nil })
		})
	})
	b.Run("first_page_with_summary", func(b *testing.B) {
		measure(b, 0, func(ctx context.Context, _ *meter) error {
			_, _, summary, err := r.Page(ctx, query, "", 50, true)
			if err == nil && summary.Findings[review.ManyPlaces] == 0 {
				b.Fatal("nobody was found")
			}
			return err
		})
	})
	b.Run("page_of_a_rare_finding", func(b *testing.B) {
		narrowed := query
		narrowed.Findings = []review.Finding{review.ManyPlaces}
		measure(b, 0, func(ctx context.Context, _ *meter) error {
			_, _, _, err := r.Page(ctx, narrowed, "", 50, false)
			return err
		})
	})
	b.Run("page", func(b *testing.B) {
		measure(b, 0, func(ctx context.Context, _ *meter) error {
			_, _, _, err := r.Page(ctx, query, "user-8", 50, false)
			return err
		})
	})
}
