package bulk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Times and bounds of a Runner.
const (
	// itemTries is how often an item is tried at once, while others keep changing the user or the actor.
	itemTries = 3
	// itemFailures is how many attempts may fail before the item is given up.
	itemFailures = 5
	// retryAfter is how long an item that failed waits; overloadedFor, one that found no lane.
	retryAfter    = 10 * time.Second
	overloadedFor = time.Second
)

// RunnerConfig is what a Runner is made of.
type RunnerConfig struct {
	Store       Store
	Credentials Credentials
	Services    Services
	// Workers is how many users are reset at once: fewer than there are hashing lanes, so that one is always free or soon
	// is for people.
	Workers int
	// Lease is how long a replica may take for one item, the wait for a lane included; after that another one tries.
	Lease time.Duration
	// Observe counts what became of an item; may not be nil.
	Observe func(state change.ItemState)
	Now     func() time.Time
	Log     *slog.Logger
}

// Runner works on jobs. Any number of replicas may run one: they share the items.
type Runner struct{ config RunnerConfig }

// NewRunner returns a Runner.
func NewRunner(config RunnerConfig) *Runner { return &Runner{config: config} }

// Work works on items until none is due or the context is over. An item under way then is given back.
func (r *Runner) Work(ctx context.Context) error {
	if err := r.finish(ctx); err != nil {
		return err
	}
	failures := make([]error, r.config.Workers)
	var running sync.WaitGroup
	for i := range failures {
		running.Go(func() { failures[i] = r.work(ctx) })
	}
	running.Wait()
	return errors.Join(failures...)
}

