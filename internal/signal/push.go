package signal

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/secret"
)

// Times and bounds of pushing.
const (
	// pushTime bounds one push, and pushLease how long a replica may take for what it claimed; after that another one tries.
	pushTime  = 10 * time.Second
	pushLease = 30 * time.Second
	// atOnce is how many events of a stream are claimed and pushed at a time, each of another user, and workersAtOnce how many do that
	// while there are more: a slow answer or a busy database holds up the events that were claimed together, not the next.
	atOnce        = 32
	workersAtOnce = 4
	// maxHeaders bounds those of an answer in bytes: many pushes are under way at once.
	maxHeaders = 16 << 10
	// maxAnswer bounds what is read of a receiver's answer in bytes.
	maxAnswer = 4 << 10
	// maxRest bounds what a Retry-After is believed.
	maxRest = time.Hour
)

// PusherConfig is what a Pusher is made of.
type PusherConfig struct {
	Store   Store
	Signer  *Signer
	Hub     *Hub
	Allowed []netip.Prefix // networks that are called although they are not public
	Roots   *x509.CertPool // who receivers' certificates are trusted from; nil: the system's
	Every   time.Duration  // between two looks for events that another replica queued or that are due again
	Timeout time.Duration  // of one push; 0 stands for 10 seconds
	Report  Report
	Now     func() time.Time
}

// Pusher pushes the events of all streams that want it (RFC 8935). Any number of replicas may run one: they share the work.
type Pusher struct {
	config PusherConfig
	client *http.Client

	mu      sync.Mutex
	busy    map[string]int // how many workers of this process push a stream
	workers sync.WaitGroup
}

// NewPusher returns a Pusher.
func NewPusher(config PusherConfig) *Pusher {
	config.Timeout = cmp.Or(config.Timeout, pushTime)
	dialer := &net.Dialer{Timeout: config.Timeout / 2, Control: guard(config.Allowed)}
	return &Pusher{
		config: config, busy: map[string]int{},
		client: &http.Client{
			Timeout: config.Timeout,
			Transport: &http.Transport{
				Proxy:                  nil, // a proxy would connect where the guard does not look
				DialContext:            dialer.DialContext,
				TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: config.Roots}, // RFC 8935 section 3
				TLSHandshakeTimeout:    config.Timeout / 2,
				ForceAttemptHTTP2:      true,
				MaxIdleConnsPerHost:    atOnce * workersAtOnce,
				MaxResponseHeaderBytes: maxHeaders,
				IdleConnTimeout:        time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Run pushes until the context is over, and then waits for what is under way.
func (p *Pusher) Run(ctx context.Context) {
	tick := time.NewTicker(p.config.Every)
	defer tick.Stop()
	defer p.client.CloseIdleConnections()
	defer p.workers.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.config.Hub.push:
		}
		if err := p.look(ctx); err != nil && ctx.Err() == nil {
			p.config.Report.Log.ErrorContext(ctx, "events could not be looked for", "error", err.Error())
		}
	}
}

// look starts a worker for each stream that has something to be pushed and is not being pushed already.
func (p *Pusher) look(ctx context.Context) error {
	streams, err := p.config.Store.Pushable(ctx, p.config.Now())
	if err != nil {
		return err
	}
	for _, id := range streams {
		p.work(ctx, id, 1)
	}
	return nil
}

// work starts a worker for a stream unless so many are at it.
func (p *Pusher) work(ctx context.Context, id string, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[id] >= most {
		return
	}
	p.busy[id]++
	p.workers.Go(func() {
		if err := p.drain(ctx, id); err != nil && ctx.Err() == nil {
			p.config.Report.Log.ErrorContext(ctx, "events could not be pushed", "stream", id, "error", err.Error())
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.busy[id]--; p.busy[id] == 0 {
			delete(p.busy, id)
		}
	})
}

// drain pushes what a stream has to be pushed now. What has begun is finished when the process is being stopped, or the events
// would be sent again.
func (p *Pusher) drain(ctx context.Context, id string) error {
	for ctx.Err() == nil {
		now := p.config.Now()
		s, claimed, err := p.config.Store.ClaimPushes(ctx, id, now, now.Add(pushLease), atOnce)
		if err != nil || len(claimed) == 0 {
			return err
		}
		if len(claimed) == atOnce { // more may wait; not so while pushing fails, for then one is claimed
			p.work(ctx, id, workersAtOnce)
		}
		settling := context.WithoutCancel(ctx)
		results := make([]PushResult, len(claimed))
		var running sync.WaitGroup
		for i, d := range claimed {
			running.Go(func() { results[i] = p.push(settling, s, d) })
		}
		running.Wait()
		if err := p.config.Store.SettlePushes(settling, s, results, p.config.Now()); err != nil {
			return fmt.Errorf("signal: settle pushes: %w", err)
		}
		p.report(settling, results)
	}
	return nil
}

func (p *Pusher) report(ctx context.Context, results []PushResult) {
	for _, r := range results {
		switch r.Outcome {
		case Delivered:
			p.config.Report.Observe(Delivered, p.config.Now().Sub(r.Delivery.CreatedAt))
		case Refused:
			p.config.Report.refused(ctx, r.Delivery, r.Why)
		case Postponed:
			p.config.Report.Log.WarnContext(ctx, "an event could not be pushed and will be tried again", "stream", r.Delivery.StreamID,
				"jti", r.Delivery.JTI, "attempts", r.Delivery.Attempts, "why", r.Why)
			p.config.Report.Observe(Postponed, 0)
		}
	}
}

// push sends one event and tells what came of it.
func (p *Pusher) push(ctx context.Context, s Stream, d Delivery) PushResult {
	set, err := p.config.Signer.SET(ctx, s, d)
	if err != nil {
		return p.postponed(d, "it cannot be signed: "+err.Error(), 0)
	}
	response, err := p.send(ctx, s, set)
	if err != nil {
		return p.postponed(d, reachError(err), 0)
	}
	defer func() { _ = response.Body.Close() }()                    // it was only read
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer)) // what could be read says enough
	switch status := response.StatusCode; {
	case status >= 200 && status <= 299:
		if status != http.StatusAccepted {
			p.config.Report.Log.InfoContext(ctx, "a receiver took an event with another status than 202", "stream", s.ID, "status", status)
		}
		return PushResult{Delivery: d, Outcome: Delivered}
	case status == http.StatusTooManyRequests || status >= 500:
		return p.postponed(d, "answer "+strconv.Itoa(status), p.rest(response.Header.Get("Retry-After")))
	default:
		return PushResult{Delivery: d, Outcome: Refused, Why: strings.NewReplacer(secretsOf(s.Authorization)...).Replace(refusalOf(status, response.Header.Get("Content-Type"), body))}
	}
}

