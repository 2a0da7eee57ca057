package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/access"
)

// request is one way to call an operation, of user bo where there is a target.
type request struct {
	method, path string
	body         any
}

// requests has one for every operation of the authorization table; none of them is acceptable to the end, so that calling
// them all changes nothing but the tokens that are made.
func requests(s *service) map[string]request {
	bo := "/admin/users/" + s.user("bo").ID
	return map[string]request{
		"signIn":               {http.MethodPost, "/sessions", map[string]string{"username": "nobody-there", "password": "x"}},
		"refreshSession":       {http.MethodPost, "/sessions/refresh", map[string]string{"refresh_token": "x"}},
		"issueToken":           {http.MethodPost, "/oauth/token", nil},
		"redeemPasswordReset":  {http.MethodPost, "/password-resets/redeem", map[string]string{"token": "x", "new_password": "short"}},
		"confirmEmail":         {http.MethodPost, "/email-confirmations", map[string]string{"token": "x"}},
		"revertCredentials":    {http.MethodPost, "/credential-reverts", map[string]string{"token": "x"}},
		"showResetPage":        {http.MethodGet, "/reset", nil},
		"showConfirmEmailPage": {http.MethodGet, "/confirm-email", nil},
		"showRevertPage":       {http.MethodGet, "/revert", nil},
		"getDevMail":           {http.MethodGet, "/dev/mail", nil},
		"getChangePassword":    {http.MethodGet, "/.well-known/change-password", nil},
		"getPasswordPolicy":    {http.MethodGet, "/password-policy", nil},
		"getJwks":              {http.MethodGet, "/.well-known/jwks.json", nil},
		"getSsfConfiguration":  {http.MethodGet, "/.well-known/ssf-configuration", nil},
		"getIssuerMetadata":    {http.MethodGet, "/.well-known/openid-configuration", nil},
		"getOpenapi":           {http.MethodGet, "/openapi.yaml", nil},
		"getProblem":           {http.MethodGet, "/problems/not_found", nil},

		"signOut":             {http.MethodDelete, "/sessions/current", nil},
		"getMe":               {http.MethodGet, "/users/me", nil},
		"getMyCredentials":    {http.MethodGet, "/users/me/credentials", nil},
		"changeMyCredentials": {http.MethodPatch, "/users/me/credentials", map[string]string{}},
		"checkPassword":       {http.MethodPost, "/password-policy/check", map[string]string{}},
		"listMySessions":      {http.MethodGet, "/users/me/sessions", nil},
		"endMySession":        {http.MethodDelete, "/users/me/sessions/none", nil},
		"endMyOtherSessions":  {http.MethodDelete, "/users/me/sessions", nil},
		"listMyActivity":      {http.MethodGet, "/users/me/activity", nil},

		"listUsers":             {http.MethodGet, "/admin/users", nil},
		"getUser":               {http.MethodGet, bo, nil},
		"getUsernameHistory":    {http.MethodGet, bo + "/username-history", nil},
		"changeUserCredentials": {http.MethodPatch, bo + "/credentials", map[string]string{}},
		"lockUser":              {http.MethodPost, bo + "/security-lock", map[string]string{"reason": ""}},
		"resetPassword":         {http.MethodPost, bo + "/password-reset", map[string]string{"method": "link"}},

		"beginPasswordResetJob":       {http.MethodPost, "/admin/password-resets", map[string]string{"reason": ""}},
		"listPasswordResetJobs":       {http.MethodGet, "/admin/password-resets", nil},
		"getPasswordResetJob":         {http.MethodGet, "/admin/password-resets/none", nil},
		"listPasswordResetJobResults": {http.MethodGet, "/admin/password-resets/none/results", nil},
		"cancelPasswordResetJob":      {http.MethodPost, "/admin/password-resets/none/cancel", nil},
		"handOutTemporaryPasswords":   {http.MethodPost, "/admin/password-resets/none/temporary-passwords", nil},

		"verifyCredentials":        {http.MethodPost, "/internal/credentials/verify", map[string]string{}},
		"createUser":               {http.MethodPost, "/admin/users", map[string]string{}},
		"changeUser":               {http.MethodPatch, bo, map[string]string{}},
		"unlockUser":               {http.MethodPost, bo + "/unlock", map[string]string{"reason": "\x00"}},
		"endUserSessions":          {http.MethodDelete, bo + "/sessions", nil},
		"resolveUsername":          {http.MethodGet, "/attribution/usernames/bo", nil},
		"reviewCredentials":        {http.MethodGet, "/admin/credential-review", nil},
		"listAuditEvents":          {http.MethodGet, "/admin/audit-events", nil},
		"checkAuditIntegrity":      {http.MethodGet, "/admin/audit-events/integrity", nil},
		"getAccountPasswordPolicy": {http.MethodGet, "/admin/password-policy", nil},
		"setAccountPasswordPolicy": {http.MethodPut, "/admin/password-policy", map[string]int{"min_length": 1}},
		"getNamingRule":            {http.MethodGet, "/admin/naming-rule", nil},
		"setNamingRule":            {http.MethodPut, "/admin/naming-rule", map[string]int{"min_length": 1}},
		"lookUpUsername":           {http.MethodGet, "/admin/usernames/bo", nil},
		"releaseHeldUsername":      {http.MethodDelete, "/admin/held-usernames/none", nil},

		"readStreams":     {http.MethodGet, "/ssf/streams", nil},
		"createStream":    {http.MethodPost, "/ssf/streams", map[string]any{"delivery": map[string]string{"method": "none"}}},
		"updateStream":    {http.MethodPatch, "/ssf/streams", map[string]string{"stream_id": "none"}},
		"replaceStream":   {http.MethodPut, "/ssf/streams", map[string]string{"stream_id": "none"}},
		"deleteStream":    {http.MethodDelete, "/ssf/streams?stream_id=none", nil},
		"pollStream":      {http.MethodPost, "/ssf/streams/none/poll", map[string]string{}},
		"getStreamStatus": {http.MethodGet, "/ssf/status?stream_id=none", nil},
		"setStreamStatus": {http.MethodPost, "/ssf/status", map[string]string{"stream_id": "none", "status": "paused"}},
		"addSubject":      {http.MethodPost, "/ssf/subjects/add", map[string]any{"stream_id": "none", "subject": map[string]string{"format": "opaque", "id": "x"}}},
		"removeSubject":   {http.MethodPost, "/ssf/subjects/remove", map[string]any{"stream_id": "none", "subject": map[string]string{"format": "opaque", "id": "x"}}},
		"verifyStream":    {http.MethodPost, "/ssf/verification", map[string]string{"stream_id": "none"}},
	}
}

