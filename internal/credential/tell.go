package credential

import (
	"context"
	"fmt"
	"slices"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/user"
)

// letter adds a mail to the change.
func (m *Manager) letter(c *change.Change, id string, n notice.Notice, about user.User, to string, link *notice.Link) error {
	var letters notice.Letters
	if err := m.config.Notices.Letter(&letters, id, n, about, to, link); err != nil {
		return err
	}
	letters.AddTo(c)
	return nil
}

// tell adds a mail that tells of the event to the change.
func (m *Manager) tell(c *change.Change, kind notice.Kind, account user.Account, about user.User, event audit.Event, to string, link *notice.Link) error {
	return m.letter(c, event.ID, notice.New(kind, account, about, event), about, to, link)
}

// tellManagers adds a mail to each administrator who manages the user.
func (m *Manager) tellManagers(ctx context.Context, c *change.Change, kind notice.Kind, account user.Account, about user.User, event audit.Event) error {
	if !m.config.Notices.On() {
		return nil
	}
	administrators, err := m.store.Administrators(ctx, about.AccountID)
	if err != nil {
		return fmt.Errorf("credential: find whom to tell: %w", err)
	}
	var letters notice.Letters
	if err := m.config.Notices.Managers(&letters, event.ID, notice.New(kind, account, about, event), about, administrators); err != nil {
		return err
	}
	letters.AddTo(c)
	return nil
}

// tellOfOwnChange tells the user of each thing that was changed, with a link to undo it all, in case it was somebody else
// with the user's session.
func (m *Manager) tellOfOwnChange(o *own, c *change.Change, event audit.Event) error {
	before := o.actor.User
	for _, told := range []struct {
		changed string
		kind    notice.Kind
	}{{"password", notice.PasswordChanged}, {"username", notice.UsernameChanged}, {"pending_email", notice.EmailChangeAsked}} {
		if !slices.Contains(event.Details.Changed, told.changed) {
			continue
		}
		if told.kind == notice.EmailChangeAsked && (event.Details.PendingEmail == "" || event.Details.PendingEmail == before.Email) {
			continue // taken back, or the very address that is asked to confirm
		}
		n := notice.New(told.kind, o.actor.Account, *c.User, event)
		if told.kind == notice.EmailChangeAsked {
			n.NewEmail = event.Details.PendingEmail
		}
		if err := m.letter(c, event.ID, n, *c.User, before.Email, notice.RevertLink(before)); err != nil {
			return err
		}
	}
	return nil
}

// tellOfAnothersChange tells the user what an administrator or a service has changed: there is nothing to undo.
func (m *Manager) tellOfAnothersChange(account user.Account, before user.User, c *change.Change, event audit.Event) error {
	if slices.Contains(event.Details.Changed, "username") {
		if err := m.tell(c, notice.UsernameChanged, account, *c.User, event, before.Email, nil); err != nil {
			return err
		}
	}
	if !slices.Contains(event.Details.Changed, "email") {
		return nil
	}
	for _, address := range []string{before.Email, c.User.Email} { // NOT-02: the old address and the new one
		if err := m.tell(c, notice.EmailChanged, account, *c.User, event, address, nil); err != nil {
			return err
		}
	}
	return nil
}
