package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/audit"
)

type checkpointRow struct {
	AccountID string
	Sequence  int64
	Chain     string
	PrunedAt  time.Time
}

func (checkpointRow) TableName() string { return "audit_checkpoints" }

// checkpoint returns where the account's chain begins: the zero Checkpoint if nothing was ever pruned.
func checkpoint(tx *gorm.DB, account string) (audit.Checkpoint, error) {
	var rows []checkpointRow
	err := tx.Raw("SELECT account_id, sequence, chain, pruned_at FROM audit_checkpoints WHERE account_id = ? ORDER BY sequence DESC LIMIT 1", account).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return audit.Checkpoint{}, err
	}
	found := audit.Checkpoint(rows[0])
	found.PrunedAt = moment(found.PrunedAt)
	return found, nil
}

// sealedRow is a link of a chain with the event it seals; without one, the event's id is empty.
type sealedRow struct {
	Seal  sealRow  `gorm:"embedded;embeddedPrefix:s_"`
	Event eventRow `gorm:"embedded"`
}

const sealColumns = "s.account_id AS s_account_id, s.sequence AS s_sequence, s.event_id AS s_event_id, s.digest AS s_digest, s.chain AS s_chain"

// eventColumns list an event that may be missing.
const eventColumns = "COALESCE(e.id, '') AS id, COALESCE(e.details, '{}') AS details, e.account_id, e.at, e.action, e.outcome, e.actor_kind," +
	" e.actor_id, e.actor_username, e.actor_name, e.target_kind, e.target_id, e.target_username, e.target_name, e.session_id, e.reason," +
	" e.request_id, e.ip, e.user_agent, e.on_behalf_of"

// walk shows the links of a chain after the one named, in order and in bounded memory, until visit returns false.
func (s *Store) walk(ctx context.Context, account string, after int64, visit func(sealedRow) (bool, error)) error {
	for {
		var rows []sealedRow
		err := s.query(ctx).Raw("SELECT "+sealColumns+", "+eventColumns+
			" FROM audit_seals s LEFT JOIN audit_events e ON e.id = s.event_id WHERE s.account_id = ? AND s.sequence > ? ORDER BY s.sequence LIMIT ?",
			account, after, sealBatch).Scan(&rows).Error
		if err != nil {
			return s.translate(err)
		}
		for _, row := range rows {
			if on, err := visit(row); err != nil || !on {
				return err
			}
			after = row.Seal.Sequence
		}
		if len(rows) < sealBatch {
			return nil
		}
	}
}

// Integrity seals what waits and checks the account's chain against its events, from the last checkpoint on, in order and in
// bounded memory. An event without a seal, or a seal without its event, breaks the chain.
func (s *Store) Integrity(ctx context.Context, account string) (audit.Integrity, error) {
	if _, err := s.Seal(ctx); err != nil {
		return audit.Integrity{}, err
	}
	from, err := checkpoint(s.query(ctx), account)
	if err != nil {
		return audit.Integrity{}, s.translate(err)
	}
	checker := audit.NewChecker(from)
	err = s.walk(ctx, account, from.Sequence, func(row sealedRow) (bool, error) {
		return checker.Add(audit.Seal(row.Seal), row.Event.untouched())
	})
	if err != nil {
		return audit.Integrity{}, err
	}
	return s.withUnsealed(ctx, account, checker.Result(s.now()))
}

