package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
)

// sentinels is what every error that a use case can end with is answered with.
func sentinels() map[string]struct {
	err  error
	code string
} {
	return map[string]struct {
		err  error
		code string
	}{
		"access.ErrUnauthenticated":          {access.ErrUnauthenticated, "unauthorized"},
		"access.ErrForbidden":                {access.ErrForbidden, "forbidden"},
		"access.ErrInsufficientScope":        {access.ErrInsufficientScope, "insufficient_scope"},
		"access.ErrMustChangePassword":       {access.ErrMustChangePassword, "must_change_password"},
		"change.ErrUserExists":               {change.ErrUserExists, "conflict"},
		"change.ErrLastAdministrator":        {change.ErrLastAdministrator, "last_administrator"},
		"change.ErrConflict":                 {change.ErrConflict, "conflict"},
		"change.ErrVersion":                  {change.ErrVersion, "precondition_failed"},
		"change.ErrIdentifierTaken":          {change.ErrIdentifierTaken, "identifier_taken"},
		"change.ErrLinkInvalid":              {change.ErrLinkInvalid, "link_invalid"},
		"change.ErrTooManyJobs":              {change.ErrTooManyJobs, "too_many_jobs"},
		"change.ErrUnavailable":              {change.ErrUnavailable, "unavailable"},
		"credential.ErrNotFound":             {credential.ErrNotFound, "not_found"},
		"credential.ErrUseSelfService":       {credential.ErrUseSelfService, "use_self_service"},
		"credential.ErrWrongCurrentPassword": {credential.ErrWrongCurrentPassword, "wrong_current_password"},
		"credential.ErrPasswordDisabled":     {credential.ErrPasswordDisabled, "password_disabled"},
		"credential.ErrMustChangePassword":   {credential.ErrMustChangePassword, "must_change_password"},
		"session.ErrInvalidCredentials":      {session.ErrInvalidCredentials, "invalid_credentials"},
		"session.ErrInvalidToken":            {session.ErrInvalidToken, "unauthorized"},
		"replay.ErrInProgress":               {replay.ErrInProgress, "idempotency_in_progress"},
		"replay.ErrReused":                   {replay.ErrReused, "idempotency_key_reused"},
		"session.ErrNoSession":               {session.ErrNoSession, "not_found"},
		"credential.ErrForbidden":            {credential.ErrForbidden, "forbidden"},
		"session.ErrUnsettled":               {session.ErrUnsettled, "unavailable"},
		"throttle.ErrBusy":                   {throttle.ErrBusy, "overloaded"},
		// What the store tells the use cases; none of them passes it on, because whether it is 401, 404 or nothing at all
		// depends on what was looked for.
		"session.ErrNotFound": {session.ErrNotFound, "internal"},
		// Between the store and the jobs that run in the background: nobody waits for an answer.
		"change.ErrSettled": {change.ErrSettled, "internal"},
	}
}

// exportedErrors reads the names of the exported Err variables of a package's source.
func exportedErrors(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", name, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of package %s: %v", name, err)
	}
	var found []string
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.VAR || file.Name.Name != name {
				continue
			}
			for _, spec := range general.Specs {
				for _, variable := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(variable.Name, "Err") {
						found = append(found, name+"."+variable.Name)
					}
				}
			}
		}
	}
	return found
}

// ERR-02, API-04: an error that a use case learns to return cannot be forgotten here and become a 500.
func TestProblems_everySentinelIsMapped(t *testing.T) {
	table := sentinels()
	for _, name := range []string{"access", "change", "credential", "replay", "session", "throttle"} {
		for _, sentinel := range exportedErrors(t, name) {
			if _, ok := table[sentinel]; !ok {
				t.Errorf("%s: say in the table of problems what it is answered with, and here", sentinel)
			}
		}
	}
	for name, want := range table {
		wrapped := fmt.Errorf("operation: %w", errors.Join(want.err, errors.New("something beside it")))
		if got := answerTo(wrapped).kind.Code; got != want.code {
			t.Errorf("%s is answered with %s, want %s", name, got, want.code)
		}
	}
}

// contractCodes reads the problem codes of openapi.yaml, and the statuses its table gives them.
func contractCodes(t *testing.T) (codes []string, statuses map[string]string) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Spec)
	if err != nil {
		t.Fatal(err)
	}
	schema := doc.Components.Schemas["ProblemCode"].Value
	for _, code := range schema.Enum {
		codes = append(codes, code.(string))
	}
	statuses = map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\|").FindAllStringSubmatch(schema.Description, -1) {
		statuses[row[2]] = row[1]
	}
	return codes, statuses
}

