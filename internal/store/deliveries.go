package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/user"
)

type deliveryRow struct {
	Sequence  int64  `gorm:"->"` // the database counts
	JTI       string `gorm:"column:jti"`
	StreamID  string
	Subject   string
	Type      string
	AccountID string
	SessionID string
	Txn       string
	Claims    string
	CreatedAt time.Time
	DueAt     time.Time
	Attempts  int
	Lease     string
	DeadAt    *time.Time
	DeadWhy   string
}

func (deliveryRow) TableName() string { return "stream_deliveries" }

func (r deliveryRow) delivery() signal.Delivery {
	return signal.Delivery{
		Sequence: r.Sequence, JTI: r.JTI, StreamID: r.StreamID, Subject: r.Subject, Type: r.Type, AccountID: r.AccountID, SessionID: r.SessionID,
		Txn: r.Txn, Claims: []byte(r.Claims), CreatedAt: moment(r.CreatedAt), Attempts: r.Attempts, Lease: r.Lease, DeadAt: momentOf(r.DeadAt), DeadWhy: r.DeadWhy,
	}
}

// deliveries returns rows in the order of their sequence.
func deliveries(rows []deliveryRow) []signal.Delivery {
	list := make([]signal.Delivery, len(rows))
	for i, row := range rows {
		list[i] = row.delivery()
	}
	slices.SortFunc(list, func(a, b signal.Delivery) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return list
}

// queue adds deliveries in their order.
func queue(tx *gorm.DB, list []signal.Delivery) error {
	if len(list) == 0 {
		return nil
	}
	rows := make([]deliveryRow, len(list))
	for i, d := range list {
		rows[i] = deliveryRow{
			JTI: d.JTI, StreamID: d.StreamID, Subject: d.Subject, Type: d.Type, AccountID: d.AccountID, SessionID: d.SessionID, Txn: d.Txn,
			Claims: string(d.Claims), CreatedAt: moment(d.CreatedAt), DueAt: moment(d.CreatedAt),
		}
	}
	return tx.Create(&rows).Error
}

// hearer is a stream that hears of a change, with the user that it is about.
type hearer struct {
	ID        string
	Method    string
	Requested *string
	User      userRow `gorm:"embedded;embeddedPrefix:u_"`
}

// audience is who hears of a change, and what the changed user was like before.
type audience struct {
	hearers []hearer
	before  *user.User
}

// gather finds who hears of a change, and holds the streams until the change is saved. It is asked before the change is written.
func (s *Store) gather(tx *gorm.DB, c change.Change) (audience, error) {
	var found audience
	account, id := signal.About(c)
	if id == "" {
		return found, nil
	}
	err := tx.Raw("SELECT s.id, s.method, s.requested, "+userColumns()+` FROM streams s JOIN clients c ON c.id = s.client_id JOIN users ON users.id = @user
LEFT JOIN stream_rules one ON one.stream_id = s.id AND one.account_id = @account AND one.user_id = @user
LEFT JOIN stream_rules whole ON whole.stream_id = s.id AND whole.account_id = @account AND whole.user_id = ''
LEFT JOIN stream_rules every ON every.stream_id = s.id AND every.account_id = '*' AND every.user_id = ''
WHERE s.status <> 'disabled' AND (c.account_id IS NULL OR c.account_id = @account)
AND COALESCE(one.included, whole.included, every.included, true)`+s.dialect.keyShare("s"), map[string]any{"account": account, "user": string(id)}).Scan(&found.hearers).Error
	if err != nil || len(found.hearers) == 0 || c.User == nil {
		return found, err
	}
	before, err := found.hearers[0].User.user()
	found.before = &before
	return found, err
}

// signal queues what others hear of a change, in its transaction: there is never one without the other. The row of the changed
// user is held by now, so that the sequence is the order of the user's changes.
func (s *Store) signal(tx *gorm.DB, c change.Change, to audience, ended []string, result *change.Result) error {
	if len(to.hearers) == 0 {
		return nil
	}
	events := signal.Of(to.before, c, ended)
	var list []signal.Delivery
	for _, h := range to.hearers {
		stream, err := streamOf(streamRow{ID: h.ID, Requested: h.Requested})
		if err != nil {
			return err
		}
		wanted, hears := stream.Delivered(), false
		for _, e := range events {
			if !slices.Contains(wanted, e.Type) {
				continue
			}
			claims, err := json.Marshal(e.Claims)
			if err != nil {
				return fmt.Errorf("store: claims of %s: %w", e.Type, err)
			}
			hears = true
			list = append(list, signal.Delivery{
				JTI: signal.NewJTI(), StreamID: h.ID, Subject: string(e.UserID), Type: e.Type, AccountID: e.AccountID, SessionID: e.SessionID,
				Txn: e.Txn, Claims: claims, CreatedAt: s.now(),
			})
		}
		if hears {
			result.Heard = append(result.Heard, change.Heard{StreamID: h.ID, Push: h.Method == string(signal.Push)})
		}
	}
	return queue(tx, list)
}

// Verify queues a verification unless one was queued after since; two that are asked for at once are one.
func (s *Store) Verify(ctx context.Context, d signal.Delivery, since time.Time) (last time.Time, queued bool, err error) {
	err = s.transaction(ctx, func(tx *gorm.DB) error {
		last, queued = time.Time{}, false
		var statuses []string // one statement: what waits for a lock on the stream holds up every change that it hears of
		err := tx.Raw("UPDATE streams SET verified_at = ? WHERE id = ? AND (verified_at IS NULL OR verified_at <= ?) RETURNING status",
			moment(d.CreatedAt), d.StreamID, moment(since)).Scan(&statuses).Error
		if err != nil {
			return err
		}
		if len(statuses) == 0 {
			last, err = verifiedAt(tx, d.StreamID)
			return err
		}
		queued = true
		if statuses[0] == string(signal.Disabled) { // it holds nothing
			return nil
		}
		return queue(tx, []signal.Delivery{d})
	})
	return last, queued, err
}

// verifiedAt returns when the last verification of a stream was queued.
func verifiedAt(tx *gorm.DB, id string) (time.Time, error) {
	var rows []struct{ VerifiedAt time.Time }
	err := tx.Raw("SELECT verified_at FROM streams WHERE id = ?", id).Scan(&rows).Error
	if err == nil && len(rows) == 0 {
		err = signal.ErrNotFound
	}
	if err != nil {
		return time.Time{}, err
	}
	return moment(rows[0].VerifiedAt), nil
}

// window is how many of the oldest waiting events are looked at for those that can be handed out: the first one of each user
// among them is the first one of that user altogether.
const window = 1000

// Handout returns up to limit events that a stream can be handed now, the oldest first and no two of one subject, and whether
// there are more. signal.ErrNotFound when the stream is gone.
func (s *Store) Handout(ctx context.Context, id string, limit int) (handed []signal.Delivery, more bool, err error) {
	var streams []streamRow
	if err := s.query(ctx).Where("id = ?", id).Find(&streams).Error; err != nil {
		return nil, false, s.translate(err)
	}
	if len(streams) == 0 {
		return nil, false, signal.ErrNotFound
	}
	var rows []struct {
		Delivery deliveryRow `gorm:"embedded"`
		Place    int
		Waiting  int
	}
	err = s.query(ctx).Raw("SELECT * FROM (SELECT oldest.*, row_number() OVER (PARTITION BY subject ORDER BY sequence) AS place, count(*) OVER () AS waiting FROM"+
		" (SELECT * FROM stream_deliveries WHERE stream_id = ? AND dead_at IS NULL"+unlessEnabled(streams[0].Status)+
		" ORDER BY sequence LIMIT ?) AS oldest) AS ranked WHERE place = 1 ORDER BY sequence LIMIT ?", id, window, limit).Scan(&rows).Error
	if err != nil {
		return nil, false, s.translate(err)
	}
	handed = make([]signal.Delivery, len(rows))
	for i, row := range rows {
		handed[i] = row.Delivery.delivery()
	}
	return handed, len(rows) > 0 && rows[0].Waiting > len(rows), nil
}

// unlessEnabled narrows what a stream delivers while it does not.
func unlessEnabled(status string) string {
	if status == string(signal.Enabled) {
		return ""
	}
	return " AND subject = '~status'"
}

// SettlePoll forgets acknowledged events and makes dead letters of refused ones. It returns them as they were.
func (s *Store) SettlePoll(ctx context.Context, id string, acknowledged []string, refused map[string]string, now time.Time) ([]signal.Delivery, error) {
	var settled []deliveryRow
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		settled = nil
		if len(acknowledged) > 0 {
			err := tx.Raw("DELETE FROM stream_deliveries WHERE stream_id = ? AND jti IN ? AND dead_at IS NULL RETURNING *", id, acknowledged).Scan(&settled).Error
			if err != nil {
				return err
			}
		}
		for _, jti := range slices.Sorted(maps.Keys(refused)) { // in one order, so that two answers at once do not wait for each other
			var dead []deliveryRow
			err := tx.Raw("UPDATE stream_deliveries SET dead_at = ?, dead_why = ? WHERE stream_id = ? AND jti = ? AND dead_at IS NULL RETURNING *",
				moment(now), refused[jti], id, jti).Scan(&dead).Error
			if err != nil {
				return err
			}
			settled = append(settled, dead...)
		}
		return nil
	})
	return deliveries(settled), err
}

