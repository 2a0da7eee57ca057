package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Times and bounds of a relay.
const (
	// lease is how long a replica may take to deliver what it claimed; after that another one tries.
	lease = 2 * time.Minute
	// batch is how many messages are claimed and delivered at a time.
	batch = 16
	// firstRetry and longestRetry bound the back-off, which doubles from one to the other.
	firstRetry   = 5 * time.Second
	longestRetry = 30 * time.Minute
	// jitter is the part of a back-off that is left to chance, so that what failed together is not tried together.
	jitter = 0.25
)

// Outcome is what came of an attempt to deliver, for metrics.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered"
	Postponed Outcome = "postponed"
	GivenUp   Outcome = "given_up"
)

// RelayConfig is what a Relay is made of.
type RelayConfig struct {
	Topic Topic
	Store Store
	// Deliver sends one message. An error that is ErrUndeliverable is final; any other is tried again until GiveUpAt.
	Deliver func(ctx context.Context, m Message) error
	// GiveUp records that a message was given up, and removes it in the same transaction.
	GiveUp func(ctx context.Context, claimed Claimed, cause error) error
	// Observe counts an attempt's outcome; may not be nil.
	Observe func(topic Topic, kind string, outcome Outcome)
	Now     func() time.Time
	Log     *slog.Logger
}

// Relay delivers the messages of one topic. Any number of replicas may run one.
type Relay struct{ config RelayConfig }

// NewRelay returns a Relay.
func NewRelay(config RelayConfig) *Relay { return &Relay{config: config} }

// Flush delivers every message that is due, and returns when there is none left or the context is over.
func (r *Relay) Flush(ctx context.Context) error {
	for ctx.Err() == nil {
		now := r.config.Now()
		claimed, err := r.config.Store.ClaimMessages(ctx, r.config.Topic, now, now.Add(lease), batch)
		if err != nil {
			return fmt.Errorf("outbox: claim messages: %w", err)
		}
		if len(claimed) == 0 {
			return nil
		}
		if err := r.deliverAll(ctx, claimed); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) deliverAll(ctx context.Context, claimed []Claimed) error {
	failures := make([]error, len(claimed))
	var running sync.WaitGroup
	for i, message := range claimed {
		running.Go(func() { failures[i] = r.deliver(ctx, message) })
	}
	running.Wait()
	return errors.Join(failures...)
}

// deliver sends one message and settles what becomes of it. The error is the store's alone. A message that left is noted
// also when the process is being stopped, or it would leave again.
func (r *Relay) deliver(ctx context.Context, m Claimed) error {
	settling := context.WithoutCancel(ctx)
	bounded, cancel := context.WithTimeout(ctx, lease/2)
	defer cancel()
	var cause error
	expired := !r.config.Now().Before(m.GiveUpAt)
	if !expired {
		cause = r.config.Deliver(bounded, m.Message)
	}
	switch {
	case cause == nil && !expired:
		r.config.Observe(m.Topic, m.Kind, Delivered)
		return r.config.Store.RemoveMessage(settling, m)
	case expired, errors.Is(cause, ErrUndeliverable):
		r.config.Log.ErrorContext(ctx, "a message was given up", "message", m.ID, "kind", m.Kind, "attempts", m.Attempts, "error", text(cause))
		r.config.Observe(m.Topic, m.Kind, GivenUp)
		return r.config.GiveUp(settling, m, cause)
	}
	if ctx.Err() == nil {
		r.config.Log.WarnContext(ctx, "a message could not be delivered and will be tried again", "message", m.ID, "kind", m.Kind, "attempts", m.Attempts, "error", text(cause))
	}
	r.config.Observe(m.Topic, m.Kind, Postponed)
	return r.config.Store.PostponeMessage(settling, m, r.config.Now().Add(Backoff(m.Attempts)))
}

func text(err error) string {
	if err == nil {
		return "its time was over"
	}
	return err.Error()
}

// Backoff returns how long to wait after so many attempts: from 5 seconds, doubling to half an hour, a quarter of it up or
// down by chance.
func Backoff(attempts int) time.Duration {
	wait := firstRetry
	for i := 1; i < attempts && wait < longestRetry; i++ {
		wait *= 2
	}
	wait = min(wait, longestRetry)
	spread := (rand.Float64()*2 - 1) * jitter //nolint:gosec // chance that spreads load, not a secret
	return wait + time.Duration(float64(wait)*spread)
}