// ERR-02, ERR-08: the registry of problems and the contract name the same codes with the same statuses.
func TestProblems_registryEqualsContract(t *testing.T) {
	promised, statuses := contractCodes(t)
	var registered []string
	titles := map[string]string{}
	for _, k := range kinds() {
		registered = append(registered, k.Code)
		if fmt.Sprint(k.Status) != statuses[k.Code] {
			t.Errorf("%s: status %d here, %q in the contract", k.Code, k.Status, statuses[k.Code])
		}
		if k.Title == "" || k.Advice == "" || titles[k.Title] != "" {
			t.Errorf("%s: title and advice must be there, and the title its own (%q)", k.Code, titles[k.Title])
		}
		titles[k.Title] = k.Code
		if !regexp.MustCompile(`^[a-z][a-z_]{2,}$`).MatchString(k.Code) {
			t.Errorf("%s is no stable name", k.Code)
		}
	}
	slices.Sort(promised)
	slices.Sort(registered)
	if diff := cmp.Diff(promised, registered); diff != "" {
		t.Error(diff)
	}
}

// ERR-02: whatever a row of the table names is in the registry; a slip of the pen must not become "internal".
func TestProblems_everyMappedCodeIsRegistered(t *testing.T) {
	used := []string{"policy_violation", "validation_failed", "malformed_request", "throttled", "overloaded", "internal"}
	for _, row := range codes() {
		used = append(used, row.code)
	}
	for _, status := range []int{400, 404, 405, 413, 415, 500, 503} {
		used = append(used, frameworkCode(status))
	}
	for _, code := range used {
		if _, ok := kindOf(code); !ok {
			t.Errorf("%s is not registered", code)
		}
	}
}

// ERR-06: names of members begin with a letter and have at least three characters of A-Z, a-z, 0-9 and _.
func TestProblems_memberNames(t *testing.T) {
	shape := reflect.TypeFor[api.Problem]()
	for i := range shape.NumField() {
		name, _, _ := strings.Cut(shape.Field(i).Tag.Get("json"), ",")
		if !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{2,}$`).MatchString(name) {
			t.Errorf("member %q", name)
		}
	}
}

// testServer is a Server without use cases: enough for middleware and errors. It writes its log to the buffer.
func testServer() (*Server, *bytes.Buffer) {
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return &Server{log: logger, config: Config{Log: logger, Now: time.Now, Observe: func(string, string, int, time.Duration) {}}}, &log
}

// serveWith runs a handler behind the same middleware as the API and returns the answer.
func serveWith(s *Server, handler echo.HandlerFunc) *httptest.ResponseRecorder {
	e := echo.New()
	e.HTTPErrorHandler = s.errorHandler
	e.Use(s.identify, s.observe, s.recovering, securityHeaders(""))
	e.GET("/test", handler)
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/test", nil))
	return recorder
}

func problemOf(t *testing.T, recorder *httptest.ResponseRecorder) api.Problem {
	t.Helper()
	if media := recorder.Header().Get("Content-Type"); media != "application/problem+json" {
		t.Fatalf("Content-Type %q: %s", media, recorder.Body)
	}
	var problem api.Problem
	if err := json.Unmarshal(recorder.Body.Bytes(), &problem); err != nil {
		t.Fatalf("%v: %s", err, recorder.Body)
	}
	return problem
}

// ERR-10: a panic is a 500 like any other, its stack is logged and its value, which may hold anything, is not.
func TestRecovering_panicIsA500(t *testing.T) {
	const canary = "canary-7f3a"
	for name, value := range map[string]any{"text": canary, "error": errors.New(canary), "runtime error": nil} {
		t.Run(name, func(t *testing.T) {
			s, log := testServer()
			recorder := serveWith(s, func(echo.Context) error {
				if value == nil {
					index := len(canary)
					_ = canary[index]
				}
				panic(value)
			})
			problem := problemOf(t, recorder)
			if recorder.Code != http.StatusInternalServerError || problem.Code != "internal" || recorder.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d %+v %v", recorder.Code, problem, recorder.Header())
			}
			if strings.Contains(recorder.Body.String(), canary) || strings.Contains(log.String(), canary) {
				t.Errorf("the panic's value got out: %s\n%s", recorder.Body, log)
			}
			if !strings.Contains(log.String(), `"stack":"goroutine`) || !strings.Contains(log.String(), "problem_test.go") {
				t.Errorf("no stack in the log:\n%s", log)
			}
			if !strings.Contains(log.String(), `"status":500`) {
				t.Errorf("the request was not logged:\n%s", log)
			}
			if strings.Contains(recorder.Body.String(), "goroutine") {
				t.Errorf("the stack got out: %s", recorder.Body)
			}
		})
	}
}

// ERR-04, ERR-09: what the driver says stays inside; the log says it, under the id that the caller sees (ERR-07).
func TestErrorHandler_internalErrorsTellNothing(t *testing.T) {
	const inside = `pq: syntax error at or near "SELECT" in internal/store/users.go:42`
	s, log := testServer()
	recorder := serveWith(s, func(echo.Context) error { return errors.New(inside) })
	problem := problemOf(t, recorder)
	if problem.Status != http.StatusInternalServerError || recorder.Code != problem.Status || problem.Type != "urn:salesexec:problem:internal" {
		t.Errorf("%d %+v", recorder.Code, problem)
	}
	for _, told := range []string{"pq", "SELECT", ".go", "store"} {
		if strings.Contains(recorder.Body.String(), told) {
			t.Errorf("the answer tells %q: %s", told, recorder.Body)
		}
	}
	id := recorder.Header().Get("X-Request-Id")
	if problem.Instance != "urn:request:"+id || !strings.Contains(log.String(), id) || !strings.Contains(log.String(), "syntax error") {
		t.Errorf("instance %s, X-Request-Id %s, log:\n%s", problem.Instance, id, log)
	}
}

