// Package audit says what happened: a closed set of actions, events with typed fields, the hash chain that makes a changed
// or missing event show, and who may read what of it.
//
// It depends on packages access, identifier and user for their words, and on nothing else of the project; it names the store
// that it reads from. Events are written by the store in the transaction of the change they tell of.
package audit

import (
	"time"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/user"
)

// Action is the stable name of what happened.
type Action string

// The closed set of actions. They are stored and exported: a name never changes its meaning.
const (
	SignedIn            Action = "session.signed_in"            // the right password opened a session
	SignInFailed        Action = "session.sign_in_failed"       // an attempt opened none; the code says why, the caller never learns it
	SessionEnded        Action = "session.ended"                // one session was ended: signed out, or too many wrong current passwords in it
	SessionReuse        Action = "session.refresh_reused"       // an outgrown refresh token came back, which ended its session
	CredentialsChanged  Action = "credentials.changed"          // username, e-mail or password were changed, by the user or by somebody who manages it
	ChangeRefused       Action = "credentials.change_refused"   // a change or a reset was not made; the code and the violations say why
	PasswordReset       Action = "password.reset"               // an administrator or a service replaced a user's password by a temporary one
	ResetLinkSent       Action = "password.reset_link_sent"     // a one-time link to choose a new password was mailed to the user
	ResetLinkUsed       Action = "password.reset_link_used"     // the user chose a new password by the mailed link
	CredentialsReverted Action = "credentials.reverted"         // "this wasn't me": username and e-mail are as before, the password is disabled
	SecurityLocked      Action = "user.security_locked"         // for a security concern every session and link ended and the password was disabled
	NoticeGivenUp       Action = "notice.given_up"              // a mail to the user could not be delivered in time
	PasswordDisabled    Action = "password.disabled"            // too many consecutive failures: the password opens nothing until it is reset
	PasswordVerified    Action = "password.verified"            // another service had a name and a password checked, and they were right
	VerifyFailed        Action = "password.verify_failed"       // they were not; the code says why, the service never learns it
	PasswordRehashed    Action = "password.rehashed"            // a sign-in replaced an outdated hash by a stronger one of the same password
	UserCreated         Action = "user.created"                 // an administrator, a service or the operator made a user
	UserImported        Action = "user.imported"                // the operator brought a user of another system in, with the scheme of its hash
	UserChanged         Action = "user.changed"                 // role, team, further teams or display name of a user were changed
	UserDisabled        Action = "user.disabled"                // a user may not sign in any more; all sessions were ended
	UserEnabled         Action = "user.enabled"                 // a user may sign in again
	UserUnlocked        Action = "user.unlocked"                // the delays after failed attempts were lifted
	SessionsRevoked     Action = "session.all_revoked"          // an administrator or a service ended all sessions of a user
	ServiceCreated      Action = "service.created"              // the operator registered a client
	ServiceRotated      Action = "service.secret_rotated"       // the operator gave a client a further secret
	ServiceDisabled     Action = "service.disabled"             // the operator made a client's secrets and tokens good for nothing
	ServiceEnabled      Action = "service.enabled"              // the operator took that back
	ServiceTokenIssued  Action = "service.token_issued"         // a client proved itself and got a token
	ServiceTokenRefused Action = "service.token_refused"        // a client did not prove itself, or asked for more than it was given
	SessionsEnded       Action = "session.others_ended"         // a user ended all own sessions but the one in use
	NameReleased        Action = "username.released"            // a held name was released before its time: anybody can take it
	PolicyChanged       Action = "account.policy_changed"       // an account's rules for passwords, held names and resets were replaced
	NamingRuleChanged   Action = "account.naming_rule_changed"  // an account's rule for usernames was replaced
	CredentialsReviewed Action = "account.credentials_reviewed" // the credential review was opened, or exported
	StreamCreated       Action = "stream.created"               // a service made a stream of Shared Signals
	StreamChanged       Action = "stream.changed"               // its receiver, the operator or the service itself changed a stream
	StreamDeleted       Action = "stream.deleted"               // a service deleted its stream
	StreamRefused       Action = "stream.change_refused"        // a stream was not made or changed; the code says why
	SettingsRefused     Action = "account.change_refused"       // an account's settings were not changed; the code and the violations say why
	Pruned              Action = "audit.pruned"                 // the operator removed the oldest events of the account's trail
	PasswordHandedOut   Action = "password.handed_out"          // a temporary password that a job had made was shown, once and to whom the event names
	JobBegun            Action = "job.begun"                    // a job to reset many users was begun
	JobCancelled        Action = "job.cancelled"                // it was cancelled; who was reset before stays reset
	JobCompleted        Action = "job.completed"                // it came to its end; a code says why before its time, if so
)

