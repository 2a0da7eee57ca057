package change

import (
	"errors"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

// What keeps a part of a job from being saved, with everything else of the change.
var (
	// ErrSettled says that the item is settled already, or that somebody else holds its lease by now.
	ErrSettled = errors.New("change: the item of the job is not the caller's to settle")
	// ErrTooManyJobs says that the account has as many unfinished jobs as it may have.
	ErrTooManyJobs = errors.New("change: the account has too many unfinished jobs")
)

// JobStatus tells how far a job is.
type JobStatus string

// The statuses. A job is over when it is completed or cancelled.
const (
	JobQueued    JobStatus = "queued"
	JobRunning   JobStatus = "running"
	JobCompleted JobStatus = "completed"
	JobCancelled JobStatus = "cancelled"
)

// ItemState tells what became of one user of a job.
type ItemState string

// The states. Every state but ItemPending is final.
const (
	ItemPending   ItemState = "pending"
	ItemDone      ItemState = "done"
	ItemSkipped   ItemState = "skipped"   // a rule says that this user is not reset
	ItemFailed    ItemState = "failed"    // the user should have been reset, and could not be
	ItemCancelled ItemState = "cancelled" // the job was cancelled before it came to this user
)

// ItemStates returns every state.
func ItemStates() []ItemState {
	return []ItemState{ItemPending, ItemDone, ItemSkipped, ItemFailed, ItemCancelled}
}

// NewJob begins a job over users, each of whom is one pending item.
type NewJob struct {
	ID         string
	AccountID  string
	Begun      audit.Party // who began it, as it was called then
	SessionID  string
	Issuer     string   // of the token, if another than this service
	Scopes     []string // of a service: those of its token
	Method     string
	Reason     string
	Origin     access.Origin
	At         time.Time
	Users      []user.ID // without repetition
	Unfinished int       // most unfinished jobs that the account may have with this one; else ErrTooManyJobs
}

// Item names one user of a job, and the lease under which it is worked on.
type Item struct {
	JobID  string
	UserID user.ID
	Lease  string
}

// Settle says what became of an item, in the very transaction of what was done: the item must still be pending and leased
// to the caller, or nothing of the change is saved (ErrSettled). So each user is reset once, whatever dies in between.
type Settle struct {
	Item
	State     ItemState
	Code      string      // why it is skipped or failed
	Username  string      // as it was then; empty for users whom the actor must not know of
	Password  secret.Text // a temporary password, sealed by the store until it is handed out
	ExpiresAt time.Time   // from then on the password is good for nothing and goes
}

// EndJob brings a job to its end. ErrConflict when it is over already, or has pending items that Rest says nothing of.
type EndJob struct {
	ID     string
	Status JobStatus
	Rest   ItemState // what becomes of pending items; empty: there must be none
	Code   string    // of those
}

// HandOut takes temporary passwords out of the database: whoever saves this is the only one to have them. ErrConflict when
// one was handed out meanwhile, or a user was changed since.
type HandOut struct {
	JobID string
	Users []Guard // of Versions nothing is asked
}
