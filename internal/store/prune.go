package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/user"
)

// Chains names every chain there is: one for each account, and that of names nobody has.
func (s *Store) Chains(ctx context.Context) ([]string, error) {
	var accounts []string
	err := s.query(ctx).Raw("SELECT id FROM accounts ORDER BY id").Scan(&accounts).Error
	return append(accounts, audit.UnknownAccount), s.translate(err)
}

// Pruning is what a pruning would remove: the events of a chain up to the link that becomes its checkpoint.
type Pruning struct {
	Checkpoint audit.Checkpoint
	Events     int64     // 0: nothing is old enough
	Newest     time.Time // of the newest of them
}

// ErrBrokenChain says that a chain is not intact: what it says of its past is evidence, which is not removed.
var ErrBrokenChain = errors.New("store: the chain is not intact")

// ErrNotOwner says that the database's role may not remove what happened.
var ErrNotOwner = errors.New("store: the role may not remove audit events: use the owner of the tables")

// PlanPruning finds what of a chain is older than the time, and checks that it is intact. The events of a chain are pruned
// from its beginning, up to the first that is younger. ErrBrokenChain.
func (s *Store) PlanPruning(ctx context.Context, account string, olderThan time.Time) (Pruning, error) {
	if _, err := s.Seal(ctx); err != nil {
		return Pruning{}, err
	}
	from, err := checkpoint(s.query(ctx), account)
	if err != nil {
		return Pruning{}, s.translate(err)
	}
	plan := Pruning{Checkpoint: from}
	checker := audit.NewChecker(from)
	err = s.walk(ctx, account, from.Sequence, func(row sealedRow) (bool, error) {
		event := row.Event.untouched()
		if event.ID != "" && !event.At.Before(olderThan) {
			return false, nil
		}
		intact, err := checker.Add(audit.Seal(row.Seal), event)
		if !intact && err == nil {
			err = fmt.Errorf("%w: account %s, event %s", ErrBrokenChain, account, row.Seal.EventID)
		}
		plan.Checkpoint = audit.Checkpoint{AccountID: account, Sequence: row.Seal.Sequence, Chain: row.Seal.Chain, PrunedAt: moment(s.now())}
		plan.Events, plan.Newest = plan.Events+1, event.At
		return intact, err
	})
	return plan, err
}

// Prune removes what was planned: it first writes where the chain begins from then on and the event that tells of it, and then
// removes the events and their links, a batch at a time. One that was interrupted is finished by the next. ErrNotOwner for the
// role of a running service; change.ErrConflict when the chain was pruned meanwhile.
func (s *Store) Prune(ctx context.Context, account string, plan Pruning) error {
	err := s.prune(ctx, account, plan)
	if isForbidden(err) {
		return ErrNotOwner
	}
	return err
}

func (s *Store) prune(ctx context.Context, account string, plan Pruning) error {
	if plan.Events > 0 {
		if err := s.begin(ctx, account, plan); err != nil {
			return err
		}
	}
	for {
		var ids []string
		err := s.transaction(ctx, func(tx *gorm.DB) error {
			ids = nil
			err := tx.Raw("SELECT event_id FROM audit_seals WHERE account_id = ? AND sequence <= ? ORDER BY sequence LIMIT ?",
				account, plan.Checkpoint.Sequence, sealBatch).Scan(&ids).Error
			if err != nil || len(ids) == 0 {
				return err
			}
			if err := tx.Exec("DELETE FROM audit_events WHERE id IN ?", ids).Error; err != nil {
				return err
			}
			return tx.Exec("DELETE FROM audit_seals WHERE event_id IN ?", ids).Error
		})
		if err != nil || len(ids) == 0 {
			return err
		}
	}
}

func (s *Store) begin(ctx context.Context, account string, plan Pruning) error {
	told := audit.New(audit.Pruned, audit.Done, access.Actor{Kind: access.Operator}, user.User{AccountID: account}, access.Origin{}, s.now())
	told.Details.Events, told.Details.Sequence, told.Details.Chain = plan.Events, plan.Checkpoint.Sequence, plan.Checkpoint.Chain
	return s.transaction(ctx, func(tx *gorm.DB) error {
		row := checkpointRow(plan.Checkpoint)
		if err := tx.Create(&row).Error; err != nil {
			if s.dialect.brokenConstraint(err) != "" {
				return change.ErrConflict
			}
			return err
		}
		return s.record(tx, []audit.Event{told})
	})
}