// Fillable returns those of the streams for which Handout would return something.
func (s *Store) Fillable(ctx context.Context, ids []string) ([]string, error) {
	var filled []string
	err := s.query(ctx).Raw("SELECT id FROM streams WHERE id IN ? AND EXISTS (SELECT 1 FROM stream_deliveries WHERE stream_id = streams.id AND dead_at IS NULL"+
		" AND (streams.status = 'enabled' OR subject = '~status'))", ids).Scan(&filled).Error
	return filled, s.translate(err)
}

// pushable joins a stream that can be pushed now with its client.
const pushable = " FROM streams JOIN clients ON clients.id = streams.client_id WHERE streams.method = 'urn:ietf:rfc:8935' AND NOT clients.disabled" +
	" AND (streams.resume_at IS NULL OR streams.resume_at <= @now)"

// Pushable returns the streams that have something to be pushed now.
func (s *Store) Pushable(ctx context.Context, now time.Time) ([]string, error) {
	var ids []string
	err := s.query(ctx).Raw("SELECT streams.id"+pushable+" AND EXISTS (SELECT 1 FROM stream_deliveries WHERE stream_id = streams.id"+
		" AND dead_at IS NULL AND due_at <= @now AND (streams.status = 'enabled' OR subject = '~status'))", map[string]any{"now": moment(now)}).Scan(&ids).Error
	return ids, s.translate(err)
}

