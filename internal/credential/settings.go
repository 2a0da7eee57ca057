package credential

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// ErrForbidden says that the actor's reach does not cover the whole account.
var ErrForbidden = errors.New("credential: the actor does not manage the whole account")

// Bounds of an account's own hold time, in days: a name that is free again within a month could still be taken for its former
// owner's, and ten years outlast any record.
const (
	minHoldDays = 30
	maxHoldDays = 3650
)

// maxPlacesCeiling bounds what an account may call plausible: beyond 20 networks within an hour the rule would find nobody.
const maxPlacesCeiling = 20

// Account finds the account whose settings the actor asks for: the own one, or for a service of every account the one it
// names. ErrNotFound for any other, and *change.RejectedError when such a service names none.
func (m *Manager) Account(ctx context.Context, actor access.Actor, named string) (user.Account, error) {
	if !actor.AllAccounts {
		if named != "" && named != actor.Account.ID {
			return user.Account{}, ErrNotFound
		}
		return actor.Account, nil
	}
	if named == "" {
		return user.Account{}, &change.RejectedError{Fields: []change.FieldError{change.Required("/account_id", "Name the account: this client is registered for all of them.")}}
	}
	if !user.ID(named).Valid() { // accounts are named like users
		return user.Account{}, ErrNotFound
	}
	account, err := m.store.Account(ctx, named)
	if errors.Is(err, session.ErrNotFound) {
		return user.Account{}, ErrNotFound
	}
	if err != nil {
		return user.Account{}, fmt.Errorf("credential: find the account: %w", err)
	}
	return account, nil
}

// Setting is how an actor wants settings of an account to be changed.
type Setting struct {
	AccountID string // of a service of every account; else empty or the own one
	IfMatch   Precondition
	Origin    access.Origin
}

// SetPolicy replaces an account's rules for passwords, held names and resets. The actor must manage the whole account.
// Errors: ErrNotFound, ErrForbidden, *change.RejectedError, change.ErrVersion and change.ErrConflict; nothing is changed then.
func (m *Manager) SetPolicy(ctx context.Context, actor access.Actor, wanted user.Policy, s Setting) (user.Account, error) {
	return m.set(ctx, actor, s, func(account *user.Account) (change.Settings, audit.Event, []change.FieldError) {
		policy, wrong := m.foldPolicy(wanted)
		event := audit.About(audit.PolicyChanged, audit.Done, actor, *account, s.Origin, m.config.Now())
		before, version := account.Policy, account.PolicyVersion
		event.Details.OldPolicy, event.Details.NewPolicy = &before, &policy
		account.Policy, account.PolicyVersion = policy, version+1
		return change.Settings{Policy: &policy, Version: version}, event, wrong
	})
}

// SetNaming replaces an account's rule for usernames. The names there are stay, whatever it says. Errors as in SetPolicy.
func (m *Manager) SetNaming(ctx context.Context, actor access.Actor, wanted identifier.Rule, s Setting) (user.Account, error) {
	return m.set(ctx, actor, s, func(account *user.Account) (change.Settings, audit.Event, []change.FieldError) {
		rule, found := wanted.Normalize()
		var wrong []change.FieldError
		for _, f := range found {
			wrong = append(wrong, change.FieldError{Pointer: "/" + f.Member, Code: identifier.CodeInvalid, Detail: f.Detail})
		}
		event := audit.About(audit.NamingRuleChanged, audit.Done, actor, *account, s.Origin, m.config.Now())
		before, version := account.Naming, account.NamingVersion
		event.Details.OldNaming, event.Details.NewNaming = &before, &rule
		account.Naming, account.NamingVersion = rule, version+1
		return change.Settings{Naming: &rule, Version: version}, event, wrong
	})
}

// replacement makes the new state of an account, what is to be saved of it with the event that tells of it, and what is wrong
// with it.
type replacement func(account *user.Account) (change.Settings, audit.Event, []change.FieldError)

