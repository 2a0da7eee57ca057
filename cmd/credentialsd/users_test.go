package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// asked is what a user is made of in these tests, with one member changed after the other.
func asked(changes ...any) map[string]any {
	body := map[string]any{"username": "nora.berg", "display_name": "Nora Berg", "role": "agent", "team": "/east/boston/"}
	for i := 0; i+1 < len(changes); i += 2 {
		body[changes[i].(string)] = changes[i+1]
	}
	return body
}

func (s *service) create(token string, body any, headers ...string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/admin/users", token, body, headers...)
}

func (s *service) patch(token, id string, body any, headers ...string) answer {
	s.t.Helper()
	return s.call(http.MethodPatch, "/admin/users/"+id, token, body, headers...)
}

// api.md: a new user has what was asked for, a confirmed e-mail, and a temporary password that is shown once and opens a
// session for choosing a password of the own.
func TestUsers_create(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada := s.token("ada", demoPassword)
		made := s.want(s.create(ada, asked("email", "Nora@demo.example", "role", "administrator", "also_manages", []string{"/west/"}, "reason", "Joined")), http.StatusCreated, "")
		shown := made.body["user"].(map[string]any)
		id := shown["id"].(string)
		if made.header.Get("Location") != "/admin/users/"+id || made.header.Get("ETag") != `"1"` {
			t.Errorf("headers: %v", made.header)
		}
		want := map[string]any{
			"account_id": "demo", "username": "nora.berg", "email": "Nora@demo.example", "email_verified": true, "display_name": "Nora Berg", "role": "administrator",
			"team": "/east/boston/", "also_manages": []any{"/west/"}, "status": "active", "must_change_password": true, "version": 1.0, "last_sign_in_at": nil,
		}
		for member, value := range want {
			if diff := cmp.Diff(value, shown[member]); diff != "" {
				t.Errorf("%s: %s", member, diff)
			}
		}
		found := s.want(s.call(http.MethodGet, made.header.Get("Location"), ada, nil), http.StatusOK, "")
		if strings.Contains(string(found.raw), made.text("temporary_password")) || found.text("username") != "nora.berg" || found.text("created_at") != shown["created_at"] {
			t.Errorf("%s\n%s", made.raw, found.raw)
		}
		first := s.want(s.signIn("NORA.BERG", made.text("temporary_password")), http.StatusCreated, "")
		if first.body["must_change_password"] != true {
			t.Errorf("%s", first.raw)
		}
		s.want(s.change(first.text("access_token"), map[string]string{"new_password": otherPassword, "current_password": made.text("temporary_password")}), http.StatusOK, "")
		told := s.trail(ada, "?action=user.created&target="+id, http.StatusOK, "").items()[0]
		details := map[string]any{"new_email": "Nora@demo.example", "new_role": "administrator", "new_team": "/east/boston/", "new_also_manages": []any{"/west/"}}
		if diff := cmp.Diff(details, told["details"]); diff != "" || told["reason"] != "Joined" || told["actor"].(map[string]any)["username"] != "ada" {
			t.Errorf("%v: %s", told, diff)
		}

		// The same names are somebody's now, in any case and in either use.
		s.want(s.create(ada, asked()), http.StatusConflict, "identifier_taken")
		s.want(s.create(ada, asked("username", "NORA.berg")), http.StatusConflict, "identifier_taken")
		s.want(s.create(ada, asked("username", "nora.two", "email", "nora@DEMO.example")), http.StatusConflict, "identifier_taken")
		s.want(s.create(ada, asked("username", "nora@demo.example")), http.StatusConflict, "identifier_taken")
		s.want(s.create(ada, asked("username", "own@demo.example", "email", "own@demo.example")), http.StatusCreated, "")
		if n := len(s.trail(ada, "?action=credentials.change_refused", http.StatusOK, "").items()); n != 4 {
			t.Errorf("%d refusals are told", n)
		}
		expired := s.want(s.create(ada, asked("username", "late.berg")), http.StatusCreated, "")
		s.clock.advance(25 * 3600e9)
		s.want(s.signIn("late.berg", expired.text("temporary_password")), http.StatusUnauthorized, "invalid_credentials")
	})
}

