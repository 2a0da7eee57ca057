package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/api"
)

// AZ-01: a route that the authorization table has no row for is not served, with any method.
func TestRoutes_noRowNoService(t *testing.T) {
	r := &routes{e: echo.New(), log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	served := func(c echo.Context) error { return c.NoContent(http.StatusNoContent) }
	gate := func(next echo.HandlerFunc) echo.HandlerFunc { return next }
	methods := map[string]func(string, echo.HandlerFunc, ...echo.MiddlewareFunc) *echo.Route{
		http.MethodConnect: r.CONNECT, http.MethodDelete: r.DELETE, http.MethodGet: r.GET, http.MethodHead: r.HEAD, http.MethodOptions: r.OPTIONS,
		http.MethodPatch: r.PATCH, http.MethodPost: r.POST, http.MethodPut: r.PUT, http.MethodTrace: r.TRACE,
	}
	for method, add := range methods {
		add("/forgotten", served)
		add("/gated", served, gate)
		for path, want := range map[string]int{"/forgotten": http.StatusNotFound, "/gated": http.StatusNoContent} {
			answer := httptest.NewRecorder()
			r.e.ServeHTTP(answer, httptest.NewRequest(method, path, nil))
			if answer.Code != want {
				t.Errorf("%s %s: got %d, want %d", method, path, answer.Code, want)
			}
		}
	}
	if n := len(r.e.Routes()); n != len(methods) {
		t.Errorf("%d routes are registered, want %d", n, len(methods))
	}
}

// AZ-01: what is served is what the contract says, no more and no less.
func TestNew_servesTheContract(t *testing.T) {
	handler := New(Config{
		PublicURL: "https://credentials.example", Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Observe: func(string, string, int, time.Duration) {},
	})
	var served, said []string
	for _, route := range handler.(*echo.Echo).Routes() {
		served = append(served, route.Method+" "+route.Path)
	}
	doc, err := openapi3.NewLoader().LoadFromData(api.Spec)
	if err != nil {
		t.Fatal(err)
	}
	parameter := regexp.MustCompile(`\{([^}]+)\}`)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			said = append(said, method+" "+parameter.ReplaceAllString(path, ":$1"))
		}
	}
	slices.Sort(served)
	slices.Sort(said)
	if diff := cmp.Diff(said, served); diff != "" {
		t.Errorf("the contract (-) and the routes (+) differ:\n%s", diff)
	}
}
