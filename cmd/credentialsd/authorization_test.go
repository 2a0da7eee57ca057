package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// serviceToken returns a token of the demo service with the scopes, which are separated by spaces.
func serviceToken(s *service, scope string) string {
	s.t.Helper()
	c := s.demo.Clients[0]
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ClientID}, "client_secret": {c.ClientSecret}, "scope": {scope}}
	a := s.call(http.MethodPost, "/oauth/token", "", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	return s.want(a, http.StatusOK, "").text("access_token")
}

// alterDemoClient sets columns of the demo service's registration.
func alterDemoClient(t *testing.T, s *service, columns string) {
	t.Helper()
	execute(t, s.databaseURL, "UPDATE clients SET "+columns+" WHERE id = 'demo-service'")
}

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

// AZ-01, AZ-18, AZ-20, JWT-15: the authorization matrix as it is seen through HTTP: every operation, every kind of actor.
func TestAuthorization_matrix(t *testing.T) {
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

// sameRefusal fails unless both answers are equal to the byte, and in the names of their header fields.
func sameRefusal(t *testing.T, what string, got, want answer) {
	t.Helper()
	if got.status != want.status || !bytes.Equal(got.raw, want.raw) {
		t.Errorf("%s can be told from a user that does not exist:\n%d %s\n%d %s", what, got.status, got.raw, want.status, want.raw)
	}
	if diff := cmp.Diff(fieldNames(want.header), fieldNames(got.header)); diff != "" {
		t.Errorf("%s: the header fields differ:\n%s", what, diff)
	}
}

func fieldNames(header http.Header) []string {
	var names []string
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// onUser calls every operation that names a user, with one request id so that answers can be compared to the byte.
func onUser(s *service, token, id string) map[string]answer {
	const same = "the-same-request-id"
	path := "/admin/users/" + id
	return map[string]answer{
		"show":    s.call(http.MethodGet, path, token, nil, "X-Request-Id", same),
		"history": s.call(http.MethodGet, path+"/username-history", token, nil, "X-Request-Id", same),
		"rename":  s.call(http.MethodPatch, path+"/credentials", token, map[string]string{"username": "renamed." + id[:4]}, "X-Request-Id", same),
		"reset":   s.reset(token, id, nil, "X-Request-Id", same),
		"set":     s.reset(token, id, map[string]string{"method": "set", "new_password": otherPassword}, "X-Request-Id", same),
		"shape":   s.reset(token, id, map[string]string{"method": "pigeon"}, "X-Request-Id", same),
		"stale":   s.reset(token, id, nil, "X-Request-Id", same, "If-Match", `"99"`),
	}
}

const unknownID = "018f0000-0000-7000-8000-000000000000"

// wantInvisible fails unless the user looks to the caller as if there were none, and nothing has changed.
func wantInvisible(s *service, token, id string) {
	s.t.Helper()
	db := s.database()
	before, err := db.Member(s.t.Context(), user.ID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	unknown := onUser(s, token, unknownID)
	for what, got := range onUser(s, token, id) {
		s.want(got, http.StatusNotFound, "not_found")
		sameRefusal(s.t, what+" "+before.User.Username, got, unknown[what])
	}
	after, err := db.Member(s.t.Context(), user.ID(id))
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		s.t.Errorf("something changed: %v\n%s", err, diff)
	}
}

// wantManaged fails unless the caller can do to the user what administrators do.
func wantManaged(s *service, token, id string) {
	s.t.Helper()
	for what, got := range onUser(s, token, id) {
		wanted := http.StatusOK
		switch what {
		case "shape":
			wanted = http.StatusUnprocessableEntity
		case "stale":
			wanted = http.StatusPreconditionFailed
		}
		if got.status != wanted {
			s.t.Errorf("%s: got %d %s", what, got.status, got.raw)
		}
	}
}

// REC-11, AZ-03, AZ-04, AZ-05, AZ-19: who manages whom, one line for each relation; the others look like nobody.
func TestAuthorization_reach(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin, oscar, alex := s.token("ada", demoPassword), s.token("erin", demoPassword), s.token("oscar", demoPassword), s.token("alex", demoPassword)
		id := func(name string) string { return s.user(name).ID }

		for _, name := range []string{"wanda", "ada", "olga", "oscar"} { // beside, above, and in another account
			wantInvisible(s, erin, id(name))
		}
		for _, name := range []string{"alex", "erin", "ada", "wanda"} {
			wantInvisible(s, oscar, id(name))
		}
		wantInvisible(s, ada, id("oscar"))
		unknown := onUser(s, erin, unknownID)
		for _, malformed := range []string{"1", "%00", "%27%20OR%201%3D1%20--", "..%2f..", strings.Repeat("a", 65), "%F0%9F%92%A5"} {
			got := s.call(http.MethodGet, "/admin/users/"+malformed, erin, nil, "X-Request-Id", "the-same-request-id")
			sameRefusal(t, malformed, got, unknown["show"])
		}
		for what, got := range onUser(s, alex, id("bo")) {
			if got.code() != "forbidden" {
				t.Errorf("%s as an agent: got %d %s", what, got.status, got.raw)
			}
		}
		s.want(s.reset(alex, id("bo"), "{not json"), http.StatusForbidden, "forbidden") // AZ-05: before the body is read
		s.want(s.reset(alex, id("alex"), nil), http.StatusForbidden, "forbidden")

		s.want(s.reset(ada, id("ada"), nil), http.StatusForbidden, "use_self_service")
		s.want(s.call(http.MethodPatch, "/admin/users/"+id("ada")+"/credentials", ada, map[string]string{"username": "ada2"}), http.StatusForbidden, "use_self_service")
		s.want(s.call(http.MethodGet, "/admin/users/"+id("ada"), ada, nil), http.StatusOK, "")

		listed := s.want(s.call(http.MethodGet, "/admin/users?account_id=other&team=/", erin, nil), http.StatusOK, "")
		for _, item := range listed.body["items"].([]any) {
			if team := item.(map[string]any)["team"].(string); !strings.HasPrefix(team, "/east/") {
				t.Errorf("erin sees team %s", team)
			}
		}

		wantManaged(s, erin, id("bo"))
		wantManaged(s, erin, id("dora")) // a disabled user stays disabled
		wantManaged(s, ada, id("erin"))
		wantManaged(s, ada, id("wanda"))
		wantManaged(s, oscar, id("olga"))
	})
}

