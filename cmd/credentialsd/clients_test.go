package main

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/pkg/client"
)

var shownSecret = regexp.MustCompile(`(?m)^client secret: ([A-Za-z0-9_-]{43})$`)

// operator runs a command on the service's database and returns what it printed.
func (s *service) operator(args string, code int, says ...string) string {
	s.t.Helper()
	w := wants{args: args, env: map[string]string{"DATABASE_URL": s.databaseURL}, code: code, out: says}
	if code != 0 {
		w.out, w.err = nil, says
	}
	return w.check(s.t)
}

// secretOf runs a command that shows a client's secret, exactly once.
func (s *service) secretOf(args string, says ...string) string {
	s.t.Helper()
	out := s.operator(args, 0, append(says, "The secret is not shown again")...)
	found := shownSecret.FindStringSubmatch(out)
	if found == nil || strings.Count(out, found[1]) != 1 {
		s.t.Fatalf("the secret must be there once:\n%s", out)
	}
	return found[1]
}

// grant asks for a client's token, with all its scopes.
func (s *service) grant(id, proof string) answer {
	s.t.Helper()
	return s.oauth("grant_type=client_credentials", id, proof)
}

// tokenOf returns a client's token, with all its scopes.
func (s *service) tokenOf(id, proof string) string {
	s.t.Helper()
	return s.want(s.grant(id, proof), http.StatusOK, "").text("access_token")
}

// CFG-03, ASVS 13.3.4: a service is registered with a secret that is shown once; two are good while they are rotated; the old
// one is refused after the overlap.
func TestClients_secrets(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		first := s.secretOf("client create lead-router --account demo --scope users:read,attribution:read --scope credentials:verify --name Router",
			"registered Router for account demo", "attribution:read credentials:verify users:read")
		a := s.want(s.grant("lead-router", first), http.StatusOK, "")
		if a.text("scope") != "attribution:read credentials:verify users:read" {
			t.Errorf("%s", a.raw)
		}
		token := a.text("access_token")
		s.want(s.call(http.MethodGet, "/admin/users", token, nil), http.StatusOK, "")

		second := s.secretOf("client rotate lead-router --overlap 2h", "Those from before are good until")
		for _, proof := range []string{first, second} {
			s.want(s.grant("lead-router", proof), http.StatusOK, "")
		}
		third := s.secretOf("client rotate lead-router") // the second was lost, say: the first must not suffer
		for _, proof := range []string{first, second, third} {
			s.want(s.grant("lead-router", proof), http.StatusOK, "")
		}
		if list := s.operator("client list", 0, "lead-router", "account demo", "3, old until"); strings.Contains(list, first) || strings.Contains(list, third) {
			t.Errorf("a secret is listed:\n%s", list)
		}
		s.clock.advance(2*time.Hour + time.Second)
		wantRefusal(t, s.grant("lead-router", first), http.StatusUnauthorized, "invalid_client")
		s.want(s.grant("lead-router", second), http.StatusOK, "") // 24 hours if nothing else is said
		s.clock.advance(22 * time.Hour)
		wantRefusal(t, s.grant("lead-router", second), http.StatusUnauthorized, "invalid_client")
		s.want(s.grant("lead-router", third), http.StatusOK, "")

		fourth := s.secretOf("client rotate lead-router --overlap 0s") // the third was stolen, say
		wantRefusal(t, s.grant("lead-router", third), http.StatusUnauthorized, "invalid_client")
		s.want(s.grant("lead-router", fourth), http.StatusOK, "")

		s.stop()
		text := dump(t, s.databaseURL) + s.log.String()
		for _, proof := range []string{first, second, third, fourth} {
			if strings.Contains(text, proof) {
				t.Error("a secret is stored or logged")
			}
		}
	})
}

