package credential

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Identifier is a folded username or e-mail address that somebody has, or has held.
type Identifier struct {
	Key       string
	UserID    user.ID
	AccountID string
	HeldUntil *time.Time // nil: in use
}

// Availability tells whether a name can be given.
type Availability string

// The availabilities. Of a name in another account nothing is told but NotAvailable.
const (
	Free         Availability = "free"
	Taken        Availability = "taken"   // somebody of the account has it as username or e-mail address
	Pending      Availability = "pending" // free, but somebody of the account waits to confirm it as e-mail address
	HeldForOwner Availability = "held"    // somebody of the account had it, and alone can take it back
	NotAvailable Availability = "not_available"
)

// NameState is what an actor may know of a name.
type NameState struct {
	Availability Availability
	HeldUntil    *time.Time          // with HeldForOwner
	UserID       user.ID             // whose it is, if the actor may look at that user
	Violations   []change.FieldError // why the account's rule would not give it to a user, whoever has it
}

// LookUpName tells whether a name can be given in an account: the actor's own, or the one a service of every account names.
// Errors as of Account.
func (m *Manager) LookUpName(ctx context.Context, actor access.Actor, typed, accountID string) (NameState, error) {
	account, err := m.Account(ctx, actor, accountID)
	if err != nil {
		return NameState{}, err
	}
	key := identifier.Key(typed)
	state := NameState{Availability: Free}
	if state.Violations, err = nameViolations(account, typed, key); err != nil {
		return NameState{}, err
	}
	holder, err := m.store.Identifier(ctx, key)
	if errors.Is(err, session.ErrNotFound) {
		return m.pending(ctx, actor, account, key, state)
	}
	if err != nil {
		return NameState{}, fmt.Errorf("credential: look a name up: %w", err)
	}
	if holder.AccountID != account.ID {
		state.Availability = NotAvailable
		return state, nil
	}
	state.Availability = Taken
	if holder.HeldUntil != nil {
		state.Availability, state.HeldUntil = HeldForOwner, holder.HeldUntil
	}
	return m.withHolder(ctx, actor, holder.UserID, state)
}

// pending tells whether users of the account wait to confirm the address. That reserves nothing: several can. The first whom
// the actor may look at is named.
func (m *Manager) pending(ctx context.Context, actor access.Actor, account user.Account, key string, state NameState) (NameState, error) {
	waiting, err := m.store.Pending(ctx, account.ID, key, m.config.Now())
	if err != nil {
		return NameState{}, fmt.Errorf("credential: look who waits for an address: %w", err)
	}
	if len(waiting) == 0 {
		return state, nil
	}
	state.Availability = Pending
	for _, u := range waiting {
		if actor.Sees(u) {
			state.UserID = u.ID
			break
		}
	}
	return state, nil
}

// withHolder names whose name it is to an actor who may know.
func (m *Manager) withHolder(ctx context.Context, actor access.Actor, id user.ID, state NameState) (NameState, error) {
	if _, err := m.Visible(ctx, actor, id); err == nil {
		state.UserID = id
	} else if !errors.Is(err, ErrNotFound) {
		return NameState{}, err
	}
	return state, nil
}

// nameViolations is what is wrong with a name that is to be given to nobody in particular: an address could be the own one.
func nameViolations(account user.Account, typed, key string) ([]change.FieldError, error) {
	if strings.HasPrefix(key, "?") { // text of no form: the parser says which one is missing
		_, wrong, err := namer{account: account, anyEmail: true}.renaming(typed)
		return wrong, err
	}
	return NameViolations(account, key, key)
}

// releaseTries bounds how often a release looks again because the name or its former owner changed meanwhile.
const releaseTries = 3

// ReleaseName lets anybody take a name that is held for a user the actor manages. ErrNotFound when no such name is held, and
// for those of everybody else alike; change.ErrConflict when names and users kept changing.
func (m *Manager) ReleaseName(ctx context.Context, actor access.Actor, typed, accountID string, origin access.Origin) error {
	var err error
	for range releaseTries {
		if err = m.releaseName(ctx, actor, typed, accountID, origin); !errors.Is(err, change.ErrConflict) {
			break
		}
	}
	if err == nil {
		return nil
	}
	event := m.refusalEvent(actor, unknown(actor, ""), origin, "", "")
	if key := identifier.Key(typed); !strings.HasPrefix(key, "?") { // what is no name may be anything
		event.Details.ReleasedName = key
	}
	return m.recordCause(ctx, event, err)
}

func (m *Manager) releaseName(ctx context.Context, actor access.Actor, typed, accountID string, origin access.Origin) error {
	account, err := m.Account(ctx, actor, accountID)
	if err != nil {
		return err
	}
	held, err := m.store.Identifier(ctx, identifier.Key(typed))
	if errors.Is(err, session.ErrNotFound) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("credential: find a held name: %w", err)
	}
	if held.HeldUntil == nil || held.AccountID != account.ID {
		return ErrNotFound
	}
	owner, err := m.Visible(ctx, actor, held.UserID)
	if err != nil {
		return err
	}
	if !actor.Reaches(owner.User) || !mayChange(actor, owner.User) {
		return ErrNotFound
	}
	event := audit.New(audit.NameReleased, audit.Done, actor, owner.User, origin, m.config.Now())
	event.Details.ReleasedName = held.Key
	_, err = m.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: event.At, Actor: ActorGuard(actor), Service: ServiceGuard(actor), Target: &change.Guard{UserID: owner.User.ID, Revision: owner.User.Revision},
		Free: &change.Free{Key: held.Key, UserID: held.UserID}, Audit: []audit.Event{event},
	})
	if err != nil {
		return fmt.Errorf("credential: release a name: %w", err)
	}
	return nil
}