// peers bug 4, product.md decision 5: authority is that of the present moment, for both sides.
func TestAuthorization_followsThePresentState(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, erin := s.database(), s.token("erin", demoPassword)
		id := func(name string) string { return s.user(name).ID }

		alterUser(t, db, id("bo"), func(u *user.User) { u.Role, u.AlsoManages = user.Administrator, []user.Team{"/west/"} })
		wantInvisible(s, erin, id("bo")) // manages a wider reach than erin now
		alterUser(t, db, id("erin"), func(u *user.User) { u.AlsoManages = []user.Team{"/west/"} })
		wantManaged(s, erin, id("bo"))
		wantManaged(s, erin, id("wanda"))

		alterUser(t, db, id("erin"), func(u *user.User) { u.Team, u.AlsoManages = "/west/", nil })
		wantInvisible(s, erin, id("alex"))
		wantManaged(s, erin, id("wanda"))

		// SES-07: demoted, the old token opens no administration, and still the own page.
		alterUser(t, db, id("erin"), func(u *user.User) { u.Role = user.Agent })
		for what, got := range onUser(s, erin, id("wanda")) {
			if got.code() != "forbidden" {
				t.Errorf("%s after the demotion: got %d %s", what, got.status, got.raw)
			}
		}
		s.want(s.call(http.MethodGet, "/admin/users", erin, nil), http.StatusForbidden, "forbidden")
		wantAlive(s, erin)
	})
}

// api.md: the role that counts is the lesser of the token's and the database's, and what the token lacks is not written back.
func TestAuthorization_promotion(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, mine := s.database(), openSession(s, "alex", demoPassword)
		alterUser(t, db, s.user("alex").ID, func(u *user.User) { u.Role = user.Administrator })
		s.want(s.call(http.MethodGet, "/admin/users", mine.access, nil), http.StatusForbidden, "forbidden")
		if role := s.want(s.call(http.MethodGet, "/users/me", mine.access, nil), http.StatusOK, "").text("role"); role != "agent" {
			t.Errorf("the token makes %s", role)
		}
		s.want(s.change(mine.access, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		member, err := db.Member(t.Context(), user.ID(s.user("alex").ID))
		if err != nil || member.User.Role != user.Administrator {
			t.Errorf("a rename with the token from before made the user %s (%v)", member.User.Role, err)
		}
		promoted := wantRefreshed(s, mine.refresh)
		s.want(s.call(http.MethodGet, "/admin/users", promoted.access, nil), http.StatusOK, "")
	})
}

