package store

import (
	"context"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/user"
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

// ExplainMembers returns how PostgreSQL finds who is on a list's page: a plan for each time it looks.
func (s *Store) ExplainMembers(ctx context.Context, actor access.Actor, f credential.Filter, after user.ID, limit int) ([]string, error) {
	var plans []string
	l := list{actor, f, after, limit, s.now(), s.dialect.position()}
	_, err := l.find(func(statement string, values []any) (ids []user.ID, err error) {
		var lines []string
		err = s.query(ctx).Raw("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "+statement, values...).Scan(&lines).Error
		if err != nil {
			return nil, err
		}
		plans = append(plans, strings.Join(lines, "\n"))
		err = s.query(ctx).Raw(statement, values...).Scan(&ids).Error
		return ids, err
	})
	return plans, err
}

// ExplainUses returns the plan by which PostgreSQL finds the uses of sessions.
func (s *Store) ExplainUses(ctx context.Context, users []user.ID) (string, error) {
	var lines []string
	err := s.query(ctx).Raw("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "+usesStatement, users, users).Scan(&lines).Error
	return strings.Join(lines, "\n"), err
}

// KeptPlans returns the statements that one of the store's connections to PostgreSQL keeps a plan of.
func (s *Store) KeptPlans(ctx context.Context) ([]string, error) {
	var statements []string
	err := s.query(ctx).Raw("SELECT statement FROM pg_prepared_statements WHERE generic_plans > ?", 0).Scan(&statements).Error
	return statements, err
}
