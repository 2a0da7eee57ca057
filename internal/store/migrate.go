package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string
	Applied bool
}

func (s *Store) provider() (*goose.Provider, error) {
	pool, err := s.db.DB()
	if err != nil {
		return nil, fmt.Errorf("store: migrate: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations/"+s.dialect.name())
	if err != nil {
		return nil, fmt.Errorf("store: migrate: %w", err)
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	dialect := goose.DialectSQLite3
	if s.dialect.name() == postgresName {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker() // migrators that start together take turns
		if err != nil {
			return nil, fmt.Errorf("store: migrate: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, pool, files, options...)
	if err != nil {
		return nil, fmt.Errorf("store: migrate: %w", err)
	}
	return provider, nil
}

// Migrate brings the schema up to date and returns the steps that it took.
func (s *Store) Migrate(ctx context.Context) ([]Migration, error) {
	provider, err := s.provider()
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("store: migrate: %w", err)
	}
	steps := make([]Migration, len(results))
	for i, r := range results {
		steps[i] = Migration{Version: r.Source.Version, Name: r.Source.Path, Applied: true}
	}
	return steps, nil
}

// Migrations returns every step there is and whether it is applied.
func (s *Store) Migrations(ctx context.Context) ([]Migration, error) {
	provider, err := s.provider()
	if err != nil {
		return nil, err
	}
	statuses, err := provider.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("store: migration status: %w", err)
	}
	steps := make([]Migration, len(statuses))
	for i, status := range statuses {
		steps[i] = Migration{Version: status.Source.Version, Name: status.Source.Path, Applied: status.State == goose.StateApplied}
	}
	return steps, nil
}

// ErrPending says that the schema is older than the program.
var ErrPending = errors.New("store: migrations are pending")

// Migrated returns ErrPending when a step is missing.
func (s *Store) Migrated(ctx context.Context) error {
	steps, err := s.Migrations(ctx)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if !step.Applied {
			return fmt.Errorf("%w: %s", ErrPending, step.Name)
		}
	}
	return nil
}
