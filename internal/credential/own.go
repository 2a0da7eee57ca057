package credential

import (
	"context"
	"errors"
	"fmt"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// ChangeOwn is what a user wants to be changed of the own credentials. A nil member stays as it is.
type ChangeOwn struct {
	Username        *string
	Email           *string
	NewPassword     *secret.Text
	CurrentPassword *secret.Text
	IfMatch         Precondition
	Origin          access.Origin
	Keep            *change.Keep[Changed] // where the answer is kept; nil: nowhere
}

// Changed is what came of a change.
type Changed struct {
	User   user.User
	Tokens *session.Tokens // when the password changed: for the caller's own session, the only one left
}

// own is a change of the own credentials on its way.
type own struct {
	actor    access.Actor
	wanted   ChangeOwn
	reserved *throttle.Attempt // while the current password is being judged
	verdict  password.Verdict
	proven   bool // the current password was right
	renaming *renaming
	address  *identifier.Email // the wanted e-mail address
}

// ChangeOwn changes the actor's own username, e-mail and password, all or none. A new e-mail address is pending until it is
// confirmed, where mail can be sent. Errors: *change.RejectedError,
// change.ErrVersion, change.ErrConflict, change.ErrIdentifierTaken, ErrWrongCurrentPassword, ErrPasswordDisabled,
// ErrMustChangePassword, *throttle.DelayedError, throttle.ErrBusy and *password.OverloadedError; nothing is changed then.
func (m *Manager) ChangeOwn(ctx context.Context, actor access.Actor, wanted ChangeOwn) (Changed, error) {
	o := &own{actor: actor, wanted: wanted}
	changed, err := m.changeOwn(ctx, o)
	if err != nil {
		return Changed{}, err
	}
	return changed, nil
}

func (m *Manager) changeOwn(ctx context.Context, o *own) (Changed, error) {
	u := o.actor.User
	for _, check := range []func() error{
		func() error { return o.allowed() },
		func() error { return o.shape(m) },
		func() error { return o.wanted.IfMatch.check(u) },
		func() error { return m.proveCurrent(ctx, o) },
		func() error { return m.checkPolicy(o) },
		func() error { return m.allowMail(ctx, o) },
	} {
		err := check()
		if errors.Is(err, errRecorded) {
			return Changed{}, err
		}
		if err != nil {
			return Changed{}, m.refuse(ctx, o.actor, u, o.wanted.Origin, "", err)
		}
	}
	return m.saveOwn(ctx, o)
}

// allowed keeps a session that was opened with a temporary password to choosing a new one.
func (o *own) allowed() error {
	if o.actor.MustChangePassword && o.wanted.NewPassword == nil {
		return ErrMustChangePassword
	}
	return nil
}

func (o *own) shape(m *Manager) error {
	w := o.wanted
	var wrong []change.FieldError
	if w.Username == nil && w.Email == nil && w.NewPassword == nil {
		wrong = append(wrong, change.Required("", "Give a username, an email or a new_password to change."))
	}
	if o.needsCurrent(m) && (w.CurrentPassword == nil || w.CurrentPassword.Empty()) {
		wrong = append(wrong, change.Required("/current_password", "Enter your current password to make this change."))
	}
	if wrong != nil {
		return &change.RejectedError{Fields: wrong}
	}
	return nil
}

// needsCurrent is product.md decision 1: always with a new password; with another name or address unless the sign-in is fresh.
func (o *own) needsCurrent(m *Manager) bool {
	return o.wanted.NewPassword != nil || m.config.Now().Sub(o.actor.SignedInAt) > freshSignIn
}

// errRecorded marks a refusal that is in the audit trail already.
var errRecorded = errors.New("credential: refused")

// proveCurrent checks the current password if there is one; a change that needs none was let through by shape.
func (m *Manager) proveCurrent(ctx context.Context, o *own) error {
	if o.wanted.CurrentPassword == nil {
		return nil
	}
	u := o.actor.User
	if u.Password.DisabledAt != nil {
		return ErrPasswordDisabled
	}
	reserved, err := m.limiter.CurrentPassword(ctx, session.ThrottleSubject(u.ID), o.actor.Place())
	if err != nil {
		return err
	}
	o.reserved = reserved
	verdict, err := m.compareCurrent(ctx, o)
	if err != nil {
		return errors.Join(err, settle(ctx, reserved, throttle.GivenBack))
	}
	if !verdict.Match {
		return m.wrongCurrent(ctx, o)
	}
	o.verdict, o.proven = verdict, true
	return settle(ctx, reserved, throttle.Right)
}

// compareCurrent looks again whether the user is still the one the request began with: an attempt that waited while a
// change won is neither right nor wrong.
func (m *Manager) compareCurrent(ctx context.Context, o *own) (password.Verdict, error) {
	now, err := m.store.Member(ctx, o.actor.User.ID)
	if err != nil {
		return password.Verdict{}, fmt.Errorf("credential: look at the user again: %w", err)
	}
	if now.User.Revision != o.actor.User.Revision {
		return password.Verdict{}, m.conflict(o.wanted.IfMatch)
	}
	if o.reserved.Exhausted || now.User.Password.Hash == "" {
		return password.Verdict{}, m.hasher.VerifyNothing(ctx, password.People, *o.wanted.CurrentPassword)
	}
	verdict, err := m.hasher.Verify(ctx, password.People, now.User.Password.Hash, *o.wanted.CurrentPassword)
	if errors.Is(err, password.ErrUnusableHash) { // nothing matches it, as at a sign-in; only a reset helps
		m.config.Log.ErrorContext(ctx, "a stored password hash is unusable", "user_id", string(now.User.ID), "error", err)
		return password.Verdict{}, nil
	}
	return verdict, err
}

// conflict is how a lost race is answered: by the precondition if the caller gave one.
func (m *Manager) conflict(p Precondition) error {
	if p != nil {
		return change.ErrVersion
	}
	return change.ErrConflict
}

func settle(ctx context.Context, reserved *throttle.Attempt, outcome throttle.Outcome) error {
	_, err := reserved.Settle(ctx, outcome)
	return err
}

// wrongCurrent counts and records the failure, ends the session at the tenth and disables the password at the hundredth.
func (m *Manager) wrongCurrent(ctx context.Context, o *own) error {
	u := o.actor.User
	failures, err := o.reserved.Settle(ctx, throttle.Wrong)
	if err != nil {
		return err
	}
	event := m.refusalEvent(o.actor, u, o.wanted.Origin, "", refusalCode(ErrWrongCurrentPassword))
	event.Details.Failures = failures.Password
	now := event.At // of what follows too: the trail is read in the order of time
	c := change.Change{At: now, Audit: []audit.Event{event}}
	if failures.Place >= throttle.SessionLimit && o.actor.SessionID != "" { // another issuer's has a growing delay alone
		c.End = &change.EndSessions{UserID: u.ID, Only: o.actor.SessionID, Why: "too_many_failures"}
		ended := audit.New(audit.SessionEnded, audit.Done, o.actor, u, o.wanted.Origin, now)
		ended.Details.Code = "too_many_failures"
		c.Audit = append(c.Audit, ended)
	}
	if _, err := m.store.Commit(context.WithoutCancel(ctx), c); err != nil {
		return fmt.Errorf("credential: record a wrong current password: %w", err)
	}
	if failures.Password >= throttle.PasswordLimit {
		if err := m.lockout.Disable(ctx, session.Member{User: u, Account: o.actor.Account}, o.actor, o.wanted.Origin, now); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %w", errRecorded, ErrWrongCurrentPassword)
}

// checkPolicy finds every violation of the username and the password rules at once, and what is wrong with the e-mail.
func (m *Manager) checkPolicy(o *own) error {
	u, w := o.actor.User, o.wanted
	address, invalid := o.parseEmail()
	named, r, wrong, err := renamed(o.actor, w.Username)
	if err != nil {
		return err
	}
	o.renaming = r
	if w.NewPassword != nil {
		wrong = append(wrong, m.refusals(*w.NewPassword, o.actor.Account, u, named)...)
		if password.Normalize(*w.NewPassword).Equal(password.Normalize(*w.CurrentPassword)) {
			wrong = append(wrong, sameAsCurrent())
		}
	}
	o.address = address
	if wrong != nil || invalid != nil {
		return &change.RejectedError{Policy: wrong != nil, Fields: append(wrong, invalid...)}
	}
	return nil
}

func sameAsCurrent() change.FieldError {
	return change.FieldError{Pointer: "/new_password", Code: password.CodeSameAsCurrent, Detail: "Choose a password that differs from the current one."}
}

// judge holds the password against the policy, with the words about the user as it is and as it will be. It is the one gate
// of every way to choose a password (peers bug 20), and of the dry run.
func (m *Manager) judge(candidate secret.Text, account user.Account, before, after user.User) []password.Violation {
	policy := m.PolicyFor(account)
	found := policy.Check(candidate, about(after, account))
	if before.Username != after.Username && !hasCode(found, password.CodeContextWord) {
		for _, v := range policy.Check(candidate, about(before, account)) {
			if v.Code == password.CodeContextWord {
				found = append(found, v)
			}
		}
	}
	return found
}

// refusals are the errors of /new_password where a password is really to be set. They are counted, those of the dry run are not.
func (m *Manager) refusals(candidate secret.Text, account user.Account, before, after user.User) []change.FieldError {
	found := m.judge(candidate, account, before, after)
	if m.config.Refused != nil {
		for _, v := range found {
			m.config.Refused(v.Code)
		}
	}
	return violations(found)
}

// CheckPassword returns what the policy has against the password if the actor chose it now, with the username if one is given:
// what ChangeOwn would say of it, but for the current password, which it never looks at. Nothing is stored or recorded.
func (m *Manager) CheckPassword(actor access.Actor, candidate secret.Text, username *string) ([]password.Violation, error) {
	named, _, _, err := renamed(actor, username)
	if err != nil {
		return nil, err
	}
	return m.judge(candidate, actor.Account, actor.User, named), nil
}

// renamed returns the actor's user under the wanted username if it can have that one, and else as it is, with what is wrong.
func renamed(actor access.Actor, wanted *string) (named user.User, r *renaming, wrong []change.FieldError, err error) {
	named = actor.User
	if wanted == nil {
		return named, nil, nil, nil
	}
	found, wrong, err := namer{account: actor.Account, user: named, email: named.Email}.renaming(*wanted)
	if wrong == nil && err == nil {
		named.Username = found.display
	}
	return named, &found, wrong, err
}

func hasCode(found []password.Violation, code string) bool {
	for _, v := range found {
		if v.Code == code {
			return true
		}
	}
	return false
}

func (m *Manager) saveOwn(ctx context.Context, o *own) (Changed, error) {
	before := o.actor.User
	after := before
	c := change.Change{
		At: m.config.Now(), User: &after,
		Target: &change.Guard{UserID: before.ID, Revision: before.Revision, Versions: o.wanted.IfMatch},
	}
	event := audit.New(audit.CredentialsChanged, audit.Done, o.actor, before, o.wanted.Origin, c.At)
	if o.renaming != nil && o.renaming.changed {
		o.renaming.apply(&c, before, audit.PartyOf(o.actor), m.HoldTime(o.actor.Account))
		event.Details.Changed = append(event.Details.Changed, "username")
		event.Details.OldUsername, event.Details.NewUsername = before.Username, after.Username
	}
	tokens, err := m.setOwnPassword(ctx, o, &c, &event)
	if err != nil {
		return Changed{}, err
	}
	if err := m.setOwnEmail(ctx, o, &c, &event); err != nil {
		return Changed{}, err
	}
	if event.Details.Changed == nil { // it was all so already
		unchanged := Changed{User: before}
		return unchanged, m.keep(ctx, o.wanted.Keep.With(func(change.Result) Changed { return unchanged }))
	}
	after.Version++
	finish := func(found change.Result) Changed {
		changed := Changed{User: after, Tokens: tokens}
		changed.User.Revision = found.Revision
		return changed
	}
	if c.Replay = o.wanted.Keep.With(finish); c.Replay != nil && after.Generation != before.Generation {
		c.Replay.Generation = after.Generation
	}
	if err := m.tellOfOwnChange(o, &c, event); err != nil {
		return Changed{}, err
	}
	c.Audit = append(c.Audit, event)
	result, err := m.save(ctx, o.actor, before, o.wanted.Origin, c)
	if err != nil {
		return Changed{}, err
	}
	return finish(result), nil
}

// setOwnPassword puts the new password into the change, or a stronger hash of the one just proven if it had an outdated one.
func (m *Manager) setOwnPassword(ctx context.Context, o *own, c *change.Change, event *audit.Event) (*session.Tokens, error) {
	if o.wanted.NewPassword == nil {
		if o.proven && o.verdict.Outdated && c.Rename != nil {
			return nil, m.rehash(ctx, o, c, event)
		}
		return nil, nil
	}
	hash, err := m.hasher.Hash(ctx, password.People, *o.wanted.NewPassword)
	if err != nil {
		return nil, fmt.Errorf("credential: hash the new password: %w", err)
	}
	c.User.Password = user.Password{Hash: hash, SetBy: user.SetBySelf, ChangedAt: &c.At}
	c.User.NextGeneration(c.At)
	tokens, err := m.renew(ctx, o, c)
	if err != nil {
		return nil, err
	}
	c.End = &change.EndSessions{UserID: c.User.ID, Except: o.actor.SessionID, Why: "password_changed"}
	c.Forgive = []string{session.ThrottleSubject(c.User.ID)}
	event.Details.Changed = append(event.Details.Changed, "password")
	// REC-05: links from before are void. So is an address that waits to be confirmed: who asked for it may be whom the new
	// password is to keep out.
	c.User.Pending = user.PendingEmail{}
	c.Voided(c.User.ID, change.ResetPassword, change.ConfirmEmail)
	return tokens, nil
}

// renew lets the caller's session go on in the new generation. A token of another issuer has none: whoever has it must get
// a new one there.
func (m *Manager) renew(ctx context.Context, o *own, c *change.Change) (*session.Tokens, error) {
	if o.actor.SessionID == "" {
		return nil, nil
	}
	renew, tokens, err := m.tokens.Renewed(ctx, o.actor, *c.User)
	if err != nil {
		return nil, fmt.Errorf("credential: renew the session: %w", err)
	}
	c.Renew = &renew
	return &tokens, nil
}

func (m *Manager) rehash(ctx context.Context, o *own, c *change.Change, event *audit.Event) error {
	hash, err := m.hasher.Hash(ctx, password.People, *o.wanted.CurrentPassword)
	if err != nil {
		return fmt.Errorf("credential: upgrade the hash: %w", err)
	}
	event.Details.Scheme = password.Scheme(c.User.Password.Hash)
	c.User.Password.Hash = hash
	return nil
}
