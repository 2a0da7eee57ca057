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

// unsealedRow is an event that waits to be sealed.
type unsealedRow struct {
	EventID   string
	AccountID string
}

func (unsealedRow) TableName() string { return "audit_unsealed" }

// record writes events, and that they wait to be sealed, in the transaction of what they tell of.
func (s *Store) record(tx *gorm.DB, events []audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	rows, waiting := make([]eventRow, len(events)), make([]unsealedRow, len(events))
	for i, e := range events {
		row, err := eventRowOf(e)
		if err != nil {
			return err
		}
		rows[i], waiting[i] = row, unsealedRow{EventID: row.ID, AccountID: row.AccountID}
	}
	if _, err := insertRows(s, tx, rows, ""); err != nil {
		return err
	}
	_, err := insertRows(s, tx, waiting, "")
	return err
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
		last, err := lastSeal(tx, account)
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

// lastSeal returns the link that the next one follows: where everything was pruned, the last that is gone.
func lastSeal(tx *gorm.DB, account string) (audit.Seal, error) {
	var last []sealRow
	err := tx.Raw("SELECT account_id, sequence, event_id, digest, chain FROM audit_seals WHERE account_id = ? ORDER BY sequence DESC LIMIT 1", account).Scan(&last).Error
	if err != nil || len(last) == 1 {
		return audit.Seal(first(last)), err
	}
	gone, err := checkpoint(tx, account)
	return audit.Seal{AccountID: account, Sequence: gone.Sequence, Chain: gone.Chain}, err
}

func chain(previous audit.Seal, rows []eventRow) (seals []sealRow, ids []string, err error) {
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
