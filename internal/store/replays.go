package store

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/replay"
)

type keyRow struct {
	Lookup      string
	Fingerprint string
	Owner       string
	LeaseUntil  time.Time
	ExpiresAt   time.Time
	Generation  int64
	Sealed      []byte
}

func (r keyRow) entry() replay.Entry {
	r.LeaseUntil, r.ExpiresAt = moment(r.LeaseUntil), moment(r.ExpiresAt)
	return replay.Entry(r)
}

// reserveStatement takes a key that is free: of the parallel requests with one key it lets one alone do so.
const reserveStatement = `INSERT INTO idempotency_keys (lookup, fingerprint, owner, lease_until, expires_at, generation, sealed)
VALUES (@lookup, @fingerprint, @owner, @lease, @expires, 0, NULL)
ON CONFLICT (lookup) DO UPDATE SET fingerprint = excluded.fingerprint, owner = excluded.owner, lease_until = excluded.lease_until,
    expires_at = excluded.expires_at, generation = 0, sealed = NULL
WHERE idempotency_keys.expires_at <= @now OR (idempotency_keys.sealed IS NULL AND idempotency_keys.lease_until <= @now)`

// reserveTries bounds how often a reservation starts over because the key in its way was given back just then.
const reserveTries = 3

// ReserveKey reserves an Idempotency-Key, unless its request runs or was answered: then it returns what is kept of it, and
// false.
func (s *Store) ReserveKey(ctx context.Context, e replay.Entry, now time.Time) (replay.Entry, bool, error) {
	for range reserveTries {
		reserved := false
		err := s.transaction(ctx, func(tx *gorm.DB) error {
			insert := tx.Exec(reserveStatement, map[string]any{
				"lookup": e.Lookup, "fingerprint": e.Fingerprint, "owner": e.Owner, "lease": moment(e.LeaseUntil), "expires": moment(e.ExpiresAt), "now": moment(now),
			})
			reserved = insert.RowsAffected == 1
			return insert.Error
		})
		if err != nil || reserved {
			return replay.Entry{}, reserved, err
		}
		if found, there, err := s.Key(ctx, e.Lookup, now); err != nil || there {
			return found, false, err
		}
	}
	return replay.Entry{}, false, fmt.Errorf("%w: a key was given back over and over", change.ErrConflict)
}

// Key finds what is kept under a look-up key, whose time must not be over.
func (s *Store) Key(ctx context.Context, lookup string, now time.Time) (replay.Entry, bool, error) {
	var rows []keyRow
	err := s.query(ctx).Raw("SELECT lookup, fingerprint, owner, lease_until, expires_at, generation, sealed FROM idempotency_keys"+
		" WHERE lookup = ? AND expires_at > ?", lookup, moment(now)).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return replay.Entry{}, false, s.translate(err)
	}
	return rows[0].entry(), true, nil
}

// ReleaseKey forgets the reservation of an owner, if its request was not answered.
func (s *Store) ReleaseKey(ctx context.Context, lookup, owner string) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		return tx.Exec("DELETE FROM idempotency_keys WHERE lookup = ? AND owner = ? AND sealed IS NULL", lookup, owner).Error
	})
}

// keep writes the answer to the request that makes the change. A reservation that somebody else took over, because this
// request was not heard of for too long, makes the change fail: it would be made twice.
func keep(tx *gorm.DB, c change.Change, result change.Result) error {
	if c.Replay == nil {
		return nil
	}
	sealed, err := c.Replay.Seal(result)
	if err != nil {
		return err
	}
	update := tx.Exec("UPDATE idempotency_keys SET sealed = ?, generation = ?, expires_at = ? WHERE lookup = ? AND owner = ? AND sealed IS NULL",
		sealed, c.Replay.Generation, moment(c.At.Add(replay.Life)), c.Replay.Lookup, c.Replay.Owner)
	if update.Error != nil {
		return update.Error
	}
	if update.RowsAffected != 1 {
		return change.ErrConflict
	}
	return nil
}
