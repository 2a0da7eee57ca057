package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
)

// trail asks for events, and fails the test when it gets none of the answer it wants.
func (s *service) trail(token, query string, status int, code string) answer {
	s.t.Helper()
	return s.want(s.call(http.MethodGet, "/admin/audit-events"+query, token, nil), status, code)
}

// items returns the entries of a list.
func (a answer) items() []map[string]any {
	var items []map[string]any
	list, _ := a.body["items"].([]any)
	for _, item := range list {
		items = append(items, item.(map[string]any))
	}
	return items
}

// told returns "action target" of every event, with the target's username of then.
func (a answer) told() []string {
	told := []string{}
	for _, item := range a.items() {
		name, _ := item["target"].(map[string]any)["username"].(string)
		told = append(told, item["action"].(string)+" "+name)
	}
	return told
}

// AUD-01, LOG-03, peers section 4 "names beside UUIDs": the trail as an administrator reads it: who did what to whom, why and from
// where, with the names of the time, narrowed by every filter and in pages, the newest first.
func TestTrail_list(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		from := s.clock.now().UTC().Format(time.RFC3339Nano)
		ada, bo := s.token("ada", demoPassword), s.user("bo")
		s.want(s.reset(ada, bo.ID, map[string]string{"reason": "Forgot it"}, "X-Request-Id", "trail-request-1"), http.StatusOK, "")
		s.want(s.call(http.MethodPatch, "/admin/users/"+bo.ID+"/credentials", ada, map[string]string{"username": "bo.lind"}), http.StatusOK, "")
		s.want(s.signIn("bo.lind", "wrong orbit lantern"), http.StatusUnauthorized, "")
		s.want(s.reset(ada, s.user("wanda").ID, nil), http.StatusOK, "")
		to := s.clock.now().UTC().Format(time.RFC3339Nano)

		about := s.trail(ada, "?target="+bo.ID+"&from="+from, http.StatusOK, "")
		if diff := cmp.Diff([]string{"session.sign_in_failed bo.lind", "credentials.changed bo", "password.reset bo"}, about.told()); diff != "" {
			t.Errorf("about bo: %s", diff)
		}
		reset := about.items()[2]
		actor := map[string]any{"kind": "user", "id": s.user("ada").ID, "username": "ada", "name": "Ada Marsh"}
		if diff := cmp.Diff(actor, reset["actor"]); diff != "" || reset["reason"] != "Forgot it" || reset["ip"] != "127.0.0.1" || reset["request_id"] != "trail-request-1" || reset["outcome"] != "done" {
			t.Errorf("%v %s", reset, diff)
		}
		for query, want := range map[string][]string{
			"?actor=" + s.user("ada").ID + "&action=password.reset":                      {"password.reset wanda", "password.reset bo"},
			"?outcome=refused&from=" + from:                                              {"session.sign_in_failed bo.lind"},
			"?action=password.reset&from=" + from + "&to=" + to:                          {"password.reset wanda", "password.reset bo"},
			"?action=password.reset&to=" + from:                                          {},
			"?action=credentials.changed&target=" + bo.ID + "&actor=" + s.user("ada").ID: {"credentials.changed bo"},
			"?target=" + s.user("alex").ID + "&actor=" + s.user("ada").ID:                {},
			"?target=nobody-1":                     {},
			"?action=audit.pruned&account_id=demo": {},
			"?action=password.reset&target=" + s.user("wanda").ID + "&outcome=done&limit=200": {"password.reset wanda"},
		} {
			if diff := cmp.Diff(want, s.trail(ada, strings.ReplaceAll(query, "+", "%2B"), http.StatusOK, "").told()); diff != "" {
				t.Errorf("%s: %s", query, diff)
			}
		}
		pageByPage(t, s, ada)
		for query, pointers := range map[string][]string{
			"?actor=a%20b&target=%00&action=password.resets&outcome=maybe&limit=0&cursor=x": {"/actor invalid", "/target invalid", "/action invalid", "/outcome invalid", "/limit invalid", "/cursor invalid"},
			"?limit=201":                         {"/limit invalid"},
			"?from=" + to + "&to=" + from:        {"/to invalid"},
			"?account_id=a%20b":                  {"/account_id invalid"},
			"?action=" + url.QueryEscape("' --"): {"/action invalid"},
		} {
			if diff := cmp.Diff(pointers, s.trail(ada, query, http.StatusUnprocessableEntity, "validation_failed").fieldCodes()); diff != "" {
				t.Errorf("%s: %s", query, diff)
			}
		}
		s.trail(ada, "?from=yesterday", http.StatusBadRequest, "malformed_request")
	})
}

