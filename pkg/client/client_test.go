package client_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/spectest"
	"github.com/salesexec/credentials/pkg/client"
)

const (
	tokensJSON      = `{"access_token":"a.b.c","token_type":"Bearer","expires_in":900,"refresh_token":"r","session_id":"s1","must_change_password":false}`
	credentialsJSON = `{"user_id":"u1","username":"maria","email":null,"email_verified":false,"pending_email":null,"password_changed_at":"2026-03-02T09:15:00Z","must_change_password":false,"version":7}`
	userJSON        = `{"id":"u1","account_id":"a1","team":"/","role":"agent","also_manages":[],"display_name":"Maria","status":"active","username":"maria","email":null,"email_verified":false,"pending_email":null,"must_change_password":false,"version":7,"password_changed_at":null,"temporary_password_expires_at":null,"last_sign_in_at":null,"created_at":"2026-03-02T09:15:00Z","sign_in":{"can_sign_in":true,"reasons":[],"locked_until":null,"consecutive_failures":0}}`
	meJSON          = `{"id":"u1","account_id":"a1","team":"/","role":"agent","also_manages":[],"display_name":"Maria","status":"active","username":"maria","email":null,"email_verified":false,"must_change_password":false,"version":7,"last_sign_in_at":null,"session_id":"s1","auth_time":"2026-03-02T09:15:00Z"}`
	policyJSON      = `{"min_length":15,"max_length":128,"length_unit":"code points after NFC","blocklist":true,"context_words":true,"blocked_words":0,"breached_passwords":false,"composition_rules":"none","expiry":"none","username":{"kind":"either","template":null,"regex":null,"example":null,"min_length":2,"max_length":64,"allowed":"letters","hold_days":180},"passwordrules":"minlength: 15;"}`
	sessionsJSON    = `{"items":[{"id":"s1","created_at":"2026-03-02T09:15:00Z","last_used_at":"2026-03-02T09:15:00Z","expires_at":"2026-03-02T09:15:00Z","user_agent":"x","ip":"192.0.2.1","current":true}],"next_cursor":null}`
	activityJSON    = `{"items":[{"id":"e1","at":"2026-03-02T09:15:00Z","action":"password.reset","outcome":"done","by":{"kind":"administrator","name":"Ada"},"ip":null,"user_agent":null,"details":{"method":"temporary"}}],"next_cursor":null}`
	accountJSON     = `{"min_length":null,"blocked_words":["acme"],"username_hold_days":40,"reset_methods":["temporary"],"max_places":null}`
	namingJSON      = `{"kind":"either","template":null,"regex":null,"min_length":null,"max_length":30,"reserved":[]}`
	nameJSON        = `{"username":"maria","status":"held","held_until":"2026-03-02T09:15:00Z","user_id":"u1","violations":[]}`
	historyJSON     = `{"items":[{"username":"maria","held_from":"2026-03-02T09:15:00Z","held_until":null,"changed_by":{"kind":"self","id":"u1","name":"maria"}}]}`
	resetJSON       = `{"user_id":"u1","username":"maria","method":"temporary","temporary_password":"basket-harbor-lemon","expires_at":"2026-03-03T09:15:00Z","must_change_password":true,"sessions_ended":2,"status":"active"}`
	jobJSON         = `{"id":"j1","account_id":"a1","status":"running","method":"temporary","reason":"x","begun_by":{"kind":"user","id":"u2"},"created_at":"2026-03-02T09:15:00Z","started_at":null,"finished_at":null,"total":1,"done":0,"skipped":0,"failed":0,"cancelled":0,"passwords_waiting":0}`
	metadataJSON    = `{"issuer":"https://c.example","jwks_uri":"https://c.example/.well-known/jwks.json","token_endpoint":"https://c.example/oauth/token","grant_types_supported":["client_credentials"],"response_types_supported":[],"token_endpoint_auth_methods_supported":["client_secret_basic"],"scopes_supported":["users:read"],"service_documentation":"https://c.example/openapi.yaml"}`
)

