package signal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// MinVerificationInterval is how long a receiver waits between two verifications that it asks for.
const MinVerificationInterval = 30 * time.Second

// Config are a Transmitter's settings.
type Config struct {
	Issuer    string        // of SETs
	Insecure  bool          // whether http on loopback is taken as a push endpoint: development
	PollWait  time.Duration // how long a poll waits for an event
	Retention time.Duration // how long an event waits for its receiver before the stream is disabled
	Report    Report
	Now       func() time.Time
}

// Transmitter lets receivers manage their streams, and hands out the events of those that poll. Every change and refusal is
// in the audit trail.
type Transmitter struct {
	config Config
	store  Store
	ring   *Ring
	signer *Signer
	hub    *Hub
}

// New returns a Transmitter.
func New(config Config, store Store, ring *Ring, hub *Hub) *Transmitter {
	return &Transmitter{config: config, store: store, ring: ring, signer: NewSigner(config.Issuer, ring), hub: hub}
}

// Wanted is what a receiver asks of its stream. A nil member stays as it is, or is taken away by a replacement.
type Wanted struct {
	Delivery    *WantedDelivery
	Requested   []string
	Description *string
	Echo        Echo
}

// WantedDelivery is how a receiver wants to get events.
type WantedDelivery struct {
	Method        Method
	Endpoint      *string
	Authorization *secret.Text
}

// Echo is what a receiver sends back of what the transmitter decides. Whatever is there must be right (SSF 1.0 section 8.1.1.3).
type Echo struct {
	Issuer                  *string
	Audience                *string
	Supported               []string
	Delivered               []string
	MinVerificationInterval *int
}

// Create makes the receiver's stream. *InvalidError, ErrExists.
func (t *Transmitter) Create(ctx context.Context, actor access.Actor, wanted Wanted, origin access.Origin) (Stream, error) {
	now := t.config.Now()
	s := Stream{
		ID: uuid.NewString(), ClientID: actor.ClientID, Audience: actor.ClientID, Method: Poll, Status: Enabled, CreatedAt: now, Revision: 1,
	}
	header, err := t.apply(&s, wanted, true)
	if err == nil {
		err = t.ring.Ensure(ctx) // published before the first event
	}
	if err == nil {
		err = t.store.CreateStream(ctx, Saving{Stream: s, Header: header, Event: t.event(actor, s.ID, origin, audit.StreamCreated, changedBy(wanted)...)})
	}
	if err != nil {
		return Stream{}, t.refuse(ctx, actor, "", origin, err)
	}
	return s, nil
}

