package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

type sessionRow struct {
	ID           string
	UserID       string
	AccountID    string
	Generation   int64
	MustChange   bool
	SignedInAt   time.Time
	LastUsedAt   time.Time
	ExpiresAt    time.Time
	EndedAt      *time.Time
	RefreshCount int64
	RefreshSalt  string
	IP           string
	Network      string
	UserAgent    string
}

func (sessionRow) TableName() string { return "sessions" }

func sessionRowOf(s session.Session) sessionRow {
	return sessionRow{
		ID: s.ID, UserID: string(s.UserID), AccountID: s.AccountID, Generation: s.Generation, MustChange: s.MustChangePassword,
		SignedInAt: moment(s.SignedInAt), LastUsedAt: moment(s.LastUsedAt), ExpiresAt: moment(s.ExpiresAt), EndedAt: momentOf(s.EndedAt),
		RefreshCount: s.RefreshCount, RefreshSalt: s.RefreshSalt, IP: s.IP, Network: s.Network, UserAgent: s.UserAgent,
	}
}

func (r sessionRow) session() session.Session {
	return session.Session{
		ID: r.ID, UserID: user.ID(r.UserID), AccountID: r.AccountID, Generation: r.Generation, MustChangePassword: r.MustChange,
		SignedInAt: moment(r.SignedInAt), LastUsedAt: moment(r.LastUsedAt), ExpiresAt: moment(r.ExpiresAt), EndedAt: momentOf(r.EndedAt),
		RefreshCount: r.RefreshCount, RefreshSalt: r.RefreshSalt, IP: r.IP, Network: r.Network, UserAgent: r.UserAgent,
	}
}

// Session finds a session with its user and account, in one statement. session.ErrNotFound when there is none.
func (s *Store) Session(ctx context.Context, id string) (session.Session, session.Member, error) {
	var rows []struct {
		Member  memberRow  `gorm:"embedded"`
		Session sessionRow `gorm:"embedded;embeddedPrefix:s_"`
	}
	err := s.byKey(ctx).Raw("SELECT "+memberColumns()+", "+columns("sessions", "s_", "id", "user_id", "account_id", "generation",
		"must_change", "signed_in_at", "last_used_at", "expires_at", "ended_at", "refresh_count", "refresh_salt", "ip", "network", "user_agent")+
		fromMembers+"JOIN sessions ON sessions.user_id = users.id WHERE sessions.id = ?", id).Scan(&rows).Error
	if err != nil {
		return session.Session{}, session.Member{}, s.translate(err)
	}
	if len(rows) == 0 {
		return session.Session{}, session.Member{}, session.ErrNotFound
	}
	member, err := rows[0].Member.member()
	return rows[0].Session.session(), member, err
}

// OpenSession writes a sign-in whole or not at all. change.ErrConflict when the user was changed meanwhile.
func (s *Store) OpenSession(ctx context.Context, o session.Opening) error {
	row := sessionRowOf(o.Session)
	return s.transaction(ctx, func(tx *gorm.DB) error {
		// The user's revision stays: nothing that a decision could rest on changes.
		update := tx.Exec("UPDATE users SET last_sign_in_at = ? WHERE id = ? AND revision = ?", row.SignedInAt, row.UserID, o.Guard.Revision)
		if update.Error != nil {
			return update.Error
		}
		if update.RowsAffected != 1 {
			return change.ErrConflict
		}
		if o.Rehash != nil {
			err := tx.Exec("UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?", o.Rehash.New, row.UserID, o.Rehash.Old).Error
			if err != nil {
				return err
			}
		}
		if row.ID != "" {
			if err := tx.Create(&row).Error; err != nil {
				return err
			}
		}
		err := tx.Exec("INSERT INTO known_networks (user_id, network, last_sign_in_at) VALUES (?, ?, ?)"+
			" ON CONFLICT (user_id, network) DO UPDATE SET last_sign_in_at = excluded.last_sign_in_at", row.UserID, row.Network, row.SignedInAt).Error
		if err != nil {
			return err
		}
		if o.Device != "" {
			err = tx.Exec("INSERT INTO known_devices (user_id, device, last_sign_in_at) VALUES (?, ?, ?)"+
				" ON CONFLICT (user_id, device) DO UPDATE SET last_sign_in_at = excluded.last_sign_in_at", row.UserID, o.Device, row.SignedInAt).Error
			if err != nil {
				return err
			}
		}
		if err := addTokens(tx, o.Letters.Tokens); err != nil {
			return err
		}
		if err := s.enqueue(tx, o.Letters.Messages); err != nil {
			return err
		}
		return s.record(tx, o.Audit)
	})
}

// KnowsDevice tells whether the user has signed in with the device since then.
func (s *Store) KnowsDevice(ctx context.Context, id user.ID, device string, since time.Time) (bool, error) {
	var found []int
	err := s.query(ctx).Raw("SELECT 1 FROM known_devices WHERE user_id = ? AND device = ? AND last_sign_in_at >= ?",
		string(id), device, moment(since)).Scan(&found).Error
	return len(found) > 0, s.translate(err)
}

// KnowsNetwork tells whether the user has signed in from the network since then.
func (s *Store) KnowsNetwork(ctx context.Context, id user.ID, network string, since time.Time) (bool, error) {
	var found []int
	err := s.query(ctx).Raw("SELECT 1 FROM known_networks WHERE user_id = ? AND network = ? AND last_sign_in_at >= ?",
		string(id), network, moment(since)).Scan(&found).Error
	return len(found) > 0, s.translate(err)
}

// RotateRefresh moves a session on to next, if from is still its newest refresh token and its salt is the same.
// change.ErrConflict when not.
func (s *Store) RotateRefresh(ctx context.Context, next session.Session, from int64, at time.Time) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		update := tx.Exec("UPDATE sessions SET refresh_count = ?, last_used_at = ?, expires_at = ?"+
			" WHERE id = ? AND refresh_count = ? AND refresh_salt = ? AND ended_at IS NULL",
			next.RefreshCount, moment(at), moment(next.ExpiresAt), next.ID, from, next.RefreshSalt)
		if update.Error != nil {
			return update.Error
		}
		if update.RowsAffected != 1 {
			return change.ErrConflict
		}
		return nil
	})
}

// LiveSessions returns up to limit of the user's sessions that can still be used at now, the newest first, after the one
// named.
func (s *Store) LiveSessions(ctx context.Context, u user.User, now time.Time, after string, limit int) ([]session.Session, error) {
	live := s.query(ctx).Where("user_id = ? AND ended_at IS NULL AND expires_at > ? AND generation = ?", string(u.ID), moment(now), u.Generation)
	if after != "" {
		live = live.Where("id < ?", after)
	}
	var rows []sessionRow
	if err := live.Order("id DESC").Limit(limit).Find(&rows).Error; err != nil { // ids are in the order of time (UUIDv7)
		return nil, s.translate(err)
	}
	sessions := make([]session.Session, len(rows))
	for i, row := range rows {
		sessions[i] = row.session()
	}
	return sessions, nil
}