// AZ-06, AZ-08, product.md decision 5: nobody gives a role, a team or a reach beyond the own; refused is refused whole.
func TestUsers_createReach(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin, writer := s.token("ada", demoPassword), s.token("erin", demoPassword), serviceToken(s, access.ScopeUsersWrite)
		both := serviceToken(s, access.ScopeUsersWrite+" "+access.ScopeResetAdministrators)
		for i, c := range []struct {
			token  string
			body   map[string]any
			status int
			code   string
		}{
			{erin, asked("team", "/east/"), http.StatusCreated, ""},
			{erin, asked("role", "administrator", "team", "/east/"), http.StatusCreated, ""}, // the own reach, and no more
			{erin, asked("role", "administrator", "also_manages", []string{"/east/newark/"}), http.StatusCreated, ""},
			{erin, asked("team", "/"), http.StatusForbidden, "forbidden"},
			{erin, asked("team", "/west/"), http.StatusForbidden, "forbidden"},
			{erin, asked("team", "/eastern/"), http.StatusForbidden, "forbidden"},
			{erin, asked("role", "administrator", "also_manages", []string{"/west/"}), http.StatusForbidden, "forbidden"},
			{erin, asked("role", "administrator", "also_manages", []string{"/east/", "/"}), http.StatusForbidden, "forbidden"},
			{erin, asked("team", "/west/", "username", "x", "email", "no address"), http.StatusForbidden, "forbidden"}, // and learns nothing else
			{ada, asked("role", "administrator", "team", "/", "also_manages", []string{"/west/"}), http.StatusCreated, ""},
			{ada, asked("account_id", "other"), http.StatusNotFound, "not_found"},
			{ada, asked("account_id", "demo"), http.StatusCreated, ""},
			{ada, asked("id", "crm-77"), http.StatusUnprocessableEntity, "validation_failed"},
			{writer, asked("id", "crm-77"), http.StatusCreated, ""},
			{writer, asked("id", "crm-77"), http.StatusConflict, "conflict"},
			{writer, asked("id", s.user("olga").ID), http.StatusConflict, "conflict"}, // an id is one of the whole deployment
			{writer, asked("id", "no id"), http.StatusUnprocessableEntity, "validation_failed"},
			{writer, asked("role", "administrator"), http.StatusForbidden, "forbidden"},
			{writer, asked("account_id", "other"), http.StatusNotFound, "not_found"},
			{both, asked("role", "administrator", "team", "/"), http.StatusCreated, ""},
			{s.token("alex", demoPassword), asked(), http.StatusForbidden, "forbidden"},
			{serviceToken(s, access.ScopeManage), asked(), http.StatusForbidden, "insufficient_scope"},
		} {
			if c.body["username"] == "nora.berg" {
				c.body["username"] = fmt.Sprintf("nora.berg%d", i)
			}
			if got := s.create(c.token, c.body); got.status != c.status || got.code() != c.code {
				t.Errorf("%v: got %d %s", c.body, got.status, got.raw)
			}
		}
		alterDemoClient(t, s, "account_id = NULL")
		everywhere := serviceToken(s, access.ScopeUsersWrite)
		if got := s.want(s.create(everywhere, asked()), http.StatusUnprocessableEntity, "validation_failed").fieldCodes(); !slices.Equal(got, []string{"/account_id required"}) {
			t.Errorf("%v", got)
		}
		s.want(s.create(everywhere, asked("account_id", "nowhere")), http.StatusNotFound, "not_found")
		made := s.want(s.create(everywhere, asked("account_id", "other", "id", "crm-78")), http.StatusCreated, "")
		s.want(s.call(http.MethodGet, "/admin/users/crm-78", s.token("oscar", demoPassword), nil), http.StatusOK, "")
		s.want(s.call(http.MethodGet, made.header.Get("Location"), ada, nil), http.StatusNotFound, "not_found")
	})
}

