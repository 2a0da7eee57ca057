package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

const postgresName = "postgres"

// How long PostgreSQL may work on one statement, and wait for one lock, before the request is given up.
const (
	statementTimeout = 15 * time.Second
	lockTimeout      = 10 * time.Second
)

type postgresQuirks struct{}

func postgresDialect(url string) (gorm.Dialector, dialect, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, errors.New("store: the database URL is not one of PostgreSQL") // pgx's text may hold the password
	}
	config.RuntimeParams["application_name"] = "credentialsd"
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["statement_timeout"] = strconv.FormatInt(statementTimeout.Milliseconds(), 10)
	config.RuntimeParams["lock_timeout"] = strconv.FormatInt(lockTimeout.Milliseconds(), 10)
	// A statement is planned for its values, each time: the plan that fits any pattern and any team reads all users, and the one that
	// fits an empty queue all of a full one. See byKey for the others.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	dialector := &postgres.Dialector{Config: &postgres.Config{Conn: stdlib.OpenDB(*config)}}
	return postgresDialector{dialector}, postgresQuirks{}, nil
}

// postgresDialector keeps values out of the text of statements. The logger alone cannot: GORM's Scan lets the dialect
// explain the statement before the logger is asked (HASH-15, LOG-04).
type postgresDialector struct{ *postgres.Dialector }

func (postgresDialector) Explain(query string, _ ...any) string { return query }

func (postgresQuirks) name() string       { return postgresName }
func (postgresQuirks) writing() func()    { return func() {} }
func (postgresQuirks) forUpdate() string  { return " FOR UPDATE" }
func (postgresQuirks) skipLocked() string { return " FOR UPDATE SKIP LOCKED" }
func (postgresQuirks) forShare() string   { return " FOR SHARE" }
func (postgresQuirks) timeType() string   { return "timestamptz" }
func (postgresQuirks) position() string   { return "strpos" }

func (postgresQuirks) keyShare(table string) string { return " FOR KEY SHARE OF " + table }

func (postgresQuirks) byKey(tx *gorm.DB) *gorm.DB {
	keyed := tx.Session(&gorm.Session{NewDB: true, Context: tx.Statement.Context})
	keyed.Statement.ConnPool = prepared{keyed.Statement.ConnPool}
	return keyed
}

// prepared keeps statements prepared on their connection, where PostgreSQL soon keeps their plans as well: to plan a statement
// that finds one row takes longer than to run it.
type prepared struct{ gorm.ConnPool }

// ExecContext runs a statement that returns no rows.
func (p prepared) ExecContext(ctx context.Context, query string, values ...any) (sql.Result, error) {
	return p.ConnPool.ExecContext(ctx, query, append([]any{pgx.QueryExecModeCacheStatement}, values...)...)
}

// QueryContext runs a statement that returns rows.
func (p prepared) QueryContext(ctx context.Context, query string, values ...any) (*sql.Rows, error) {
	return p.ConnPool.QueryContext(ctx, query, append([]any{pgx.QueryExecModeCacheStatement}, values...)...)
}

// QueryRowContext runs a statement that returns one row.
func (p prepared) QueryRowContext(ctx context.Context, query string, values ...any) *sql.Row {
	return p.ConnPool.QueryRowContext(ctx, query, append([]any{pgx.QueryExecModeCacheStatement}, values...)...)
}

// rowsFrom binds an array for each column: a list of values would have a parameter for every single one.
func (postgresQuirks) rowsFrom(columns []reflect.Value) (text string, values []any) {
	arrays := make([]string, len(columns))
	for i, column := range columns {
		arrays[i] = "CAST(? AS " + arrayType(column.Type().Elem()) + "[])"
		values = append(values, whole{column.Interface()})
	}
	return "SELECT * FROM unnest(" + strings.Join(arrays, ", ") + ")", values
}

func arrayType(of reflect.Type) string {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch of.Kind() { //nolint:exhaustive // what rows are made of
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "bigint"
	case reflect.Struct:
		return "timestamptz"
	}
	return "text"
}

// SQLSTATEs (PostgreSQL documentation, appendix A).
const (
	uniqueViolation       = "23505"
	serializationFailure  = "40001"
	deadlockDetected      = "40P01"
	connectionException   = "08"
	tooManyConnections    = "53300"
	adminShutdown         = "57P"
	queryCanceled         = "57014" // by the statement timeout
	lockNotAvailable      = "55P03" // by the lock timeout
	insufficientPrivilege = "42501"
)

func (postgresQuirks) brokenConstraint(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == uniqueViolation {
		return pg.ConstraintName
	}
	return ""
}

func (postgresQuirks) retryable(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == serializationFailure || pg.Code == deadlockDetected)
}

// isConnectionError tells a database that is away from one that says no. One that lets nobody in is away, whatever it says
// to that.
func isConnectionError(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, connectionException) || pg.Code == tooManyConnections || strings.HasPrefix(pg.Code, adminShutdown) ||
			pg.Code == queryCanceled || pg.Code == lockNotAvailable
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err)
}

// isForbidden tells whether the role lacks a right.
func isForbidden(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == insufficientPrivilege
}
