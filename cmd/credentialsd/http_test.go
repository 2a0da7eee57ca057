package main

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/salesexec/credentials/api"
)

// appOrigin is the browser app that the services of these tests know.
const appOrigin = "https://app.example.com"

// contract reads openapi.yaml.
func contract(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// serviceToken gets a token for the demo client, with the scopes or with all it has.
func (s *service) serviceToken(scope string) string {
	s.t.Helper()
	return s.want(s.oauth("grant_type=client_credentials&scope="+scope, s.demo.Clients[0].ClientID, s.demo.Clients[0].ClientSecret), http.StatusOK, "").text("access_token")
}

// refusal is a request that is refused, and how.
type refusal struct {
	name    string
	answer  func() answer
	status  int
	code    string
	headers map[string]string // that the answer must have: name to pattern
}

// refusals are one for each row of the table of errors that a request can bring about by itself.
func refusals(s *service) []refusal {
	const own = "/users/me/credentials"
	ada, alex := s.token("ada", demoPassword), s.token("alex", demoPassword)
	alexID, wandaID, olgaID := s.user("alex").ID, s.user("wanda").ID, s.user("olga").ID
	temporary := s.want(s.reset(ada, wandaID, nil), http.StatusOK, "").text("temporary_password")
	limited, reader := s.token("wanda", temporary), s.serviceToken("users:read")
	browser := func(method, path, token string, body any, headers ...string) func() answer {
		return func() answer {
			return s.call(method, path, token, body, append([]string{"Origin", appOrigin}, headers...)...)
		}
	}
	guess := func(name string) func() answer {
		return browser(http.MethodPost, "/sessions", "", map[string]string{"username": name, "password": "wrong horse battery staple"})
	}
	for range 5 {
		s.want(guess("guessed")(), http.StatusUnauthorized, "invalid_credentials")
	}
	noError := map[string]string{"WWW-Authenticate": `^Bearer realm="[^"]+"$`}                                          // BRR-01
	badToken := map[string]string{"WWW-Authenticate": `^Bearer realm="[^"]+", error="invalid_token"`}                   // BRR-02
	noScope := map[string]string{"WWW-Authenticate": `^Bearer .*error="insufficient_scope", scope="credentials:reset"`} // BRR-03
	twoTokens := map[string]string{"WWW-Authenticate": `^Bearer .*error="invalid_request"`}                             // BRR-04
	seconds := map[string]string{"Retry-After": `^[1-9]\d*$`}                                                           // RL-01
	rename := map[string]string{"username": "alex.reed", "current_password": demoPassword}
	return []refusal{
		{"no token", browser("GET", "/users/me", "", nil), 401, "unauthorized", noError},
		{"other scheme", browser("GET", "/users/me", "", nil, "Authorization", "Basic YWxleDpw"), 401, "unauthorized", noError},
		{"bad token", browser("GET", "/users/me", "x.y.z", nil), 401, "unauthorized", badToken},
		{"empty token", browser("GET", "/users/me", "", nil, "Authorization", "Bearer "), 401, "unauthorized", badToken},
		{"bad token where none is needed", browser("GET", "/password-policy", "x.y.z", nil), 401, "unauthorized", badToken},
		{"two tokens", func() answer { return s.twoTokens(alex) }, 400, "malformed_request", twoTokens},
		{"wrong password", guess("alex"), 401, "invalid_credentials", nil},
		{"bad refresh token", browser("POST", "/sessions/refresh", "", `{"refresh_token":"x"}`), 401, "unauthorized", nil},
		{"no scope", browser("POST", "/admin/users/"+alexID+"/password-reset", reader, nil), 403, "insufficient_scope", noScope},
		{"no role", browser("GET", "/admin/users", alex, nil), 403, "forbidden", nil},
		{"service as a user", browser("GET", "/users/me", reader, nil), 403, "forbidden", nil},
		{"wrong current password", browser("PATCH", own, alex, `{"username":"a.b","current_password":"x"}`), 403, "wrong_current_password", nil},
		{"temporary password", browser("PATCH", own, limited, map[string]string{"username": "w.w", "current_password": temporary}), 403, "must_change_password", nil},
		{"administrator on oneself", browser("POST", "/admin/users/"+s.user("ada").ID+"/password-reset", ada, nil), 403, "use_self_service", nil},
		{"another account", browser("GET", "/admin/users/"+olgaID, ada, nil), 404, "not_found", nil},
		{"unknown user", browser("GET", "/admin/users/nobody", ada, nil), 404, "not_found", nil},
		{"unknown path", browser("GET", "/users", alex, nil), 404, "not_found", nil},
		{"trailing slash", browser("GET", "/users/me/", alex, nil), 404, "not_found", nil},
		{"unknown problem", browser("GET", "/problems/unknown", "", nil), 404, "not_found", nil},
		{"method", browser("PUT", own, alex, rename), 405, "method_not_allowed", map[string]string{"Allow": `^[A-Z, ]+$`}},
		{"name in use", browser("PATCH", own, alex, `{"username":"bo","current_password":"`+demoPassword+`"}`), 409, "identifier_taken", nil},
		{"If-Match", browser("PATCH", own, alex, rename, "If-Match", `"99"`), 412, "precondition_failed", nil},
		{"too large", browser("PATCH", own, alex, `{"username":"`+strings.Repeat("a", 17<<10)+`"}`), 413, "body_too_large", nil},
		{"media type", browser("POST", "/sessions", "", `{}`, "Content-Type", "text/plain"), 415, "unsupported_media_type", map[string]string{"Accept": "^application/json$"}},
		{"patch type", browser("PATCH", own, alex, `[]`, "Content-Type", "application/json-patch+json"), 415, "unsupported_media_type", map[string]string{"Accept-Patch": "^application/merge-patch[+]json, application/json$"}},
		{"encoding", browser("PATCH", own, alex, `{}`, "Content-Encoding", "gzip"), 415, "unsupported_media_type", map[string]string{"Accept-Encoding": "^identity$"}},
		{"policy", browser("PATCH", own, alex, map[string]string{"new_password": "short", "current_password": demoPassword}), 422, "policy_violation", nil},
		{"no current password", browser("PATCH", own, alex, `{"new_password":"maple orbit lantern quiet"}`), 422, "validation_failed", nil},
		{"list limit", browser("GET", "/admin/users?limit=201", ada, nil), 422, "validation_failed", nil},
		{"unreadable parameter", browser("GET", "/admin/users?limit=many", ada, nil), 400, "malformed_request", nil},
		{"unreadable body", browser("POST", "/sessions", "", `{"username":`), 400, "malformed_request", nil},
		{"no body", browser("POST", "/sessions", "", ``), 400, "malformed_request", nil},
		{"throttled", guess("guessed"), 429, "throttled", seconds},
	}
}

// twoTokens sends two Authorization headers.
func (s *service) twoTokens(token string) answer {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.demo.URL+"/users/me", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + token, "Bearer " + token}, "Origin": {appOrigin}}
	return s.send(request)
}

