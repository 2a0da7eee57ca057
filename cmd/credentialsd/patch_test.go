package main

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// ownCredentials is the resource that users patch.
const ownCredentials = "/users/me/credentials"

// shownCredentials reads a user's own credentials.
func shownCredentials(s *service, token string) answer {
	s.t.Helper()
	return s.want(s.call(http.MethodGet, ownCredentials, token, nil), http.StatusOK, "")
}

// wantUntouched fails the test unless the user's credentials are exactly as they were.
func wantUntouched(s *service, token string, before answer) {
	s.t.Helper()
	if now := shownCredentials(s, token); string(now.raw) != string(before.raw) || now.header.Get("ETag") != before.header.Get("ETag") {
		s.t.Errorf("something changed:\n%s\n%s", before.raw, now.raw)
	}
}

// PAT-01, PAT-06: a merge patch, and JSON as its documented alias.
func TestPatch_mediaTypes(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		for i, media := range []string{"application/merge-patch+json", "application/json", "application/json; charset=utf-8", `Application/Merge-Patch+JSON; charset="UTF-8"`} {
			name := "alex.reed" + strconv.Itoa(i)
			a := s.want(s.change(token, `{"username":"`+name+`"}`, "Content-Type", media), http.StatusOK, "")
			if a.text("username") != name {
				t.Errorf("%s: %s", media, a.raw)
			}
		}
	})
}

// PAT-01 (400 for null: api.md), PAT-01b, PAT-02, PAT-06, PAT-07, COR-08, peers bugs 10 and 17: what is no merge patch of one
// strict object changes nothing.
func TestPatch_refusedWhole(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		before := shownCredentials(s, token)
		for _, body := range []string{
			`{"username":null}`, `{"username":"a.b","email":null}`, `[]`, `"x"`, `null`, `1`, `{"username":"a.b","username":"c.d"}`, `{"Username":"a.b"}`,
			`{"username":"a.b","user_id":"x"}`, `{"username":["a.b"]}`, `{"email":["alex@demo.example","evil@x.example"]}`, `{"username":{"$ne":1}}`,
			`{"username":"a.b"} {}`, `[{"op":"replace","path":"/username","value":"a.b"}]`, "\ufeff" + `{"username":"a.b"}`, `{"username":"a\ud800b"}`, ``,
		} {
			s.want(s.change(token, body), http.StatusBadRequest, "malformed_request")
		}
		for _, media := range []string{"application/json-patch+json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=latin1", ""} {
			a := s.want(s.change(token, `{"username":"a.b"}`, "Content-Type", media), http.StatusUnsupportedMediaType, "unsupported_media_type")
			if !strings.HasPrefix(a.header.Get("Accept-Patch"), "application/merge-patch+json") {
				t.Errorf("%q: Accept-Patch %q", media, a.header.Get("Accept-Patch"))
			}
		}
		encoded := s.want(s.change(token, `{"username":"a.b"}`, "Content-Encoding", "gzip"), http.StatusUnsupportedMediaType, "unsupported_media_type")
		if encoded.header.Get("Accept-Encoding") == "" {
			t.Error("no Accept-Encoding")
		}
		wantUntouched(s, token, before)
	})
}

// PAT-03, ERR-05: one bad member and nothing is changed, and all that is wrong is said at once.
func TestPatch_wholeOrNotAtAll(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		before := shownCredentials(s, token)
		for name, body := range map[string]map[string]string{
			"good username, bad e-mail":       {"username": "alex.reed", "email": "nowhere"},
			"good username, bad password":     {"username": "alex.reed", "new_password": "short", "current_password": demoPassword},
			"bad username, good password":     {"username": "-", "new_password": "maple orbit lantern quiet", "current_password": demoPassword},
			"taken username, good password":   {"username": "bo", "new_password": "maple orbit lantern quiet", "current_password": demoPassword},
			"good username, no current":       {"username": "alex.reed", "new_password": "maple orbit lantern quiet"},
			"good username, current is wrong": {"username": "alex.reed", "current_password": "wrong", "new_password": "maple orbit lantern quiet"},
		} {
			if a := s.change(token, body); a.status < 400 || a.status >= 500 {
				t.Errorf("%s: %d %s", name, a.status, a.raw)
			}
			wantUntouched(s, token, before)
		}
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "")
		both := s.want(s.change(token, map[string]string{"username": "-", "new_password": "short", "current_password": demoPassword}), http.StatusUnprocessableEntity, "policy_violation")
		pointers := strings.Join(both.fieldCodes(), ", ")
		if !strings.Contains(pointers, "/username ") || !strings.Contains(pointers, "/new_password too_short") {
			t.Errorf("not all at once: %s", both.raw)
		}
	})
}

