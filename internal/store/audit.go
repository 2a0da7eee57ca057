package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

type eventRow struct {
	ID             string
	AccountID      string
	At             time.Time
	Action         string
	Outcome        string
	ActorKind      string
	ActorID        string
	ActorUsername  string
	ActorName      string
	TargetKind     string
	TargetID       string
	TargetUsername string
	TargetName     string
	SessionID      string
	Reason         string
	RequestID      string
	IP             string
	UserAgent      string
	OnBehalfOf     string
	Details        string
}

func (eventRow) TableName() string { return "audit_events" }

func eventRowOf(e audit.Event) (eventRow, error) {
	details, err := json.Marshal(e.Details)
	if err != nil {
		return eventRow{}, fmt.Errorf("store: details of event %s: %w", e.ID, err)
	}
	return eventRow{
		ID: e.ID, AccountID: e.AccountID, At: moment(e.At), Action: string(e.Action), Outcome: string(e.Outcome),
		ActorKind: string(e.Actor.Kind), ActorID: e.Actor.ID, ActorUsername: e.Actor.Username, ActorName: e.Actor.Name,
		TargetKind: string(e.Target.Kind), TargetID: e.Target.ID, TargetUsername: e.Target.Username, TargetName: e.Target.Name,
		SessionID: e.SessionID, Reason: e.Reason, RequestID: e.Origin.RequestID, IP: e.Origin.IP, UserAgent: e.Origin.UserAgent,
		OnBehalfOf: string(e.Origin.OnBehalfOf), Details: string(details),
	}, nil
}

func (r eventRow) event() (audit.Event, error) {
	e := audit.Event{
		ID: r.ID, AccountID: r.AccountID, At: moment(r.At), Action: audit.Action(r.Action), Outcome: audit.Outcome(r.Outcome),
		Actor:     audit.Party{Kind: access.Kind(r.ActorKind), ID: r.ActorID, Username: r.ActorUsername, Name: r.ActorName},
		Target:    audit.Party{Kind: access.Kind(r.TargetKind), ID: r.TargetID, Username: r.TargetUsername, Name: r.TargetName},
		SessionID: r.SessionID, Reason: r.Reason,
		Origin: access.Origin{RequestID: r.RequestID, IP: r.IP, UserAgent: r.UserAgent, OnBehalfOf: user.ID(r.OnBehalfOf)},
	}
	if err := json.Unmarshal([]byte(r.Details), &e.Details); err != nil {
		return audit.Event{}, fmt.Errorf("store: details of event %s: %w", r.ID, err)
	}
	return e, nil
}

// untouched returns the event, or the zero Event when its details are not in the very form the service writes them in:
// a member that is unknown or there twice would not show in the digest of what is read.
func (r eventRow) untouched() audit.Event {
	e, err := r.event()
	if err != nil {
		return audit.Event{}
	}
	if written, err := eventRowOf(e); err != nil || written.Details != r.Details {
		return audit.Event{}
	}
	return e
}

// record writes events, and that they wait to be sealed, in the transaction of what they tell of.
func (s *Store) record(tx *gorm.DB, events []audit.Event) error {
	for _, e := range events {
		row, err := eventRowOf(e)
		if err != nil {
			return err
		}
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
		if err := tx.Exec("INSERT INTO audit_unsealed (event_id, account_id) VALUES (?, ?)", row.ID, row.AccountID).Error; err != nil {
			return err
		}
	}
	return nil
}

type sealRow struct {
	AccountID string
	Sequence  int64
	EventID   string
	Digest    string
	Chain     string
}

func (sealRow) TableName() string { return "audit_seals" }

// sealBatch bounds the events that are sealed in one transaction.
const sealBatch = 500

// Seal chains the committed events of every account that wait for it, and returns how many it chained.
func (s *Store) Seal(ctx context.Context) (int, error) {
	var accounts []string
	if err := s.query(ctx).Raw("SELECT DISTINCT account_id FROM audit_unsealed").Scan(&accounts).Error; err != nil {
		return 0, s.translate(err)
	}
	total := 0
	for _, account := range accounts {
		for {
			sealed, err := s.sealAccount(ctx, account)
			total += sealed
			if err != nil {
				return total, err
			}
			if sealed < sealBatch {
				break
			}
		}
	}
	return total, nil
}

// errSealedElsewhere says that another replica extended the chain first: its links are good, and ours are not written.
var errSealedElsewhere = errors.New("store: another replica sealed these events")

