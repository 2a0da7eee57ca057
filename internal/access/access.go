// Package access says who acts, and who may call which operation: the one authorization table.
//
// It is a leaf: it knows users only by the words of package user. Whether an administrator manages a certain user is
// the rule of package user, asked by the use cases; this table says who may ask at all.
package access

import (
	"errors"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/user"
)

// Why an actor may not call an operation.
var (
	ErrUnauthenticated    = errors.New("access: no valid token")
	ErrForbidden          = errors.New("access: the role does not allow the operation")
	ErrInsufficientScope  = errors.New("access: the token lacks the scope")
	ErrMustChangePassword = errors.New("access: the session may only choose a new password")
)

// Kind tells what sort of actor acts.
type Kind string

// The kinds of actor. Nobody is a caller without a token; Operator is a person at the command line of the host.
const (
	Nobody   Kind = ""
	Person   Kind = "user"
	Service  Kind = "service"
	Operator Kind = "operator"
)

// Actor is who calls, as read from the database for this very request, never from the token alone.
type Actor struct {
	Kind    Kind
	Account user.Account // a person's, or the one a service is bound to

	// Of a Person.
	User               user.User // as the database has it: saves start from it
	Role               user.Role // the lesser of the token's and the database's: the one that counts for the table
	SessionID          string    // empty: the token is of another issuer, and belongs to no session of this service
	Issuer             string    // of such a token
	SignedInAt         time.Time // auth_time: when the password was last proven; zero when the token does not say
	MustChangePassword bool      // the session was opened with a temporary password

	// Of a Service.
	ClientID      string
	ClientName    string
	AllAccounts   bool   // registered for every account
	ClientAccount string // else the one account it is bound to
	Scopes        []string
}

// Origin is where a request came from, as it is kept with what the request did.
type Origin struct {
	RequestID string
	IP        string
	UserAgent string
	// OnBehalfOf is the user that a service says it acts for: a claim of the service, which nobody has checked and which
	// gives it nothing.
	OnBehalfOf user.ID
}

// Place names what wrong current passwords are counted by: the session, or the issuer of a token that belongs to none.
func (a Actor) Place() string {
	if a.SessionID != "" {
		return a.SessionID
	}
	return "issuer:" + a.Issuer
}

// HasScope tells whether a service was given the scope, or a wider one: who may manage streams may read them (CAEP
// interoperability profile section 2.7.2).
func (a Actor) HasScope(scope string) bool {
	return slices.Contains(a.Scopes, scope) || scope == ScopeSignalsRead && slices.Contains(a.Scopes, ScopeSignalsManage)
}

// SeesAccount tells whether the actor has any business in the account.
func (a Actor) SeesAccount(accountID string) bool {
	switch a.Kind {
	case Person:
		return a.User.AccountID == accountID
	case Service:
		return a.AllAccounts || a.ClientAccount == accountID
	case Operator:
		return true
	case Nobody:
	}
	return false
}

// Reaches tells whether the target is one of those the actor is there for (product.md decision 5).
func (a Actor) Reaches(target user.User) bool {
	if a.Kind == Person {
		return a.User.Manages(target)
	}
	return a.SeesAccount(target.AccountID)
}

// Sees tells whether the actor may look at the user: one within reach, and an administrator the own self.
func (a Actor) Sees(target user.User) bool {
	return a.Kind == Person && a.User.ID == target.ID || a.Reaches(target)
}

// ReachesAll tells whether the actor is there for everybody in its account, and so for what concerns nobody in particular.
func (a Actor) ReachesAll() bool {
	return a.Kind != Person && a.Kind != Nobody || slices.Contains(a.User.Reach(), user.Root)
}

// OwnAccount returns the account that the actor belongs to, or "" for one that belongs to none.
func (a Actor) OwnAccount() string {
	if a.Kind == Person {
		return a.User.AccountID
	}
	return a.ClientAccount
}

// Scopes that a service can be given.
const (
	ScopeAuditRead           = "audit:read"
	ScopeUsersRead           = "users:read"
	ScopeUsersWrite          = "users:write"
	ScopeManage              = "credentials:manage"
	ScopeReset               = "credentials:reset"
	ScopeResetAdministrators = "credentials:reset:administrators"
	ScopeVerify              = "credentials:verify"
	ScopeAttribution         = "attribution:read"
	ScopeSignalsRead         = "ssf.read" // the two names are those of the CAEP interoperability profile
	ScopeSignalsManage       = "ssf.manage"
)

// Scopes returns every scope there is, sorted: the closed list that a client is registered with.
func Scopes() []string {
	return []string{
		ScopeAttribution, ScopeAuditRead, ScopeManage, ScopeReset, ScopeResetAdministrators, ScopeVerify, ScopeSignalsManage, ScopeSignalsRead,
		ScopeUsersRead, ScopeUsersWrite,
	}
}

// Relation says how whom an operation concerns must stand to the actor. The use cases look it up in the database, and hold to it
// when they save.
type Relation string

