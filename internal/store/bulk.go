package store

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/bulk"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// sealedTemporary is the purpose that the temporary passwords of jobs are sealed for.
const sealedTemporary = "bulk temporary passwords"

// sealedFor binds a sealed password to its row.
func sealedFor(jobID string, id user.ID) string { return jobID + "/" + string(id) }

type jobRow struct {
	ID            string
	AccountID     string
	ActorKind     string
	ActorID       string
	ActorUsername string
	ActorName     string
	SessionID     string
	Issuer        string
	Scopes        string
	Method        string
	Reason        string
	RequestID     string
	IP            string
	UserAgent     string
	OnBehalfOf    string
	Status        string
	CreatedAt     time.Time
	StartedAt     *time.Time
	FinishedAt    *time.Time
	WorkedAt      time.Time
}

func (jobRow) TableName() string { return "bulk_jobs" }

func (r jobRow) job() bulk.Job {
	return bulk.Job{
		ID: r.ID, AccountID: r.AccountID, SessionID: r.SessionID, Issuer: r.Issuer, Scopes: strings.Fields(r.Scopes), Method: user.ResetMethod(r.Method), Reason: r.Reason,
		Begun:  audit.Party{Kind: access.Kind(r.ActorKind), ID: r.ActorID, Username: r.ActorUsername, Name: r.ActorName},
		Origin: access.Origin{RequestID: r.RequestID, IP: r.IP, UserAgent: r.UserAgent, OnBehalfOf: user.ID(r.OnBehalfOf)},
		Status: change.JobStatus(r.Status), CreatedAt: moment(r.CreatedAt), StartedAt: momentOf(r.StartedAt), FinishedAt: momentOf(r.FinishedAt),
	}
}

// newItem is what an item begins with.
type newItem struct {
	JobID  string
	UserID string
	DueAt  time.Time
}

func (newItem) TableName() string { return "bulk_items" }

// itemBatch bounds the items that one statement inserts.
const itemBatch = 1000

// beginJob writes a job with its items.
func beginJob(tx *gorm.DB, j *change.NewJob) error {
	if j == nil {
		return nil
	}
	err := tx.Create(&jobRow{
		ID: j.ID, AccountID: j.AccountID, SessionID: j.SessionID, Issuer: j.Issuer, Scopes: strings.Join(j.Scopes, " "), Method: j.Method, Reason: j.Reason,
		ActorKind: string(j.Begun.Kind), ActorID: j.Begun.ID, ActorUsername: j.Begun.Username, ActorName: j.Begun.Name,
		RequestID: j.Origin.RequestID, IP: j.Origin.IP, UserAgent: j.Origin.UserAgent, OnBehalfOf: string(j.Origin.OnBehalfOf),
		Status: string(change.JobQueued), CreatedAt: moment(j.At), WorkedAt: moment(j.At),
	}).Error
	if err != nil {
		return err
	}
	var unfinished int64
	if err := tx.Model(&jobRow{}).Where("account_id = ? AND finished_at IS NULL", j.AccountID).Count(&unfinished).Error; err != nil {
		return err
	}
	if unfinished > int64(j.Unfinished) {
		return change.ErrTooManyJobs
	}
	items := make([]newItem, len(j.Users))
	for i, id := range j.Users {
		items[i] = newItem{JobID: j.ID, UserID: string(id), DueAt: moment(j.At)}
	}
	return tx.CreateInBatches(items, itemBatch).Error
}

// settle decides an item that must be pending and leased to the caller, and seals its temporary password.
func (s *Store) settle(tx *gorm.DB, c change.Change) error {
	item := c.Settle
	if item == nil {
		return nil
	}
	var sealed, expires any // NULL where there is no password
	if !item.Password.Empty() {
		closed, err := s.sealer.Seal(sealedTemporary, sealedFor(item.JobID, item.UserID), item.Password)
		if err != nil {
			return err
		}
		sealed, expires = closed, moment(item.ExpiresAt)
	}
	update := tx.Exec("UPDATE bulk_items SET state = ?, code = ?, username = ?, sealed = ?, expires_at = ?, settled_at = ?, lease = ''"+
		" WHERE job_id = ? AND user_id = ? AND state = 'pending' AND lease = ? AND lease <> ''",
		string(item.State), item.Code, item.Username, sealed, expires, moment(c.At), item.JobID, string(item.UserID), item.Lease)
	if update.Error == nil && update.RowsAffected != 1 {
		return change.ErrSettled
	}
	return update.Error
}

