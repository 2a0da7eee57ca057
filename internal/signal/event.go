package signal

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/user"
)

// The event types that are sent about users. RISC's sessions-revoked is deprecated for CAEP's (RISC 1.0), and its
// identifier-changed needs an e-mail address as the subject: neither is ever sent.
const (
	CredentialChange     = "https://schemas.openid.net/secevent/caep/event-type/credential-change" //nolint:gosec // a name, not a secret
	SessionRevoked       = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	ChangeRequired       = "https://schemas.openid.net/secevent/risc/event-type/account-credential-change-required"
	AccountDisabled      = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
	AccountEnabled       = "https://schemas.openid.net/secevent/risc/event-type/account-enabled"
	RecoveryChanged      = "https://schemas.openid.net/secevent/risc/event-type/recovery-information-changed"
	RecoveryActivated    = "https://schemas.openid.net/secevent/risc/event-type/recovery-activated"
	CredentialCompromise = "https://schemas.openid.net/secevent/risc/event-type/credential-compromise" //nolint:gosec // likewise
	// UsernameChanged is SalesExec's own; README.md of this package describes it.
	UsernameChanged = "urn:salesexec:secevent:event-type:username-changed"
)

// The event types about a stream itself (SSF 1.0 sections 8.1.4 and 8.1.5). They are sent whatever was requested.
const (
	Verification  = "https://schemas.openid.net/secevent/ssf/event-type/verification"
	StreamUpdated = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"
)

// Supported returns the event types that a stream can deliver.
func Supported() []string {
	return []string{
		CredentialChange, SessionRevoked, ChangeRequired, AccountDisabled, AccountEnabled, RecoveryChanged, RecoveryActivated,
		CredentialCompromise, UsernameChanged,
	}
}

// Event is what happened, as every stream that hears of its subject is told. It holds no secret.
type Event struct {
	Type      string
	AccountID string
	UserID    user.ID
	SessionID string // when the event is about one session of the user alone
	Txn       string // shared by the events of one change
	Claims    any    // of the event, as JSON; one of the types below
	At        time.Time
}

// Caused is what CAEP says of why something happened (CAEP 1.0 section 2).
type Caused struct {
	EventTimestamp   int64             `json:"event_timestamp"`   // seconds since 1970: when it happened
	InitiatingEntity string            `json:"initiating_entity"` // admin, user, policy or system
	ReasonAdmin      map[string]string `json:"reason_admin"`      // by BCP 47 language tag
}

// CredentialClaims are those of credential-change.
type CredentialClaims struct {
	CredentialType string `json:"credential_type"` // password
	ChangeType     string `json:"change_type"`     // create, update or revoke
	Caused
}

// SessionClaims are those of session-revoked. Generation is there when every token of an older generation has died with the
// sessions; the subject is the user then.
type SessionClaims struct {
	Caused
	Generation int64 `json:"generation,omitempty"`
}

// RenameClaims are those of username-changed. Version is that of the credentials after the change: of two renames of a user
// the later has the higher one.
type RenameClaims struct {
	UserID      string    `json:"user_id"`
	AccountID   string    `json:"account_id"`
	OldUsername string    `json:"old_username"`
	NewUsername string    `json:"new_username"`
	Version     int64     `json:"version"`
	ChangedAt   time.Time `json:"changed_at"` // to the microsecond, as the username history has it
	Caused
}

// DisabledClaims are those of account-disabled.
type DisabledClaims struct {
	Reason string `json:"reason,omitempty"` // hijacking
}

// CompromiseClaims are those of credential-compromise.
type CompromiseClaims struct {
	CredentialType string            `json:"credential_type"`
	EventTimestamp int64             `json:"event_timestamp"`
	ReasonAdmin    map[string]string `json:"reason_admin"`
}

// NoClaims are those of event types that have none.
type NoClaims struct{}

// About tells whose streams have to hear of a change, or "" when it is nothing that others hear of.
func About(c change.Change) (accountID string, id user.ID) {
	switch {
	case c.User != nil:
		return c.User.AccountID, c.User.ID
	case c.End != nil:
		return cause(c).AccountID, c.End.UserID
	}
	return "", ""
}

// Of derives what others hear of a change that is being saved: from the user's state before it (nil if the change writes none),
// the state after, the sessions that it ended, and the audit event that says who did it and why. It is the one place that
// decides, and it looks at the states, so that a use case cannot forget to tell.
func Of(before *user.User, c change.Change, ended []string) []Event {
	account, id := About(c)
	if id == "" {
		return nil
	}
	told := telling{why: cause(c), c: c, account: account, user: id}
	told.entity, told.txn = told.entityOf(), cmp.Or(told.why.ID, uuid.NewString())
	renewed := false
	if before != nil && c.User != nil {
		told.credentials(*before, *c.User)
		renewed = c.User.Generation > before.Generation
	}
	told.sessions(ended, renewed)
	if before != nil && c.User != nil {
		told.standing(*before, *c.User)
	}
	return told.events
}