// pageByPage reads the whole trail in pages, while new events keep coming.
func pageByPage(t *testing.T, s *service, ada string) {
	t.Helper()
	whole := s.trail(ada, "?limit=200", http.StatusOK, "")
	var ids []string
	for query := "?limit=3"; query != ""; {
		page := s.trail(ada, query, http.StatusOK, "")
		for _, item := range page.items() {
			ids = append(ids, item["id"].(string))
		}
		query = ""
		if next := page.text("next_cursor"); next != "" {
			query = "?limit=3&cursor=" + next
		}
		s.want(s.signIn("alex", "wrong orbit lantern"), http.StatusUnauthorized, "")
		s.clock.advance(time.Minute) // the throttle is not what this is about
	}
	var want []string
	for _, item := range whole.items() {
		want = append(want, item["id"].(string))
	}
	if diff := cmp.Diff(want, ids); diff != "" || len(want) < 10 {
		t.Errorf("%d events: %s", len(want), diff)
	}
}

// AZ-03, AZ-04, AZ-20: who sees what of which trail.
func TestTrail_reach(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin, oscar := s.token("ada", demoPassword), s.token("erin", demoPassword), s.token("oscar", demoPassword)
		s.want(s.reset(ada, s.user("bo").ID, nil), http.StatusOK, "")
		s.want(s.reset(ada, s.user("wanda").ID, nil), http.StatusOK, "")
		s.want(s.reset(oscar, s.user("olga").ID, nil), http.StatusOK, "")
		robot := serviceToken(s, access.ScopeAuditRead)
		for name, c := range map[string]struct {
			token, query string
			want         []string
		}{
			"the company":    {ada, "?action=password.reset", []string{"password.reset wanda", "password.reset bo"}},
			"a team":         {erin, "?action=password.reset", []string{"password.reset bo"}},
			"nobody at all":  {ada, "?action=service.token_issued", []string{"service.token_issued "}},
			"not for a team": {erin, "?action=service.token_issued", []string{}},
			"oneself":        {erin, "?action=session.signed_in", []string{"session.signed_in erin"}},
			"others":         {oscar, "?action=password.reset", []string{"password.reset olga"}},
			"a service":      {robot, "?action=password.reset", []string{"password.reset wanda", "password.reset bo"}},
		} {
			if diff := cmp.Diff(c.want, s.trail(c.token, c.query, http.StatusOK, "").told()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		for _, token := range []string{ada, erin, robot} {
			for _, account := range []string{"other", "nowhere", "-"} {
				s.trail(token, "?account_id="+account, http.StatusNotFound, "not_found")
				s.trail(token, "/integrity?account_id="+account, http.StatusNotFound, "not_found")
			}
		}
		s.trail(erin, "/integrity", http.StatusForbidden, "forbidden")
		s.trail(s.token("alex", demoPassword), "", http.StatusForbidden, "forbidden")
		s.trail(serviceToken(s, access.ScopeUsersRead), "", http.StatusForbidden, "insufficient_scope")

		alterDemoClient(t, s, "account_id = NULL")
		everywhere := serviceToken(s, access.ScopeAuditRead)
		for _, path := range []string{"", "/integrity"} {
			if got := s.trail(everywhere, path, http.StatusUnprocessableEntity, "validation_failed").fieldCodes(); !slices.Equal(got, []string{"/account_id required"}) {
				t.Errorf("%s: %v", path, got)
			}
			s.trail(everywhere, path+"?account_id=nowhere", http.StatusNotFound, "not_found")
			s.trail(everywhere, path+"?account_id=other", http.StatusOK, "")
		}
		s.want(s.signIn("nobody-there", "wrong orbit lantern"), http.StatusUnauthorized, "")
		if told := s.trail(everywhere, "?account_id=-&limit=1", http.StatusOK, "").told(); !slices.Equal(told, []string{"session.sign_in_failed "}) {
			t.Errorf("names nobody has: %v", told)
		}
	})
}

