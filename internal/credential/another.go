package credential

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Visible finds a user that the actor may look at. ErrNotFound for one who does not exist and one out of reach alike.
func (m *Manager) Visible(ctx context.Context, actor access.Actor, id user.ID) (session.Member, error) {
	if !id.Valid() {
		return session.Member{}, ErrNotFound
	}
	member, err := m.store.Member(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		return session.Member{}, ErrNotFound
	}
	if err != nil {
		return session.Member{}, fmt.Errorf("credential: find the user: %w", err)
	}
	if !actor.Sees(member.User) {
		return session.Member{}, ErrNotFound
	}
	return member, nil
}

// managed finds a user whose credentials the actor may change: ErrNotFound as in Visible, and for an administrator that
// a service has no scope for; ErrUseSelfService for an administrator's own.
func (m *Manager) managed(ctx context.Context, actor access.Actor, id user.ID) (session.Member, error) {
	if actor.Kind == access.Person && actor.User.ID == id {
		return session.Member{}, ErrUseSelfService
	}
	member, err := m.Visible(ctx, actor, id)
	if err == nil {
		err = checkReach(actor, member.User)
	}
	return member, err
}

// mayChange keeps services that were not given administrators from changing them.
func mayChange(actor access.Actor, target user.User) bool {
	return actor.Kind != access.Service || target.Role != user.Administrator || actor.HasScope(access.ScopeResetAdministrators)
}

// checkReach returns why the actor may not change the credentials of the user, if so: what managed returns.
func checkReach(actor access.Actor, target user.User) error {
	switch {
	case actor.Kind == access.Person && actor.User.ID == target.ID:
		return ErrUseSelfService
	case !actor.Reaches(target) || !mayChange(actor, target):
		return ErrNotFound
	}
	return nil
}

// ActorGuard makes the save fail when the acting administrator was changed meanwhile: moved, demoted, disabled. It is
// nil for services.
func ActorGuard(actor access.Actor) *change.Guard {
	if actor.Kind != access.Person {
		return nil
	}
	return &change.Guard{UserID: actor.User.ID, Revision: actor.User.Revision}
}

// ServiceGuard makes the save fail when the acting service was disabled or cut back meanwhile. It is nil for people.
func ServiceGuard(actor access.Actor) *change.ServiceGuard {
	if actor.Kind != access.Service {
		return nil
	}
	return &change.ServiceGuard{ClientID: actor.ClientID, AccountID: actor.ClientAccount, Scopes: actor.Scopes}
}

// unknown is the target of a refusal whose target the actor may not know of.
func unknown(actor access.Actor, id user.ID) user.User {
	account := actor.User.AccountID
	if actor.Kind == access.Service {
		account = actor.ClientAccount
	}
	if !id.Valid() {
		id = ""
	}
	return user.User{ID: id, AccountID: account}
}

// wrongReason says what is wrong with a reason: no database text holds U+0000.
func wrongReason(reason string) []change.FieldError {
	var wrong []change.FieldError
	if utf8.RuneCountInString(reason) > maxReason {
		wrong = append(wrong, change.FieldError{Pointer: "/reason", Code: "too_long", Detail: "Use at most 500 characters."})
	}
	if strings.ContainsRune(reason, 0) {
		wrong = append(wrong, change.FieldError{Pointer: "/reason", Code: "invalid_characters", Detail: "Leave the character U+0000 out."})
	}
	return wrong
}

// keptReason is what of a reason can be recorded: nothing of one that is itself refused.
func keptReason(reason string) string {
	if wrongReason(reason) != nil {
		return ""
	}
	return reason
}

// ChangeAnother is what an administrator or a service wants to be changed of a user's credentials.
type ChangeAnother struct {
	Username *string
	Email    *string // "" takes the address away
	Reason   string
	IfMatch  Precondition
	Origin   access.Origin
	Keep     *change.Keep[user.User] // where the answer is kept; nil: nowhere
}

