package store

import (
	"context"
	"time"

	"github.com/salesexec/credentials/internal/user"
)

// usesStatement selects when sessions are known to have been in use, ended ones too: when they were opened and when they were last
// refreshed. The place of both is where they were opened.
const usesStatement = "SELECT user_id, signed_in_at AS at, network FROM sessions WHERE user_id IN ?" +
	" UNION ALL SELECT user_id, last_used_at AS at, network FROM sessions WHERE user_id IN ? AND last_used_at > signed_in_at" +
	" ORDER BY user_id, at"

// Uses tells when sessions of the users are known to have been in use and from which network, the uses of each user in the
// order of time.
func (s *Store) Uses(ctx context.Context, users []user.ID, visit func(id user.ID, at time.Time, network string)) (err error) {
	rows, err := s.query(ctx).Raw(usesStatement, users, users).Rows()
	if err != nil {
		return s.translate(err)
	}
	defer func() {
		if closed := rows.Close(); err == nil {
			err = s.translate(closed)
		}
	}()
	for rows.Next() {
		var id, network string
		var at time.Time
		if err := rows.Scan(&id, &at, &network); err != nil {
			return s.translate(err)
		}
		visit(user.ID(id), moment(at), network)
	}
	return s.translate(rows.Err())
}
