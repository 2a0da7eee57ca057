package store

import (
	"context"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

// trailRow is an event with its link, which a new one has not, and with the user it is about where that matters.
type trailRow struct {
	Seal        sealRow  `gorm:"embedded;embeddedPrefix:s_"`
	Event       eventRow `gorm:"embedded"`
	Team        string
	AlsoManages string
}

// visible tells whether the actor of the query may see the event: what SQL cannot say shortly is asked here.
func (r trailRow) visible(q audit.Query) (bool, error) {
	if q.Actor.ReachesAll() {
		return true, nil
	}
	target := userRow{ID: r.Event.TargetID, AccountID: r.Event.AccountID, Team: r.Team, AlsoManages: r.AlsoManages}
	u, err := target.user()
	return q.Actor.Sees(u), err
}

func (r trailRow) record() (audit.Record, error) {
	event, err := r.Event.event()
	if err != nil {
		return audit.Record{}, err
	}
	record := audit.Record{Event: event}
	if r.Seal.EventID != "" {
		seal := audit.Seal(r.Seal)
		record.Seal = &seal
	}
	return record, nil
}

// trailFrom returns what a query of the trail selects from, and its conditions: with the users it may see where it may not see
// all.
func trailFrom(q audit.Query) (columns, join string, c *conditions) {
	c = &conditions{}
	c.add("e.account_id = ?", q.AccountID)
	columns = "'' AS team, '[]' AS also_manages"
	if !q.Actor.ReachesAll() {
		columns = "users.team AS team, users.also_manages AS also_manages"
		join = " JOIN users ON users.id = e.target_id AND users.account_id = e.account_id"
		c.teams(q.Actor)
	}
	f := q.Filter
	if f.Actor != "" {
		c.add("e.actor_id = ? AND e.actor_id <> ''", f.Actor) // as the partial index has it
	}
	if f.Target != "" {
		c.add("e.target_id = ? AND e.target_id <> ''", f.Target)
	}
	if f.Action != "" {
		c.add("e.action = ?", string(f.Action))
	}
	if f.Outcome != "" {
		c.add("e.outcome = ?", string(f.Outcome))
	}
	if !f.From.IsZero() {
		c.add("e.at >= ?", moment(f.From))
	}
	if !f.To.IsZero() {
		c.add("e.at < ?", moment(f.To))
	}
	return columns, join, c
}

const optionalSeal = "COALESCE(s.account_id, '') AS s_account_id, COALESCE(s.sequence, 0) AS s_sequence, COALESCE(s.event_id, '') AS s_event_id," +
	" COALESCE(s.digest, '') AS s_digest, COALESCE(s.chain, '') AS s_chain"

// EventsBefore returns up to limit events that the query asks for, the newest first, those before the position if one is given.
func (s *Store) EventsBefore(ctx context.Context, q audit.Query, before *audit.Position, limit int) ([]audit.Record, error) {
	var found []audit.Record
	for len(found) < limit {
		columns, join, c := trailFrom(q)
		if before != nil {
			c.add("(e.at, e.id) < (?, ?)", moment(before.At), before.ID)
		}
		var rows []trailRow
		err := s.query(ctx).Raw("SELECT "+optionalSeal+", "+eventColumns+", "+columns+" FROM audit_events e"+join+
			" LEFT JOIN audit_seals s ON s.event_id = e.id"+c.where()+" ORDER BY e.at DESC, e.id DESC LIMIT ?",
			append(c.values, limit)...).Scan(&rows).Error
		if err != nil {
			return nil, s.translate(err)
		}
		visible, err := records(q, rows)
		if err != nil {
			return nil, err
		}
		found = append(found, visible...)
		if len(rows) < limit {
			break
		}
		last := rows[len(rows)-1].Event
		before = &audit.Position{At: last.At, ID: last.ID}
	}
	return found[:min(limit, len(found))], nil
}

func records(q audit.Query, rows []trailRow) ([]audit.Record, error) {
	var found []audit.Record
	for _, row := range rows {
		visible, err := row.visible(q)
		if err != nil {
			return nil, err
		}
		if !visible {
			continue
		}
		record, err := row.record()
		if err != nil {
			return nil, err
		}
		found = append(found, record)
	}
	return found, nil
}

// SealedEvents returns, in the order of the chain, the events that the query asks for and that have a link after after, up to
// and with upTo.
func (s *Store) SealedEvents(ctx context.Context, q audit.Query, after, upTo int64) ([]audit.Record, error) {
	columns, join, c := trailFrom(q)
	c.add("s.account_id = ? AND s.sequence > ? AND s.sequence <= ?", q.AccountID, after, upTo)
	var rows []trailRow
	err := s.query(ctx).Raw("SELECT "+sealColumns+", "+eventColumns+", "+columns+" FROM audit_seals s JOIN audit_events e ON e.id = s.event_id"+join+
		c.where()+" ORDER BY s.sequence", c.values...).Scan(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	return records(q, rows)
}

// HasAccount tells whether there is an account with the id.
func (s *Store) HasAccount(ctx context.Context, id string) (bool, error) {
	var found []int
	err := s.query(ctx).Raw("SELECT 1 FROM accounts WHERE id = ?", id).Scan(&found).Error
	return len(found) == 1, s.translate(err)
}

// Attempts returns the newest sign-ins and failed sign-ins of a user, here and by way of other services, the newest first.
func (s *Store) Attempts(ctx context.Context, id user.ID, limit int) ([]audit.Event, error) {
	var rows []eventRow
	err := s.query(ctx).Raw("SELECT "+eventColumns+" FROM audit_events e WHERE e.target_id = ? AND e.target_id <> '' AND e.action IN ?"+
		" ORDER BY e.at DESC, e.id DESC LIMIT ?", string(id), []string{string(audit.SignedIn), string(audit.SignInFailed), string(audit.PasswordVerified), string(audit.VerifyFailed)}, limit).Scan(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	return eventsOf(rows)
}

func eventsOf(rows []eventRow) ([]audit.Event, error) {
	events := make([]audit.Event, len(rows))
	for i, row := range rows {
		var err error
		if events[i], err = row.event(); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// AuditEvents returns up to limit events of an account since then, the oldest first.
func (s *Store) AuditEvents(ctx context.Context, account string, since time.Time, limit int) ([]audit.Event, error) {
	var rows []eventRow
	err := s.query(ctx).Where("account_id = ? AND at >= ?", account, moment(since)).Order("at, id").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	return eventsOf(rows)
}
