// Package store keeps everything in PostgreSQL or SQLite. GORM is used here and nowhere else.
//
// It implements the stores that packages session, credential, client, audit, signal and throttle name, and depends on those for
// their words. One code serves both databases; what differs between them is in postgres.go and sqlite.go. Uniqueness and
// races are decided by constraints and conditional updates, never by a SELECT before a write.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
)

// Store is an open database.
type Store struct {
	db      *gorm.DB
	dialect dialect
	sealer  *secret.Sealer
	log     *slog.Logger
	now     func() time.Time
}

// dialect is what differs between the two databases.
type dialect interface {
	name() string
	// writing holds off other writers of this process where the database cannot queue them itself.
	writing() (done func())
	// forUpdate and forShare are what a SELECT ends with to hold its rows until the transaction ends; skipLocked passes by
	// those that another transaction holds. keyShare keeps the rows of one of its tables from being deleted, and no more.
	forUpdate() string
	skipLocked() string
	forShare() string
	keyShare(table string) string
	// timeType is the column type of a time.
	timeType() string
	// position is the function that tells where a text holds another, counted from 1; 0 where it does not.
	position() string
	// byKey returns a session for statements that find each row by a key, whatever the values and however many rows there are: their
	// plans are kept.
	byKey(tx *gorm.DB) *gorm.DB
	// rowsFrom is the rows that an INSERT or IN takes, given each column's values as a slice.
	rowsFrom(columns []reflect.Value) (text string, values []any)
	// brokenConstraint names the constraint that an error is about, or "".
	brokenConstraint(err error) string
	// retryable tells whether the whole transaction may succeed if it is tried again.
	retryable(err error) bool
}

// Config says which database to open, and how.
type Config struct {
	URL            string // postgres://... or sqlite:PATH
	MaxConnections int    // of PostgreSQL; 0 means 20
	Sealer         *secret.Sealer
	Log            *slog.Logger
	Now            func() time.Time
}

// Open connects to the database. It does not migrate.
func Open(ctx context.Context, config Config) (*Store, error) {
	dialector, dialect, err := dialectFor(config)
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(dialector, &gorm.Config{
		SkipDefaultTransaction: true, // transactions are begun here, on purpose
		DisableAutomaticPing:   true,
		Logger:                 queryLogger{log: config.Log},
		NowFunc:                func() time.Time { return moment(config.Now()) },
	})
	if err != nil {
		return nil, fmt.Errorf("store: open: %w", err)
	}
	s := &Store{db: db, dialect: dialect, sealer: config.Sealer, log: config.Log, now: config.Now}
	if err := s.limitPool(config); err != nil {
		return nil, err
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func dialectFor(config Config) (gorm.Dialector, dialect, error) {
	switch {
	case strings.HasPrefix(config.URL, "postgres://"), strings.HasPrefix(config.URL, "postgresql://"):
		return postgresDialect(config.URL)
	case strings.HasPrefix(config.URL, sqlitePrefix):
		return sqliteDialect(strings.TrimPrefix(config.URL, sqlitePrefix))
	}
	return nil, nil, errors.New("store: the database URL has neither the scheme postgres nor sqlite")
}

// Pool sizes. SQLite has one writer; a few readers beside it are plenty.
const (
	defaultConnections = 20
	sqliteConnections  = 8
	idleConnection     = 5 * time.Minute
)

func (s *Store) limitPool(config Config) error {
	pool, err := s.db.DB()
	if err != nil {
		return fmt.Errorf("store: pool: %w", err)
	}
	most := config.MaxConnections
	if most == 0 {
		most = defaultConnections
	}
	if s.dialect.name() == sqliteName {
		most = sqliteConnections
	}
	pool.SetMaxOpenConns(most)
	pool.SetMaxIdleConns(most)
	pool.SetConnMaxIdleTime(idleConnection)
	return nil
}

// Close ends all connections.
func (s *Store) Close() error {
	pool, err := s.db.DB()
	if err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return pool.Close()
}

// Ping asks the database for nothing. change.ErrUnavailable when it does not answer.
func (s *Store) Ping(ctx context.Context) error {
	pool, err := s.db.DB()
	if err != nil {
		return fmt.Errorf("store: ping: %w", err)
	}
	if err := pool.PingContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", change.ErrUnavailable, err)
	}
	return nil
}

// moment is a time as both databases keep it: UTC, to the microsecond.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func momentOf(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := moment(*t)
	return &u
}

// transactionTries bounds how often a transaction is tried when the database asks for it (deadlock, serialization, busy).
const transactionTries = 5

// transaction runs work whole or not at all. work may run more than once.
func (s *Store) transaction(ctx context.Context, work func(tx *gorm.DB) error) error {
	defer s.dialect.writing()()
	var err error
	for range transactionTries {
		err = s.db.WithContext(ctx).Transaction(work)
		if err == nil || !s.dialect.retryable(err) {
			return s.translate(err)
		}
	}
	s.log.WarnContext(ctx, "a transaction was given up: the database asked for another try each time", "tries", transactionTries, "error", err.Error())
	return s.translate(err)
}

// query begins a statement outside a transaction.
func (s *Store) query(ctx context.Context) *gorm.DB { return s.db.WithContext(ctx) }

// byKey begins a statement outside a transaction that finds its rows by their keys.
func (s *Store) byKey(ctx context.Context) *gorm.DB { return s.dialect.byKey(s.query(ctx)) }

// translate turns what the database says into the errors of the packages this one serves.
func (s *Store) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gorm.ErrRecordNotFound):
		return session.ErrNotFound
	case s.dialect.retryable(err):
		return fmt.Errorf("%w: %w", change.ErrUnavailable, err) // nobody else changed what this was about
	case isConnectionError(err):
		return fmt.Errorf("%w: %w", change.ErrUnavailable, err)
	}
	return err
}
