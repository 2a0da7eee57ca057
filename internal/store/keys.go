package store

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/secret"
)

// sealedKey is the purpose that signing keys are sealed for.
const sealedKey = "signing keys"

// SigningKey is a signing key as it is kept: its private half is sealed in the database.
type SigningKey struct {
	ID         string
	Private    secret.Text
	ActiveFrom time.Time
	RetireAt   *time.Time // when the last token it signed has run out; nil for the newest
}

type signingKeyRow struct {
	ID         string
	Sealed     []byte
	ActiveFrom time.Time
	RetireAt   *time.Time
}

func (signingKeyRow) TableName() string { return "signing_keys" }

// SigningKeys returns the keys that are not retired yet, the oldest first.
func (s *Store) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	var rows []signingKeyRow
	err := s.query(ctx).Where("retire_at IS NULL OR retire_at > ?", moment(s.now())).Order("active_from, id").Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	keys := make([]SigningKey, len(rows))
	for i, row := range rows {
		private, err := s.sealer.Open(sealedKey, row.ID, row.Sealed)
		if err != nil {
			return nil, err
		}
		keys[i] = SigningKey{ID: row.ID, Private: private, ActiveFrom: moment(row.ActiveFrom), RetireAt: momentOf(row.RetireAt)}
	}
	return keys, nil
}

// ErrNewerKey says that another replica has made a newer signing key already.
var ErrNewerKey = errors.New("store: another replica has made a newer signing key")

// AddSigningKey makes key the newest and lets the one before retire at retire. ErrNewerKey when the newest is no longer
// the one the caller knew ("" for none).
func (s *Store) AddSigningKey(ctx context.Context, key SigningKey, newest string, retire time.Time) error {
	sealed, err := s.sealer.Seal(sealedKey, key.ID, key.Private)
	if err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *gorm.DB) error {
		if newest != "" {
			update := tx.Exec("UPDATE signing_keys SET retire_at = ? WHERE id = ? AND retire_at IS NULL", moment(retire), newest)
			if update.Error != nil {
				return update.Error
			}
			if update.RowsAffected != 1 {
				return ErrNewerKey
			}
		}
		err := tx.Create(&signingKeyRow{ID: key.ID, Sealed: sealed, ActiveFrom: moment(key.ActiveFrom)}).Error
		if s.dialect.brokenConstraint(err) != "" {
			return ErrNewerKey
		}
		return err
	})
}
