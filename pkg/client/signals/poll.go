package signals

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/salesexec/credentials/pkg/client"
	"github.com/salesexec/credentials/pkg/client/internal/pause"
)

const (
	// firstPause doubles with each failure in a row, to lastPause.
	firstPause, lastPause = 250 * time.Millisecond, 30 * time.Second
	// leaveWithin bounds the last acknowledgement of a Poller that is being stopped.
	leaveWithin = 2 * time.Second
)

// Stream is what a Poller asks for events: a *client.Client with the scope ssf.read.
type Stream interface {
	PollStream(ctx context.Context, id string, poll client.Poll) (*client.Polled, error)
}

// Poller follows a stream that is polled (RFC 8936).
type Poller struct {
	stream Stream
	id     string
	intake *intake
	wait   func(ctx context.Context, d time.Duration) error
}

// NewPoller returns a Poller of the stream with the id.
func NewPoller(stream Stream, id string, verifier *Verifier, handle Handler) *Poller {
	return &Poller{stream: stream, id: id, intake: newIntake(verifier, handle), wait: pause.For}
}

// Run hands events on, one after the other, until the context is over. An event is acknowledged with the next poll once it was
// handled, and refused when it cannot be verified. Failures that may pass are waited out; Run returns one that does not pass: the
// stream is gone, or the client may not poll it. It is nil when the context is over.
func (p *Poller) Run(ctx context.Context) error {
	say, rest := client.Poll{}, firstPause
	defer func() { p.leave(ctx, say) }()
	for ctx.Err() == nil {
		answer, err := p.stream.PollStream(ctx, p.id, say)
		if ctx.Err() != nil {
			break
		}
		if err != nil && lasting(err) {
			return fmt.Errorf("signals: poll: %w", err)
		}
		if err == nil {
			say, err = p.take(ctx, answer.Sets)
		}
		if err == nil {
			rest = firstPause
			continue
		}
		if len(say.Ack) > 0 { // others were handled: one that never is must not hold them up
			rest = firstPause
		}
		_ = p.wait(ctx, rest) // an end of the context is seen above
		rest = min(2*rest, lastPause)
	}
	return nil
}

// lasting tells a refusal that will be the same next time.
func lasting(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout
}

// take handles the events of an answer and returns what to say of them with the next poll. One that was not handled comes again.
func (p *Poller) take(ctx context.Context, sets map[string]string) (say client.Poll, failure error) {
	for _, id := range slices.Sorted(maps.Keys(sets)) { // about the order of the changes; an answer has one event of each user
		e, err := p.intake.take(ctx, sets[id])
		if err == nil && e.ID != id {
			err = refuse(invalidRequest, "the SET is under another jti")
		}
		refused, is := errors.AsType[*RefusedError](err)
		switch {
		case err == nil:
			say.Ack = append(say.Ack, id)
		case is:
			if say.SetErrs == nil {
				say.SetErrs = map[string]client.SetError{}
			}
			say.SetErrs[id] = client.SetError{Err: refused.Code, Description: &refused.Why}
		default:
			failure = err
		}
	}
	return say, failure
}

// leave says what is left to say when the Poller is being stopped.
func (p *Poller) leave(ctx context.Context, say client.Poll) {
	if len(say.Ack) == 0 && len(say.SetErrs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	none := 0
	say.MaxEvents = &none
	_, _ = p.stream.PollStream(ctx, p.id, say) // what it does not say is delivered again
}