func (r *Runner) work(ctx context.Context) error {
	for ctx.Err() == nil {
		now := r.config.Now()
		claimed, found, err := r.config.Store.ClaimItem(ctx, now, now.Add(r.config.Lease))
		if err != nil {
			return fmt.Errorf("bulk: claim an item: %w", err)
		}
		if !found {
			return nil
		}
		goOn, err := r.item(ctx, claimed)
		if err != nil || !goOn { // all lanes are busy: the item waits, and so does the job
			return err
		}
		if err := r.finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// finish completes jobs whose last item is settled, be it by another replica that died before it could.
func (r *Runner) finish(ctx context.Context) error {
	jobs, err := r.config.Store.DrainedJobs(ctx)
	if err != nil {
		return fmt.Errorf("bulk: look for finished jobs: %w", err)
	}
	for _, job := range jobs {
		if err := r.end(ctx, job, change.EndJob{ID: job.ID, Status: change.JobCompleted}); err != nil {
			return err
		}
	}
	return nil
}

// end brings a job to its end, unless somebody else did.
func (r *Runner) end(ctx context.Context, job Job, end change.EndJob) error {
	event := jobEvent(audit.JobCompleted, access.Actor{}, job, job.Origin, r.config.Now())
	event.Actor, event.Details.Code = job.Begun, end.Code
	_, err := r.config.Store.Commit(context.WithoutCancel(ctx), change.Change{At: event.At, EndJob: &end, Audit: []audit.Event{event}})
	if err != nil && !errors.Is(err, change.ErrConflict) {
		return fmt.Errorf("bulk: end a job: %w", err)
	}
	return nil
}

// jobEvent tells of a job. The save completes it with the counts.
func jobEvent(action audit.Action, actor access.Actor, job Job, origin access.Origin, at time.Time) audit.Event {
	event := audit.New(action, audit.Done, actor, user.User{AccountID: job.AccountID}, origin, at)
	event.Reason, event.Details.Method, event.Details.Job = job.Reason, string(job.Method), job.ID
	return event
}

// item resets one user and settles what becomes of the item. It returns false when there was no lane for it.
func (r *Runner) item(ctx context.Context, c Claimed) (goOn bool, err error) {
	state, err := r.reset(ctx, c)
	settling := context.WithoutCancel(ctx)
	switch {
	case err == nil:
		r.config.Observe(state)
		return true, nil
	case errors.Is(err, change.ErrSettled): // cancelled, or another replica's by now
		return true, nil
	case errors.Is(err, errLostAuthority):
		r.config.Log.WarnContext(ctx, "a job stops: who began it may no longer reset passwords", "job", c.Job.ID)
		return true, r.end(ctx, c.Job, change.EndJob{ID: c.Job.ID, Status: change.JobCompleted, Rest: change.ItemFailed, Code: credential.FailForbidden})
	case ctx.Err() != nil:
		return false, r.config.Store.PostponeItem(settling, c, r.config.Now(), false)
	}
	if _, overloaded := errors.AsType[*password.OverloadedError](err); overloaded {
		return false, r.config.Store.PostponeItem(settling, c, r.config.Now().Add(overloadedFor), false)
	}
	if c.Attempts+1 >= itemFailures {
		return true, r.giveUp(settling, c, err)
	}
	r.config.Log.WarnContext(ctx, "a user of a job could not be reset and will be tried again", "job", c.Job.ID, "user_id", string(c.UserID), "error", err.Error())
	return true, r.config.Store.PostponeItem(settling, c, r.config.Now().Add(retryAfter), true)
}

// giveUp settles an item that failed too often.
func (r *Runner) giveUp(ctx context.Context, c Claimed, cause error) error {
	code := credential.FailInternal
	if errors.Is(cause, change.ErrConflict) {
		code = credential.FailConflict
	}
	r.config.Log.ErrorContext(ctx, "a user of a job was given up", "job", c.Job.ID, "user_id", string(c.UserID), "error", cause.Error())
	actor, err := r.actor(ctx, c.Job)
	if err == nil {
		err = r.config.Credentials.RefuseItem(ctx, actor, c.item(), c.wanted(), change.ItemFailed, code)
	}
	if errors.Is(err, change.ErrSettled) || errors.Is(err, errLostAuthority) { // the next item ends the job
		return nil
	}
	if err == nil {
		r.config.Observe(change.ItemFailed)
	}
	return err
}

func (c Claimed) item() change.Item {
	return change.Item{JobID: c.Job.ID, UserID: c.UserID, Lease: c.Lease}
}

func (c Claimed) wanted() credential.Reset {
	return credential.Reset{Method: c.Job.Method, Reason: c.Job.Reason, Origin: c.Job.Origin}
}

// reset resets the user on the authority that the job's actor has now. One who is changed meanwhile, or a user who is, makes
// it start over with what they have become.
func (r *Runner) reset(ctx context.Context, c Claimed) (state change.ItemState, err error) {
	for range itemTries {
		actor, lost := r.actor(ctx, c.Job)
		if lost != nil {
			return "", lost
		}
		state, err = r.config.Credentials.ResetItem(ctx, actor, c.item(), c.wanted())
		if !errors.Is(err, change.ErrConflict) {
			break
		}
	}
	return state, err
}

// errLostAuthority says that who began the job may no longer reset passwords at all.
var errLostAuthority = errors.New("bulk: who began the job may no longer reset passwords")

// actor finds who began the job, as the database has it now. An administrator who was disabled or demoted, or whose password
// is disabled because somebody else may know it, has no authority any more; nor has a service that was disabled or lost the
// scope.
func (r *Runner) actor(ctx context.Context, job Job) (access.Actor, error) {
	if job.Begun.Kind == access.Service {
		return r.service(ctx, job)
	}
	member, err := r.config.Store.Member(ctx, user.ID(job.Begun.ID))
	if errors.Is(err, session.ErrNotFound) {
		return access.Actor{}, errLostAuthority
	}
	if err != nil {
		return access.Actor{}, fmt.Errorf("bulk: find who began a job: %w", err)
	}
	u := member.User
	if !u.IsActive() || u.Role != user.Administrator || u.Password.DisabledAt != nil || u.AccountID != job.AccountID {
		return access.Actor{}, errLostAuthority
	}
	return access.Actor{Kind: access.Person, Account: member.Account, User: u, Role: u.Role, SessionID: job.SessionID, Issuer: job.Issuer}, nil
}

// service finds the service with those of its scopes that the token had which began the job.
func (r *Runner) service(ctx context.Context, job Job) (access.Actor, error) {
	actor, err := r.config.Services.ServiceActor(ctx, job.Begun.ID)
	if errors.Is(err, session.ErrNotFound) {
		return access.Actor{}, errLostAuthority
	}
	if err != nil {
		return access.Actor{}, fmt.Errorf("bulk: find the service that began a job: %w", err)
	}
	actor.Scopes = slices.DeleteFunc(slices.Clone(actor.Scopes), func(s string) bool { return !slices.Contains(job.Scopes, s) })
	if !actor.HasScope(access.ScopeReset) || !actor.SeesAccount(job.AccountID) {
		return access.Actor{}, errLostAuthority
	}
	return within(actor, job.AccountID), nil
}
