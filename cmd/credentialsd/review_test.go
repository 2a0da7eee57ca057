package main

import (
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/pkg/client"
)

const credentialReview = "/admin/credential-review"

// reviewed returns the user of that name in a review, or nil.
func (a answer) reviewed(username string) map[string]any {
	for _, item := range a.items() {
		if item["username"] == username {
			return item
		}
	}
	return nil
}

func (a answer) reviewedNames() []string {
	names := []string{}
	for _, item := range a.items() {
		names = append(names, item["username"].(string))
	}
	slices.Sort(names)
	return names
}

func (s *service) review(token, query string) answer {
	s.t.Helper()
	return s.want(s.call(http.MethodGet, credentialReview+query, token, nil), http.StatusOK, "")
}

// product.md "review credentials", "avoid sharing", "standardize naming conventions"; AZ-03: what the review says of each user, its
// filters, its summary, that nobody sees more than the own reach, and that it leaves an event.
func TestReview(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.clock.advance(40 * 24 * time.Hour)
		for i, ip := range []string{"192.0.2.1", "192.0.2.200", "198.51.100.7", "203.0.113.9", "2001:db8:1::1"} {
			s.want(s.signInFrom(ip, "bo", demoPassword), http.StatusCreated, "")
			s.clock.advance(time.Duration(i+1) * time.Minute)
		}
		alex := s.token("alex", demoPassword)
		s.want(s.change(alex, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "")
		ada := s.token("ada", demoPassword)
		s.want(s.call(http.MethodPut, namingRule, ada, map[string]any{"kind": "login_name", "template": "{first}.{last}"}), http.StatusOK, "")
		s.want(s.administer(ada, "wanda", map[string]string{"username": "wanda.lind"}), http.StatusOK, "")
		s.want(s.signIn("wanda.lind", "wrong orbit lantern"), http.StatusUnauthorized, "")
		s.clock.advance(20 * 24 * time.Hour)
		ada = s.token("ada", demoPassword)
		erin := s.token("erin", demoPassword)

		whole := s.review(ada, "")
		bo := whole.reviewed("bo")
		if bo["places"] != 4.0 || bo["hash_scheme"] != "argon2id" || bo["hash_legacy"] != false || bo["password_age_days"] != 60.0 || bo["password_set_by"] != "operator" {
			t.Errorf("bo: %v", bo)
		}
		if diff := cmp.Diff([]any{"never_changed", "naming_violation", "many_places"}, bo["findings"]); diff != "" {
			t.Errorf("bo: %s", diff)
		}
		violation := bo["naming_violations"].([]any)[0].(map[string]any)
		if violation["code"] != "naming_rule" || !strings.Contains(violation["detail"].(string), "{first}.{last}") {
			t.Errorf("bo: %v", violation)
		}
		if got := whole.reviewed("alex"); got["password_set_by"] != "self" || got["password_age_days"] != 20.0 || slices.Contains(got["findings"].([]any), any("never_changed")) {
			t.Errorf("alex: %v", got)
		}
		if got := whole.reviewed("wanda.lind"); got["failures"] != 1.0 || slices.Contains(got["findings"].([]any), any("naming_violation")) {
			t.Errorf("wanda: %v", got)
		}
		s.reviewIsNarrowed(ada, erin, whole)
		for query, pointers := range map[string][]string{
			"?team=x&role=boss&status=on&finding=many_places&finding=odd&limit=0&cursor=x": {"/team invalid", "/role invalid", "/status invalid", "/finding invalid", "/limit invalid", "/cursor invalid"},
			"?password_older_than_days=0&dormant_after_days=36501":                         {"/password_older_than_days invalid", "/dormant_after_days invalid"},
		} {
			if diff := cmp.Diff(pointers, s.want(s.call(http.MethodGet, credentialReview+query, ada, nil), http.StatusUnprocessableEntity, "validation_failed").fieldCodes()); diff != "" {
				t.Errorf("%s: %s", query, diff)
			}
		}
		s.want(s.call(http.MethodGet, credentialReview+"?account_id=other", ada, nil), http.StatusNotFound, "not_found")
		s.reviewFile(ada, whole)
	}, behindProxy)
}

