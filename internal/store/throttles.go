package store

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/throttle"
)

type throttleRow struct {
	Key          string
	Failures     int
	InFlight     int
	LeaseUntil   *time.Time
	BlockedUntil *time.Time
}

func (r throttleRow) state() throttle.State {
	state := throttle.State{Failures: r.Failures, InFlight: r.InFlight}
	if r.LeaseUntil != nil {
		state.LeaseUntil = r.LeaseUntil.UTC()
	}
	if r.BlockedUntil != nil {
		state.BlockedUntil = r.BlockedUntil.UTC()
	}
	return state
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return momentOf(&t)
}

// UpdateThrottles reads the counters, lets apply change them and writes them, alone with them: it makes the rows first,
// so that there is something to hold, and holds them in the order of keys, which is the same for one subject everywhere.
func (s *Store) UpdateThrottles(ctx context.Context, subject string, keys []string, apply func([]throttle.State) ([]throttle.State, bool)) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		states := make([]throttle.State, len(keys))
		for i, key := range keys {
			row, err := s.holdThrottle(tx, subject, key)
			if err != nil {
				return err
			}
			states[i] = row.state()
		}
		states, write := apply(states)
		if !write {
			return nil
		}
		for i, key := range keys {
			err := tx.Exec("UPDATE throttles SET failures = ?, in_flight = ?, lease_until = ?, blocked_until = ?, updated_at = ? WHERE key = ?",
				states[i].Failures, states[i].InFlight, timeOrNull(states[i].LeaseUntil), timeOrNull(states[i].BlockedUntil), moment(s.now()), key).Error
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) holdThrottle(tx *gorm.DB, subject, key string) (throttleRow, error) {
	var rows []throttleRow
	read := "SELECT key, failures, in_flight, lease_until, blocked_until FROM throttles WHERE key = ?" + s.dialect.forUpdate()
	if err := tx.Raw(read, key).Scan(&rows).Error; err != nil || len(rows) == 1 {
		return first(rows), err
	}
	err := tx.Exec("INSERT INTO throttles (key, subject, failures, in_flight, updated_at) VALUES (?, ?, 0, 0, ?) ON CONFLICT (key) DO NOTHING",
		key, subject, moment(s.now())).Error
	if err != nil {
		return throttleRow{}, err
	}
	err = tx.Raw(read, key).Scan(&rows).Error
	return first(rows), err
}

func first[T any](rows []T) T {
	if len(rows) == 0 {
		var none T
		return none
	}
	return rows[0]
}

// allowStatement is the generic cell rate algorithm in one statement: no row comes back when the rate is used up.
const allowStatement = `INSERT INTO rates (key, tat) VALUES (@key, CAST(@now AS bigint) + CAST(@emit AS bigint))
ON CONFLICT (key) DO UPDATE SET tat = (CASE WHEN rates.tat > CAST(@now AS bigint) THEN rates.tat ELSE CAST(@now AS bigint) END) + CAST(@emit AS bigint)
WHERE (CASE WHEN rates.tat > CAST(@now AS bigint) THEN rates.tat ELSE CAST(@now AS bigint) END) + CAST(@emit AS bigint) - CAST(@now AS bigint) <= CAST(@window AS bigint)
RETURNING tat`

// AllowRate counts one request against key, of which n per period are allowed.
func (s *Store) AllowRate(ctx context.Context, key string, n int, per time.Duration, now time.Time) (throttle.Allowance, error) {
	emit := per.Microseconds() / int64(n)
	window, at := emit*int64(n), now.UnixMicro()
	var arrivals []int64
	done := s.dialect.writing()
	err := s.byKey(ctx).Raw(allowStatement, map[string]any{"key": key, "now": at, "emit": emit, "window": window}).Scan(&arrivals).Error
	done()
	if err != nil {
		return throttle.Allowance{}, s.translate(err)
	}
	allowance := throttle.Allowance{Allowed: len(arrivals) == 1, Limit: n}
	if !allowance.Allowed {
		if err := s.query(ctx).Raw("SELECT tat FROM rates WHERE key = ?", key).Scan(&arrivals).Error; err != nil {
			return throttle.Allowance{}, s.translate(err)
		}
		if len(arrivals) == 0 {
			return throttle.Allowance{}, fmt.Errorf("store: the rate of a refused request is gone")
		}
		allowance.RetryAfter = time.Duration(arrivals[0]+emit-window-at) * time.Microsecond
	}
	ahead := max(arrivals[0]-at, 0)
	allowance.Remaining = int(max(window-ahead, 0) / emit)
	allowance.ResetAfter = time.Duration(ahead) * time.Microsecond
	return allowance, nil
}

// Standings tells what holds off attempts at the passwords of subjects.
func (s *Store) Standings(ctx context.Context, subjects []string) (map[string]throttle.Standing, error) {
	var rows []struct {
		Subject string
		Counter throttleRow `gorm:"embedded"`
	}
	if len(subjects) == 0 {
		return map[string]throttle.Standing{}, nil
	}
	text, values := s.dialect.rowsFrom([]reflect.Value{reflect.ValueOf(subjects)})
	err := s.byKey(ctx).Raw("SELECT subject, key, failures, in_flight, lease_until, blocked_until FROM throttles WHERE subject IN ("+text+")", values...).Scan(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	now, found := s.now(), map[string]throttle.Standing{}
	for _, row := range rows {
		standing := found[row.Subject]
		if row.Counter.Key == row.Subject {
			standing.Failures = row.Counter.state().Confirmed()
		}
		if strings.HasPrefix(row.Counter.Key, row.Subject+"#") { // delays a session that is open, not a sign-in
			continue
		}
		if until := row.Counter.BlockedUntil; until != nil && until.After(now) && (standing.BlockedUntil == nil || until.After(*standing.BlockedUntil)) {
			standing.BlockedUntil = momentOf(until)
		}
		found[row.Subject] = standing
	}
	return found, nil
}
