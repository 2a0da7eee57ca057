package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/user"
)

// LockoutStore is what a Lockout needs of the database.
type LockoutStore interface {
	Administrators(ctx context.Context, accountID string) ([]user.User, error)
	Commit(ctx context.Context, c change.Change) (change.Result, error)
}

// Lockout disables passwords after too many failures (NIST SP 800-63B-4 section 3.2.2).
type Lockout struct {
	store   LockoutStore
	notices *notice.Composer
}

// NewLockout returns a Lockout.
func NewLockout(store LockoutStore, notices *notice.Composer) *Lockout {
	return &Lockout{store: store, notices: notices}
}

// Disable disables the password of a user and tells the user and those who manage it. A password that is disabled already,
// or a user that has changed meanwhile, is left as it is: whoever changed it decided later.
func (l *Lockout) Disable(ctx context.Context, member Member, by access.Actor, origin access.Origin, now time.Time) error {
	u := member.User
	if u.ID == "" || u.Password.DisabledAt != nil {
		return nil
	}
	disabled := u
	disabled.Password.DisabledAt = &now
	event := audit.New(audit.PasswordDisabled, audit.Done, by, u, origin, now)
	event.Details.Code = "too_many_failures"
	c := change.Change{At: now, Target: &change.Guard{UserID: u.ID, Revision: u.Revision}, User: &disabled, Audit: []audit.Event{event}}
	letters, err := l.letters(ctx, member, event)
	if err != nil {
		return err
	}
	letters.AddTo(&c)
	_, err = l.store.Commit(context.WithoutCancel(ctx), c)
	if err != nil && !errors.Is(err, change.ErrConflict) {
		return fmt.Errorf("session: disable the password of %s: %w", u.ID, err)
	}
	return nil
}

func (l *Lockout) letters(ctx context.Context, member Member, event audit.Event) (notice.Letters, error) {
	u := member.User
	told := notice.New(notice.PasswordDisabled, member.Account, u, event)
	told.By = notice.By{Kind: "system"} // whoever guessed is not known
	var letters notice.Letters
	if err := l.notices.Letter(&letters, event.ID, told, u, u.Email, nil); err != nil {
		return letters, err
	}
	if !l.notices.On() {
		return letters, nil
	}
	administrators, err := l.store.Administrators(ctx, u.AccountID)
	if err != nil {
		return letters, fmt.Errorf("session: find whom to tell: %w", err)
	}
	told.Kind = notice.AdministratorsPasswordDisabled
	return letters, l.notices.Managers(&letters, event.ID, told, u, administrators)
}