// cause returns the audit event that says what a change was: the first thing done.
func cause(c change.Change) audit.Event {
	if i := slices.IndexFunc(c.Audit, func(e audit.Event) bool { return e.Outcome == audit.Done }); i >= 0 {
		return c.Audit[i]
	}
	if len(c.Audit) > 0 {
		return c.Audit[0]
	}
	return audit.Event{}
}

// telling is a change on its way into events.
type telling struct {
	why     audit.Event
	c       change.Change
	account string
	user    user.ID
	entity  string
	txn     string
	events  []Event
}

// Who can have caused an event (CAEP 1.0 section 2).
const (
	byAdmin  = "admin"
	byUser   = "user"
	byPolicy = "policy"
	bySystem = "system"
)

func (t *telling) entityOf() string {
	if t.c.End != nil && (t.c.End.Why == "refresh_reused" || t.c.End.Why == "too_many_failures") || t.why.Action == audit.PasswordDisabled {
		return byPolicy
	}
	switch t.why.Actor.Kind {
	case access.Person:
		if t.why.Actor.ID == string(t.user) {
			return byUser
		}
		return byAdmin
	case access.Operator:
		return byAdmin
	case access.Service:
		return bySystem
	case access.Nobody:
	}
	return byPolicy
}

// reason says in English what happened and by whom. What an administrator typed as a reason stays in the audit trail.
func (t *telling) reason(what string) map[string]string {
	by := map[string]string{byAdmin: "an administrator", byUser: "the user", byPolicy: "a security rule", bySystem: "a service"}[t.entity]
	return map[string]string{"en": what + " by " + by}
}

func (t *telling) caused(what string) Caused {
	return Caused{EventTimestamp: t.c.At.Unix(), InitiatingEntity: t.entity, ReasonAdmin: t.reason(what)}
}

func (t *telling) add(kind, sessionID string, claims any) {
	t.events = append(t.events, Event{
		Type: kind, AccountID: t.account, UserID: t.user, SessionID: sessionID, Txn: t.txn, Claims: claims, At: t.c.At,
	})
}

func (t *telling) credentials(before, after user.User) {
	if t.why.Action == audit.CredentialsReverted { // the user says that somebody else was in
		t.add(CredentialCompromise, "", CompromiseClaims{"password", t.c.At.Unix(), t.reason("Change reported as not the own")})
	}
	switch {
	case moved(before.Password.ChangedAt, after.Password.ChangedAt):
		kind := "update"
		if before.Password.Hash == "" {
			kind = "create"
		}
		t.add(CredentialChange, "", CredentialClaims{"password", kind, t.caused("Password changed")})
	case before.Password.DisabledAt == nil && after.Password.DisabledAt != nil && t.entity != byPolicy:
		t.add(CredentialChange, "", CredentialClaims{"password", "revoke", t.caused("Password disabled")})
	}
	if before.Username != after.Username {
		t.add(UsernameChanged, "", RenameClaims{
			UserID: string(after.ID), AccountID: after.AccountID, OldUsername: before.Username, NewUsername: after.Username,
			Version: after.Version, ChangedAt: t.c.At.UTC().Truncate(time.Microsecond), Caused: t.caused("Username changed"),
		})
	}
	if before.Email != after.Email {
		t.add(RecoveryChanged, "", NoClaims{})
	}
}

func moved(before, after *time.Time) bool {
	return after != nil && (before == nil || !before.Equal(*after))
}

// sessions tells of ended sessions: all at once when every older token has died too, else one by one.
func (t *telling) sessions(ended []string, renewed bool) {
	if renewed {
		t.add(SessionRevoked, "", SessionClaims{Caused: t.caused("Sessions ended"), Generation: t.c.User.Generation})
		return
	}
	for _, id := range ended {
		t.add(SessionRevoked, id, SessionClaims{Caused: t.caused("Session ended")})
	}
}

func (t *telling) standing(before, after user.User) {
	if t.why.Action == audit.ResetLinkSent {
		t.add(RecoveryActivated, "", NoClaims{})
	}
	if after.Password.MustChange && (!before.Password.MustChange || moved(before.Password.ChangedAt, after.Password.ChangedAt)) {
		t.add(ChangeRequired, "", NoClaims{})
	}
	switch was, is := locked(before), locked(after); {
	case !was && is:
		claims := DisabledClaims{}
		if t.why.Action == audit.CredentialsReverted || t.why.Action == audit.SecurityLocked {
			claims.Reason = "hijacking"
		}
		t.add(AccountDisabled, "", claims)
	case was && !is:
		t.add(AccountEnabled, "", NoClaims{})
	}
}

// locked tells whether the user is kept from signing in until somebody does something about it.
func locked(u user.User) bool { return !u.IsActive() || u.Password.DisabledAt != nil }
