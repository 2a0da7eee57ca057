package bulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// sees tells whether the job is the actor's to look at and to cancel: who began it, and administrators of the whole account.
func sees(actor access.Actor, job Job) bool {
	if !actor.SeesAccount(job.AccountID) {
		return false
	}
	own := audit.PartyOf(actor)
	return job.Begun.Kind == own.Kind && job.Begun.ID == own.ID || overseesAll(actor)
}

// overseesAll tells whether the jobs of others in the account are the actor's affair too.
func overseesAll(actor access.Actor) bool { return actor.Kind == access.Person && actor.ReachesAll() }

// Job finds a job. credential.ErrNotFound when there is none for the actor.
func (j *Jobs) Job(ctx context.Context, actor access.Actor, id string) (Job, error) {
	if !user.ID(id).Valid() { // jobs are named like users
		return Job{}, credential.ErrNotFound
	}
	job, err := j.store.Job(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		return Job{}, credential.ErrNotFound
	}
	if err != nil {
		return Job{}, fmt.Errorf("bulk: find a job: %w", err)
	}
	if !sees(actor, job) {
		return Job{}, credential.ErrNotFound
	}
	return job, nil
}

// List returns up to limit jobs of an account that the actor may look at, the newest first, before the one named if any,
// and whether there are more. named is as in Wanted. Errors: *change.RejectedError and credential.ErrNotFound.
func (j *Jobs) List(ctx context.Context, actor access.Actor, named, before string, limit int) ([]Job, bool, error) {
	account, err := j.credentials.Account(ctx, actor, named)
	if err != nil {
		return nil, false, err
	}
	var begunBy *audit.Party
	if !overseesAll(actor) {
		party := audit.PartyOf(actor)
		begunBy = &party
	}
	jobs, err := j.store.Jobs(ctx, account.ID, begunBy, before, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("bulk: list jobs: %w", err)
	}
	if len(jobs) > limit {
		return jobs[:limit], true, nil
	}
	return jobs, false, nil
}

// Results returns up to limit items of a job after the user named, only those in a state if it is named, and whether there
// are more. credential.ErrNotFound when there is no such job for the actor.
func (j *Jobs) Results(ctx context.Context, actor access.Actor, id string, state change.ItemState, after user.ID, limit int) ([]Item, bool, error) {
	if _, err := j.Job(ctx, actor, id); err != nil {
		return nil, false, err
	}
	items, err := j.store.Items(ctx, id, state, after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("bulk: results of a job: %w", err)
	}
	if len(items) > limit {
		return items[:limit], true, nil
	}
	return items, false, nil
}

// Cancel ends a job: users it has not come to are left as they are, and a reset that is under way is either saved before or
// not at all. A job that is cancelled already stays so. Errors: credential.ErrNotFound, and change.ErrConflict for one that
// is completed.
func (j *Jobs) Cancel(ctx context.Context, actor access.Actor, id string, origin access.Origin) (Job, error) {
	job, err := j.cancel(ctx, actor, id, origin)
	if err != nil {
		return Job{}, j.credentials.Refuse(ctx, actor, origin, "", err)
	}
	return job, nil
}

func (j *Jobs) cancel(ctx context.Context, actor access.Actor, id string, origin access.Origin) (Job, error) {
	job, err := j.Job(ctx, actor, id)
	if err != nil || job.Status == change.JobCancelled {
		return job, err
	}
	event := jobEvent(audit.JobCancelled, actor, job, origin, j.now())
	_, err = j.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: event.At, Actor: credential.ActorGuard(actor), Service: credential.ServiceGuard(actor),
		EndJob: &change.EndJob{ID: id, Status: change.JobCancelled, Rest: change.ItemCancelled}, Audit: []audit.Event{event},
	})
	if err != nil && !errors.Is(err, change.ErrConflict) {
		return Job{}, fmt.Errorf("bulk: cancel a job: %w", err)
	}
	ended, foundErr := j.Job(ctx, actor, id)
	if err != nil && ended.Status != change.JobCancelled { // completed, or the actor was changed
		return Job{}, err
	}
	return ended, foundErr
}

