package store

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/signal"
)

// What signing keys are kept for: the table of each, and the purpose that its keys are sealed for.
const (
	sealedKey      = "signing keys"
	sealedEventKey = "event keys"
	tokenKeys      = "signing_keys"
	eventKeys      = "event_keys"
)

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

// SigningKeys returns the keys of access tokens that are not retired yet, the oldest first.
func (s *Store) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	return s.keysIn(ctx, tokenKeys, sealedKey)
}

// EventKeys returns the keys of events that are not retired yet, the oldest first.
func (s *Store) EventKeys(ctx context.Context) ([]signal.StoredKey, error) {
	kept, err := s.keysIn(ctx, eventKeys, sealedEventKey)
	if err != nil {
		return nil, err
	}
	keys := make([]signal.StoredKey, len(kept))
	for i, k := range kept {
		keys[i] = signal.StoredKey(k)
	}
	return keys, nil
}

func (s *Store) keysIn(ctx context.Context, table, purpose string) ([]SigningKey, error) {
	var rows []signingKeyRow
	err := s.query(ctx).Table(table).Where("retire_at IS NULL OR retire_at > ?", moment(s.now())).Order("active_from, id").Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	keys := make([]SigningKey, len(rows))
	for i, row := range rows {
		private, err := s.sealer.Open(purpose, row.ID, row.Sealed)
		if err != nil {
			return nil, err
		}
		keys[i] = SigningKey{ID: row.ID, Private: private, ActiveFrom: moment(row.ActiveFrom), RetireAt: momentOf(row.RetireAt)}
	}
	return keys, nil
}

// ErrNewerKey says that another replica has made a newer signing key already.
var ErrNewerKey = errors.New("store: another replica has made a newer signing key")

// AddSigningKey makes key the newest of access tokens and lets the one before retire at retire. ErrNewerKey when the newest is
// no longer the one the caller knew ("" for none).
func (s *Store) AddSigningKey(ctx context.Context, key SigningKey, newest string, retire time.Time) error {
	return s.addKey(ctx, tokenKeys, sealedKey, key, newest, retire)
}

// AddEventKey makes key the newest of events and lets the one before retire at retire. signal.ErrNewerKey when the newest is no
// longer the one the caller knew ("" for none).
func (s *Store) AddEventKey(ctx context.Context, key signal.StoredKey, newest string, retire time.Time) error {
	err := s.addKey(ctx, eventKeys, sealedEventKey, SigningKey(key), newest, retire)
	if errors.Is(err, ErrNewerKey) {
		return signal.ErrNewerKey
	}
	return err
}

func (s *Store) addKey(ctx context.Context, table, purpose string, key SigningKey, newest string, retire time.Time) error {
	sealed, err := s.sealer.Seal(purpose, key.ID, key.Private)
	if err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *gorm.DB) error {
		if newest != "" {
			update := tx.Exec("UPDATE "+table+" SET retire_at = ? WHERE id = ? AND retire_at IS NULL", moment(retire), newest)
			if update.Error != nil {
				return update.Error
			}
			if update.RowsAffected != 1 {
				return ErrNewerKey
			}
		}
		err := tx.Table(table).Create(&signingKeyRow{ID: key.ID, Sealed: sealed, ActiveFrom: moment(key.ActiveFrom)}).Error
		if s.dialect.brokenConstraint(err) != "" {
			return ErrNewerKey
		}
		return err
	})
}
