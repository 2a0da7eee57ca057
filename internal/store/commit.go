package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/user"
)

// Commit saves a change whole or not at all. change.ErrConflict when a guard does not hold, change.ErrVersion when the
// credentials are not of a version the caller asked for, change.ErrIdentifierTaken when a claim cannot be had,
// change.ErrLinkInvalid when the link to be used up is not there, change.ErrUserExists when the id of a new user is taken,
// change.ErrLastAdministrator when nobody would be left to lead the account,
// change.ErrSettled and change.ErrTooManyJobs of jobs.
func (s *Store) Commit(ctx context.Context, c change.Change) (change.Result, error) {
	var result change.Result
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		result, tx = change.Result{}, s.dialect.byKey(tx)
		var others audience
		var ended []string
		for _, step := range []func() error{
			func() error { return s.keepAdministrator(tx, c) },
			func() (err error) { others, err = s.gather(tx, c); return err },
			func() error { return s.holdService(tx, c.Service) },
			func() error { return s.hold(tx, c.Actor) },
			func() error { return s.settle(tx, c) },
			func() error { return s.holdTarget(tx, c) },
			func() error { return redeem(tx, c) },
			func() error { return s.updateUser(tx, c, &result) },
			func() error { return s.create(tx, c.Create) },
			func() error { return s.exchange(tx, c) },
			func() error { return free(tx, c.Free, c.At) },
			func() error { return s.rename(tx, c.Rename) },
			func() error { return s.renew(tx, c.Renew) },
			func() (err error) {
				ended, err = s.endSessions(tx, c)
				result.SessionsEnded = len(ended)
				return err
			},
			func() error { return forgive(tx, c.Forgive) },
			func() error { return replaceSettings(tx, c.Account) },
			func() error { return void(tx, c.Void) },
			func() error { return addTokens(tx, c.Tokens) },
			func() error { return s.enqueue(tx, c.Outbox) },
			func() error { return giveUp(tx, c.GiveUp) },
			func() error { return keep(tx, c, result) },
			func() error { return s.signal(tx, c, others, ended, &result) },
			func() error { return beginJob(tx, c.Job) },
			func() error { return endJob(tx, c, &result) },
			func() error { return s.handOut(tx, c) },
			func() error { return s.record(tx, withCounts(c.Audit, result)) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return change.Result{}, err
	}
	return result, nil
}

// keepAdministrator holds the active administrators of the whole company, all of them and in one order, until the change is
// saved: of two changes that would each leave the other's user as the last, the second finds that it is the last.
func (s *Store) keepAdministrator(tx *gorm.DB, c change.Change) error {
	if c.KeepAdministrator == "" {
		return nil
	}
	var held []string
	err := tx.Raw("SELECT id FROM users WHERE account_id = ? AND role = ? AND team = ? AND status = ? ORDER BY id"+s.dialect.forUpdate(),
		c.KeepAdministrator, string(user.Administrator), string(user.Root), string(user.Active)).Scan(&held).Error
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(held, func(id string) bool { return id != string(c.Target.UserID) }) {
		return change.ErrLastAdministrator
	}
	return nil
}

// hold keeps a user as it was decided on until the change is saved: nobody is moved or demoted in between.
func (s *Store) hold(tx *gorm.DB, guard *change.Guard) error {
	if guard == nil {
		return nil
	}
	var revisions []int64
	err := tx.Raw("SELECT revision FROM users WHERE id = ?"+s.dialect.forShare(), string(guard.UserID)).Scan(&revisions).Error
	if err != nil {
		return err
	}
	if !slices.Equal(revisions, []int64{guard.Revision}) {
		return change.ErrConflict
	}
	return nil
}

// holdService keeps a service as it was decided on until the change is saved: it is not disabled or cut back in between.
func (s *Store) holdService(tx *gorm.DB, guard *change.ServiceGuard) error {
	if guard == nil {
		return nil
	}
	var rows []clientRow
	err := tx.Raw("SELECT account_id, scopes, disabled FROM clients WHERE id = ?"+s.dialect.forShare(), guard.ClientID).Scan(&rows).Error
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return change.ErrConflict
	}
	now := rows[0].client()
	lost := func(scope string) bool { return !slices.Contains(now.Scopes, scope) }
	narrowed := now.AccountID != "" && now.AccountID != guard.AccountID // one for every account may act for one of them
	if now.Disabled || narrowed || slices.ContainsFunc(guard.Scopes, lost) {
		return change.ErrConflict
	}
	return nil
}

