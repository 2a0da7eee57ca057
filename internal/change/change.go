// Package change describes what one save writes: a value that a use case fills in and the store applies whole or not
// at all.
//
// It is a leaf over the words of access, audit, identifier, outbox, secret and user, so that the packages that change things need not know each other.
package change

import (
	"errors"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/user"
)

// What keeps a change from being saved. Nothing of it is written then.
var (
	ErrConflict          = errors.New("change: a concurrent change won")
	ErrVersion           = errors.New("change: the credentials are no longer of a version the caller asked for")
	ErrIdentifierTaken   = errors.New("change: the identifier is in use or held")
	ErrLinkInvalid       = errors.New("change: the link is unknown, used, expired or void")
	ErrUserExists        = errors.New("change: the id of the new user is somebody's already")
	ErrLastAdministrator = errors.New("change: the account would have no active administrator of the whole company")
	ErrUnavailable       = errors.New("change: the database is away")
)

// Guard names a user's row and the revision of it that the decision was made on.
type Guard struct {
	UserID   user.ID
	Revision int64
	Versions []int64 // If-Match: the versions the caller accepts; nil for any
}

// ServiceGuard names the registration of a service and what of it the decision was made on.
type ServiceGuard struct {
	ClientID  string
	AccountID string   // the one it is bound to; empty: every account
	Scopes    []string // those that the token and the registration both had
}

// Claim takes a folded identifier for a user: a new one, one the user holds already, or one the user released earlier.
type Claim struct {
	Key        string
	UserID     user.ID
	AccountID  string
	IsUsername bool
	IsEmail    bool
}

// Release gives up an identifier in one of its uses. When none is left it is held until HeldUntil: only its former owner
// can take it back before.
type Release struct {
	Key       string
	UserID    user.ID
	Username  bool // it is no longer the username; else it is no longer the e-mail
	HeldUntil time.Time
}

// Free lets anybody take a held identifier from now on. It must still be held for this user.
type Free struct {
	Key    string
	UserID user.ID
}

// Rename is one line of the username history: the user is called NewUsername from At on.
type Rename struct {
	UserID      user.ID
	AccountID   string
	OldKey      string // empty at creation
	NewUsername string
	NewKey      string
	At          time.Time
	By          audit.Party
}

// EndSessions ends a user's sessions, all but one if Except is set.
type EndSessions struct {
	UserID user.ID
	Except string // session id that stays
	Only   string // session id that alone ends
	Live   bool   // and it must be live: else ErrConflict
	Why    string // sign_out, password_changed, password_reset, refresh_reused, too_many_failures, disabled, reverted, security_locked, ended_by_user, revoked
}

// Renew brings the one session that stays up to date: it belongs to the new generation, and only refresh tokens made
// with the new salt are good for it.
type Renew struct {
	SessionID    string
	Generation   int64
	RefreshSalt  string
	RefreshCount int64
	ExpiresAt    time.Time
}

// Settings replaces the policy or the naming rule of an account, if it is still of the version that the decision was made on.
type Settings struct {
	AccountID string
	Policy    *user.Policy     // and PolicyVersion+1
	Naming    *identifier.Rule // or NamingVersion+1
	Version   int64            // of the one that is replaced
	Versions  []int64          // If-Match: the versions the caller accepts; nil for any
}

// Purpose is what a mailed link is good for: a token of one purpose is nothing to another (REC-07, ASVS 6.6.2).
type Purpose string

// The purposes.
const (
	ResetPassword Purpose = "reset_password" // choose a new password
	ConfirmEmail  Purpose = "confirm_email"  // the pending address takes effect
	Revert        Purpose = "revert"         // "this wasn't me"
)

// Token is what is kept of a mailed link's token: its digest, whom and what it is for, and what it needs to know.
type Token struct {
	Digest    string // secret.Text.Digest of the token: the database opens nothing (REC-04)
	UserID    user.ID
	AccountID string
	Purpose   Purpose
	IssuedAt  time.Time
	ExpiresAt time.Time
	Facts     TokenFacts
}

// TokenFacts are what a link was made for, as it was when it was made.
type TokenFacts struct {
	Email         string `json:"email,omitempty"`          // ConfirmEmail: the new address. Revert: the one to restore
	EmailVerified bool   `json:"email_verified,omitempty"` // Revert
	Username      string `json:"username,omitempty"`       // Revert: the one to restore
}