// HandedOut is a temporary password that nobody else will be shown.
type HandedOut struct {
	Temporary
	Username string
}

// handOutTries bounds how often handing out starts over because another one was at it or a user was changed.
const handOutTries = 5

// Handing is a wish for temporary passwords of a job.
type Handing struct {
	Limit  int // at most so many
	Origin access.Origin
	Keep   *change.Keep[Handout] // where the answer is kept; nil: nowhere
}

// Handout is what is handed out, and how many passwords still wait.
type Handout struct {
	Passwords []HandedOut
	Waiting   int
}

// HandOut hands out temporary passwords of a job, of users whom the actor manages now and whose password is still the one of
// the job. They are gone from the job then, and it is on record who was given them. Errors: credential.ErrNotFound and
// change.ErrConflict.
func (j *Jobs) HandOut(ctx context.Context, actor access.Actor, id string, wanted Handing) (Handout, error) {
	for range handOutTries {
		handed, err := j.handOut(ctx, actor, id, wanted)
		if err == nil {
			return handed, nil
		}
		if !errors.Is(err, change.ErrConflict) {
			return Handout{}, j.credentials.Refuse(ctx, actor, wanted.Origin, "", err)
		}
	}
	return Handout{}, j.credentials.Refuse(ctx, actor, wanted.Origin, "", change.ErrConflict)
}

func (j *Jobs) handOut(ctx context.Context, actor access.Actor, id string, wanted Handing) (Handout, error) {
	job, err := j.Job(ctx, actor, id)
	if err != nil {
		return Handout{}, err
	}
	handed, guards, targets, err := j.waiting(ctx, within(actor, job.AccountID), job, wanted.Limit)
	if err != nil {
		return Handout{}, err
	}
	done := Handout{Passwords: handed, Waiting: max(0, job.Passwords-len(handed))}
	c := change.Change{
		At: j.now(), Actor: credential.ActorGuard(actor), Service: credential.ServiceGuard(actor), Replay: wanted.Keep.With(func(change.Result) Handout { return done }),
	}
	if len(handed) > 0 {
		c.HandOut = &change.HandOut{JobID: id, Users: guards}
	} else if c.Replay == nil {
		return done, nil
	}
	for _, u := range targets {
		event := audit.New(audit.PasswordHandedOut, audit.Done, actor, u, wanted.Origin, c.At)
		event.Details.Job = id
		c.Audit = append(c.Audit, event)
	}
	if _, err := j.store.Commit(context.WithoutCancel(ctx), c); err != nil {
		return Handout{}, fmt.Errorf("bulk: hand out passwords: %w", err)
	}
	return done, nil
}

// waiting finds up to limit temporary passwords that the actor may have now.
func (j *Jobs) waiting(ctx context.Context, actor access.Actor, job Job, limit int) (handed []HandedOut, guards []change.Guard, targets []user.User, err error) {
	for after := user.ID(""); len(handed) < limit; {
		found, err := j.store.Temporaries(ctx, job.ID, j.now(), after, limit)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("bulk: find passwords: %w", err)
		}
		ids := make([]user.ID, len(found))
		for i, t := range found {
			ids[i] = t.UserID
		}
		members, err := j.store.MembersByID(ctx, ids)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("bulk: find passwords: %w", err)
		}
		for _, t := range found {
			after = t.UserID
			member := members[t.UserID]
			until := member.User.Password.TemporaryUntil
			stillIt := until != nil && until.Equal(t.ExpiresAt)
			if len(handed) == limit || !stillIt || t.Password.Empty() || j.credentials.Obstacle(actor, member, user.Temporary) != "" {
				continue
			}
			handed = append(handed, HandedOut{Temporary: t, Username: member.User.Username})
			guards = append(guards, change.Guard{UserID: t.UserID, Revision: member.User.Revision})
			targets = append(targets, member.User)
		}
		if len(found) < limit {
			break
		}
	}
	return handed, guards, targets, nil
}
