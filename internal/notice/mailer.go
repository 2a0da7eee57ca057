package notice

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/outbox"
)

// Transport takes mails to their receivers.
type Transport interface {
	// Send hands a mail over. An error that is outbox.ErrUndeliverable is final; after any other it may be sent again, with
	// the same ID.
	Send(ctx context.Context, mail Mail) error
}

// Mailer delivers the messages of the topic outbox.Mail.
type Mailer struct {
	transport Transport
	links     Links
	now       func() time.Time
}

// NewMailer returns a Mailer that sends through the transport.
func NewMailer(transport Transport, links Links, now func() time.Time) *Mailer {
	return &Mailer{transport: transport, links: links, now: now}
}

// Deliver renders the notice in a message and sends it. Its errors are the transport's; a message that cannot be read or
// rendered is tried again like one that could not be sent, since another replica may be newer and know it.
func (m *Mailer) Deliver(ctx context.Context, message outbox.Message) error {
	var n Notice
	if err := json.Unmarshal([]byte(message.Body.Reveal()), &n); err != nil {
		return fmt.Errorf("notice: a message of the kind %s cannot be read: %T", message.Kind, err) // the error could repeat what it holds
	}
	mail, err := Render(n, m.links)
	if err != nil {
		return err
	}
	mail.ID, mail.At = message.ID, m.now()
	return m.transport.Send(ctx, mail)
}