// export writes the trail into a file, and returns its path.
func (s *service) export(token, query string) string {
	s.t.Helper()
	got := s.want(s.call(http.MethodGet, "/admin/audit-events"+query, token, nil, "Accept", "application/x-ndjson"), http.StatusOK, "")
	path := filepath.Join(s.t.TempDir(), "export.ndjson")
	if err := os.WriteFile(path, got.raw, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// AUD-01, peers section 4 "undeletable audit": an export is verified offline; whatever was done to it has an exit code of its own.
func TestTrail_exportAndVerify(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin := s.token("ada", demoPassword), s.token("erin", demoPassword)
		noted := s.trail(ada, "/integrity", http.StatusOK, "")
		for range 5 {
			s.want(s.reset(ada, s.user("bo").ID, map[string]string{"reason": "Tried <again> & \"again\""}), http.StatusOK, "")
		}
		checked := s.trail(ada, "/integrity", http.StatusOK, "")
		head := checked.text("head")
		if checked.body["intact"] != true || noted.body["intact"] != true || checked.body["events"].(float64) != noted.body["events"].(float64)+5 || checked.body["checkpoint"] != nil {
			t.Errorf("%s\n%s", noted.raw, checked.raw)
		}
		file := s.export(ada, "")
		verify := func(file string, code int, say []string, flags ...string) {
			t.Helper()
			w := wants{args: strings.Join(append([]string{"audit verify", file}, flags...), " "), code: code}
			if w.out = say; code != 0 {
				w.out, w.err = nil, say
			}
			w.check(t)
		}
		verify(file, 0, []string{"intact: all", "events of account demo, number 1 to ", "head: " + head, "the noted head " + noted.text("head")}, "--head", noted.text("head"), "--head", head)
		verify(file, 80, []string{"--head must be 64"}, "--head", "abc")
		verify(file, 3, []string{"is not in this chain"}, "--head", strings.Repeat("0", 64))
		verify(filepath.Join(t.TempDir(), "missing"), 1, []string{"no such file"})

		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct{ text, says string }{
			"changed":   {strings.Replace(string(text), "password.reset", "session.signed_in", 1), "was changed"},
			"missing":   {strings.Join(slices.Delete(strings.SplitAfter(string(text), "\n"), 3, 4), ""), "missing before this line"},
			"truncated": {string(text[:len(text)/2]), "ends early"},
		} {
			altered := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(altered, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			verify(altered, 3, []string{"credentialsd: " + altered + ": audit: ", c.says})
		}

		part := s.export(ada, "?action=password.reset")
		verify(part, 1, []string{"holds a part of the trail only", "--partial"})
		verify(part, 0, []string{"each of the 5 events of account demo", "others were left out"}, "--partial")
		verify(s.export(erin, ""), 1, []string{"holds a part of the trail only"})
		verify(s.export(erin, ""), 0, []string{"each of the"}, "--partial")
		verify(s.export(s.token("oscar", demoPassword), ""), 0, []string{"account other"})

		refused := s.call(http.MethodGet, "/admin/audit-events?limit=5&cursor=MTIuYQ", ada, nil, "Accept", "application/x-ndjson")
		if got := s.want(refused, http.StatusUnprocessableEntity, "validation_failed").fieldCodes(); !slices.Equal(got, []string{"/limit invalid", "/cursor invalid"}) {
			t.Errorf("%v", got)
		}
		s.want(s.call(http.MethodGet, "/admin/audit-events?account_id=other", ada, nil, "Accept", "application/x-ndjson"), http.StatusNotFound, "not_found")
	})
}

// The heads are written into the log and shown as numbers, so that a removed end can be noticed from outside.
func TestTrail_heads(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		metric := func(name string) string {
			for {
				_, _, metrics := s.ops("/metrics")
				_, after, there := strings.Cut(metrics, "\n"+name+" ")
				if value, _, _ := strings.Cut(after, "\n"); !there || value != "0" {
					return value
				}
			}
		}
		if written := metric("credentials_audit_heads_written_timestamp_seconds"); !strings.HasPrefix(written, "1.") && !strings.HasPrefix(written, "2.") {
			t.Errorf("written at %q", written)
		}
		if sequence := metric("credentials_audit_head_sequence"); sequence == "" {
			t.Error("no sequence")
		}
		head := s.trail(s.token("oscar", demoPassword), "?limit=200", http.StatusOK, "").items()[1]["seal"].(map[string]any) // before oscar signed in
		line := `"msg":"audit head","account_id":"other","sequence":2,"head":"` + head["chain"].(string) + `"`
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("the log lacks %s:\n%s", line, s.log)
		}
	})
}
