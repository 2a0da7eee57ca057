package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ops asks the ops address.
func (s *service) ops(path string) (int, http.Header, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.demo.OpsURL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	opsClient := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}} // the service's own knows the API alone
	response, err := opsClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

// wantProbe fails the test unless the probe answers with the status, and without details.
func (s *service) wantProbe(path string, want int) {
	s.t.Helper()
	body := map[int]string{http.StatusOK: "ok\n", http.StatusServiceUnavailable: "unavailable\n"}[want]
	status, header, got := s.ops(path)
	if status != want || got != body || header.Get("Cache-Control") != "no-store" {
		s.t.Errorf("%s: %d %q %v, want %d %q", path, status, got, header, want, body)
	}
}

// OPS-01, OPS-05: probes on their own port, the API not on it.
func TestOps_probes(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.wantProbe("/livez", http.StatusOK)
		s.wantProbe("/readyz", http.StatusOK)
		for _, path := range []string{"/", "/users/me", "/sessions", "/debug/pprof/", "/openapi.yaml", "/livez/"} {
			if status, _, _ := s.ops(path); status != http.StatusNotFound {
				t.Errorf("%s: %d", path, status)
			}
		}
	})
}

// reachable lets a PostgreSQL database be connected to, or nobody: then it is as if the server were away. Connections that
// are made after it is back stay.
func reachable(t *testing.T, databaseURL string, yes bool) {
	t.Helper()
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(address.Path, "/")
	address.Path = "/postgres"
	connection, err := pgx.Connect(t.Context(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close(t.Context()) }()
	if _, err := connection.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", name, yes)); err != nil {
		t.Fatal(err)
	}
	if yes {
		return
	}
	if _, err := connection.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name); err != nil {
		t.Fatal(err)
	}
}

// OPS-01, ERR-08, ERR-09, RL-06, COR-06: without its database the service lives, is not ready, and says 503 to callers; it
// recovers by itself.
func TestOps_databaseAway(t *testing.T) {
	s := start(t, databaseURL(t, "postgres"), "ALLOWED_ORIGINS="+appOrigin)
	token := s.token("alex", demoPassword)
	reachable(t, s.databaseURL, false)
	s.wantProbe("/livez", http.StatusOK)
	s.wantProbe("/readyz", http.StatusServiceUnavailable)
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", appOrigin}
	for name, a := range map[string]answer{
		"GET":     s.call(http.MethodGet, "/users/me", token, nil, "Origin", appOrigin),
		"PATCH":   s.call(http.MethodPatch, ownCredentials, token, map[string]string{"username": "alex.reed"}, "Origin", appOrigin),
		"sign in": s.call(http.MethodPost, "/sessions", "", map[string]string{"username": "alex", "password": demoPassword}, "Origin", appOrigin),
		"refresh": s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": token}, "Origin", appOrigin),
		"token":   s.call(http.MethodPost, "/oauth/token", "", "grant_type=client_credentials&client_id=demo-service&client_secret=x", form...),
	} {
		if a.status != http.StatusServiceUnavailable || a.code() != "unavailable" || !regexp.MustCompile(`^[1-9]\d*$`).MatchString(a.header.Get("Retry-After")) {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
			continue
		}
		checkProblem(t, a)
		checkHeaders(t, a)
		checkCORS(t, a)
	}
	s.want(s.call(http.MethodGet, "/.well-known/jwks.json", "", nil), http.StatusOK, "") // needs no database
	reachable(t, s.databaseURL, true)
	s.wantProbe("/readyz", http.StatusOK)
	// A connection of the pool that was cut within the last second is noticed by the request that gets it.
	s.until("callers are answered again", func() bool { return s.call(http.MethodGet, "/users/me", token, nil).status == http.StatusOK })
}

// series returns the series of the request metric.
func (s *service) series() []string {
	s.t.Helper()
	_, _, text := s.ops("/metrics")
	return regexp.MustCompile(`(?m)^http_server_request_duration_seconds_count\{.*\}`).FindAllString(text, -1)
}