// What the operator does with clients is done at once on every replica, told in the trail of the client's account, and
// refused with all that is wrong.
func TestClients_registration(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		proof := s.secretOf("client create lead-router --account demo --scope users:read --name Router")
		token := s.tokenOf("lead-router", proof)
		s.operator("client disable lead-router", 0, "is disabled")
		s.operator("client disable lead-router", 0, "is disabled") // it is so already
		s.want(s.call(http.MethodGet, "/admin/users", token, nil), http.StatusUnauthorized, "unauthorized")
		wantRefusal(t, s.grant("lead-router", proof), http.StatusUnauthorized, "invalid_client")
		s.operator("client list", 0, "disabled")
		s.operator("client rotate lead-router", 1, "lead-router is disabled; enable it first")
		s.operator("client enable lead-router", 0, "lead-router is active")
		s.want(s.call(http.MethodGet, "/admin/users", token, nil), http.StatusOK, "")
		s.secretOf("client rotate lead-router --overlap 0s")

		for args, says := range map[string][]string{
			"client create lead-router --account demo --scope users:read":       {"a service with the id lead-router exists"},
			"client create other --account nowhere --scope users:read":          {"there is no account nowhere"},
			"client create .. --account // --scope users:delete,root":           {"the id must be", "the account must be", `no scope "users:delete"`, `no scope "root"`, "credentials:reset:administrators"},
			"client create salesexec-app --account demo --scope users:read":     {"and not salesexec-app"}, // the app's tokens name it
			"client create other --account demo --scope USERS:READ --name \x07": {`no scope "USERS:READ"`, "the name must"},
			"client rotate nobody":                     {"there is no service nobody"},
			"client disable nobody":                    {"there is no service nobody"},
			"client enable nobody":                     {"there is no service nobody"},
			"client rotate lead-router --overlap 721h": {"the overlap must be"},
			"client rotate lead-router --overlap=-1s":  {"the overlap must be"},
		} {
			s.operator(args, 1, says...)
		}
		for args, says := range map[string]string{
			"client create other --scope users:read":                               "--account=STRING or --all-accounts",
			"client create other --account demo --all-accounts --scope users:read": "can't be used together",
			"client create other --account demo":                                   "missing flags: --scope",
		} {
			wants{args: args, env: map[string]string{"DATABASE_URL": s.databaseURL}, code: 80, err: []string{says}}.check(t)
		}

		events, err := s.database().AuditEvents(t.Context(), "demo", time.Time{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var told []audit.Action
		for _, e := range events {
			if e.Target.ID == "lead-router" {
				told = append(told, e.Action)
				if e.Actor.Kind != access.Operator || e.Target.Kind != access.Service || e.Target.Name != "Router" || (e.Action == audit.ServiceCreated) != slices.Equal(e.Details.Scopes, []string{"users:read"}) {
					t.Errorf("%+v", e)
				}
			}
		}
		if want := []audit.Action{audit.ServiceCreated, audit.ServiceDisabled, audit.ServiceEnabled, audit.ServiceRotated}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// product.md decision 5, AZ-03: a client works for the one account it was registered for, or for all.
func TestClients_accounts(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		scopes := " --scope users:read,credentials:manage,credentials:reset"
		bound := s.tokenOf("bound", s.secretOf("client create bound --account other"+scopes))
		all := s.tokenOf("all", s.secretOf("client create all --all-accounts"+scopes, "for all accounts"))
		alex, olga := s.user("alex").ID, s.user("olga").ID
		wantInvisible(s, bound, alex)
		wantManaged(s, bound, olga)
		wantManaged(s, all, alex)
		wantManaged(s, all, olga)
		seen := s.want(s.call(http.MethodGet, "/admin/users?limit=200", all, nil), http.StatusOK, "")
		if items, _ := seen.body["items"].([]any); len(items) != len(s.demo.Users) {
			t.Errorf("%d users", len(items))
		}
	})
}

// AZ-20: a token that a client got for itself works on no operation of a user, whatever its scopes are, and whomever it
// says it acts for.
func TestClients_noUsersOperations(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	all := serviceToken(s, strings.Join(access.Scopes(), " "))
	tried := 0
	for operation, r := range requests(s) {
		rule, _ := access.RuleFor(operation)
		if rule.Public || rule.Scope != "" {
			continue
		}
		tried++
		s.want(s.call(r.method, r.path, all, r.body), http.StatusForbidden, "forbidden")
		s.want(s.call(r.method, r.path, all, r.body, "X-On-Behalf-Of", s.user("alex").ID), http.StatusForbidden, "forbidden")
	}
	if tried < 4 {
		t.Errorf("only %d operations were tried", tried)
	}
}

// Issue "acting for a human is recorded": whom a service says it acts for is kept as its claim, with what was done and what
// was refused, and widens nothing.
func TestClients_onBehalfOf(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo, alex := s.user("ada").ID, s.user("bo").ID, s.user("alex").ID
		token := s.tokenOf("router", s.secretOf("client create router --account demo --scope users:read,credentials:reset"))
		as := []string{"X-On-Behalf-Of", ada}
		s.want(s.reset(token, bo, nil, as...), http.StatusOK, "")
		s.want(s.reset(token, alex, nil), http.StatusOK, "")
		s.want(s.reset(token, bo, nil, "X-On-Behalf-Of", "nobody-we-know"), http.StatusOK, "") // a claim, which is not looked up
		s.want(s.call(http.MethodGet, "/admin/users/"+bo, token, nil, as...), http.StatusOK, "")

		// The administrator it names could do these; the service cannot.
		s.want(s.call(http.MethodPatch, "/admin/users/"+bo+"/credentials", token, map[string]string{"username": "bo.lind"}, as...), http.StatusForbidden, "insufficient_scope")
		s.want(s.reset(token, s.user("erin").ID, nil, as...), http.StatusNotFound, "not_found")
		s.want(s.reset(token, s.user("olga").ID, nil, "X-On-Behalf-Of", s.user("oscar").ID), http.StatusNotFound, "not_found")

		for _, claim := range []string{"a b", "ada@demo.example", "../ada", strings.Repeat("a", 65), ada + "," + bo, " "} {
			s.want(s.reset(token, bo, nil, "X-On-Behalf-Of", claim), http.StatusBadRequest, "malformed_request")
		}
		s.want(s.reset(s.token("ada", demoPassword), bo, nil, as...), http.StatusBadRequest, "malformed_request") // a user acts for nobody else

		c, err := client.New(s.demo.URL, client.WithHTTPClient(s.http), client.WithToken(func(context.Context) (string, error) { return token, nil }))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.ResetPassword(client.OnBehalfOf(t.Context(), ada), bo, client.PasswordReset{}, ""); err != nil {
			t.Fatal(err)
		}

		events, err := s.database().AuditEvents(t.Context(), "demo", time.Time{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range events {
			if e.Actor.ID != "router" || e.Action == audit.ServiceTokenIssued {
				continue
			}
			told = append(told, strings.TrimSpace(string(e.Action)+" "+string(e.Origin.OnBehalfOf)+" "+e.Details.Code))
		}
		want := []string{
			"password.reset " + ada, "password.reset", "password.reset nobody-we-know",
			"credentials.change_refused " + ada + " insufficient_scope", "credentials.change_refused " + ada + " not_found",
			"credentials.change_refused " + s.user("oscar").ID + " not_found", "password.reset " + ada,
		}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		if found, err := s.database().Integrity(t.Context(), "demo"); err != nil || !found.Intact {
			t.Errorf("%+v, %v", found, err)
		}
	})
}