const (
	streamJSON = `{"stream_id":"st1","iss":"https://c.example","aud":"dialer","delivery":{"method":"urn:ietf:rfc:8936","endpoint_url":"https://c.example/ssf/streams/st1/poll"},"events_supported":["a"],"events_delivered":["a"],"min_verification_interval":30}`
	statusJSON = `{"stream_id":"st1","status":"paused"}`
	ssfJSON    = `{"spec_version":"1_0","issuer":"https://c.example","jwks_uri":"https://c.example/.well-known/jwks.json","delivery_methods_supported":["urn:ietf:rfc:8936"],"configuration_endpoint":"x","status_endpoint":"x","add_subject_endpoint":"x","remove_subject_endpoint":"x","verification_endpoint":"x","authorization_schemes":[{"spec_urn":"urn:ietf:rfc:6749"}],"default_subjects":"ALL"}`
)

// stubAnswer is what the stub answers to a request.
type stubAnswer struct {
	status int
	body   string
}

// jobAnswers are those about jobs.
func jobAnswers() map[string]stubAnswer {
	return map[string]stubAnswer{
		"POST /admin/password-resets":                        {202, jobJSON},
		"GET /admin/password-resets":                         {200, `{"items":[` + jobJSON + `],"next_cursor":null}`},
		"GET /admin/password-resets/j1":                      {200, jobJSON},
		"GET /admin/password-resets/j1/results":              {200, `{"items":[{"user_id":"u1","username":"maria","state":"done","code":null,"settled_at":null,"expires_at":null,"handed_out_at":null}],"next_cursor":null}`},
		"POST /admin/password-resets/j1/cancel":              {200, jobJSON},
		"POST /admin/password-resets/j1/temporary-passwords": {200, `{"items":[],"waiting":0}`},
	}
}

