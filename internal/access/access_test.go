package access_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/user"
)

// contract returns every operation of openapi.yaml by its id.
func contract(t *testing.T) map[string]*openapi3.Operation {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*openapi3.Operation{}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if _, twice := found[operation.OperationID]; twice || operation.OperationID == "" {
				t.Errorf("%s %s has the operation id %q, which is none of its own", method, path, operation.OperationID)
			}
			found[operation.OperationID] = operation
		}
	}
	if len(found) == 0 {
		t.Fatal("the contract has no operations")
	}
	return found
}

// AZ-01, AZ-18, peers bug 3: every operation of the contract has exactly one row, and every row an operation.
func TestTable_isTheContract(t *testing.T) {
	var rows []string
	for _, rule := range access.Table() {
		rows = append(rows, rule.Operation)
	}
	slices.Sort(rows)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(contract(t))), rows); diff != "" {
		t.Errorf("the contract (-) and the table (+) differ:\n%s", diff)
	}
}

// AZ-01: what the contract says about tokens is what the table does.
func TestTable_agreesOnSecurity(t *testing.T) {
	for id, operation := range contract(t) {
		rule, _ := access.RuleFor(id)
		tokens, optional := bearer(operation)
		if public := !tokens || optional; public != rule.Public {
			t.Errorf("%s: public in the contract %v, in the table %v", id, public, rule.Public)
		}
		if reads := tokens && optional; reads != rule.ReadsToken {
			t.Errorf("%s: reads a token if there is one: in the contract %v, in the table %v", id, reads, rule.ReadsToken)
		}
	}
}

// AZ-18: what the contract says under x-access, for people and programs, is the row of the table.
func TestTable_isInTheContract(t *testing.T) {
	for id, operation := range contract(t) {
		rule, _ := access.RuleFor(id)
		want := map[string]any{}
		for name, value := range map[string]string{"role": string(rule.Role), "scope": rule.Scope, "target": string(rule.Target)} {
			if value != "" {
				want[name] = value
			}
		}
		if rule.Public {
			want["public"] = true
		}
		if diff := cmp.Diff(any(want), operation.Extensions["x-access"]); diff != "" {
			t.Errorf("%s: x-access in the contract (+) is not the row of the table (-):\n%s", id, diff)
		}
	}
}

// API-05: the operations that say in the contract that they take an Idempotency-Key are those that honour it.
func TestTable_repeatable(t *testing.T) {
	for id, operation := range contract(t) {
		rule, _ := access.RuleFor(id)
		if takes := operation.Parameters.GetByInAndName(openapi3.ParameterInHeader, "Idempotency-Key") != nil; takes != rule.Repeatable {
			t.Errorf("%s: takes an Idempotency-Key: in the contract %v, in the table %v", id, takes, rule.Repeatable)
		}
	}
}

// bearer tells whether the operation takes an access token, and whether it can also be called without one.
func bearer(operation *openapi3.Operation) (tokens, optional bool) {
	if operation.Security == nil {
		return true, false // the document's default
	}
	for _, requirement := range *operation.Security {
		_, names := requirement["bearer"]
		tokens, optional = tokens || names, optional || len(requirement) == 0
	}
	return tokens, optional
}

// AZ-01: what nobody thought of is refused.
func TestRuleFor_unknownOperation(t *testing.T) {
	for _, unknown := range []string{"", "deleteEverything", "SIGNIN", "signIn "} {
		if rule, there := access.RuleFor(unknown); there {
			t.Errorf("%q has the row %+v", unknown, rule)
		}
	}
	if rule, there := access.RuleFor("resetPassword"); !there || rule.Scope != access.ScopeReset {
		t.Errorf("resetPassword has the row %+v", rule)
	}
	for _, actor := range actors() {
		if actor.Kind == access.Operator {
			continue
		}
		if err := (access.Rule{}).Allow(actor); err == nil {
			t.Errorf("the empty row lets %s %s in", actor.Kind, actor.Role)
		}
	}
}