// ERR-05: everything that is wrong with a new user or a change is said at once.
func TestUsers_shapes(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		long, many := strings.Repeat("ä", 201), slices.Repeat([]string{"/a/"}, 51)
		for _, c := range []struct {
			body  map[string]any
			code  string
			wrong []string
		}{
			{map[string]any{}, "policy_violation", []string{"/team required", "/role required", "/display_name required", "/username required"}},
			{asked("team", "east", "role", "owner", "display_name", " ", "username", "admin", "email", "nobody", "reason", strings.Repeat("x", 501)), "policy_violation",
				[]string{"/reason too_long", "/team invalid", "/role invalid", "/display_name required", "/email invalid", "/username reserved"}},
			{asked("display_name", long, "also_manages", []string{"/east/"}), "validation_failed", []string{"/also_manages invalid", "/display_name too_long"}},
			{asked("display_name", "No\nra", "role", "administrator", "also_manages", []string{"east"}), "validation_failed", []string{"/also_manages invalid", "/display_name invalid_characters"}},
			{asked("role", "administrator", "also_manages", many), "validation_failed", []string{"/also_manages too_long"}},
			{asked("team", strings.Repeat("/a", 300)+"/"), "validation_failed", []string{"/team invalid"}},
		} {
			if diff := cmp.Diff(c.wrong, s.want(s.create(ada, c.body), http.StatusUnprocessableEntity, c.code).fieldCodes()); diff != "" {
				t.Errorf("%v: %s", c.body, diff)
			}
		}
		for _, c := range []struct {
			body  map[string]any
			wrong []string
		}{
			{map[string]any{}, []string{" required"}},
			{map[string]any{"reason": "Only that"}, []string{" required"}},
			{map[string]any{"status": "gone", "role": "", "team": "", "display_name": "", "reason": "\x00"}, []string{"/reason invalid_characters", "/team required", "/role required", "/status invalid", "/display_name required"}},
			{map[string]any{"also_manages": []string{"/east/"}}, []string{"/also_manages invalid"}},
		} {
			if diff := cmp.Diff(c.wrong, s.want(s.patch(ada, bo, c.body), http.StatusUnprocessableEntity, "validation_failed").fieldCodes()); diff != "" {
				t.Errorf("%v: %s", c.body, diff)
			}
		}
		for _, body := range []string{`{"status":null}`, `{"also_manages":"/east/"}`, `{"username":"x"}`, `{"status":"disabled","status":"active"}`, `[]`} {
			s.want(s.patch(ada, bo, body), http.StatusBadRequest, "malformed_request")
		}
		s.want(s.patch(ada, bo, `{"display_name":"Bo Berg"}`, "Content-Type", "application/merge-patch+json"), http.StatusOK, "")
		s.want(s.patch(ada, bo, `{"display_name":"Bo Berg"}`, "Content-Type", "application/json-patch+json"), http.StatusUnsupportedMediaType, "")
	})
}

// api.md, AZ-07: a change of the place, the name and the status, whole, told, and visible at once; what was not given stays.
func TestUsers_change(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		changed := s.want(s.patch(ada, bo, map[string]any{"role": "administrator", "team": "/east/", "also_manages": []string{"/west/"}, "display_name": "Bo Berg", "reason": "Promoted"}, "If-Match", `"1"`), http.StatusOK, "")
		if changed.header.Get("ETag") != `"2"` || changed.text("role") != "administrator" || changed.text("team") != "/east/" || changed.text("display_name") != "Bo Berg" || changed.text("username") != "bo" {
			t.Errorf("%s", changed.raw)
		}
		s.want(s.patch(ada, bo, map[string]any{"display_name": "Other"}, "If-Match", `"1"`), http.StatusPreconditionFailed, "precondition_failed")
		same := s.want(s.patch(ada, bo, map[string]any{"display_name": "Bo Berg", "team": "/east/", "status": "active"}), http.StatusOK, "")
		if same.header.Get("ETag") != `"2"` {
			t.Error("it was so already")
		}
		if got := s.want(s.call(http.MethodGet, "/admin/users?query=berg", s.token("bo", demoPassword), nil), http.StatusOK, "").items(); len(got) != 1 {
			t.Errorf("bo is an administrator who finds himself by the new name: %v", got)
		}
		demoted := s.want(s.patch(ada, bo, map[string]any{"role": "agent"}), http.StatusOK, "")
		if diff := cmp.Diff([]any{}, demoted.body["also_manages"]); diff != "" {
			t.Error(diff)
		}
		told := s.trail(ada, "?action=user.changed&target="+bo, http.StatusOK, "").items()
		want := []any{
			map[string]any{"changed": []any{"role", "also_manages"}, "old_role": "administrator", "new_role": "agent", "old_also_manages": []any{"/west/"}},
			map[string]any{
				"changed": []any{"role", "team", "also_manages", "display_name"}, "old_role": "agent", "new_role": "administrator", "old_team": "/east/boston/", "new_team": "/east/",
				"new_also_manages": []any{"/west/"}, "old_display_name": "Bo Lind", "new_display_name": "Bo Berg",
			},
		}
		if diff := cmp.Diff(want, []any{told[0]["details"], told[1]["details"]}); diff != "" || told[1]["reason"] != "Promoted" || told[1]["target"].(map[string]any)["name"] != "Bo Lind" {
			t.Errorf("%v: %s", told, diff)
		}
	})
}

