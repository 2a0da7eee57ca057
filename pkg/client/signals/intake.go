package signals

import (
	"context"
	"sync"

	"golang.org/x/sync/singleflight"
)

// remembered is how many handled events are remembered at least: those of minutes of the busiest hour, far longer than the service
// waits before it delivers one again. A jti takes some 100 bytes.
const remembered = 50_000

// intake verifies SETs and hands each event on once.
type intake struct {
	verifier *Verifier
	handle   Handler
	group    singleflight.Group

	mu            sync.Mutex
	recent, older map[string]bool // jtis that were handled
}

func newIntake(verifier *Verifier, handle Handler) *intake {
	return &intake{verifier: verifier, handle: handle, recent: map[string]bool{}}
}

// take returns nil when the event is handled, now or before. Of the same event at the same time one is handled.
func (i *intake) take(ctx context.Context, set string) (Event, error) {
	e, err := i.verifier.Verify(ctx, set)
	if err != nil {
		return Event{}, err
	}
	_, err, _ = i.group.Do(e.ID, func() (any, error) {
		if i.seen(e.ID) {
			return nil, nil
		}
		if err := i.handle(ctx, e); err != nil {
			return nil, err
		}
		i.remember(e.ID)
		return nil, nil
	})
	return e, err
}

func (i *intake) seen(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.recent[id] || i.older[id]
}

func (i *intake) remember(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.recent) >= remembered {
		i.recent, i.older = map[string]bool{}, i.recent
	}
	i.recent[id] = true
}
