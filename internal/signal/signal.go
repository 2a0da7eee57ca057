// Package signal is what other services hear: the transmitter of the OpenID Shared Signals Framework 1.0, which tells of changed
// credentials, ended sessions and renamed users in CAEP 1.0 and RISC 1.0 events.
//
// A service creates a stream and gets from then on a signed Security Event Token (SET, RFC 8417) for each event about the users
// it may hear of: it polls for them (RFC 8936) or has them pushed (RFC 8935). Of derives the events of a change; the store
// queues them for every stream that hears of them, in the transaction of the change. What is queued is delivered at least once,
// with the same jti each time, and in order for each user.
//
// It depends on packages access, audit, change, outbox, secret, throttle and user for their words, and on golang-jwt to sign; it
// names the store it needs, serves no HTTP, and pushes as an HTTP client.
package signal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

// What can be wrong with a request about a stream.
var (
	ErrNotFound = errors.New("signal: no such stream of this receiver")
	ErrExists   = errors.New("signal: the receiver has a stream already")
)

// InvalidError says what is wrong with a request, in words for the receiver's developer.
type InvalidError struct{ Detail string }

// Error returns the detail.
func (e *InvalidError) Error() string { return "signal: invalid: " + e.Detail }

func invalid(format string, values ...any) error {
	return &InvalidError{fmt.Sprintf(format, values...)}
}

// Method is how the events of a stream are delivered, named as SSF 1.0 section 6.1 does.
type Method string

// The delivery methods.
const (
	Push Method = "urn:ietf:rfc:8935"
	Poll Method = "urn:ietf:rfc:8936"
)

// Status tells whether a stream delivers (SSF 1.0 section 8.1.2).
type Status string

// The statuses. A paused stream holds its events, a disabled one drops them.
const (
	Enabled  Status = "enabled"
	Paused   Status = "paused"
	Disabled Status = "disabled"
)

// Bounds of what a receiver can set.
const (
	maxEndpoint    = 2048 // bytes of a URL
	maxHeader      = 4096 // bytes of an Authorization header
	maxDescription = 200  // code points
	maxReason      = 200  // code points
	maxRequested   = 100  // event types
	maxState       = 1024 // bytes of the state of a verification
)

// Stream is what a receiver hears, and how.
type Stream struct {
	ID            string
	ClientID      string // whose stream it is; one each
	Audience      string // aud of its SETs
	Method        Method
	Endpoint      string      // of a push: where to
	Authorization secret.Text // of a claimed push: the Authorization header to send; nobody else reads it
	Requested     []string    // event types; nil: all that are supported
	Description   string
	Status        Status
	Reason        string // of the status
	CreatedAt     time.Time
	Revision      int64 // grows with every change that the receiver or the operator makes

	// How pushing goes. A success sets it back.
	Failures  int        // in a row
	ResumeAt  *time.Time // nothing is pushed before
	LastError string
}

// Delivered returns the event types that the stream delivers: the requested ones that are supported.
func (s Stream) Delivered() []string {
	supported := Supported()
	if s.Requested == nil {
		return supported
	}
	return slices.DeleteFunc(supported, func(kind string) bool { return !slices.Contains(s.Requested, kind) })
}

// Delivery is one event on its way to one stream.
type Delivery struct {
	Sequence  int64 // in the order of the changes
	JTI       string
	StreamID  string
	Subject   string // what the order is kept for: a user id, or one of the two below
	Type      string
	AccountID string
	SessionID string
	Txn       string
	Claims    []byte // JSON
	CreatedAt time.Time
	Attempts  int    // this one included
	Lease     string // of a push: proves who delivers it
	DeadAt    *time.Time
	DeadWhy   string
}

// Subjects of events about the stream itself: neither is a user id.
const (
	aboutVerification = "~verification"
	aboutStatus       = "~status"
)

// AboutStream tells whether the event is about the stream itself.
func (d Delivery) AboutStream() bool {
	return d.Subject == aboutVerification || d.Subject == aboutStatus
}

