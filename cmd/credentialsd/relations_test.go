package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/access"
)

// AZ-03, AZ-18: what the table says of the relation to the target is what happens, with every operation: for each relation those
// who stand in it and those who do not. What is asked of bo is asked of others.
func TestAuthorization_relations(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		erin, ada, calls := s.token("erin", demoPassword), s.token("ada", demoPassword), requests(s)
		others := slices.DeleteFunc(access.Scopes(), func(scope string) bool { return scope == access.ScopeResetAdministrators })
		bounded := serviceToken(s, strings.Join(others, " "))
		for _, rule := range access.Table() {
			call := calls[rule.Operation]
			as := func(token, name string) string {
				return outcome(rule.Operation, s.call(call.method, strings.ReplaceAll(call.path, s.user("bo").ID, s.user(name).ID), token, call.body))
			}
			named := strings.Contains(call.path, s.user("bo").ID)
			if one := rule.Target == access.Seen || rule.Target == access.Managed; named && !one || rule.Target == access.Managed && !named {
				t.Errorf("%s concerns one user, %v; the table says %s", rule.Operation, named, rule.Target)
			}
			got, want := map[string]string{}, map[string]string{}
			switch {
			case named:
				for who, is := range map[string][3]string{
					"within reach":                     {erin, "bo", "served"},
					"beside":                           {erin, "wanda", "not_found"},
					"above":                            {erin, "ada", "not_found"},
					"in another account":               {ada, "olga", "not_found"},
					"in another account, by a service": {bounded, "olga", "not_found"},
					"an administrator, by a service without the scope": {bounded, "ada", "not_found"},
					"the own self": {erin, "erin", "use_self_service"},
				} {
					got[who], want[who] = as(is[0], is[1]), is[2]
				}
				if rule.Target == access.Seen {
					want["the own self"], want["an administrator, by a service without the scope"] = "served", "served"
				}
			case rule.Target == access.WholeAccount:
				got["a part of it"], want["a part of it"] = as(erin, "bo"), "forbidden"
				got["all of it"], want["all of it"] = as(ada, "bo"), "served"
			}
			for who := range want {
				if got[who] != want[who] {
					t.Errorf("%s, %s: got %s, want %s", rule.Operation, who, got[who], want[who])
				}
			}
		}
	})
}
