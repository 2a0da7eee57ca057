// Package review reports on the credentials of an account's users for security audits: what is old, weak, unused, against the
// naming rule, or in use from many places at once.
//
// It depends on packages access, audit, change, credential, identifier, session, throttle and user, and names the store that it
// reads from. It knows neither HTTP nor SQL, and never holds more than one window of users, however many there are.
package review

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// Finding is the stable name of what somebody should look at.
type Finding string

// The findings.
const (
	OldPassword     Finding = "old_password"     // set longer ago than Query.OldDays
	NeverChanged    Finding = "never_changed"    // the one that the user was made or imported with
	LegacyHash      Finding = "legacy_hash"      // in any way less than what is made today
	Dormant         Finding = "dormant"          // active, without a sign-in for longer than Query.DormantDays
	NamingViolation Finding = "naming_violation" // the username could not be given today
	ManyPlaces      Finding = "many_places"      // sessions in use from more networks within an hour than the account calls plausible
)

// Findings returns every finding there is, in the order in which they are told.
func Findings() []Finding {
	return []Finding{OldPassword, NeverChanged, LegacyHash, Dormant, NamingViolation, ManyPlaces}
}

// What counts where the caller does not say: a year, as most audits ask, and the 45 days of the CIS Controls, safeguard 5.3.
const (
	DefaultOldDays     = 365
	DefaultDormantDays = 45
)

// Query asks for the users of one account that match and that the actor may look at.
type Query struct {
	Actor       access.Actor
	Account     user.Account      // as credential.Manager.Account found it for the actor
	Filter      credential.Filter // Team, Role and Status
	Findings    []Finding         // users with all of these; none: everybody
	OldDays     int               // 1 or more
	DormantDays int               // 1 or more
	Origin      access.Origin
}

// Entry is what the review says of one user.
type Entry struct {
	User     user.User
	Scheme   string // of the password's hash, as password.Scheme names it
	Legacy   bool   // the hash is in any way less than what is made today
	AgeDays  *int   // whole days since the password was set; nil when that is not known
	Failures int    // consecutive ones up to now
	Naming   []*identifier.Error
	Places   int       // the most networks within an hour that sessions were in use from
	PlacesAt time.Time // when that was; zero when Places is 0
	Findings []Finding
}

// Summary counts all users that the query's Filter selects, whatever its Findings.
type Summary struct {
	Users, Disabled, MustChange, PasswordDisabled, NoPassword int
	Findings                                                  map[Finding]int
}

// Store is what a review needs of the database.
type Store interface {
	// Members lists users in the order of their accounts and ids, after the one named.
	Members(ctx context.Context, actor access.Actor, f credential.Filter, after user.ID, limit int) ([]session.Member, error)
	// Standings tells what holds off attempts at the passwords of subjects.
	Standings(ctx context.Context, subjects []string) (map[string]throttle.Standing, error)
	// Uses tells when sessions of the users are known to have been in use and from which network, the uses of each user in the
	// order of time.
	Uses(ctx context.Context, users []user.ID, visit func(id user.ID, at time.Time, network string)) error
	// Commit saves a change whole or not at all.
	Commit(ctx context.Context, c change.Change) (change.Result, error)
}

// Reviewer makes reviews.
type Reviewer struct {
	store    Store
	describe func(hash string) (scheme string, legacy bool)
	now      func() time.Time
	lanes    chan struct{} // taken while a window is looked at
}

// lanes is how many windows are looked at at once, whoever asks: two of the 20 connections that a replica has if nothing else is
// set. More reviews than that take turns, window by window; a caller who reads slowly keeps no other waiting.
const lanes = 2

// New returns a Reviewer. describe is that of the password.Hasher in use.
func New(store Store, describe func(hash string) (scheme string, legacy bool), now func() time.Time) *Reviewer {
	return &Reviewer{store: store, describe: describe, now: now, lanes: make(chan struct{}, lanes)}
}

// window is how many users are looked at in one statement: it bounds the memory, however many there are.
const window = 1000

// Page returns up to limit entries after the user named, and whether there are more. With summarize it looks at all users that
// the filter selects and counts them. A first page (after nobody) is recorded as an event.
func (r *Reviewer) Page(ctx context.Context, q Query, after user.ID, limit int, summarize bool) (entries []Entry, more bool, summary *Summary, err error) {
	if after == "" {
		if err := r.record(ctx, q, "json"); err != nil {
			return nil, false, nil, err
		}
	}
	size := window
	if !summarize && len(q.Findings) == 0 {
		size = limit + 1
	}
	pass, err := r.pass(q, after, size)
	if err != nil {
		return nil, false, nil, err
	}
	if summarize {
		summary = &Summary{Findings: map[Finding]int{}}
	}
	for !pass.over && (summarize || len(entries) <= limit) {
		found, err := pass.next(ctx)
		if err != nil {
			return nil, false, nil, err
		}
		for i := range found {
			summary.add(&found[i])
			if len(entries) <= limit && q.wants(&found[i]) {
				entries = append(entries, found[i])
			}
		}
	}
	if len(entries) > limit {
		return entries[:limit], true, summary, nil
	}
	return entries, false, summary, nil
}

