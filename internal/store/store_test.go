package store_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func open(ctx context.Context, url string) (*store.Store, error) {
	sealer, err := secret.NewSealer(secret.NewKey())
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{URL: url, Sealer: sealer, Log: slog.New(slog.DiscardHandler), Now: storetest.Now})
}

func migrate(ctx context.Context, url string) error {
	s, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	_, err = s.Migrate(ctx)
	return err
}

func sqliteURL(t *testing.T) string {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
	if err := migrate(context.Background(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

func opened(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store { return opened(t, sqliteURL(t)) })
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store { return opened(t, pgtest.Database(t, migrate)) })
}
