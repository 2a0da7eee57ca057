package bulk

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Credentials are the use cases of package credential that jobs go through.
type Credentials interface {
	// Obstacle tells why a job of the actor would not reset the user, or "" when it would.
	Obstacle(actor access.Actor, member session.Member, method user.ResetMethod) string
	// Account finds the account that an actor means: the own one, or for a service of every account the one it names.
	Account(ctx context.Context, actor access.Actor, named string) (user.Account, error)
	// CheckJob returns what is wrong with how a job is to reset users and why, if anything.
	CheckJob(account user.Account, method user.ResetMethod, reason string) []change.FieldError
	// ResetItem resets a user as one item of a job, and returns how it is settled.
	ResetItem(ctx context.Context, actor access.Actor, item change.Item, wanted credential.Reset) (change.ItemState, error)
	// RefuseItem settles an item whose user is not reset.
	RefuseItem(ctx context.Context, actor access.Actor, item change.Item, wanted credential.Reset, state change.ItemState, code string) error
	// Refuse records why something was not done for the actor, and returns the cause.
	Refuse(ctx context.Context, actor access.Actor, origin access.Origin, reason string, cause error) error
}

// Jobs begins, shows and cancels jobs, and hands out the passwords they made.
type Jobs struct {
	store       Store
	credentials Credentials
	now         func() time.Time
}

// New returns Jobs.
func New(store Store, credentials Credentials, now func() time.Time) *Jobs {
	return &Jobs{store: store, credentials: credentials, now: now}
}

// Selection is whom a job is to reset, by exactly one of the two.
type Selection struct {
	UserIDs []user.ID
	Filter  *credential.Filter
}

// Wanted is the job that somebody wants.
type Wanted struct {
	AccountID string // whose users; a service of every account must name it, everybody else may name the own
	Selection Selection
	Method    user.ResetMethod // empty: temporary
	Reason    string
	Origin    access.Origin
	Keep      *change.Keep[Job] // where the answer is kept; nil: nowhere
}

// Begin begins a job. Errors: *change.RejectedError, credential.ErrNotFound for another's account, and
// change.ErrTooManyJobs.
func (j *Jobs) Begin(ctx context.Context, actor access.Actor, wanted Wanted) (Job, error) {
	job, err := j.begin(ctx, actor, wanted)
	if err != nil {
		return Job{}, j.credentials.Refuse(ctx, actor, wanted.Origin, wanted.Reason, err)
	}
	return job, nil
}

func (j *Jobs) begin(ctx context.Context, actor access.Actor, wanted Wanted) (Job, error) {
	actor, wanted, err := j.check(ctx, actor, wanted)
	if err != nil {
		return Job{}, err
	}
	ids, err := j.selected(ctx, actor, wanted.Selection)
	if err != nil {
		return Job{}, err
	}
	now := j.now()
	begun := change.NewJob{
		ID: uuid.Must(uuid.NewV7()).String(), AccountID: wanted.AccountID, Begun: audit.PartyOf(actor), SessionID: actor.SessionID, Issuer: actor.Issuer, Scopes: actor.Scopes,
		Method: string(wanted.Method), Reason: wanted.Reason, Origin: wanted.Origin, At: now, Users: ids, Unfinished: mostUnfinished,
	}
	event := audit.New(audit.JobBegun, audit.Done, actor, user.User{AccountID: wanted.AccountID}, wanted.Origin, now)
	event.Reason = wanted.Reason
	event.Details.Method, event.Details.Job, event.Details.Items = begun.Method, begun.ID, &audit.Items{Total: len(ids)}
	job := Job{
		ID: begun.ID, AccountID: begun.AccountID, Begun: begun.Begun, SessionID: begun.SessionID, Issuer: begun.Issuer, Scopes: begun.Scopes,
		Method: wanted.Method, Reason: begun.Reason, Origin: begun.Origin, Status: change.JobQueued, CreatedAt: now.UTC().Truncate(time.Microsecond), // as the database has it
		Items: audit.Items{Total: len(ids)},
	}
	_, err = j.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: now, Actor: credential.ActorGuard(actor), Service: credential.ServiceGuard(actor), Job: &begun, Audit: []audit.Event{event},
		Replay: wanted.Keep.With(func(change.Result) Job { return job }),
	})
	if err != nil {
		return Job{}, fmt.Errorf("bulk: begin a job: %w", err)
	}
	return job, nil
}

