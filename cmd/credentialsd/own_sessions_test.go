package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

const ownSessions = "/users/me/sessions"

// wholeTrail counts the audit events of the demo account.
func (s *service) wholeTrail() int {
	s.t.Helper()
	all, err := s.database().AuditEvents(context.Background(), "demo", time.Time{}, 100_000)
	if err != nil {
		s.t.Fatal(err)
	}
	return len(all)
}

// sameButRequest fails unless two answers are equal but for what names the request.
func sameButRequest(t *testing.T, what string, got, want answer) {
	t.Helper()
	plain := func(a answer) map[string]any {
		body := map[string]any{"status": a.status}
		for name, value := range a.body {
			if name != "instance" && name != "request_id" {
				body[name] = value
			}
		}
		return body
	}
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("%s: the bodies differ:\n%s", what, diff)
	}
	if diff := cmp.Diff(fieldNames(want.header), fieldNames(got.header)); diff != "" {
		t.Errorf("%s: the header fields differ:\n%s", what, diff)
	}
}

// currentSession returns the id of the session that the token belongs to, and how many the user has.
func (s *service) currentSession(token string) (id string, count int) {
	s.t.Helper()
	list := s.want(s.call(http.MethodGet, ownSessions, token, nil), http.StatusOK, "").items()
	for _, one := range list {
		if one["current"] == true {
			if id != "" {
				s.t.Fatal("two sessions are the current one")
			}
			id, _ = one["id"].(string)
		}
	}
	if id == "" {
		s.t.Fatal("no session is the current one")
	}
	return id, len(list)
}

func (s *service) wantOver(access, refresh string) {
	s.t.Helper()
	s.want(s.call(http.MethodGet, "/users/me", access, nil), http.StatusUnauthorized, "unauthorized")
	s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": refresh}), http.StatusUnauthorized, "")
}

// Peers bug 9 (a session that was ended goes on with its tokens): one that its user ends is over at once, for both tokens.
// Sessions of others cannot be told from those there are not.
func TestOwnSessions_endOne(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		here, there := s.token("alex", demoPassword), s.signIn("alex", demoPassword)
		bo := s.token("bo", demoPassword)
		id, count := s.currentSession(there.text("access_token"))
		if own, _ := s.currentSession(here); count != 2 || own == id {
			t.Fatalf("%d sessions, %s and %s", count, own, id)
		}
		first := s.want(s.call(http.MethodGet, ownSessions+"?limit=1", here, nil), http.StatusOK, "")
		second := s.want(s.call(http.MethodGet, ownSessions+"?limit=1&cursor="+first.text("next_cursor"), here, nil), http.StatusOK, "")
		if first.items()[0]["id"] != id || len(second.items()) != 1 || second.items()[0]["current"] != true || second.body["next_cursor"] != nil {
			t.Errorf("the newest first, page by page: %s %s", first.raw, second.raw)
		}
		if strings.Contains(string(first.raw), "token") {
			t.Errorf("a token is shown: %s", first.raw)
		}

		s.want(s.call(http.MethodDelete, ownSessions+"/"+id, here, nil), http.StatusNoContent, "")
		s.wantOver(there.text("access_token"), there.text("refresh_token"))
		if _, count := s.currentSession(here); count != 1 {
			t.Errorf("%d sessions are left", count)
		}
		theirs, _ := s.currentSession(bo)
		unknown := s.want(s.call(http.MethodDelete, ownSessions+"/"+uuid.NewString(), here, nil), http.StatusNotFound, "not_found")
		for what, other := range map[string]string{"somebody else's": theirs, "an ended one": id, "no id at all": "%27%20OR%201=1"} {
			sameButRequest(t, what, s.call(http.MethodDelete, ownSessions+"/"+other, here, nil), unknown)
		}
		s.want(s.call(http.MethodGet, "/users/me", bo, nil), http.StatusOK, "")
		events := s.events("session.ended")
		if len(events) != 1 || events[0].Actor.ID != s.user("alex").ID || events[0].Details.EndedSession != id {
			t.Errorf("audited: %+v", events)
		}
	})
}

