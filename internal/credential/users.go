package credential

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

const maxDisplayName = 200 // code points

// NewUser is a user as an administrator or a service asks for it.
type NewUser struct {
	ID          user.ID // of a service, which knows the user by it already; empty: a new one
	AccountID   string  // of a service of every account; else empty or the own one
	Username    string
	Email       string // counts as confirmed: who creates the user vouches for it
	DisplayName string
	Team        user.Team
	Role        user.Role
	AlsoManages []user.Team
	Reason      string
	Origin      access.Origin
	Keep        *change.Keep[Created] // where the answer is kept; nil: nowhere
}

// Created is a new user with the password for its first sign-in.
type Created struct {
	User              user.User
	TemporaryPassword secret.Text // to be shown once
	ExpiresAt         time.Time
}

// CreateUser makes a user with a temporary password. Nobody gives a role, a team or a reach beyond the own. Errors:
// access.ErrForbidden, ErrNotFound for an account that the actor has no business with, *change.RejectedError,
// change.ErrIdentifierTaken, change.ErrUserExists, change.ErrConflict and *password.OverloadedError.
func (m *Manager) CreateUser(ctx context.Context, actor access.Actor, wanted NewUser) (Created, error) {
	nobody := user.User{AccountID: actor.OwnAccount()}
	refuse := func(err error) (Created, error) {
		return Created{}, m.refuse(ctx, actor, nobody, wanted.Origin, keptReason(wanted.Reason), err)
	}
	account, err := m.Account(ctx, actor, wanted.AccountID)
	if err != nil {
		return refuse(err)
	}
	nobody.AccountID = account.ID
	u := user.User{
		ID: wanted.ID, AccountID: account.ID, Team: wanted.Team, Role: wanted.Role, AlsoManages: wanted.AlsoManages,
		DisplayName: wanted.DisplayName, Status: user.Active, Generation: 1, Version: 1, Revision: 1,
	}
	if !mayGrant(actor, u) {
		return refuse(access.ErrForbidden)
	}
	c := change.Change{At: m.config.Now(), Actor: ActorGuard(actor), Service: ServiceGuard(actor), Create: &u}
	if err := m.fillIn(actor, account, wanted, &u, &c); err != nil {
		return refuse(err)
	}
	done, err := m.firstPassword(ctx, actor, account, &u, c.At)
	if err != nil {
		return Created{}, err
	}
	event := audit.New(audit.UserCreated, audit.Done, actor, u, wanted.Origin, c.At)
	event.Reason, event.Details.NewEmail = wanted.Reason, u.Email
	event.Details.NewRole, event.Details.NewTeam, event.Details.NewAlsoManages = u.Role, u.Team, u.AlsoManages
	c.Audit = []audit.Event{event}
	c.Replay = wanted.Keep.With(func(change.Result) Created { return done })
	_, err = m.save(ctx, actor, nobody, wanted.Origin, c)
	return done, err
}

// mayGrant tells whether the actor may make somebody what u is: nobody gives more than the own reach, and a service makes
// administrators with the scope for them only (product.md decision 5).
func mayGrant(actor access.Actor, u user.User) bool {
	if actor.Kind == access.Service && u.Role == user.Administrator && !actor.HasScope(access.ScopeResetAdministrators) {
		return false
	}
	if !u.Team.Valid() || slices.ContainsFunc(u.AlsoManages, func(t user.Team) bool { return !t.Valid() }) {
		return true // it is refused for that, and nothing is learned
	}
	return actor.Reaches(u)
}

// fillIn checks what is wanted, all of it, and puts the names into u and what they take into c.
func (m *Manager) fillIn(actor access.Actor, account user.Account, wanted NewUser, u *user.User, c *change.Change) error {
	wrong := append(wrongReason(wanted.Reason), wrongPlace(*u)...)
	wrong = append(wrong, wrongDisplayName(u.DisplayName)...)
	switch {
	case u.ID == "":
		u.ID = user.ID(uuid.Must(uuid.NewV7()).String())
	case actor.Kind == access.Person:
		wrong = append(wrong, change.FieldError{Pointer: "/id", Code: "invalid", Detail: "Leave it out: only a service can choose the id."})
	case !u.ID.Valid():
		wrong = append(wrong, change.FieldError{Pointer: "/id", Code: "invalid", Detail: "Use 1 to 64 of A-Z, a-z, 0-9, _ and -."})
	}
	if wanted.Email != "" {
		address, found := parseAddress(wanted.Email)
		wrong = append(wrong, found...)
		u.Email, u.EmailVerified = address.Address, found == nil
	}
	name, wrongName, err := namer{account: account, user: *u, email: u.Email, anyEmail: true}.renaming(wanted.Username)
	if err != nil {
		return err
	}
	if wanted.Username == "" { // which is no change, as it were
		wrongName = []change.FieldError{change.Required("/username", "Give a username of 2 to 64 letters or digits.")}
	}
	if wrong = append(wrong, wrongName...); wrong != nil {
		return &change.RejectedError{Policy: wrongName != nil, Fields: wrong}
	}
	u.Username, u.CreatedAt = name.display, c.At.UTC().Truncate(time.Microsecond) // as the database will have it
	c.Claim = append(c.Claim, change.Claim{Key: name.to.Key, UserID: u.ID, AccountID: u.AccountID, IsUsername: true})
	if u.Email != "" {
		c.Claim = append(c.Claim, change.Claim{Key: identifier.Key(u.Email), UserID: u.ID, AccountID: u.AccountID, IsEmail: true})
	}
	c.Rename = &change.Rename{UserID: u.ID, AccountID: u.AccountID, NewUsername: name.display, NewKey: name.to.Key, At: c.At, By: audit.PartyOf(actor)}
	return nil
}

