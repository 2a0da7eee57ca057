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
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
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
	// Administrators returns the active administrators of an account that have an e-mail address.
	Administrators(ctx context.Context, accountID string) ([]user.User, error)
	// Commit saves a change whole or not at all: change.ErrConflict, change.ErrVersion, change.ErrIdentifierTaken,
	// change.ErrLinkInvalid.
	Commit(ctx context.Context, c change.Change) (change.Result, error)
	Lister
}

// Tokens gives the one session that outlives a password change its new tokens.
type Tokens interface {
	// Renewed returns the actor's session as it goes on in the new generation, with tokens for it.
	Renewed(ctx context.Context, actor access.Actor, changed user.User) (change.Renew, session.Tokens, error)
}

// Config are a Manager's settings.
type Config struct {
	Policy   password.Policy // the deployment's; an account may set its own minimum length
	HoldTime time.Duration   // how long a released identifier is held for its former owner
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
	if account.MinPasswordLength > 0 {
		policy.MinLength = account.MinPasswordLength
	}
	return policy
}

// Precondition is If-Match: the versions the caller accepts, or nil for any.
type Precondition []int64

func (p Precondition) check(u user.User) error {
	if p != nil && !slices.Contains(p, u.Version) {
		return change.ErrVersion
	}
	return nil
}

// renaming is a username on its way: what it becomes, and what has to be claimed and released for it.
type renaming struct {
	to      identifier.Username
	display string
	changed bool // the shown name differs from the one before
	moved   bool // and so does the folded one
}

// parseRenaming returns what is wrong with the wanted username, if anything, as violations of /username.
func (m *Manager) parseRenaming(u user.User, wanted string, mayTakeAnyEmail bool) (renaming, []change.FieldError) {
	if wanted == u.Username { // also one that a rule of today would not give
		return renaming{display: u.Username}, nil
	}
	if wanted == "" {
		return renaming{}, []change.FieldError{change.Required("/username", "Give a username of 2 to 64 letters or digits.")}
	}
	var name identifier.Username
	var err error
	if identifier.LooksLikeEmail(wanted) {
		name, err = emailAsUsername(u, wanted, mayTakeAnyEmail)
	} else {
		name, err = identifier.ParseUsername(wanted)
	}
	if wrong, ok := errors.AsType[*identifier.Error](err); ok {
		return renaming{}, []change.FieldError{{Pointer: "/username", Code: wrong.Code, Detail: wrong.Detail}}
	}
	r := renaming{to: name, display: name.Display, changed: name.Display != u.Username, moved: name.Key != identifier.Key(u.Username)}
	if r.moved && identifier.Reserved(name.Key) {
		return renaming{}, []change.FieldError{{Pointer: "/username", Code: "reserved", Detail: "This name is reserved. Choose another one."}}
	}
	return r, nil
}

// emailAsUsername allows a user the own confirmed address, and an administrator any (product.md decision 11).
func emailAsUsername(u user.User, wanted string, any bool) (identifier.Username, error) {
	address, err := identifier.ParseEmail(wanted)
	if err != nil {
		return identifier.Username{}, err
	}
	own, ownErr := identifier.ParseEmail(u.Email)
	owned := ownErr == nil && u.EmailVerified && own.Key == address.Key || address.Key == identifier.Key(u.Username)
	if !any && !owned {
		return identifier.Username{}, &identifier.Error{
			Code: "invalid", Detail: "An e-mail address can be your username only if it is your own confirmed address.",
		}
	}
	return identifier.Username{Display: address.Address, Key: address.Key}, nil
}

// apply writes the renaming into the change.
func (r renaming) apply(c *change.Change, before user.User, by audit.Party, hold time.Duration) {
	c.User.Username = r.display
	c.Rename = &change.Rename{
		UserID: before.ID, AccountID: before.AccountID, OldKey: identifier.Key(before.Username),
		NewUsername: r.display, NewKey: r.to.Key, At: c.At, By: by,
	}
	if !r.moved {
		return
	}
	c.Release = append(c.Release, change.Release{Key: identifier.Key(before.Username), UserID: before.ID, Username: true, HeldUntil: c.At.Add(hold)})
	c.Claim = append(c.Claim, change.Claim{Key: r.to.Key, UserID: before.ID, AccountID: before.AccountID, IsUsername: true})
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

// refuse records why a change was not made and returns cause.
func (m *Manager) refuse(ctx context.Context, actor access.Actor, target user.User, origin access.Origin, reason string, cause error) error {
	event := m.refusalEvent(actor, target, origin, reason, refusalCode(cause))
	if rejected, ok := errors.AsType[*change.RejectedError](cause); ok {
		for _, f := range rejected.Fields {
			event.Details.Violations = append(event.Details.Violations, f.Pointer+" "+f.Code)
		}
	}
	return errors.Join(cause, m.recordRefusal(ctx, event))
}

// RecordDenied puts a change that the actor's role or scope does not allow into the audit trail, under the problem code
// that the caller gets. id is whom it aimed at, or "" for the actor's own.
func (m *Manager) RecordDenied(ctx context.Context, actor access.Actor, id user.ID, code string, origin access.Origin) error {
	target := actor.User
	if id != "" || actor.Kind != access.Person {
		target = unknown(actor, id)
	}
	return m.recordRefusal(ctx, m.refusalEvent(actor, target, origin, "", code))
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
		{ErrUseSelfService, "use_self_service"},
		{ErrWrongCurrentPassword, "wrong_current_password"},
		{ErrPasswordDisabled, "password_disabled"},
		{ErrMustChangePassword, "must_change_password"},
		{change.ErrConflict, "conflict"},
		{change.ErrVersion, "precondition_failed"},
		{change.ErrIdentifierTaken, "identifier_taken"},
		{change.ErrLinkInvalid, "link_invalid"},
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
