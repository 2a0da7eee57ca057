// Package outbox holds messages that wait to leave the service, and the relay that sees them off.
//
// A message is written in the transaction of the change it tells of, so that there is never one without the other, and
// delivered afterwards: at least once, by whichever replica claims it. It is a leaf: it depends on packages secret and user
// for their words alone, and knows nothing of how a message travels.
package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

// Topic tells who delivers a message.
type Topic string

// Mail is the topic of notices and links to people.
const Mail Topic = "mail"

// Message waits to leave.
type Message struct {
	ID        string // one for each event and receiver: a second message with the same id is not added
	Topic     Topic
	AccountID string
	UserID    user.ID     // whom it is about
	Kind      string      // what it is, for logs and metrics; never a secret
	Body      secret.Text // what the topic's deliverer reads; sealed in the database, since it may hold a link
	At        time.Time   // when it was written
	GiveUpAt  time.Time   // from then on it is not worth delivering
}

// Claimed is a message that the holder of the lease alone delivers, until the lease ends.
type Claimed struct {
	Message
	Attempts int    // this one included
	Lease    string // proves who holds it
}

// Store keeps the messages.
type Store interface {
	// ClaimMessages leases up to limit messages of a topic that are due at now until the given time, the oldest first.
	ClaimMessages(ctx context.Context, topic Topic, now, until time.Time, limit int) ([]Claimed, error)
	// RemoveMessage forgets a message that was delivered. One whose lease somebody else holds by now stays.
	RemoveMessage(ctx context.Context, claimed Claimed) error
	// PostponeMessage ends the lease and lets the message be claimed again from the given time on.
	PostponeMessage(ctx context.Context, claimed Claimed, from time.Time) error
}

// ErrUndeliverable says that trying again is of no use: the receiver's side has refused the message for good.
var ErrUndeliverable = errors.New("outbox: the message cannot be delivered")