// streamOperations are those on streams of Shared Signals, which are the services' own.
func streamOperations() []string {
	return []string{
		"readStreams", "createStream", "updateStream", "replaceStream", "deleteStream", "pollStream", "getStreamStatus", "setStreamStatus", "addSubject",
		"removeSubject", "verifyStream",
	}
}

// outcome is what an actor gets of an operation: the code of a refusal by the table, or "served".
func outcome(operation string, a answer) string {
	aimless := slices.Contains(append(streamOperations(), "endMySession", "releaseHeldUsername", "getPasswordResetJob", "listPasswordResetJobResults",
		"cancelPasswordResetJob", "handOutTemporaryPasswords"), operation) // the requests aim at nothing that is there
	switch code := a.code(); {
	case aimless && code == "not_found":
		return "served"
	case a.status == http.StatusUnauthorized && code == "unauthorized",
		code == "forbidden", code == "insufficient_scope", code == "must_change_password":
		return code
	case code == "use_self_service", code == "not_found":
		return code
	case a.status >= http.StatusInternalServerError, a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed:
		return a.header.Get("Content-Type") + string(a.raw)
	}
	return "served"
}

// AZ-01, AZ-18, AZ-20, JWT-15, peers bug 3: the authorization matrix as it is seen through HTTP: every operation, every kind of actor.
func TestAuthorization_matrix(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		calls := requests(s)
		for _, rule := range access.Table() {
			if _, there := calls[rule.Operation]; !there {
				t.Errorf("no request for %s", rule.Operation)
			}
		}
		temporary := s.want(s.reset(s.token("ada", demoPassword), s.user("alex").ID, nil), http.StatusOK, "").text("temporary_password")
		limited := func() string { return s.token("alex", temporary) }
		actors := map[string]func() string{ // each call has a token of its own, since one of them signs out
			"nobody":        func() string { return "" },
			"agent":         func() string { return s.token("bo", demoPassword) },
			"administrator": func() string { return s.token("ada", demoPassword) },
			"limited":       limited,
			"all scopes":    func() string { return serviceToken(s, strings.Join(access.Scopes(), " ")) },
			"reader":        func() string { return serviceToken(s, access.ScopeUsersRead) },
			"resetter":      func() string { return serviceToken(s, access.ScopeReset) },
			"writer":        func() string { return serviceToken(s, access.ScopeUsersWrite) },
			"verifier":      func() string { return serviceToken(s, access.ScopeVerify) },
			"manager":       func() string { return serviceToken(s, access.ScopeManage) },
			"attributor":    func() string { return serviceToken(s, access.ScopeAttribution) },
			"auditor":       func() string { return serviceToken(s, access.ScopeAuditRead) },
		}
		for operation, call := range calls {
			for actor, token := range actors {
				if operation == "refreshSession" || operation == "issueToken" {
					continue // public, and their proof is in the body: see below
				}
				got := outcome(operation, s.call(call.method, call.path, token(), call.body))
				if want := expected(operation, actor); got != want {
					t.Errorf("%s as %s: got %s, want %s", operation, actor, got, want)
				}
			}
		}
		s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{}), http.StatusUnprocessableEntity, "validation_failed")
		s.want(s.call(http.MethodPost, "/oauth/token", "", "x", "Content-Type", "application/json"), http.StatusUnsupportedMediaType, "")
	}, "ACCOUNT_URL=https://app.example.com/account")
}