// peers bug 4: an administrator who was moved, demoted or disabled while a request ran changes nothing any more: the
// save itself holds the acting user to the revision the decision was made on.
func TestAuthorization_actorGuard(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, ada, alex := s.database(), user.ID(s.user("ada").ID), user.ID(s.user("alex").ID)
		actor, err := db.Member(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		target, err := db.Member(t.Context(), alex)
		if err != nil {
			t.Fatal(err)
		}
		alterUser(t, db, string(ada), func(u *user.User) { u.Team = "/west/" })
		renamed := target.User
		renamed.Username, renamed.Version = "taken.over", renamed.Version+1
		_, err = db.Commit(t.Context(), change.Change{
			At: time.Now(), Actor: &change.Guard{UserID: ada, Revision: actor.User.Revision}, User: &renamed,
			Target: &change.Guard{UserID: alex, Revision: target.User.Revision},
			Claim:  []change.Claim{{Key: "taken.over", UserID: alex, AccountID: "demo", IsUsername: true}},
			Rename: &change.Rename{UserID: alex, AccountID: "demo", OldKey: "alex", NewUsername: "taken.over", NewKey: "taken.over", At: time.Now()},
			End:    &change.EndSessions{UserID: alex, Why: "password_reset"},
		})
		if !errors.Is(err, change.ErrConflict) {
			t.Fatalf("got %v, want ErrConflict", err)
		}
		after, err := db.Member(t.Context(), alex)
		if diff := cmp.Diff(target, after); err != nil || diff != "" {
			t.Errorf("something was written: %v\n%s", err, diff)
		}
		if _, err := db.MemberByUsername(t.Context(), "taken.over"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the identifier was written: %v", err)
		}
		if names, err := db.UsernameHistory(t.Context(), alex); err != nil || len(names) != 1 {
			t.Errorf("the history was written: %v %v", names, err)
		}
	})
}

// AZ-20, JWT-15, product.md decision 5: what a service reaches is its account, with its scopes, and administrators with
// a scope of their own only.
func TestAuthorization_services(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		id := func(name string) string { return s.user(name).ID }
		all := serviceToken(s, strings.Join(access.Scopes(), " "))
		for _, name := range []string{"olga", "oscar"} {
			wantInvisible(s, all, id(name))
		}
		resets := serviceToken(s, access.ScopeReset)
		refused := s.reset(resets, id("ada"), nil, "X-Request-Id", "the-same-request-id")
		s.want(refused, http.StatusNotFound, "not_found")
		sameRefusal(t, "an administrator", refused, s.reset(resets, unknownID, nil, "X-Request-Id", "the-same-request-id"))
		s.want(s.reset(resets, id("alex"), nil), http.StatusOK, "")
		missing := s.want(s.call(http.MethodGet, "/admin/users", resets, nil), http.StatusForbidden, "insufficient_scope")
		if challenge := missing.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `scope="users:read"`) {
			t.Errorf("the challenge does not name the scope: %s", challenge)
		}
		s.want(s.reset(serviceToken(s, access.ScopeReset+" "+access.ScopeResetAdministrators), id("ada"), nil), http.StatusOK, "")
		wantManaged(s, all, id("bo"))

		// A registration that lost a scope, or was moved to another account, counts at once.
		alterDemoClient(t, s, "scopes = 'users:read'")
		s.want(s.reset(all, id("bo"), nil), http.StatusForbidden, "insufficient_scope")
		s.want(s.call(http.MethodGet, "/admin/users/"+id("bo"), all, nil), http.StatusOK, "")
		alterDemoClient(t, s, "account_id = 'other'")
		s.want(s.call(http.MethodGet, "/admin/users/"+id("bo"), all, nil), http.StatusNotFound, "not_found")
		alterDemoClient(t, s, "account_id = NULL")
		for _, name := range []string{"bo", "olga"} {
			s.want(s.call(http.MethodGet, "/admin/users/"+id(name), all, nil), http.StatusOK, "")
		}
	})
}

