package signal

import (
	"maps"
	"slices"
	"sync"

	"github.com/salesexec/credentials/internal/change"
)

// Hub lets those who wait for events of a stream know that there are some, and the Pusher too. It spans one process: events of
// other replicas are found by looking (Transmitter.Look, Pusher.Run).
type Hub struct {
	push chan struct{} // yields when something may have to be pushed

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]struct{} // by stream
	closed  chan struct{}
	close   sync.Once
}

// NewHub returns a Hub.
func NewHub() *Hub {
	return &Hub{waiting: map[string]map[chan struct{}]struct{}{}, closed: make(chan struct{}), push: make(chan struct{}, 1)}
}

// Wake wakes everybody who waits for one of the streams. It never blocks.
func (h *Hub) Wake(streams ...change.Heard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, heard := range streams {
		if heard.Push {
			nudge(h.push)
		}
		for waiter := range h.waiting[heard.StreamID] {
			nudge(waiter)
		}
	}
}

func nudge(waiter chan struct{}) {
	select {
	case waiter <- struct{}{}:
	default: // woken already
	}
}

// Close ends all waiting, now and later.
func (h *Hub) Close() { h.close.Do(func() { close(h.closed) }) }

// wait returns a channel that yields when the stream is woken, until forget is called.
func (h *Hub) wait(stream string) (woken <-chan struct{}, forget func()) {
	waiter := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[stream] == nil {
		h.waiting[stream] = map[chan struct{}]struct{}{}
	}
	h.waiting[stream][waiter] = struct{}{}
	return waiter, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiting[stream], waiter)
		if len(h.waiting[stream]) == 0 {
			delete(h.waiting, stream)
		}
	}
}

// Waiting returns how many wait.
func (h *Hub) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	waiting := 0
	for _, waiters := range h.waiting {
		waiting += len(waiters)
	}
	return waiting
}

// streams returns the streams that somebody waits for.
func (h *Hub) streams() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.waiting))
}