// endJob brings a job to its end and counts what came of it. Items are written before the job, as where they are claimed, so
// that the two do not wait for each other.
func endJob(tx *gorm.DB, c change.Change, result *change.Result) error {
	end := c.EndJob
	if end == nil {
		return nil
	}
	if end.Rest != "" {
		err := tx.Exec("UPDATE bulk_items SET state = ?, code = ?, settled_at = ?, lease = '' WHERE job_id = ? AND state = 'pending'",
			string(end.Rest), end.Code, moment(c.At), end.ID).Error
		if err != nil {
			return err
		}
	}
	update := tx.Exec("UPDATE bulk_jobs SET status = ?, finished_at = ? WHERE id = ? AND finished_at IS NULL"+
		" AND NOT EXISTS (SELECT 1 FROM bulk_items WHERE job_id = bulk_jobs.id AND state = 'pending')", string(end.Status), moment(c.At), end.ID)
	if update.Error != nil {
		return update.Error
	}
	if update.RowsAffected != 1 {
		return change.ErrConflict
	}
	counts, err := countItems(tx, []string{end.ID})
	result.Job = counts[end.ID]
	return err
}

// handOut forgets the temporary passwords of users who are still as the caller has seen them: of several callers at once,
// one alone gets each.
func (s *Store) handOut(tx *gorm.DB, c change.Change) error {
	if c.HandOut == nil {
		return nil
	}
	ids, seen := make([]string, len(c.HandOut.Users)), make(map[string]int64, len(c.HandOut.Users))
	for i, guard := range c.HandOut.Users {
		ids[i], seen[string(guard.UserID)] = string(guard.UserID), guard.Revision
	}
	var present []struct {
		ID       string
		Revision int64
	}
	if err := tx.Raw("SELECT id, revision FROM users WHERE id IN ? ORDER BY id"+s.dialect.forShare(), ids).Scan(&present).Error; err != nil {
		return err
	}
	for _, u := range present {
		if seen[u.ID] != u.Revision {
			return change.ErrConflict
		}
	}
	update := tx.Exec("UPDATE bulk_items SET sealed = NULL, handed_out_at = ? WHERE job_id = ? AND user_id IN ? AND sealed IS NOT NULL AND expires_at > ?",
		moment(c.At), c.HandOut.JobID, ids, moment(c.At))
	if update.Error != nil {
		return update.Error
	}
	if len(present) != len(ids) || update.RowsAffected != int64(len(ids)) {
		return change.ErrConflict
	}
	return nil
}

// countItems counts the items of jobs by their states.
func countItems(db *gorm.DB, jobs []string) (map[string]audit.Items, error) {
	var rows []struct {
		JobID  string
		State  string
		Number int
	}
	err := db.Raw("SELECT job_id, state, count(*) AS number FROM bulk_items WHERE job_id IN ? GROUP BY job_id, state", jobs).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	counts := make(map[string]audit.Items, len(jobs))
	for _, row := range rows {
		c := counts[row.JobID]
		c.Total += row.Number
		switch change.ItemState(row.State) {
		case change.ItemDone:
			c.Done = row.Number
		case change.ItemSkipped:
			c.Skipped = row.Number
		case change.ItemFailed:
			c.Failed = row.Number
		case change.ItemCancelled:
			c.Cancelled = row.Number
		case change.ItemPending:
		}
		counts[row.JobID] = c
	}
	return counts, nil
}