// AZ-02, AZ-06, AZ-08, AZ-11, peers bug 5: the subject comes from the token or the path alone, and a body has the members
// of its operation and no others.
func TestAuthorization_bodyNamesNobody(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, alex, wanda := s.database(), s.user("alex"), s.user("wanda")
		mine, ada := s.token("alex", demoPassword), s.token("ada", demoPassword)
		before, err := db.Member(t.Context(), user.ID(alex.ID))
		if err != nil {
			t.Fatal(err)
		}
		for member, value := range map[string]any{
			"user_id": wanda.ID, "id": wanda.ID, "account_id": "other", "role": "administrator", "team": "/", "team_id": "/",
			"password_hash": "x", "version": 9, "must_change": false, "must_change_password": false, "status": "active",
			"generation": 1, "email_verified": true, "also_manages": []string{"/"}, "": "x", "access_token": mine,
		} {
			own := map[string]any{"username": "alex.reed", "current_password": demoPassword, member: value}
			s.want(s.change(mine, own), http.StatusBadRequest, "malformed_request")
			s.want(s.reset(ada, alex.ID, map[string]any{"method": "temporary", member: value}), http.StatusBadRequest, "malformed_request")
			rename := map[string]any{"username": "alex.reed", member: value}
			s.want(s.call(http.MethodPatch, "/admin/users/"+alex.ID+"/credentials", ada, rename), http.StatusBadRequest, "malformed_request")
		}
		after, err := db.Member(t.Context(), user.ID(alex.ID))
		if diff := cmp.Diff(before, after); err != nil || diff != "" {
			t.Fatalf("something changed: %v\n%s", err, diff)
		}

		query := "?username=mallory&id=" + wanda.ID + "&user_id=" + wanda.ID
		changed := s.want(s.call(http.MethodPatch, "/users/me/credentials"+query, mine, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		if changed.text("username") != "alex.reed" || changed.text("user_id") != alex.ID {
			t.Errorf("the query counts: %s", changed.raw)
		}
		done := s.want(s.call(http.MethodPost, "/admin/users/"+alex.ID+"/password-reset"+query, ada, nil), http.StatusOK, "")
		if done.text("user_id") != alex.ID {
			t.Errorf("the query counts: %s", done.raw)
		}
		s.want(s.signIn("wanda", demoPassword), http.StatusCreated, "")
	})
}

// AZ-08, AZ-09, AZ-10, AZ-12, AZ-14, AZ-15: bodies that two readers could read in two ways are refused, whole.
func TestAuthorization_strictBodies(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		mine := s.token("alex", demoPassword)
		for name, body := range map[string]string{
			"AZ-09 twice":                 `{"username":"a1","username":"b1"}`,
			"AZ-09 twice, once escaped":   `{"username":"a1","usern\u0061me":"b1"}`,
			"AZ-09 in another case":       `{"USERNAME":"a1"}`,
			"AZ-09 in both cases":         `{"NEW_PASSWORD":"x","new_password":"y","New_Password":"z"} trailing`,
			"AZ-09 trailing text":         `{"username":"a1"} trailing`,
			"AZ-09 trailing object":       `{"username":"a1"}{"username":"b1"}`,
			"AZ-10 null username":         `{"username":null}`,
			"AZ-10 null new_password":     `{"new_password":null,"current_password":"x"}`,
			"AZ-10 null current_password": `{"username":"a1","current_password":null}`,
			"AZ-10 null":                  `null`,
			"AZ-12 nothing":               ``,
			"AZ-12 white space":           ` `,
			"AZ-14 number":                `{"username":1}`,
			"AZ-14 list":                  `{"username":["a1"]}`,
			"AZ-14 object":                `{"new_password":{"a":"b"},"current_password":"x"}`,
			"AZ-14 boolean":               `{"current_password":true}`,
			"AZ-14 a list for a body":     `[{"username":"a1"}]`,
			"AZ-14 a string for a body":   `"username"`,
			"AZ-08 unknown":               `{"username":"a1","nickname":"b1"}`,
			"not JSON":                    `username=a1`, "ends early": `{"username":"a1"`, "not UTF-8": "{\"username\":\"a\xff1\"}",
			"a lone surrogate": `{"new_password":"\ud800"}`, "a comment": `{"username":"a1"/**/}`, "a comma too many": `{"username":"a1",}`,
		} {
			if a := s.change(mine, body); a.status != http.StatusBadRequest || a.code() != "malformed_request" {
				t.Errorf("%s: got %d %s", name, a.status, a.raw)
			}
		}
		for _, path := range []string{"/sessions", "/sessions/refresh"} { // AZ-12
			s.want(s.call(http.MethodPost, path, "", nil), http.StatusBadRequest, "malformed_request")
		}
		s.want(s.change(mine, map[string]string{"username": ""}), http.StatusUnprocessableEntity, "policy_violation") // AZ-10: "" is there
		sqlInjection(t, s, mine)
		mine = s.token("alex", demoPassword)
		if name := s.want(s.call(http.MethodGet, "/users/me", mine, nil), http.StatusOK, "").text("username"); name != "alex" {
			t.Errorf("alex is %s now", name)
		}
	})
}

