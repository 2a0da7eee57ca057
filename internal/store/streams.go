package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/user"
)

// sealedHeader is the purpose that the Authorization headers of streams are sealed for.
const sealedHeader = "stream authorization"

type streamRow struct {
	ID          string
	ClientID    string
	Audience    string
	Method      string
	Endpoint    string
	Sealed      []byte
	Requested   *string
	Description string
	Status      string
	Reason      string
	CreatedAt   time.Time
	Revision    int64
	Failures    int
	ResumeAt    *time.Time
	LastError   string
}

func (streamRow) TableName() string { return "streams" }

func (s *Store) streamRowOf(saving signal.Saving) (streamRow, error) {
	stream := saving.Stream
	row := streamRow{
		ID: stream.ID, ClientID: stream.ClientID, Audience: stream.Audience, Method: string(stream.Method), Endpoint: stream.Endpoint,
		Description: stream.Description, Status: string(stream.Status), Reason: stream.Reason, CreatedAt: moment(stream.CreatedAt),
		Revision: stream.Revision, Failures: stream.Failures, ResumeAt: momentOf(stream.ResumeAt), LastError: stream.LastError,
	}
	if stream.Requested != nil {
		encoded, err := json.Marshal(stream.Requested)
		if err != nil {
			return streamRow{}, fmt.Errorf("store: event types of stream %s: %w", stream.ID, err)
		}
		text := string(encoded)
		row.Requested = &text
	}
	if saving.Header != nil && !saving.Header.Empty() {
		var err error
		if row.Sealed, err = s.sealer.Seal(sealedHeader, stream.ID, *saving.Header); err != nil {
			return streamRow{}, err
		}
	}
	return row, nil
}

func streamOf(row streamRow) (signal.Stream, error) {
	stream := signal.Stream{
		ID: row.ID, ClientID: row.ClientID, Audience: row.Audience, Method: signal.Method(row.Method), Endpoint: row.Endpoint,
		Description: row.Description, Status: signal.Status(row.Status), Reason: row.Reason, CreatedAt: moment(row.CreatedAt),
		Revision: row.Revision, Failures: row.Failures, ResumeAt: momentOf(row.ResumeAt), LastError: row.LastError,
	}
	if row.Requested != nil {
		if err := json.Unmarshal([]byte(*row.Requested), &stream.Requested); err != nil {
			return signal.Stream{}, fmt.Errorf("store: event types of stream %s: %w", row.ID, err)
		}
	}
	return stream, nil
}

// CreateStream adds a stream. signal.ErrExists when the client has one.
func (s *Store) CreateStream(ctx context.Context, saving signal.Saving) error {
	row, err := s.streamRowOf(saving)
	if err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *gorm.DB) error {
		err := tx.Create(&row).Error
		if s.dialect.brokenConstraint(err) != "" {
			return signal.ErrExists
		}
		if err != nil {
			return err
		}
		return s.record(tx, []audit.Event{saving.Event})
	})
}

// Stream finds a stream. signal.ErrNotFound when there is none.
func (s *Store) Stream(ctx context.Context, id string) (signal.Stream, error) {
	if uuid.Validate(id) != nil { // streams are named so; PostgreSQL does not take every text
		return signal.Stream{}, signal.ErrNotFound
	}
	return s.streamWhere(ctx, "id = ?", id)
}

// StreamOf finds the stream of a client. signal.ErrNotFound when it has none.
func (s *Store) StreamOf(ctx context.Context, clientID string) (signal.Stream, error) {
	return s.streamWhere(ctx, "client_id = ?", clientID)
}

func (s *Store) streamWhere(ctx context.Context, where, value string) (signal.Stream, error) {
	var rows []streamRow
	if err := s.byKey(ctx).Where(where, value).Limit(1).Find(&rows).Error; err != nil {
		return signal.Stream{}, s.translate(err)
	}
	if len(rows) == 0 {
		return signal.Stream{}, signal.ErrNotFound
	}
	return streamOf(rows[0])
}

// SaveStream applies a signal.Saving. signal.ErrNotFound when the stream is gone, change.ErrConflict when it was changed.
func (s *Store) SaveStream(ctx context.Context, saving signal.Saving) error {
	row, err := s.streamRowOf(saving)
	if err != nil {
		return err
	}
	row.Revision++
	columns := []string{"method", "endpoint", "requested", "description", "status", "reason", "revision", "failures", "resume_at", "last_error"}
	if saving.Header != nil {
		columns = append(columns, "sealed")
	}
	return s.transaction(ctx, func(tx *gorm.DB) error {
		update := tx.Model(&streamRow{}).Where("id = ? AND revision = ?", row.ID, saving.Stream.Revision).Select(columns).Updates(row)
		if update.Error != nil {
			return update.Error
		}
		if update.RowsAffected != 1 {
			return change.ErrConflict
		}
		if saving.Drop {
			if err := tx.Exec("DELETE FROM stream_deliveries WHERE stream_id = ? AND dead_at IS NULL", row.ID).Error; err != nil {
				return err
			}
		}
		if err := queue(tx, saving.Tell); err != nil {
			return err
		}
		return s.record(tx, []audit.Event{saving.Event})
	})
}

