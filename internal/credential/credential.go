// Package credential holds the use cases that change credentials: a user changes the own, an administrator or a
// service changes or resets another's, and a mailed link confirms an e-mail address, completes a reset or undoes a change.
//
// It depends on packages access, audit, change, identifier, notice, password, secret, session, throttle and user, and names
// the store it needs. Each use case goes one way: authorize, shape of the input, precondition, throttle, current password,
// policy, hash, save. So nobody learns of a rule or of other users' names without passing the check before it, and no
// expensive work is done for a request that will be refused. It knows neither HTTP nor SQL, and nothing is hashed while
// a transaction is open.
package credential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// What keeps credentials from being changed, beside the errors of packages change, throttle and password.
var (
	ErrNotFound             = errors.New("credential: no such user for this actor")
	ErrUseSelfService       = errors.New("credential: an administrator changes the own credentials as a user does")
	ErrWrongCurrentPassword = errors.New("credential: the current password is wrong")
	ErrPasswordDisabled     = errors.New("credential: the password is disabled")
	ErrMustChangePassword   = errors.New("credential: the session can only choose a new password")
)

// Times of the rules.
const (
	// freshSignIn is how long after a sign-in a rename needs no current password (product.md decision 1, ASVS 7.5.1).
	freshSignIn = 5 * time.Minute
	// temporaryLife is how long a temporary password can be used to choose a new one (product.md decision 6, ASVS 6.4.1).
	temporaryLife = 24 * time.Hour
	// maxReason bounds the reason an administrator gives, in code points.
	maxReason = 500
)

// Store is what the use cases need of the database.
type Store interface {
	// Member finds a user with the account. session.ErrNotFound when there is none.
	Member(ctx context.Context, id user.ID) (session.Member, error)
	// Holder finds whose identifier a folded key is, in use or held at now. session.ErrNotFound when it is free.
	Holder(ctx context.Context, key string, now time.Time) (session.Member, error)
	// Token finds what a mailed link is for. session.ErrNotFound when there is none of the purpose.
	Token(ctx context.Context, digest string, purpose change.Purpose) (change.Token, error)
	// Standings tells what holds off attempts at the passwords of subjects.
	Standings(ctx context.Context, subjects []string) (map[string]throttle.Standing, error)
	// Administrators returns the active administrators of an account that have an e-mail address.
	Administrators(ctx context.Context, accountID string) ([]user.User, error)
	// Commit saves a change whole or not at all: change.ErrConflict, change.ErrVersion, change.ErrIdentifierTaken,
	// change.ErrLinkInvalid.
	Commit(ctx context.Context, c change.Change) (change.Result, error)
	// Account finds an account. session.ErrNotFound when there is none.
	Account(ctx context.Context, id string) (user.Account, error)
	// Identifier tells who has the folded identifier, or has it held. session.ErrNotFound when nobody does.
	Identifier(ctx context.Context, key string) (Identifier, error)
	// Pending returns users of the account who at now wait to confirm the folded address, in the order of their ids.
	Pending(ctx context.Context, accountID, key string, now time.Time) ([]user.User, error)
	Lister
}

// Tokens gives the one session that outlives a password change its new tokens.
type Tokens interface {
	// Renewed returns the actor's session as it goes on in the new generation, with tokens for it.
	Renewed(ctx context.Context, actor access.Actor, changed user.User) (change.Renew, session.Tokens, error)
}

// Config are a Manager's settings.
type Config struct {
	Policy   password.Policy // the deployment's; an account may set its own minimum length, and block further words
	HoldTime time.Duration   // how long a released identifier is held for its former owner, unless the account sets another time
	Notices  *notice.Composer
	Now      func() time.Time
	Log      *slog.Logger
	Refused  func(code string) // told of every rule that a new password was refused by; nil: nobody
}

// Manager changes credentials.
type Manager struct {
	config  Config
	store   Store
	hasher  *password.Hasher
	limiter *throttle.Limiter
	tokens  Tokens
	lockout *session.Lockout
}

// New returns a Manager.
func New(config Config, store Store, hasher *password.Hasher, limiter *throttle.Limiter, tokens Tokens) *Manager {
	return &Manager{config: config, store: store, hasher: hasher, limiter: limiter, tokens: tokens, lockout: session.NewLockout(store, config.Notices)}
}

// PolicyFor returns the password policy in force in an account; the zero Account has the deployment's.
func (m *Manager) PolicyFor(account user.Account) password.Policy {
	policy := m.config.Policy
	policy.MinLength = cmp.Or(account.Policy.MinLength, policy.MinLength)
	policy.BlockedWords = account.Policy.BlockedWords
	return policy
}

// HoldTime returns how long an identifier that a user of the account releases is held for that user.
func (m *Manager) HoldTime(account user.Account) time.Duration {
	if days := account.Policy.HoldDays; days > 0 {
		return time.Duration(days) * 24 * time.Hour
	}
	return m.config.HoldTime
}

// Precondition is If-Match: the versions the caller accepts, or nil for any.
type Precondition []int64

func (p Precondition) check(u user.User) error {
	if p != nil && !slices.Contains(p, u.Version) {
		return change.ErrVersion
	}
	return nil
}