// send is call for requests that it cannot make.
func (s *service) send(request *http.Request) answer {
	s.t.Helper()
	response, err := s.http.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header, raw: raw}
	_ = json.Unmarshal(raw, &a.body) // stays nil for what is no object
	return a
}

// ERR-01 to ERR-04, ERR-07 to ERR-09, BRR-01 to BRR-05, HDR-01 to HDR-07, COR-02, COR-03, COR-05, COR-06, RL-01, PRE-06:
// whatever goes wrong, the answer is a whole problem document that a browser app may read and no cache may keep.
func TestHTTP_everyRefusalIsAProblem(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		titles := map[string]string{}
		for _, r := range refusals(s) {
			t.Run(r.name, func(t *testing.T) {
				a := s.want(r.answer(), r.status, r.code)
				checkProblem(t, a)
				checkHeaders(t, a)
				checkCORS(t, a)
				if known, ok := titles[r.code]; ok && known != a.text("title") {
					t.Errorf("title %q here, %q elsewhere", a.text("title"), known)
				}
				titles[r.code] = a.text("title")
				for name, pattern := range r.headers {
					if !regexp.MustCompile(pattern).MatchString(a.header.Get(name)) {
						t.Errorf("%s: %q, want %s", name, a.header.Get(name), pattern)
					}
				}
				if r.status == http.StatusUnauthorized && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Error("a 401 without a challenge")
				}
			})
		}
	}, "ALLOWED_ORIGINS="+appOrigin)
}

// checkProblem checks a problem document against RFC 9457 and the contract.
func checkProblem(t *testing.T, a answer) {
	t.Helper()
	if media := a.header.Get("Content-Type"); media != "application/problem+json" {
		t.Errorf("Content-Type %q", media)
	}
	if a.body["status"] != float64(a.status) || a.text("type") != "urn:salesexec:problem:"+a.code() || a.text("title") == "" || a.text("detail") == "" {
		t.Errorf("%s", a.raw)
	}
	if id := a.header.Get("X-Request-Id"); id == "" || a.text("instance") != "urn:request:"+id {
		t.Errorf("instance %q, X-Request-Id %q", a.text("instance"), id)
	}
	if problem := contract(t).Components.Schemas["Problem"]; problem.Value.VisitJSON(a.body) != nil {
		t.Errorf("not the contract's Problem: %v", problem.Value.VisitJSON(a.body))
	}
	if told := regexp.MustCompile(`(?i)\.go\b|goroutine|gorm|sqlite|postgres|pgx|select |echo|panic|` + demoPassword).Find(a.raw); told != nil {
		t.Errorf("the answer tells %q: %s", told, a.raw)
	}
	if challenge := a.header.Get("WWW-Authenticate"); !regexp.MustCompile(`^[\x20-\x7e]*$`).MatchString(challenge) || strings.Contains(challenge, `\`) { // BRR-07
		t.Errorf("WWW-Authenticate %q", challenge)
	}
}

// checkHeaders checks what every answer has and has not.
func checkHeaders(t *testing.T, a answer) {
	t.Helper()
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Cross-Origin-Resource-Policy": "same-site",
		"Server": "", "X-Powered-By": "", "X-Version": "", "Location": "", "Set-Cookie": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if (a.status == http.StatusNoContent) != (a.header.Get("Content-Type") == "") {
		t.Errorf("%d with Content-Type %q", a.status, a.header.Get("Content-Type"))
	}
}

// checkCORS checks that the app at appOrigin may read the answer.
func checkCORS(t *testing.T, a answer) {
	t.Helper()
	if got := a.header.Values("Access-Control-Allow-Origin"); !slices.Equal(got, []string{appOrigin}) {
		t.Errorf("Access-Control-Allow-Origin: %q", got)
	}
	if a.header.Get("Access-Control-Allow-Credentials") != "" || !slices.Contains(a.header.Values("Vary"), "Origin") {
		t.Errorf("credentials %q, Vary %q", a.header.Get("Access-Control-Allow-Credentials"), a.header.Values("Vary"))
	}
	exposed := strings.Split(a.header.Get("Access-Control-Expose-Headers"), ",")
	for _, name := range []string{"ETag", "Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id", "WWW-Authenticate"} {
		if !slices.Contains(exposed, name) {
			t.Errorf("%s is not exposed", name)
		}
	}
}
