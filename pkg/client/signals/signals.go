// Package signals lets another service hear what happens to credentials: it takes the Security Event Tokens (SETs, RFC 8417) of the
// SalesExec credentials service, by polling or push, verifies them and hands their events on.
//
// A Verifier checks one SET. A Poller asks a stream for SETs (RFC 8936), a Receiver is the http.Handler that they are pushed to (RFC
// 8935). A View is a handler of events that remembers what was revoked; it is a bearer.Revocations, so that a service refuses dead
// access tokens without asking anybody.
//
// It depends on package client, golang.org/x/sync and github.com/golang-jwt/jwt/v5, so that other services can import it.
package signals

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The event types that the credentials service sends.
const (
	CredentialChange     = "https://schemas.openid.net/secevent/caep/event-type/credential-change" //nolint:gosec // a name, not a secret
	SessionRevoked       = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	ChangeRequired       = "https://schemas.openid.net/secevent/risc/event-type/account-credential-change-required"
	AccountDisabled      = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
	AccountEnabled       = "https://schemas.openid.net/secevent/risc/event-type/account-enabled"
	RecoveryChanged      = "https://schemas.openid.net/secevent/risc/event-type/recovery-information-changed"
	RecoveryActivated    = "https://schemas.openid.net/secevent/risc/event-type/recovery-activated"
	CredentialCompromise = "https://schemas.openid.net/secevent/risc/event-type/credential-compromise" //nolint:gosec // likewise
	UsernameChanged      = "urn:salesexec:secevent:event-type:username-changed"
	Verification         = "https://schemas.openid.net/secevent/ssf/event-type/verification"
	StreamUpdated        = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"
)

// Event is what a verified SET says.
type Event struct {
	ID        string // jti: the same when the event is delivered again
	Type      string
	Txn       string    // shared by the events of one change
	IssuedAt  time.Time // to the second
	UserID    string    // whom it is about; empty when it is about the stream
	SessionID string    // when it is about one session of the user alone
	AccountID string    // where the subject names it
	StreamID  string    // when it is about the stream itself
	Claims    json.RawMessage
}

// Rename is what a UsernameChanged says.
type Rename struct {
	UserID      string    `json:"user_id"`
	AccountID   string    `json:"account_id"`
	OldUsername string    `json:"old_username"`
	NewUsername string    `json:"new_username"`
	Version     int64     `json:"version"`    // of two renames of a user the later has the higher one
	ChangedAt   time.Time `json:"changed_at"` // to the microsecond
}

// Rename reads the claims of a UsernameChanged; of any other event it is an error.
func (e Event) Rename() (Rename, error) {
	var r Rename
	if e.Type != UsernameChanged {
		return r, fmt.Errorf("signals: %s is no rename", e.Type)
	}
	if err := json.Unmarshal(e.Claims, &r); err != nil {
		return Rename{}, fmt.Errorf("signals: read a rename: %w", err)
	}
	return r, nil
}

// Handler is told of an event. When it returns an error the event is delivered again, later. An event that was handled is not handed
// on again for as long as the process remembers it; since a process forgets when it ends, handling one twice must be harmless.
type Handler func(ctx context.Context, e Event) error

// ErrUnavailable says that a SET cannot be judged yet: its key could not be fetched, or the clock here is behind.
var ErrUnavailable = errors.New("signals: the event cannot be verified yet")

// RefusedError says why a SET is not taken: delivering it again would not help.
type RefusedError struct {
	Code string // of RFC 8935 section 2.4: invalid_request, invalid_key, invalid_issuer or invalid_audience
	Why  string // never holds anything of the SET
}

// Error returns code and reason.
func (e *RefusedError) Error() string { return "signals: refused: " + e.Code + ": " + e.Why }

func refuse(code, why string) error { return &RefusedError{Code: code, Why: why} }