// maxNamed is how many wrong ids of a request are named.
const maxNamed = 100

// check completes what is wanted, says everything that is wrong with it, and narrows a service to the one account.
func (j *Jobs) check(ctx context.Context, actor access.Actor, w Wanted) (access.Actor, Wanted, error) {
	account, err := j.credentials.Account(ctx, actor, w.AccountID)
	if err != nil {
		return actor, w, err
	}
	w.AccountID = account.ID
	if w.Method == "" {
		w.Method = user.Temporary
	}
	if wrong := append(j.credentials.CheckJob(account, w.Method, w.Reason), wrongSelection(w.Selection)...); wrong != nil {
		return actor, w, &change.RejectedError{Fields: wrong}
	}
	return within(actor, account.ID), w, nil
}

// within narrows a service of every account to one: a job has one.
func within(actor access.Actor, account string) access.Actor {
	if actor.Kind == access.Service {
		actor.AllAccounts, actor.ClientAccount = false, account
	}
	return actor
}

func wrongSelection(s Selection) []change.FieldError {
	switch {
	case (s.UserIDs == nil) == (s.Filter == nil):
		return []change.FieldError{change.Required("/user_ids", "Give either user_ids or a filter.")}
	case s.Filter != nil:
		return wrongFilter(*s.Filter)
	case len(s.UserIDs) == 0:
		return []change.FieldError{change.Required("/user_ids", "Name at least one user.")}
	case len(s.UserIDs) > MostUsers:
		return []change.FieldError{tooMany("/user_ids")}
	}
	var wrong []change.FieldError
	for i, id := range s.UserIDs {
		if !id.Valid() && len(wrong) < maxNamed {
			wrong = append(wrong, change.FieldError{Pointer: "/user_ids/" + strconv.Itoa(i), Code: "invalid", Detail: "Give the id of a user."})
		}
	}
	return wrong
}

func tooMany(pointer string) change.FieldError {
	return change.FieldError{Pointer: pointer, Code: "too_long", Detail: "One job resets at most " + strconv.Itoa(MostUsers) + " users. Make several jobs of it."}
}

// wrongFilter refuses a filter that narrows nothing: who means everybody says so with the team "/".
func wrongFilter(f credential.Filter) []change.FieldError {
	if f == (credential.Filter{}) {
		return []change.FieldError{change.Required("/filter", `Give at least one condition; {"team": "/"} is everybody.`)}
	}
	var wrong []change.FieldError
	for _, rule := range []struct {
		name   string
		good   bool
		detail string
	}{
		{"query", utf8.ValidString(f.Query) && !strings.ContainsRune(f.Query, 0), "Use text in UTF-8 without the character U+0000."},
		{"team", f.Team == "" || f.Team.Valid(), "Give a path like /east/boston/."},
		{"status", f.Status == "" || f.Status.Valid(), "Use active or disabled."},
		{"role", f.Role == "" || f.Role.Valid(), "Use agent or administrator."},
	} {
		if !rule.good {
			wrong = append(wrong, change.FieldError{Pointer: "/filter/" + rule.name, Code: "invalid", Detail: rule.detail})
		}
	}
	return wrong
}

// selectBatch is how many users are read at a time.
const selectBatch = 1000

// selected returns the ids of the selection, each once, in order.
func (j *Jobs) selected(ctx context.Context, actor access.Actor, s Selection) ([]user.ID, error) {
	if s.Filter == nil {
		ids := slices.Clone(s.UserIDs)
		slices.Sort(ids)
		return slices.Compact(ids), nil
	}
	ids := []user.ID{}
	for after := user.ID(""); ; after = ids[len(ids)-1] {
		members, err := j.store.Members(ctx, actor, *s.Filter, after, selectBatch)
		if err != nil {
			return nil, fmt.Errorf("bulk: select users: %w", err)
		}
		for _, m := range members {
			ids = append(ids, m.User.ID)
		}
		if len(ids) > MostUsers {
			return nil, &change.RejectedError{Fields: []change.FieldError{tooMany("/filter")}}
		}
		if len(members) < selectBatch {
			return ids, nil
		}
	}
}

