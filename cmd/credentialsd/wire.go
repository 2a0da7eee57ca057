package main

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/bulk"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/httpapi"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/password/breach"
	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/review"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/token"
)

// app is everything that serve runs.
type app struct {
	api    http.Handler
	ops    http.Handler
	health *httpapi.Health
	store  *store.Store
	keys   *keyring
	watch  *audit.Watch
	heads  time.Duration // between two looks at the heads of the audit trails
	post   *post         // nil when no mail is sent
	others *signals
	resets *bulk.Runner
	log    *slog.Logger
	now    func() time.Time

	breached      *breach.Filter // nil if there is none
	breachedLater bool           // its content is checked in the background
}

// otherMemory is what the process may take beside the hashing lanes, in bytes. Every hash takes its memory afresh; under a
// limit the runtime gives freed memory back before it takes more, so that lanes times memory stays the bound.
const otherMemory = 56 << 20

// wiring is what everything is wired from.
type wiring struct {
	settings config.Config
	store    *store.Store
	mailbox  *notice.Mailbox // of dev; nil elsewhere
	log      *slog.Logger
	now      func() time.Time
	limit    func(bytes int64) // of the process's memory; may be nil

	checkedAtStart int64 // the largest filter of breached passwords, in bytes, that is checked whole before the start
}

// wiring puts together what a command has opened.
func (p process) wiring(settings config.Config, s *store.Store, log *slog.Logger) wiring {
	w := wiring{settings: settings, store: s, log: log, now: p.now, limit: p.limitMemory, checkedAtStart: p.checkedAtStart}
	if w.checkedAtStart == 0 {
		w.checkedAtStart = checkedAtStart
	}
	return w
}

func wire(ctx context.Context, w wiring) (*app, error) {
	settings, s, log := w.settings, w.store, w.log
	sealer, err := secret.NewSealer(settings.SealingKey)
	if err != nil {
		return nil, err
	}
	refreshKey, err := sealer.Derive("refresh tokens")
	if err != nil {
		return nil, err
	}
	measures := newMetrics()
	hasher, err := password.NewHasher(password.HasherConfig{
		Params: settings.Hashing, Lanes: settings.HashLanes, Queue: settings.HashQueue, QueueTimeout: settings.HashQueueTimeout, Observe: measures.hashed,
	})
	if err != nil {
		return nil, err
	}
	measures.lanes(hasher)
	if w.limit != nil {
		w.limit(int64(hasher.Lanes())*int64(settings.Hashing.MemoryKiB)<<10 + otherMemory)
	}
	policy, err := newPolicy(settings)
	if err != nil {
		return nil, err
	}
	breached, checkLater, err := openBreached(ctx, w)
	if err != nil {
		return nil, err
	}
	checks := []func(context.Context) error{s.Ping, s.Migrated}
	if breached != nil {
		policy.Breached, checks = breached, append(checks, breached.Sound)
		measures.breached(breached)
	}
	keys, err := newKeyring(ctx, w)
	if err != nil {
		return nil, err
	}
	others, err := newSignals(ctx, w, measures)
	if err != nil {
		return nil, err
	}
	saving := announcing{Store: s, hub: others.hub}
	outgoing := newPost(w, measures)
	notices := notice.NewComposer(outgoing != nil)
	if !notices.On() {
		log.WarnContext(ctx, "no SMTP_URL is set: no mail is sent, nobody is told of changes, and e-mail changes take effect at once")
	}
	limiter := throttle.New(s, settings.HashQueueTimeout, w.now)
	clients := client.New(s, keys, w.now)
	sessions := session.New(session.Config{
		MaxAge: settings.SessionMaxAge, IdleTime: settings.SessionIdleTime, RefreshKey: refreshKey, Notices: notices, Now: w.now, Log: log,
	}, saving, clients, hasher, limiter, keys)
	credentials := credential.New(credential.Config{
		Policy: policy, HoldTime: settings.UsernameHold, Notices: notices, Now: w.now, Log: log, Refused: measures.refused,
	}, saving, hasher, limiter, sessions)
	replays, err := replay.New(s, sealer, w.now)
	if err != nil {
		return nil, err
	}
	measures.outside(keys.outside)
	resets := bulk.NewRunner(bulk.RunnerConfig{
		Store: s, Credentials: credentials, Services: clients, Workers: max(1, hasher.Lanes()-1), Lease: settings.HashQueueTimeout + itemTime,
		Observe: measures.settled, Now: w.now, Log: log,
	})
	health := httpapi.NewHealth(promhttp.HandlerFor(measures.registry, promhttp.HandlerOpts{}), append(checks, keys.ready)...)
	return &app{
		api: httpapi.New(httpapi.Config{
			PublicURL: settings.PublicURL, AccountURL: settings.AccountURL, Mailbox: w.mails(outgoing), AllowedOrigins: settings.AllowedOrigins, TrustedProxies: settings.TrustedProxies, RateLimit: settings.RateLimit,
			Sessions: sessions, Credentials: credentials, Clients: clients, Trail: audit.NewTrail(s, w.now), Reviewer: review.New(s, hasher.Describe, w.now), Limiter: limiter,
			Jobs: bulk.New(s, credentials, w.now), Replays: replays, Signals: others.transmitter, JWKS: publicKeys(keys.issuer.JWKS, others.ring.JWKS),
			Observe: measures.served, Now: w.now, Log: log,
		}),
		ops: health, health: health, store: s, keys: keys, others: others, post: outgoing, resets: resets, log: log, now: w.now,
		watch: audit.NewWatch(s, settings.AuditRetention, w.now, log, measures.watched), heads: settings.AuditHeadInterval,
		breached: breached, breachedLater: checkLater,
	}, nil
}

