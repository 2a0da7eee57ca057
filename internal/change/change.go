// Package change describes what one save writes: a value that a use case fills in and the store applies whole or not
// at all.
//
// It is a leaf over the words of access, audit and user, so that the packages that change things need not know each other.
package change

import (
	"errors"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

// What keeps a change from being saved. Nothing of it is written then.
var (
	ErrConflict        = errors.New("change: a concurrent change won")
	ErrVersion         = errors.New("change: the credentials are no longer of a version the caller asked for")
	ErrIdentifierTaken = errors.New("change: the identifier is in use or held")
	ErrUnavailable     = errors.New("change: the database is away")
)

// Guard names a user's row and the revision of it that the decision was made on.
type Guard struct {
	UserID   user.ID
	Revision int64
	Versions []int64 // If-Match: the versions the caller accepts; nil for any
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
	Why    string // sign_out, password_changed, password_reset, refresh_reused, too_many_failures, disabled
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

// Change is one save. The zero value of each part means that there is nothing of it to write.
type Change struct {
	At      time.Time
	Actor   *Guard     // the acting user's row must still be of this revision (role, team and status included)
	Target  *Guard     // and so must the changed user's
	User    *user.User // the new state of Target's row; the store sets Revision+1
	Create  *user.User // a new user
	Release []Release
	Claim   []Claim
	Rename  *Rename
	End     *EndSessions
	Renew   *Renew
	Forgive []string // throttle keys whose failures are over
	Audit   []audit.Event
}

// Result is what a save found out.
type Result struct {
	SessionsEnded int
	Revision      int64 // of Target's row after the save
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
