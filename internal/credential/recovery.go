package credential

import (
	"context"
	"errors"
	"fmt"

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

// checkLink says why no link can be mailed to the user, if so.
func (m *Manager) checkLink(u user.User) []change.FieldError {
	switch {
	case !m.config.Notices.On():
		return []change.FieldError{{Pointer: "/method", Code: "unavailable", Detail: "This service sends no mail. Use temporary or set."}}
	case u.Email == "" || !u.EmailVerified:
		return []change.FieldError{{Pointer: "/method", Code: "unavailable", Detail: "The user has no confirmed e-mail address that a link could be sent to. Use temporary or set."}}
	}
	return nil
}

// sendResetLink mails the user a one-time link to choose a new password. Nothing changes until it is used, unless the
// administrator wants the old password to be disabled now (REC-06).
func (m *Manager) sendResetLink(ctx context.Context, actor access.Actor, member session.Member, w Reset) (ResetDone, error) {
	before, now := member.User, m.config.Now()
	if err := m.limiter.AllowMail(ctx, "reset:"+string(before.ID)); err != nil {
		return ResetDone{}, err
	}
	after := before
	event := audit.New(audit.ResetLinkSent, audit.Done, actor, before, w.Origin, now)
	event.Reason, event.Details.Method = w.Reason, string(user.Link)
	c := change.Change{
		At: now, Actor: ActorGuard(actor), Service: ServiceGuard(actor), User: &after,
		Target: &change.Guard{UserID: before.ID, Revision: before.Revision, Versions: w.IfMatch}, Audit: []audit.Event{event},
	}
	if w.DisableNow {
		after.Password.DisabledAt = &now
		after.Pending = user.PendingEmail{}
		after.NextGeneration(now)
		after.Version++
		c.End = &change.EndSessions{UserID: before.ID, Why: "password_reset"}
		c.Voided(before.ID, everyPurpose()...)
	} else {
		c.Voided(before.ID, change.ResetPassword) // a new link voids the old one (REC-05)
	}
	settleDone(&c, w.item, before, ResetDone{})
	link := &notice.Link{Purpose: change.ResetPassword, Life: notice.ResetLife}
	if err := m.tell(&c, notice.ResetLink, member.Account, before, event, before.Email, link); err != nil {
		return ResetDone{}, err
	}
	finish := func(found change.Result) ResetDone {
		return ResetDone{User: revised(after, found), Method: user.Link, ExpiresAt: now.Add(notice.ResetLife), SessionsEnded: found.SessionsEnded}
	}
	c.Replay = w.Keep.With(finish)
	result, err := m.store.Commit(context.WithoutCancel(ctx), c)
	if err != nil {
		return ResetDone{}, err
	}
	return finish(result), nil
}

// RedeemReset lets the holder of a reset link choose a new password, under the policy of everywhere (REC-08, peers bug 20). It
// opens no session (REC-09), ends all there are, and never enables a disabled user. Errors: *change.RejectedError,
// change.ErrLinkInvalid, change.ErrConflict and *password.OverloadedError; the link stays good then, if it was.
func (m *Manager) RedeemReset(ctx context.Context, used Redemption, chosen secret.Text) error {
	if chosen.Empty() {
		missing := []change.FieldError{change.Required("/new_password", "Choose a new password.")}
		if used.Token.Empty() {
			missing = append(missing, change.Required("/token", "Give the token of the link."))
		}
		return &change.RejectedError{Fields: missing}
	}
	hash := ""
	_, err := m.redeem(ctx, used, change.ResetPassword, func(l *link) error {
		return m.setByLink(ctx, l, chosen, &hash)
	})
	return err
}

// setByLink puts the chosen password into the change. It is hashed once, however often the use of the link starts over.
func (m *Manager) setByLink(ctx context.Context, l *link, chosen secret.Text, hash *string) error {
	before := l.member.User
	wrong := m.refusals(chosen, l.member.Account, before, before)
	if wrong == nil && *hash == "" {
		var err error
		if wrong, err = m.sameAsCurrent(ctx, chosen, before); err != nil {
			return err
		}
	}
	if wrong != nil {
		return &change.RejectedError{Policy: true, Fields: wrong}
	}
	if *hash == "" {
		var err error
		if *hash, err = m.hasher.Hash(ctx, password.People, chosen); err != nil {
			return fmt.Errorf("credential: hash the new password: %w", err)
		}
	}
	l.c.User.Password = user.Password{Hash: *hash, SetBy: user.SetBySelf, ChangedAt: &l.c.At}
	l.endEverything("password_changed")
	l.c.Forgive = []string{session.ThrottleSubject(before.ID)}
	l.c.Voided(before.ID, everyPurpose()...)
	l.event = audit.New(audit.ResetLinkUsed, audit.Done, l.actor, before, l.origin, l.c.At)
	l.event.Details.Changed, l.event.Details.Method = []string{"password"}, string(user.Link)
	return m.tell(&l.c, notice.PasswordChanged, l.member.Account, before, l.event, before.Email, nil)
}

// sameAsCurrent refuses the present password: a reset that keeps what may be known to others is none (PW-20). One whose hash
// cannot be used is no obstacle.
func (m *Manager) sameAsCurrent(ctx context.Context, chosen secret.Text, u user.User) ([]change.FieldError, error) {
	if u.Password.Hash == "" {
		return nil, nil
	}
	verdict, err := m.hasher.Verify(ctx, password.People, u.Password.Hash, chosen)
	switch {
	case errors.Is(err, password.ErrUnusableHash):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("credential: compare with the present password: %w", err)
	case verdict.Match:
		return []change.FieldError{sameAsCurrent()}, nil
	}
	return nil, nil
}

// Revert is "this wasn't me": within 7 days of a self-service change its notice undoes it. All sessions end, the username and
// e-mail from before come back, and the password is disabled until a reset. A name that has gone to somebody else meanwhile,
// because an administrator released it, cannot come back: everything else is done all the same. Errors:
// *change.RejectedError and change.ErrLinkInvalid.
func (m *Manager) Revert(ctx context.Context, used Redemption) (Applied, error) {
	return m.redeem(ctx, used, change.Revert, func(l *link) error { return m.revert(ctx, l) })
}

func (m *Manager) revert(ctx context.Context, l *link) error {
	before := l.member.User
	l.event = audit.New(audit.CredentialsReverted, audit.Done, l.actor, before, l.origin, l.c.At)
	if err := m.restore(ctx, l); err != nil {
		return err
	}
	l.c.User.Password.DisabledAt = &l.c.At
	l.endEverything("reverted")
	l.c.Voided(before.ID, change.ResetPassword, change.ConfirmEmail)
	// Notices of later changes would bring back names from after what is undone here.
	l.c.Void = append(l.c.Void, change.Void{UserID: before.ID, Purposes: []change.Purpose{change.Revert}, Since: l.token.IssuedAt})
	if err := m.tell(&l.c, notice.Reverted, l.member.Account, *l.c.User, l.event, l.c.User.Email, nil); err != nil {
		return err
	}
	return m.tellManagers(ctx, &l.c, notice.AdministratorsReverted, l.member.Account, *l.c.User, l.event)
}

// restore puts the username and e-mail from before into the change, where they can be had.
func (m *Manager) restore(ctx context.Context, l *link) error {
	before, old := l.member.User, l.token.Facts
	if old.Username != before.Username {
		free, err := m.free(ctx, l, identifier.Key(old.Username))
		if err != nil {
			return err
		}
		if free {
			name := identifier.Username{Display: old.Username, Key: identifier.Key(old.Username)}
			r := renaming{to: name, display: name.Display, changed: true, moved: name.Key != identifier.Key(before.Username)}
			r.apply(&l.c, before, audit.PartyOf(l.actor), m.HoldTime(l.member.Account))
			l.event.Details.Changed = append(l.event.Details.Changed, "username")
			l.event.Details.OldUsername, l.event.Details.NewUsername = before.Username, old.Username
		}
	}
	if old.Email == before.Email {
		return nil
	}
	address, err := identifier.ParseEmail(old.Email)
	if err != nil {
		return fmt.Errorf("credential: the e-mail to restore: %w", err)
	}
	free, err := m.free(ctx, l, address.Key)
	if err == nil && free {
		m.moveEmail(address, old.EmailVerified, l.member.Account, before, &l.c, &l.event)
	}
	return err
}

// free tells whether the user can have the identifier: nobody else uses or holds it.
func (m *Manager) free(ctx context.Context, l *link, key string) (bool, error) {
	holder, err := m.store.Holder(ctx, key, l.c.At)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return false, fmt.Errorf("credential: look whose an identifier is: %w", err)
	}
	return holder.User.ID == "" || holder.User.ID == l.member.User.ID, nil
}
