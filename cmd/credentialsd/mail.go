package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// transport returns what mail leaves by: the SMTP server of the settings, else the mailbox of dev, else nothing.
func (w wiring) transport() notice.Transport {
	if smtp := w.settings.SMTP; smtp != nil {
		public, _ := url.Parse(w.settings.PublicURL) // was read by config
		return notice.NewSMTP(notice.SMTPConfig{
			Host: smtp.Host, Port: smtp.Port, ImplicitTLS: smtp.ImplicitTLS, Username: smtp.Username, Password: smtp.Password,
			CAs: smtp.CAs, From: smtp.From, Hello: public.Hostname(),
		})
	}
	if w.mailbox != nil {
		return w.mailbox
	}
	return nil
}

// post delivers the mails of the outbox.
type post struct {
	relay *outbox.Relay
	one   sync.Mutex // at a time: a flush that follows another finds nothing that the other has taken and not delivered
}

// newPost returns what delivers mails, or nil when there is nothing to deliver them by.
func newPost(w wiring, m *metrics) *post {
	transport := w.transport()
	if transport == nil {
		return nil
	}
	mailer := notice.NewMailer(transport, notice.Links{PublicURL: w.settings.PublicURL, AccountURL: w.settings.AccountURL}, w.now)
	m.registry.MustRegister(newBacklog(w.store, w.now))
	return &post{relay: outbox.NewRelay(outbox.RelayConfig{
		Topic: outbox.Mail, Store: w.store, Deliver: mailer.Deliver, Now: w.now, Log: w.log,
		GiveUp: func(ctx context.Context, claimed outbox.Claimed, cause error) error {
			return giveUp(ctx, w.store, claimed, cause, w.now())
		},
		Observe: m.delivered,
	})}
}

// flush delivers what is due, and returns when nothing is left or the context is over.
func (p *post) flush(ctx context.Context) error {
	p.one.Lock()
	defer p.one.Unlock()
	return p.relay.Flush(ctx)
}

// mails shows the mailbox of dev, with all that finished requests have caused; nil where there is none.
func (w wiring) mails(outgoing *post) func(context.Context) ([]notice.Mail, error) {
	if w.mailbox == nil {
		return nil
	}
	return func(ctx context.Context) ([]notice.Mail, error) {
		if err := outgoing.flush(ctx); err != nil {
			return nil, err
		}
		return w.mailbox.Mails()
	}
}

// giveUp removes a message and records that the user was not told, both or neither. When another replica holds the message
// by now, it is that one's to decide.
func giveUp(ctx context.Context, s *store.Store, claimed outbox.Claimed, cause error, now time.Time) error {
	about := user.User{ID: claimed.UserID, AccountID: claimed.AccountID}
	member, err := s.Member(ctx, claimed.UserID)
	switch {
	case err == nil:
		about = member.User
	case !errors.Is(err, session.ErrNotFound):
		return fmt.Errorf("give up a message: %w", err)
	}
	event := audit.New(audit.NoticeGivenUp, audit.Refused, access.Actor{}, about, access.Origin{}, now)
	event.Details.Notice, event.Details.Code = claimed.Kind, "refused"
	if cause == nil {
		event.Details.Code = "expired"
	}
	_, err = s.Commit(ctx, change.Change{At: now, GiveUp: &claimed, Audit: []audit.Event{event}})
	if err != nil && !errors.Is(err, change.ErrConflict) {
		return fmt.Errorf("give up a message: %w", err)
	}
	return nil
}

// delivered counts an attempt to deliver a message.
func (m *metrics) delivered(topic outbox.Topic, kind string, outcome outbox.Outcome) {
	m.messages.WithLabelValues(string(topic), kind, string(outcome)).Inc()
}

// backlog measures what waits in the outbox, whenever it is asked. While the database is away it says nothing.
type backlog struct {
	store   *store.Store
	now     func() time.Time
	waiting *prometheus.Desc
	oldest  *prometheus.Desc
}

func newBacklog(s *store.Store, now func() time.Time) *backlog {
	return &backlog{
		store: s, now: now,
		waiting: prometheus.NewDesc("credentials_messages_waiting", "Messages that wait to be delivered.", []string{"topic"}, nil),
		oldest:  prometheus.NewDesc("credentials_messages_oldest_seconds", "How long the oldest waiting message has waited; 0 if none does.", []string{"topic"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (b *backlog) Describe(to chan<- *prometheus.Desc) { to <- b.waiting; to <- b.oldest }

// backlogTime bounds the look into the outbox: a scrape does not wait for a slow database.
const backlogTime = 2 * time.Second

// Collect implements prometheus.Collector.
func (b *backlog) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), backlogTime)
	defer cancel()
	number, since, err := b.store.Waiting(ctx, outbox.Mail)
	if err != nil {
		return
	}
	age := 0.0
	if number > 0 {
		age = max(0, b.now().Sub(since).Seconds())
	}
	to <- prometheus.MustNewConstMetric(b.waiting, prometheus.GaugeValue, float64(number), string(outbox.Mail))
	to <- prometheus.MustNewConstMetric(b.oldest, prometheus.GaugeValue, age, string(outbox.Mail))
}
