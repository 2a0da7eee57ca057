package main

import (
	"net/http"
	"slices"
	"testing"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
)

// repeatable is one use of an operation that honours Idempotency-Key, what it leaves in the audit trail, and another request
// of the kind.
type repeatable struct {
	operation           string
	action              audit.Action
	method, path, token string
	body, other         any
}

// done counts what was done, of an action.
func (s *service) done(action audit.Action) int {
	s.t.Helper()
	return len(slices.DeleteFunc(s.events(action), func(e audit.Event) bool { return e.Outcome != audit.Done }))
}

// repeats sends a request twice and another one after it, all with one key: the second gets the first answer and does nothing,
// and the other is refused.
func (s *service) repeats(r repeatable) answer {
	s.t.Helper()
	key := "key-of-" + r.operation + "-0001"
	before := s.done(r.action)
	first := s.call(r.method, r.path, r.token, r.body, idempotencyHeader, key)
	if first.status >= http.StatusBadRequest {
		s.t.Fatalf("%s: %d %s", r.operation, first.status, first.raw)
	}
	s.sameAnswer(first, s.call(r.method, r.path, r.token, r.body, idempotencyHeader, key))
	if made := s.done(r.action) - before; made != 1 {
		s.t.Errorf("%s was done %d times", r.operation, made)
	}
	if r.other != nil {
		s.want(s.call(r.method, r.path, r.token, r.other, idempotencyHeader, key), http.StatusUnprocessableEntity, "idempotency_key_reused")
	}
	s.want(s.call(r.method, r.path+"?account_id=demo", r.token, r.body, idempotencyHeader, key), http.StatusUnprocessableEntity, "idempotency_key_reused")
	return first
}

// IDM-02, IDM-03, API-05: every operation that changes credentials can be repeated with its key, to no second effect.
func TestReplay_everyOperation(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex, bo := s.token("ada", demoPassword), s.token("alex", demoPassword), "/admin/users/"+s.user("bo").ID
		confirmation := s.askEmail(alex, "alex@new.example")
		undo := s.newest(alexAddress, "alex@new.example").token(t, "revert")
		reset := s.sendLink("wanda", nil)
		reason := map[string]string{"reason": "left the laptop"}
		reached := map[string]bool{}
		repeats := func(r repeatable) answer {
			t.Helper()
			reached[r.operation] = true
			return s.repeats(r)
		}
		for _, r := range []repeatable{
			{"changeMyCredentials", audit.CredentialsChanged, http.MethodPatch, ownCredentials, alex, map[string]string{"username": "alex.reed"}, map[string]string{"username": "alex.read"}},
			{"confirmEmail", audit.CredentialsChanged, http.MethodPost, "/email-confirmations", "", map[string]string{"token": confirmation}, nil},
			{"revertCredentials", audit.CredentialsReverted, http.MethodPost, "/credential-reverts", "", map[string]string{"token": undo}, nil},
			{
				"redeemPasswordReset", audit.ResetLinkUsed, http.MethodPost, "/password-resets/redeem", "",
				map[string]string{"token": reset, "new_password": "maple orbit lantern quiet"}, map[string]string{"token": reset, "new_password": "maple orbit lantern quick"},
			},
			{"changeUserCredentials", audit.CredentialsChanged, http.MethodPatch, bo + "/credentials", ada, map[string]string{"username": "bo.hart"}, map[string]string{"username": "bo.heart"}},
			{"changeUser", audit.UserChanged, http.MethodPatch, bo, ada, map[string]string{"display_name": "Bo Hart"}, map[string]string{"display_name": "Bo"}},
			{"unlockUser", audit.UserUnlocked, http.MethodPost, bo + "/unlock", ada, reason, nil},
			{"lockUser", audit.SecurityLocked, http.MethodPost, bo + "/security-lock", ada, reason, map[string]string{"reason": "another"}},
			{"resetPassword", audit.PasswordReset, http.MethodPost, bo + "/password-reset", ada, nil, reason},
			{
				"createUser", audit.UserCreated, http.MethodPost, "/admin/users", ada,
				map[string]string{"username": "maria.ortiz", "display_name": "Maria Ortiz", "role": "agent", "team": "/east/"}, reason,
			},
		} {
			repeats(r)
		}
		dry := map[string]any{"user_ids": []string{s.user("bo").ID}, "reason": "leak", "dry_run": true}
		for range 2 { // it changes nothing: it is made anew, and does not stand in its own way
			s.want(s.call(http.MethodPost, jobs, ada, dry, idempotencyHeader, lostKey), http.StatusOK, "")
		}
		begun := repeats(repeatable{
			"beginPasswordResetJob", audit.JobBegun, http.MethodPost, jobs, ada, map[string]any{"user_ids": []string{s.user("bo").ID}, "reason": "leak"}, dry,
		})
		s.finished(ada, begun.text("id"))
		handed := repeats(repeatable{"handOutTemporaryPasswords", audit.PasswordHandedOut, http.MethodPost, jobs + "/" + begun.text("id") + "/temporary-passwords", ada, nil, nil})
		if items, _ := handed.body["items"].([]any); len(items) != 1 || handed.body["waiting"] != 0.0 {
			t.Errorf("handed out: %v", handed.body)
		}
		for _, rule := range access.Table() {
			if rule.Repeatable && !reached[rule.Operation] {
				t.Errorf("%s is not tried", rule.Operation)
			}
		}
	})
}