func (m *Manager) set(ctx context.Context, actor access.Actor, s Setting, replace replacement) (user.Account, error) {
	before, err := m.Account(ctx, actor, s.AccountID)
	if err != nil {
		return user.Account{}, m.refuseSettings(ctx, actor, actor.Account, s.Origin, err)
	}
	if actor.Kind == access.Person && !actor.User.ManagesAll() {
		return user.Account{}, m.refuseSettings(ctx, actor, before, s.Origin, ErrForbidden)
	}
	after := before
	settings, event, wrong := replace(&after)
	if wrong != nil {
		return user.Account{}, m.refuseSettings(ctx, actor, before, s.Origin, &change.RejectedError{Fields: wrong})
	}
	if s.IfMatch != nil && !slices.Contains(s.IfMatch, settings.Version) {
		return user.Account{}, m.refuseSettings(ctx, actor, before, s.Origin, change.ErrVersion)
	}
	if reflect.DeepEqual(before.Policy, after.Policy) && reflect.DeepEqual(before.Naming, after.Naming) { // it was all so already
		return before, nil
	}
	settings.AccountID, settings.Versions = before.ID, s.IfMatch
	_, err = m.store.Commit(context.WithoutCancel(ctx), change.Change{
		At: event.At, Actor: ActorGuard(actor), Service: ServiceGuard(actor), Account: &settings, Audit: []audit.Event{event},
	})
	if err != nil {
		return user.Account{}, m.refuseSettings(ctx, actor, before, s.Origin, err)
	}
	return after, nil
}

func (m *Manager) refuseSettings(ctx context.Context, actor access.Actor, account user.Account, origin access.Origin, cause error) error {
	event := audit.About(audit.SettingsRefused, audit.Refused, actor, account, origin, m.config.Now())
	return m.recordCause(ctx, event, cause)
}

// foldPolicy returns the policy as it is stored, or everything that is wrong with it. An account can make nothing weaker than
// the floors of product.md decision 7 and of the hold time.
func (m *Manager) foldPolicy(p user.Policy) (user.Policy, []change.FieldError) {
	var wrong []change.FieldError
	invalid := func(pointer, detail string) {
		wrong = append(wrong, change.FieldError{Pointer: pointer, Code: identifier.CodeInvalid, Detail: detail})
	}
	if p.MinLength != 0 && (p.MinLength < password.MinLengthFloor || p.MinLength > password.MinLengthCeiling) {
		invalid("/min_length", fmt.Sprintf("Use %d to %d.", password.MinLengthFloor, password.MinLengthCeiling))
	}
	var detail string
	if p.BlockedWords, detail = foldWords(p.BlockedWords); detail != "" {
		invalid("/blocked_words", detail)
	}
	if p.HoldDays != 0 && (p.HoldDays < minHoldDays || p.HoldDays > maxHoldDays) {
		invalid("/username_hold_days", fmt.Sprintf("Use %d to %d.", minHoldDays, maxHoldDays))
	}
	if p.MaxPlaces < 0 || p.MaxPlaces > maxPlacesCeiling {
		invalid("/max_places", fmt.Sprintf("Use 1 to %d.", maxPlacesCeiling))
	}
	if p.ResetMethods, detail = m.orderMethods(p.ResetMethods); detail != "" {
		invalid("/reset_methods", detail)
	}
	return p, wrong
}

func foldWords(words []string) (folded []string, detail string) {
	if len(words) > password.MaxBlockedWords {
		return nil, fmt.Sprintf("Give at most %d words.", password.MaxBlockedWords)
	}
	for i, word := range words {
		kept, err := password.FoldWord(word)
		if err != nil {
			return nil, fmt.Sprintf("Number %d is no word to block: %s.", i+1, err)
		}
		folded = append(folded, kept)
	}
	slices.Sort(folded)
	return slices.Compact(folded), ""
}

// orderMethods returns the methods in one order, and none when all are allowed. At least one must be left that this
// deployment offers, or nobody could recover a password.
func (m *Manager) orderMethods(methods []user.ResetMethod) (ordered []user.ResetMethod, detail string) {
	if methods == nil {
		return nil, ""
	}
	for _, method := range methods {
		if !slices.Contains(user.ResetMethods(), method) {
			return nil, "Use temporary, set and link."
		}
	}
	offered := false
	for _, method := range user.ResetMethods() {
		if slices.Contains(methods, method) {
			ordered = append(ordered, method)
			offered = offered || m.offers(method)
		}
	}
	if !offered {
		return nil, "Leave at least one method on that this service offers: else no password could be recovered."
	}
	if len(ordered) == len(user.ResetMethods()) {
		return nil, ""
	}
	return ordered, ""
}

// offers tells whether this deployment can reset passwords by the method.
func (m *Manager) offers(method user.ResetMethod) bool {
	return method != user.Link || m.config.Notices.On()
}