// OBS-01, OBS-02, OBS-04: series are named after route templates, never after users, addresses or what callers make up.
func TestOps_metrics(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	ada, alexID := s.token("ada", demoPassword), s.user("alex").ID
	s.want(s.call(http.MethodGet, "/admin/users/"+alexID, ada, nil), http.StatusOK, "")
	s.want(s.call(http.MethodGet, "/problems/throttled", "", nil), http.StatusOK, "")
	flood := func(from int) {
		for i := range 20 {
			s.bareRequest(t, http.MethodGet, fmt.Sprintf("/made-up-%d/%d", from+i, i))
			s.bareRequest(t, http.MethodOptions, fmt.Sprintf("/made-up-%d", from+i))
			s.bareRequest(t, fmt.Sprintf("VERB%d", from+i), "/users/me")
			s.bareRequest(t, fmt.Sprintf("VERB%d", from+i), fmt.Sprintf("/made-up-%d", from+i))
			s.call(http.MethodGet, fmt.Sprintf("/admin/users/nobody-%d", from+i), ada, nil)
		}
	}
	flood(0)
	before := s.series()
	flood(1000)
	if after := s.series(); len(after) != len(before) {
		t.Errorf("%d series became %d", len(before), len(after))
	}
	_, header, text := s.ops("/metrics")
	if !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("Content-Type %q", header.Get("Content-Type"))
	}
	for _, want := range []string{
		`http_request_method="GET",http_response_status_code="200",http_route="/admin/users/:id"`, `http_request_method="_OTHER"`,
		`http_request_method="GET",http_response_status_code="404",http_route=""`, `http_request_method="POST",http_response_status_code="201",http_route="/sessions"`,
		`le="0.005"`, `le="0.075"`, `le="10"`, "credentials_hash_duration_seconds_bucket", "credentials_hash_lanes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, never := range []string{alexID, s.user("ada").ID, "alex@", "demo.example", "127.0.0.1", "made-up", "VERB", "nobody"} {
		if strings.Contains(text, never) {
			t.Errorf("the metrics hold %q", never)
		}
	}
}

// logLines reads the log: every line must be one JSON object with time, level and message.
func (s *service) logLines() []map[string]any {
	s.t.Helper()
	var lines []map[string]any
	scanner := bufio.NewScanner(strings.NewReader(s.log.String()))
	for scanner.Scan() {
		var line map[string]any
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil || line["time"] == nil || line["level"] == nil || line["msg"] == nil {
			s.t.Errorf("not a log line: %q %v", scanner.Text(), err)
		}
		lines = append(lines, line)
	}
	return lines
}

// LOG-05: nothing that a caller sends makes a line of its own, or changes another.
func TestOps_logCannotBeForged(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "LOG_LEVEL=debug")
	ada := s.token("ada", demoPassword)
	const forged = "a\r\n{\"time\":\"2026-01-01T00:00:00Z\",\"level\":\"ERROR\",\"msg\":\"forged\"}\nlevel=error\u2028\x1b[31m"
	s.signIn(forged, demoPassword)
	s.call(http.MethodPatch, "/admin/users/"+s.user("bo").ID+"/credentials", ada, map[string]string{"username": forged, "reason": forged})
	s.reset(ada, s.user("bo").ID, map[string]string{"reason": forged})
	s.bareRequest(t, http.MethodGet, "/admin/users/"+url.PathEscape(forged))
	s.call(http.MethodGet, "/users/me", ada, nil, "User-Agent", `x","level":"ERROR","y":"`, "X-Request-Id", `abcdefgh","level":"ERROR`, "traceparent", `00-"-"-00`)
	lines := s.logLines()
	if len(lines) == 0 {
		t.Fatal("no log")
	}
	for _, line := range lines {
		if line["level"] == "ERROR" || line["msg"] == "forged" {
			t.Errorf("forged: %v", line)
		}
	}
}

// requestLine returns the log line of the request with the id, once it is written: that happens after the answer.
func (s *service) requestLine(id string) map[string]any {
	s.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		for _, line := range s.logLines() {
			if line["msg"] == "request" && line["request_id"] == id {
				return line
			}
		}
	}
	s.t.Fatalf("no log line of %s", id)
	return nil
}

// OBS-06, LOG-03: one line for each request says who, from where, what and under which trace; never the query.
func TestOps_requestLine(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	token := s.token("alex", demoPassword)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for traceparent, want := range map[string]string{
		"00-" + trace + "-00f067aa0ba902b7-01": trace, "": "", "00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-" + trace + "-00f067aa0ba902b7": "", "00-zzzz2f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "", trace: "",
	} {
		a := s.call(http.MethodGet, "/users/me?secret=of-the-query", token, nil, "traceparent", traceparent)
		line := s.requestLine(a.header.Get("X-Request-Id"))
		for name, value := range map[string]any{
			"method": "GET", "path": "/users/me", "route": "/users/me", "status": float64(200), "ip": "127.0.0.1", "user_id": s.user("alex").ID, "trace_id": want,
		} {
			if line[name] != value {
				t.Errorf("traceparent %q: %s is %v, want %v", traceparent, name, line[name], value)
			}
		}
	}
	service := s.call(http.MethodGet, "/admin/users", s.serviceToken("users:read"), nil)
	if line := s.requestLine(service.header.Get("X-Request-Id")); line["client_id"] != s.demo.Clients[0].ClientID {
		t.Errorf("%v", line)
	}
	if strings.Contains(s.log.String(), "of-the-query") {
		t.Error("the query is in the log")
	}
}