// PRE-01, PRE-07, PRE-08: every representation and every write tells the version, which grows with each change.
func TestPreconditions_etag(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token, ada, id := s.token("alex", demoPassword), s.token("ada", demoPassword), s.user("alex").ID
		admin := "/admin/users/" + id
		version := 0
		next := func(a answer) {
			t.Helper()
			version++
			if got := a.header.Get("ETag"); a.status != http.StatusOK || got != strconv.Quote(strconv.Itoa(version)) {
				t.Fatalf("%d ETag %q, want version %d\n%s", a.status, got, version, a.raw)
			}
		}
		next(shownCredentials(s, token))
		next(s.change(token, map[string]string{"username": "alex.reed"}))
		next(s.call(http.MethodPatch, admin+"/credentials", ada, map[string]string{"username": "alex.r"}))
		changed := s.change(token, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword})
		next(changed)
		if changed.body["version"] != float64(version) {
			t.Errorf("version and ETag differ: %s", changed.raw)
		}
		fresh := changed.text("access_token")
		for path, who := range map[string]string{"/users/me": fresh, ownCredentials: fresh, admin: ada} {
			a := s.want(s.call(http.MethodGet, path, who, nil), http.StatusOK, "")
			if a.header.Get("ETag") != `"4"` || a.body["version"] != float64(4) {
				t.Errorf("%s: ETag %q\n%s", path, a.header.Get("ETag"), a.raw)
			}
		}
		next(s.reset(ada, id, nil))
		s.want(s.call(http.MethodPatch, admin+"/credentials", ada, map[string]string{"username": "bo"}, "If-Match", `"5"`), http.StatusConflict, "identifier_taken")
		s.want(s.call(http.MethodPatch, admin+"/credentials", ada, map[string]string{"username": "alex.q"}, "If-Match", `"4"`), http.StatusPreconditionFailed, "precondition_failed")
	})
}

// PRE-02, PRE-03, PRE-06: strong comparison with one tag, a list or *; else 412 and nothing is done, on every write.
func TestPreconditions_ifMatch(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token, ada := s.token("alex", demoPassword), s.token("ada", demoPassword)
		admin := "/admin/users/" + s.user("alex").ID
		before := shownCredentials(s, token)
		for _, tag := range []string{`W/"1"`, `"2"`, `"0"`, `"01"`, `" 1"`, `"1 "`, `1`, `"1`, `'1'`, `""`, `"2", W/"1"`, `"-1"`, `"+1"`, `"1e0"`, `"٢"`, `"99999999999999999999"`} {
			for _, a := range []answer{
				s.change(token, map[string]string{"username": "alex.reed"}, "If-Match", tag),
				s.change(token, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}, "If-Match", tag),
				s.call(http.MethodPatch, admin+"/credentials", ada, map[string]string{"username": "alex.reed"}, "If-Match", tag),
				s.call(http.MethodPost, admin+"/password-reset", ada, nil, "If-Match", tag),
			} {
				if a.status != http.StatusPreconditionFailed || a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %d %s", tag, a.status, a.raw)
				}
			}
		}
		wantUntouched(s, token, before)
		for i, tag := range []string{`"1"`, `"7", "2"`, ` "3" ,"9"`, `*`} {
			s.want(s.change(token, map[string]string{"username": "alex.reed" + strconv.Itoa(i)}, "If-Match", tag), http.StatusOK, "")
		}
		s.want(s.change(token, map[string]string{"username": "alex.reed"}), http.StatusOK, "") // PRE-04: optional
	})
}

// PRE-03: of writers that read the same version one wins and the others are told, and nothing is done for them.
func TestPreconditions_atOnce(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token, ada := s.token("alex", demoPassword), s.token("ada", demoPassword)
		admin := "/admin/users/" + s.user("alex").ID + "/credentials"
		const writers = 8
		answers := make(chan answer, writers)
		for i := range writers {
			go func() {
				body := map[string]string{"username": "alex.w" + strconv.Itoa(i)}
				var a answer
				if i%2 == 0 {
					a, _ = s.try(http.MethodPatch, ownCredentials, token, body, "If-Match", `"1"`)
				} else {
					a, _ = s.try(http.MethodPatch, admin, ada, body, "If-Match", `"1"`)
				}
				answers <- a
			}()
		}
		won := ""
		for range writers {
			switch a := <-answers; {
			case a.status == http.StatusOK && won == "":
				won = a.text("username")
			case a.status != http.StatusPreconditionFailed:
				t.Errorf("%d %s", a.status, a.raw)
			}
		}
		if now := shownCredentials(s, token); now.text("username") != won || now.header.Get("ETag") != `"2"` {
			t.Errorf("%q won: %s", won, now.raw)
		}
	})
}

// PRE-05: evaluated after the authorization, so that it tells strangers nothing, and before the password, so that a stale
// form costs no attempt.
func TestPreconditions_order(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token, ada := s.token("alex", demoPassword), s.token("ada", demoPassword)
		for _, tag := range []string{`"1"`, `"99"`} {
			foreign := "/admin/users/" + s.user("olga").ID
			s.want(s.call(http.MethodPatch, foreign+"/credentials", ada, map[string]string{"username": "x.y"}, "If-Match", tag), http.StatusNotFound, "not_found")
			s.want(s.call(http.MethodPost, foreign+"/password-reset", ada, nil, "If-Match", tag), http.StatusNotFound, "not_found")
			s.want(s.call(http.MethodPatch, "/admin/users/"+s.user("bo").ID+"/credentials", token, map[string]string{"username": "x.y"}, "If-Match", tag), http.StatusForbidden, "forbidden")
			s.want(s.call(http.MethodPatch, ownCredentials, "", map[string]string{"username": "x.y"}, "If-Match", tag), http.StatusUnauthorized, "unauthorized")
		}
		wrong := map[string]string{"new_password": "maple orbit lantern quiet", "current_password": "wrong"}
		for range 12 { // the tenth wrong password would end the session
			s.want(s.change(token, wrong, "If-Match", `"99"`), http.StatusPreconditionFailed, "precondition_failed")
		}
		s.want(s.change(token, wrong, "If-Match", `"1"`), http.StatusForbidden, "wrong_current_password")
		shownCredentials(s, token)
	})
}
