package httpapi

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Health tells load balancers whether this replica lives and is ready.
type Health struct {
	ready   chan struct{} // closed when it stops being ready
	checks  []func(context.Context) error
	metrics http.Handler
}

// NewHealth returns the handler of the ops address: /livez, /readyz and /metrics. Checks are asked on every /readyz.
func NewHealth(metrics http.Handler, checks ...func(context.Context) error) *Health {
	return &Health{ready: make(chan struct{}), checks: slices.Clone(checks), metrics: metrics}
}

// StopBeingReady makes /readyz answer 503 from now on: the load balancer sends no more requests.
func (h *Health) StopBeingReady() { close(h.ready) }

// checkTime bounds one readiness probe.
const checkTime = 2 * time.Second

// ServeHTTP answers the probes, without details: they go to the log of whoever finds out.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/livez":
		probe(w, true)
	case "/readyz":
		probe(w, h.isReady(r.Context()))
	case "/metrics":
		h.metrics.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (h *Health) isReady(ctx context.Context) bool {
	select {
	case <-h.ready:
		return false
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return !slices.ContainsFunc(h.checks, func(check func(context.Context) error) bool { return check(ctx) != nil })
}

func probe(w http.ResponseWriter, good bool) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !good {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("unavailable\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