// List returns the receiver's streams: one or none.
func (t *Transmitter) List(ctx context.Context, actor access.Actor) ([]Stream, error) {
	s, err := t.store.StreamOf(ctx, actor.ClientID)
	if errors.Is(err, ErrNotFound) {
		return []Stream{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signal: list streams: %w", err)
	}
	return []Stream{s}, nil
}

// Get finds a stream of the receiver's own. Another's is ErrNotFound like one that does not exist.
func (t *Transmitter) Get(ctx context.Context, actor access.Actor, id string) (Stream, error) {
	s, err := t.store.Stream(ctx, id)
	if err == nil && s.ClientID != actor.ClientID {
		err = ErrNotFound
	}
	if err != nil {
		return Stream{}, fmt.Errorf("signal: find a stream: %w", err)
	}
	return s, nil
}

// Change changes what wanted names of a stream, or with replace all that the receiver can set. ErrNotFound, *InvalidError,
// change.ErrConflict.
func (t *Transmitter) Change(ctx context.Context, actor access.Actor, id string, wanted Wanted, replace bool, origin access.Origin) (Stream, error) {
	s, err := t.Get(ctx, actor, id)
	var header *secret.Text
	if err == nil {
		header, err = t.apply(&s, wanted, replace)
	}
	if err == nil {
		s.Failures, s.ResumeAt, s.LastError = 0, nil, "" // it may be right now
		err = t.store.SaveStream(ctx, Saving{Stream: s, Header: header, Event: t.event(actor, id, origin, audit.StreamChanged, changedBy(wanted)...)})
	}
	if err != nil {
		return Stream{}, t.refuse(ctx, actor, id, origin, err)
	}
	s.Revision++
	return s, nil
}

// Delete deletes a stream, and what waits on it. ErrNotFound.
func (t *Transmitter) Delete(ctx context.Context, actor access.Actor, id string, origin access.Origin) error {
	_, err := t.Get(ctx, actor, id)
	if err == nil {
		err = t.store.DeleteStream(ctx, id, t.event(actor, id, origin, audit.StreamDeleted))
	}
	if err != nil {
		return t.refuse(ctx, actor, id, origin, err)
	}
	t.wake(id) // who polls it learns that it is gone
	return nil
}

// SetStatus enables, pauses or disables a stream for its receiver. ErrNotFound, *InvalidError, change.ErrConflict.
func (t *Transmitter) SetStatus(ctx context.Context, actor access.Actor, id string, status Status, reason string, origin access.Origin) (Stream, error) {
	s, err := t.Get(ctx, actor, id)
	switch {
	case err != nil:
	case !slices.Contains([]Status{Enabled, Paused, Disabled}, status):
		err = invalid("status must be enabled, paused or disabled.")
	default:
		err = checkText("reason", reason, maxReason)
	}
	if err == nil {
		var drop bool
		s, drop = s.to(status, reason)
		err = t.store.SaveStream(ctx, Saving{Stream: s, Drop: drop, Event: t.event(actor, id, origin, audit.StreamChanged, "status "+string(status))})
	}
	if err != nil {
		return Stream{}, t.refuse(ctx, actor, id, origin, err)
	}
	t.wake(id)
	return s, nil
}

// Include adds users to a stream, or removes them. Users that the receiver may not hear of, and those that do not exist, are
// passed over in silence (SSF 1.0 section 9.1). ErrNotFound.
func (t *Transmitter) Include(ctx context.Context, actor access.Actor, id string, r Rule, origin access.Origin) error {
	err := t.include(ctx, actor, id, r, origin)
	if err != nil {
		return t.refuse(ctx, actor, id, origin, err)
	}
	return nil
}

func (t *Transmitter) include(ctx context.Context, actor access.Actor, id string, r Rule, origin access.Origin) error {
	if _, err := t.Get(ctx, actor, id); err != nil {
		return err
	}
	r, known, err := t.known(ctx, actor, r)
	if err != nil {
		return fmt.Errorf("signal: find a subject: %w", err)
	}
	if !known {
		return nil
	}
	verb, what := "removed", "account "+r.AccountID
	if r.Included {
		verb = "added"
	}
	if r.UserID != "" {
		what = "user " + string(r.UserID)
	}
	return t.store.SetRule(ctx, id, r, t.event(actor, id, origin, audit.StreamChanged, verb+" "+what))
}

// known completes a rule, and tells whether it is about somebody the receiver may hear of.
func (t *Transmitter) known(ctx context.Context, actor access.Actor, r Rule) (Rule, bool, error) {
	switch {
	case r.UserID != "":
		account, err := t.store.AccountOf(ctx, r.UserID)
		wanted := r.AccountID
		r.AccountID = account
		return r, account != "" && actor.SeesAccount(account) && (wanted == "" || wanted == account), err
	case r.AccountID == EveryAccount:
		return r, true, nil
	case !user.ID(r.AccountID).Valid() || !actor.SeesAccount(r.AccountID): // accounts are named like users
		return r, false, nil
	}
	there, err := t.store.HasAccount(ctx, r.AccountID)
	return r, there, err
}

// Verify queues a verification that echoes state; nil for none. ErrNotFound, *InvalidError, *throttle.DelayedError when the last
// one is too recent.
func (t *Transmitter) Verify(ctx context.Context, actor access.Actor, id string, state *string) error {
	s, err := t.Get(ctx, actor, id)
	if err != nil {
		return err
	}
	if state != nil && len(*state) > maxState {
		return invalid("state must have at most %d bytes.", maxState)
	}
	now := t.config.Now()
	last, queued, err := t.store.Verify(ctx, verification(s, state, now), now.Add(-MinVerificationInterval))
	if err != nil {
		return fmt.Errorf("signal: verify: %w", err)
	}
	if !queued {
		return &throttle.DelayedError{RetryAfter: max(last.Add(MinVerificationInterval).Sub(now), time.Second)}
	}
	t.wake(id)
	return nil
}

// Expire disables the streams whose receivers have let an event wait for longer than it is kept, and tells them.
func (t *Transmitter) Expire(ctx context.Context) error {
	now := t.config.Now()
	streams, err := t.store.OverdueStreams(ctx, now.Add(-t.config.Retention))
	if err != nil {
		return fmt.Errorf("signal: find overdue streams: %w", err)
	}
	for _, s := range streams {
		reason := fmt.Sprintf("Events have waited for more than %.0f hours. All that waited are dropped.", t.config.Retention.Hours())
		saving := statusSet(s, Disabled, reason, now)
		saving.Event = t.event(access.Actor{}, s.ID, access.Origin{}, audit.StreamChanged, "status "+string(Disabled))
		if err := t.store.SaveStream(ctx, saving); err != nil && !errors.Is(err, change.ErrConflict) && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("signal: disable an overdue stream: %w", err)
		}
		t.wake(s.ID)
	}
	return nil
}