// DeleteStream forgets a stream with all that belongs to it. signal.ErrNotFound when it is gone already.
func (s *Store) DeleteStream(ctx context.Context, id string, event audit.Event) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		deleted := tx.Exec("DELETE FROM streams WHERE id = ?", id)
		if deleted.Error != nil {
			return deleted.Error
		}
		if deleted.RowsAffected != 1 {
			return signal.ErrNotFound
		}
		return s.record(tx, []audit.Event{event})
	})
}

// SetRule adds a rule to a stream, or replaces the one about the same users. A rule about an account makes those about its users
// void, and one about every account all others: what is said last of many counts for each of them.
func (s *Store) SetRule(ctx context.Context, id string, r signal.Rule, event audit.Event) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		where, values := "stream_id = ?", []any{id}
		if r.AccountID != signal.EveryAccount {
			where, values = where+" AND account_id = ?", append(values, r.AccountID)
		}
		if r.UserID != "" {
			where, values = where+" AND user_id = ?", append(values, string(r.UserID))
		}
		if err := tx.Exec("DELETE FROM stream_rules WHERE "+where, values...).Error; err != nil {
			return err
		}
		err := tx.Exec("INSERT INTO stream_rules (stream_id, account_id, user_id, included) VALUES (?, ?, ?, ?)"+
			" ON CONFLICT (stream_id, account_id, user_id) DO UPDATE SET included = excluded.included", // the same is asked for twice at once
			id, r.AccountID, string(r.UserID), r.Included).Error
		if err != nil {
			return err
		}
		return s.record(tx, []audit.Event{event})
	})
}

// AccountOf finds the account of a user, or "" when there is no such user.
func (s *Store) AccountOf(ctx context.Context, id user.ID) (string, error) {
	if !id.Valid() {
		return "", nil
	}
	var accounts []string
	err := s.query(ctx).Raw("SELECT account_id FROM users WHERE id = ?", string(id)).Scan(&accounts).Error
	if err != nil || len(accounts) == 0 {
		return "", s.translate(err)
	}
	return accounts[0], nil
}

// OverdueStreams returns the streams that deliver, or hold, something that was queued before the given time and never refused.
func (s *Store) OverdueStreams(ctx context.Context, before time.Time) ([]signal.Stream, error) {
	var rows []streamRow
	err := s.query(ctx).Raw("SELECT * FROM streams WHERE status <> 'disabled' AND (SELECT created_at FROM stream_deliveries"+
		" WHERE stream_id = streams.id AND dead_at IS NULL AND dead_why = '' ORDER BY sequence LIMIT 1) < ?", moment(before)).Scan(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	return streamsOf(rows)
}

func streamsOf(rows []streamRow) ([]signal.Stream, error) {
	streams := make([]signal.Stream, len(rows))
	for i, row := range rows {
		var err error
		if streams[i], err = streamOf(row); err != nil {
			return nil, err
		}
	}
	return streams, nil
}

// Streams returns every stream, in the order of their clients, with what waits on it.
func (s *Store) Streams(ctx context.Context) ([]signal.Overview, error) {
	var rows []struct {
		Stream  streamRow `gorm:"embedded"`
		Waiting int
		Dead    int
	}
	err := s.query(ctx).Raw("SELECT streams.*," +
		" (SELECT count(*) FROM stream_deliveries WHERE stream_id = streams.id AND dead_at IS NULL) AS waiting," +
		" (SELECT count(*) FROM stream_deliveries WHERE stream_id = streams.id AND dead_at IS NOT NULL) AS dead" +
		" FROM streams ORDER BY client_id").Scan(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	all := make([]signal.Overview, len(rows))
	for i, row := range rows {
		stream, err := streamOf(row.Stream)
		if err != nil {
			return nil, err
		}
		all[i] = signal.Overview{Stream: stream, Waiting: row.Waiting, Dead: row.Dead}
		var oldest []time.Time // of its own statement: SQLite gives no type to a computed column
		err = s.query(ctx).Raw("SELECT created_at FROM stream_deliveries WHERE stream_id = ? AND dead_at IS NULL ORDER BY sequence LIMIT 1", stream.ID).Scan(&oldest).Error
		if err != nil {
			return nil, s.translate(err)
		}
		if len(oldest) > 0 {
			all[i].Oldest = momentOf(&oldest[0])
		}
	}
	return all, nil
}

var (
	_ signal.Store    = (*Store)(nil)
	_ signal.Desk     = (*Store)(nil)
	_ signal.KeyStore = (*Store)(nil)
)
