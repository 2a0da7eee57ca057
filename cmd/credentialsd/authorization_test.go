package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// serviceToken returns a token of the demo service with the scopes, which are separated by spaces.
func serviceToken(s *service, scope string) string {
	s.t.Helper()
	c := s.demo.Clients[0]
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ClientID}, "client_secret": {c.ClientSecret}, "scope": {scope}}
	a := s.call(http.MethodPost, "/oauth/token", "", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	return s.want(a, http.StatusOK, "").text("access_token")
}

// alterDemoClient sets columns of the demo service's registration.
func alterDemoClient(t *testing.T, s *service, columns string) {
	t.Helper()
	execute(t, s.databaseURL, "UPDATE clients SET "+columns+" WHERE id = 'demo-service'")
}

// sameRefusal fails unless both answers are equal to the byte, and in the names of their header fields.
func sameRefusal(t *testing.T, what string, got, want answer) {
	t.Helper()
	if got.status != want.status || !bytes.Equal(got.raw, want.raw) {
		t.Errorf("%s can be told from a user that does not exist:\n%d %s\n%d %s", what, got.status, got.raw, want.status, want.raw)
	}
	if diff := cmp.Diff(fieldNames(want.header), fieldNames(got.header)); diff != "" {
		t.Errorf("%s: the header fields differ:\n%s", what, diff)
	}
}

func fieldNames(header http.Header) []string {
	var names []string
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// onUser calls every operation that names a user, with one request id so that answers can be compared to the byte.
func onUser(s *service, token, id string) map[string]answer {
	const same = "the-same-request-id"
	path := "/admin/users/" + id
	return map[string]answer{
		"show":    s.call(http.MethodGet, path, token, nil, "X-Request-Id", same),
		"history": s.call(http.MethodGet, path+"/username-history", token, nil, "X-Request-Id", same),
		"rename":  s.call(http.MethodPatch, path+"/credentials", token, map[string]string{"username": "renamed." + id[:4]}, "X-Request-Id", same),
		"reset":   s.reset(token, id, nil, "X-Request-Id", same),
		"set":     s.reset(token, id, map[string]string{"method": "set", "new_password": otherPassword}, "X-Request-Id", same),
		"shape":   s.reset(token, id, map[string]string{"method": "pigeon"}, "X-Request-Id", same),
		"stale":   s.reset(token, id, nil, "X-Request-Id", same, "If-Match", `"99"`),
	}
}

const unknownID = "018f0000-0000-7000-8000-000000000000"

// wantInvisible fails unless the user looks to the caller as if there were none, and nothing has changed.
func wantInvisible(s *service, token, id string) {
	s.t.Helper()
	db := s.database()
	before, err := db.Member(s.t.Context(), user.ID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	unknown := onUser(s, token, unknownID)
	for what, got := range onUser(s, token, id) {
		s.want(got, http.StatusNotFound, "not_found")
		sameRefusal(s.t, what+" "+before.User.Username, got, unknown[what])
	}
	after, err := db.Member(s.t.Context(), user.ID(id))
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		s.t.Errorf("something changed: %v\n%s", err, diff)
	}
}

// wantManaged fails unless the caller can do to the user what administrators do.
func wantManaged(s *service, token, id string) {
	s.t.Helper()
	for what, got := range onUser(s, token, id) {
		wanted := http.StatusOK
		switch what {
		case "shape":
			wanted = http.StatusUnprocessableEntity
		case "stale":
			wanted = http.StatusPreconditionFailed
		}
		if got.status != wanted {
			s.t.Errorf("%s: got %d %s", what, got.status, got.raw)
		}
	}
}

// REC-11, AZ-03, AZ-04, AZ-05, AZ-19: who manages whom, one line for each relation; the others look like nobody.
func TestAuthorization_reach(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin, oscar, alex := s.token("ada", demoPassword), s.token("erin", demoPassword), s.token("oscar", demoPassword), s.token("alex", demoPassword)
		id := func(name string) string { return s.user(name).ID }

		for _, name := range []string{"wanda", "ada", "olga", "oscar"} { // beside, above, and in another account
			wantInvisible(s, erin, id(name))
		}
		for _, name := range []string{"alex", "erin", "ada", "wanda"} {
			wantInvisible(s, oscar, id(name))
		}
		wantInvisible(s, ada, id("oscar"))
		unknown := onUser(s, erin, unknownID)
		for _, malformed := range []string{"1", "%00", "%27%20OR%201%3D1%20--", "..%2f..", strings.Repeat("a", 65), "%F0%9F%92%A5"} {
			got := s.call(http.MethodGet, "/admin/users/"+malformed, erin, nil, "X-Request-Id", "the-same-request-id")
			sameRefusal(t, malformed, got, unknown["show"])
		}
		for what, got := range onUser(s, alex, id("bo")) {
			if got.code() != "forbidden" {
				t.Errorf("%s as an agent: got %d %s", what, got.status, got.raw)
			}
		}
		s.want(s.reset(alex, id("bo"), "{not json"), http.StatusForbidden, "forbidden") // AZ-05: before the body is read
		s.want(s.reset(alex, id("alex"), nil), http.StatusForbidden, "forbidden")

		s.want(s.reset(ada, id("ada"), nil), http.StatusForbidden, "use_self_service")
		s.want(s.call(http.MethodPatch, "/admin/users/"+id("ada")+"/credentials", ada, map[string]string{"username": "ada2"}), http.StatusForbidden, "use_self_service")
		s.want(s.call(http.MethodGet, "/admin/users/"+id("ada"), ada, nil), http.StatusOK, "")

		listed := s.want(s.call(http.MethodGet, "/admin/users?account_id=other&team=/", erin, nil), http.StatusOK, "")
		for _, item := range listed.body["items"].([]any) {
			if team := item.(map[string]any)["team"].(string); !strings.HasPrefix(team, "/east/") {
				t.Errorf("erin sees team %s", team)
			}
		}

		wantManaged(s, erin, id("bo"))
		wantManaged(s, erin, id("dora")) // a disabled user stays disabled
		wantManaged(s, ada, id("erin"))
		wantManaged(s, ada, id("wanda"))
		wantManaged(s, oscar, id("olga"))
	})
}