// ChangeAnother changes the username and the e-mail of a user the actor manages, both or neither. Errors: ErrNotFound,
// ErrUseSelfService, *change.RejectedError, change.ErrVersion, change.ErrConflict and change.ErrIdentifierTaken.
func (m *Manager) ChangeAnother(ctx context.Context, actor access.Actor, id user.ID, wanted ChangeAnother) (user.User, error) {
	member, err := m.managed(ctx, actor, id)
	if err != nil {
		return user.User{}, m.refuse(ctx, actor, unknown(actor, id), wanted.Origin, "", err)
	}
	before := member.User
	if err := shapeAnother(wanted); err != nil {
		return user.User{}, m.refuse(ctx, actor, before, wanted.Origin, "", err)
	}
	if err := wanted.IfMatch.check(before); err != nil {
		return user.User{}, m.refuse(ctx, actor, before, wanted.Origin, wanted.Reason, err)
	}
	after := before
	c := change.Change{
		At: m.config.Now(), Actor: ActorGuard(actor), Service: ServiceGuard(actor), User: &after,
		Target: &change.Guard{UserID: before.ID, Revision: before.Revision, Versions: wanted.IfMatch},
	}
	event := audit.New(audit.CredentialsChanged, audit.Done, actor, before, wanted.Origin, c.At)
	event.Reason = wanted.Reason
	if err := m.rename(wanted, actor, member, &c, &event); err != nil {
		return user.User{}, m.refuse(ctx, actor, before, wanted.Origin, wanted.Reason, err)
	}
	if event.Details.Changed == nil {
		return before, m.keep(ctx, wanted.Keep.With(func(change.Result) user.User { return before }))
	}
	after.Version++
	finish := func(found change.Result) user.User { return revised(after, found) }
	c.Replay = wanted.Keep.With(finish)
	c.Voided(before.ID, change.Revert) // an administrator has put it right
	if err := m.tellOfAnothersChange(member.Account, before, &c, event); err != nil {
		return user.User{}, err
	}
	c.Audit = []audit.Event{event}
	result, err := m.save(ctx, actor, before, wanted.Origin, c)
	if err != nil {
		return user.User{}, err
	}
	return finish(result), nil
}

// revised is the user as it is stored after the save.
func revised(after user.User, found change.Result) user.User {
	after.Revision = found.Revision
	return after
}

func shapeAnother(w ChangeAnother) error {
	wrong := wrongReason(w.Reason)
	if w.Username == nil && w.Email == nil {
		wrong = append(wrong, change.Required("", "Give a username or an email to change."))
	}
	if wrong != nil {
		return &change.RejectedError{Fields: wrong}
	}
	return nil
}

// rename puts the new username and e-mail into the change. A username that is the user's e-mail address follows it
// (product.md decision 11): the old address must not go on signing in.
func (m *Manager) rename(w ChangeAnother, actor access.Actor, member session.Member, c *change.Change, event *audit.Event) error {
	before := member.User
	n := namer{account: member.Account, user: before, email: before.Email, anyEmail: true}
	if w.Email != nil {
		n.email = *w.Email
	}
	var name, address []change.FieldError
	var err error
	if w.Username != nil {
		if name, err = m.renameTo(*w.Username, n, actor, c, event); err != nil {
			return err
		}
	}
	if w.Email != nil && *w.Email != before.Email {
		address = m.readdress(*w.Email, member, c, event)
	}
	if w.Username == nil && c.User.Email != before.Email && follows(before) {
		n.follows = true
		if name, err = m.renameTo(c.User.Email, n, actor, c, event); err != nil { // "" is refused: the user would have no name
			return err
		}
	}
	if wrong := append(name, address...); wrong != nil {
		return &change.RejectedError{Policy: name != nil, Fields: wrong}
	}
	return nil
}

func (m *Manager) renameTo(wanted string, n namer, actor access.Actor, c *change.Change, event *audit.Event) ([]change.FieldError, error) {
	r, wrong, err := n.renaming(wanted)
	if wrong != nil || err != nil {
		return wrong, err
	}
	if r.changed {
		r.apply(c, n.user, audit.PartyOf(actor), m.HoldTime(n.account))
		event.Details.Changed = append(event.Details.Changed, "username")
		event.Details.OldUsername, event.Details.NewUsername = n.user.Username, r.display
	}
	return nil, nil
}

