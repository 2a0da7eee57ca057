package client_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/pkg/client"
)

// clock is a time that passes only while a Client waits.
type clock struct {
	mu     sync.Mutex
	at     time.Time
	waited []time.Duration
	during func() // runs while the Client waits
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (c *clock) wait(ctx context.Context, d time.Duration) error {
	if c.during != nil {
		c.during()
	}
	c.advance(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waited = append(c.waited, d)
	return ctx.Err()
}

func (c *clock) option() client.Option { return client.WithClock(c.now, c.wait) }

// step is one answer of a script.
type step struct {
	status     int // 0: the connection breaks; -1: the answer breaks off
	code       string
	retryAfter string
}

// script answers each request with its next step, and with the last one for ever.
type script struct {
	mu       sync.Mutex
	steps    []step
	requests []*http.Request
	bodies   []string
	success  string // the body of a 2xx
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body) // the test compares what was read
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.steps[min(len(s.requests), len(s.steps)-1)]
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(data))
	w.Header().Set("X-Request-Id", "request-"+strconv.Itoa(len(s.requests)))
	switch {
	case next.status == 0:
		panic(http.ErrAbortHandler)
	case next.status < 0:
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"user_`)
		panic(http.ErrAbortHandler)
	case next.status < 300:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(next.status)
		_, _ = io.WriteString(w, s.success)
		return
	}
	if next.retryAfter != "" {
		w.Header().Set("Retry-After", next.retryAfter)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(next.status)
	_, _ = io.WriteString(w, `{"type":"urn:salesexec:problem:`+next.code+`","title":"t","status":`+strconv.Itoa(next.status)+`,"code":"`+next.code+`","instance":"urn:request:1"}`)
}

func scripted(t *testing.T, s *script, opts ...client.Option) *client.Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, append([]client.Option{client.WithHTTPClient(server.Client())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A call that reads is repeated when the failure may pass, and for no other.
func TestRetries_whatMayPass(t *testing.T) {
	for name, tc := range map[string]struct {
		first step
		again bool
	}{
		"not reached":         {step{}, true},
		"broken off":          {step{status: -1}, true},
		"throttled":           {step{429, "throttled", ""}, true},
		"internal":            {step{500, "internal", ""}, true},
		"bad gateway":         {step{502, "", ""}, true},
		"overloaded":          {step{503, "overloaded", "1"}, true},
		"gateway timeout":     {step{504, "", ""}, true},
		"in progress":         {step{409, "idempotency_in_progress", "1"}, true},
		"another conflict":    {step{409, "conflict", ""}, false},
		"malformed":           {step{400, "malformed_request", ""}, false},
		"unauthorized":        {step{401, "unauthorized", ""}, false},
		"forbidden":           {step{403, "forbidden", ""}, false},
		"not found":           {step{404, "not_found", ""}, false},
		"precondition":        {step{412, "precondition_failed", ""}, false},
		"invalid":             {step{422, "validation_failed", ""}, false},
		"not implemented":     {step{501, "", ""}, false},
		"asks for more time":  {step{429, "throttled", "11"}, false},
		"a redirect":          {step{307, "", ""}, false},
		"a request timed out": {step{408, "", ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{steps: []step{tc.first, {status: 200}}, success: credentialsJSON}
			clock := newClock()
			c := scripted(t, s, client.WithToken(token), clock.option())
			got, _, err := c.GetMyCredentials(t.Context())
			if tc.again {
				if err != nil || got.Username != "maria" || len(s.requests) != 2 || len(clock.waited) != 1 {
					t.Fatalf("got %v, %v after %d requests and the waits %v", got, err, len(s.requests), clock.waited)
				}
				return
			}
			if e := asError(t, err); e.Status != tc.first.status || len(s.requests) != 1 || len(clock.waited) != 0 {
				t.Errorf("got %v after %d requests and the waits %v", err, len(s.requests), clock.waited)
			}
		})
	}
}

// What may have an effect twice is sent once, whatever becomes of it; what gets tokens is repeated.
func TestRetries_whatIsSafe(t *testing.T) {
	ctx := t.Context()
	for name, tc := range map[string]struct {
		call func(c *client.Client) error
		want int
	}{
		"a read":    {func(c *client.Client) error { return last(c.GetUsernameHistory(ctx, "u1")) }, 4},
		"a refresh": {func(c *client.Client) error { return last(c.RefreshSession(ctx, "r")) }, 4},
		"a token":   {func(c *client.Client) error { return last(c.IssueToken(ctx, "dialer", "s")) }, 4},
		"an export": {func(c *client.Client) error { return last(c.ExportAuditEvents(ctx, client.ListAuditEventsParams{})) }, 4},
		"a sign-in": {func(c *client.Client) error { return last(c.SignIn(ctx, "maria", "pw")) }, 1},
		"a check":   {func(c *client.Client) error { return last(c.VerifyCredentials(ctx, client.Verification{})) }, 1},
		"a change": {func(c *client.Client) error {
			return lastOfThree(c.ChangeMyCredentials(ctx, client.OwnCredentialsChange{}, ""))
		}, 4},
		"a rename": {func(c *client.Client) error {
			return lastOfThree(c.ChangeUserCredentials(ctx, "u1", client.CredentialsChange{}, ""))
		}, 4},
		"a reset": {func(c *client.Client) error {
			return lastOfThree(c.ResetPassword(ctx, "u1", client.PasswordReset{}, ""))
		}, 4},
		"a lock":       {func(c *client.Client) error { return lastOfThree(c.LockUser(ctx, "u1", "lost", "")) }, 4},
		"a new user":   {func(c *client.Client) error { return lastOfThree(c.CreateUser(ctx, client.UserCreation{})) }, 4},
		"a demotion":   {func(c *client.Client) error { return lastOfThree(c.ChangeUser(ctx, "u1", client.UserChange{}, "")) }, 4},
		"an unlocking": {func(c *client.Client) error { return lastOfThree(c.UnlockUser(ctx, "u1", "", "")) }, 4},
		"a job": {func(c *client.Client) error {
			return last(c.BeginPasswordResetJob(ctx, "", client.PasswordResetJobWanted{}))
		}, 4},
		"a hand-out":     {func(c *client.Client) error { return last(c.HandOutTemporaryPasswords(ctx, "j1", 10)) }, 4},
		"a link":         {func(c *client.Client) error { return c.RedeemPasswordReset(ctx, "t", "p") }, 4},
		"a confirmation": {func(c *client.Client) error { return last(c.ConfirmEmail(ctx, "t")) }, 4},
		"an undoing":     {func(c *client.Client) error { return last(c.RevertCredentials(ctx, "t")) }, 4},
		"a deletion":     {func(c *client.Client) error { return c.EndUserSessions(ctx, "u1") }, 1},
		"a full save": {func(c *client.Client) error {
			return lastOfThree(c.SetNamingRule(ctx, "", client.NamingRuleChange{}, ""))
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{steps: []step{{503, "unavailable", ""}}}
			err := tc.call(scripted(t, s, client.WithToken(token), newClock().option()))
			if client.CodeOf(err) != client.ProblemCodeUnavailable || len(s.requests) != tc.want {
				t.Errorf("got %v after %d requests, not %d", err, len(s.requests), tc.want)
			}
			if distinct := len(slices.Compact(slices.Sorted(slices.Values(s.bodies)))); distinct != 1 {
				t.Errorf("a repetition is another request: %q", s.bodies)
			}
		})
	}
}

// A change keeps its Idempotency-Key over its repetitions, and another change has another; the caller's own is kept as well.
func TestRetries_keepTheKey(t *testing.T) {
	s := &script{steps: []step{{}, {status: -1}, {409, "idempotency_in_progress", "1"}, {status: 200}}, success: credentialsJSON}
	c := scripted(t, s, client.WithToken(token), newClock().option())
	change := func(ctx context.Context) []string {
		t.Helper()
		s.requests = nil
		if _, _, err := c.ChangeMyCredentials(ctx, client.OwnCredentialsChange{Username: pointer("maria")}, ""); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, r := range s.requests {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
		}
		if len(keys) != 4 || len(keys[0]) < 16 || len(slices.Compact(slices.Clone(keys))) != 1 {
			t.Errorf("sent with the keys %q", keys)
		}
		return keys
	}
	if first, second := change(t.Context()), change(t.Context()); first[0] == second[0] {
		t.Errorf("two changes have the key %q", first[0])
	}
	if own := "6f2a9c1e-8d0b-4c1e"; change(client.WithIdempotencyKey(t.Context(), own))[0] != own {
		t.Error("the caller's own key is not sent")
	}
}

func last[T any](_ T, err error) error { return err }

func lastOfThree[T, U any](_ T, _ U, err error) error { return err }

// Retries are bounded in number and time, their pauses grow, are drawn at random and follow Retry-After.
func TestRetries_bounds(t *testing.T) {
	for name, tc := range map[string]struct {
		retries    int
		retryAfter string
		deadline   time.Duration // of the context; 0: none
		want       [][2]time.Duration
	}{
		"none":               {0, "", 0, nil},
		"drawn at random":    {7, "", 0, [][2]time.Duration{{0, 200}, {0, 400}, {0, 800}, {0, 1600}, {0, 3200}, {0, 5000}, {0, 5000}}},
		"as asked":           {2, "3", 0, [][2]time.Duration{{3000, 3200}, {3000, 3200}}},
		"a date is far away": {2, "Fri, 01 Jan 2100 00:00:00 GMT", 0, nil},
		"not in time":        {2, "3", 4 * time.Second, [][2]time.Duration{{3000, 3200}}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, clock := t.Context(), newClock()
			if tc.deadline > 0 {
				limited, cancel := context.WithDeadline(ctx, clock.now().Add(tc.deadline))
				defer cancel()
				ctx = limited
			}
			s := &script{steps: []step{{503, "overloaded", tc.retryAfter}}}
			c := scripted(t, s, client.WithRetries(tc.retries), clock.option())
			if _, err := c.GetPasswordPolicy(ctx); client.CodeOf(err) != client.ProblemCodeOverloaded {
				t.Errorf("got %v", err)
			}
			if len(clock.waited) != len(tc.want) || len(s.requests) != len(tc.want)+1 {
				t.Fatalf("%d requests and the waits %v", len(s.requests), clock.waited)
			}
			for i, within := range tc.want {
				if got := clock.waited[i]; got <= within[0]*time.Millisecond && within[0] > 0 || got <= 0 || got > within[1]*time.Millisecond {
					t.Errorf("wait %d was %v, not within %v ms", i+1, got, within)
				}
			}
		})
	}
	// Drawn below a bound that grows: the longest of many is long.
	longest := time.Duration(0)
	for range 20 {
		clock := newClock()
		c := scripted(t, &script{steps: []step{{503, "overloaded", ""}}}, client.WithRetries(7), clock.option())
		if _, err := c.GetPasswordPolicy(t.Context()); err == nil {
			t.Error("got no error")
		}
		longest = max(longest, slices.Max(clock.waited))
	}
	if longest < time.Second {
		t.Errorf("the longest wait was %v", longest)
	}
	if _, err := client.New("https://c.example", client.WithRetries(-1)); err == nil {
		t.Error("New accepts -1 retries")
	}
}

// A body that cannot be read again is not sent again.
func TestRetries_notWithoutTheBody(t *testing.T) {
	s := &script{steps: []step{{503, "overloaded", ""}}}
	c := scripted(t, s, newClock().option(), client.WithToken(token), client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Body, r.GetBody = io.NopCloser(strings.NewReader("{}")), nil
		return nil
	}))
	_, _, err := c.ResetPassword(t.Context(), "u1", client.PasswordReset{}, "")
	if client.CodeOf(err) != client.ProblemCodeOverloaded || len(s.requests) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.requests))
	}
}

