package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

type tokenRow struct {
	Digest    string
	UserID    string
	AccountID string
	Purpose   string
	IssuedAt  time.Time
	ExpiresAt time.Time
	Facts     string
}

func (tokenRow) TableName() string { return "one_time_tokens" }

// redeem uses a link up. Of two at once the second waits for the first, and finds nothing.
func redeem(tx *gorm.DB, c change.Change) error {
	if c.Redeem == nil {
		return nil
	}
	used := tx.Exec("DELETE FROM one_time_tokens WHERE digest = ? AND user_id = ? AND purpose = ? AND expires_at > ?",
		c.Redeem.Digest, string(c.Redeem.UserID), string(c.Redeem.Purpose), moment(c.At))
	if used.Error != nil {
		return used.Error
	}
	if used.RowsAffected != 1 {
		return change.ErrLinkInvalid
	}
	return nil
}

func void(tx *gorm.DB, voids []change.Void) error {
	for _, v := range voids {
		err := tx.Exec("DELETE FROM one_time_tokens WHERE user_id = ? AND purpose IN ? AND issued_at >= ?",
			string(v.UserID), v.Purposes, moment(v.Since)).Error
		if err != nil {
			return err
		}
	}
	return nil
}

func addTokens(tx *gorm.DB, tokens []change.Token) error {
	for _, t := range tokens {
		facts, err := json.Marshal(t.Facts)
		if err != nil {
			return fmt.Errorf("store: facts of a link: %w", err)
		}
		err = tx.Create(&tokenRow{
			Digest: t.Digest, UserID: string(t.UserID), AccountID: t.AccountID, Purpose: string(t.Purpose),
			IssuedAt: moment(t.IssuedAt), ExpiresAt: moment(t.ExpiresAt), Facts: string(facts),
		}).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// Token finds what a link is for. session.ErrNotFound when it is unknown, used, void or of another purpose; whether it has
// expired is for the caller to see.
func (s *Store) Token(ctx context.Context, digest string, purpose change.Purpose) (change.Token, error) {
	var rows []tokenRow
	err := s.query(ctx).Where("digest = ? AND purpose = ?", digest, string(purpose)).Find(&rows).Error
	if err != nil {
		return change.Token{}, s.translate(err)
	}
	if len(rows) == 0 {
		return change.Token{}, session.ErrNotFound
	}
	t := change.Token{
		Digest: rows[0].Digest, UserID: user.ID(rows[0].UserID), AccountID: rows[0].AccountID, Purpose: change.Purpose(rows[0].Purpose),
		IssuedAt: moment(rows[0].IssuedAt), ExpiresAt: moment(rows[0].ExpiresAt),
	}
	if err := json.Unmarshal([]byte(rows[0].Facts), &t.Facts); err != nil {
		return change.Token{}, fmt.Errorf("store: facts of a link: %w", err)
	}
	return t, nil
}

// Holder finds whose identifier a folded key is, in use or held at now. session.ErrNotFound when it is free.
func (s *Store) Holder(ctx context.Context, key string, now time.Time) (session.Member, error) {
	return s.member(ctx, "JOIN identifiers ON identifiers.user_id = users.id",
		"identifiers.key = ? AND (identifiers.held_until IS NULL OR identifiers.held_until > ?)", key, moment(now))
}

// Administrators returns the active administrators of an account that have an e-mail address.
func (s *Store) Administrators(ctx context.Context, accountID string) ([]user.User, error) {
	var rows []userRow
	err := s.query(ctx).Where("account_id = ? AND role = 'administrator' AND status = 'active' AND email <> ''", accountID).Order("id").Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	return usersOf(rows)
}