func (s *Store) sealAccount(ctx context.Context, account string) (int, error) {
	sealed := 0
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		sealed = 0
		var rows []eventRow
		err := tx.Raw("SELECT e.* FROM audit_unsealed u JOIN audit_events e ON e.id = u.event_id WHERE u.account_id = ? ORDER BY u.event_id LIMIT ?",
			account, sealBatch).Scan(&rows).Error
		if err != nil || len(rows) == 0 {
			return err
		}
		var last []sealRow
		err = tx.Raw("SELECT account_id, sequence, event_id, digest, chain FROM audit_seals WHERE account_id = ? ORDER BY sequence DESC LIMIT 1", account).Scan(&last).Error
		if err != nil {
			return err
		}
		seals, ids, err := chain(last, rows)
		if err != nil {
			return err
		}
		if err := tx.Create(&seals).Error; err != nil {
			if s.dialect.brokenConstraint(err) != "" {
				return errSealedElsewhere
			}
			return err
		}
		sealed = len(seals)
		return tx.Exec("DELETE FROM audit_unsealed WHERE event_id IN ?", ids).Error
	})
	if errors.Is(err, errSealedElsewhere) {
		return 0, nil
	}
	return sealed, err
}

func chain(last []sealRow, rows []eventRow) (seals []sealRow, ids []string, err error) {
	var previous audit.Seal
	if len(last) == 1 {
		previous = audit.Seal(last[0])
	}
	for _, row := range rows {
		event, err := row.event()
		if err != nil {
			return nil, nil, err
		}
		if previous, err = audit.Next(previous, event); err != nil {
			return nil, nil, err
		}
		seals, ids = append(seals, sealRow(previous)), append(ids, row.ID)
	}
	return seals, ids, nil
}

// Integrity seals what waits and checks the account's whole chain against its events, in order and in bounded memory.
// An event without a seal, or a seal without its event, breaks the chain.
func (s *Store) Integrity(ctx context.Context, account string) (audit.Integrity, error) {
	if _, err := s.Seal(ctx); err != nil {
		return audit.Integrity{}, err
	}
	var checker audit.Checker
	for after := int64(0); ; {
		var rows []struct {
			Seal  sealRow  `gorm:"embedded;embeddedPrefix:s_"`
			Event eventRow `gorm:"embedded"`
		}
		err := s.query(ctx).Raw("SELECT "+columns("s", "s_", "account_id", "sequence", "event_id", "digest", "chain")+
			", COALESCE(e.id, '') AS id, COALESCE(e.details, '{}') AS details, e.account_id, e.at, e.action, e.outcome, e.actor_kind, e.actor_id, e.actor_username, e.actor_name,"+
			" e.target_kind, e.target_id, e.target_username, e.target_name, e.session_id, e.reason, e.request_id, e.ip, e.user_agent, e.on_behalf_of"+
			" FROM audit_seals s LEFT JOIN audit_events e ON e.id = s.event_id WHERE s.account_id = ? AND s.sequence > ? ORDER BY s.sequence LIMIT ?",
			account, after, sealBatch).Scan(&rows).Error
		if err != nil {
			return audit.Integrity{}, s.translate(err)
		}
		for _, row := range rows {
			if err := checker.Add(audit.Seal(row.Seal), row.Event.untouched()); err != nil {
				return audit.Integrity{}, err
			}
			after = row.Seal.Sequence
		}
		if len(rows) < sealBatch {
			break
		}
	}
	return s.withUnsealed(ctx, account, checker.Result(s.now()))
}

// withUnsealed looks for events that nobody sealed and that do not wait for it either: somebody kept them out of the chain.
func (s *Store) withUnsealed(ctx context.Context, account string, result audit.Integrity) (audit.Integrity, error) {
	var stray []string
	err := s.query(ctx).Raw("SELECT e.id FROM audit_events e WHERE e.account_id = ?"+
		" AND NOT EXISTS (SELECT 1 FROM audit_seals s WHERE s.event_id = e.id)"+
		" AND NOT EXISTS (SELECT 1 FROM audit_unsealed u WHERE u.event_id = e.id) ORDER BY e.id LIMIT 1", account).Scan(&stray).Error
	if err != nil {
		return audit.Integrity{}, s.translate(err)
	}
	if result.Intact && len(stray) == 1 {
		result.Intact, result.FirstBroken = false, stray[0]
	}
	return result, nil
}