// ClaimPushes leases events of a stream to be pushed until the given time. Replicas that claim at once get different ones.
func (s *Store) ClaimPushes(ctx context.Context, id string, now, until time.Time, limit int) (signal.Stream, []signal.Delivery, error) {
	var stream signal.Stream
	var claimed []deliveryRow
	var sealed []byte
	lease := uuid.NewString()
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		claimed = nil
		var rows []streamRow
		err := tx.Raw("SELECT streams.*"+pushable+" AND streams.id = @id", map[string]any{"now": moment(now), "id": id}).Scan(&rows).Error
		if err != nil || len(rows) == 0 {
			return err
		}
		if stream, err = streamOf(rows[0]); err != nil {
			return err
		}
		sealed = rows[0].Sealed
		if stream.Failures > 0 {
			limit = 1 // a single one tells whether the receiver is back
		}
		return tx.Raw("UPDATE stream_deliveries SET lease = ?, due_at = ?, attempts = attempts + 1 WHERE sequence IN"+
			" (SELECT sequence FROM stream_deliveries d WHERE stream_id = ? AND dead_at IS NULL AND due_at <= ?"+unlessEnabled(rows[0].Status)+
			// Not as an anti-join: planned without statistics, as of a table that is mostly empty, it compares each event with all others.
			" AND sequence = (SELECT min(e.sequence) FROM stream_deliveries e WHERE e.stream_id = d.stream_id AND e.subject = d.subject AND e.dead_at IS NULL)"+
			" ORDER BY due_at, sequence LIMIT ?"+s.dialect.skipLocked()+") RETURNING *", lease, moment(until), id, moment(now), limit).Scan(&claimed).Error
	})
	if err == nil && len(claimed) > 0 && sealed != nil { // with a lease: one that cannot be opened is tried when that is over, not at once
		stream.Authorization, err = s.sealer.Open(sealedHeader, stream.ID, sealed)
	}
	return stream, deliveries(claimed), err
}

