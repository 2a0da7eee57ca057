// Package user says who the people of an account are and who of them manages whom.
//
// It depends on the standard library and on package identifier, for the naming rule of an account, alone. Everything that
// decides about a user depends on it.
package user

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/identifier"
)

// ID names a user for ever: opaque, 1 to 64 of A-Za-z0-9_-, never changed and never reused.
type ID string

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Valid tells whether the id has the form of one; an id that has not belongs to nobody.
func (id ID) Valid() bool { return idForm.MatchString(string(id)) }

// Role is what a user may do: Agent or Administrator.
type Role string

// The roles, from the lesser to the greater.
const (
	Agent         Role = "agent"
	Administrator Role = "administrator"
)

// Valid tells whether r is one of the two roles.
func (r Role) Valid() bool { return r == Agent || r == Administrator }

// Status tells whether a user may sign in at all.
type Status string

// The statuses.
const (
	Active   Status = "active"
	Disabled Status = "disabled"
)

// Valid tells whether s is one of the two statuses.
func (s Status) Valid() bool { return s == Active || s == Disabled }

// Team is a place in the account's tree of branches, written as a path: "/", "/east/", "/east/boston/".
type Team string

// Root is the whole company.
const Root Team = "/"

// maxTeamLength bounds the path in bytes, so that it fits an index.
const maxTeamLength = 512

var teamForm = regexp.MustCompile(`^/(?:[^/\x00-\x1f\x7f]+/)*$`)

// Valid tells whether t is a path that starts and ends with a slash, has no empty step and at most 512 bytes.
func (t Team) Valid() bool {
	return len(t) <= maxTeamLength && utf8.ValidString(string(t)) && teamForm.MatchString(string(t))
}

// Covers tells whether other lies at or below t.
func (t Team) Covers(other Team) bool { return t != "" && strings.HasPrefix(string(other), string(t)) }

// SetBy says how a password came to be.
type SetBy string

// The ways a password is set.
const (
	SetBySelf          SetBy = "self"
	SetByAdministrator SetBy = "administrator"
	SetByService       SetBy = "service"
	SetByImport        SetBy = "import"
	SetByOperator      SetBy = "operator"
)

// Password is what is kept about a user's password: never the password itself.
type Password struct {
	Hash           string     // as password.CheckHash describes; empty when the user has none
	SetBy          SetBy      // how it came to be
	ChangedAt      *time.Time // when it was last set
	MustChange     bool       // it opens a session that can only choose a new one
	TemporaryUntil *time.Time // when a temporary password stops opening sessions
	DisabledAt     *time.Time // since when too many failures, or an administrator, have disabled it
}

// Usable tells whether the password can open a session at the time now, given that it is the right one.
func (p Password) Usable(now time.Time) bool {
	return p.Hash != "" && p.DisabledAt == nil && !p.TemporaryExpired(now)
}

// TemporaryExpired tells whether it is a temporary password whose time is over at now.
func (p Password) TemporaryExpired(now time.Time) bool {
	return p.TemporaryUntil != nil && !now.Before(*p.TemporaryUntil)
}

// PendingEmail is an address that a user asked for and has not confirmed yet. It reserves nothing.
type PendingEmail struct {
	Address string // empty when there is none
	Until   *time.Time
}

// At returns the address that can still be confirmed at now, or "".
func (p PendingEmail) At(now time.Time) string {
	if p.Until == nil || !now.Before(*p.Until) {
		return ""
	}
	return p.Address
}

// MaxAlsoManages is how many teams an administrator can manage beside the own, however the user came here; ours.
const MaxAlsoManages = 50

