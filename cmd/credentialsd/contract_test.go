package main

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/salesexec/credentials/pkg/client"
)

// API-01, models.md section 5.3 guard 5: every operation of openapi.yaml is served, and answers as it says. (Every
// exchange of every end-to-end test is held against openapi.yaml by the harness.)
func TestContract_everyOperation(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex, ada, bo := s.token("alex", demoPassword), s.token("ada", demoPassword), s.user("bo").ID
		refresh := s.want(s.signIn("wanda", demoPassword), http.StatusCreated, "")
		spare := s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
		for _, call := range []answer{
			s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": refresh.text("refresh_token")}),
			s.call(http.MethodDelete, "/sessions/current", refresh.text("access_token"), nil),
			s.call(http.MethodGet, "/users/me", alex, nil),
			s.call(http.MethodGet, "/users/me/credentials", alex, nil),
			s.change(alex, map[string]string{"username": "alex.reed"}),
			s.call(http.MethodGet, "/password-policy", "", nil),
			s.call(http.MethodGet, "/password-policy", alex, nil),
			s.call(http.MethodGet, "/admin/users?query=bo&team=/east/&status=active&role=agent&must_change=false&locked=false&limit=1", ada, nil),
			s.call(http.MethodGet, "/admin/users/"+bo, ada, nil),
			s.call(http.MethodGet, "/admin/users/"+bo+"/username-history", ada, nil),
			s.call(http.MethodPatch, "/admin/users/"+bo+"/credentials", ada, map[string]string{"username": "bo.lind", "reason": "wedding"}),
			s.call(http.MethodPost, "/admin/users/"+bo+"/security-lock", ada, map[string]string{"reason": "laptop stolen"}),
			s.reset(ada, bo, nil),
			s.call(http.MethodPost, "/admin/users", ada, map[string]string{"username": "new.name", "display_name": "New Name", "role": "agent", "team": "/east/"}),
			s.call(http.MethodPatch, "/admin/users/"+bo, ada, map[string]string{"display_name": "Bo Berg"}),
			s.call(http.MethodPost, "/admin/users/"+bo+"/unlock", ada, nil),
			s.call(http.MethodDelete, "/admin/users/"+bo+"/sessions", ada, nil),
			s.call(http.MethodGet, "/attribution/usernames/bo", serviceToken(s, "attribution:read"), nil),
			s.call(http.MethodGet, "/admin/credential-review?team=/east/&role=agent&status=active&finding=never_changed&finding=dormant&limit=1", ada, nil),
			s.call(http.MethodGet, "/admin/credential-review", ada, nil, "Accept", "text/csv"),
			s.call(http.MethodGet, "/admin/audit-events?target="+bo+"&limit=1", ada, nil),
			s.call(http.MethodGet, "/admin/audit-events", ada, nil, "Accept", "application/x-ndjson"),
			s.call(http.MethodGet, "/admin/audit-events/integrity", ada, nil),
			s.call(http.MethodPost, "/password-policy/check", alex, map[string]string{"password": "salesexec2026", "username": "alex.r"}),
			s.call(http.MethodGet, "/users/me/activity?limit=2", alex, nil),
			s.call(http.MethodGet, "/users/me/sessions?limit=1", alex, nil),
			s.call(http.MethodDelete, "/users/me/sessions/"+spare.text("session_id"), alex, nil),
			s.call(http.MethodDelete, "/users/me/sessions", alex, nil),
			s.call(http.MethodGet, "/admin/password-policy", ada, nil),
			s.call(http.MethodPut, "/admin/password-policy", ada, `{"min_length":null,"blocked_words":["Acme"],"username_hold_days":40,"reset_methods":["temporary","set"],"max_places":null}`, "If-Match", `"1"`),
			s.call(http.MethodGet, "/admin/naming-rule?account_id=demo", ada, nil),
			s.call(http.MethodPut, "/admin/naming-rule", ada, `{"kind":"login_name","template":"{first}.{last}","regex":null,"max_length":30,"reserved":["sales"]}`),
			s.call(http.MethodGet, "/admin/usernames/alex", ada, nil),
			s.call(http.MethodDelete, "/admin/held-usernames/alex", ada, nil),
			s.call(http.MethodGet, "/.well-known/jwks.json", "", nil),
			s.call(http.MethodGet, "/.well-known/openid-configuration", "", nil),
			s.call(http.MethodGet, "/openapi.yaml", "", nil),
			s.call(http.MethodGet, "/problems/throttled", "", nil),
			s.call(http.MethodGet, "/reset", "", nil),
			s.call(http.MethodGet, "/confirm-email", "", nil),
			s.call(http.MethodGet, "/revert", "", nil),
			s.call(http.MethodGet, "/dev/mail", "", nil),
			s.call(http.MethodGet, "/dev/mail", "", nil, "Accept", "application/json"),
			s.call(http.MethodGet, "/.well-known/change-password", "", nil),
			s.call(http.MethodPost, "/internal/credentials/verify", serviceToken(s, "credentials:verify"), map[string]string{"username": "wanda", "password": demoPassword, "ip": "192.0.2.7", "user_agent": "test"}),
			s.call(http.MethodPost, "/oauth/token", "", "grant_type=client_credentials&client_id=demo-service&client_secret="+s.demo.Clients[0].ClientSecret,
				"Content-Type", "application/x-www-form-urlencoded"),
		} {
			if call.status >= http.StatusBadRequest {
				t.Errorf("%d %s", call.status, call.raw)
			}
		}
		s.contractOfStreams()
		s.contractOfJobs(ada)
		// What mailed links do when they are good is told in links_test.go.
		for _, path := range []string{"/email-confirmations", "/credential-reverts"} {
			s.want(s.call(http.MethodPost, path, "", map[string]string{"token": "nobody-has-it"}), http.StatusUnprocessableEntity, "link_invalid")
		}
		s.want(s.call(http.MethodPost, "/password-resets/redeem", "", map[string]string{"token": "nobody-has-it", "new_password": "maple orbit lantern quiet"}),
			http.StatusUnprocessableEntity, "link_invalid")
		if left := s.contract.Unexercised(); len(left) > 0 {
			t.Errorf("never called: %v", left)
		}
	}, "ACCOUNT_URL=https://app.example.com/account")
}

