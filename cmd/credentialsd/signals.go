package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/store"
)

// Periods of what is done about Shared Signals.
const (
	signalsEvery = 200 * time.Millisecond // for events that another replica queued: a fifth of what may pass until they arrive
	streamsEvery = time.Minute
)

// signals is all that tells other services of changes.
type signals struct {
	transmitter *signal.Transmitter
	pusher      *signal.Pusher
	ring        *signal.Ring
	hub         *signal.Hub
	store       *store.Store
	dead        prometheus.Gauge
}

func newSignals(ctx context.Context, w wiring, m *metrics) (*signals, error) {
	hub := signal.NewHub()
	ring := signal.NewRing(w.store, w.settings.SigningKeyMaxAge, w.now)
	if err := ring.Tend(ctx); err != nil { // from now on the keys are published even while the database is away
		return nil, err
	}
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "credentials_signals_total", Help: "Events handed to receivers: delivered, postponed or refused.",
	}, []string{"outcome"})
	lag := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "credentials_signal_lag_seconds", Help: "Time from the change to the receiver's acknowledgement.", Buckets: durationBuckets(),
	})
	dead := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "credentials_signals_dead_letters", Help: "Events that receivers have refused, until they are retried or swept.",
	})
	polls := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "credentials_signal_polls_waiting", Help: "Polls that wait for an event at this process.",
	}, func() float64 { return float64(hub.Waiting()) })
	m.registry.MustRegister(outcomes, lag, dead, polls)
	report := signal.Report{Log: w.log, Observe: func(outcome signal.Outcome, took time.Duration) {
		outcomes.WithLabelValues(string(outcome)).Inc()
		if outcome == signal.Delivered {
			lag.Observe(took.Seconds())
		}
	}}
	issuer := w.settings.PublicURL
	return &signals{
		hub: hub, ring: ring, store: w.store, dead: dead,
		transmitter: signal.New(signal.Config{
			Issuer: issuer, Insecure: strings.HasPrefix(issuer, "http://"), PollWait: w.settings.SignalsPollTimeout, Retention: w.settings.SignalsRetention,
			Report: report, Now: w.now,
		}, w.store, ring, hub),
		pusher: signal.NewPusher(signal.PusherConfig{
			Store: w.store, Signer: signal.NewSigner(issuer, ring), Hub: hub, Allowed: w.settings.SignalsAllowedNetworks, Every: signalsEvery,
			Report: report, Now: w.now,
		}),
	}, nil
}

// look finds events that another replica has queued for those who wait at this one.
func (s *signals) look(ctx context.Context) error { return s.transmitter.Look(ctx) }

// tend looks after keys and streams.
func (s *signals) tend(ctx context.Context) error {
	dead, err := s.store.Dead(ctx)
	if err == nil {
		s.dead.Set(float64(dead))
	}
	return errors.Join(s.ring.Tend(ctx), s.transmitter.Expire(ctx), err)
}

// announcing is the store that lets those who wait for events know of them when a change is saved. What is saved past it arrives
// too, by the next look.
type announcing struct {
	*store.Store
	hub *signal.Hub
}

// Commit saves a change and wakes whoever delivers the events of it.
func (a announcing) Commit(ctx context.Context, c change.Change) (change.Result, error) {
	result, err := a.Store.Commit(ctx, c)
	a.hub.Wake(result.Heard...)
	return result, err
}

// publicKeys joins the keys of access tokens and events into one set (RFC 7517).
func publicKeys(tokens func() ([]byte, error), events func(context.Context) ([]signal.JWK, error)) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		encoded, err := tokens()
		if err != nil {
			return nil, err
		}
		var set struct {
			Keys []any `json:"keys"`
		}
		if err := json.Unmarshal(encoded, &set); err != nil {
			return nil, fmt.Errorf("keys of access tokens: %w", err)
		}
		ofEvents, err := events(ctx)
		if err != nil {
			return nil, err
		}
		for _, key := range ofEvents {
			set.Keys = append(set.Keys, key)
		}
		return json.Marshal(set)
	}
}