func newPolicy(settings config.Config) (password.Policy, error) {
	blocklist, err := password.LoadBlocklist()
	if err != nil {
		return password.Policy{}, err
	}
	return password.Policy{MinLength: settings.PasswordMinLength, Blocklist: blocklist}, nil
}

// Periods of the background work.
const (
	sealEvery        = 500 * time.Millisecond // events are chained within a second (architecture.md)
	mailEvery        = 500 * time.Millisecond // a link is waited for
	resetsEvery      = 500 * time.Millisecond // a job begins at once
	keysEvery        = time.Minute
	outsideKeysEvery = 10 * time.Minute // how long a key that an outside issuer has withdrawn is good at most
	sweepEvery       = time.Hour
	forgetAfter      = 30 * 24 * time.Hour // a network is known for 30 days (product.md decision 8); failures and sessions that old are asked for by nobody
)

// itemTime is how long one user of a job may take beside the wait for a hashing lane; then another replica tries.
const itemTime = 10 * time.Second

// drainTime is how long mails that are due may take to leave when the process ends. Others will deliver what is left.
const drainTime = 5 * time.Second

// startBackground runs the periodic work until the returned function is called; that waits for what is under way, and
// delivers and seals what is left.
func (a *app) startBackground(ctx context.Context) (stop func()) {
	lasting := context.WithoutCancel(ctx)
	sending, stopSending := context.WithCancel(lasting) // goes on for a while when the rest is over: a mail cut off may leave twice
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, job := range []job{
		{name: "deliver mail", every: mailEvery, work: func(context.Context) error { return a.deliver(sending) }},
		{name: "seal audit events", every: sealEvery, work: a.seal},
		{name: "reset the users of jobs", every: resetsEvery, work: a.resets.Work},
		{name: "look after signing keys", every: keysEvery, work: a.keys.tend},
		{name: "look for events to hand out", every: signalsEvery, work: a.others.look},
		{name: "look after streams", every: streamsEvery, work: a.others.tend, atOnce: true},
		{name: "fetch the keys of outside issuers", every: outsideKeysEvery, work: a.keys.fetchOutside},
		{name: "write the heads of the audit trails", every: a.heads, work: a.watch.Look, atOnce: true},
		{name: "sweep what is over", every: sweepEvery, work: func(ctx context.Context) error {
			_, err := a.store.Sweep(ctx, a.now().Add(-forgetAfter))
			return err
		}},
	} {
		running.Go(func() { a.repeat(ctx, job) })
	}
	if a.breachedLater {
		running.Go(func() { a.checkBreached(ctx) })
	}
	running.Go(func() { a.others.pusher.Run(ctx) })
	return func() {
		cancel()
		defer time.AfterFunc(drainTime, stopSending).Stop()
		running.Wait()
		if err := a.deliver(sending); err != nil {
			a.log.Error("deliver mail at the end", "error", err.Error())
		}
		stopSending()
		if err := a.seal(lasting); err != nil {
			a.log.Error("seal audit events at the end", "error", err.Error())
		}
	}
}

func (a *app) deliver(ctx context.Context) error {
	if a.post == nil {
		return nil
	}
	return a.post.flush(ctx)
}

func (a *app) seal(ctx context.Context) error {
	_, err := a.store.Seal(ctx)
	return err
}