// sqlInjection is AZ-15: no text gets to be part of a statement.
func sqlInjection(t *testing.T, s *service, mine string) {
	ada := s.token("ada", demoPassword)
	for _, attack := range []string{"' OR 1=1 --", "'; DROP TABLE users; --", "\" OR \"\"=\"", "alex' --", "x') OR ('1'='1", "%' OR '%'='", `\`} {
		s.want(s.change(mine, map[string]string{"username": attack}), http.StatusUnprocessableEntity, "policy_violation")
		s.want(s.signIn(attack, demoPassword), http.StatusUnauthorized, "invalid_credentials")
		found := s.want(s.call(http.MethodGet, "/admin/users?query="+url.QueryEscape(attack), ada, nil), http.StatusOK, "")
		if items := found.body["items"].([]any); len(items) != 0 {
			t.Errorf("%s finds %d users", attack, len(items))
		}
		for _, parameter := range []string{"team", "status", "role", "cursor", "limit"} {
			a := s.call(http.MethodGet, "/admin/users?"+parameter+"="+url.QueryEscape(attack), ada, nil)
			if a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s=%s: got %d %s", parameter, attack, a.status, a.raw)
			}
		}
		s.want(s.call(http.MethodGet, "/admin/users/"+url.PathEscape(attack), ada, nil), http.StatusNotFound, "not_found")
		s.want(s.change(mine, map[string]string{"username": "a1"}, "If-Match", `"1 OR 1=1"`), http.StatusPreconditionFailed, "precondition_failed")
	}
}

// AZ-13: 16 KiB and not a byte more, with a Content-Length and in chunks.
func TestAuthorization_bodyLimit(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		mine, ada := s.token("alex", demoPassword), s.token("ada", demoPassword)
		body := func(size int) []byte {
			start := []byte(`{"unknown":"`)
			return append(append(start, bytes.Repeat([]byte("a"), size-len(start)-2)...), '"', '}')
		}
		for _, target := range []request{
			{http.MethodPatch, "/users/me/credentials", mine},
			{http.MethodPost, "/admin/users/" + s.user("bo").ID + "/password-reset", ada},
			{http.MethodPatch, "/admin/users/" + s.user("bo").ID + "/credentials", ada},
			{http.MethodPost, "/sessions", ""},
			{http.MethodPost, "/sessions/refresh", ""},
		} {
			for _, chunked := range []bool{false, true} {
				for size, want := range map[int]int{16 << 10: 400, 16<<10 + 1: 413, 16<<10 + 2: 413, 1 << 20: 413} {
					if got := sendFramed(s, target, body(size), chunked); got != want {
						t.Errorf("%s %s, %d bytes, chunked %v: got %d, want %d", target.method, target.path, size, chunked, got, want)
					}
				}
			}
		}
	})
}

// sendFramed sends the body with a Content-Length or in chunks, with the token that stands in target.body.
func sendFramed(s *service, target request, body []byte, chunked bool) int {
	s.t.Helper()
	var content io.Reader = bytes.NewReader(body)
	if chunked {
		content = io.MultiReader(content) // of unknown length
	}
	r, err := http.NewRequestWithContext(s.t.Context(), target.method, s.demo.URL+target.path, content)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+target.body.(string))
	response, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection can be used again
	return response.StatusCode
}

