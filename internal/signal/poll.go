package signal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
)

// MaxEvents is the most events that one poll answers: their SETs are some 100 KB, and their acknowledgements fit a request.
const MaxEvents = 100

// Polling is a poll (RFC 8936 section 2.2).
type Polling struct {
	MaxEvents         *int // nil: as many as the transmitter likes; 0: acknowledge only
	ReturnImmediately bool
	Acknowledged      []string
	Errors            map[string]SETError // by jti
}

// SETError is why a receiver refuses a SET (RFC 8935 section 2.4).
type SETError struct{ Code, Description string }

// Polled is the answer to a poll.
type Polled struct {
	SETs map[string]string // by jti
	More bool
}

// Polled settles what the receiver says of earlier events and hands out the next ones: of each user only the oldest, so that no
// receiver can mix up their order. With nothing to hand out it waits, without a connection to the database, until there is
// something, the time is over or the process is being stopped. ErrNotFound, *InvalidError.
func (t *Transmitter) Polled(ctx context.Context, actor access.Actor, id string, p Polling) (Polled, error) {
	s, err := t.Get(ctx, actor, id)
	if err != nil {
		return Polled{}, err
	}
	if s.Method != Poll {
		return Polled{}, invalid("The events of this stream are pushed.")
	}
	limit := MaxEvents
	if p.MaxEvents != nil {
		if *p.MaxEvents < 0 {
			return Polled{}, invalid("maxEvents must not be negative.")
		}
		limit = min(limit, *p.MaxEvents)
	}
	if err := t.settle(ctx, id, p); err != nil {
		return Polled{}, err
	}
	if limit == 0 {
		return Polled{SETs: map[string]string{}}, nil
	}
	wait := t.config.PollWait
	if p.ReturnImmediately {
		wait = 0
	}
	return t.handout(ctx, s, limit, wait)
}

func (t *Transmitter) settle(ctx context.Context, id string, p Polling) error {
	if len(p.Acknowledged) == 0 && len(p.Errors) == 0 {
		return nil
	}
	refused := make(map[string]string, len(p.Errors))
	for jti, e := range p.Errors {
		if uuid.Validate(jti) == nil { // every other one is unknown, and may be text that no database takes
			refused[jti] = refusalText(e)
		}
	}
	acknowledged := slices.DeleteFunc(slices.Clone(p.Acknowledged), func(jti string) bool { return uuid.Validate(jti) != nil })
	settled, err := t.store.SettlePoll(ctx, id, acknowledged, refused, t.config.Now())
	if err != nil {
		return fmt.Errorf("signal: settle a poll: %w", err)
	}
	for _, d := range settled {
		if why, is := refused[d.JTI]; is {
			t.config.Report.refused(ctx, d, why)
			continue
		}
		t.config.Report.Observe(Delivered, t.config.Now().Sub(d.CreatedAt))
	}
	return nil
}

// handout waits for events for as long as it may. It is told of them before it looks, so that none is missed in between.
func (t *Transmitter) handout(ctx context.Context, s Stream, limit int, wait time.Duration) (Polled, error) {
	woken, forget := t.hub.wait(s.ID)
	defer forget()
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		handed, more, err := t.store.Handout(ctx, s.ID, limit)
		if err != nil {
			return Polled{}, fmt.Errorf("signal: hand out events: %w", err)
		}
		if len(handed) > 0 || wait == 0 {
			return t.polled(ctx, s, handed, more)
		}
		select {
		case <-woken:
		case <-over.C:
			return Polled{SETs: map[string]string{}}, nil
		case <-t.hub.closed:
			return Polled{SETs: map[string]string{}}, nil
		case <-ctx.Done():
			return Polled{}, ctx.Err()
		}
	}
}

func (t *Transmitter) polled(ctx context.Context, s Stream, handed []Delivery, more bool) (Polled, error) {
	sets := make([]string, len(handed))
	var signing errgroup.Group // all at once: a signature takes a millisecond of a processor that others want too
	for i, d := range handed {
		signing.Go(func() (err error) { sets[i], err = t.signer.SET(ctx, s, d); return err })
	}
	if err := signing.Wait(); err != nil {
		return Polled{}, err
	}
	answer := Polled{SETs: make(map[string]string, len(handed)), More: more}
	for i, d := range handed {
		answer.SETs[d.JTI] = sets[i]
	}
	return answer, nil
}

// Look wakes those who wait for events that another replica has queued.
func (t *Transmitter) Look(ctx context.Context) error {
	waiting := t.hub.streams()
	if len(waiting) == 0 {
		return nil
	}
	filled, err := t.store.Fillable(ctx, waiting)
	if err != nil {
		return fmt.Errorf("signal: look for events: %w", err)
	}
	for _, id := range filled {
		t.hub.Wake(change.Heard{StreamID: id})
	}
	return nil
}