// SettlePushes writes down what came of events that were claimed together; one whose lease another replica holds by now is left
// to it. Pushing rests when the receiver asked for it, or when nothing got through: then the longer the more often.
func (s *Store) SettlePushes(ctx context.Context, stream signal.Stream, results []signal.PushResult, now time.Time) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		var gone []int64
		for _, r := range results {
			switch r.Outcome {
			case signal.Delivered:
				gone = append(gone, r.Delivery.Sequence)
			case signal.Refused:
				err := tx.Exec("UPDATE stream_deliveries SET dead_at = ?, dead_why = ?, lease = '' WHERE sequence = ? AND lease = ?",
					moment(now), r.Why, r.Delivery.Sequence, r.Delivery.Lease).Error
				if err != nil {
					return err
				}
			case signal.Postponed:
				err := tx.Exec("UPDATE stream_deliveries SET due_at = ?, lease = '' WHERE sequence = ? AND lease = ?",
					moment(r.Retry), r.Delivery.Sequence, r.Delivery.Lease).Error
				if err != nil {
					return err
				}
			}
		}
		if len(gone) > 0 {
			err := tx.Exec("DELETE FROM stream_deliveries WHERE sequence IN ? AND lease = ?", gone, results[0].Delivery.Lease).Error
			if err != nil {
				return err
			}
		}
		return s.settleStream(tx, stream, results)
	})
}

// settleStream notes whether the receiver answers. The revision stays: it is no change of the stream.
func (s *Store) settleStream(tx *gorm.DB, stream signal.Stream, results []signal.PushResult) error {
	answered, why := false, ""
	var retry, rest time.Time
	for _, r := range results {
		if r.Outcome != signal.Postponed {
			answered = true
			continue
		}
		why = r.Why
		if retry.IsZero() || r.Retry.Before(retry) {
			retry = r.Retry
		}
		if r.Rest.After(rest) {
			rest = r.Rest
		}
	}
	failures, resume := 0, rest
	if !answered {
		failures = stream.Failures + 1
		if rest.IsZero() {
			resume = retry
		}
	}
	if why == "" && stream.Failures == 0 && stream.LastError == "" {
		return nil // as it was
	}
	var at *time.Time
	if !resume.IsZero() {
		at = momentOf(&resume)
	}
	return tx.Exec("UPDATE streams SET failures = ?, resume_at = ?, last_error = ? WHERE id = ? AND revision = ?", failures, at, why, stream.ID, stream.Revision).Error
}

// DeadLetters returns up to limit dead letters of a stream, the oldest first.
func (s *Store) DeadLetters(ctx context.Context, id string, limit int) ([]signal.Delivery, error) {
	var rows []deliveryRow
	err := s.query(ctx).Where("stream_id = ? AND dead_at IS NOT NULL", id).Order("dead_at, sequence").Limit(limit).Find(&rows).Error
	return deliveries(rows), s.translate(err)
}

// Revive lets dead letters of a stream be delivered again: those with the jtis or, if there are none, all. Why they were refused
// stays with them: they do not count as overdue, however old they are.
func (s *Store) Revive(ctx context.Context, id string, jtis []string, now time.Time, event audit.Event) (int, error) {
	revived := 0
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		where, values := "stream_id = ? AND dead_at IS NOT NULL", []any{moment(now), id}
		if len(jtis) > 0 {
			where, values = where+" AND jti IN ?", append(values, jtis)
		}
		update := tx.Exec("UPDATE stream_deliveries SET dead_at = NULL, attempts = 0, due_at = ? WHERE "+where, values...)
		revived = int(update.RowsAffected)
		if update.Error != nil || revived == 0 {
			return update.Error
		}
		return s.record(tx, []audit.Event{event})
	})
	return revived, err
}

// Dead tells how many dead letters there are.
func (s *Store) Dead(ctx context.Context) (int64, error) {
	var number int64
	err := s.query(ctx).Model(&deliveryRow{}).Where("dead_at IS NOT NULL").Count(&number).Error
	return number, s.translate(err)
}