// withUnsealed looks for events that nobody sealed and that do not wait for it either: somebody kept them out of the chain.
// Counting tells whether there are any; only then they are looked for one by one.
func (s *Store) withUnsealed(ctx context.Context, account string, result audit.Integrity) (audit.Integrity, error) {
	if !result.Intact {
		return result, nil
	}
	var kept []int64
	err := s.query(ctx).Raw("SELECT (SELECT count(*) FROM audit_events WHERE account_id = @account)"+
		" - (SELECT count(*) FROM audit_seals WHERE account_id = @account)"+
		" - (SELECT count(*) FROM audit_unsealed u JOIN audit_events e ON e.id = u.event_id WHERE e.account_id = @account"+
		" AND NOT EXISTS (SELECT 1 FROM audit_seals s WHERE s.event_id = u.event_id))",
		map[string]any{"account": account}).Scan(&kept).Error
	if err != nil || first(kept) == 0 {
		return result, s.translate(err)
	}
	var stray []string
	err = s.query(ctx).Raw("SELECT e.id FROM audit_events e WHERE e.account_id = ?"+
		" AND NOT EXISTS (SELECT 1 FROM audit_seals s WHERE s.event_id = e.id)"+
		" AND NOT EXISTS (SELECT 1 FROM audit_unsealed u WHERE u.event_id = e.id) ORDER BY e.id LIMIT 1", account).Scan(&stray).Error
	if err == nil && len(stray) == 1 {
		result.Intact, result.FirstBroken = false, stray[0]
	}
	return result, s.translate(err)
}

// Head seals what waits and returns the end of the account's chain.
func (s *Store) Head(ctx context.Context, account string) (audit.Head, error) {
	if _, err := s.Seal(ctx); err != nil {
		return audit.Head{}, err
	}
	return s.head(ctx, account)
}

func (s *Store) head(ctx context.Context, account string) (audit.Head, error) {
	from, err := checkpoint(s.query(ctx), account)
	if err != nil {
		return audit.Head{}, s.translate(err)
	}
	last, err := lastSeal(s.query(ctx), account)
	if err != nil {
		return audit.Head{}, s.translate(err)
	}
	return audit.Head{AccountID: account, Sequence: last.Sequence, Chain: last.Chain, Checkpoint: from}, nil
}

// everyChain lists the accounts and the chain of names nobody has.
const everyChain = "(SELECT id FROM accounts UNION ALL SELECT '" + audit.UnknownAccount + "' AS id) a"

// Heads seals what waits and returns the end of every chain that has one.
func (s *Store) Heads(ctx context.Context) ([]audit.Head, error) {
	if _, err := s.Seal(ctx); err != nil {
		return nil, err
	}
	var rows []sealRow
	err := s.query(ctx).Raw("SELECT s.account_id, s.sequence, s.chain FROM (SELECT a.id AS account_id," +
		" (SELECT max(l.sequence) FROM audit_seals l WHERE l.account_id = a.id) AS sequence FROM " + everyChain + ") h" +
		" JOIN audit_seals s ON s.account_id = h.account_id AND s.sequence = h.sequence ORDER BY s.account_id").Scan(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	heads := make([]audit.Head, len(rows))
	for i, row := range rows {
		heads[i] = audit.Head{AccountID: row.AccountID, Sequence: row.Sequence, Chain: row.Chain}
	}
	return heads, nil
}

// Holds tells whether a head that was noted earlier is still a link of its chain. One that has been pruned since is.
func (s *Store) Holds(ctx context.Context, noted audit.Head) (bool, error) {
	var chains []string
	err := s.query(ctx).Raw("SELECT chain FROM audit_seals WHERE account_id = ? AND sequence = ?", noted.AccountID, noted.Sequence).Scan(&chains).Error
	if err != nil || len(chains) == 1 {
		return first(chains) == noted.Chain, s.translate(err)
	}
	from, err := checkpoint(s.query(ctx), noted.AccountID)
	return from.Sequence >= noted.Sequence, s.translate(err)
}

// Overdue counts the chains that hold events older than the time.
func (s *Store) Overdue(ctx context.Context, olderThan time.Time) (int64, error) {
	var chains []int64
	err := s.query(ctx).Raw("SELECT count(*) FROM "+everyChain+
		" WHERE EXISTS (SELECT 1 FROM audit_events e WHERE e.account_id = a.id AND e.at < ?)", moment(olderThan)).Scan(&chains).Error
	return first(chains), s.translate(err)
}