// peers bug 4, product.md decision 5: authority is that of the present moment, for both sides.
func TestAuthorization_followsThePresentState(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, erin := s.database(), s.token("erin", demoPassword)
		id := func(name string) string { return s.user(name).ID }

		alterUser(t, db, id("bo"), func(u *user.User) { u.Role, u.AlsoManages = user.Administrator, []user.Team{"/west/"} })
		wantInvisible(s, erin, id("bo")) // manages a wider reach than erin now
		alterUser(t, db, id("erin"), func(u *user.User) { u.AlsoManages = []user.Team{"/west/"} })
		wantManaged(s, erin, id("bo"))
		wantManaged(s, erin, id("wanda"))

		alterUser(t, db, id("erin"), func(u *user.User) { u.Team, u.AlsoManages = "/west/", nil })
		wantInvisible(s, erin, id("alex"))
		wantManaged(s, erin, id("wanda"))

		// SES-07: demoted, the old token opens no administration, and still the own page.
		alterUser(t, db, id("erin"), func(u *user.User) { u.Role = user.Agent })
		for what, got := range onUser(s, erin, id("wanda")) {
			if got.code() != "forbidden" {
				t.Errorf("%s after the demotion: got %d %s", what, got.status, got.raw)
			}
		}
		s.want(s.call(http.MethodGet, "/admin/users", erin, nil), http.StatusForbidden, "forbidden")
		wantAlive(s, erin)
	})
}

// api.md: the role that counts is the lesser of the token's and the database's, and what the token lacks is not written back.
func TestAuthorization_promotion(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, mine := s.database(), openSession(s, "alex", demoPassword)
		alterUser(t, db, s.user("alex").ID, func(u *user.User) { u.Role = user.Administrator })
		s.want(s.call(http.MethodGet, "/admin/users", mine.access, nil), http.StatusForbidden, "forbidden")
		if role := s.want(s.call(http.MethodGet, "/users/me", mine.access, nil), http.StatusOK, "").text("role"); role != "agent" {
			t.Errorf("the token makes %s", role)
		}
		s.want(s.change(mine.access, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		member, err := db.Member(t.Context(), user.ID(s.user("alex").ID))
		if err != nil || member.User.Role != user.Administrator {
			t.Errorf("a rename with the token from before made the user %s (%v)", member.User.Role, err)
		}
		promoted := wantRefreshed(s, mine.refresh)
		s.want(s.call(http.MethodGet, "/admin/users", promoted.access, nil), http.StatusOK, "")
	})
}

