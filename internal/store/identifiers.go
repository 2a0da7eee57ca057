package store

import (
	"context"
	"time"

	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Identifier tells who has the folded identifier, or has it held. session.ErrNotFound when nobody does.
func (s *Store) Identifier(ctx context.Context, key string) (credential.Identifier, error) {
	var rows []struct {
		UserID    string
		AccountID string
		HeldUntil *time.Time
	}
	err := s.query(ctx).Raw("SELECT user_id, account_id, held_until FROM identifiers WHERE key = ?", key).Scan(&rows).Error
	if err != nil {
		return credential.Identifier{}, s.translate(err)
	}
	if len(rows) == 0 || rows[0].HeldUntil != nil && !rows[0].HeldUntil.After(s.now()) {
		return credential.Identifier{}, session.ErrNotFound
	}
	return credential.Identifier{
		Key: key, UserID: user.ID(rows[0].UserID), AccountID: rows[0].AccountID, HeldUntil: momentOf(rows[0].HeldUntil),
	}, nil
}

// mostPending bounds the users who are looked at as waiting for one address.
const mostPending = 100

// Pending returns users of the account who at now wait to confirm the folded address, in the order of their ids.
func (s *Store) Pending(ctx context.Context, accountID, key string, now time.Time) ([]user.User, error) {
	var rows []userRow
	err := s.query(ctx).Where("account_id = ? AND pending_email_key <> '' AND pending_email_key = ? AND pending_email_until > ?", accountID, key, moment(now)).
		Order("id").Limit(mostPending).Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	return usersOf(rows)
}

func usersOf(rows []userRow) ([]user.User, error) {
	users := make([]user.User, len(rows))
	for i, row := range rows {
		var err error
		if users[i], err = row.user(); err != nil {
			return nil, err
		}
	}
	return users, nil
}
