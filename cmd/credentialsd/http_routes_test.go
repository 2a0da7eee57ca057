package main

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// methods are all that a request is tried with, one that nobody knows included.
func methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"}
}

// bareRequest sends a request past the harness's check against the contract, which knows nothing of such methods.
func (s *service) bareRequest(t *testing.T, method, path string, headers ...string) answer {
	t.Helper()
	plain := &service{t: t, demo: s.demo, http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	t.Cleanup(plain.http.CloseIdleConnections)
	return plain.call(method, path, "", nil, headers...)
}

// ERR-11, PAT-04, COR-04, COR-07: every path answers every method that the contract gives it, and refuses the others
// with the list of those.
func TestHTTP_everyRouteEveryMethod(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "ALLOWED_ORIGINS="+appOrigin, "ACCOUNT_URL="+accountPage)
	example := strings.NewReplacer("{id}", s.user("alex").ID, "{code}", "throttled", "{session_id}", "none", "{username}", "alex", "{stream_id}", "none", "{job}", "none")
	for template, item := range contract(t).Paths.Map() {
		path := example.Replace(template)
		if strings.Contains(path, "{") {
			t.Fatalf("no example for %s", template)
		}
		allowed := append(slices.Sorted(maps.Keys(item.Operations())), "OPTIONS")
		slices.Sort(allowed)
		for _, method := range methods() {
			t.Run(method+" "+template, func(t *testing.T) {
				a := s.bareRequest(t, method, path)
				if slices.Contains(allowed, method) {
					if a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound {
						t.Errorf("%d", a.status)
					}
					return
				}
				if a.status != http.StatusMethodNotAllowed || (method != "HEAD" && a.code() != "method_not_allowed") {
					t.Errorf("%d %s", a.status, a.raw)
				}
				wantList(t, "Allow", a.header.Get("Allow"), allowed)
				checkHeaders(t, a)
			})
		}
		t.Run("OPTIONS "+template, func(t *testing.T) {
			a := s.bareRequest(t, http.MethodOptions, path, "Origin", appOrigin, "Access-Control-Request-Method", "PATCH")
			if a.status != http.StatusNoContent || len(a.raw) != 0 {
				t.Errorf("%d %s", a.status, a.raw)
			}
			checkHeaders(t, a)
			wantList(t, "Allow", a.header.Get("Allow"), allowed)
			wantList(t, "Access-Control-Allow-Methods", a.header.Get("Access-Control-Allow-Methods"), allowed)
			patches := ""
			if slices.Contains(allowed, "PATCH") {
				patches = "application/merge-patch+json, application/json"
			}
			if got := a.header.Get("Accept-Patch"); got != patches {
				t.Errorf("Accept-Patch %q, want %q", got, patches)
			}
		})
	}
}

func wantList(t *testing.T, name, got string, want []string) {
	t.Helper()
	list := strings.Split(strings.ReplaceAll(got, " ", ""), ",")
	slices.Sort(list)
	if !slices.Equal(list, want) {
		t.Errorf("%s: %q, want %q", name, list, want)
	}
}