// AZ-07, AZ-17: of changes at the same time each is whole, one of two with the same If-Match wins, and none is lost half-way.
func TestAuthorization_checkAndWriteAreOne(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		mine, ada, bo := openSession(s, "alex", demoPassword), s.token("ada", demoPassword), s.user("bo")
		for round, etag := range []string{`"1"`, ""} {
			names := []string{"one." + string(rune('a'+round)), "two." + string(rune('a'+round))}
			answers := atOnce(len(names), func(i int) (answer, error) {
				return s.try(http.MethodPatch, "/admin/users/"+bo.ID+"/credentials", ada, map[string]string{"username": names[i]}, "If-Match", etag)
			})
			shown := s.want(s.call(http.MethodGet, "/admin/users/"+bo.ID, ada, nil), http.StatusOK, "").text("username")
			checkWinner(t, etag, shown, names, answers)
		}

		// A password change and a rename of the same user: another column's change survives, or is refused.
		answers := atOnce(2, func(i int) (answer, error) {
			if i == 0 {
				return s.try(http.MethodPatch, "/users/me/credentials", mine.access, map[string]string{"new_password": otherPassword, "current_password": demoPassword})
			}
			return s.try(http.MethodPatch, "/admin/users/"+s.user("alex").ID+"/credentials", ada, map[string]string{"username": "alex.reed"})
		})
		name, pw := "alex", demoPassword
		for i, a := range answers {
			switch {
			case a.status == http.StatusOK && i == 0:
				pw = otherPassword
			case a.status == http.StatusOK:
				name = "alex.reed"
			case a.status != http.StatusConflict:
				t.Errorf("got %d %s", a.status, a.raw)
			}
		}
		if name == "alex" && pw == demoPassword {
			t.Error("both lost")
		}
		s.want(s.signIn(name, pw), http.StatusCreated, "")
	})
}

func atOnce(n int, do func(i int) (answer, error)) []answer {
	answers := make([]answer, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { answers[i], _ = do(i) }) // an error leaves the status 0, which no test expects
	}
	running.Wait()
	return answers
}

func checkWinner(t *testing.T, etag, shown string, names []string, answers []answer) {
	t.Helper()
	won := 0
	for i, a := range answers {
		switch {
		case a.status == http.StatusOK:
			won++
			if won == 1 && etag != "" && shown != names[i] {
				t.Errorf("%s won and %s is shown", names[i], shown)
			}
		case etag != "" && a.status == http.StatusPreconditionFailed, etag == "" && a.status == http.StatusConflict:
		default:
			t.Errorf("If-Match %s: got %d %s", etag, a.status, a.raw)
		}
	}
	if won == 0 || (etag != "" && won != 1) || !slices.Contains(names, shown) {
		t.Errorf("If-Match %s: %d won, %s is shown", etag, won, shown)
	}
}

// peers bug 18: records hang on the id. Whoever takes a name later gets nothing of the one who had it before.
func TestAuthorization_namesAreNoKeys(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex, wanda := s.user("alex"), s.user("wanda")
		rename := func(id, name string) answer {
			return s.call(http.MethodPatch, "/admin/users/"+id+"/credentials", s.token("ada", demoPassword), map[string]string{"username": name})
		}
		mine := s.token("alex", demoPassword)
		s.want(rename(alex.ID, "alex.reed"), http.StatusOK, "")
		s.want(rename(wanda.ID, "alex"), http.StatusConflict, "identifier_taken")
		wantAlive(s, mine)
		s.clock.advance(180*24*time.Hour + time.Minute)
		s.want(rename(wanda.ID, "alex"), http.StatusOK, "")
		for name, id := range map[string]string{"alex": wanda.ID, "alex.reed": alex.ID} {
			me := s.want(s.call(http.MethodGet, "/users/me", s.token(name, demoPassword), nil), http.StatusOK, "")
			if me.text("id") != id {
				t.Errorf("%s signs in as %s", name, me.raw)
			}
		}
		history := s.want(s.call(http.MethodGet, "/admin/users/"+alex.ID+"/username-history", s.token("ada", demoPassword), nil), http.StatusOK, "")
		if items := history.body["items"].([]any); len(items) != 2 {
			t.Errorf("the history of alex: %s", history.raw)
		}
	})
}

// AZ-21: the migrations bring no account, no user and no service.
func TestAuthorization_noDefaultAccounts(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			if err := migrate(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			db, err := store.Open(t.Context(), store.Config{URL: url, Log: newLogger(io.Discard, "error"), Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			defer closeQuietly(db)
			everywhere := access.Actor{Kind: access.Service, AllAccounts: true}
			if members, err := db.Members(t.Context(), everywhere, credential.Filter{}, "", 10); err != nil || len(members) != 0 {
				t.Errorf("users: %v %v", members, err)
			}
			for _, id := range []string{"demo-service", "admin", "root", session.AppClientID} {
				if _, err := db.Client(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("client %s: %v", id, err)
				}
			}
		})
	}
}