func (p *Pusher) send(ctx context.Context, s Stream, set string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint, strings.NewReader(set))
	if err != nil {
		return nil, errors.New("the endpoint is no URL")
	}
	request.Header.Set("Content-Type", "application/"+mediaType)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "salesexec-credentials")
	if !s.Authorization.Empty() {
		request.Header.Set("Authorization", s.Authorization.Reveal())
	}
	return p.client.Do(request)
}

// postponed tries a delivery again later, as far as the receiver's own wish lies in the future not before that.
func (p *Pusher) postponed(d Delivery, why string, rest time.Duration) PushResult {
	now := p.config.Now()
	r := PushResult{Delivery: d, Outcome: Postponed, Why: why, Retry: now.Add(outbox.Backoff(d.Attempts))}
	if rest > 0 {
		r.Rest = now.Add(rest)
		r.Retry = r.Rest
	}
	return r
}

// rest reads Retry-After: seconds or a date (RFC 9110 section 10.2.3).
func (p *Pusher) rest(value string) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) { // as long as can be said
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(p.config.Now())
	}
	return max(0, min(wait, maxRest))
}

// reachError says why a receiver could not be reached, without the URL, which may hold what is secret in its query.
func reachError(err error) string {
	if refused, is := errors.AsType[*addressError](err); is {
		return refused.Error()
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case isCertificate(err):
		return "the receiver's certificate is not trusted"
	}
	return "the receiver cannot be reached"
}

func isCertificate(err error) bool {
	_, is := errors.AsType[*tls.CertificateVerificationError](err)
	return is
}

// refusalOf describes the answer that refuses a SET (RFC 8935 section 2.3).
func refusalOf(status int, contentType string, body []byte) string {
	media, _, _ := mime.ParseMediaType(contentType)
	var answer struct {
		Err         string `json:"err"`
		Description string `json:"description"`
	}
	if media == "application/json" && json.Unmarshal(body, &answer) == nil && answer.Err != "" {
		return "answer " + strconv.Itoa(status) + ": " + refusalText(SETError{Code: answer.Err, Description: answer.Description})
	}
	return "answer " + strconv.Itoa(status)
}

// secretsOf are the parts of a header that a receiver may repeat in its answer, each with what stands for it.
func secretsOf(header secret.Text) []string {
	if header.Empty() {
		return nil
	}
	whole, shown := header.Reveal(), "[authorization]"
	return []string{whole, shown, whole[strings.LastIndexByte(whole, ' ')+1:], shown}
}

// maxWhy bounds what is kept of a receiver's reason, in bytes.
const maxWhy = 300

// refusalText makes one line of what a receiver says: it is shown to operators, and nobody knows what it holds.
func refusalText(e SETError) string {
	text := e.Code
	if e.Description != "" {
		text += ": " + e.Description
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxWhy {
		text = strings.ToValidUTF8(text[:maxWhy], "")
	}
	return text
}

// Report is where the outcomes of deliveries go.
type Report struct {
	Observe func(outcome Outcome, lag time.Duration) // lag from the commit to the receiver's yes, for Delivered
	Log     *slog.Logger
}

// refused alerts the operator to a dead letter (RFC 8935 section 4).
func (r Report) refused(ctx context.Context, d Delivery, why string) {
	r.Log.ErrorContext(ctx, "a receiver refused an event; it is kept as a dead letter", "stream", d.StreamID, "jti", d.JTI, "type", d.Type, "why", why)
	r.Observe(Refused, 0)
}