// RL-01, RL-06: seconds, rounded up, never 0.
func TestErrorHandler_retryAfter(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		want   string
	}{
		{&throttle.DelayedError{RetryAfter: 30 * time.Second}, 429, "30"},
		{&throttle.DelayedError{RetryAfter: 30*time.Second + 1}, 429, "31"},
		{&throttle.DelayedError{RetryAfter: time.Millisecond}, 429, "1"},
		{&password.OverloadedError{RetryAfter: 1500 * time.Millisecond}, 503, "2"},
		{throttle.ErrBusy, 503, "1"},
		{session.ErrUnsettled, 503, "1"},
		{change.ErrUnavailable, 503, "1"},
		{context.DeadlineExceeded, 503, "1"},
		{change.ErrConflict, 409, ""},
		{credential.ErrNotFound, 404, ""},
	} {
		s, _ := testServer()
		recorder := serveWith(s, func(echo.Context) error { return fmt.Errorf("use case: %w", test.err) })
		if got := recorder.Header().Get("Retry-After"); recorder.Code != test.status || got != test.want {
			t.Errorf("%v: %d Retry-After %q, want %d %q", test.err, recorder.Code, got, test.status, test.want)
		}
	}
}

// ERR-05: every violation is told at once, with the status that tells policy from the rest.
func TestErrorHandler_fieldErrors(t *testing.T) {
	fields := []change.FieldError{{Pointer: "/new_password", Code: "too_short", Detail: "a"}, {Pointer: "/username", Code: "reserved", Detail: "b"}}
	for policy, want := range map[bool]api.ProblemCode{true: "policy_violation", false: "validation_failed"} {
		s, _ := testServer()
		recorder := serveWith(s, func(echo.Context) error { return &change.RejectedError{Policy: policy, Fields: fields} })
		problem := problemOf(t, recorder)
		if recorder.Code != http.StatusUnprocessableEntity || problem.Code != want || len(problem.Errors) != 2 ||
			problem.Errors[1] != (api.FieldError{Pointer: "/username", Code: "reserved", Detail: "b"}) {
			t.Errorf("%d %+v", recorder.Code, problem)
		}
	}
}

// ERR-03, ERR-01: the same for everything that the framework refuses by itself; its own texts stay inside.
func TestErrorHandler_frameworkErrors(t *testing.T) {
	for status, want := range map[int]int{400: 400, 404: 404, 405: 405, 413: 413, 415: 415, 418: 500, 500: 500} {
		s, _ := testServer()
		recorder := serveWith(s, func(echo.Context) error { return echo.NewHTTPError(status, "canary") })
		problem := problemOf(t, recorder)
		if recorder.Code != want || problem.Status != want || strings.Contains(recorder.Body.String(), "canary") {
			t.Errorf("%d: %d %s", status, recorder.Code, recorder.Body)
		}
	}
}

// ERR-03: a parameter that cannot be read is named, and its value is not.
func TestErrorHandler_parameters(t *testing.T) {
	s, _ := testServer()
	recorder := serveWith(s, func(echo.Context) error {
		return echo.NewHTTPError(http.StatusBadRequest, "Invalid format for parameter from: error parsing 'canary' as a time")
	})
	want := "The parameter from is not of the form that openapi.yaml gives it."
	if problem := problemOf(t, recorder); problem.Code != "malformed_request" || problem.Detail == nil || *problem.Detail != want || strings.Contains(recorder.Body.String(), "canary") {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
}

// Echo calls the handler again when the error goes on after it was written: there is one answer.
func TestErrorHandler_answersOnce(t *testing.T) {
	s, _ := testServer()
	recorder := serveWith(s, func(c echo.Context) error {
		c.Error(credential.ErrNotFound)
		return io.ErrUnexpectedEOF
	})
	if problem := problemOf(t, recorder); recorder.Code != http.StatusNotFound || problem.Code != "not_found" {
		t.Errorf("%d %+v", recorder.Code, problem)
	}
}

// A caller who closed only its half of the connection still reads: it must hear that nothing was done, and it must not look
// like a fault of the service.
func TestErrorHandler_callerHungUp(t *testing.T) {
	s, log := testServer()
	recorder := serveWith(s, func(echo.Context) error { return fmt.Errorf("store: %w", context.Canceled) })
	if recorder.Code != http.StatusServiceUnavailable || recorder.Header().Get("Retry-After") == "" || strings.Contains(log.String(), "ERROR") {
		t.Errorf("%d %s\n%s", recorder.Code, recorder.Body, log)
	}
}