// record puts into the audit trail who looked at the account's credentials, and how they were narrowed.
func (r *Reviewer) record(ctx context.Context, q Query, format string) error {
	event := audit.About(audit.CredentialsReviewed, audit.Done, q.Actor, q.Account, q.Origin, r.now())
	event.Details.Format, event.Details.Team = format, q.Filter.Team
	for _, f := range q.Findings {
		event.Details.Findings = append(event.Details.Findings, string(f))
	}
	if _, err := r.store.Commit(context.WithoutCancel(ctx), change.Change{At: event.At, Audit: []audit.Event{event}}); err != nil {
		return fmt.Errorf("review: record it: %w", err)
	}
	return nil
}

func (q Query) wants(e *Entry) bool {
	return !slices.ContainsFunc(q.Findings, func(f Finding) bool { return !slices.Contains(e.Findings, f) })
}

func (s *Summary) add(e *Entry) {
	if s == nil {
		return
	}
	count := func(n *int, counts bool) {
		if counts {
			*n++
		}
	}
	s.Users++
	count(&s.Disabled, !e.User.IsActive())
	count(&s.MustChange, e.User.Password.MustChange)
	count(&s.PasswordDisabled, e.User.Password.DisabledAt != nil)
	count(&s.NoPassword, e.User.Password.Hash == "")
	for _, f := range e.Findings {
		s.Findings[f]++
	}
}

// pass goes once over the users that a query's filter selects, a window at a time.
type pass struct {
	reviewer *Reviewer
	query    Query
	naming   *identifier.Naming
	now      time.Time
	after    user.ID
	size     int
	over     bool
}

func (r *Reviewer) pass(q Query, after user.ID, size int) (*pass, error) {
	naming, err := q.Account.Naming.Compile()
	if err != nil {
		return nil, fmt.Errorf("review: account %s: %w", q.Account.ID, err)
	}
	if q.Actor.Kind == access.Service { // of the accounts that it is there for, this one
		q.Actor.AllAccounts, q.Actor.ClientAccount = false, q.Account.ID
	}
	return &pass{reviewer: r, query: q, naming: naming, now: r.now(), after: after, size: size}, nil
}

// next returns what there is to say of the users of the next window, once a lane is free.
func (p *pass) next(ctx context.Context) ([]Entry, error) {
	select {
	case p.reviewer.lanes <- struct{}{}:
		defer func() { <-p.reviewer.lanes }()
	case <-ctx.Done():
		return nil, fmt.Errorf("review: wait for a lane: %w", ctx.Err())
	}
	store := p.reviewer.store
	members, err := store.Members(ctx, p.query.Actor, p.query.Filter, p.after, p.size)
	if err != nil {
		return nil, fmt.Errorf("review: list users: %w", err)
	}
	p.over = len(members) < p.size
	if len(members) == 0 {
		return nil, nil
	}
	ids, subjects := make([]user.ID, len(members)), make([]string, len(members))
	for i, m := range members {
		ids[i], subjects[i] = m.User.ID, session.ThrottleSubject(m.User.ID)
	}
	p.after = ids[len(ids)-1]
	standings, err := store.Standings(ctx, subjects)
	if err != nil {
		return nil, fmt.Errorf("review: failures: %w", err)
	}
	used := map[user.ID]*places{}
	err = store.Uses(ctx, ids, func(id user.ID, at time.Time, network string) {
		if used[id] == nil {
			used[id] = &places{}
		}
		used[id].use(at, network)
	})
	if err != nil {
		return nil, fmt.Errorf("review: places: %w", err)
	}
	entries := make([]Entry, len(members))
	for i, m := range members {
		e := Entry{User: m.User, Failures: standings[subjects[i]].Failures}
		if at := used[m.User.ID]; at != nil {
			e.Places, e.PlacesAt = at.most, at.at
		}
		p.judge(&e)
		entries[i] = e
	}
	return entries, nil
}

// judge completes an entry with what follows from the rest.
func (p *pass) judge(e *Entry) {
	u, has := e.User, e.User.Password.Hash != ""
	e.Scheme, e.Legacy = p.reviewer.describe(u.Password.Hash)
	e.Naming = credential.CheckName(p.naming, identifier.Key(u.Username), identifier.Key(u.Email))
	set := u.CreatedAt // it is at least as old
	if at := u.Password.ChangedAt; at != nil && has {
		set = *at
		days := int(p.now.Sub(set) / day)
		e.AgeDays = &days
	}
	seen := u.CreatedAt
	if u.LastSignInAt != nil {
		seen = *u.LastSignInAt
	}
	for _, is := range []struct {
		finding Finding
		true    bool
	}{
		{OldPassword, has && p.olderThan(set, p.query.OldDays)},
		{NeverChanged, has && u.Password.SetBy != user.SetBySelf && !set.After(u.CreatedAt)},
		{LegacyHash, e.Legacy},
		{Dormant, u.IsActive() && p.olderThan(seen, p.query.DormantDays)},
		{NamingViolation, len(e.Naming) > 0},
		{ManyPlaces, e.Places > p.query.Account.Policy.Places()},
	} {
		if is.true {
			e.Findings = append(e.Findings, is.finding)
		}
	}
}

const day = 24 * time.Hour

func (p *pass) olderThan(at time.Time, days int) bool { return p.now.Sub(at) > time.Duration(days)*day }