// wake wakes whoever delivers the stream.
func (t *Transmitter) wake(id string) { t.hub.Wake(change.Heard{StreamID: id, Push: true}) }

// to is the stream with another status, and whether what waits on it is dropped: what a disabled stream still holds would be overdue
// when it is enabled, and disable it again. An enabled one delivers at once, whatever the receiver was like before.
func (s Stream) to(status Status, reason string) (_ Stream, drop bool) {
	drop = status == Disabled || s.Status == Disabled
	if status == Enabled {
		s.Failures, s.ResumeAt, s.LastError = 0, nil, ""
	}
	s.Status, s.Reason = status, reason
	return s, drop
}

// statusSet is the transmitter's own change of a status: it is told before anything else (SSF 1.0 section 8.1.5).
func statusSet(s Stream, status Status, reason string, now time.Time) Saving {
	s, drop := s.to(status, reason)
	claims := struct {
		Status Status `json:"status"`
		Reason string `json:"reason,omitempty"`
	}{status, reason}
	return Saving{Stream: s, Drop: drop, Tell: []Delivery{aboutItself(s, aboutStatus, StreamUpdated, claims, now)}}
}

func verification(s Stream, state *string, now time.Time) Delivery {
	claims := struct {
		State *string `json:"state,omitempty"`
	}{state}
	return aboutItself(s, aboutVerification, Verification, claims, now)
}

func aboutItself(s Stream, subject, kind string, claims any, now time.Time) Delivery {
	encoded, _ := json.Marshal(claims) // two strings: it cannot fail
	return Delivery{JTI: NewJTI(), StreamID: s.ID, Subject: subject, Type: kind, Claims: encoded, CreatedAt: now}
}

// NewJTI returns the id of a new SET.
func NewJTI() string { return uuid.Must(uuid.NewV7()).String() }

// apply puts what the receiver wants into its stream, or says what is wrong with it. It returns the header to push with, nil to
// keep the one there is.
func (t *Transmitter) apply(s *Stream, w Wanted, replace bool) (header *secret.Text, err error) {
	if err := t.checkEcho(*s, w.Echo); err != nil {
		return nil, err
	}
	if w.Delivery != nil || replace {
		if header, err = t.deliverBy(s, w.Delivery); err != nil {
			return nil, err
		}
	}
	if w.Requested != nil || replace {
		if len(w.Requested) > maxRequested || w.Requested != nil && len(w.Requested) == 0 {
			return nil, invalid("events_requested must name 1 to %d event types. Leave it out to get all.", maxRequested)
		}
		s.Requested = w.Requested
	}
	if w.Description != nil || replace {
		s.Description = ""
		if w.Description != nil {
			s.Description = *w.Description
		}
		return header, checkText("description", s.Description, maxDescription)
	}
	return header, nil
}

func (t *Transmitter) deliverBy(s *Stream, w *WantedDelivery) (header *secret.Text, err error) {
	if w == nil {
		w = &WantedDelivery{Method: Poll}
	}
	switch w.Method {
	case Poll:
		if w.Endpoint != nil && *w.Endpoint != t.PollEndpoint(s.ID) {
			return nil, invalid("delivery.endpoint_url of a polled stream is given by the transmitter: leave it out.")
		}
		if w.Authorization != nil {
			return nil, invalid("delivery.authorization_header goes with %s only.", Push)
		}
		s.Method, s.Endpoint = Poll, ""
		return &secret.Text{}, nil
	case Push:
		return t.pushTo(s, w)
	}
	return nil, invalid("delivery.method must be %s or %s.", Push, Poll)
}