// stub answers each operation as the contract says, and remembers the last request.
type stub struct {
	last http.Request
	body string
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body) // the test compares what was read
	s.last, s.body = *r, string(data)
	answers := map[string]stubAnswer{
		"GET /.well-known/ssf-configuration":    {200, ssfJSON},
		"POST /ssf/streams":                     {201, streamJSON},
		"PATCH /ssf/streams":                    {200, streamJSON},
		"PUT /ssf/streams":                      {200, streamJSON},
		"DELETE /ssf/streams":                   {204, ""},
		"POST /ssf/streams/st1/poll":            {200, `{"sets":{"j1":"a.b.c"},"moreAvailable":true}`},
		"GET /ssf/status":                       {200, statusJSON},
		"POST /ssf/status":                      {200, statusJSON},
		"POST /ssf/subjects/add":                {200, ""},
		"POST /ssf/subjects/remove":             {204, ""},
		"POST /ssf/verification":                {204, ""},
		"POST /sessions":                        {201, tokensJSON},
		"POST /sessions/refresh":                {200, tokensJSON},
		"DELETE /sessions/current":              {204, ""},
		"GET /users/me":                         {200, meJSON},
		"GET /users/me/credentials":             {200, credentialsJSON},
		"PATCH /users/me/credentials":           {200, credentialsJSON},
		"GET /password-policy":                  {200, policyJSON},
		"GET /admin/users":                      {200, `{"items":[` + userJSON + `],"next_cursor":null}`},
		"GET /admin/users/u1":                   {200, userJSON},
		"GET /admin/users/u1/username-history":  {200, historyJSON},
		"PATCH /admin/users/u1/credentials":     {200, credentialsJSON},
		"POST /admin/users/u1/password-reset":   {200, resetJSON},
		"POST /admin/users/u1/security-lock":    {200, `{"user_id":"u1","username":"maria","sessions_ended":2,"password_disabled":true}`},
		"POST /password-resets/redeem":          {204, ""},
		"POST /email-confirmations":             {200, `{"username":"maria","email":"maria@acme.example"}`},
		"POST /credential-reverts":              {200, `{"username":"maria","email":null,"sessions_ended":2}`},
		"POST /admin/users":                     {201, `{"user":` + userJSON + `,"temporary_password":"basket-harbor-lemon","expires_at":"2026-03-03T09:15:00Z"}`},
		"PATCH /admin/users/u1":                 {200, userJSON},
		"POST /admin/users/u1/unlock":           {200, userJSON},
		"DELETE /admin/users/u1/sessions":       {204, ""},
		"GET /attribution/usernames/maria":      {200, `{"user_id":"u1","held_from":"2026-03-02T09:15:00Z","held_until":null,"current_username":"maria"}`},
		"GET /admin/credential-review":          {200, `{"items":[],"next_cursor":null}`},
		"GET /admin/audit-events":               {200, `{"items":[],"next_cursor":null}`},
		"GET /admin/audit-events/integrity":     {200, `{"account_id":"acme","intact":true,"events":0,"sequence":0,"head":"","checked_at":"2026-03-02T09:15:00Z"}`},
		"POST /password-policy/check":           {200, `{"acceptable":false,"violations":[{"code":"too_short","detail":"x"}]}`},
		"GET /users/me/sessions":                {200, sessionsJSON},
		"DELETE /users/me/sessions":             {200, `{"sessions_ended":2}`},
		"DELETE /users/me/sessions/s1":          {204, ""},
		"GET /users/me/activity":                {200, activityJSON},
		"GET /admin/password-policy":            {200, accountJSON},
		"PUT /admin/password-policy":            {200, accountJSON},
		"GET /admin/naming-rule":                {200, namingJSON},
		"PUT /admin/naming-rule":                {200, namingJSON},
		"GET /admin/usernames/maria":            {200, nameJSON},
		"DELETE /admin/held-usernames/maria":    {204, ""},
		"POST /internal/credentials/verify":     {200, `{"verified":true,"user_id":"u1","account_id":"a1","role":"agent","team":"/","must_change_password":false,"generation":3}`},
		"POST /oauth/token":                     {200, `{"access_token":"a.b.c","token_type":"Bearer","expires_in":900,"scope":"users:read"}`},
		"GET /.well-known/jwks.json":            {200, `{"keys":[{"kty":"OKP","kid":"k1","use":"sig","alg":"EdDSA","crv":"Ed25519","x":"AAAA"}]}`},
		"GET /.well-known/openid-configuration": {200, metadataJSON},
	}
	answers["GET /ssf/streams"] = answers["PATCH /ssf/streams"]
	if r.URL.RawQuery == "" {
		answers["GET /ssf/streams"] = stubAnswer{200, "[" + streamJSON + "]"}
	}
	maps.Copy(answers, jobAnswers())
	answer := answers[r.Method+" "+r.URL.Path]
	if strings.Contains(s.body, `"dry_run":true`) {
		answer = stubAnswer{200, `{"summary":{"total":1,"would_reset":1,"would_skip":0,"skipped":[]},"items":[],"next_cursor":null}`}
	}
	w.Header().Set("X-Request-Id", "request-1")
	w.Header().Set("ETag", `"7"`)
	w.Header().Set("Location", "/admin/users/u1")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if answer.body != "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body) // a broken connection shows in the client
}