// holdTarget holds a target whose row the change does not write; updateUser looks after the others.
func (s *Store) holdTarget(tx *gorm.DB, c change.Change) error {
	if c.User != nil {
		return nil
	}
	return s.hold(tx, c.Target)
}

// create adds a user; who has its id or its names already is found by the constraints.
func (s *Store) create(tx *gorm.DB, u *user.User) error {
	if u == nil {
		return nil
	}
	row, err := rowOf(*u)
	if err != nil {
		return err
	}
	err = tx.Create(&row).Error
	if s.dialect.brokenConstraint(err) != "" {
		return change.ErrUserExists
	}
	return err
}

// updateUser writes the new state under the guard, in one statement: If-Match is part of it.
func (s *Store) updateUser(tx *gorm.DB, c change.Change, result *change.Result) error {
	if c.User == nil {
		return nil
	}
	row, err := rowOf(*c.User)
	if err != nil {
		return err
	}
	row.Revision = c.Target.Revision + 1
	update := tx.Model(&userRow{}).Where("id = ? AND revision = ?", string(c.Target.UserID), c.Target.Revision)
	if c.Target.Versions != nil {
		update = update.Where("version IN ?", c.Target.Versions)
	}
	update = update.Select("team", "role", "also_manages", "display_name", "status", "username", "email", "email_verified",
		"pending_email", "pending_email_key", "pending_email_until", "search",
		"password_hash", "password_set_by", "password_changed_at", "must_change", "temporary_until", "password_disabled_at",
		"generation", "generation_since", "version", "revision").Updates(row)
	if update.Error != nil {
		return update.Error
	}
	if update.RowsAffected == 1 {
		result.Revision = row.Revision
		return nil
	}
	if c.Target.Versions != nil {
		return change.ErrVersion
	}
	return change.ErrConflict
}