// Peers bug 9: a user ends all other sessions at once, and keeps the one in use; those of others stay.
func TestOwnSessions_endOthers(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		one, two, bo := s.signIn("alex", demoPassword), s.signIn("alex", demoPassword), s.token("bo", demoPassword)
		here := s.signIn("alex", demoPassword)
		for _, want := range []float64{2, 0} {
			ended := s.want(s.call(http.MethodDelete, ownSessions, here.text("access_token"), nil), http.StatusOK, "")
			if ended.body["sessions_ended"] != want {
				t.Errorf("%s, want %v", ended.raw, want)
			}
		}
		for _, gone := range []answer{one, two} {
			s.wantOver(gone.text("access_token"), gone.text("refresh_token"))
		}
		s.want(s.call(http.MethodGet, "/users/me", here.text("access_token"), nil), http.StatusOK, "")
		s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": here.text("refresh_token")}), http.StatusOK, "")
		s.want(s.call(http.MethodGet, "/users/me", bo, nil), http.StatusOK, "")
		if events := s.events("session.others_ended"); len(events) == 0 || events[0].Details.SessionsEnded != 2 {
			t.Errorf("audited: %+v", events)
		}
	})
}

// product.md "accurate user attribution": users see what happened to their credentials and by whom, the newest first; of
// administrators the name alone.
func TestActivity_byWhom(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.want(s.signIn("alex", "not the password at all"), http.StatusUnauthorized, "invalid_credentials")
		alex := s.token("alex", demoPassword)
		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		s.want(s.administer(s.token("ada", demoPassword), "alex", map[string]string{"username": "alexander", "reason": "Asked by phone"}), http.StatusOK, "")
		s.want(s.change(s.token("bo", demoPassword), map[string]string{"username": "bo.lind"}), http.StatusOK, "") // nothing of alex's

		whole := s.want(s.call(http.MethodGet, "/users/me/activity?limit=200", alex, nil), http.StatusOK, "")
		var got []string
		for _, item := range whole.items() {
			by, details := item["by"].(map[string]any), item["details"].(map[string]any)
			name, _ := by["name"].(string)
			renamed, _ := details["new_username"].(string)
			got = append(got, strings.Join([]string{item["action"].(string), by["kind"].(string), name, renamed}, "|"))
			if (by["kind"] == "self" || by["kind"] == "unknown") != (item["ip"] != nil) {
				t.Errorf("where administrators sit is not told, where the user sat is: %v", item)
			}
		}
		want := []string{
			"credentials.changed|administrator|Ada Marsh|alexander", "credentials.changed|self||alex.reed", "session.signed_in|self||", "session.sign_in_failed|unknown||",
			"user.created|system||",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the newest first:\n%s", diff)
		}
		if strings.Contains(string(whole.raw), "phone") {
			t.Errorf("an administrator's reason is shown: %s", whole.raw)
		}

		var paged []map[string]any
		for cursor, pages := "", 0; pages < 2 || cursor != ""; pages++ {
			path := "/users/me/activity?limit=1"
			if cursor != "" {
				path += "&cursor=" + cursor
			}
			page := s.want(s.call(http.MethodGet, path, alex, nil), http.StatusOK, "")
			paged = append(paged, page.items()...)
			if cursor = page.text("next_cursor"); len(page.items()) != 1 || pages > len(want) {
				t.Fatalf("page %d: %s", pages, page.raw)
			}
		}
		if diff := cmp.Diff(whole.items(), paged); diff != "" {
			t.Errorf("page by page:\n%s", diff)
		}
		for _, broken := range []string{"limit=0", "limit=201", "cursor=nonsense"} {
			refused := s.want(s.call(http.MethodGet, "/users/me/activity?"+broken, alex, nil), http.StatusUnprocessableEntity, "validation_failed")
			if pointer, _, _ := strings.Cut(broken, "="); !slices.Equal(refused.fieldCodes(), []string{"/" + pointer + " invalid"}) {
				t.Errorf("%s: %s", broken, refused.raw)
			}
		}
	})
}
