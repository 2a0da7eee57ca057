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
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// parseAddress returns what is wrong with an e-mail address, if anything, as an error of /email.
func parseAddress(wanted string) (identifier.Email, []change.FieldError) {
	address, err := identifier.ParseEmail(wanted)
	if err == nil {
		return address, nil
	}
	detail := "Give an address like name@example.com."
	if wrong, ok := errors.AsType[*identifier.Error](err); ok {
		detail = wrong.Detail
	}
	return identifier.Email{}, []change.FieldError{{Pointer: "/email", Code: "invalid", Detail: detail}}
}

// parseEmail reads the address a user wants. A user cannot go without one once there is one: it is where notices go.
func (o *own) parseEmail() (*identifier.Email, []change.FieldError) {
	u := o.actor.User
	if o.wanted.Email == nil || *o.wanted.Email == u.Email && u.EmailVerified {
		return nil, nil
	}
	address, wrong := parseAddress(*o.wanted.Email)
	return &address, wrong
}

// follows tells whether the username is the user's e-mail address, and so changes with it (product.md decision 11): the old
// address must not go on signing in (peers bug 7).
func follows(u user.User) bool {
	return u.Email != "" && identifier.Key(u.Username) == identifier.Key(u.Email)
}

// moveEmail puts another e-mail address, or none, into the change, and what is claimed and released for it.
func (m *Manager) moveEmail(to identifier.Email, verified bool, account user.Account, before user.User, c *change.Change, event *audit.Event) {
	oldKey := ""
	if old, err := identifier.ParseEmail(before.Email); err == nil {
		oldKey = old.Key
	}
	c.User.Email, c.User.EmailVerified = to.Address, verified
	c.User.Pending = user.PendingEmail{}
	c.Voided(before.ID, change.ConfirmEmail, change.ResetPassword) // a reset link went to the old address
	event.Details.Changed = append(event.Details.Changed, "email")
	event.Details.OldEmail, event.Details.NewEmail = before.Email, to.Address
	if oldKey == to.Key {
		return
	}
	if oldKey != "" {
		c.Release = append(c.Release, change.Release{Key: oldKey, UserID: before.ID, HeldUntil: c.At.Add(m.HoldTime(account))})
	}
	if to.Key != "" {
		c.Claim = append(c.Claim, change.Claim{Key: to.Key, UserID: before.ID, AccountID: before.AccountID, IsEmail: true})
	}
}

// followEmail renames a user whose username is the e-mail address to the new one, whatever the naming rule says of new names.
func (m *Manager) followEmail(to identifier.Email, actor access.Actor, account user.Account, before user.User, c *change.Change, event *audit.Event) {
	if !follows(before) {
		return
	}
	name := identifier.Username{Display: to.Address, Key: to.Key}
	r := renaming{to: name, display: name.Display, changed: name.Display != before.Username, moved: name.Key != identifier.Key(before.Username)}
	if !r.changed {
		return
	}
	r.apply(c, before, audit.PartyOf(actor), m.HoldTime(account))
	event.Details.Changed = append(event.Details.Changed, "username")
	event.Details.OldUsername, event.Details.NewUsername = before.Username, r.display
}

// allowMail counts the mail that asks to confirm an address, for the user and for the address, whoever's that is.
func (m *Manager) allowMail(ctx context.Context, o *own) error {
	if o.address == nil || !m.config.Notices.On() {
		return nil
	}
	return errors.Join(
		m.limiter.AllowMail(ctx, session.ThrottleSubject(o.actor.User.ID)),
		m.limiter.AllowMail(ctx, "to:"+secret.New(o.address.Key).Digest()),
	)
}

// setOwnEmail puts the wanted address into a user's own change: as pending where mail can be sent, else at once. The present
// address takes a pending one back.
func (m *Manager) setOwnEmail(ctx context.Context, o *own, c *change.Change, event *audit.Event) error {
	before := o.actor.User
	switch {
	case o.wanted.Email == nil:
		return nil
	case o.address == nil:
		return m.cancelPending(before, c, event)
	case !m.config.Notices.On():
		m.moveEmail(*o.address, false, o.actor.Account, before, c, event)
		m.followEmail(*o.address, o.actor, o.actor.Account, before, c, event)
		return nil
	}
	return m.askToConfirm(ctx, o, c, event)
}

