package store

import (
	"context"
	"time"

	"gorm.io/gorm"
)

// backdated makes every statement look slow, so that tests need not wait for one that is.
type backdated struct{ queryLogger }

func (l backdated) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), err error) {
	l.queryLogger.Trace(ctx, begin.Add(-slowQuery), statement, err)
}

// TakeAllForSlow makes the store's log treat every statement as a slow one.
func (s *Store) TakeAllForSlow() {
	if log, ok := s.db.Logger.(queryLogger); ok {
		s.db = s.db.Session(&gorm.Session{Logger: backdated{log}})
	}
}