func actors() map[string]access.Actor {
	person := func(role user.Role, limited bool) access.Actor {
		return access.Actor{Kind: access.Person, Role: role, User: user.User{Role: role}, MustChangePassword: limited}
	}
	service := func(scopes ...string) access.Actor { return access.Actor{Kind: access.Service, Scopes: scopes} }
	return map[string]access.Actor{
		"nobody": {}, "operator": {Kind: access.Operator},
		"agent": person(user.Agent, false), "administrator": person(user.Administrator, false),
		"limited agent": person(user.Agent, true), "limited administrator": person(user.Administrator, true),
		"no role": person("", false), "odd role": person("owner", false),
		// The database says administrator, the token agent: the lesser counts.
		"promoted":  {Kind: access.Person, Role: user.Agent, User: user.User{Role: user.Administrator}},
		"scopeless": service(), "reader": service(access.ScopeUsersRead), "manager": service(access.ScopeManage),
		"resetter": service(access.ScopeReset), "reset administrators only": service(access.ScopeResetAdministrators),
		"receiver": service(access.ScopeSignalsRead), "stream manager": service(access.ScopeSignalsManage),
		"writer": service(access.ScopeUsersWrite), "auditor": service(access.ScopeAuditRead), "verifier": service(access.ScopeVerify), "attributor": service(access.ScopeAttribution), "all scopes": service(access.Scopes()...), "odd scope": service("users", "users:read:all", "USERS:READ", "ssf", "ssf.*"),
	}
}

// AZ-18, AZ-20, JWT-15: the matrix of operations and actors, in words of its own. A missing entry means that the actor
// may call the operation.
func TestAllow_matrix(t *testing.T) {
	noToken, forbidden, noScope, limited := access.ErrUnauthenticated, access.ErrForbidden, access.ErrInsufficientScope, access.ErrMustChangePassword
	public := map[string]error{"": nil}
	self := map[string]error{
		"nobody": noToken, "no role": forbidden, "odd role": forbidden, "scopeless": forbidden, "reader": forbidden, "manager": forbidden,
		"resetter": forbidden, "reset administrators only": forbidden, "writer": forbidden, "auditor": forbidden, "verifier": forbidden, "attributor": forbidden, "all scopes": forbidden, "odd scope": forbidden,
		"receiver": forbidden, "stream manager": forbidden,
	}
	ownAffairs := maps.Clone(self) // what a session that may only choose a new password may not do
	ownAffairs["limited agent"], ownAffairs["limited administrator"] = limited, limited
	administration := func(may ...string) map[string]error {
		refused := map[string]error{
			"nobody": noToken, "agent": forbidden, "promoted": forbidden, "no role": forbidden, "odd role": forbidden,
			"limited agent": limited, "limited administrator": limited, "scopeless": noScope, "reader": noScope, "manager": noScope,
			"resetter": noScope, "reset administrators only": noScope, "writer": noScope, "auditor": noScope, "verifier": noScope, "attributor": noScope, "odd scope": noScope,
			"receiver": noScope, "stream manager": noScope,
		}
		maps.DeleteFunc(refused, func(actor string, _ error) bool { return slices.Contains(may, actor) })
		return refused
	}
	services := func(may ...string) map[string]error { // no person, whatever the role (SSF-03)
		refused := administration(may...)
		refused["administrator"] = forbidden
		return refused
	}
	matrix := map[string]map[string]error{
		"signIn": public, "refreshSession": public, "issueToken": public, "getPasswordPolicy": public, "getJwks": public,
		"getIssuerMetadata": public, "getOpenapi": public, "getProblem": public,
		"redeemPasswordReset": public, "confirmEmail": public, "revertCredentials": public,
		"showResetPage": public, "showConfirmEmailPage": public, "showRevertPage": public, "getDevMail": public, "getChangePassword": public,
		"signOut": self, "getMe": self, "getMyCredentials": self, "changeMyCredentials": self, "checkPassword": self,
		"listMySessions": ownAffairs, "endMySession": ownAffairs, "endMyOtherSessions": ownAffairs, "listMyActivity": ownAffairs,
		"listUsers": administration("reader"), "getUser": administration("reader"), "getUsernameHistory": administration("reader"), "reviewCredentials": administration("reader"),
		"createUser": administration("writer"), "changeUser": administration("writer"), "unlockUser": administration("manager"),
		"endUserSessions": administration("manager"), "resolveUsername": services("attributor"),
		"changeUserCredentials": administration("manager"), "resetPassword": administration("resetter"), "lockUser": administration("resetter"),
		"beginPasswordResetJob": administration("resetter"), "listPasswordResetJobs": administration("resetter"), "getPasswordResetJob": administration("resetter"),
		"listPasswordResetJobResults": administration("resetter"), "cancelPasswordResetJob": administration("resetter"), "handOutTemporaryPasswords": administration("resetter"),
		"verifyCredentials": services("verifier"),
		"listAuditEvents":   administration("auditor"), "checkAuditIntegrity": administration("auditor"),
		"getAccountPasswordPolicy": administration("reader"), "getNamingRule": administration("reader"), "lookUpUsername": administration("reader"),
		"setAccountPasswordPolicy": administration("writer"), "setNamingRule": administration("writer"), "releaseHeldUsername": administration("manager"),
		"getSsfConfiguration": public,
		"readStreams":         services("receiver", "stream manager"), "getStreamStatus": services("receiver", "stream manager"),
		"pollStream": services("receiver", "stream manager"), "verifyStream": services("receiver", "stream manager"),
		"createStream": services("stream manager"), "updateStream": services("stream manager"), "replaceStream": services("stream manager"),
		"deleteStream": services("stream manager"), "setStreamStatus": services("stream manager"),
		"addSubject": services("stream manager"), "removeSubject": services("stream manager"),
	}
	for _, rule := range access.Table() {
		wanted, there := matrix[rule.Operation]
		if !there {
			t.Errorf("no line of the matrix for %s", rule.Operation)
		}
		for name, actor := range actors() {
			if err := rule.Allow(actor); !errors.Is(err, wanted[name]) || (wanted[name] == nil && err != nil) {
				t.Errorf("%s as %s: got %v, want %v", rule.Operation, name, err, wanted[name])
			}
		}
	}
}

