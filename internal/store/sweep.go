package store

import (
	"context"
	"time"

	"gorm.io/gorm"
)

// Sweep deletes what nothing asks for any more: counters of failures, known networks and devices that have not been touched
// since then, sessions that ran out before then, expired links and kept answers, dead letters that old, rates that are whole
// again, temporary passwords of jobs that nobody fetched in time, and jobs that were over before then. It returns how many rows
// went.
func (s *Store) Sweep(ctx context.Context, untouchedSince time.Time) (int64, error) {
	var swept int64
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		swept = 0
		for _, step := range []struct {
			statement string
			value     any
		}{
			{"DELETE FROM throttles WHERE updated_at < ?", moment(untouchedSince)},
			{"DELETE FROM known_networks WHERE last_sign_in_at < ?", moment(untouchedSince)},
			{"DELETE FROM known_devices WHERE last_sign_in_at < ?", moment(untouchedSince)},
			{"DELETE FROM one_time_tokens WHERE expires_at < ?", moment(s.now())},
			{"DELETE FROM idempotency_keys WHERE expires_at <= ?", moment(s.now())},
			{"DELETE FROM sessions WHERE expires_at < ?", moment(untouchedSince)},
			{"DELETE FROM stream_deliveries WHERE dead_at < ?", moment(untouchedSince)},
			{"DELETE FROM rates WHERE tat < ?", s.now().UnixMicro()},
			{"UPDATE bulk_items SET sealed = NULL WHERE sealed IS NOT NULL AND expires_at <= ?", moment(s.now())},
			{"DELETE FROM bulk_items WHERE job_id IN (SELECT id FROM bulk_jobs WHERE finished_at < ?)", moment(untouchedSince)},
			{"DELETE FROM bulk_jobs WHERE finished_at < ?", moment(untouchedSince)},
		} {
			deleted := tx.Exec(step.statement, step.value)
			if deleted.Error != nil {
				return deleted.Error
			}
			swept += deleted.RowsAffected
		}
		return nil
	})
	return swept, err
}