// contractOfJobs calls every operation on jobs.
func (s *service) contractOfJobs(token string) {
	s.t.Helper()
	wish := map[string]any{"filter": map[string]string{"team": "/east/"}, "reason": "Leak", "dry_run": true}
	s.want(s.call(http.MethodPost, jobs, token, wish), http.StatusOK, "")
	id := s.begin(token, map[string]any{"user_ids": []string{s.user("bo").ID}, "reason": "Leak"})
	s.finished(token, id)
	for path, method := range map[string]string{
		"": http.MethodGet, "/" + id: http.MethodGet, "/" + id + "/results": http.MethodGet, "/" + id + "/temporary-passwords": http.MethodPost,
	} {
		s.want(s.call(method, jobs+path, token, nil), http.StatusOK, "")
	}
	s.want(s.call(http.MethodPost, jobs+"/"+id+"/cancel", token, nil), http.StatusConflict, "conflict") // it is completed
}

// contractOfStreams calls every operation on streams.
func (s *service) contractOfStreams() {
	s.t.Helper()
	token := s.serviceToken("ssf.manage")
	s.want(s.call(http.MethodGet, "/.well-known/ssf-configuration", "", nil), http.StatusOK, "")
	id := s.want(s.call(http.MethodPost, "/ssf/streams", token, map[string]any{}), http.StatusCreated, "").text("stream_id")
	subject := map[string]any{"stream_id": id, "subject": map[string]string{"format": "opaque", "id": s.user("bo").ID}}
	for _, call := range []answer{
		s.call(http.MethodGet, "/ssf/streams", token, nil),
		s.call(http.MethodGet, "/ssf/streams?stream_id="+id, token, nil),
		s.call(http.MethodPatch, "/ssf/streams", token, map[string]string{"stream_id": id, "description": "router"}),
		s.call(http.MethodPut, "/ssf/streams", token, map[string]string{"stream_id": id}),
		s.call(http.MethodGet, "/ssf/status?stream_id="+id, token, nil),
		s.call(http.MethodPost, "/ssf/status", token, map[string]string{"stream_id": id, "status": "enabled"}),
		s.call(http.MethodPost, "/ssf/subjects/remove", token, subject),
		s.call(http.MethodPost, "/ssf/subjects/add", token, subject),
		s.call(http.MethodPost, "/ssf/verification", token, map[string]string{"stream_id": id, "state": "x"}),
		s.call(http.MethodPost, "/ssf/streams/"+id+"/poll", token, map[string]any{"returnImmediately": true}),
		s.call(http.MethodDelete, "/ssf/streams?stream_id="+id, token, nil),
	} {
		if call.status >= http.StatusBadRequest {
			s.t.Errorf("%d %s", call.status, call.raw)
		}
	}
}

// The client that other services use drives the same flows.
func TestClient(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ctx := context.Background()
		anonymous, err := client.New(s.demo.URL, client.WithHTTPClient(s.http))
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := anonymous.SignIn(ctx, "alex", demoPassword)
		if err != nil {
			t.Fatal(err)
		}
		alex, err := client.New(s.demo.URL, client.WithHTTPClient(s.http), client.WithToken(func(context.Context) (string, error) { return tokens.AccessToken, nil }))
		if err != nil {
			t.Fatal(err)
		}
		_, etag, err := alex.GetMyCredentials(ctx)
		if err != nil {
			t.Fatal(err)
		}
		changed, _, err := alex.ChangeMyCredentials(ctx, client.OwnCredentialsChange{
			Username: ptr("alex.reed"), NewPassword: ptr("maple orbit lantern quiet"), CurrentPassword: ptr(demoPassword),
		}, etag)
		if err != nil || changed.Username != "alex.reed" || changed.AccessToken == nil {
			t.Fatalf("got %+v, %v", changed, err)
		}
		_, _, err = alex.GetMe(ctx) // the token from before
		if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Code != "unauthorized" || refused.RequestID == "" {
			t.Fatalf("got %v", err)
		}
		tokens.AccessToken = *changed.AccessToken
		if me, _, err := alex.GetMe(ctx); err != nil || me.Username != "alex.reed" {
			t.Fatalf("got %+v, %v", me, err)
		}
		_, _, err = alex.ChangeMyCredentials(ctx, client.OwnCredentialsChange{NewPassword: ptr("short"), CurrentPassword: ptr("maple orbit lantern quiet")}, "")
		if refused, ok := errors.AsType[*client.Error](err); !ok || len(refused.Errors) == 0 || refused.Errors[0].Pointer != "/new_password" {
			t.Fatalf("got %v", err)
		}
	})
}

func ptr[T any](value T) *T { return &value }