// peers bug 4: an administrator who was moved, demoted or disabled while a request ran changes nothing any more: the
// save itself holds the acting user to the revision the decision was made on.
func TestAuthorization_actorGuard(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, ada, alex := s.database(), user.ID(s.user("ada").ID), user.ID(s.user("alex").ID)
		actor, err := db.Member(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		target, err := db.Member(t.Context(), alex)
		if err != nil {
			t.Fatal(err)
		}
		alterUser(t, db, string(ada), func(u *user.User) { u.Team = "/west/" })
		renamed := target.User
		renamed.Username, renamed.Version = "taken.over", renamed.Version+1
		_, err = db.Commit(t.Context(), change.Change{
			At: time.Now(), Actor: &change.Guard{UserID: ada, Revision: actor.User.Revision}, User: &renamed,
			Target: &change.Guard{UserID: alex, Revision: target.User.Revision},
			Claim:  []change.Claim{{Key: "taken.over", UserID: alex, AccountID: "demo", IsUsername: true}},
			Rename: &change.Rename{UserID: alex, AccountID: "demo", OldKey: "alex", NewUsername: "taken.over", NewKey: "taken.over", At: time.Now()},
			End:    &change.EndSessions{UserID: alex, Why: "password_reset"},
		})
		if !errors.Is(err, change.ErrConflict) {
			t.Fatalf("got %v, want ErrConflict", err)
		}
		after, err := db.Member(t.Context(), alex)
		if diff := cmp.Diff(target, after); err != nil || diff != "" {
			t.Errorf("something was written: %v\n%s", err, diff)
		}
		if _, err := db.MemberByUsername(t.Context(), "taken.over"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the identifier was written: %v", err)
		}
		if names, err := db.UsernameHistory(t.Context(), alex); err != nil || len(names) != 1 {
			t.Errorf("the history was written: %v %v", names, err)
		}
	})
}

// AZ-20, JWT-15, product.md decision 5: what a service reaches is its account, with its scopes, and administrators with
// a scope of their own only.
func TestAuthorization_services(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		id := func(name string) string { return s.user(name).ID }
		all := serviceToken(s, strings.Join(access.Scopes(), " "))
		for _, name := range []string{"olga", "oscar"} {
			wantInvisible(s, all, id(name))
		}
		resets := serviceToken(s, access.ScopeReset)
		refused := s.reset(resets, id("ada"), nil, "X-Request-Id", "the-same-request-id")
		s.want(refused, http.StatusNotFound, "not_found")
		sameRefusal(t, "an administrator", refused, s.reset(resets, unknownID, nil, "X-Request-Id", "the-same-request-id"))
		s.want(s.reset(resets, id("alex"), nil), http.StatusOK, "")
		missing := s.want(s.call(http.MethodGet, "/admin/users", resets, nil), http.StatusForbidden, "insufficient_scope")
		if challenge := missing.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `scope="users:read"`) {
			t.Errorf("the challenge does not name the scope: %s", challenge)
		}
		s.want(s.reset(serviceToken(s, access.ScopeReset+" "+access.ScopeResetAdministrators), id("ada"), nil), http.StatusOK, "")
		wantManaged(s, all, id("bo"))

		// A registration that lost a scope, or was moved to another account, counts at once.
		alterDemoClient(t, s, "scopes = 'users:read'")
		s.want(s.reset(all, id("bo"), nil), http.StatusForbidden, "insufficient_scope")
		s.want(s.call(http.MethodGet, "/admin/users/"+id("bo"), all, nil), http.StatusOK, "")
		alterDemoClient(t, s, "account_id = 'other'")
		s.want(s.call(http.MethodGet, "/admin/users/"+id("bo"), all, nil), http.StatusNotFound, "not_found")
		alterDemoClient(t, s, "account_id = NULL")
		for _, name := range []string{"bo", "olga"} {
			s.want(s.call(http.MethodGet, "/admin/users/"+id(name), all, nil), http.StatusOK, "")
		}
	})
}