// Rule says whether a stream hears of an account's users, or of one user. The rule about a user outweighs the one about its
// account, and that the one about EveryAccount. Without a rule a stream hears of everybody that its receiver may see.
type Rule struct {
	AccountID string // or EveryAccount
	UserID    user.ID
	Included  bool
}

// EveryAccount stands for all accounts, as in the account_id of an access token.
const EveryAccount = "*"

// Saving is a change of a stream, saved whole or not at all if the stream is still of the Revision that it was made on.
type Saving struct {
	Stream Stream
	Header *secret.Text // the Authorization header to push with from now on; nil: as before
	Drop   bool         // forget what waits to be delivered
	Tell   []Delivery   // then queue these
	Event  audit.Event
}

// PushResult is what came of pushing a claimed Delivery.
type PushResult struct {
	Delivery Delivery
	Outcome  Outcome
	Why      string    // of a refusal or a postponement; never a secret
	Retry    time.Time // when to try a postponed one again
	Rest     time.Time // until when the receiver wants to be left alone altogether; zero: it did not say
}

// Outcome is what came of handing an event to a receiver, for metrics.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered"
	Postponed Outcome = "postponed" // it will be tried again
	Refused   Outcome = "refused"   // it is a dead letter now
)

// Store keeps streams and what waits to be delivered on them. ErrNotFound when there is no such stream.
type Store interface {
	// CreateStream adds a stream. ErrExists when the client has one.
	CreateStream(ctx context.Context, s Saving) error
	// Stream finds a stream.
	Stream(ctx context.Context, id string) (Stream, error)
	// StreamOf finds the stream of a client.
	StreamOf(ctx context.Context, clientID string) (Stream, error)
	// SaveStream applies a Saving. change.ErrConflict when the stream was changed meanwhile.
	SaveStream(ctx context.Context, s Saving) error
	// DeleteStream forgets a stream with all that belongs to it.
	DeleteStream(ctx context.Context, id string, event audit.Event) error
	// SetRule adds a rule to a stream, or replaces the one about the same users.
	SetRule(ctx context.Context, id string, r Rule, event audit.Event) error
	// AccountOf finds the account of a user, or "" when there is no such user.
	AccountOf(ctx context.Context, id user.ID) (string, error)
	// HasAccount tells whether there is such an account.
	HasAccount(ctx context.Context, id string) (bool, error)
	// Verify queues a verification unless one was queued after since. It returns when the last one was, zero for never, and
	// whether it has queued this one.
	Verify(ctx context.Context, d Delivery, since time.Time) (last time.Time, queued bool, err error)

	// Handout returns up to limit events that a stream can be handed now, the oldest first and no two of one subject, and whether
	// there are more. A stream that is not enabled gets none but those about its status.
	Handout(ctx context.Context, id string, limit int) (handed []Delivery, more bool, err error)
	// SettlePoll forgets acknowledged events and makes dead letters of those that the receiver refused, with the reason. It
	// returns them as they were; unknown ones are passed over.
	SettlePoll(ctx context.Context, id string, acknowledged []string, refused map[string]string, now time.Time) ([]Delivery, error)
	// Fillable returns those of the streams for which Handout would return something.
	Fillable(ctx context.Context, ids []string) ([]string, error)

	// Pushable returns the streams that have something to be pushed now.
	Pushable(ctx context.Context, now time.Time) ([]string, error)
	// ClaimPushes leases up to limit events of a stream until the given time, no two of one subject: one alone while pushing
	// fails, and none before its time of rest is over, or while its client is disabled.
	ClaimPushes(ctx context.Context, id string, now, until time.Time, limit int) (Stream, []Delivery, error)
	// SettlePushes writes down what came of events claimed together.
	SettlePushes(ctx context.Context, s Stream, results []PushResult, now time.Time) error

	// Commit saves a change whole or not at all.
	Commit(ctx context.Context, c change.Change) (change.Result, error)
	// OverdueStreams returns the streams that deliver, or hold, something that was queued before the given time.
	OverdueStreams(ctx context.Context, before time.Time) ([]Stream, error)
}
