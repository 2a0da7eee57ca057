package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/user"
)

// sealedMessage is the purpose that messages are sealed for.
const sealedMessage = "outbox"

type messageRow struct {
	ID        string
	Topic     string
	AccountID string
	UserID    string
	Kind      string
	Sealed    []byte
	CreatedAt time.Time
	GiveUpAt  time.Time
	DueAt     time.Time
	Attempts  int
	Lease     string
}

func (messageRow) TableName() string { return "outbox" }

// enqueue writes messages; one that is there already, by its id, stays as it is.
func (s *Store) enqueue(tx *gorm.DB, messages []outbox.Message) error {
	for _, m := range messages {
		sealed, err := s.sealer.Seal(sealedMessage, m.ID, m.Body)
		if err != nil {
			return err
		}
		err = tx.Exec("INSERT INTO outbox (id, topic, account_id, user_id, kind, sealed, created_at, give_up_at, due_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"+
			" ON CONFLICT (id) DO NOTHING",
			m.ID, string(m.Topic), m.AccountID, string(m.UserID), m.Kind, sealed, moment(m.At), moment(m.GiveUpAt), moment(m.At)).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// ClaimMessages leases up to limit messages of a topic that are due at now until the given time, the oldest first. Replicas
// that claim at once get different ones. A message that cannot be opened (another sealing key) is an error of that message
// alone: it is left to its lease, and the others are returned.
func (s *Store) ClaimMessages(ctx context.Context, topic outbox.Topic, now, until time.Time, limit int) ([]outbox.Claimed, error) {
	var rows []messageRow
	lease := uuid.NewString()
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		rows = nil
		return tx.Raw("UPDATE outbox SET lease = ?, due_at = ?, attempts = attempts + 1 WHERE id IN"+
			" (SELECT id FROM outbox WHERE topic = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?"+s.dialect.skipLocked()+") RETURNING *",
			lease, moment(until), string(topic), moment(now), limit).Scan(&rows).Error
	})
	if err != nil {
		return nil, err
	}
	claimed := make([]outbox.Claimed, 0, len(rows))
	for _, row := range rows {
		body, err := s.sealer.Open(sealedMessage, row.ID, row.Sealed)
		if err != nil {
			s.log.ErrorContext(ctx, "a message cannot be opened: was it sealed with another SEALING_KEY?", "message", row.ID, "kind", row.Kind)
			continue
		}
		claimed = append(claimed, outbox.Claimed{Attempts: row.Attempts, Lease: row.Lease, Message: outbox.Message{
			ID: row.ID, Topic: outbox.Topic(row.Topic), AccountID: row.AccountID, UserID: user.ID(row.UserID), Kind: row.Kind,
			Body: body, At: moment(row.CreatedAt), GiveUpAt: moment(row.GiveUpAt),
		}})
	}
	return claimed, nil
}

// RemoveMessage forgets a delivered message, if its lease is still the same.
func (s *Store) RemoveMessage(ctx context.Context, c outbox.Claimed) error {
	return s.transaction(ctx, func(tx *gorm.DB) error { return remove(tx, c).Error })
}

func remove(tx *gorm.DB, c outbox.Claimed) *gorm.DB {
	return tx.Exec("DELETE FROM outbox WHERE id = ? AND lease = ?", c.ID, c.Lease)
}

// giveUp removes a message whose lease must still be the same, so that it is recorded once.
func giveUp(tx *gorm.DB, c *outbox.Claimed) error {
	if c == nil {
		return nil
	}
	removed := remove(tx, *c)
	if removed.Error == nil && removed.RowsAffected != 1 {
		return change.ErrConflict
	}
	return removed.Error
}

// PostponeMessage ends the lease, if it is still the same, and makes the message due at from.
func (s *Store) PostponeMessage(ctx context.Context, c outbox.Claimed, from time.Time) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		return tx.Exec("UPDATE outbox SET lease = '', due_at = ? WHERE id = ? AND lease = ?", moment(from), c.ID, c.Lease).Error
	})
}

// Waiting tells how many messages of a topic wait, and since when the oldest does: the zero time if none does.
func (s *Store) Waiting(ctx context.Context, topic outbox.Topic) (int64, time.Time, error) {
	var oldest []time.Time
	err := s.query(ctx).Raw("SELECT created_at FROM outbox WHERE topic = ? ORDER BY created_at LIMIT 1", string(topic)).Scan(&oldest).Error
	if err != nil || len(oldest) == 0 {
		return 0, time.Time{}, s.translate(err)
	}
	var number int64
	err = s.query(ctx).Model(&messageRow{}).Where("topic = ?", string(topic)).Count(&number).Error
	return number, moment(oldest[0]), s.translate(err)
}

var _ outbox.Store = (*Store)(nil)