// User is a person who signs in.
type User struct {
	ID            ID
	AccountID     string
	Team          Team
	Role          Role
	AlsoManages   []Team // further teams an administrator manages
	DisplayName   string
	Status        Status
	Username      string
	Email         string // empty when there is none
	EmailVerified bool
	Pending       PendingEmail
	Password      Password
	Generation    int64 // grows whenever every older token must die, by NextGeneration
	// GenerationSince is when the present generation began, nil for the first: a token that names no generation, as other
	// issuers make them, must be younger.
	GenerationSince *time.Time
	Version         int64 // grows by one with every change of the credentials, the place, the name or the status: the ETag
	Revision        int64 // grows with every change of the row that a decision could rest on
	LastSignInAt    *time.Time
	CreatedAt       time.Time
}

// NextGeneration makes every token of the user from before at good for nothing.
func (u *User) NextGeneration(at time.Time) {
	u.Generation++
	u.GenerationSince = &at
}

// IsActive tells whether the user is not disabled.
func (u User) IsActive() bool { return u.Status == Active }

// Reach returns the teams the user manages: none for an agent.
func (u User) Reach() []Team {
	if u.Role != Administrator {
		return nil
	}
	return append([]Team{u.Team}, u.AlsoManages...)
}

// Manages is the one authority rule: an administrator manages a user of the same account whose team, and every team
// that user manages, lie at or below the teams the administrator manages. Nobody manages a wider reach than the own.
func (u User) Manages(target User) bool {
	if u.AccountID != target.AccountID || u.AccountID == "" {
		return false
	}
	reach := u.Reach()
	covered := func(t Team) bool {
		return slices.ContainsFunc(reach, func(mine Team) bool { return mine.Covers(t) })
	}
	return covered(target.Team) && !slices.ContainsFunc(target.AlsoManages, func(t Team) bool { return !covered(t) })
}

// ManagesAll tells whether the user's reach covers the whole account.
func (u User) ManagesAll() bool {
	return slices.ContainsFunc(u.Reach(), func(t Team) bool { return t.Covers(Root) })
}

// Account is a customer of SalesExec: the tenant every user belongs to exactly one of.
type Account struct {
	ID            string
	Name          string
	Policy        Policy
	PolicyVersion int64 // grows by one with every change of the policy: its ETag
	Naming        identifier.Rule
	NamingVersion int64 // grows by one with every change of the naming rule: its ETag
}

// Policy is what an account asks of passwords, names and resets beside what the service asks of everybody. A zero member
// means what the deployment has. The JSON form is the audit trail's: its names never change their meaning.
type Policy struct {
	MinLength    int           `json:"min_length,omitempty"`         // of passwords, in code points: 8 to 64
	BlockedWords []string      `json:"blocked_words,omitempty"`      // folded words that a password must not consist of
	HoldDays     int           `json:"username_hold_days,omitempty"` // how long released names are held for their former owner
	ResetMethods []ResetMethod `json:"reset_methods,omitempty"`      // those that are allowed; none listed: all
	MaxPlaces    int           `json:"max_places,omitempty"`         // networks that one person plausibly signs in from within an hour: 1 to 20
}

// DefaultMaxPlaces is how many networks one person plausibly signs in from within an hour where the account says nothing else: the
// office, the phone's and the one at home.
const DefaultMaxPlaces = 3

// Places returns from how many networks within an hour sessions may be in use before the credential review asks who uses them.
func (p Policy) Places() int {
	if p.MaxPlaces == 0 {
		return DefaultMaxPlaces
	}
	return p.MaxPlaces
}

// Allows tells whether passwords may be reset by the method.
func (p Policy) Allows(method ResetMethod) bool {
	return len(p.ResetMethods) == 0 || slices.Contains(p.ResetMethods, method)
}

// ResetMethod is how a password is reset.
type ResetMethod string

// The methods. Temporary is generated and shown once; with Set the administrator chooses it. Both are good for 24 hours
// and only for choosing a new password. Link mails a one-time link.
const (
	Temporary ResetMethod = "temporary"
	Set       ResetMethod = "set"
	Link      ResetMethod = "link"
)

// ResetMethods returns every method there is.
func ResetMethods() []ResetMethod { return []ResetMethod{Temporary, Set, Link} }
