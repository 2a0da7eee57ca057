package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/user"
)

// List returns up to limit of the actor's own sessions that can still be used, the newest first, after the one named, and
// whether there are more.
func (m *Manager) List(ctx context.Context, actor access.Actor, after string, limit int) ([]Session, bool, error) {
	sessions, err := m.store.LiveSessions(ctx, actor.User, m.config.Now(), after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("session: list: %w", err)
	}
	if len(sessions) > limit {
		return sessions[:limit], true, nil
	}
	return sessions, false, nil
}

// End ends one of the actor's own sessions: its access and refresh tokens are refused from then on. ErrNoSession for
// whatever is none of them, or no longer.
func (m *Manager) End(ctx context.Context, actor access.Actor, id string, origin access.Origin) error {
	err := m.end(ctx, actor, id, origin)
	if !errors.Is(err, ErrNoSession) {
		return err
	}
	event := audit.New(audit.ChangeRefused, audit.Refused, actor, actor.User, origin, m.config.Now())
	event.Details.Code = "not_found"
	return errors.Join(err, m.record(ctx, event))
}

func (m *Manager) end(ctx context.Context, actor access.Actor, id string, origin access.Origin) error {
	if !user.ID(id).Valid() { // sessions are named like users
		return ErrNoSession
	}
	s, member, err := m.store.Session(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("session: find a session to end: %w", err)
	}
	now := m.config.Now()
	if err != nil || s.UserID != actor.User.ID || !s.usable(member.User, now) {
		return ErrNoSession
	}
	event := audit.New(audit.SessionEnded, audit.Done, actor, actor.User, origin, now)
	event.Details.Code, event.Details.EndedSession = "ended_by_user", s.ID
	_, err = m.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: now, End: &change.EndSessions{UserID: s.UserID, Only: s.ID, Live: true, Why: "ended_by_user"}, Audit: []audit.Event{event},
	})
	if errors.Is(err, change.ErrConflict) {
		return ErrNoSession // it ended meanwhile
	}
	if err != nil {
		return fmt.Errorf("session: end: %w", err)
	}
	return nil
}

// EndOthers ends all of the actor's own sessions but the one that asks, and returns how many there were.
func (m *Manager) EndOthers(ctx context.Context, actor access.Actor, origin access.Origin) (int, error) {
	now := m.config.Now()
	result, err := m.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: now, End: &change.EndSessions{UserID: actor.User.ID, Except: actor.SessionID, Why: "ended_by_user"},
		Audit: []audit.Event{audit.New(audit.SessionsEnded, audit.Done, actor, actor.User, origin, now)},
	})
	if err != nil {
		return 0, fmt.Errorf("session: end others: %w", err)
	}
	return result.SessionsEnded, nil
}