func (m *Manager) cancelPending(before user.User, c *change.Change, event *audit.Event) error {
	if before.Pending.Address == "" {
		return nil
	}
	c.User.Pending = user.PendingEmail{}
	c.Voided(before.ID, change.ConfirmEmail)
	event.Details.Changed = append(event.Details.Changed, "pending_email")
	return nil
}

// askToConfirm makes the address pending and mails the link that confirms it. When it is somebody else's the same is done
// and answered, after the same work, but the mail goes to its owner and has no link (EML-03, peers bug 6): the caller cannot
// tell, and nothing is reserved either way.
func (m *Manager) askToConfirm(ctx context.Context, o *own, c *change.Change, event *audit.Event) error {
	u, wanted := o.actor.User, *o.address
	holder, err := m.store.Holder(ctx, wanted.Key, c.At)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return fmt.Errorf("credential: look whose an address is: %w", err)
	}
	until := c.At.Add(notice.ConfirmLife)
	c.User.Pending = user.PendingEmail{Address: wanted.Address, Until: &until}
	c.Voided(u.ID, change.ConfirmEmail)
	event.Details.Changed = append(event.Details.Changed, "pending_email")
	event.Details.PendingEmail = wanted.Address
	link := &notice.Link{Purpose: change.ConfirmEmail, Life: notice.ConfirmLife, Facts: change.TokenFacts{Email: wanted.Address}}
	told := notice.New(notice.ConfirmEmail, o.actor.Account, u, *event)
	told.NewEmail = wanted.Address
	if holder.User.ID == "" || holder.User.ID == u.ID {
		return m.letter(c, event.ID, told, u, wanted.Address, link)
	}
	return m.tellOwner(c, event.ID, told, u, holder, wanted, link)
}

// tellOwner tells the owner of an address that somebody wanted it. A token that nobody has stands for the one that a free
// address gets.
func (m *Manager) tellOwner(c *change.Change, id string, told notice.Notice, u user.User, holder session.Member, wanted identifier.Email, link *notice.Link) error {
	c.Tokens = append(c.Tokens, change.Token{
		Digest: secret.NewToken().Digest(), UserID: u.ID, AccountID: u.AccountID, Purpose: link.Purpose,
		IssuedAt: c.At, ExpiresAt: c.At.Add(link.Life), Facts: link.Facts,
	})
	to := holder.User.Email
	if to == "" {
		to = wanted.Address
	}
	// The owner learns that it happened, and nothing of who it was: that may be a user of another account.
	owners := notice.Notice{
		Kind: notice.EmailUnavailable, Account: holder.Account.Name, Name: holder.User.DisplayName, Username: holder.User.Username,
		NewEmail: wanted.Address, At: told.At, By: notice.By{Kind: "system"},
	}
	return m.letter(c, id, owners, holder.User, to, nil)
}

// Applied is what came of a mailed link or a lock.
type Applied struct {
	User          user.User
	SessionsEnded int
}

// ConfirmEmail lets the pending address of a mailed link take effect. Of several users who wait to confirm the same address
// the first wins. Errors: *change.RejectedError and change.ErrLinkInvalid.
func (m *Manager) ConfirmEmail(ctx context.Context, used Redemption) (Applied, error) {
	return m.redeem(ctx, used, change.ConfirmEmail, func(l *link) error { return m.confirm(l) })
}

func (m *Manager) confirm(l *link) error {
	before := l.member.User
	address, wrong := parseAddress(l.token.Facts.Email)
	if wrong != nil || before.Pending.At(l.c.At) != address.Address {
		return change.ErrLinkInvalid
	}
	l.event = audit.New(audit.CredentialsChanged, audit.Done, l.actor, before, l.origin, l.c.At)
	l.event.Details.Method = string(user.Link)
	m.moveEmail(address, true, l.member.Account, before, &l.c, &l.event)
	m.followEmail(address, l.actor, l.member.Account, before, &l.c, &l.event)
	l.c.User.Version++
	if err := m.tell(&l.c, notice.EmailChanged, l.member.Account, *l.c.User, l.event, before.Email, notice.RevertLink(before)); err != nil {
		return err
	}
	return m.tell(&l.c, notice.EmailChanged, l.member.Account, *l.c.User, l.event, address.Address, nil)
}