// exchange gives up and claims identifiers in the order of their keys, so that two users who want each other's names do not wait
// for each other until the database notices. A key that is there twice is given up before it is claimed, and claimed once as
// username and once as e-mail.
func (s *Store) exchange(tx *gorm.DB, c change.Change) error {
	type step struct {
		key string
		run func() error
	}
	var steps []step
	for _, r := range c.Release {
		steps = append(steps, step{r.Key, func() error { return s.release(tx, r) }})
	}
	for i, claim := range c.Claim {
		steps = append(steps, step{claim.Key, func() error { return s.claim(tx, c.Claim[i:i+1], c.At) }})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.key, b.key) })
	for _, one := range steps {
		if err := one.run(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) release(tx *gorm.DB, r change.Release) error {
	given, other := "is_email", "is_username"
	if r.Username {
		given, other = other, given
	}
	update := tx.Exec("UPDATE identifiers SET "+given+" = ?, held_until = CASE WHEN "+other+" THEN NULL ELSE CAST(? AS "+s.dialect.timeType()+") END"+
		" WHERE key = ? AND user_id = ?", false, moment(r.HeldUntil), r.Key, string(r.UserID))
	if update.Error != nil {
		return update.Error
	}
	if update.RowsAffected != 1 {
		return change.ErrConflict
	}
	return nil
}

// identifierRow is an identifier in use.
type identifierRow struct {
	Key        string
	UserID     string
	AccountID  string
	IsUsername bool
	IsEmail    bool
	HeldUntil  *time.Time
}

func (identifierRow) TableName() string { return "identifiers" }

// claimConflict takes a free identifier, one the user has or had, or one whose time of being held is over. The primary key
// decides between two who want it at once.
const claimConflict = ` ON CONFLICT (key) DO UPDATE SET user_id = excluded.user_id, account_id = excluded.account_id,
    is_username = identifiers.is_username OR excluded.is_username,
    is_email = identifiers.is_email OR excluded.is_email, held_until = NULL
WHERE identifiers.user_id = excluded.user_id OR identifiers.held_until <= ?`

// claim takes identifiers with different keys in one statement: all of them, or the transaction is to be given up.
func (s *Store) claim(tx *gorm.DB, claims []change.Claim, now time.Time) error {
	rows := make([]identifierRow, len(claims))
	for i, c := range claims {
		rows[i] = identifierRow{Key: c.Key, UserID: string(c.UserID), AccountID: c.AccountID, IsUsername: c.IsUsername, IsEmail: c.IsEmail}
	}
	claimed, err := insertRows(s, tx, rows, claimConflict, moment(now))
	if err != nil {
		return err
	}
	if claimed != int64(len(claims)) {
		return change.ErrIdentifierTaken
	}
	return nil
}

// free deletes an identifier that is still held for the user: one that was taken back, or is free already, is a conflict.
func free(tx *gorm.DB, f *change.Free, now time.Time) error {
	if f == nil {
		return nil
	}
	deleted := tx.Exec("DELETE FROM identifiers WHERE key = ? AND user_id = ? AND held_until > ?", f.Key, string(f.UserID), moment(now))
	if deleted.Error != nil {
		return deleted.Error
	}
	if deleted.RowsAffected != 1 {
		return change.ErrConflict
	}
	return nil
}

type historyRow struct {
	ID            string
	UserID        string
	AccountID     string
	Username      string
	Key           string
	HeldFrom      time.Time
	HeldUntil     *time.Time
	ChangedByKind string
	ChangedByID   string
	ChangedByName string
}

func (historyRow) TableName() string { return "username_history" }

func (s *Store) rename(tx *gorm.DB, r *change.Rename) error {
	if r == nil {
		return nil
	}
	at := moment(r.At)
	err := tx.Exec("UPDATE username_history SET held_until = ? WHERE user_id = ? AND held_until IS NULL", at, string(r.UserID)).Error
	if err != nil {
		return err
	}
	row := historyOf(*r)
	return tx.Create(&row).Error
}

// historyOf is the line of the history that a rename begins.
func historyOf(r change.Rename) historyRow {
	return historyRow{
		ID: uuid.Must(uuid.NewV7()).String(), UserID: string(r.UserID), AccountID: r.AccountID, Username: r.NewUsername, Key: r.NewKey,
		HeldFrom: moment(r.At), ChangedByKind: string(r.By.Kind), ChangedByID: r.By.ID, ChangedByName: cmp.Or(r.By.Username, r.By.Name),
	}
}

func (s *Store) renew(tx *gorm.DB, r *change.Renew) error {
	if r == nil {
		return nil
	}
	update := tx.Exec("UPDATE sessions SET generation = ?, refresh_salt = ?, refresh_count = ?, expires_at = ?, must_change = ? WHERE id = ? AND ended_at IS NULL",
		r.Generation, r.RefreshSalt, r.RefreshCount, moment(r.ExpiresAt), false, r.SessionID)
	if update.Error != nil {
		return update.Error
	}
	if update.RowsAffected != 1 {
		return change.ErrConflict // the session was ended while the change was made
	}
	return nil
}

// endSessions ends sessions and returns which.
func (s *Store) endSessions(tx *gorm.DB, c change.Change) ([]string, error) {
	if c.End == nil {
		return nil, nil
	}
	where, values := "user_id = ? AND ended_at IS NULL", []any{string(c.End.UserID)}
	if c.End.Except != "" {
		where, values = where+" AND id <> ?", append(values, c.End.Except)
	}
	if c.End.Only != "" {
		where, values = where+" AND id = ?", append(values, c.End.Only)
	}
	// Sessions that ran out are over already: they are closed, but not counted.
	expired := tx.Exec("UPDATE sessions SET ended_at = expires_at, end_reason = 'expired' WHERE "+where+" AND expires_at <= ?", append(values, moment(c.At))...)
	if expired.Error != nil {
		return nil, expired.Error
	}
	var ended []string
	err := tx.Raw("UPDATE sessions SET ended_at = ?, end_reason = ? WHERE "+where+" RETURNING id", append([]any{moment(c.At), c.End.Why}, values...)...).Scan(&ended).Error
	if err == nil && c.End.Live && len(ended) == 0 {
		return nil, change.ErrConflict // it ended while the change was made
	}
	return ended, err
}

func forgive(tx *gorm.DB, subjects []string) error {
	if len(subjects) == 0 {
		return nil
	}
	return tx.Exec("DELETE FROM throttles WHERE subject IN ?", subjects).Error
}

// withCounts adds what only the save knows to the events that tell of it.
func withCounts(events []audit.Event, result change.Result) []audit.Event {
	counted := slices.Clone(events)
	for i := range counted {
		switch counted[i].Action { //nolint:exhaustive // those that tell what the save alone knows
		case audit.PasswordReset, audit.CredentialsChanged, audit.CredentialsReverted, audit.SessionsEnded, audit.ResetLinkSent, audit.ResetLinkUsed,
			audit.SecurityLocked, audit.UserDisabled, audit.SessionsRevoked:
			counted[i].Details.SessionsEnded = result.SessionsEnded
		case audit.JobCancelled, audit.JobCompleted:
			counted[i].Details.Items = &result.Job
		}
	}
	return counted
}