// COR-01 to COR-04, COR-07: exactly the configured origin, and no other whatever it looks like.
func TestHTTP_cors(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "ALLOWED_ORIGINS="+appOrigin+", https://admin.example.com:8443")
	const path = "/users/me/credentials"
	for _, origin := range []string{
		"https://evil.com", appOrigin + ".evil.com", "http://app.example.com", appOrigin + ":443", appOrigin + "/", "https://APP.example.com",
		"https://xapp.example.com", "https://app.example.com@evil.com", "https://sub.app.example.com", "https://admin.example.com", "null", "*", "https://app-example.com",
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			a := s.bareRequest(t, method, path, "Origin", origin, "Access-Control-Request-Method", "PATCH")
			for name := range a.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s from %s: %s: %s", method, origin, name, a.header.Get(name))
				}
			}
			if !slices.Contains(a.header.Values("Vary"), "Origin") {
				t.Errorf("%s from %s: Vary %q", method, origin, a.header.Values("Vary"))
			}
		}
	}
	for _, origin := range []string{appOrigin, "https://admin.example.com:8443"} {
		a := s.bareRequest(t, http.MethodOptions, path, "Origin", origin, "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "authorization,if-match,x-evil")
		h := a.header
		if h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Access-Control-Max-Age") != "7200" {
			t.Errorf("%s: %v", origin, h)
		}
		if got := h.Get("Access-Control-Allow-Headers"); got != "Authorization,Content-Type,If-Match,Idempotency-Key,X-Request-Id,traceparent" {
			t.Errorf("Access-Control-Allow-Headers %q", got)
		}
		if !slices.Contains(h.Values("Vary"), "Origin") {
			t.Errorf("Vary %q", h.Values("Vary"))
		}
	}
	if strings.Contains(s.log.String(), `"level":"ERROR"`) {
		t.Errorf("a preflight did work:\n%s", s.log)
	}
}

// COR-01: without configured origins there is no browser app, and no origin is allowed.
func TestHTTP_noOrigins(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	for _, origin := range []string{appOrigin, "null", "*"} {
		if a := s.bareRequest(t, http.MethodGet, "/users/me", "Origin", origin); a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", origin, a.header)
		}
	}
}

// HDR-01 to HDR-07: on answers that are no errors too; HSTS where the public URL is https (HDR-03), and no redirect to it.
func TestHTTP_headersOfGoodAnswers(t *testing.T) {
	oneByOne(t)
	for url, hsts := range map[string]string{"https://credentials.example.com": "max-age=31536000; includeSubDomains", "": ""} {
		s := start(t, databaseURL(t, "sqlite"), "PUBLIC_URL="+url)
		token := s.token("alex", demoPassword)
		for _, path := range []string{"/users/me", "/users/me/credentials", "/password-policy", "/.well-known/jwks.json", "/.well-known/openid-configuration", "/openapi.yaml", "/problems/throttled"} {
			a := s.want(s.call(http.MethodGet, path, token, nil), http.StatusOK, "")
			checkHeaders(t, a)
			if got := a.header.Get("Strict-Transport-Security"); got != hsts {
				t.Errorf("%s at %q: Strict-Transport-Security %q", path, url, got)
			}
		}
		checkHeaders(t, s.want(s.call(http.MethodDelete, "/sessions/current", token, nil), http.StatusNoContent, ""))
	}
}

// ERR-07, OBS-06: an id that fits is kept, any other is replaced, and the log line has it.
func TestHTTP_requestID(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	for _, id := range []string{"abcdefgh", "A1._-b2C", strings.Repeat("x", 128)} {
		if a := s.call(http.MethodGet, "/users/me", "", nil, "X-Request-Id", id); a.header.Get("X-Request-Id") != id || a.text("instance") != "urn:request:"+id {
			t.Errorf("%q became %q", id, a.header.Get("X-Request-Id"))
		}
		if !strings.Contains(s.log.String(), `"request_id":"`+id+`"`) {
			t.Errorf("%q is not in the log", id)
		}
	}
	made := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for _, id := range []string{"", "short", strings.Repeat("x", 129), "with space", "semi;colon", "quote\"quote", "umläut-umläut", "abcdefgh\tx"} {
		got := s.call(http.MethodGet, "/users/me", "", nil, "X-Request-Id", id).header.Get("X-Request-Id")
		if !made.MatchString(got) || seen[got] {
			t.Errorf("%q became %q", id, got)
		}
		seen[got] = true
	}
}