// SES-04, product.md decision 12: disabling ends every session at once and for good; a demotion ends none.
func TestUsers_disable(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		first, second := openSession(s, "bo", demoPassword), openSession(s, "bo", demoPassword)
		s.want(s.patch(ada, bo, map[string]any{"team": "/east/"}), http.StatusOK, "")
		wantAlive(s, first.access)
		disabled := s.want(s.patch(ada, bo, map[string]any{"status": "disabled", "reason": "Left"}), http.StatusOK, "")
		if disabled.text("status") != "disabled" || disabled.body["sign_in"].(map[string]any)["can_sign_in"] != false {
			t.Errorf("%s", disabled.raw)
		}
		wantDead(s, first)
		wantDead(s, second)
		s.want(s.signIn("bo", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.patch(ada, bo, map[string]any{"status": "active"}), http.StatusOK, "")
		wantDead(s, first)
		s.want(s.signIn("bo", demoPassword), http.StatusCreated, "")
		events := s.trail(ada, "?target="+bo+"&limit=5", http.StatusOK, "")
		if diff := cmp.Diff([]string{"session.signed_in bo", "user.enabled bo", "session.sign_in_failed bo", "user.disabled bo", "user.changed bo"}, events.told()); diff != "" {
			t.Error(diff)
		}
		if event := events.items()[3]; event["details"].(map[string]any)["sessions_ended"] != 2.0 || event["reason"] != "Left" {
			t.Errorf("%v", event)
		}
	})
}

// AZ-03, AZ-04, peers bug 4: who may change whom, and that what the user would become lies within the reach as well.
func TestUsers_changeReach(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin := s.token("ada", demoPassword), s.token("erin", demoPassword)
		id := func(name string) string { return s.user(name).ID }
		const same = "the-same-request-id"
		body := map[string]any{"display_name": "Taken Over", "team": "/", "status": "disabled"}
		unknown := s.patch(erin, unknownID, body, "X-Request-Id", same)
		for _, name := range []string{"wanda", "ada", "olga", "oscar"} {
			sameRefusal(t, name, s.patch(erin, id(name), body, "X-Request-Id", same), unknown)
		}
		s.want(unknown, http.StatusNotFound, "not_found")
		for _, beyond := range []map[string]any{
			{"team": "/"}, {"team": "/west/"}, {"role": "administrator", "also_manages": []string{"/west/"}}, {"role": "administrator", "also_manages": []string{"/"}},
			{"team": "/west/", "status": "nonsense"},
		} {
			s.want(s.patch(erin, id("bo"), beyond), http.StatusForbidden, "forbidden")
		}
		s.want(s.patch(erin, id("bo"), map[string]any{"role": "administrator", "team": "/east/", "also_manages": []string{"/east/newark/"}}), http.StatusOK, "")
		s.want(s.patch(erin, id("erin"), map[string]any{"role": "agent"}), http.StatusForbidden, "use_self_service")
		s.want(s.patch(ada, id("ada"), map[string]any{"status": "disabled"}), http.StatusForbidden, "use_self_service")

		writer := serviceToken(s, access.ScopeUsersWrite)
		s.want(s.patch(writer, id("erin"), map[string]any{"status": "disabled"}), http.StatusNotFound, "not_found")
		s.want(s.patch(writer, id("alex"), map[string]any{"role": "administrator"}), http.StatusForbidden, "forbidden")
		s.want(s.patch(writer, id("alex"), map[string]any{"team": "/west/"}), http.StatusOK, "")
		if told := s.trail(ada, "?action=credentials.change_refused&actor="+id("erin"), http.StatusOK, ""); len(told.items()) != 11 {
			t.Errorf("%d refusals of erin are told", len(told.items()))
		}
	})
}

