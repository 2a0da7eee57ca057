package main

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
)

const accountPolicy = "/admin/password-policy"

// setPolicy replaces the demo account's rules for passwords, held names and resets.
func (s *service) setPolicy(token string, policy any, headers ...string) answer {
	s.t.Helper()
	return s.call(http.MethodPut, accountPolicy, token, policy, headers...)
}

// tryPassword returns the codes of what the dry run has against a password.
func (s *service) tryPassword(token, candidate string) []string {
	s.t.Helper()
	a := s.want(s.call(http.MethodPost, "/password-policy/check", token, map[string]string{"password": candidate}), http.StatusOK, "")
	var codes []string
	for _, item := range a.body["violations"].([]any) {
		codes = append(codes, item.(map[string]any)["code"].(string))
	}
	if a.body["acceptable"] != (codes == nil) {
		s.t.Errorf("acceptable and violations differ: %s", a.raw)
	}
	return codes
}

// passwordCodes returns the codes at /new_password.
func passwordCodes(a answer) []string {
	var codes []string
	for _, field := range a.fieldCodes() {
		if code, ok := strings.CutPrefix(field, "/new_password "); ok {
			codes = append(codes, code)
		}
	}
	return codes
}

// PW-23, peers bug 20: what is shown, what the dry run says and what every way to choose a password enforces come from one
// value, and the value is the account's alone.
func TestAccountPolicy_isWhatIsEnforced(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex, oscar := s.token("ada", demoPassword), s.token("alex", demoPassword), s.token("oscar", demoPassword)
		elsewhere := s.call(http.MethodGet, "/password-policy", oscar, nil)
		s.want(s.setPolicy(ada, map[string]any{"min_length": 20, "blocked_words": []string{"RoadRunner"}}), http.StatusOK, "")

		shown := s.want(s.call(http.MethodGet, "/password-policy", alex, nil), http.StatusOK, "")
		if shown.body["min_length"] != float64(20) || shown.body["blocked_words"] != float64(1) || !strings.Contains(shown.text("passwordrules"), "minlength: 20;") {
			t.Errorf("shown: %s", shown.raw)
		}
		for _, token := range []string{"", oscar} {
			if other := s.call(http.MethodGet, "/password-policy", token, nil); !bytes.Equal(other.raw, elsewhere.raw) {
				t.Errorf("elsewhere: %s", other.raw)
			}
		}
		for candidate, want := range map[string]string{
			"nine amber lamps ok": "too_short", "roadrunner roadrunner 26": "context_word", "26 Road-Runner ROADRUNNER": "context_word",
		} {
			dry := s.tryPassword(alex, candidate)
			own := s.want(s.change(alex, map[string]string{"new_password": candidate, "current_password": demoPassword}), http.StatusUnprocessableEntity, "policy_violation")
			set := s.want(s.reset(ada, s.user("alex").ID, map[string]string{"method": "set", "new_password": candidate}), http.StatusUnprocessableEntity, "policy_violation")
			if !slices.Equal(dry, []string{want}) || !slices.Equal(dry, passwordCodes(own)) || !slices.Equal(dry, passwordCodes(set)) {
				t.Errorf("%q: dry run %v, own change %v, reset %v", candidate, dry, passwordCodes(own), passwordCodes(set))
			}
			if found := s.tryPassword(oscar, candidate); found != nil {
				t.Errorf("%q in another account: %v", candidate, found)
			}
		}
		const good = "nine roadrunner lamps" // a longer phrase may have the word in it
		if found := s.tryPassword(alex, good); found != nil {
			t.Errorf("a good one: %v", found)
		}
		s.want(s.change(alex, map[string]string{"new_password": good, "current_password": demoPassword}), http.StatusOK, "")
		s.want(s.change(oscar, map[string]string{"new_password": "nine amber lamps ok", "current_password": demoPassword}), http.StatusOK, "")

		events := s.events("account.policy_changed")
		if len(events) != 1 || events[0].Actor.ID != s.user("ada").ID || events[0].Target.ID != "demo" || events[0].Details.NewPolicy == nil || events[0].Details.NewPolicy.MinLength != 20 {
			t.Errorf("audited: %+v", events)
		}
	})
}

