package main

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
)

const namingRule = "/admin/naming-rule"

// setNaming replaces the naming rule of the demo account.
func (s *service) setNaming(token string, rule any, headers ...string) answer {
	s.t.Helper()
	return s.call(http.MethodPut, namingRule, token, rule, headers...)
}

// administer is PATCH /admin/users/{id}/credentials of a demo user.
func (s *service) administer(token, name string, body any) answer {
	s.t.Helper()
	return s.call(http.MethodPatch, "/admin/users/"+s.user(name).ID+"/credentials", token, body)
}

// wantRefused fails unless the rule refuses the name, and says so at the username.
func (s *service) wantRefused(a answer) {
	s.t.Helper()
	s.want(a, http.StatusUnprocessableEntity, "policy_violation")
	if got := a.fieldCodes(); !slices.Equal(got, []string{"/username naming_rule"}) {
		s.t.Errorf("got %v: %s", got, a.raw)
	}
}

// product.md "standardize user naming conventions": a rule counts for every new name, whoever gives it, and for no name that
// is there. It is the account's alone.
func TestNamingRule_everyNewName(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex := s.token("ada", demoPassword), s.token("alex", demoPassword)
		set := s.want(s.setNaming(ada, map[string]any{"kind": "login_name", "template": "{first}.{last}", "reserved": []string{"Sales.Team"}}), http.StatusOK, "")
		read := s.want(s.call(http.MethodGet, namingRule, ada, nil), http.StatusOK, "")
		if !bytes.Equal(set.raw, read.raw) || set.header.Get("ETag") != read.header.Get("ETag") || read.text("template") != "{first}.{last}" {
			t.Errorf("set %s, read %s", set.raw, read.raw)
		}
		for _, name := range []string{"alexreed", "alex.reed.jr", "alex_reed", "alex.reed7", alexAddress} {
			s.wantRefused(s.change(alex, map[string]string{"username": name}))
			s.wantRefused(s.administer(ada, "alex", map[string]string{"username": name}))
		}
		s.wantRefused(s.administer(ada, "alex", map[string]string{"username": "free@new.example"}))
		if got := s.change(alex, map[string]string{"username": "sales.team"}).fieldCodes(); !slices.Equal(got, []string{"/username reserved"}) {
			t.Errorf("a name that the account keeps: %v", got)
		}

		s.want(s.change(alex, map[string]string{"username": "alex"}), http.StatusOK, "") // the present name, as it is
		if kept := s.want(s.change(alex, map[string]string{"username": "Alex"}), http.StatusOK, ""); kept.text("username") != "Alex" {
			t.Errorf("the present name in another case: %s", kept.raw)
		}
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
		if own := s.want(s.change(alex, map[string]string{"username": "Alex.Reed"}), http.StatusOK, ""); own.text("username") != "Alex.Reed" {
			t.Errorf("a name that fits: %s", own.raw)
		}
		s.want(s.administer(ada, "bo", map[string]string{"username": "bo.lind"}), http.StatusOK, "")
		s.want(s.signIn("bo.lind", demoPassword), http.StatusCreated, "")
		s.want(s.change(s.token("olga", demoPassword), map[string]string{"username": "olga2"}), http.StatusOK, "") // of another account

		events := s.events("account.naming_rule_changed")
		if len(events) != 1 || events[0].Actor.ID != s.user("ada").ID || events[0].Details.NewNaming == nil || events[0].Details.NewNaming.Template != "{first}.{last}" {
			t.Errorf("audited: %+v", events)
		}
	})
}

// product.md "a naming rule, enforced on change": what is no expression, or a dear one, is refused; the rule before stays.
func TestNamingRule_hostileExpressions(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada := s.token("ada", demoPassword)
		s.want(s.setNaming(ada, map[string]any{"regex": `[a-z]+\d{2}`}), http.StatusOK, "")
		before := s.call(http.MethodGet, namingRule, ada, nil)
		hostile := []string{`(a`, `a)|(?:.*`, `(a)\1`, `(?=a)a`, "a\x00", `(?:abcdefgh){200}`, `((((a{10}){10}){10}){10}){10}`, `((((a{0,30}){0,30}){0,30}))`}
		for _, regex := range hostile {
			refused := s.want(s.setNaming(ada, map[string]any{"regex": regex}), http.StatusUnprocessableEntity, "validation_failed")
			if got := refused.fieldCodes(); !slices.Equal(got, []string{"/regex invalid"}) {
				t.Errorf("%q: %v", regex, got)
			}
		}
		for pointer, rule := range map[string]map[string]any{
			"/template invalid":   {"template": "{first}.{surname}"},
			"/kind invalid":       {"kind": "email", "template": "{first}"},
			"/min_length invalid": {"min_length": 1},
			"/max_length invalid": {"min_length": 9, "max_length": 8},
			"/reserved invalid":   {"reserved": []string{"not a name"}},
		} {
			if refused := s.setNaming(ada, rule); refused.status != http.StatusUnprocessableEntity || !slices.Equal(refused.fieldCodes(), []string{pointer}) {
				t.Errorf("%v: %d %s", rule, refused.status, refused.raw)
			}
		}
		if after := s.call(http.MethodGet, namingRule, ada, nil); !bytes.Equal(after.raw, before.raw) || after.header.Get("ETag") != before.header.Get("ETag") {
			t.Errorf("before %s, after %s", before.raw, after.raw)
		}
		if refusals := s.events("account.change_refused"); len(refusals) != len(hostile)+5 {
			t.Errorf("%d refusals are audited", len(refusals))
		}
		alex := s.token("alex", demoPassword)
		s.wantRefused(s.change(alex, map[string]string{"username": "xx.ab12"})) // the whole name, not a part of it
		s.want(s.change(alex, map[string]string{"username": "AB12"}), http.StatusOK, "")
	})
}