// ERR-02: every code has a page that explains it, with its status; a code that is none has not.
func TestHTTP_problemPages(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	for _, code := range contract(t).Components.Schemas["ProblemCode"].Value.Enum {
		a := s.want(s.call(http.MethodGet, "/problems/"+code.(string), "", nil), http.StatusOK, "")
		if !strings.Contains(string(a.raw), "<code>"+code.(string)+"</code>") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %s %s", code, a.header.Get("Content-Type"), a.raw)
		}
	}
	for _, code := range []string{"unknown", "Throttled", "..%2f..%2fetc%2fpasswd", "%3Cscript%3E", "%00"} {
		a := s.bareRequest(t, http.MethodGet, "/problems/"+code)
		if a.status != http.StatusNotFound || a.code() != "not_found" || strings.Contains(string(a.raw), "script") {
			t.Errorf("%s: %d %s", code, a.status, a.raw)
		}
	}
}

// The contract that is served is the file at the project's root.
func TestHTTP_openapi(t *testing.T) {
	want, err := os.ReadFile("../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, databaseURL(t, "sqlite"))
	if a := s.want(s.call(http.MethodGet, "/openapi.yaml", "", nil), http.StatusOK, ""); string(a.raw) != string(want) || a.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%s: %d bytes, want %d", a.header.Get("Content-Type"), len(a.raw), len(want))
	}
}

// WK-02, ERR-01: what is not there is 404, without a redirect, and OPS-05: probes and metrics are not there.
func TestHTTP_unknownPaths(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	for _, path := range []string{
		"/", "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200", "/livez", "/readyz", "/metrics", "/debug/pprof/",
		"/users/me/", "//users/me", "/users/../users/me", "/USERS/me", "/users/me%2fcredentials", "/admin/users/x/y", "/index.html", "/users/me;x",
	} {
		a := s.bareRequest(t, http.MethodGet, path)
		if a.status != http.StatusNotFound || a.code() != "not_found" || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %s", path, a.status, a.raw)
		}
		checkHeaders(t, a)
	}
}

// ERR-09, AZ-04: text that one of the databases cannot hold is refused or kept like any other, never a 500.
func TestHTTP_oddText(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, boID := s.token("ada", demoPassword), s.user("bo").ID
		for name, odd := range map[string]string{"NUL": "a\x00b", "broken UTF-8": "a\xffb", "line break": "a\r\nb", "quote": "a'b\"c\\", "noncharacter": "a\uffff", "beyond the BMP": "a😀"} {
			t.Run(name, func(t *testing.T) {
				escaped := url.PathEscape(odd)
				for path, codes := range map[string][]int{
					"/admin/users/" + escaped: {404}, "/admin/users/" + escaped + "/username-history": {404},
					"/admin/users?query=" + url.QueryEscape(odd): {200, 422}, "/admin/users?cursor=" + url.QueryEscape(odd): {200, 422}, // base64 skips line breaks
					"/admin/users?team=" + url.QueryEscape(odd): {422},
				} {
					if a := s.call(http.MethodGet, path, ada, nil); !slices.Contains(codes, a.status) {
						t.Errorf("%s: %d %s", path, a.status, a.raw)
					}
				}
				if odd == "a\xffb" {
					return // a body that is not UTF-8 is malformed: TestBind
				}
				for _, a := range []answer{
					s.call(http.MethodPost, "/sessions", "", map[string]string{"username": odd, "password": odd}),
					s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": odd}),
					s.call(http.MethodPatch, "/admin/users/"+boID+"/credentials", ada, map[string]string{"username": odd}),
					s.call(http.MethodPatch, "/admin/users/"+boID+"/credentials", ada, map[string]string{"email": odd + "@example.com"}),
					s.reset(ada, boID, map[string]string{"method": odd}),
					s.reset(ada, boID, map[string]string{"method": "set", "new_password": odd + " maple orbit lantern"}),
					s.reset(ada, boID, map[string]string{"reason": odd}),
				} {
					if a.status >= http.StatusInternalServerError {
						t.Errorf("%d %s", a.status, a.raw)
					}
				}
			})
		}
	})
}