// product.md decision 7 (floors that no account can go below), PW-23: bounds, who may set and who may look, and If-Match.
func TestAccountPolicy_boundsAndReach(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin, alex := s.token("ada", demoPassword), s.token("erin", demoPassword), s.token("alex", demoPassword)
		before := s.want(s.call(http.MethodGet, accountPolicy, erin, nil), http.StatusOK, "")
		for _, c := range []struct {
			policy  map[string]any
			refusal string
		}{
			{map[string]any{"min_length": 7}, "/min_length invalid"}, {map[string]any{"min_length": 65}, "/min_length invalid"},
			{map[string]any{"min_length": 0}, "/min_length invalid"}, {map[string]any{"username_hold_days": 29}, "/username_hold_days invalid"},
			{map[string]any{"max_places": 0}, "/max_places invalid"}, {map[string]any{"max_places": 21}, "/max_places invalid"},
			{map[string]any{"username_hold_days": 3651}, "/username_hold_days invalid"}, {map[string]any{"reset_methods": []string{}}, "/reset_methods invalid"},
			{map[string]any{"blocked_words": slices.Repeat([]string{"word"}, 2000)}, "/blocked_words invalid"},
		} {
			refused := s.want(s.setPolicy(ada, c.policy), http.StatusUnprocessableEntity, "validation_failed")
			if got := refused.fieldCodes(); !slices.Equal(got, []string{c.refusal}) {
				t.Errorf("%v, want %s", got, c.refusal)
			}
		}
		wanted := map[string]any{"min_length": 20}
		s.want(s.setPolicy(erin, wanted), http.StatusForbidden, "forbidden") // she manages a region
		s.want(s.setPolicy(alex, wanted), http.StatusForbidden, "forbidden")
		s.want(s.call(http.MethodGet, accountPolicy, alex, nil), http.StatusForbidden, "forbidden")
		s.want(s.setPolicy(serviceToken(s, access.ScopeUsersRead), wanted), http.StatusForbidden, "insufficient_scope")
		s.want(s.setNaming(erin, map[string]string{"kind": "email"}), http.StatusForbidden, "forbidden")
		s.want(s.setPolicy(ada, wanted, "If-Match", `"99"`), http.StatusPreconditionFailed, "precondition_failed")
		s.want(s.call(http.MethodPut, accountPolicy+"?account_id=other", ada, wanted), http.StatusNotFound, "not_found")
		same := s.want(s.call(http.MethodGet, accountPolicy, erin, nil), http.StatusOK, "")
		if !bytes.Equal(same.raw, before.raw) || same.header.Get("ETag") != before.header.Get("ETag") {
			t.Errorf("before %s, after the refusals %s", before.raw, same.raw)
		}
		if done := s.events("account.policy_changed"); len(done) != 0 {
			t.Errorf("audited: %+v", done)
		}
		var refusals []string
		for _, e := range s.events("account.change_refused")[9:] { // after those of the bounds
			refusals = append(refusals, e.Actor.Username+" "+e.Details.Code)
		}
		if diff := cmp.Diff([]string{"erin forbidden", "erin forbidden", "ada precondition_failed", "ada not_found"}, refusals); diff != "" {
			t.Errorf("audited:\n%s", diff)
		}
		for _, bound := range []int{8, 64} {
			tag := s.call(http.MethodGet, accountPolicy, ada, nil).header.Get("ETag")
			done := s.want(s.setPolicy(ada, map[string]any{"min_length": bound}, "If-Match", tag), http.StatusOK, "")
			if done.body["min_length"] != float64(bound) || done.header.Get("ETag") == tag {
				t.Errorf("%d: %s", bound, done.raw)
			}
		}
	})
}

// PW-23: an account that allows no passwords chosen by administrators gets none; the other methods stay.
func TestAccountPolicy_resetMethods(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, id := s.token("ada", demoPassword), s.user("alex").ID
		set := map[string]string{"method": "set", "new_password": "maple orbit lantern quiet"}
		s.want(s.setPolicy(ada, map[string]any{"reset_methods": []string{"temporary"}}), http.StatusOK, "")
		for _, body := range []map[string]string{set, {"method": "link"}} {
			refused := s.want(s.reset(ada, id, body), http.StatusUnprocessableEntity, "validation_failed")
			if got := refused.fieldCodes(); !slices.Equal(got, []string{"/method invalid"}) {
				t.Errorf("%s: %v", body["method"], got)
			}
		}
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
		s.want(s.reset(ada, id, nil), http.StatusOK, "")
		s.want(s.setPolicy(ada, map[string]any{}), http.StatusOK, "")
		s.want(s.reset(ada, id, set), http.StatusOK, "")
	})
}

// PW-23, product.md "a dry run of the policy": who has to choose a new password can try one; nothing is stored, and the
// current password is never looked at, so that nobody can guess it there.
func TestDryRun_mustChange(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		temporary := s.want(s.reset(s.token("ada", demoPassword), s.user("wanda").ID, nil), http.StatusOK, "").text("temporary_password")
		limited := s.token("wanda", temporary)
		s.want(s.call(http.MethodGet, "/users/me/activity", limited, nil), http.StatusForbidden, "must_change_password")
		before := s.wholeTrail()
		if found := s.tryPassword(limited, "short"); !slices.Contains(found, "too_short") {
			t.Errorf("short: %v", found)
		}
		if found := s.tryPassword(limited, "wanda wanda wanda"); !slices.Contains(found, "context_word") {
			t.Errorf("the own name: %v", found)
		}
		for range 20 { // nor is anything counted as a guess
			if found := s.tryPassword(limited, temporary); found != nil {
				t.Fatalf("the current password: %v", found)
			}
		}
		if after := s.wholeTrail(); after != before {
			t.Errorf("%d events before, %d after", before, after)
		}
		same := s.change(limited, map[string]string{"new_password": temporary, "current_password": temporary})
		if got := passwordCodes(s.want(same, http.StatusUnprocessableEntity, "policy_violation")); !slices.Equal(got, []string{"same_as_current"}) {
			t.Errorf("the change itself: %v", got)
		}
		s.want(s.call(http.MethodPost, "/password-policy/check", "", map[string]string{"password": "short"}), http.StatusUnauthorized, "unauthorized")
	})
}
