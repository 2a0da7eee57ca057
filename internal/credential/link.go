package credential

import (
	"context"
	"errors"
	"fmt"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// everyPurpose lists all that a mailed link can be good for.
func everyPurpose() []change.Purpose {
	return []change.Purpose{change.ResetPassword, change.ConfirmEmail, change.Revert}
}

// Redemption is how a mailed link is used.
type Redemption struct {
	Token  secret.Text
	Origin access.Origin
	Keep   *change.Keep[Applied] // where the answer is kept; nil: nowhere
}

// link is the use of a mailed link on its way. The user acts: who holds the link reads the user's mail.
type link struct {
	token  change.Token
	member session.Member
	actor  access.Actor
	origin access.Origin
	c      change.Change
	event  audit.Event
}

// linkTries bounds how often the use of a link starts over because the user was changed meanwhile.
const linkTries = 3

// redeem uses a mailed link up in the very transaction of what it allows (peers bugs 1 and 2): of any number of attempts one
// succeeds, and one that fails for another reason leaves the link good. fill puts into l what is to be saved.
func (m *Manager) redeem(ctx context.Context, used Redemption, purpose change.Purpose, fill func(l *link) error) (Applied, error) {
	if used.Token.Empty() {
		return Applied{}, &change.RejectedError{Fields: []change.FieldError{change.Required("/token", "Give the token of the link.")}}
	}
	var err error
	for range linkTries {
		var done Applied
		done, err = m.redeemOnce(ctx, used, purpose, fill)
		if !errors.Is(err, change.ErrConflict) {
			return done, err
		}
	}
	return Applied{}, err
}

func (m *Manager) redeemOnce(ctx context.Context, used Redemption, purpose change.Purpose, fill func(l *link) error) (Applied, error) {
	origin := used.Origin
	l, err := m.open(ctx, used.Token, purpose, origin)
	if err == nil {
		err = fill(l)
	}
	if err != nil {
		return Applied{}, m.refuse(ctx, l.actor, l.member.User, origin, "", err)
	}
	l.c.Audit = []audit.Event{l.event}
	finish := func(found change.Result) Applied { return Applied{User: *l.c.User, SessionsEnded: found.SessionsEnded} }
	l.c.Replay = used.Keep.With(finish)
	result, err := m.store.Commit(context.WithoutCancel(ctx), l.c)
	if errors.Is(err, change.ErrConflict) { // nothing was refused: it is tried again with what the user has become
		return Applied{}, err
	}
	if errors.Is(err, change.ErrIdentifierTaken) {
		if purpose == change.Revert {
			return Applied{}, change.ErrConflict // a name went to somebody else just now: it is reverted without
		}
		err = change.ErrLinkInvalid // another's confirmation of the same address was first
	}
	if err != nil {
		return Applied{}, m.refuse(ctx, l.actor, l.member.User, origin, "", err)
	}
	return finish(result), nil
}

// open finds what a link is for. Everything that is wrong with it is change.ErrLinkInvalid; so is a disabled user, whom no
// link lets in (peers bug 8). The link is never nil.
func (m *Manager) open(ctx context.Context, raw secret.Text, purpose change.Purpose, origin access.Origin) (*link, error) {
	l := &link{origin: origin}
	var err error
	l.token, err = m.store.Token(ctx, raw.Digest(), purpose)
	if errors.Is(err, session.ErrNotFound) {
		return l, change.ErrLinkInvalid
	}
	if err != nil {
		return l, fmt.Errorf("credential: find a link: %w", err)
	}
	if l.member, err = m.store.Member(ctx, l.token.UserID); err != nil {
		return l, fmt.Errorf("credential: find whose a link is: %w", err)
	}
	now, after := m.config.Now(), l.member.User
	l.actor = access.Actor{Kind: access.Person, User: after, Account: l.member.Account}
	if !now.Before(l.token.ExpiresAt) || (!after.IsActive() && purpose != change.Revert) {
		return l, change.ErrLinkInvalid
	}
	l.c = change.Change{
		At: now, User: &after, Target: &change.Guard{UserID: after.ID, Revision: after.Revision},
		Redeem: &change.Redeem{Digest: l.token.Digest, UserID: after.ID, Purpose: purpose},
	}
	return l, nil
}

// endEverything ends every session and voids every token of the user, for a change that must keep others out.
func (l *link) endEverything(why string) {
	l.c.User.NextGeneration(l.c.At)
	l.c.User.Version++
	l.c.User.Pending = user.PendingEmail{}
	l.c.End = &change.EndSessions{UserID: l.c.User.ID, Why: why}
}