// Foreseen is what a job would do with one user.
type Foreseen struct {
	UserID   user.ID
	Code     string // why the user would not be reset; empty when it would
	Username string // empty for users whom the actor must not know of
}

// Counts is what a job would do in all.
type Counts struct {
	Total     int
	WouldSkip map[string]int // by code
}

// Preview is what a job would do: one page of it, and with the first page what it would do in all.
type Preview struct {
	Counts *Counts // nil with further pages: for it everybody is looked at
	Users  []Foreseen
	More   bool
}

// Preview tells what Begin would make of the same wish if nobody changed anything, without doing it: up to limit users after
// the one named. Errors as of Begin.
func (j *Jobs) Preview(ctx context.Context, actor access.Actor, wanted Wanted, after user.ID, limit int) (Preview, error) {
	actor, wanted, err := j.check(ctx, actor, wanted)
	if err != nil {
		return Preview{}, err
	}
	var preview Preview
	if after == "" {
		if preview.Counts, err = j.count(ctx, actor, wanted); err != nil {
			return Preview{}, err
		}
	}
	ids, err := j.selectedAfter(ctx, actor, wanted.Selection, after, limit+1)
	if err != nil {
		return Preview{}, err
	}
	if preview.Users, err = j.foreseeAll(ctx, actor, ids, wanted.Method); err != nil {
		return Preview{}, err
	}
	if len(ids) > limit {
		preview.Users, preview.More = preview.Users[:limit], true
	}
	return preview, nil
}

// selectedAfter returns up to limit of those selected, after the one named.
func (j *Jobs) selectedAfter(ctx context.Context, actor access.Actor, s Selection, after user.ID, limit int) ([]user.ID, error) {
	if s.Filter == nil {
		ids, err := j.selected(ctx, actor, s)
		first := sort.Search(len(ids), func(i int) bool { return ids[i] > after })
		return ids[first:min(first+limit, len(ids))], err
	}
	members, err := j.store.Members(ctx, actor, *s.Filter, after, limit)
	if err != nil {
		return nil, fmt.Errorf("bulk: select users: %w", err)
	}
	ids := make([]user.ID, len(members))
	for i, m := range members {
		ids[i] = m.User.ID
	}
	return ids, nil
}

func (j *Jobs) count(ctx context.Context, actor access.Actor, wanted Wanted) (*Counts, error) {
	ids, err := j.selected(ctx, actor, wanted.Selection)
	if err != nil {
		return nil, err
	}
	counts := &Counts{Total: len(ids), WouldSkip: map[string]int{}}
	for batch := range slices.Chunk(ids, selectBatch) {
		seen, err := j.foreseeAll(ctx, actor, batch, wanted.Method)
		if err != nil {
			return nil, err
		}
		for _, one := range seen {
			if one.Code != "" {
				counts.WouldSkip[one.Code]++
			}
		}
	}
	return counts, nil
}

func (j *Jobs) foreseeAll(ctx context.Context, actor access.Actor, ids []user.ID, method user.ResetMethod) ([]Foreseen, error) {
	members, err := j.store.MembersByID(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("bulk: look at users: %w", err)
	}
	seen := make([]Foreseen, len(ids))
	for i, id := range ids {
		seen[i] = j.foresee(actor, members, id, method)
	}
	return seen, nil
}

func (j *Jobs) foresee(actor access.Actor, members map[user.ID]session.Member, id user.ID, method user.ResetMethod) Foreseen {
	member, found := members[id]
	if !found {
		return Foreseen{UserID: id, Code: credential.SkipNotFound}
	}
	seen := Foreseen{UserID: id, Code: j.credentials.Obstacle(actor, member, method)}
	if actor.Sees(member.User) {
		seen.Username = member.User.Username
	}
	return seen
}
