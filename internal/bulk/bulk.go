// Package bulk resets the passwords of many users as a job: whom, how far it is, what came of each, and the temporary
// passwords, which are handed out once.
//
// A job is written as one item for each user. Any number of replicas run a Runner; each takes items under a lease and lets
// package credential reset the user, which settles the item in the very transaction of the reset: so each user is reset
// once, whatever is killed in between. Authority is that of whoever began the job, as the database has it when the user is
// reset. It depends on packages access, audit, change, credential, secret, session and user, and names the store it needs.
package bulk

import (
	"context"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Bounds of jobs.
const (
	// MostUsers is how many users one job may reset.
	MostUsers = 50_000
	// mostUnfinished is how many unfinished jobs an account may have.
	mostUnfinished = 10
)

// Job is a job and how far it is.
type Job struct {
	ID         string
	AccountID  string
	Begun      audit.Party // who began it, as it was called then
	SessionID  string
	Issuer     string   // of the token that began it, if another than this service
	Scopes     []string // of a service: those of the token that began it
	Method     user.ResetMethod
	Reason     string
	Origin     access.Origin
	Status     change.JobStatus
	CreatedAt  time.Time
	StartedAt  *time.Time // when the first item was taken up
	FinishedAt *time.Time
	Items      audit.Items
	Passwords  int // temporary passwords that wait to be handed out
}

// Over tells whether nothing more will be done for the job.
func (j Job) Over() bool { return j.Status == change.JobCompleted || j.Status == change.JobCancelled }

// Item is one user of a job and what came of it.
type Item struct {
	UserID      user.ID
	State       change.ItemState
	Code        string // why it is skipped or failed
	Username    string // as it was when it was settled; empty while pending and for users whom the actor must not know of
	SettledAt   *time.Time
	ExpiresAt   *time.Time // of a temporary password
	HandedOutAt *time.Time // when that was handed out
}

// Claimed is an item that the holder of the lease alone works on, until the lease ends.
type Claimed struct {
	Job      Job // without its counts
	UserID   user.ID
	Lease    string
	Attempts int // earlier ones that failed
}

// Temporary is a temporary password that waits to be handed out.
type Temporary struct {
	UserID    user.ID
	Password  secret.Text
	ExpiresAt time.Time
}

// Store is what jobs need of the database.
type Store interface {
	// Member finds a user with the account. session.ErrNotFound when there is none.
	Member(ctx context.Context, id user.ID) (session.Member, error)
	// MembersByID finds those users there are.
	MembersByID(ctx context.Context, ids []user.ID) (map[user.ID]session.Member, error)
	// Members lists users within the actor's reach in the order of their accounts and ids, after the one named.
	Members(ctx context.Context, actor access.Actor, f credential.Filter, after user.ID, limit int) ([]session.Member, error)
	// Job finds a job. session.ErrNotFound when there is none.
	Job(ctx context.Context, id string) (Job, error)
	// Jobs lists the jobs of an account, the newest first, before the one named if any; only those begun by one actor if
	// it is named.
	Jobs(ctx context.Context, accountID string, begunBy *audit.Party, before string, limit int) ([]Job, error)
	// Items lists the items of a job in the order of user ids, after the one named; only those in a state if it is named.
	Items(ctx context.Context, jobID string, state change.ItemState, after user.ID, limit int) ([]Item, error)
	// Temporaries lists temporary passwords that are good at now and were not handed out, in the order of user ids, after the
	// one named. The password of one that cannot be opened is empty.
	Temporaries(ctx context.Context, jobID string, now time.Time, after user.ID, limit int) ([]Temporary, error)
	// ClaimItem leases an item that is due at now until the given time: of the job whose turn it is.
	ClaimItem(ctx context.Context, now, until time.Time) (item Claimed, found bool, err error)
	// PostponeItem ends the lease and lets the item be claimed again from the given time on. failed counts the attempt.
	PostponeItem(ctx context.Context, item Claimed, from time.Time, failed bool) error
	// DrainedJobs lists unfinished jobs that have no pending item, without their counts.
	DrainedJobs(ctx context.Context) ([]Job, error)
	// Commit saves a change whole or not at all.
	Commit(ctx context.Context, c change.Change) (change.Result, error)
}

// Services finds a service as an actor. session.ErrNotFound when there is none or it is disabled.
type Services interface {
	ServiceActor(ctx context.Context, clientID string) (access.Actor, error)
}