// The relations. Whoever is not in the relation looks like nobody who exists.
const (
	Self         Relation = "self"          // the user whose token it is
	Seen         Relation = "seen"          // a user within reach, or the own self; of a service a user of its account
	Managed      Relation = "managed"       // a user within reach, never the own self; of a service an administrator only with ScopeResetAdministrators
	Reached      Relation = "reached"       // what the user is, or would be, lies within reach; of a service as in Managed
	OwnAccount   Relation = "own_account"   // the actor's account; of a service of every account the one it names
	WholeAccount Relation = "whole_account" // the same, and a person must manage all of it
	OwnStream    Relation = "own_stream"    // what belongs to the service itself
)

// Rule is one row of the authorization table.
type Rule struct {
	Operation        string    // operationId in openapi.yaml
	Public           bool      // needs no token
	ReadsToken       bool      // public, but answers a good token with what concerns its user; a bad one is refused
	Role             user.Role // the least role of a person; empty: persons may not call it
	Scope            string    // the scope a service needs; empty: services may not call it
	Target           Relation  // whom or what it may concern; empty: nobody in particular
	DuringMustChange bool      // allowed to a session that may only choose a new password
	Repeatable       bool      // honours Idempotency-Key
	Limited          bool      // counts against the wider limit per address and subject (product.md decision 8)
	ReadOnly         bool      // changes nothing though it is limited: a refusal is no event
}

