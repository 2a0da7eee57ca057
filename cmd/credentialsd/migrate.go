package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/store"
)

// openDatabase opens the database for a command that does not serve.
func openDatabase(ctx context.Context, p process) (*store.Store, config.Config, error) {
	settings, err := config.LoadDatabase(p.getenv)
	if err != nil {
		return nil, config.Config{}, err
	}
	s, err := store.Open(ctx, store.Config{URL: settings.DatabaseURL.Reveal(), Log: newLogger(p.stderr, settings.LogLevel), Now: p.now})
	return s, settings, err
}

// checkMigrated refuses a database whose schema is not the program's, and says what to do.
func checkMigrated(ctx context.Context, s *store.Store) error {
	err := s.Migrated(ctx)
	if errors.Is(err, store.ErrPending) {
		return fmt.Errorf("%w; run credentialsd migrate up first", err)
	}
	return err
}

type migrateUpCommand struct{}

// Run applies every migration that is missing.
func (migrateUpCommand) Run(ctx context.Context, p process) error {
	s, _, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	steps, err := s.Migrate(ctx)
	if err != nil {
		return err
	}
	for _, step := range steps {
		fmt.Fprintln(p.stdout, "applied", step.Name)
	}
	fmt.Fprintln(p.stdout, "the schema is up to date")
	return nil
}

type migrateStatusCommand struct{}

// Run lists the migrations.
func (migrateStatusCommand) Run(ctx context.Context, p process) error {
	s, _, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	steps, err := s.Migrations(ctx)
	if err != nil {
		return err
	}
	for _, step := range steps {
		state := "pending"
		if step.Applied {
			state = "applied"
		}
		fmt.Fprintln(p.stdout, state, step.Name)
	}
	return nil
}