// api.md: the last active administrator of the whole company can be neither disabled nor demoted nor moved.
func TestUsers_lastAdministrator(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		both := serviceToken(s, access.ScopeUsersWrite+" "+access.ScopeResetAdministrators)
		ada, erin := s.user("ada").ID, s.user("erin").ID
		ways := []map[string]any{{"status": "disabled"}, {"role": "agent"}, {"team": "/east/"}, {"role": "agent", "display_name": "x"}}
		mine := openSession(s, "ada", demoPassword)
		for _, way := range ways {
			s.want(s.patch(both, ada, way), http.StatusConflict, "last_administrator")
		}
		wantAlive(s, mine.access)
		s.want(s.patch(both, ada, map[string]any{"display_name": "Ada M."}), http.StatusOK, "")
		s.want(s.patch(both, erin, map[string]any{"team": "/"}), http.StatusOK, "")
		s.want(s.patch(both, erin, map[string]any{"status": "disabled"}), http.StatusOK, "")
		s.want(s.patch(both, ada, ways[1]), http.StatusConflict, "last_administrator") // one who is disabled does not count
		s.want(s.patch(both, erin, map[string]any{"status": "active"}), http.StatusOK, "")
		s.want(s.patch(both, ada, ways[0]), http.StatusOK, "")
		wantDead(s, mine)
		for _, way := range ways {
			s.want(s.patch(both, erin, way), http.StatusConflict, "last_administrator")
		}
		if told := s.trail(s.token("erin", demoPassword), "?outcome=refused&target="+erin+"&limit=1", http.StatusOK, "").items(); told[0]["details"].(map[string]any)["code"] != "last_administrator" {
			t.Errorf("%v", told)
		}
	})
}

// peers bug 13, AZ-17: two administrators who take each other's place away at once: exactly one does.
func TestRaces_lastAdministrator(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		both := serviceToken(s, access.ScopeUsersWrite+" "+access.ScopeResetAdministrators)
		ids := []string{s.user("ada").ID, s.user("erin").ID}
		for round, way := range []map[string]any{{"role": "agent"}, {"status": "disabled"}, {"team": "/east/"}, {"role": "agent"}, {"status": "disabled"}, {"team": "/east/"}} {
			for _, id := range ids {
				db := s.database()
				alterUser(t, db, id, func(u *user.User) { u.Role, u.Team, u.Status = user.Administrator, "/", user.Active })
			}
			tokens := []string{s.token("ada", demoPassword), s.token("erin", demoPassword)}
			if round > 2 { // a service is none of those who are held by their own row
				tokens = []string{both, both}
			}
			statuses, answers := inParallel(t, 2, func(i int) (answer, error) {
				return s.try(http.MethodPatch, "/admin/users/"+ids[1-i], tokens[i], way)
			})
			if statuses[http.StatusOK] != 1 {
				t.Errorf("round %d, %v: %s\n%s", round, way, answers[0].raw, answers[1].raw)
			}
			for _, a := range answers {
				if a.status != http.StatusOK && a.code() != "last_administrator" && a.code() != "conflict" && a.code() != "forbidden" && a.code() != "unauthorized" && a.code() != "not_found" {
					t.Errorf("round %d, %v: %s", round, way, a.raw)
				}
			}
		}
	})
}