// newClient returns a Client of the handler whose every exchange is checked against the contract.
func newClient(t *testing.T, handler http.Handler, opts ...client.Option) (*client.Client, *spectest.Recorder) {
	t.Helper()
	spec, err := os.ReadFile("../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	recorder := spectest.New(t, spec)
	checked := client.WithHTTPClient(&http.Client{Transport: recorder.Transport(server.Client().Transport)})
	c, err := client.New(server.URL, append([]client.Option{checked}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c, recorder
}

func token(context.Context) (string, error) { return "tok", nil }

func opaque(id string) client.SubjectIdentifier {
	return client.SubjectIdentifier{Format: "opaque", AdditionalProperties: map[string]any{"id": id}}
}

func pointer[T any](value T) *T { return &value }

// Every operation that a service calls has a method, which asks what the contract says and understands its answer.
func TestClient_callsEveryOperation(t *testing.T) {
	s := &stub{}
	c, recorder := newClient(t, s, client.WithToken(token))
	keyed := operationsWithKey(t)
	for name, tc := range map[string]struct {
		call          func(ctx context.Context) (any, string, error)
		authorization string
		ifMatch, body string
		etag          string
	}{
		"signIn":           {plain(func(ctx context.Context) (*client.SessionTokens, error) { return c.SignIn(ctx, "maria", "pw") }), "", "", `{"password":"pw","username":"maria"}`, ""},
		"refreshSession":   {plain(func(ctx context.Context) (*client.SessionTokens, error) { return c.RefreshSession(ctx, "r") }), "", "", `{"refresh_token":"r"}`, ""},
		"signOut":          {func(ctx context.Context) (any, string, error) { return s, "", c.SignOut(ctx) }, "Bearer tok", "", "", ""},
		"getMe":            {tagged(c.GetMe), "Bearer tok", "", "", `"7"`},
		"getMyCredentials": {tagged(c.GetMyCredentials), "Bearer tok", "", "", `"7"`},
		"changeMyCredentials": {tagged(func(ctx context.Context) (*client.ChangedCredentials, string, error) {
			return c.ChangeMyCredentials(ctx, client.OwnCredentialsChange{Username: pointer("maria")}, `"6"`)
		}), "Bearer tok", `"6"`, `{"username":"maria"}`, `"7"`},
		"getPasswordPolicy": {plain(c.GetPasswordPolicy), "Bearer tok", "", "", ""},
		"listUsers": {plain(func(ctx context.Context) (*client.UserList, error) {
			return c.ListUsers(ctx, client.ListUsersParams{Team: pointer("/east/"), Limit: pointer(5), Locked: pointer(true)})
		}), "Bearer tok", "", "", ""},
		"getUser":            {tagged(func(ctx context.Context) (*client.User, string, error) { return c.GetUser(ctx, "u1") }), "Bearer tok", "", "", `"7"`},
		"getUsernameHistory": {plain(func(ctx context.Context) (*client.UsernameHistory, error) { return c.GetUsernameHistory(ctx, "u1") }), "Bearer tok", "", "", ""},
		"changeUserCredentials": {tagged(func(ctx context.Context) (*client.Credentials, string, error) {
			return c.ChangeUserCredentials(ctx, "u1", client.CredentialsChange{Reason: pointer("x"), Username: pointer("maria")}, "")
		}), "Bearer tok", "", `{"reason":"x","username":"maria"}`, `"7"`},
		"checkPassword": {plain(func(ctx context.Context) (*client.PasswordCheckResult, error) { return c.CheckPassword(ctx, "pw", "") }), "Bearer tok", "", `{"password":"pw"}`, ""},
		"listMySessions": {plain(func(ctx context.Context) (*client.SessionList, error) {
			return c.ListMySessions(ctx, client.ListMySessionsParams{Limit: pointer(5)})
		}), "Bearer tok", "", "", ""},
		"endMySession":       {func(ctx context.Context) (any, string, error) { return s, "", c.EndMySession(ctx, "s1") }, "Bearer tok", "", "", ""},
		"endMyOtherSessions": {plain(c.EndMyOtherSessions), "Bearer tok", "", "", ""},
		"listMyActivity": {plain(func(ctx context.Context) (*client.ActivityList, error) {
			return c.ListMyActivity(ctx, client.ListMyActivityParams{Cursor: pointer("c")})
		}), "Bearer tok", "", "", ""},
		"getAccountPasswordPolicy": {tagged(func(ctx context.Context) (*client.AccountPasswordPolicy, string, error) {
			return c.GetAccountPasswordPolicy(ctx, "a1")
		}), "Bearer tok", "", "", `"7"`},
		"setAccountPasswordPolicy": {tagged(func(ctx context.Context) (*client.AccountPasswordPolicy, string, error) {
			return c.SetAccountPasswordPolicy(ctx, "", client.AccountPasswordPolicyChange{MinLength: pointer(20)}, `"6"`)
		}), "Bearer tok", `"6"`, `{"min_length":20}`, `"7"`},
		"getNamingRule": {tagged(func(ctx context.Context) (*client.NamingRule, string, error) { return c.GetNamingRule(ctx, "") }), "Bearer tok", "", "", `"7"`},
		"setNamingRule": {tagged(func(ctx context.Context) (*client.NamingRule, string, error) {
			return c.SetNamingRule(ctx, "", client.NamingRuleChange{MaxLength: pointer(30)}, "")
		}), "Bearer tok", "", `{"max_length":30}`, `"7"`},
		"lookUpUsername": {plain(func(ctx context.Context) (*client.UsernameState, error) { return c.LookUpUsername(ctx, "", "maria") }), "Bearer tok", "", "", ""},
		"releaseHeldUsername": {func(ctx context.Context) (any, string, error) {
			return s, "", c.ReleaseHeldUsername(ctx, "", "maria")
		}, "Bearer tok", "", "", ""},
		"resetPassword": {tagged(func(ctx context.Context) (*client.PasswordResetResult, string, error) {
			return c.ResetPassword(ctx, "u1", client.PasswordReset{}, `"6"`)
		}), "Bearer tok", `"6"`, `{}`, `"7"`},
		"lockUser": {tagged(func(ctx context.Context) (*client.SecurityLockResult, string, error) {
			return c.LockUser(ctx, "u1", "phone stolen", `"6"`)
		}), "Bearer tok", `"6"`, `{"reason":"phone stolen"}`, `"7"`},
		"beginPasswordResetJob": {plain(func(ctx context.Context) (*client.PasswordResetJob, error) {
			return c.BeginPasswordResetJob(ctx, "", client.PasswordResetJobWanted{UserIds: []string{"u1"}, Reason: "x"})
		}), "Bearer tok", "", `{"reason":"x","user_ids":["u1"]}`, ""},
		"beginPasswordResetJob, on trial": {plain(func(ctx context.Context) (*client.PasswordResetJobPreview, error) {
			return c.PreviewPasswordResetJob(ctx, client.BeginPasswordResetJobParams{Limit: pointer(5)}, client.PasswordResetJobWanted{Filter: &client.UserFilter{Team: pointer("/")}, Reason: "x"})
		}), "Bearer tok", "", `{"dry_run":true,"filter":{"team":"/"},"reason":"x"}`, ""},
		"listPasswordResetJobs": {plain(func(ctx context.Context) (*client.PasswordResetJobList, error) {
			return c.ListPasswordResetJobs(ctx, client.ListPasswordResetJobsParams{Limit: pointer(5)})
		}), "Bearer tok", "", "", ""},
		"getPasswordResetJob": {plain(func(ctx context.Context) (*client.PasswordResetJob, error) { return c.GetPasswordResetJob(ctx, "j1") }), "Bearer tok", "", "", ""},
		"listPasswordResetJobResults": {plain(func(ctx context.Context) (*client.PasswordResetJobResults, error) {
			return c.ListPasswordResetJobResults(ctx, "j1", client.ListPasswordResetJobResultsParams{})
		}), "Bearer tok", "", "", ""},
		"cancelPasswordResetJob": {plain(func(ctx context.Context) (*client.PasswordResetJob, error) {
			return c.CancelPasswordResetJob(ctx, "j1")
		}), "Bearer tok", "", "", ""},
		"handOutTemporaryPasswords": {plain(func(ctx context.Context) (*client.TemporaryPasswords, error) {
			return c.HandOutTemporaryPasswords(ctx, "j1", 200)
		}), "Bearer tok", "", "", ""},
		"redeemPasswordReset": {func(ctx context.Context) (any, string, error) { return s, "", c.RedeemPasswordReset(ctx, "t", "pw") }, "", "", `{"new_password":"pw","token":"t"}`, ""},
		"confirmEmail":        {plain(func(ctx context.Context) (*client.EmailConfirmed, error) { return c.ConfirmEmail(ctx, "t") }), "", "", `{"token":"t"}`, ""},
		"revertCredentials":   {plain(func(ctx context.Context) (*client.CredentialsReverted, error) { return c.RevertCredentials(ctx, "t") }), "", "", `{"token":"t"}`, ""},
		"createUser": {tagged(func(ctx context.Context) (*client.CreatedUser, string, error) {
			return c.CreateUser(ctx, client.UserCreation{Username: "maria", DisplayName: "Maria", Role: "agent", Team: "/"})
		}), "Bearer tok", "", `{"display_name":"Maria","role":"agent","team":"/","username":"maria"}`, `"7"`},
		"changeUser": {tagged(func(ctx context.Context) (*client.User, string, error) {
			return c.ChangeUser(ctx, "u1", client.UserChange{DisplayName: pointer("Maria")}, `"6"`)
		}), "Bearer tok", `"6"`, `{"display_name":"Maria"}`, `"7"`},
		"unlockUser":      {tagged(func(ctx context.Context) (*client.User, string, error) { return c.UnlockUser(ctx, "u1", "typo", `"3"`) }), "Bearer tok", `"3"`, `{"reason":"typo"}`, `"7"`},
		"endUserSessions": {func(ctx context.Context) (any, string, error) { return s, "", c.EndUserSessions(ctx, "u1") }, "Bearer tok", "", "", ""},
		"resolveUsername": {plain(func(ctx context.Context) (*client.UsernameHolder, error) {
			return c.ResolveUsername(ctx, "maria", time.Unix(0, 0))
		}), "Bearer tok", "", "", ""},
		"listAuditEvents": {plain(func(ctx context.Context) (*client.AuditEventList, error) {
			return c.ListAuditEvents(ctx, client.ListAuditEventsParams{Target: pointer("u1"), Limit: pointer(5)})
		}), "Bearer tok", "", "", ""},
		"reviewCredentials": {plain(func(ctx context.Context) (*client.CredentialReview, error) {
			return c.ReviewCredentials(ctx, client.ReviewCredentialsParams{Team: pointer("/east/"), Finding: []client.ReviewFinding{client.ReviewFindingDormant, client.ReviewFindingLegacyHash}})
		}), "Bearer tok", "", "", ""},
		"checkAuditIntegrity": {plain(func(ctx context.Context) (*client.AuditIntegrity, error) { return c.CheckAuditIntegrity(ctx, "acme") }), "Bearer tok", "", "", ""},
		"verifyCredentials": {plain(func(ctx context.Context) (*client.VerificationResult, error) {
			return c.VerifyCredentials(ctx, client.Verification{Username: "maria", Password: "pw", IP: pointer("192.0.2.1")})
		}), "Bearer tok", "", `{"ip":"192.0.2.1","password":"pw","username":"maria"}`, ""},
		"issueToken": {plain(func(ctx context.Context) (*client.ServiceToken, error) {
			return c.IssueToken(ctx, "dial:er", "s%t", "users:read", "users:write")
		}), "Basic ZGlhbCUzQWVyOnMlMjV0", "", "grant_type=client_credentials&scope=users%3Aread+users%3Awrite", ""},
		"getJwks":           {plain(c.GetJwks), "", "", "", ""},
		"getIssuerMetadata": {plain(c.GetIssuerMetadata), "", "", "", ""},

		"getSsfConfiguration": {plain(c.GetSsfConfiguration), "", "", "", ""},
		"createStream": {plain(func(ctx context.Context) (*client.StreamConfiguration, error) {
			return c.CreateStream(ctx, client.StreamWanted{EventsRequested: []string{"a"}})
		}), "Bearer tok", "", `{"events_requested":["a"]}`, ""},
		"listStreams": {func(ctx context.Context) (any, string, error) {
			list, err := c.ListStreams(ctx)
			if len(list) != 1 || list[0].StreamID != "st1" {
				t.Errorf("streams: %+v", list)
			}
			return list, "", err
		}, "Bearer tok", "", "", ""},
		"readStreams": {plain(func(ctx context.Context) (*client.StreamConfiguration, error) { return c.GetStream(ctx, "st1") }), "Bearer tok", "", "", ""},
		"updateStream": {plain(func(ctx context.Context) (*client.StreamConfiguration, error) {
			return c.UpdateStream(ctx, client.StreamChange{StreamID: "st1", Description: pointer("router")})
		}), "Bearer tok", "", `{"description":"router","stream_id":"st1"}`, ""},
		"replaceStream": {plain(func(ctx context.Context) (*client.StreamConfiguration, error) {
			return c.ReplaceStream(ctx, client.StreamChange{StreamID: "st1"})
		}), "Bearer tok", "", `{"stream_id":"st1"}`, ""},
		"deleteStream": {func(ctx context.Context) (any, string, error) { return s, "", c.DeleteStream(ctx, "st1") }, "Bearer tok", "", "", ""},
		"pollStream": {plain(func(ctx context.Context) (*client.Polled, error) {
			return c.PollStream(ctx, "st1", client.Poll{Ack: []string{"j0"}})
		}), "Bearer tok", "", `{"ack":["j0"]}`, ""},
		"getStreamStatus": {plain(func(ctx context.Context) (*client.StreamStatus, error) { return c.GetStreamStatus(ctx, "st1") }), "Bearer tok", "", "", ""},
		"setStreamStatus": {plain(func(ctx context.Context) (*client.StreamStatus, error) {
			return c.SetStreamStatus(ctx, client.StreamStatus{StreamID: "st1", Status: client.StreamStatusValuePaused})
		}), "Bearer tok", "", `{"status":"paused","stream_id":"st1"}`, ""},
		"addSubject": {func(ctx context.Context) (any, string, error) {
			return s, "", c.AddSubject(ctx, client.SubjectAddition{StreamID: "st1", Subject: opaque("u1")})
		}, "Bearer tok", "", `{"stream_id":"st1","subject":{"format":"opaque","id":"u1"}}`, ""},
		"removeSubject": {func(ctx context.Context) (any, string, error) {
			return s, "", c.RemoveSubject(ctx, client.SubjectRemoval{StreamID: "st1", Subject: opaque("u1")})
		}, "Bearer tok", "", `{"stream_id":"st1","subject":{"format":"opaque","id":"u1"}}`, ""},
		"verifyStream": {func(ctx context.Context) (any, string, error) {
			return s, "", c.VerifyStream(ctx, client.VerificationRequest{StreamID: "st1", State: pointer("x")})
		}, "Bearer tok", "", `{"state":"x","stream_id":"st1"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			value, etag, err := tc.call(t.Context())
			if err != nil || value == nil {
				t.Fatalf("got %v, %v", value, err)
			}
			got := []string{s.last.Header.Get("Authorization"), s.last.Header.Get("If-Match"), s.body, etag}
			if diff := cmp.Diff([]string{tc.authorization, tc.ifMatch, tc.body, tc.etag}, got); diff != "" {
				t.Errorf("authorization, If-Match, body, ETag: %s", diff)
			}
			if key := s.last.Header.Get("Idempotency-Key"); (len(key) >= 16) != keyed[name] || (key == "") == keyed[name] {
				t.Errorf("got the Idempotency-Key %q; that the contract has one is %v", key, keyed[name])
			}
		})
	}
	// What is for people has no method.
	forPeople := []string{"getChangePassword", "getDevMail", "getOpenapi", "getProblem", "showConfirmEmailPage", "showResetPage", "showRevertPage"}
	if diff := cmp.Diff(forPeople, recorder.Unexercised()); diff != "" {
		t.Errorf("operations that were not called: %s", diff)
	}
}

// operationsWithKey returns the ids of the operations that take an Idempotency-Key.
func operationsWithKey(t *testing.T) map[string]bool {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	keyed := map[string]bool{}
	for _, item := range doc.Paths.Map() {
		for _, operation := range item.Operations() {
			if operation.Parameters.GetByInAndName(openapi3.ParameterInHeader, "Idempotency-Key") != nil {
				keyed[operation.OperationID] = true
			}
		}
	}
	if len(keyed) == 0 {
		t.Fatal("no operation takes an Idempotency-Key")
	}
	return keyed
}

// An export is the stream as it came, and what is no export is an error.
func TestClient_exportsAuditEvents(t *testing.T) {
	const lines = "{\"export\":{}}\n{\"end\":{\"events\":0}}\n"
	c, _ := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "request-1")
		if r.Header.Get("Accept") != "application/x-ndjson" || r.URL.Query().Get("account_id") == "" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"type":"urn:salesexec:problem:validation_failed","title":"t","status":422,"code":"validation_failed","instance":"urn:request:1"}`)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, lines)
	}), client.WithToken(token))
	stream, err := c.ExportAuditEvents(t.Context(), client.ListAuditEventsParams{AccountID: pointer("acme")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(stream)
	if err := errors.Join(err, stream.Close()); err != nil || string(got) != lines {
		t.Errorf("%q, %v", got, err)
	}
	stream, err = c.ExportAuditEvents(t.Context(), client.ListAuditEventsParams{})
	if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Code != "validation_failed" || stream != nil {
		t.Errorf("got %v, %v", stream, err)
	}
}

// The file of a review is the stream as it came.
func TestClient_exportsCredentialReview(t *testing.T) {
	const lines = "\ufeffuser_id,username\r\nu1,maria\r\n"
	c, _ := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "request-1")
		w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
		_, _ = io.WriteString(w, lines) // a broken connection shows in the client
		if r.Header.Get("Accept") != "text/csv" || r.URL.Query().Get("finding") != "dormant" {
			t.Errorf("%s %s", r.Header.Get("Accept"), r.URL)
		}
	}), client.WithToken(token))
	stream, err := c.ExportCredentialReview(t.Context(), client.ReviewCredentialsParams{Finding: []client.ReviewFinding{client.ReviewFindingDormant}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(stream)
	if err := errors.Join(err, stream.Close()); err != nil || string(got) != lines {
		t.Errorf("%q, %v", got, err)
	}
}

func plain[T any](call func(context.Context) (*T, error)) func(context.Context) (any, string, error) {
	return func(ctx context.Context) (any, string, error) {
		value, err := call(ctx)
		return value, "", err
	}
}

func tagged[T any](call func(context.Context) (*T, string, error)) func(context.Context) (any, string, error) {
	return func(ctx context.Context) (any, string, error) { return call(ctx) }
}

// A token source may sign in and refresh through the same client: those calls ask it for no token.
func TestWithToken_canUseTheClient(t *testing.T) {
	var c *client.Client
	s := &stub{}
	source := func(ctx context.Context) (string, error) {
		tokens, err := c.RefreshSession(ctx, "r")
		if err != nil {
			return "", err
		}
		return tokens.AccessToken, nil
	}
	c, _ = newClient(t, s, client.WithToken(source))
	if _, _, err := c.GetMe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.last.Header.Get("Authorization"); got != "Bearer a.b.c" {
		t.Errorf("got the authorization %q", got)
	}
}

func TestWithToken_failure(t *testing.T) {
	away := errors.New("away")
	c, recorder := newClient(t, &stub{}, client.WithToken(func(context.Context) (string, error) { return "", away }))
	if err := c.SignOut(t.Context()); !errors.Is(err, away) {
		t.Errorf("got %v, not the source's error", err)
	}
	for _, id := range recorder.Unexercised() {
		if id == "signOut" {
			return
		}
	}
	t.Error("the service was called without a token")
}

func TestNew_wantsAnAbsoluteURL(t *testing.T) {
	for _, base := range []string{"", "credentials.example", "/sessions", "ftp://credentials.example", "https://", "http://[::1"} {
		if _, err := client.New(base); err == nil {
			t.Errorf("New accepts %q", base)
		}
	}
}

// Whom a service acts for goes with the calls of a context, and with no others.
func TestOnBehalfOf(t *testing.T) {
	s := &stub{}
	c, _ := newClient(t, s, client.WithToken(token))
	for want, ctx := range map[string]context.Context{"u9": client.OnBehalfOf(t.Context(), "u9"), "": t.Context()} {
		if _, _, err := c.ResetPassword(ctx, "u1", client.PasswordReset{}, ""); err != nil {
			t.Fatal(err)
		}
		if got := s.last.Header.Get("X-On-Behalf-Of"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