// reviewIsNarrowed checks filters, reach, pages and the threshold in the account's settings against the whole review.
func (s *service) reviewIsNarrowed(ada, erin string, whole answer) {
	t := s.t
	all := whole.reviewedNames()
	summary := whole.body["summary"].(map[string]any)
	counts := summary["findings"].(map[string]any)
	if summary["users"] != float64(len(all)) || summary["disabled"] != 1.0 || counts["many_places"] != 1.0 || counts["legacy_hash"] != 0.0 || summary["max_places"] != 3.0 {
		t.Errorf("%v", summary)
	}
	for query, want := range map[string][]string{
		"?finding=many_places":                                {"bo"},
		"?finding=many_places&finding=legacy_hash":            {},
		"?finding=naming_violation&team=/east/boston/":        nil,
		"?status=disabled":                                    nil,
		"?finding=old_password":                               {},
		"?finding=old_password&password_older_than_days=1000": {},
	} {
		got := s.review(ada, query).reviewedNames()
		if want != nil && !slices.Equal(got, want) || want == nil && (len(got) == 0 || len(got) >= len(all)) {
			t.Errorf("%s: %v", query, got)
		}
	}
	if got := s.review(ada, "?finding=old_password&password_older_than_days=59").reviewedNames(); len(got) != len(all)-1 || slices.Contains(got, "alex") {
		t.Errorf("older than 59 days: %v", got)
	}
	var paged []string
	for query := "?limit=2"; query != ""; {
		page := s.review(ada, query)
		paged, query = append(paged, page.reviewedNames()...), ""
		if next := page.text("next_cursor"); next != "" {
			query = "?limit=2&cursor=" + next
		}
	}
	if slices.Sort(paged); !slices.Equal(paged, all) {
		t.Errorf("in pages %v, at once %v", paged, all)
	}
	// Erin manages a region: she reviews those whom she may look at, and her summary counts them alone.
	hers := s.review(erin, "")
	visible := s.want(s.call(http.MethodGet, "/admin/users?limit=200", erin, nil), http.StatusOK, "").reviewedNames()
	if got := hers.reviewedNames(); !slices.Equal(got, visible) || len(got) >= len(all) || hers.body["summary"].(map[string]any)["users"] != float64(len(got)) {
		t.Errorf("erin reviews %v and sees %v", got, visible)
	}
	if got := s.review(serviceToken(s, access.ScopeUsersRead), "?summary=false"); !slices.Equal(got.reviewedNames(), all) || got.body["summary"] != nil {
		t.Errorf("a service reviews %v", got.reviewedNames())
	}
	// The account calls four networks plausible.
	s.want(s.setPolicy(ada, map[string]any{"max_places": 4}), http.StatusOK, "")
	if got := s.review(ada, "?finding=many_places"); len(got.items()) != 0 || got.body["summary"].(map[string]any)["max_places"] != 4.0 {
		t.Errorf("%s", got.raw)
	}
}

// reviewFile checks the file against the pages: a display name that would be a formula is none.
func (s *service) reviewFile(ada string, whole answer) {
	t := s.t
	s.want(s.call(http.MethodPatch, "/admin/users/"+s.user("bo").ID, ada, map[string]string{"display_name": "=1+1"}), http.StatusOK, "")
	c, err := client.New(s.demo.URL, client.WithHTTPClient(s.http), client.WithToken(func(context.Context) (string, error) { return ada, nil }))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := c.ExportCredentialReview(t.Context(), client.ReviewCredentialsParams{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	closeQuietly(stream)
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff"))).ReadAll()
	if err != nil || len(lines) != len(whole.items())+1 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for i, item := range whole.items() {
		if line := lines[i+1]; line[0] != item["user_id"] || line[1] != item["username"] || item["username"] == "bo" && line[2] != "'=1+1" {
			t.Errorf("%v, want %v", line, item)
		}
	}
	a := s.want(s.call(http.MethodGet, credentialReview, ada, nil, "Accept", "text/csv"), http.StatusOK, "")
	if a.header.Get("Content-Type") != "text/csv; charset=utf-8; header=present" || a.header.Get("Content-Disposition") != `attachment; filename="credential-review-demo.csv"` {
		t.Errorf("%v", a.header)
	}
	refused := s.want(s.call(http.MethodGet, credentialReview+"?limit=5&cursor=dQ&summary=true", ada, nil, "Accept", "text/csv"), http.StatusUnprocessableEntity, "validation_failed")
	if diff := cmp.Diff([]string{"/limit invalid", "/cursor invalid", "/summary invalid"}, refused.fieldCodes()); diff != "" {
		t.Error(diff)
	}
	formats := map[string]int{}
	for _, e := range s.events("account.credentials_reviewed") {
		formats[e.Details.Format]++
		if e.Target.ID != "demo" || e.Actor.ID == "" {
			t.Errorf("%+v", e)
		}
	}
	if formats["csv"] != 2 || formats["json"] < 5 {
		t.Errorf("%v", formats)
	}
}