// readdress puts another e-mail address into the change. What an administrator enters counts as confirmed: the
// administrator vouches for it.
func (m *Manager) readdress(wanted string, member session.Member, c *change.Change, event *audit.Event) []change.FieldError {
	var address identifier.Email
	if wanted != "" {
		var wrong []change.FieldError
		if address, wrong = parseAddress(wanted); wrong != nil {
			return wrong
		}
	}
	m.moveEmail(address, address.Address != "", member.Account, member.User, c, event)
	return nil
}

// Reset is how an administrator or a service wants a user's password to be reset.
type Reset struct {
	Method      user.ResetMethod // empty: user.Temporary
	NewPassword *secret.Text
	Reason      string
	DisableNow  bool
	IfMatch     Precondition
	Origin      access.Origin
	Keep        *change.Keep[ResetDone] // where the answer is kept; nil: nowhere

	item *change.Item // of the job that the reset is part of; see ResetItem
}

// class says on whose behalf the reset is hashed.
func (r Reset) class() password.Class {
	if r.item != nil {
		return password.Bulk
	}
	return password.Staff
}

// ResetDone is what came of a reset.
type ResetDone struct {
	User              user.User
	Method            user.ResetMethod
	TemporaryPassword secret.Text // with user.Temporary: to be shown once
	ExpiresAt         time.Time
	SessionsEnded     int
}

// Reset replaces the password of a user the actor manages, ends all its sessions and lifts a lock-out; with the method user.Link
// it mails a link, and nothing changes before that is used unless DisableNow is given. Errors:
// ErrNotFound, ErrUseSelfService, *change.RejectedError, change.ErrVersion, change.ErrConflict and
// *password.OverloadedError; nothing is changed then.
func (m *Manager) Reset(ctx context.Context, actor access.Actor, id user.ID, wanted Reset) (ResetDone, error) {
	if wanted.Method == "" {
		wanted.Method = user.Temporary
	}
	member, err := m.managed(ctx, actor, id)
	if err != nil {
		return ResetDone{}, m.refuse(ctx, actor, unknown(actor, id), wanted.Origin, "", err)
	}
	done, err := m.reset(ctx, actor, member, wanted)
	if err != nil {
		return ResetDone{}, m.refuse(ctx, actor, member.User, wanted.Origin, keptReason(wanted.Reason), err)
	}
	return done, nil
}

// reset makes a reset of a user whom the actor manages. That it was refused is for the caller to record.
func (m *Manager) reset(ctx context.Context, actor access.Actor, member session.Member, w Reset) (ResetDone, error) {
	if err := m.checkReset(member, w); err != nil {
		return ResetDone{}, err
	}
	if w.Method == user.Link {
		return m.sendResetLink(ctx, actor, member, w)
	}
	return m.replacePassword(ctx, actor, member, w)
}

func (m *Manager) checkReset(member session.Member, w Reset) error {
	if wrong := append(wrongReason(w.Reason), m.checkMethod(member, w)...); wrong != nil {
		return &change.RejectedError{Fields: wrong}
	}
	if err := w.IfMatch.check(member.User); err != nil {
		return err
	}
	if w.Method == user.Set {
		if found := m.refusals(*w.NewPassword, member.Account, member.User, member.User); found != nil {
			return &change.RejectedError{Policy: true, Fields: found}
		}
	}
	return nil
}