// Table returns the authorization table: every operation has exactly one row, and one without a row cannot be served
// (AZ-01).
func Table() []Rule {
	return []Rule{
		{Operation: "signIn", Public: true, DuringMustChange: true, Limited: true},
		{Operation: "refreshSession", Public: true, DuringMustChange: true, Limited: true},
		{Operation: "issueToken", Public: true, DuringMustChange: true, Limited: true},
		{Operation: "redeemPasswordReset", Public: true, DuringMustChange: true, Repeatable: true, Limited: true},
		{Operation: "confirmEmail", Public: true, DuringMustChange: true, Repeatable: true, Limited: true},
		{Operation: "revertCredentials", Public: true, DuringMustChange: true, Repeatable: true, Limited: true},
		{Operation: "showResetPage", Public: true, DuringMustChange: true},
		{Operation: "showConfirmEmailPage", Public: true, DuringMustChange: true},
		{Operation: "showRevertPage", Public: true, DuringMustChange: true},
		{Operation: "getDevMail", Public: true, DuringMustChange: true},
		{Operation: "getChangePassword", Public: true, DuringMustChange: true},
		{Operation: "getPasswordPolicy", Public: true, ReadsToken: true, DuringMustChange: true},
		{Operation: "getJwks", Public: true, DuringMustChange: true},
		{Operation: "getIssuerMetadata", Public: true, DuringMustChange: true},
		{Operation: "getSsfConfiguration", Public: true, DuringMustChange: true},
		{Operation: "getOpenapi", Public: true, DuringMustChange: true},
		{Operation: "getProblem", Public: true, DuringMustChange: true},

		{Operation: "signOut", Role: user.Agent, Target: Self, DuringMustChange: true, Limited: true},
		{Operation: "getMe", Role: user.Agent, Target: Self, DuringMustChange: true},
		{Operation: "getMyCredentials", Role: user.Agent, Target: Self, DuringMustChange: true},
		{Operation: "changeMyCredentials", Role: user.Agent, Target: Self, DuringMustChange: true, Repeatable: true, Limited: true},
		{Operation: "checkPassword", Role: user.Agent, Target: Self, DuringMustChange: true, Limited: true, ReadOnly: true},
		{Operation: "listMySessions", Role: user.Agent, Target: Self},
		{Operation: "endMySession", Role: user.Agent, Target: Self, Limited: true},
		{Operation: "endMyOtherSessions", Role: user.Agent, Target: Self, Limited: true},
		{Operation: "listMyActivity", Role: user.Agent, Target: Self},

		{Operation: "listUsers", Role: user.Administrator, Scope: ScopeUsersRead, Target: Seen},
		{Operation: "getUser", Role: user.Administrator, Scope: ScopeUsersRead, Target: Seen},
		{Operation: "getUsernameHistory", Role: user.Administrator, Scope: ScopeUsersRead, Target: Seen},
		{Operation: "createUser", Role: user.Administrator, Scope: ScopeUsersWrite, Target: Reached, Repeatable: true, Limited: true},
		{Operation: "changeUser", Role: user.Administrator, Scope: ScopeUsersWrite, Target: Managed, Repeatable: true, Limited: true},
		{Operation: "unlockUser", Role: user.Administrator, Scope: ScopeManage, Target: Managed, Repeatable: true, Limited: true},
		{Operation: "endUserSessions", Role: user.Administrator, Scope: ScopeManage, Target: Managed, Limited: true},
		{Operation: "changeUserCredentials", Role: user.Administrator, Scope: ScopeManage, Target: Managed, Repeatable: true, Limited: true},
		{Operation: "lockUser", Role: user.Administrator, Scope: ScopeReset, Target: Managed, Repeatable: true, Limited: true},
		{Operation: "resetPassword", Role: user.Administrator, Scope: ScopeReset, Target: Managed, Repeatable: true, Limited: true},
		{Operation: "beginPasswordResetJob", Role: user.Administrator, Scope: ScopeReset, Target: Reached, Repeatable: true, Limited: true},
		{Operation: "listPasswordResetJobs", Role: user.Administrator, Scope: ScopeReset, Target: Reached},
		{Operation: "getPasswordResetJob", Role: user.Administrator, Scope: ScopeReset, Target: Reached},
		{Operation: "listPasswordResetJobResults", Role: user.Administrator, Scope: ScopeReset, Target: Reached},
		{Operation: "cancelPasswordResetJob", Role: user.Administrator, Scope: ScopeReset, Target: Reached, Limited: true},
		{Operation: "handOutTemporaryPasswords", Role: user.Administrator, Scope: ScopeReset, Target: Reached, Repeatable: true, Limited: true},

		{Operation: "resolveUsername", Scope: ScopeAttribution, Target: OwnAccount},
		{Operation: "verifyCredentials", Scope: ScopeVerify, Target: OwnAccount},

		{Operation: "reviewCredentials", Role: user.Administrator, Scope: ScopeUsersRead, Target: Seen},
		{Operation: "listAuditEvents", Role: user.Administrator, Scope: ScopeAuditRead, Target: Seen},
		{Operation: "checkAuditIntegrity", Role: user.Administrator, Scope: ScopeAuditRead, Target: WholeAccount},
		{Operation: "getAccountPasswordPolicy", Role: user.Administrator, Scope: ScopeUsersRead, Target: OwnAccount},
		{Operation: "setAccountPasswordPolicy", Role: user.Administrator, Scope: ScopeUsersWrite, Target: WholeAccount, Limited: true},
		{Operation: "getNamingRule", Role: user.Administrator, Scope: ScopeUsersRead, Target: OwnAccount},
		{Operation: "setNamingRule", Role: user.Administrator, Scope: ScopeUsersWrite, Target: WholeAccount, Limited: true},
		{Operation: "lookUpUsername", Role: user.Administrator, Scope: ScopeUsersRead, Target: OwnAccount, Limited: true, ReadOnly: true},
		{Operation: "releaseHeldUsername", Role: user.Administrator, Scope: ScopeManage, Target: Reached, Limited: true},

		{Operation: "readStreams", Scope: ScopeSignalsRead, Target: OwnStream},
		{Operation: "createStream", Scope: ScopeSignalsManage, Target: OwnStream, Limited: true},
		{Operation: "updateStream", Scope: ScopeSignalsManage, Target: OwnStream, Limited: true},
		{Operation: "replaceStream", Scope: ScopeSignalsManage, Target: OwnStream, Limited: true},
		{Operation: "deleteStream", Scope: ScopeSignalsManage, Target: OwnStream, Limited: true},
		{Operation: "pollStream", Scope: ScopeSignalsRead, Target: OwnStream},
		{Operation: "getStreamStatus", Scope: ScopeSignalsRead, Target: OwnStream},
		{Operation: "setStreamStatus", Scope: ScopeSignalsManage, Target: OwnStream, Limited: true},
		{Operation: "addSubject", Scope: ScopeSignalsManage, Target: OwnStream, Limited: true},
		{Operation: "removeSubject", Scope: ScopeSignalsManage, Target: OwnStream, Limited: true},
		{Operation: "verifyStream", Scope: ScopeSignalsRead, Target: OwnStream},
	}
}

// RuleFor returns the operation's row, or false when there is none: then the operation is refused.
func RuleFor(operation string) (Rule, bool) {
	table := Table()
	i := slices.IndexFunc(table, func(r Rule) bool { return r.Operation == operation })
	if i < 0 {
		return Rule{}, false
	}
	return table[i], true
}

// Allow tells whether the actor may call the rule's operation. It returns ErrUnauthenticated, ErrForbidden,
// ErrInsufficientScope or ErrMustChangePassword when not.
func (r Rule) Allow(actor Actor) error {
	switch actor.Kind {
	case Nobody:
		if !r.Public {
			return ErrUnauthenticated
		}
	case Service:
		if r.Public {
			return nil
		}
		if r.Scope == "" {
			return ErrForbidden
		}
		if !actor.HasScope(r.Scope) {
			return ErrInsufficientScope
		}
	case Person:
		if actor.MustChangePassword && !r.DuringMustChange {
			return ErrMustChangePassword
		}
		if !r.Public && !roleSuffices(actor.Role, r.Role) {
			return ErrForbidden
		}
	case Operator:
	}
	return nil
}

func roleSuffices(have, need user.Role) bool {
	switch need {
	case user.Agent:
		return have == user.Agent || have == user.Administrator
	case user.Administrator:
		return have == user.Administrator
	}
	return false
}