// peers bug 4 (forced interleaving): while an administrator's change waits for the row of its target, the administrator is demoted
// and the target moved away. What was decided before does not count any more.
func TestUsers_overtaken(t *testing.T) {
	s := start(t, databaseURL(t, "postgres")) // which has rows to be caught at; SQLite lets one writer in after the other
	erin, bo := s.user("erin").ID, s.user("bo").ID
	for name, c := range map[string]struct {
		held, overtake string
		send           func(token string) (answer, error)
	}{
		"the administrator is demoted, a change": {erin, "UPDATE users SET role = 'agent', revision = revision + 1 WHERE id = $1", func(token string) (answer, error) {
			return s.try(http.MethodPatch, "/admin/users/"+bo, token, map[string]any{"status": "disabled"})
		}},
		"the administrator is moved, a new user": {erin, "UPDATE users SET team = '/west/', revision = revision + 1 WHERE id = $1", func(token string) (answer, error) {
			return s.try(http.MethodPost, "/admin/users", token, asked())
		}},
		"the administrator is disabled, a reset": {erin, "UPDATE users SET status = 'disabled', revision = revision + 1 WHERE id = $1", func(token string) (answer, error) {
			return s.try(http.MethodPost, "/admin/users/"+bo+"/password-reset", token, nil)
		}},
		"the user is moved, an unlock": {bo, "UPDATE users SET team = '/west/', revision = revision + 1 WHERE id = $1", func(token string) (answer, error) {
			return s.try(http.MethodPost, "/admin/users/"+bo+"/unlock", token, nil)
		}},
		"the user is moved, the end of sessions": {bo, "UPDATE users SET team = '/west/', revision = revision + 1 WHERE id = $1", func(token string) (answer, error) {
			return s.try(http.MethodDelete, "/admin/users/"+bo+"/sessions", token, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			db := s.database()
			alterUser(t, db, erin, func(u *user.User) { u.Role, u.Team, u.Status = user.Administrator, "/east/", user.Active })
			alterUser(t, db, bo, func(u *user.User) { u.Team = "/east/boston/" })
			token := s.token("erin", demoPassword)
			beside := connect(t, s.databaseURL)
			tx, err := beside.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(t.Context(), c.overtake, c.held); err != nil {
				t.Fatal(err)
			}
			got := make(chan answer, 1)
			go func() {
				a, err := c.send(token)
				if err != nil {
					t.Error(err)
				}
				got <- a
			}()
			for waiting := false; !waiting && len(got) == 0; { // until the change has come to the row that is held here, or is made all the same
				waiting = len(rowsOf(t, beside, "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")) > 0
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if a := <-got; a.status != http.StatusConflict || a.code() != "conflict" {
				t.Errorf("got %d %s", a.status, a.raw)
			}
		})
	}
	member, err := s.database().Member(t.Context(), user.ID(bo))
	if err != nil || !member.User.IsActive() || member.User.Password.MustChange {
		t.Errorf("something was done: %+v %v", member.User, err)
	}
	if _, err := s.database().MemberByUsername(t.Context(), "nora.berg"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("somebody was made: %v", err)
	}
}

// The administrator of a call centre finds users by what is known of them, and nothing in a query is more than text.
func TestUsers_search(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada := s.token("ada", demoPassword)
		for username, display := range map[string]string{"under_score": "Percy 100%", "zoe.alexis": "Zoë Ångström", "petr": "Пётр Ильин"} {
			s.want(s.create(ada, asked("username", username, "display_name", display, "email", username+"@mail.example")), http.StatusCreated, "")
		}
		for query, want := range map[string][]string{
			"lex":        {"alex", "zoe.alexis"}, // a part, of three characters and more
			"ALEX":       {"alex", "zoe.alexis"},
			"al":         {"alex"},                              // a beginning, of the username, the e-mail or the name as it is shown
			"a":          {"ada", "alex"},                       // Ångström begins with another letter, and not the line
			"zo":         {"zoe.alexis"},                        //
			"пё":         {"petr"},                              //
			"ИЛЬИН":      {"petr"},                              //
			"ångs":       {"zoe.alexis"},                        //
			"Bo Li":      {"bo"},                                // the display name
			"li":         {},                                    // in the middle of it
			"mail.exa":   {"petr", "under_score", "zoe.alexis"}, // the e-mail
			"r_s":        {"under_score"},                       // no wild cards
			"%":          {},                                    //
			"_":          {},                                    //
			"00%":        {"under_score"},                       //
			`\`:          {},                                    //
			"a\nb":       {},                                    //
			"e.alexis\n": {"zoe.alexis"},                        //
			"nobody":     {},                                    //
		} {
			var names []string
			for _, item := range s.want(s.call(http.MethodGet, "/admin/users?query="+url.QueryEscape(query), ada, nil), http.StatusOK, "").items() {
				names = append(names, item["username"].(string))
			}
			slices.Sort(names)
			if !slices.Equal(names, want) {
				t.Errorf("%q finds %v, want %v", query, names, want)
			}
		}
		for query, want := range map[string]int{"?team=/east/&query=example": 7, "?team=/east/&status=disabled": 1, "?role=administrator": 2, "?must_change=true": 3, "?must_change=true&query=petr": 1, "?locked=true": 0, "?locked=false": 9} {
			if got := s.want(s.call(http.MethodGet, "/admin/users"+query, ada, nil), http.StatusOK, "").items(); len(got) != want {
				t.Errorf("%s finds %d, want %d", query, len(got), want)
			}
		}
	})
}
