package main

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
)

// product.md "a rename never orphans or reassigns a lead", peers bug 18: whoever held a name at a time is found, after rename
// chains, releases and re-use; unknown names and those of other accounts look alike.
func TestAttribution(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		held := func(username string, at time.Time) answer {
			path := "/attribution/usernames/" + url.PathEscape(username)
			if !at.IsZero() {
				path += "?at=" + url.QueryEscape(at.UTC().Format(time.RFC3339Nano))
			}
			return s.call(http.MethodGet, path, serviceToken(s, access.ScopeAttribution), nil, "X-Request-Id", "the-same-request-id")
		}
		wantHolder := func(a answer, id, now string, present bool) {
			t.Helper()
			s.want(a, http.StatusOK, "")
			if a.text("user_id") != id || a.text("current_username") != now || (a.body["held_until"] == nil) != present {
				t.Errorf("want %s, called %s, who holds it: %v\n%s", id, now, present, a.raw)
			}
		}
		rename := func(id, name string) {
			t.Helper()
			s.want(s.call(http.MethodPatch, "/admin/users/"+id+"/credentials", s.token("ada", demoPassword), map[string]string{"username": name}), http.StatusOK, "")
		}
		alex, bo, start := s.user("alex").ID, s.user("bo").ID, s.clock.now()
		wantHolder(held("ALEX", time.Time{}), alex, "alex", true)

		s.clock.advance(24 * time.Hour)
		rename(alex, "alex.reed")
		rename(alex, "Alex.Reed") // another spelling is no other name
		day := s.clock.now()
		s.clock.advance(24 * time.Hour)
		rename(alex, "reed")
		wantHolder(held("alex", time.Time{}), alex, "reed", false) // who held it last
		wantHolder(held("alex.reed", day.Add(time.Hour)), alex, "reed", false)
		s.want(held("alex", day.Add(time.Hour)), http.StatusNotFound, "not_found") // held for alex, but nobody was called so

		s.clock.advance(181 * 24 * time.Hour)
		rename(bo, "alex")
		wantHolder(held("alex", time.Time{}), bo, "alex", true)
		wantHolder(held("alex", start.Add(time.Hour)), alex, "reed", false)
		wantHolder(held("bo", start.Add(time.Hour)), bo, "alex", false)
		s.want(held("alex", start.Add(-24*time.Hour)), http.StatusNotFound, "not_found")

		unknown := held("nobody.there", time.Time{})
		for _, name := range []string{"olga", "olga@other.example", "alex@demo.example", "%", "\x00", "\xff", "' OR '1'='1", "..", "a b"} {
			sameRefusal(t, name, held(name, time.Time{}), unknown)
		}
		s.want(s.call(http.MethodGet, "/attribution/usernames/alex?at=yesterday", serviceToken(s, access.ScopeAttribution), nil), http.StatusBadRequest, "malformed_request")
		s.want(s.call(http.MethodGet, "/attribution/usernames/alex", s.token("ada", demoPassword), nil), http.StatusForbidden, "forbidden")
		alterDemoClient(t, s, "account_id = NULL")
		wantHolder(held("olga", time.Time{}), s.user("olga").ID, "olga", true)
	})
}