// expected is the matrix in words of its own, not read from the table.
func expected(operation, actor string) string {
	const served, noToken, forbidden, noScope, mustChange = "served", "unauthorized", "forbidden", "insufficient_scope", "must_change_password"
	ownAffairs := slices.Contains([]string{"listMySessions", "endMySession", "endMyOtherSessions", "listMyActivity"}, operation)
	self := ownAffairs || slices.Contains([]string{"signOut", "getMe", "getMyCredentials", "changeMyCredentials", "checkPassword"}, operation)
	reading := slices.Contains([]string{"listUsers", "getUser", "getUsernameHistory", "reviewCredentials", "getAccountPasswordPolicy", "getNamingRule", "lookUpUsername"}, operation)
	writing := slices.Contains([]string{"setAccountPasswordPolicy", "setNamingRule", "createUser", "changeUser"}, operation)
	jobs := strings.Contains(operation, "PasswordResetJob") || operation == "handOutTemporaryPasswords"
	changing := slices.Contains([]string{"changeUserCredentials", "resetPassword", "lockUser", "releaseHeldUsername", "unlockUser", "endUserSessions"}, operation) || jobs
	auditing := slices.Contains([]string{"listAuditEvents", "checkAuditIntegrity"}, operation)
	resetting := jobs || slices.Contains([]string{"resetPassword", "lockUser"}, operation)
	verifying := operation == "verifyCredentials"
	streaming := slices.Contains(streamOperations(), operation)
	switch {
	case !self && !reading && !writing && !changing && !auditing && !verifying && !streaming && operation != "resolveUsername":
		return served
	case actor == "nobody":
		return noToken
	case self && actor == "limited" && (operation == "changeMyCredentials" || ownAffairs):
		return mustChange // without a new_password it is a rename
	case self && slices.Contains([]string{"agent", "administrator", "limited"}, actor):
		return served
	case self:
		return forbidden // no user acts through a service's token
	case actor == "agent":
		return forbidden
	case actor == "limited":
		return mustChange
	case verifying && actor == "administrator", operation == "resolveUsername" && actor == "administrator", streaming && actor == "administrator":
		return forbidden // it is for services
	case verifying && actor == "verifier", actor == "attributor" && operation == "resolveUsername":
		return served
	case actor == "administrator", actor == "all scopes", actor == "reader" && reading, actor == "writer" && writing,
		actor == "manager" && changing && !resetting, actor == "resetter" && resetting, actor == "auditor" && auditing:
		return served
	}
	return noScope
}
