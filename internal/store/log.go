package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// slowQuery is how long a statement may take before it is logged.
const slowQuery = 500 * time.Millisecond

// queryLogger writes failing and slow statements to the log, with placeholders and never with values: GORM's own logger
// would show password hashes (HASH-15, LOG-04).
type queryLogger struct{ log *slog.Logger }

func (l queryLogger) LogMode(logger.LogLevel) logger.Interface { return l }

func (queryLogger) Info(context.Context, string, ...any)  {}
func (queryLogger) Warn(context.Context, string, ...any)  {}
func (queryLogger) Error(context.Context, string, ...any) {}

// ParamsFilter drops the values before GORM puts them into the text of a statement.
func (queryLogger) ParamsFilter(_ context.Context, query string, _ ...any) (string, []any) {
	return query, nil
}

func (l queryLogger) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), err error) {
	took := time.Since(begin)
	failed := err != nil && !errors.Is(err, gorm.ErrRecordNotFound) && !errors.Is(err, context.Canceled)
	if !failed && took < slowQuery {
		return
	}
	query, rows := statement()
	attributes := []any{"statement", query, "rows", rows, "took_ms", took.Milliseconds()}
	if failed {
		// Only the kind: a driver's text may repeat a value (a broken unique key, say).
		l.log.DebugContext(ctx, "a statement failed", append(attributes, "error_kind", fmt.Sprintf("%T", err))...)
		return
	}
	l.log.WarnContext(ctx, "a statement was slow", attributes...)
}