// checkMethod says what is wrong with the method of a reset and with what goes with it.
func (m *Manager) checkMethod(member session.Member, w Reset) []change.FieldError {
	var wrong []change.FieldError
	switch w.Method {
	case user.Temporary:
	case user.Set:
		if w.NewPassword == nil || w.NewPassword.Empty() {
			wrong = append(wrong, change.Required("/new_password", "Give the password that the user will sign in with once."))
		}
	case user.Link:
		wrong = append(wrong, m.checkLink(member.User)...)
	default:
		wrong = append(wrong, change.FieldError{Pointer: "/method", Code: "invalid", Detail: "Use temporary, set or link."})
	}
	if slices.Contains(user.ResetMethods(), w.Method) && !member.Account.Policy.Allows(w.Method) {
		wrong = append(wrong, notAllowed(member.Account.Policy))
	}
	if w.Method != user.Set && w.NewPassword != nil {
		wrong = append(wrong, change.FieldError{Pointer: "/new_password", Code: "invalid", Detail: "A new_password goes with the method set only."})
	}
	if w.DisableNow && w.Method != user.Link {
		wrong = append(wrong, change.FieldError{Pointer: "/disable_now", Code: "invalid", Detail: "The methods temporary and set replace the old password at once; disable_now goes with link only."})
	}
	return wrong
}

// notAllowed says which methods an account has left on.
func notAllowed(policy user.Policy) change.FieldError {
	names := make([]string, len(policy.ResetMethods))
	for i, method := range policy.ResetMethods {
		names[i] = string(method)
	}
	return change.FieldError{Pointer: "/method", Code: "invalid", Detail: "The account does not allow this method. Use " + strings.Join(names, " or ") + "."}
}

func (m *Manager) replacePassword(ctx context.Context, actor access.Actor, member session.Member, w Reset) (ResetDone, error) {
	done := ResetDone{Method: w.Method}
	chosen, err := m.choose(w, member.Account)
	if err != nil {
		return ResetDone{}, err
	}
	if w.Method == user.Temporary {
		done.TemporaryPassword = chosen
	}
	hash, err := m.hasher.Hash(ctx, w.class(), chosen)
	if err != nil {
		return ResetDone{}, fmt.Errorf("credential: hash a temporary password: %w", err)
	}
	before, now := member.User, m.config.Now()
	done.ExpiresAt = now.Add(temporaryLife)
	after := before
	after.Password = user.Password{Hash: hash, SetBy: setBy(actor), ChangedAt: &now, MustChange: true, TemporaryUntil: &done.ExpiresAt}
	after.Pending = user.PendingEmail{}
	after.NextGeneration(now)
	after.Version++
	event := audit.New(audit.PasswordReset, audit.Done, actor, before, w.Origin, now)
	event.Reason, event.Details.Method = w.Reason, string(w.Method)
	c := change.Change{
		At: now, Actor: ActorGuard(actor), Service: ServiceGuard(actor), User: &after,
		Target:  &change.Guard{UserID: before.ID, Revision: before.Revision, Versions: w.IfMatch},
		End:     &change.EndSessions{UserID: before.ID, Why: "password_reset"},
		Forgive: []string{session.ThrottleSubject(before.ID)}, Audit: []audit.Event{event},
	}
	c.Voided(before.ID, everyPurpose()...)
	settleDone(&c, w.item, before, done)
	if err := m.tell(&c, notice.PasswordReset, member.Account, before, event, before.Email, nil); err != nil {
		return ResetDone{}, err
	}
	finish := func(found change.Result) ResetDone {
		done.User, done.SessionsEnded = revised(after, found), found.SessionsEnded
		return done
	}
	c.Replay = w.Keep.With(finish)
	result, err := m.store.Commit(context.WithoutCancel(ctx), c)
	if err != nil {
		return ResetDone{}, err
	}
	return finish(result), nil
}

func (m *Manager) choose(w Reset, account user.Account) (secret.Text, error) {
	if w.Method == user.Set {
		return *w.NewPassword, nil
	}
	chosen, err := password.Generate(m.PolicyFor(account).MinLength)
	if err != nil {
		return secret.Text{}, fmt.Errorf("credential: generate a temporary password: %w", err)
	}
	return chosen, nil
}

func setBy(actor access.Actor) user.SetBy {
	if actor.Kind == access.Service {
		return user.SetByService
	}
	return user.SetByAdministrator
}
