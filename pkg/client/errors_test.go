package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/pkg/client"
)

func refuse(status int, header map[string]string, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "request-1")
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // a broken connection shows in the client
	})
}

func asError(t *testing.T, err error) client.Error {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("got %v, not an *Error", err)
	}
	return *e
}

// RL-01, ERR-05: a problem document becomes an Error with all that it says.
func TestError_ofProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		handler http.Handler
		want    client.Error
	}{
		"policy": {
			refuse(422, map[string]string{"Content-Type": "application/problem+json"}, `{"type":"urn:salesexec:problem:policy_violation","title":"Not met","status":422,"code":"policy_violation","detail":"See below.","instance":"urn:request:request-1","errors":[{"pointer":"/new_password","code":"too_short","detail":"Longer."}]}`),
			client.Error{
				Status: 422, Code: "policy_violation", Title: "Not met", Detail: "See below.", RequestID: "request-1",
				Errors: []client.FieldError{{Pointer: "/new_password", Code: client.FieldErrorCodeTooShort, Detail: "Longer."}},
			},
		},
		"throttled": {
			refuse(429, map[string]string{"Content-Type": "application/problem+json", "Retry-After": "30"}, `{"type":"urn:salesexec:problem:throttled","title":"Wait","status":429,"code":"throttled","instance":"urn:request:request-1"}`),
			client.Error{Status: 429, Code: "throttled", Title: "Wait", RequestID: "request-1", RetryAfter: 30 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClient(t, tc.handler, client.WithToken(token))
			_, _, err := c.ChangeMyCredentials(t.Context(), client.OwnCredentialsChange{NewPassword: pointer("pw-canary")}, "")
			if diff := cmp.Diff(tc.want, asError(t, err)); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
}

// RFC 6749 section 5.2: the token endpoint has errors of its own form.
func TestError_ofTheTokenEndpoint(t *testing.T) {
	c, _ := newClient(t, refuse(401, map[string]string{"Content-Type": "application/json", "WWW-Authenticate": "Basic", "Cache-Control": "no-store", "Pragma": "no-cache"}, `{"error":"invalid_client","error_description":"Unknown."}`))
	_, err := c.IssueToken(t.Context(), "dialer", "wrong")
	want := client.Error{Status: 401, Code: "invalid_client", Detail: "Unknown.", RequestID: "request-1"}
	if diff := cmp.Diff(want, asError(t, err)); diff != "" {
		t.Error(diff)
	}
}

// What a proxy or a stranger answers is an error too, never a half-read success.
func TestClient_refusesOtherAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		handler http.Handler
		status  int // of the Error; 0: another error
	}{
		"a proxy's page":    {refuse(502, map[string]string{"Content-Type": "text/html"}, "<p>bad gateway"), 502},
		"a redirect":        {refuse(307, map[string]string{"Location": "http://elsewhere.invalid/sessions"}, ""), 307},
		"a broken document": {refuse(400, map[string]string{"Content-Type": "application/problem+json"}, "{"), 400},
		"not JSON":          {refuse(201, map[string]string{"Content-Type": "application/json"}, "{"), 0},
		"too long":          {refuse(201, nil, strings.Repeat(" ", 4<<20+1)), 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tc.handler)
			t.Cleanup(server.Close)
			c, err := client.New(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			tokens, err := c.SignIn(t.Context(), "maria", "pw")
			if err == nil || tokens != nil {
				t.Fatalf("got %v, %v", tokens, err)
			}
			if tc.status != 0 && asError(t, err).Status != tc.status {
				t.Errorf("got the status %d, not %d", asError(t, err).Status, tc.status)
			}
		})
	}
}