func (t *Transmitter) pushTo(s *Stream, w *WantedDelivery) (header *secret.Text, err error) {
	if w.Endpoint == nil {
		return nil, invalid("delivery.endpoint_url is missing: give the URL that events are pushed to.")
	}
	if err := checkEndpoint(*w.Endpoint, t.config.Insecure); err != nil {
		return nil, err
	}
	if w.Authorization != nil {
		if err := checkHeader(*w.Authorization); err != nil {
			return nil, err
		}
	}
	header = w.Authorization
	if header == nil && s.Endpoint != *w.Endpoint { // it is not shown, and cannot be sent back; but a secret does not move to another endpoint
		header = &secret.Text{}
	}
	s.Method, s.Endpoint = Push, *w.Endpoint
	return header, nil
}

func (t *Transmitter) checkEcho(s Stream, e Echo) error {
	for _, member := range []struct {
		name  string
		right bool
	}{
		{"iss", e.Issuer == nil || *e.Issuer == t.config.Issuer},
		{"aud", e.Audience == nil || *e.Audience == s.Audience},
		{"events_supported", e.Supported == nil || same(e.Supported, Supported())},
		{"events_delivered", e.Delivered == nil || same(e.Delivered, s.Delivered())},
		{"min_verification_interval", e.MinVerificationInterval == nil || *e.MinVerificationInterval == int(MinVerificationInterval.Seconds())},
	} {
		if !member.right {
			return invalid("%s is decided by the transmitter, and is not what was sent. Leave it out, or send it as it was read.", member.name)
		}
	}
	return nil
}

func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// PollEndpoint is where a stream is polled: of its own, since a receiver could have several (SSF 1.0 section 6.1.2).
func (t *Transmitter) PollEndpoint(id string) string {
	return t.config.Issuer + "/ssf/streams/" + id + "/poll"
}

func checkText(member, text string, most int) error {
	if utf8.RuneCountInString(text) > most {
		return invalid("%s must have at most %d characters.", member, most)
	}
	if strings.ContainsRune(text, 0) { // no database text holds it
		return invalid("%s must not hold the character U+0000.", member)
	}
	return nil
}

// checkHeader refuses what cannot be the value of a header field (RFC 9110 section 5.5).
func checkHeader(value secret.Text) error {
	text := value.Reveal()
	unfit := strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f || r > 0x7e })
	if len(text) > maxHeader || unfit || strings.TrimSpace(text) != text {
		return invalid("delivery.authorization_header must be one line of at most %d ASCII characters.", maxHeader)
	}
	return nil
}

// changedBy names what a request changes, for the audit trail.
func changedBy(w Wanted) []string {
	var names []string
	for name, given := range map[string]bool{"delivery": w.Delivery != nil, "events_requested": w.Requested != nil, "description": w.Description != nil} {
		if given {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (t *Transmitter) event(actor access.Actor, id string, origin access.Origin, action audit.Action, changed ...string) audit.Event {
	return eventOf(actor, id, origin, action, audit.Done, t.config.Now(), changed...)
}

func eventOf(actor access.Actor, id string, origin access.Origin, action audit.Action, outcome audit.Outcome, at time.Time, changed ...string) audit.Event {
	event := audit.New(action, outcome, actor, user.User{AccountID: actor.ClientAccount}, origin, at)
	if id != "" {
		event.Target = audit.Party{Kind: audit.StreamKind, ID: id}
	}
	event.Details.Changed = changed
	return event
}

// refuse records why a stream was not changed and returns cause.
func (t *Transmitter) refuse(ctx context.Context, actor access.Actor, id string, origin access.Origin, cause error) error {
	code := ""
	if _, wrong := errors.AsType[*InvalidError](cause); wrong {
		code = "malformed_request"
	}
	for _, known := range []struct {
		err  error
		code string
	}{{ErrNotFound, "not_found"}, {ErrExists, "stream_exists"}, {change.ErrConflict, "conflict"}} {
		if errors.Is(cause, known.err) {
			code = known.code
		}
	}
	if code == "" { // a fault of ours, not a refusal
		return cause
	}
	if uuid.Validate(id) != nil {
		id = ""
	}
	event := eventOf(actor, id, origin, audit.StreamRefused, audit.Refused, t.config.Now())
	event.Details.Code = code
	return errors.Join(cause, t.record(ctx, event))
}

func (t *Transmitter) record(ctx context.Context, event audit.Event) error {
	_, err := t.store.Commit(context.WithoutCancel(ctx), change.Change{At: event.At, Audit: []audit.Event{event}})
	if err != nil {
		return fmt.Errorf("signal: record a refusal: %w", err)
	}
	return nil
}
