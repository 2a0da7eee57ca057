package bearer_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/token"
	"github.com/salesexec/credentials/pkg/client/bearer"
)

// hello answers who the bearer is.
func hello(w http.ResponseWriter, r *http.Request) {
	claims, _ := bearer.From(r.Context())
	_, _ = io.WriteString(w, "hello "+claims.Subject)
}

type got struct {
	Status                       int
	Challenge, RetryAfter, Cache string
	Body                         string
}

func ask(handler http.Handler, url string, header http.Header) got {
	request := httptest.NewRequest(http.MethodGet, url, nil)
	request.Header = header
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, request)
	h := w.Header()
	return got{w.Code, h.Get("WWW-Authenticate"), h.Get("Retry-After"), h.Get("Cache-Control"), strings.TrimSpace(w.Body.String())}
}

func problem(status, code, title string) string {
	return `{"code":"` + code + `","status":` + status + `,"title":"` + title + `","type":"urn:salesexec:problem:` + code + `"}`
}

// RFC 6750 section 3, JWT-16 and JWT-17: who is let through, and what the others are told.
func TestRequire(t *testing.T) {
	s := newService(t)
	v := newVerifier(t, s.config())
	raw := s.mint(t, userClaims())
	handler := v.Require(http.HandlerFunc(hello))
	unauthorized := problem("401", "unauthorized", "A valid access token is needed")
	for name, tc := range map[string]struct {
		url    string
		header http.Header
		want   got
	}{
		"good":               {"/", http.Header{"Authorization": {"Bearer " + raw}}, got{200, "", "", "", "hello user-1"}},
		"scheme in any case": {"/", http.Header{"Authorization": {"bEARER  " + raw}}, got{200, "", "", "", "hello user-1"}},
		"none":               {"/", http.Header{}, got{401, "Bearer", "", "no-store", unauthorized}},
		"in the query":       {"/?access_token=" + raw, http.Header{}, got{401, "Bearer", "", "no-store", unauthorized}},
		"another scheme":     {"/", http.Header{"Authorization": {"Basic eDp5"}}, got{401, "Bearer", "", "no-store", unauthorized}},
		"no token":           {"/", http.Header{"Authorization": {"Bearer"}}, got{401, `Bearer error="invalid_token"`, "", "no-store", unauthorized}},
		"bad":                {"/", http.Header{"Authorization": {"Bearer x" + raw}}, got{401, `Bearer error="invalid_token"`, "", "no-store", unauthorized}},
		"two":                {"/", http.Header{"Authorization": {"Bearer " + raw, "Bearer " + raw}}, got{400, `Bearer error="invalid_request", error_description="Send one Authorization header"`, "", "no-store", problem("400", "malformed_request", "The request cannot be read")}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ask(handler, tc.url, tc.header)); diff != "" {
				t.Error(diff)
			}
		})
	}

	s.answer = func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }
	away := newVerifier(t, s.config()).Require(http.HandlerFunc(hello))
	want := got{503, "", "5", "no-store", problem("503", "unavailable", "The service cannot answer now")}
	if diff := cmp.Diff(want, ask(away, "/", http.Header{"Authorization": {"Bearer " + raw}})); diff != "" {
		t.Error(diff)
	}
}

// JWT-15: a token without the scope is refused with 403, and told which is wanted.
func TestRequireScope(t *testing.T) {
	s := newService(t)
	v := newVerifier(t, s.config())
	handler := v.Require(v.RequireScope(http.HandlerFunc(hello), "users:read", "leads:route"))
	for scope, want := range map[string]got{
		"users:read leads:route": {200, "", "", "", "hello dialer"},
		"users:read":             {403, `Bearer error="insufficient_scope", scope="users:read leads:route"`, "", "no-store", problem("403", "insufficient_scope", "The token lacks a scope")},
		"users:read2 leads":      {403, `Bearer error="insufficient_scope", scope="users:read leads:route"`, "", "no-store", problem("403", "insufficient_scope", "The token lacks a scope")},
	} {
		raw := s.mint(t, token.Claims{Subject: "dialer", ClientID: "dialer", AccountID: "account-1", Scope: scope})
		if diff := cmp.Diff(want, ask(handler, "/", http.Header{"Authorization": {"Bearer " + raw}})); diff != "" {
			t.Errorf("%s: %s", scope, diff)
		}
	}
	if got := ask(v.RequireScope(http.HandlerFunc(hello), "x"), "/", nil); got.Status != http.StatusUnauthorized {
		t.Errorf("without Require in front: %+v", got)
	}
}

// A service writes refusals in its own form.
func TestConfig_Refuse(t *testing.T) {
	s := newService(t)
	config := s.config()
	config.Refuse = func(w http.ResponseWriter, _ *http.Request, status int, err error) {
		http.Error(w, err.Error(), status)
	}
	want := got{401, "Bearer", "", "no-store", "bearer: no access token"}
	if diff := cmp.Diff(want, ask(newVerifier(t, config).Require(http.HandlerFunc(hello)), "/", nil)); diff != "" {
		t.Error(diff)
	}
}
