package main

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/user"
)

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
	oneByOne(t)
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