// Actions returns every action there is, sorted.
func Actions() []Action {
	return []Action{
		SettingsRefused, CredentialsReviewed, NamingRuleChanged, PolicyChanged, Pruned, ChangeRefused, CredentialsChanged, CredentialsReverted, JobBegun, JobCancelled, JobCompleted, NoticeGivenUp,
		PasswordDisabled, PasswordHandedOut, PasswordRehashed, PasswordReset, ResetLinkSent, ResetLinkUsed, PasswordVerified, VerifyFailed, ServiceCreated, ServiceDisabled, ServiceEnabled,
		ServiceRotated, ServiceTokenIssued, ServiceTokenRefused, SessionsRevoked, SessionEnded, SessionsEnded, SessionReuse, SignInFailed, SignedIn,
		StreamRefused, StreamChanged, StreamCreated, StreamDeleted, UserChanged, UserCreated, UserDisabled, UserEnabled, UserImported, SecurityLocked, UserUnlocked, NameReleased,
	}
}

// Personal returns the actions that a user sees in the list of what happened to the own credentials.
func Personal() []Action {
	return []Action{
		SignedIn, SignInFailed, SessionEnded, SessionsEnded, SessionReuse, CredentialsChanged, ChangeRefused, CredentialsReverted,
		PasswordVerified, VerifyFailed,
		PasswordReset, PasswordHandedOut, ResetLinkSent, ResetLinkUsed, PasswordDisabled, SecurityLocked, NameReleased, SessionsRevoked, UserChanged,
		UserCreated, UserDisabled, UserEnabled, UserImported, UserUnlocked,
	}
}

// Outcome tells whether what was asked was done.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
)

// Valid tells whether o is one of the two outcomes.
func (o Outcome) Valid() bool { return o == Done || o == Refused }

// UnknownAccount is the chain of events that belong to no account: failed sign-ins with names nobody has.
const UnknownAccount = "-"

// StreamKind is the kind of a target that is a stream of Shared Signals, not a user.
const StreamKind access.Kind = "stream"

// Party is an actor or a target with the names it had when the event happened.
type Party struct {
	Kind     access.Kind `json:"kind,omitempty"`
	ID       string      `json:"id,omitempty"`
	Username string      `json:"username,omitempty"`
	Name     string      `json:"name,omitempty"`
}

