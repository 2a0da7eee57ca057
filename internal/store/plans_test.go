package store_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
)

// PostgreSQL keeps the plans of what every request asks by key, which would take longer to make than to run; lists and queues are
// planned for what they look for and how full they are.
func TestPostgres_plans(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{
		URL: pgtest.Database(t, migrate), MaxConnections: 1, Log: slog.New(slog.DiscardHandler), Now: storetest.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	ctx, everybody := t.Context(), access.Actor{Kind: access.Service, AllAccounts: true}
	for range 10 { // PostgreSQL makes five plans before it keeps one
		_, _ = s.Member(ctx, "nobody") // found or not: it is asked
		_, _, _ = s.Session(ctx, "none")
		if _, err := s.AllowRate(ctx, "somebody", 100, time.Minute, storetest.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Members(ctx, everybody, credential.Filter{Query: "ada"}, "", 50); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Pushable(ctx, storetest.Now()); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := s.KeptPlans(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(kept, "\n")
	for _, part := range []string{"WHERE users.id = $1", "WHERE sessions.id = $1", "INSERT INTO rates"} {
		if !strings.Contains(all, part) {
			t.Errorf("%q is planned each time; kept are:\n%s", part, all)
		}
	}
	for _, part := range []string{"LIKE", "stream_deliveries"} {
		if strings.Contains(all, part) {
			t.Errorf("a plan with %q is kept:\n%s", part, all)
		}
	}
}