// firstPassword gives the new user a temporary password.
func (m *Manager) firstPassword(ctx context.Context, actor access.Actor, account user.Account, u *user.User, now time.Time) (Created, error) {
	chosen, err := m.choose(Reset{Method: user.Temporary}, account)
	if err != nil {
		return Created{}, err
	}
	hash, err := m.hasher.Hash(ctx, password.Staff, chosen)
	if err != nil {
		return Created{}, fmt.Errorf("credential: hash a temporary password: %w", err)
	}
	until := now.Add(temporaryLife)
	u.Password = user.Password{Hash: hash, SetBy: setBy(actor), ChangedAt: &now, MustChange: true, TemporaryUntil: &until}
	return Created{User: *u, TemporaryPassword: chosen, ExpiresAt: until}, nil
}

// wrongPlace says what is wrong with a user's role and teams.
func wrongPlace(u user.User) []change.FieldError {
	var wrong []change.FieldError
	invalid := func(pointer, detail string) {
		wrong = append(wrong, change.FieldError{Pointer: pointer, Code: "invalid", Detail: detail})
	}
	switch {
	case u.Team == "":
		wrong = append(wrong, change.Required("/team", "Give a path like / or /east/boston/."))
	case !u.Team.Valid():
		invalid("/team", "Give a path like / or /east/boston/.")
	}
	switch {
	case u.Role == "":
		wrong = append(wrong, change.Required("/role", "Use agent or administrator."))
	case !u.Role.Valid():
		invalid("/role", "Use agent or administrator.")
	}
	switch {
	case len(u.AlsoManages) > user.MaxAlsoManages:
		wrong = append(wrong, change.FieldError{Pointer: "/also_manages", Code: "too_long", Detail: "Give at most 50 teams; one stands for all below it."})
	case slices.ContainsFunc(u.AlsoManages, func(t user.Team) bool { return !t.Valid() }):
		invalid("/also_manages", "Give paths like /east/boston/.")
	case len(u.AlsoManages) > 0 && u.Role == user.Agent:
		invalid("/also_manages", "Only an administrator manages teams.")
	}
	return wrong
}

func wrongDisplayName(name string) []change.FieldError {
	wrong := func(code, detail string) []change.FieldError {
		return []change.FieldError{{Pointer: "/display_name", Code: code, Detail: detail}}
	}
	switch {
	case strings.TrimSpace(name) == "":
		return []change.FieldError{change.Required("/display_name", "Give the name that people know the user by.")}
	case utf8.RuneCountInString(name) > maxDisplayName:
		return wrong("too_long", "Use at most 200 characters.")
	case strings.ContainsFunc(name, unicode.IsControl):
		return wrong("invalid_characters", "Leave control characters out.")
	}
	return nil
}

// ChangeUser is what an administrator or a service wants to be changed of a user. A nil member stays as it is.
type ChangeUser struct {
	Status      *user.Status
	Role        *user.Role
	Team        *user.Team
	AlsoManages *[]user.Team
	DisplayName *string
	Reason      string
	IfMatch     Precondition
	Origin      access.Origin
	Keep        *change.Keep[user.User] // where the answer is kept; nil: nowhere
}

