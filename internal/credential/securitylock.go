package credential

import (
	"context"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/user"
)

// SecurityLock is the one call for a security concern.
type SecurityLock struct {
	Reason  string // required: it is what the auditor reads
	IfMatch Precondition
	Origin  access.Origin
	Keep    *change.Keep[Applied] // where the answer is kept; nil: nowhere
}

// SecurityLock ends every session and token of a user the actor manages, disables the password until a reset and voids every
// mailed link; the user and those who manage it are told. A user that is locked already is locked anew. Errors: ErrNotFound,
// ErrUseSelfService, *change.RejectedError, change.ErrVersion and change.ErrConflict; nothing is changed then.
func (m *Manager) SecurityLock(ctx context.Context, actor access.Actor, id user.ID, wanted SecurityLock) (Applied, error) {
	member, err := m.managed(ctx, actor, id)
	if err != nil {
		return Applied{}, m.refuse(ctx, actor, unknown(actor, id), wanted.Origin, "", err)
	}
	before, now := member.User, m.config.Now()
	wrong := wrongReason(wanted.Reason)
	if wanted.Reason == "" {
		wrong = append(wrong, change.Required("/reason", "Say what the concern is, for the audit trail."))
	}
	if wrong != nil {
		return Applied{}, m.refuse(ctx, actor, before, wanted.Origin, keptReason(wanted.Reason), &change.RejectedError{Fields: wrong})
	}
	if err := wanted.IfMatch.check(before); err != nil {
		return Applied{}, m.refuse(ctx, actor, before, wanted.Origin, wanted.Reason, err)
	}
	after := before
	after.Password.DisabledAt, after.Pending = &now, user.PendingEmail{}
	after.NextGeneration(now)
	after.Version++
	event := audit.New(audit.SecurityLocked, audit.Done, actor, before, wanted.Origin, now)
	event.Reason = wanted.Reason
	c := change.Change{
		At: now, Actor: ActorGuard(actor), Service: ServiceGuard(actor), User: &after,
		Target: &change.Guard{UserID: before.ID, Revision: before.Revision, Versions: wanted.IfMatch},
		End:    &change.EndSessions{UserID: before.ID, Why: "security_locked"}, Audit: []audit.Event{event},
	}
	c.Voided(before.ID, everyPurpose()...)
	if err := m.tell(&c, notice.SecurityLocked, member.Account, before, event, before.Email, nil); err != nil {
		return Applied{}, err
	}
	if err := m.tellManagers(ctx, &c, notice.AdministratorsSecurityLocked, member.Account, before, event); err != nil {
		return Applied{}, err
	}
	finish := func(found change.Result) Applied {
		return Applied{User: revised(after, found), SessionsEnded: found.SessionsEnded}
	}
	c.Replay = wanted.Keep.With(finish)
	result, err := m.save(ctx, actor, before, wanted.Origin, c)
	if err != nil {
		return Applied{}, err
	}
	return finish(result), nil
}