// counted makes jobs of rows, with what their items are like now.
func (s *Store) counted(ctx context.Context, rows []jobRow) ([]bulk.Job, error) {
	jobs, ids := make([]bulk.Job, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		jobs[i], ids[i] = row.job(), row.ID
	}
	if len(rows) == 0 {
		return jobs, nil
	}
	counts, err := countItems(s.query(ctx), ids)
	if err != nil {
		return nil, s.translate(err)
	}
	var waiting []struct {
		JobID  string
		Number int
	}
	err = s.query(ctx).Raw("SELECT job_id, count(*) AS number FROM bulk_items WHERE job_id IN ? AND sealed IS NOT NULL AND expires_at > ? GROUP BY job_id",
		ids, moment(s.now())).Scan(&waiting).Error
	if err != nil {
		return nil, s.translate(err)
	}
	for i := range jobs {
		jobs[i].Items = counts[jobs[i].ID]
		for _, w := range waiting {
			if w.JobID == jobs[i].ID {
				jobs[i].Passwords = w.Number
			}
		}
	}
	return jobs, nil
}

// Job finds a job. session.ErrNotFound when there is none.
func (s *Store) Job(ctx context.Context, id string) (bulk.Job, error) {
	var rows []jobRow
	if err := s.query(ctx).Where("id = ?", id).Find(&rows).Error; err != nil {
		return bulk.Job{}, s.translate(err)
	}
	if len(rows) == 0 {
		return bulk.Job{}, session.ErrNotFound
	}
	jobs, err := s.counted(ctx, rows)
	if err != nil {
		return bulk.Job{}, err
	}
	return jobs[0], nil
}

// Jobs lists the jobs of an account, the newest first: their ids are in the order of time.
func (s *Store) Jobs(ctx context.Context, accountID string, begunBy *audit.Party, before string, limit int) ([]bulk.Job, error) {
	query := s.query(ctx).Where("account_id = ?", accountID)
	if begunBy != nil {
		query = query.Where("actor_kind = ? AND actor_id = ?", string(begunBy.Kind), begunBy.ID)
	}
	if before != "" {
		query = query.Where("id < ?", before)
	}
	var rows []jobRow
	if err := query.Order("id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, s.translate(err)
	}
	return s.counted(ctx, rows)
}

type itemRow struct {
	JobID       string
	UserID      string
	State       string
	Code        string
	Username    string
	Lease       string
	Attempts    int
	SettledAt   *time.Time
	Sealed      []byte
	ExpiresAt   *time.Time
	HandedOutAt *time.Time
}

func (itemRow) TableName() string { return "bulk_items" }

// Items lists the items of a job in the order of user ids.
func (s *Store) Items(ctx context.Context, jobID string, state change.ItemState, after user.ID, limit int) ([]bulk.Item, error) {
	query := s.query(ctx).Omit("sealed").Where("job_id = ? AND user_id > ?", jobID, string(after))
	if state != "" {
		query = query.Where("state = ?", string(state))
	}
	var rows []itemRow
	if err := query.Order("user_id").Limit(limit).Find(&rows).Error; err != nil {
		return nil, s.translate(err)
	}
	items := make([]bulk.Item, len(rows))
	for i, r := range rows {
		items[i] = bulk.Item{
			UserID: user.ID(r.UserID), State: change.ItemState(r.State), Code: r.Code, Username: r.Username,
			SettledAt: momentOf(r.SettledAt), ExpiresAt: momentOf(r.ExpiresAt), HandedOutAt: momentOf(r.HandedOutAt),
		}
	}
	return items, nil
}