// job is work that is done again and again.
type job struct {
	name   string
	every  time.Duration
	work   func(context.Context) error
	atOnce bool // for the first time at the start, and not after the first period
}

func (a *app) repeat(ctx context.Context, j job) {
	tick := time.NewTicker(j.every)
	defer tick.Stop()
	for due := j.atOnce; ; due = true {
		if due {
			if err := j.work(ctx); err != nil && ctx.Err() == nil {
				a.log.ErrorContext(ctx, "background work failed", "work", j.name, "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// metrics measure requests and hashing, without labels that grow with users or addresses.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	hashes   *prometheus.HistogramVec
	waits    *prometheus.HistogramVec
	sequence prometheus.Gauge
	looked   prometheus.Gauge
	lost     prometheus.Counter
	messages *prometheus.CounterVec
	refusals *prometheus.CounterVec
	resets   *prometheus.CounterVec
}

// durationBuckets are those of OpenTelemetry's http.server.request.duration, in seconds.
func durationBuckets() []float64 {
	return []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
}

func newMetrics() *metrics {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: durationBuckets()}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: histogram("http_server_request_duration_seconds", "Duration of requests.", "http_request_method", "http_route", "http_response_status_code"),
		hashes:   histogram("credentials_hash_duration_seconds", "Duration of a password hash in its lane.", "operation"),
		waits:    histogram("credentials_hash_wait_seconds", "Wait for a hashing lane.", "operation"),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credentials_messages_total", Help: "Attempts to deliver messages, by what came of them.",
		}, []string{"topic", "kind", "outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credentials_password_refusals_total", Help: "New passwords refused, by rule; one password may break several.",
		}, []string{"code"}),
		resets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credentials_bulk_reset_users_total", Help: "Users of jobs that this replica has settled, by what came of them.",
		}, []string{"state"}),
	}
	m.sequence = prometheus.NewGauge(prometheus.GaugeOpts{Name: "credentials_audit_head_sequence", Help: "Sequence numbers of the heads of all audit trails, added up; it falls only when events were removed at an end."})
	m.looked = prometheus.NewGauge(prometheus.GaugeOpts{Name: "credentials_audit_heads_written_timestamp_seconds", Help: "When the heads of the audit trails were last written into the log."})
	m.lost = prometheus.NewCounter(prometheus.CounterOpts{Name: "credentials_audit_heads_lost_total", Help: "Heads that were no longer in their audit trail at the next look: somebody removed events."})
	m.registry.MustRegister(m.requests, m.hashes, m.waits, m.messages, m.refusals, m.resets, m.sequence, m.looked, m.lost, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) lanes(h *password.Hasher) {
	gauge := func(name, help string, value func() int) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	m.registry.MustRegister(
		gauge("credentials_hash_lanes", "Hashing lanes.", h.Lanes),
		gauge("credentials_hash_lanes_busy", "Hashing lanes in use.", func() int { busy, _ := h.Stats(); return busy }),
		gauge("credentials_hash_waiting", "Requests that wait for a hashing lane.", func() int { _, waiting := h.Stats(); return waiting }),
	)
}

// outside shows with how many keys the tokens of each outside issuer can be verified: none is worth an alarm.
func (m *metrics) outside(issuers map[string]*token.Outside) {
	for name, issuer := range issuers {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "credentials_outside_issuer_keys", Help: "Keys at hand of an outside issuer.", ConstLabels: prometheus.Labels{"issuer": name},
		}, func() float64 { return float64(issuer.Keys()) }))
	}
}

func (m *metrics) hashed(operation string, waited, took time.Duration) {
	m.hashes.WithLabelValues(operation).Observe(took.Seconds())
	m.waits.WithLabelValues(operation).Observe(waited.Seconds())
}

// refused counts a rule that a new password broke: one of package password's codes.
func (m *metrics) refused(code string) { m.refusals.WithLabelValues(code).Inc() }

// settled counts a user of a job by what came of it.
func (m *metrics) settled(state change.ItemState) { m.resets.WithLabelValues(string(state)).Inc() }

// served counts a request under its route's template; unknown routes and methods are one series each (OBS-02).
func (m *metrics) served(method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodHead:
	default:
		method = "_OTHER"
	}
	if status == http.StatusNotFound && route != "" && route[0] != '/' {
		route = ""
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// watched shows what a look at the audit trails found.
func (m *metrics) watched(found audit.Watched) {
	m.sequence.Set(float64(found.Sequence))
	m.looked.Set(float64(found.At.UnixMicro()) / 1e6)
	m.lost.Add(float64(found.Lost))
}