// save commits a change and records a refusal that the database made: a concurrent change, a taken name.
func (m *Manager) save(ctx context.Context, actor access.Actor, before user.User, origin access.Origin, c change.Change) (change.Result, error) {
	result, err := m.store.Commit(context.WithoutCancel(ctx), c)
	if err == nil {
		return result, nil
	}
	refused := m.refusalEvent(actor, before, origin, c.Audit[0].Reason, refusalCode(err))
	if c.Rename != nil {
		refused.Details.WantedUsername = c.Rename.NewUsername
	}
	return change.Result{}, errors.Join(err, m.recordRefusal(ctx, refused))
}

// keep keeps an answer that goes with no change, because all was so already: were it made later, it might change something.
func (m *Manager) keep(ctx context.Context, answer *change.Replay) error {
	if answer == nil {
		return nil
	}
	if _, err := m.store.Commit(context.WithoutCancel(ctx), change.Change{At: m.config.Now(), Replay: answer}); err != nil {
		return fmt.Errorf("credential: keep an answer: %w", err)
	}
	return nil
}

// refuse records why a change was not made and returns cause.
func (m *Manager) refuse(ctx context.Context, actor access.Actor, target user.User, origin access.Origin, reason string, cause error) error {
	return m.recordCause(ctx, m.refusalEvent(actor, target, origin, reason, ""), cause)
}

// recordCause completes the event of a refusal with its cause, records it and returns the cause.
func (m *Manager) recordCause(ctx context.Context, event audit.Event, cause error) error {
	event.Details.Code = refusalCode(cause)
	if rejected, ok := errors.AsType[*change.RejectedError](cause); ok {
		for _, f := range rejected.Fields {
			event.Details.Violations = append(event.Details.Violations, f.Pointer+" "+f.Code)
		}
	}
	return errors.Join(cause, m.recordRefusal(ctx, event))
}

// Refuse records why something that is aimed at nobody in particular was not done, and returns cause.
func (m *Manager) Refuse(ctx context.Context, actor access.Actor, origin access.Origin, reason string, cause error) error {
	return m.refuse(ctx, actor, unknown(actor, ""), origin, keptReason(reason), cause)
}

// RecordDenied puts a change that the actor's role or scope does not allow into the audit trail, with the operation and the
// problem code that the caller gets. id is whom it aimed at, or "" for the actor's own and for what belongs to no user.
func (m *Manager) RecordDenied(ctx context.Context, actor access.Actor, operation string, id user.ID, code string, origin access.Origin) error {
	target := actor.User
	if id != "" || actor.Kind != access.Person {
		target = unknown(actor, id)
	}
	event := m.refusalEvent(actor, target, origin, "", code)
	event.Details.Operation = operation
	return m.recordRefusal(ctx, event)
}

func (m *Manager) refusalEvent(actor access.Actor, target user.User, origin access.Origin, reason, code string) audit.Event {
	event := audit.New(audit.ChangeRefused, audit.Refused, actor, target, origin, m.config.Now())
	event.Reason, event.Details.Code = reason, code
	return event
}

func (m *Manager) recordRefusal(ctx context.Context, event audit.Event) error {
	if event.Details.Code == "" { // a fault of ours, not a refusal: it is logged, and answered as 500 or 503
		return nil
	}
	_, err := m.store.Commit(context.WithoutCancel(ctx), change.Change{At: event.At, Audit: []audit.Event{event}})
	if err != nil {
		return fmt.Errorf("credential: record a refusal: %w", err)
	}
	return nil
}

// refusalCode names the refusal as the audit trail does: with the problem code the caller gets.
func refusalCode(err error) string {
	if rejected, ok := errors.AsType[*change.RejectedError](err); ok {
		if rejected.Policy {
			return "policy_violation"
		}
		return "validation_failed"
	}
	if _, ok := errors.AsType[*throttle.DelayedError](err); ok {
		return "throttled"
	}
	for _, known := range []struct {
		err  error
		code string
	}{
		{ErrNotFound, "not_found"},
		{access.ErrForbidden, "forbidden"},
		{ErrUseSelfService, "use_self_service"},
		{ErrForbidden, "forbidden"},
		{ErrWrongCurrentPassword, "wrong_current_password"},
		{ErrPasswordDisabled, "password_disabled"},
		{ErrMustChangePassword, "must_change_password"},
		{change.ErrConflict, "conflict"},
		{change.ErrUserExists, "conflict"},
		{change.ErrLastAdministrator, "last_administrator"},
		{change.ErrVersion, "precondition_failed"},
		{change.ErrIdentifierTaken, "identifier_taken"},
		{change.ErrLinkInvalid, "link_invalid"},
		{change.ErrTooManyJobs, "too_many_jobs"},
	} {
		if errors.Is(err, known.err) {
			return known.code
		}
	}
	return ""
}

// violations turns what the policy says of a password into errors of /new_password: nil for none.
func violations(found []password.Violation) []change.FieldError {
	var fields []change.FieldError
	for _, v := range found {
		fields = append(fields, change.FieldError{Pointer: "/new_password", Code: v.Code, Detail: v.Detail})
	}
	return fields
}

// about collects the words a user's password must not consist of.
func about(u user.User, account user.Account) password.Context {
	return password.Context{Username: u.Username, Email: u.Email, DisplayName: u.DisplayName, AccountName: account.Name}
}