// Details are the facts of an event. There is no free-form field, so that no secret can slip in.
type Details struct {
	Code           string           `json:"code,omitempty"`       // why it was refused: a problem code, or a finer reason
	Violations     []string         `json:"violations,omitempty"` // policy codes
	Changed        []string         `json:"changed,omitempty"`    // of username, email, pending_email, password, role, team, also_manages, display_name; of a stream what was set
	OldUsername    string           `json:"old_username,omitempty"`
	NewUsername    string           `json:"new_username,omitempty"`
	OldEmail       string           `json:"old_email,omitempty"`
	NewEmail       string           `json:"new_email,omitempty"`
	PendingEmail   string           `json:"pending_email,omitempty"` // asked for, not confirmed
	OldRole        user.Role        `json:"old_role,omitempty"`
	NewRole        user.Role        `json:"new_role,omitempty"`
	OldTeam        user.Team        `json:"old_team,omitempty"`
	NewTeam        user.Team        `json:"new_team,omitempty"`
	OldAlsoManages []user.Team      `json:"old_also_manages,omitempty"`
	NewAlsoManages []user.Team      `json:"new_also_manages,omitempty"`
	OldDisplayName string           `json:"old_display_name,omitempty"`
	NewDisplayName string           `json:"new_display_name,omitempty"`
	WantedUsername string           `json:"wanted_username,omitempty"`
	Method         string           `json:"method,omitempty"` // of a reset: temporary, set, link
	SessionsEnded  int              `json:"sessions_ended,omitempty"`
	Failures       int              `json:"failures,omitempty"`      // consecutive failures up to now
	Issuer         string           `json:"issuer,omitempty"`        // who vouched for the actor, if another issuer did
	Scopes         []string         `json:"scopes,omitempty"`        // that a client was given
	Scheme         string           `json:"scheme,omitempty"`        // hash scheme that was replaced, or imported
	Notice         string           `json:"notice,omitempty"`        // kind of a mail
	Typed          string           `json:"typed,omitempty"`         // short fingerprint of a name nobody has: it may be a mistyped password
	EndedSession   string           `json:"ended_session,omitempty"` // another session than the one in use
	Operation      string           `json:"operation,omitempty"`     // which one the caller may not call at all
	ReleasedName   string           `json:"released_name,omitempty"` // folded
	OldPolicy      *user.Policy     `json:"old_policy,omitempty"`
	NewPolicy      *user.Policy     `json:"new_policy,omitempty"`
	OldNaming      *identifier.Rule `json:"old_naming,omitempty"`
	NewNaming      *identifier.Rule `json:"new_naming,omitempty"`
	Events         int64            `json:"events,omitempty"`   // how many events were pruned
	Sequence       int64            `json:"sequence,omitempty"` // of the last event that was pruned
	Chain          string           `json:"chain,omitempty"`    // of that event: what is left can be verified from there
	Format         string           `json:"format,omitempty"`   // of a credential review: json, csv
	Findings       []string         `json:"findings,omitempty"` // that a credential review was narrowed to
	Team           user.Team        `json:"team,omitempty"`     // that it was narrowed to
	Job            string           `json:"job,omitempty"`      // the bulk job that it was done for
	Items          *Items           `json:"items,omitempty"`    // of a job
}

// Items are how many users of a job are in which state.
type Items struct {
	Total     int `json:"total"`
	Done      int `json:"done"`
	Skipped   int `json:"skipped"`
	Failed    int `json:"failed"`
	Cancelled int `json:"cancelled"`
}

// Pending returns how many wait.
func (i Items) Pending() int { return i.Total - i.Done - i.Skipped - i.Failed - i.Cancelled }

// Event is one thing that happened.
type Event struct {
	ID        string
	AccountID string // whose chain it is in: the target's account, or UnknownAccount
	At        time.Time
	Action    Action
	Outcome   Outcome
	Actor     Party
	Target    Party
	SessionID string
	Reason    string // what the acting human gave as reason, at most 500 code points
	Origin    access.Origin
	Details   Details
}

// New makes an event about target by actor, at the time and from the place of the request.
func New(action Action, outcome Outcome, actor access.Actor, target user.User, origin access.Origin, at time.Time) Event {
	event := Event{
		ID: uuid.Must(uuid.NewV7()).String(), AccountID: target.AccountID, At: at.UTC().Truncate(time.Microsecond),
		Action: action, Outcome: outcome, Actor: PartyOf(actor), Target: TargetOf(target), SessionID: actor.SessionID, Origin: origin,
		Details: Details{Issuer: actor.Issuer},
	}
	if event.AccountID == "" {
		event.AccountID = UnknownAccount
	}
	return event
}

// AccountKind is the kind of a target that is an account, not one of its users.
const AccountKind access.Kind = "account"

// About makes an event about an account by actor, at the time and from the place of the request.
func About(action Action, outcome Outcome, actor access.Actor, account user.Account, origin access.Origin, at time.Time) Event {
	event := New(action, outcome, actor, user.User{AccountID: account.ID}, origin, at)
	if account.ID != "" {
		event.Target = Party{Kind: AccountKind, ID: account.ID, Name: account.Name}
	}
	return event
}

// PartyOf describes an actor as it is called now.
func PartyOf(actor access.Actor) Party {
	switch actor.Kind {
	case access.Person:
		return TargetOf(actor.User)
	case access.Service:
		return Party{Kind: access.Service, ID: actor.ClientID, Name: actor.ClientName}
	case access.Operator:
		return Party{Kind: access.Operator}
	case access.Nobody:
	}
	return Party{}
}

// TargetOf describes a user as it is called now.
func TargetOf(u user.User) Party {
	if u.ID == "" {
		return Party{}
	}
	return Party{Kind: access.Person, ID: string(u.ID), Username: u.Username, Name: u.DisplayName}
}
