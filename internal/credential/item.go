package credential

import (
	"context"
	"errors"
	"fmt"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// Why a job does not reset a user. They are stored and shown: a code never changes its meaning.
const (
	SkipNotFound         = "not_found"          // there is no such user for whoever began the job
	SkipSelf             = "use_self_service"   // it is who began the job
	SkipNoConfirmedEmail = "no_confirmed_email" // there is no address that a link could be sent to
	SkipRejected         = "validation_failed"  // the reset is not acceptable in the user's account
	FailThrottled        = "throttled"          // the user was sent too many mails within the hour
	FailConflict         = "conflict"           // the user kept changing
	FailInternal         = "internal"           // a fault of the service; the log has more
	FailForbidden        = "forbidden"          // who began the job may no longer do this
)

// Obstacle tells why a job that the actor began would not reset the user, by a code that begins with Skip, or "" when it
// would. It is what ResetItem goes by, so that a dry run tells what then happens.
func (m *Manager) Obstacle(actor access.Actor, member session.Member, method user.ResetMethod) string {
	switch err := checkReach(actor, member.User); {
	case errors.Is(err, ErrUseSelfService):
		return SkipSelf
	case err != nil:
		return SkipNotFound
	}
	if method == user.Link && m.config.Notices.On() && m.checkLink(member.User) != nil {
		return SkipNoConfirmedEmail
	}
	if m.checkReset(member, Reset{Method: method}) != nil {
		return SkipRejected
	}
	return ""
}

// CheckJob returns what is wrong with how a job of the account is to reset users and why, if anything.
func (m *Manager) CheckJob(account user.Account, method user.ResetMethod, reason string) []change.FieldError {
	wrong := wrongReason(reason)
	if reason == "" {
		wrong = append(wrong, change.Required("/reason", "Say why, for the audit trail."))
	}
	switch {
	case method != user.Temporary && method != user.Link:
		wrong = append(wrong, change.FieldError{Pointer: "/method", Code: "invalid", Detail: "Use temporary or link."})
	case method == user.Link && !m.config.Notices.On():
		wrong = append(wrong, change.FieldError{Pointer: "/method", Code: "unavailable", Detail: "This service sends no mail. Use temporary."})
	case !account.Policy.Allows(method):
		wrong = append(wrong, notAllowed(account.Policy))
	}
	return wrong
}

// ResetItem resets a user as one item of a job, for the actor who began it as the database has it now. The item is settled in
// the transaction of the reset, or in that of the event that says why the user is not reset. Errors: change.ErrSettled when
// the item is not the caller's, change.ErrConflict, *password.OverloadedError and faults; the item is pending then.
func (m *Manager) ResetItem(ctx context.Context, actor access.Actor, item change.Item, wanted Reset) (change.ItemState, error) {
	wanted.item = &item
	member, err := m.store.Member(ctx, item.UserID)
	if errors.Is(err, session.ErrNotFound) {
		return change.ItemSkipped, m.RefuseItem(ctx, actor, item, wanted, change.ItemSkipped, SkipNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("credential: find the user: %w", err)
	}
	if code := m.Obstacle(actor, member, wanted.Method); code != "" {
		return change.ItemSkipped, m.RefuseItem(ctx, actor, item, wanted, change.ItemSkipped, code)
	}
	_, err = m.reset(ctx, actor, member, wanted)
	if _, delayed := errors.AsType[*throttle.DelayedError](err); delayed {
		return change.ItemFailed, m.RefuseItem(ctx, actor, item, wanted, change.ItemFailed, FailThrottled)
	}
	return change.ItemDone, err
}

// RefuseItem settles an item whose user is not reset, with the event that says so. change.ErrSettled when the item is not the
// caller's.
func (m *Manager) RefuseItem(ctx context.Context, actor access.Actor, item change.Item, wanted Reset, state change.ItemState, code string) error {
	target := unknown(actor, item.UserID)
	if code != SkipNotFound {
		member, err := m.store.Member(ctx, item.UserID)
		if err != nil && !errors.Is(err, session.ErrNotFound) {
			return fmt.Errorf("credential: find the user: %w", err)
		}
		if err == nil && actor.Sees(member.User) {
			target = member.User
		}
	}
	event := m.refusalEvent(actor, target, wanted.Origin, wanted.Reason, code)
	event.Details.Method, event.Details.Job = string(wanted.Method), item.JobID
	_, err := m.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: event.At, Audit: []audit.Event{event},
		Settle: &change.Settle{Item: item, State: state, Code: code, Username: target.Username},
	})
	return err
}

// settleDone lets a reset that is part of a job settle its item.
func settleDone(c *change.Change, item *change.Item, before user.User, done ResetDone) {
	if item == nil {
		return
	}
	c.Settle = &change.Settle{
		Item: *item, State: change.ItemDone, Username: before.Username, Password: done.TemporaryPassword, ExpiresAt: done.ExpiresAt,
	}
	for i := range c.Audit {
		c.Audit[i].Details.Job = item.JobID
	}
}