// product.md decision 11, peers bug 7: where usernames are e-mail addresses, the confirmed one signs in, nobody chooses
// another name, and the name follows the address; under the rule of the start no address signs in but as username.
func TestNamingRule_email(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex := s.token("ada", demoPassword), s.token("alex", demoPassword)
		s.want(s.signIn(alexAddress, demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.setNaming(ada, map[string]string{"kind": "email"}), http.StatusOK, "")
		s.want(s.signIn("ALEX@demo.example", demoPassword), http.StatusCreated, "")
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "") // the name there was stays
		s.want(s.signIn("olga@other.example", demoPassword), http.StatusUnauthorized, "invalid_credentials")

		s.wantRefused(s.change(alex, map[string]string{"username": "alex.reed"}))
		s.wantRefused(s.administer(ada, "alex", map[string]string{"username": "alex.reed"}))
		s.wantRefused(s.administer(ada, "alex", map[string]string{"username": "free@new.example"}))
		s.want(s.change(alex, map[string]string{"username": alexAddress}), http.StatusOK, "")

		confirmation := s.askEmail(alex, "alex@new.example")
		s.want(s.signIn("alex@new.example", demoPassword), http.StatusUnauthorized, "invalid_credentials") // before it is confirmed
		if done := s.want(s.confirm(confirmation), http.StatusOK, ""); done.text("username") != "alex@new.example" || done.text("email") != "alex@new.example" {
			t.Errorf("confirmed: %s", done.raw)
		}
		s.want(s.signIn("alex@new.example", demoPassword), http.StatusCreated, "")
		s.want(s.signIn(alexAddress, demoPassword), http.StatusUnauthorized, "invalid_credentials")
		moved := s.want(s.administer(ada, "alex", map[string]string{"email": "alex@third.example"}), http.StatusOK, "")
		if moved.text("username") != "alex@third.example" {
			t.Errorf("an administrator moved the address: %s", moved.raw)
		}
		s.want(s.setNaming(ada, map[string]string{}), http.StatusOK, "")
		s.want(s.signIn("bo@demo.example", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signIn("alex@third.example", demoPassword), http.StatusCreated, "") // it is the username
	})
}

// nameState is what ada, or whoever has the token, learns of a name.
func (s *service) nameState(token, name string) answer {
	s.t.Helper()
	return s.want(s.call(http.MethodGet, "/admin/usernames/"+name, token, nil), http.StatusOK, "")
}

// USR-09, product.md decision 4 "an administrator may release it early": whether a name can be given, to whom it belongs for
// those who may know, and nothing of other accounts.
func TestUsernames_lookUpAndRelease(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin := s.token("ada", demoPassword), s.token("erin", demoPassword)
		alex, bo, wanda := s.token("alex", demoPassword), s.token("bo", demoPassword), s.token("wanda", demoPassword)
		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		s.want(s.change(wanda, map[string]string{"username": "wanda.voss"}), http.StatusOK, "")
		s.askEmail(bo, "bo@new.example")
		for name, want := range map[string]struct {
			status string
			holder any
		}{
			"nobody.yet": {"free", nil}, "BO": {"taken", s.user("bo").ID}, "bo@demo.example": {"taken", s.user("bo").ID},
			"bo@new.example": {"pending", s.user("bo").ID}, "alex": {"held", s.user("alex").ID}, "wanda": {"held", s.user("wanda").ID},
			"olga": {"not_available", nil}, "olga@other.example": {"not_available", nil},
		} {
			state := s.nameState(ada, name)
			if state.text("status") != want.status || state.body["user_id"] != want.holder || (state.body["held_until"] != nil) != (want.status == "held") {
				t.Errorf("%s: %s", name, state.raw)
			}
		}
		if state := s.nameState(erin, "wanda"); state.text("status") != "held" || state.body["user_id"] != nil {
			t.Errorf("whose it is, is for those who manage that user: %s", state.raw)
		}

		release := func(token, name string) answer {
			return s.call(http.MethodDelete, "/admin/held-usernames/"+name, token, nil)
		}
		s.want(s.change(bo, map[string]string{"username": "alex"}), http.StatusConflict, "identifier_taken")
		s.want(release(alex, "alex"), http.StatusForbidden, "forbidden")
		unknown := s.want(release(erin, "nobody.yet"), http.StatusNotFound, "not_found")
		for _, name := range []string{"wanda", "bo", "olga"} { // held out of reach, in use, of another account
			sameButRequest(t, name, s.want(release(erin, name), http.StatusNotFound, "not_found"), unknown)
		}
		s.want(release(erin, "ALEX"), http.StatusNoContent, "")
		if state := s.nameState(ada, "alex"); state.text("status") != "free" {
			t.Errorf("released: %s", state.raw)
		}
		s.want(release(erin, "alex"), http.StatusNotFound, "not_found")
		s.want(s.change(bo, map[string]string{"username": "alex"}), http.StatusOK, "")
		events := s.events("username.released")
		if len(events) != 1 || events[0].Details.ReleasedName != "alex" || events[0].Actor.ID != s.user("erin").ID || events[0].Target.ID != s.user("alex").ID {
			t.Errorf("audited: %+v", events)
		}
	})
}
