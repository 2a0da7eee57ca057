package store

import (
	"database/sql"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/migrator"
	"gorm.io/gorm/schema"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	sqliteName   = "sqlite"
	sqlitePrefix = "sqlite:"
)

// sqliteSettings make SQLite behave: write-ahead log; FULL, so that an acknowledged change survives a power failure;
// transactions that begin as writers, since a reader that becomes one late fails at once; LIKE that tells case as PostgreSQL does; times in UTC.
const sqliteSettings = "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_pragma=case_sensitive_like(1)" +
	"&_txlock=immediate&_time_format=sqlite&_timezone=UTC"

type sqliteQuirks struct{ writer *sync.Mutex }

func sqliteDialect(path string) (gorm.Dialector, dialect, error) {
	if path == "" {
		return nil, nil, errors.New("store: sqlite: needs the path of a file")
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + sqliteSettings
	return sqliteDialector{dsn: dsn}, sqliteQuirks{writer: &sync.Mutex{}}, nil
}

func (sqliteQuirks) name() string { return sqliteName }

// writing queues the writers of this process: SQLite lets them poll, and the unlucky wait for seconds.
func (q sqliteQuirks) writing() func() {
	q.writer.Lock()
	return q.writer.Unlock
}

// BEGIN IMMEDIATE holds off every other writer, so rows need no locks.
func (sqliteQuirks) forUpdate() string  { return "" }
func (sqliteQuirks) skipLocked() string { return "" }
func (sqliteQuirks) forShare() string   { return "" }
func (sqliteQuirks) timeType() string   { return "text" }
func (sqliteQuirks) position() string   { return "instr" }

func (sqliteQuirks) keyShare(string) string { return "" }

func (sqliteQuirks) byKey(tx *gorm.DB) *gorm.DB { return tx }

func (sqliteQuirks) rowsFrom(columns []reflect.Value) (text string, values []any) {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ") + ")"
	rows := make([]string, columns[0].Len())
	for i := range rows {
		rows[i] = row
		for _, column := range columns {
			values = append(values, column.Index(i).Interface())
		}
	}
	return "VALUES " + strings.Join(rows, ", "), values
}

func (sqliteQuirks) brokenConstraint(err error) string {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && isUniqueCode(e.Code()) {
		return e.Error()
	}
	return ""
}

func isUniqueCode(code int) bool {
	return code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

func (sqliteQuirks) retryable(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY // the extended codes are in the upper bits
}

// sqliteDialector lets GORM speak SQLite through a driver without cgo. It migrates nothing.
type sqliteDialector struct{ dsn string }

func (sqliteDialector) Name() string { return sqliteName }

func (d sqliteDialector) Initialize(db *gorm.DB) error {
	pool, err := sql.Open("sqlite", d.dsn)
	if err != nil {
		return err
	}
	db.ConnPool = pool
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{
		CreateClauses:        []string{"INSERT", "VALUES", "ON CONFLICT", "RETURNING"},
		UpdateClauses:        []string{"UPDATE", "SET", "FROM", "WHERE", "RETURNING"},
		DeleteClauses:        []string{"DELETE", "FROM", "WHERE", "RETURNING"},
		LastInsertIDReversed: true,
	})
	return nil
}

func (d sqliteDialector) Migrator(db *gorm.DB) gorm.Migrator {
	return migrator.Migrator{Config: migrator.Config{DB: db, Dialector: d}}
}

func (sqliteDialector) DataTypeOf(f *schema.Field) string {
	switch f.DataType {
	case schema.Bool:
		return "numeric"
	case schema.Int, schema.Uint:
		return "integer"
	case schema.Float:
		return "real"
	case schema.Time:
		return "datetime"
	case schema.Bytes:
		return "blob"
	case schema.String:
		return "text"
	}
	return "text"
}

func (sqliteDialector) DefaultValueOf(*schema.Field) clause.Expression {
	return clause.Expr{SQL: "NULL"}
}

func (sqliteDialector) BindVarTo(w clause.Writer, _ *gorm.Statement, _ any) { _ = w.WriteByte('?') }

func (sqliteDialector) QuoteTo(w clause.Writer, name string) {
	quoted := strings.ReplaceAll(strings.ReplaceAll(name, `"`, `""`), ".", `"."`)
	_, _ = w.WriteString(`"` + quoted + `"`)
}

func (sqliteDialector) Explain(query string, _ ...any) string {
	return logger.ExplainSQL(query, nil, `"`) // values stay out
}