// Temporaries opens temporary passwords that were not handed out. One that cannot be opened (another sealing key) is empty,
// and an error in the log.
func (s *Store) Temporaries(ctx context.Context, jobID string, now time.Time, after user.ID, limit int) ([]bulk.Temporary, error) {
	var rows []itemRow
	err := s.query(ctx).Where("job_id = ? AND user_id > ? AND sealed IS NOT NULL AND expires_at > ?", jobID, string(after), moment(now)).
		Order("user_id").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	found := make([]bulk.Temporary, len(rows))
	for i, r := range rows {
		opened, err := s.sealer.Open(sealedTemporary, sealedFor(r.JobID, user.ID(r.UserID)), r.Sealed)
		if err != nil {
			s.log.ErrorContext(ctx, "a temporary password cannot be opened: was it sealed with another SEALING_KEY?", "job", r.JobID, "user_id", r.UserID)
		}
		found[i] = bulk.Temporary{UserID: user.ID(r.UserID), Password: opened, ExpiresAt: moment(*r.ExpiresAt)}
	}
	return found, nil
}

// jobsInTurn bounds the jobs that a claim looks at: all but a few have an item that is due.
const jobsInTurn = 50

// ClaimItem leases an item of the job that has waited longest for its turn, so that a long job does not hold up a short one.
// Replicas that claim at once get different items.
func (s *Store) ClaimItem(ctx context.Context, now, until time.Time) (bulk.Claimed, bool, error) {
	var jobs []jobRow
	err := s.query(ctx).Where("finished_at IS NULL").Order("worked_at, id").Limit(jobsInTurn).Find(&jobs).Error
	if err != nil {
		return bulk.Claimed{}, false, s.translate(err)
	}
	for _, job := range jobs {
		claimed, found, err := s.claimOf(ctx, job, now, until)
		if err != nil || found {
			return claimed, found, err
		}
	}
	return bulk.Claimed{}, false, nil
}

func (s *Store) claimOf(ctx context.Context, job jobRow, now, until time.Time) (bulk.Claimed, bool, error) {
	var rows []itemRow
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		rows = nil
		err := tx.Raw("UPDATE bulk_items SET lease = ?, due_at = ? WHERE job_id = ? AND user_id ="+ // not IN, for which PostgreSQL may run the selection more than once
			" (SELECT user_id FROM bulk_items WHERE job_id = ? AND state = 'pending' AND due_at <= ? ORDER BY due_at, user_id LIMIT 1"+s.dialect.skipLocked()+")"+
			" RETURNING job_id, user_id, lease, attempts", uuid.NewString(), moment(until), job.ID, job.ID, moment(now)).Scan(&rows).Error
		if err != nil || len(rows) == 0 {
			return err
		}
		return tx.Exec("UPDATE bulk_jobs SET status = 'running', started_at = COALESCE(started_at, ?), worked_at = ? WHERE id = ? AND finished_at IS NULL",
			moment(now), moment(now), job.ID).Error
	})
	if err != nil || len(rows) == 0 {
		return bulk.Claimed{}, false, err
	}
	return bulk.Claimed{Job: job.job(), UserID: user.ID(rows[0].UserID), Lease: rows[0].Lease, Attempts: rows[0].Attempts}, true, nil
}

// PostponeItem ends the lease, if it is still the same, and makes the item due at from.
func (s *Store) PostponeItem(ctx context.Context, item bulk.Claimed, from time.Time, failed bool) error {
	attempt := 0
	if failed {
		attempt = 1
	}
	return s.transaction(ctx, func(tx *gorm.DB) error {
		return tx.Exec("UPDATE bulk_items SET lease = '', due_at = ?, attempts = attempts + ? WHERE job_id = ? AND user_id = ? AND lease = ? AND state = 'pending'",
			moment(from), attempt, item.Job.ID, string(item.UserID), item.Lease).Error
	})
}

// DrainedJobs lists unfinished jobs that have no pending item.
func (s *Store) DrainedJobs(ctx context.Context) ([]bulk.Job, error) {
	var rows []jobRow
	err := s.query(ctx).Where("finished_at IS NULL AND NOT EXISTS (SELECT 1 FROM bulk_items WHERE job_id = bulk_jobs.id AND state = 'pending')").Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	jobs := make([]bulk.Job, len(rows))
	for i, row := range rows {
		jobs[i] = row.job()
	}
	return jobs, nil
}

var _ bulk.Store = (*Store)(nil)
