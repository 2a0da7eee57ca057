package store_test

import (
	"io/fs"
	"os"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/salesexec/credentials/internal/storetest"
)

// OPS-07: what a database of the release before holds is there after the migration. The columns are named as that release
// names them.
func TestMigrate_clientSecrets(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		dialect, folder := goose.DialectSQLite3, "migrations/sqlite"
		if db.postgres {
			dialect, folder = goose.DialectPostgres, "migrations/postgres"
		}
		files, err := fs.Sub(os.DirFS("."), folder)
		must(t, err)
		provider, err := goose.NewProvider(dialect, db.DB, files)
		must(t, err)
		_, err = provider.DownTo(t.Context(), 6)
		must(t, err)
		db.exec(t, "INSERT INTO accounts (id, name, created_at) VALUES ('demo', 'Demo', '2026-01-01 00:00:00+00:00')",
			"INSERT INTO clients (id, name, account_id, scopes, secret_hash, created_at) VALUES ('router', 'Router', 'demo', 'users:read', 'digest-1', '2026-01-01 00:00:00+00:00')")
		s := opened(t, url)
		_, err = s.Migrate(t.Context())
		must(t, err)
		secrets, err := s.ClientSecrets(t.Context(), "router")
		must(t, err)
		if len(secrets) != 1 || secrets[0].Digest != "digest-1" || secrets[0].ExpiresAt != nil || secrets[0].CreatedAt.After(storetest.Now()) {
			t.Errorf("%+v", secrets)
		}
		// And the release before goes on registering clients while both run.
		db.exec(t, "INSERT INTO clients (id, name, account_id, scopes, secret_hash, created_at) VALUES ('dialer', 'Dialer', 'demo', 'users:read', 'digest-2', '2026-01-01 00:00:00+00:00')")
	})
}

// OPS-07: every step can be taken back, and taken again.
func TestMigrate_backAndForth(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		dialect, folder := goose.DialectSQLite3, "migrations/sqlite"
		if db.postgres {
			dialect, folder = goose.DialectPostgres, "migrations/postgres"
		}
		files, err := fs.Sub(os.DirFS("."), folder)
		must(t, err)
		provider, err := goose.NewProvider(dialect, db.DB, files)
		must(t, err)
		_, err = provider.DownTo(t.Context(), 0)
		must(t, err)
		if left := db.contents(t); len(left) > 2 { // goose's own, and SQLite's sequence of it
			t.Errorf("%d tables are left", len(left))
		}
		s := opened(t, url)
		_, err = s.Migrate(t.Context())
		must(t, err)
		must(t, s.Migrated(t.Context()))
	})
}