// ChangeUser changes the place, the name and the status of a user whom the actor manages, all of it or nothing. Disabling ends
// all sessions and voids all mailed links. Errors: ErrNotFound, ErrUseSelfService, access.ErrForbidden when the user would get
// what the actor cannot give, *change.RejectedError, change.ErrVersion, change.ErrConflict and change.ErrLastAdministrator.
func (m *Manager) ChangeUser(ctx context.Context, actor access.Actor, id user.ID, wanted ChangeUser) (user.User, error) {
	member, err := m.managed(ctx, actor, id)
	if err != nil {
		return user.User{}, m.refuse(ctx, actor, unknown(actor, id), wanted.Origin, "", err)
	}
	before := member.User
	after := wanted.apply(before)
	for _, check := range []func() error{
		func() error {
			if !mayGrant(actor, after) {
				return access.ErrForbidden
			}
			return nil
		},
		func() error { return wanted.shape(after) },
		func() error { return wanted.IfMatch.check(before) },
	} {
		if err := check(); err != nil {
			return user.User{}, m.refuse(ctx, actor, before, wanted.Origin, keptReason(wanted.Reason), err)
		}
	}
	c := change.Change{
		At: m.config.Now(), Actor: ActorGuard(actor), Service: ServiceGuard(actor), User: &after,
		Target: &change.Guard{UserID: before.ID, Revision: before.Revision, Versions: wanted.IfMatch},
	}
	c.Audit = changeEvents(actor, before, after, wanted, c.At)
	if c.Audit == nil {
		return before, m.keep(ctx, wanted.Keep.With(func(change.Result) user.User { return before }))
	}
	after.Version++
	if before.Status == user.Active && after.Status == user.Disabled {
		after.NextGeneration(c.At)
		c.End = &change.EndSessions{UserID: before.ID, Why: "disabled"}
		c.Voided(before.ID, everyPurpose()...)
	}
	if leads(before) && !leads(after) {
		c.KeepAdministrator = before.AccountID
	}
	finish := func(found change.Result) user.User { return revised(after, found) }
	c.Replay = wanted.Keep.With(finish)
	result, err := m.save(ctx, actor, before, wanted.Origin, c)
	if err != nil {
		return user.User{}, err
	}
	return finish(result), nil
}

// leads tells whether the user is one of those of whom an account must have one.
func leads(u user.User) bool {
	return u.IsActive() && u.Role == user.Administrator && u.Team == user.Root
}

// apply returns the user as it is wanted. Who manages nobody manages no further teams either.
func (w ChangeUser) apply(u user.User) user.User {
	set(&u.Status, w.Status)
	set(&u.Role, w.Role)
	set(&u.Team, w.Team)
	set(&u.DisplayName, w.DisplayName)
	if u.Role == user.Agent {
		u.AlsoManages = nil
	}
	set(&u.AlsoManages, w.AlsoManages)
	return u
}

func set[T any](member *T, wanted *T) {
	if wanted != nil {
		*member = *wanted
	}
}

func (w ChangeUser) shape(after user.User) error {
	wrong := append(wrongReason(w.Reason), wrongPlace(after)...)
	if w.Status == nil && w.Role == nil && w.Team == nil && w.AlsoManages == nil && w.DisplayName == nil {
		wrong = append(wrong, change.Required("", "Give a status, role, team, also_manages or display_name to change."))
	}
	if w.Status != nil && !w.Status.Valid() {
		wrong = append(wrong, change.FieldError{Pointer: "/status", Code: "invalid", Detail: "Use active or disabled."})
	}
	if w.DisplayName != nil {
		wrong = append(wrong, wrongDisplayName(*w.DisplayName)...)
	}
	if wrong != nil {
		return &change.RejectedError{Fields: wrong}
	}
	return nil
}

// changeEvents tell what is changed: one event for the status, one for everything else, none for what was so already.
func changeEvents(actor access.Actor, before, after user.User, wanted ChangeUser, at time.Time) []audit.Event {
	var events []audit.Event
	add := func(action audit.Action, details audit.Details) {
		event := audit.New(action, audit.Done, actor, before, wanted.Origin, at)
		event.Reason, event.Details = wanted.Reason, details
		events = append(events, event)
	}
	var d audit.Details
	if before.Role != after.Role {
		d.Changed, d.OldRole, d.NewRole = append(d.Changed, "role"), before.Role, after.Role
	}
	if before.Team != after.Team {
		d.Changed, d.OldTeam, d.NewTeam = append(d.Changed, "team"), before.Team, after.Team
	}
	if !slices.Equal(before.AlsoManages, after.AlsoManages) {
		d.Changed, d.OldAlsoManages, d.NewAlsoManages = append(d.Changed, "also_manages"), before.AlsoManages, after.AlsoManages
	}
	if before.DisplayName != after.DisplayName {
		d.Changed, d.OldDisplayName, d.NewDisplayName = append(d.Changed, "display_name"), before.DisplayName, after.DisplayName
	}
	if d.Changed != nil {
		add(audit.UserChanged, d)
	}
	if before.Status != after.Status {
		action := audit.UserEnabled
		if after.Status == user.Disabled {
			action = audit.UserDisabled
		}
		add(action, audit.Details{})
	}
	return events
}