// AZ-07, AZ-17: of changes at the same time each is whole, one of two with the same If-Match wins, and none is lost half-way.
func TestAuthorization_checkAndWriteAreOne(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		mine, ada, bo := openSession(s, "alex", demoPassword), s.token("ada", demoPassword), s.user("bo")
		for round, etag := range []string{`"1"`, ""} {
			names := []string{"one." + string(rune('a'+round)), "two." + string(rune('a'+round))}
			answers := atOnce(len(names), func(i int) (answer, error) {
				return s.try(http.MethodPatch, "/admin/users/"+bo.ID+"/credentials", ada, map[string]string{"username": names[i]}, "If-Match", etag)
			})
			shown := s.want(s.call(http.MethodGet, "/admin/users/"+bo.ID, ada, nil), http.StatusOK, "").text("username")
			checkWinner(t, etag, shown, names, answers)
		}

		// A password change and a rename of the same user: another column's change survives, or is refused.
		answers := atOnce(2, func(i int) (answer, error) {
			if i == 0 {
				return s.try(http.MethodPatch, "/users/me/credentials", mine.access, map[string]string{"new_password": otherPassword, "current_password": demoPassword})
			}
			return s.try(http.MethodPatch, "/admin/users/"+s.user("alex").ID+"/credentials", ada, map[string]string{"username": "alex.reed"})
		})
		name, pw := "alex", demoPassword
		for i, a := range answers {
			switch {
			case a.status == http.StatusOK && i == 0:
				pw = otherPassword
			case a.status == http.StatusOK:
				name = "alex.reed"
			case a.status != http.StatusConflict:
				t.Errorf("got %d %s", a.status, a.raw)
			}
		}
		if name == "alex" && pw == demoPassword {
			t.Error("both lost")
		}
		s.want(s.signIn(name, pw), http.StatusCreated, "")
	})
}

func atOnce(n int, do func(i int) (answer, error)) []answer {
	answers := make([]answer, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { answers[i], _ = do(i) }) // an error leaves the status 0, which no test expects
	}
	running.Wait()
	return answers
}

func checkWinner(t *testing.T, etag, shown string, names []string, answers []answer) {
	t.Helper()
	won := 0
	for i, a := range answers {
		switch {
		case a.status == http.StatusOK:
			won++
			if won == 1 && etag != "" && shown != names[i] {
				t.Errorf("%s won and %s is shown", names[i], shown)
			}
		case etag != "" && a.status == http.StatusPreconditionFailed, etag == "" && a.status == http.StatusConflict:
		default:
			t.Errorf("If-Match %s: got %d %s", etag, a.status, a.raw)
		}
	}
	if won == 0 || (etag != "" && won != 1) || !slices.Contains(names, shown) {
		t.Errorf("If-Match %s: %d won, %s is shown", etag, won, shown)
	}
}

// peers bug 18: records hang on the id. Whoever takes a name later gets nothing of the one who had it before.
func TestAuthorization_namesAreNoKeys(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex, wanda := s.user("alex"), s.user("wanda")
		rename := func(id, name string) answer {
			return s.call(http.MethodPatch, "/admin/users/"+id+"/credentials", s.token("ada", demoPassword), map[string]string{"username": name})
		}
		mine := s.token("alex", demoPassword)
		s.want(rename(alex.ID, "alex.reed"), http.StatusOK, "")
		s.want(rename(wanda.ID, "alex"), http.StatusConflict, "identifier_taken")
		wantAlive(s, mine)
		s.clock.advance(180*24*time.Hour + time.Minute)
		s.want(rename(wanda.ID, "alex"), http.StatusOK, "")
		for name, id := range map[string]string{"alex": wanda.ID, "alex.reed": alex.ID} {
			me := s.want(s.call(http.MethodGet, "/users/me", s.token(name, demoPassword), nil), http.StatusOK, "")
			if me.text("id") != id {
				t.Errorf("%s signs in as %s", name, me.raw)
			}
		}
		history := s.want(s.call(http.MethodGet, "/admin/users/"+alex.ID+"/username-history", s.token("ada", demoPassword), nil), http.StatusOK, "")
		if items := history.body["items"].([]any); len(items) != 2 {
			t.Errorf("the history of alex: %s", history.raw)
		}
	})
}

// AZ-21: the migrations bring no account, no user and no service.
func TestAuthorization_noDefaultAccounts(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			if err := migrate(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			db, err := store.Open(t.Context(), store.Config{URL: url, Log: newLogger(io.Discard, "error"), Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			defer closeQuietly(db)
			everywhere := access.Actor{Kind: access.Service, AllAccounts: true}
			if members, err := db.Members(t.Context(), everywhere, credential.Filter{}, "", 10); err != nil || len(members) != 0 {
				t.Errorf("users: %v %v", members, err)
			}
			for _, id := range []string{"demo-service", "admin", "root", session.AppClientID} {
				if _, err := db.Client(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("client %s: %v", id, err)
				}
			}
		})
	}
}