// The caller's context ends the wait as it ends a request.
func TestRetries_endWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	clock := newClock()
	clock.during = cancel
	s := &script{steps: []step{{503, "overloaded", ""}}}
	c := scripted(t, s, clock.option())
	if _, err := c.GetPasswordPolicy(ctx); !errors.Is(err, context.Canceled) || len(s.requests) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.requests))
	}
	s.steps = []step{{}}
	if _, err := c.GetPasswordPolicy(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A server whose certificate is not trusted is not asked again: that does not pass.
func TestRetries_notForAnUntrustedServer(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the client
	server.StartTLS()
	t.Cleanup(server.Close)
	clock := newClock()
	c, err := client.New(server.URL, clock.option())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetPasswordPolicy(t.Context()); err == nil || len(clock.waited) != 0 {
		t.Errorf("got %v after the waits %v", err, clock.waited)
	}
}

// RFC 9110 section 10.2.3: a proxy may say with a date how long to wait.
func TestError_retryAfter(t *testing.T) {
	for name, tc := range map[string]struct {
		retryAfter, date string
		want             time.Duration
	}{
		"seconds":         {"7", "", 7 * time.Second},
		"a date":          {"Sun, 06 Nov 1994 08:50:07 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 30 * time.Second},
		"a date gone by":  {"Sun, 06 Nov 1994 08:49:07 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 0},
		"a date of now":   {"Sun, 06 Nov 1994 08:49:07 GMT", "x", 0},
		"something else":  {"soon", "", 0},
		"less than none":  {"-1", "", 0},
		"more than a lot": {"99999999999999999999", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := scripted(t, nil, client.WithHTTPClient(answering(func(*http.Request) (*http.Response, error) {
				header := http.Header{"Retry-After": {tc.retryAfter}, "Date": {tc.date}}
				return &http.Response{StatusCode: 429, Header: header, Body: http.NoBody}, nil
			})), client.WithRetries(0))
			_, err := c.GetPasswordPolicy(t.Context())
			if diff := cmp.Diff(client.Error{Status: 429, RetryAfter: tc.want}, asError(t, err)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if code := client.CodeOf(errors.New("another")); code != "" {
		t.Errorf("another error has the code %q", code)
	}
}

// answering is an HTTP client made of a function.
type answering func(*http.Request) (*http.Response, error)

func (a answering) Do(r *http.Request) (*http.Response, error) { return a(r) }
