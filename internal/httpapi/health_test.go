package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/httpapi"
)

// OPS-01, OPS-02, OPS-05: liveness asks nothing; readiness asks every check, ends for good at shutdown, and tells no details.
func TestHealth(t *testing.T) {
	var broken error
	asked := 0
	health := httpapi.NewHealth(http.NotFoundHandler(), func(ctx context.Context) error {
		asked++
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("a check may take for ever")
		}
		return broken
	})
	want := func(path string, status int) {
		t.Helper()
		recorder := httptest.NewRecorder()
		health.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		if recorder.Code != status || strings.Contains(recorder.Body.String(), "canary") {
			t.Errorf("%s: %d %s, want %d", path, recorder.Code, recorder.Body, status)
		}
	}
	want("/readyz", http.StatusOK)
	broken = errors.New("canary: the database is away")
	want("/readyz", http.StatusServiceUnavailable)
	want("/livez", http.StatusOK)
	if asked != 2 {
		t.Errorf("the check was asked %d times, want 2", asked)
	}
	broken = nil
	want("/readyz", http.StatusOK)
	health.StopBeingReady()
	want("/readyz", http.StatusServiceUnavailable)
	want("/livez", http.StatusOK)
	want("/elsewhere", http.StatusNotFound)
}