// Void makes links of a user good for nothing.
type Void struct {
	UserID   user.ID
	Purposes []Purpose
	Since    time.Time // only those issued then or later; zero: all
}

// Redeem uses a link up: the change is saved only if the token is there, unexpired, of the user and for the purpose, and of
// any number of attempts at once one alone finds it (peers bug 2).
type Redeem struct {
	Digest  string
	UserID  user.ID
	Purpose Purpose
}

// Slot is the reservation of an Idempotency-Key: where the answer to the request that holds it belongs.
type Slot struct{ Lookup, Owner string }

// Replay keeps the answer to a request with an Idempotency-Key in the save's own transaction: a change that was made can be
// answered again, and one that was not cannot. The save fails with ErrConflict when the reservation was lost.
type Replay struct {
	Slot
	// Seal makes the sealed answer of what the save found out. It is called within the transaction, perhaps more than once:
	// it must be quick and do nothing else.
	Seal func(Result) ([]byte, error)
	// Generation is that of the acting user after the change, if it grew: a token of the one before may fetch the answer.
	Generation int64
}

// Keep is how whoever calls a use case gets the answer kept that it will give for a result T.
type Keep[T any] struct {
	Slot Slot
	Seal func(result T) ([]byte, error) // renders the answer and seals it
}

// With returns the part of a change that keeps the answer; finish makes the result of what the save finds out. A nil Keep
// keeps none.
func (k *Keep[T]) With(finish func(Result) T) *Replay {
	if k == nil {
		return nil
	}
	return &Replay{Slot: k.Slot, Seal: func(found Result) ([]byte, error) { return k.Seal(finish(found)) }}
}

// Change is one save. The zero value of each part means that there is nothing of it to write.
type Change struct {
	At      time.Time
	Actor   *Guard        // the acting user's row must still be of this revision (role, team and status included)
	Service *ServiceGuard // the acting service must still be enabled, with no less than these scopes and for the same accounts
	Target  *Guard        // and so must the changed user's, or the one that the change was decided by
	User    *user.User    // the new state of Target's row; the store sets Revision+1
	Create  *user.User    // a new user; its names are claims and a rename
	Release []Release
	Claim   []Claim
	Free    *Free
	Rename  *Rename
	End     *EndSessions
	Renew   *Renew
	Forgive []string // throttle keys whose failures are over
	Redeem  *Redeem  // the link that allows the change
	Void    []Void   // before Tokens are added
	Tokens  []Token
	Outbox  []outbox.Message
	GiveUp  *outbox.Claimed // a message that is not tried again
	Account *Settings
	Job     *NewJob
	Settle  *Settle
	EndJob  *EndJob
	HandOut *HandOut
	Replay  *Replay
	Audit   []audit.Event

	// KeepAdministrator names an account that must have an active administrator of the whole company beside Target, whom the
	// change may take from them.
	KeepAdministrator string
}

// Voided adds that links of the user are good for nothing after the change; those it adds itself are not meant.
func (c *Change) Voided(id user.ID, purposes ...Purpose) {
	c.Void = append(c.Void, Void{UserID: id, Purposes: purposes})
}

// Result is what a save found out.
type Result struct {
	SessionsEnded int
	Revision      int64       // of Target's row after the save
	Job           audit.Items // of the job that was ended
	Heard         []Heard
}

// Heard is a stream of another service on which events of the change wait to be delivered.
type Heard struct {
	StreamID string
	Push     bool
}

// FieldError is what is wrong with one member of a request.
type FieldError struct {
	Pointer string // JSON pointer to the member, as in "/new_password"
	Code    string
	Detail  string // guidance for people; never the value
}

// RejectedError says which members of a request cannot be accepted, all of them at once. Policy tells rules for
// passwords and usernames from everything else.
type RejectedError struct {
	Policy bool
	Fields []FieldError
}

// Error names the members and codes, never a value.
func (e *RejectedError) Error() string {
	var text strings.Builder
	text.WriteString("change: rejected:")
	for _, f := range e.Fields {
		text.WriteString(" " + f.Pointer + "=" + f.Code)
	}
	return text.String()
}

// Required is the rejection of a missing or empty member.
func Required(pointer, detail string) FieldError {
	return FieldError{Pointer: pointer, Code: "required", Detail: detail}
}