// AZ-01: rows are whole: a row that needs a token says for whom, and a scope is one that exists.
func TestTable_rows(t *testing.T) {
	for _, rule := range access.Table() {
		if rule.Public == (rule.Role != "" || rule.Scope != "") {
			t.Errorf("%s is public and restricted, or neither", rule.Operation)
		}
		if rule.Public != (rule.Target == "") {
			t.Errorf("%s needs a token and does not say whom it may concern, or concerns somebody without one", rule.Operation)
		}
		if (rule.Target == access.Self) != (rule.Role == user.Agent) {
			t.Errorf("%s is for agents and concerns others, or not for them and the own self alone", rule.Operation)
		}
		if rule.ReadsToken && !rule.Public {
			t.Errorf("%s reads a token if there is one, and needs one", rule.Operation)
		}
		if rule.Scope != "" && !slices.Contains(access.Scopes(), rule.Scope) {
			t.Errorf("%s needs the scope %s, which nobody can be given", rule.Operation, rule.Scope)
		}
	}
	if !slices.IsSorted(access.Scopes()) {
		t.Error("the scopes are not sorted")
	}
}

// AZ-03: who has any business in an account.
func TestActor_SeesAccount(t *testing.T) {
	for name, c := range map[string]struct {
		actor access.Actor
		sees  bool
	}{
		"a person in the own account":     {access.Actor{Kind: access.Person, User: user.User{AccountID: "a"}}, true},
		"a person in another":             {access.Actor{Kind: access.Person, User: user.User{AccountID: "b"}}, false},
		"a service in its account":        {access.Actor{Kind: access.Service, ClientAccount: "a"}, true},
		"a service in another":            {access.Actor{Kind: access.Service, ClientAccount: "b"}, false},
		"a service of all accounts":       {access.Actor{Kind: access.Service, AllAccounts: true}, true},
		"a service of none":               {access.Actor{Kind: access.Service}, false},
		"an operator":                     {access.Actor{Kind: access.Operator}, true},
		"nobody":                          {access.Actor{}, false},
		"nobody, with an account":         {access.Actor{User: user.User{AccountID: "a"}, ClientAccount: "a", AllAccounts: true}, false},
		"a person with a service's marks": {access.Actor{Kind: access.Person, AllAccounts: true, ClientAccount: "a"}, false},
	} {
		if got := c.actor.SeesAccount("a"); got != c.sees {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
