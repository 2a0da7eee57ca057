package credential

import (
	"context"
	"fmt"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Unlocking is a wish to lift the delays of a user. Reason may be empty.
type Unlocking struct {
	Reason  string
	IfMatch Precondition
	Origin  access.Origin
	Keep    *change.Keep[user.User] // where the answer is kept; nil: nowhere
}

// Unlock lifts every delay after failed attempts of a user whom the actor manages: counting begins anew. A password that was
// disabled stays disabled; only a reset helps there. Errors: ErrNotFound, ErrUseSelfService, *change.RejectedError,
// change.ErrVersion and change.ErrConflict.
func (m *Manager) Unlock(ctx context.Context, actor access.Actor, id user.ID, wanted Unlocking) (user.User, error) {
	origin := wanted.Origin
	member, err := m.managed(ctx, actor, id)
	if err != nil {
		return user.User{}, m.refuse(ctx, actor, unknown(actor, id), origin, "", err)
	}
	u := member.User
	if wrong := wrongReason(wanted.Reason); wrong != nil {
		return user.User{}, m.refuse(ctx, actor, u, origin, "", &change.RejectedError{Fields: wrong})
	}
	if err := wanted.IfMatch.check(u); err != nil {
		return user.User{}, m.refuse(ctx, actor, u, origin, "", err)
	}
	subject := session.ThrottleSubject(u.ID)
	standings, err := m.store.Standings(ctx, []string{subject})
	if err != nil {
		return user.User{}, fmt.Errorf("credential: look at the throttle: %w", err)
	}
	event := audit.New(audit.UserUnlocked, audit.Done, actor, u, origin, m.config.Now())
	event.Reason, event.Details.Failures = wanted.Reason, standings[subject].Failures
	_, err = m.save(ctx, actor, u, origin, change.Change{
		At: event.At, Actor: ActorGuard(actor), Service: ServiceGuard(actor), Target: &change.Guard{UserID: u.ID, Revision: u.Revision, Versions: wanted.IfMatch},
		Forgive: []string{subject}, Audit: []audit.Event{event}, Replay: wanted.Keep.With(func(change.Result) user.User { return u }),
	})
	return u, err
}

// EndSessions ends all sessions of a user whom the actor manages, and makes every token of before good for nothing. The
// password stays. Errors: ErrNotFound, ErrUseSelfService and change.ErrConflict.
func (m *Manager) EndSessions(ctx context.Context, actor access.Actor, id user.ID, origin access.Origin) error {
	member, err := m.managed(ctx, actor, id)
	if err != nil {
		return m.refuse(ctx, actor, unknown(actor, id), origin, "", err)
	}
	before := member.User
	after := before
	event := audit.New(audit.SessionsRevoked, audit.Done, actor, before, origin, m.config.Now())
	after.NextGeneration(event.At)
	_, err = m.save(ctx, actor, before, origin, change.Change{
		At: event.At, Actor: ActorGuard(actor), Service: ServiceGuard(actor), User: &after, Target: &change.Guard{UserID: before.ID, Revision: before.Revision},
		End: &change.EndSessions{UserID: before.ID, Why: "revoked"}, Audit: []audit.Event{event},
	})
	return err
}
