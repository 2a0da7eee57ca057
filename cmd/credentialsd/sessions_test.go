package main

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// otherPassword and thirdPassword are what users of these tests change to.
const (
	otherPassword = "maple orbit lantern quiet"
	thirdPassword = "violet harbor stone drift"
)

// issued is what an app holds of its session.
type issued struct{ access, refresh, session string }

func issuedIn(a answer) issued {
	return issued{access: a.text("access_token"), refresh: a.text("refresh_token"), session: a.text("session_id")}
}

func openSession(s *service, username, pw string) issued {
	s.t.Helper()
	return issuedIn(s.want(s.signIn(username, pw), http.StatusCreated, ""))
}

func sendRefresh(s *service, token string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": token})
}

func wantRefreshed(s *service, token string) issued {
	s.t.Helper()
	return issuedIn(s.want(sendRefresh(s, token), http.StatusOK, ""))
}

// wantAlive fails unless the access token opens the user's own page; wantDead unless nothing opens with the tokens. The
// refresh token is tried first, for a live one would keep the session going.
func wantAlive(s *service, access string) {
	s.t.Helper()
	s.want(s.call(http.MethodGet, "/users/me", access, nil), http.StatusOK, "")
}

func wantDead(s *service, tokens issued) {
	s.t.Helper()
	s.want(sendRefresh(s, tokens.refresh), http.StatusUnauthorized, "unauthorized")
	s.want(s.call(http.MethodGet, "/users/me", tokens.access, nil), http.StatusUnauthorized, "unauthorized")
}

// alterUser changes a stored user as its administration elsewhere would: in one save that moves the revision on.
func alterUser(t *testing.T, db *store.Store, id string, alter func(u *user.User)) {
	t.Helper()
	member, err := db.Member(t.Context(), user.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	altered := member.User
	alter(&altered)
	guard := &change.Guard{UserID: altered.ID, Revision: altered.Revision}
	if _, err := db.Commit(t.Context(), change.Change{At: time.Now(), Target: guard, User: &altered}); err != nil {
		t.Fatal(err)
	}
}

// RFC 9700 section 4.14.2, peers bug 9: refresh tokens rotate; what was outgrown ends the session, what was made up does not.
func TestSessions_refresh(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		t.Run("the predecessor is good until its successor was used", func(t *testing.T) {
			first := openSession(s, "alex", demoPassword)
			second := wantRefreshed(s, first.refresh)
			again := wantRefreshed(s, first.refresh)
			if second.refresh == first.refresh || again.refresh != second.refresh || second.session != first.session {
				t.Fatal("a lost answer must be fetched again, with the same successor in the same session")
			}
			third := wantRefreshed(s, second.refresh)
			wantAlive(s, third.access)
			s.want(sendRefresh(s, first.refresh), http.StatusUnauthorized, "unauthorized")
			for _, dead := range []issued{first, second, third} {
				wantDead(s, dead)
			}
		})
		t.Run("what was made up ends nothing", func(t *testing.T) {
			mine, others := openSession(s, "alex", demoPassword), openSession(s, "bo", demoPassword)
			for name, forged := range map[string]string{
				"unknown session": uuid.NewString() + mine.refresh[len(mine.session):], "garbage": "garbage", "no MAC": mine.session + ".1.",
				"older number":    mine.session + ".0." + mine.refresh[len(mine.session)+3:],
				"later number":    mine.session + ".9" + mine.refresh[len(mine.session)+2:],
				"another's MAC":   mine.session + others.refresh[len(others.session):],
				"an access token": mine.access, "SQL": "' OR 1=1 --.1.x", "one more part": mine.refresh + ".x",
			} {
				if a := sendRefresh(s, forged); a.status != http.StatusUnauthorized || a.code() != "unauthorized" {
					t.Errorf("%s: got %d %s", name, a.status, a.raw)
				}
			}
			wantAlive(s, wantRefreshed(s, mine.refresh).access)
			wantAlive(s, others.access)
		})
		t.Run("JWT-06 a refresh token is no access token", func(t *testing.T) {
			mine := openSession(s, "alex", demoPassword)
			s.want(s.call(http.MethodGet, "/users/me", mine.refresh, nil), http.StatusUnauthorized, "unauthorized")
		})
		t.Run("a missing one is said to be missing", func(t *testing.T) {
			a := s.want(sendRefresh(s, ""), http.StatusUnprocessableEntity, "validation_failed")
			if codes := a.fieldCodes(); len(codes) != 1 || codes[0] != "/refresh_token required" {
				t.Error(codes)
			}
		})
		t.Run("the same token at once gets one successor", func(t *testing.T) { refreshAtOnce(t, s) })
	})
}

// refreshAtOnce is two tabs, or an impatient app: all get tokens, and the same next refresh token.
func refreshAtOnce(t *testing.T, s *service) {
	mine := openSession(s, "alex", demoPassword)
	for range 3 {
		answers := make([]answer, 8)
		var running sync.WaitGroup
		for i := range answers {
			running.Go(func() {
				var err error
				answers[i], err = s.try(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": mine.refresh})
				if err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		next := issuedIn(s.want(answers[0], http.StatusOK, ""))
		for _, a := range answers {
			got := issuedIn(s.want(a, http.StatusOK, ""))
			if got.refresh != next.refresh {
				t.Fatal("two successors for one refresh token")
			}
			wantAlive(s, got.access)
		}
		mine = next
	}
}

// SES-01, SES-02, SES-03, peers bug 9, peers bug 19: a password change ends everything from before, gives the caller's own
// session new tokens, and does so within one second too.
func TestSessions_endWithThePassword(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		mine, other := openSession(s, "alex", demoPassword), openSession(s, "alex", demoPassword)
		stranger := openSession(s, "bo", demoPassword)
		earlier := mine
		mine = wantRefreshed(s, mine.refresh)
		current, next := demoPassword, otherPassword
		for range 3 { // the times of these tokens do not tell them apart
			changed := issuedIn(s.want(s.change(mine.access, map[string]string{"new_password": next, "current_password": current}), http.StatusOK, ""))
			if changed.session != mine.session || changed.access == "" || changed.refresh == "" {
				t.Fatal("peers bug 19: the caller's own session must go on with new tokens")
			}
			wantAlive(s, changed.access)
			for _, dead := range []issued{mine, other, earlier} {
				wantDead(s, dead)
			}
			wantAlive(s, changed.access) // trying the old refresh tokens has ended nothing
			earlier, mine = changed, wantRefreshed(s, changed.refresh)
			current, next = next, current
		}
		wantAlive(s, stranger.access)

		// A reset leaves no session at all, whoever made it; a rename leaves all (product.md decision 12).
		ada := s.token("ada", demoPassword)
		s.want(s.call(http.MethodPatch, "/admin/users/"+s.user("bo").ID+"/credentials", ada, map[string]string{"username": "bobby"}), http.StatusOK, "")
		wantAlive(s, stranger.access)
		done := s.want(s.reset(ada, s.user("bo").ID, map[string]string{"method": "set", "new_password": thirdPassword}), http.StatusOK, "")
		if done.body["sessions_ended"] != float64(1) {
			t.Errorf("sessions_ended: %s", done.raw)
		}
		wantDead(s, stranger)
	})
}

// peers bug 9 (goiabada #106): whatever a refresh that races a password change or a reset hands out, nothing of it lives on.
func TestSessions_refreshRacesAChange(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo")
		current, next := demoPassword, otherPassword
		for range 4 {
			mine := openSession(s, "alex", current)
			body := map[string]string{"new_password": next, "current_password": current}
			changed, raced := duringRefreshes(s, mine, func() (answer, error) { return s.try(http.MethodPatch, "/users/me/credentials", mine.access, body) })
			for _, dead := range raced {
				wantDead(s, dead)
			}
			wantAlive(s, issuedIn(s.want(changed, http.StatusOK, "")).access)
			current, next = next, current
		}
		for range 2 {
			alterUser(t, s.database(), bo.ID, func(u *user.User) { u.Password.MustChange, u.Password.TemporaryUntil = false, nil })
			theirs := openSession(s, "bo", demoPassword)
			body := map[string]string{"method": "set", "new_password": demoPassword}
			done, raced := duringRefreshes(s, theirs, func() (answer, error) {
				return s.try(http.MethodPost, "/admin/users/"+bo.ID+"/password-reset", ada, body)
			})
			s.want(done, http.StatusOK, "")
			for _, dead := range raced {
				wantDead(s, dead)
			}
		}
	})
}

// duringRefreshes runs change while the session is refreshed all the time, and returns its answer and every token that
// was handed out meanwhile.
func duringRefreshes(s *service, start issued, change func() (answer, error)) (answer, []issued) {
	s.t.Helper()
	tokens := []issued{start}
	over := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			a, err := s.try(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": tokens[len(tokens)-1].refresh})
			if err != nil || a.status >= http.StatusInternalServerError {
				s.t.Errorf("refresh: %v %s", err, a.raw)
			}
			if a.status == http.StatusOK {
				tokens = append(tokens, issuedIn(a))
			}
			select {
			case <-over:
				return
			default:
			}
		}
	})
	a, err := change()
	close(over)
	running.Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	return a, tokens
}

// ASVS 7.4.1: signing out ends that session, its access and refresh tokens, and no other.
func TestSessions_signOut(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		mine, other := openSession(s, "alex", demoPassword), openSession(s, "alex", demoPassword)
		out := s.want(s.call(http.MethodDelete, "/sessions/current", mine.access, nil), http.StatusNoContent, "")
		if len(out.raw) != 0 {
			t.Errorf("a body with 204: %s", out.raw)
		}
		wantDead(s, mine)
		s.want(s.call(http.MethodDelete, "/sessions/current", mine.access, nil), http.StatusUnauthorized, "unauthorized")
		wantAlive(s, wantRefreshed(s, other.refresh).access)
	})
}

// SES-04, JWT-12: a disabled user is out at once, and so is a disabled service.
func TestSessions_disabled(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, mine := s.database(), openSession(s, "alex", demoPassword)
		alterUser(t, db, s.user("alex").ID, func(u *user.User) { u.Status = user.Disabled })
		wantDead(s, mine)
		s.want(s.signIn("alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signIn("dora", demoPassword), http.StatusUnauthorized, "invalid_credentials")

		access := serviceToken(s, "users:read")
		s.want(s.call(http.MethodGet, "/admin/users", access, nil), http.StatusOK, "")
		alterDemoClient(t, s, "disabled = (1 = 1)")
		s.want(s.call(http.MethodGet, "/admin/users", access, nil), http.StatusUnauthorized, "unauthorized")
	})
}

// peers bug 9 (logins in progress): a sign-in whose password was checked before a change opens no session after it.
func TestSessions_signInOvertakenByAChange(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, id := s.database(), user.ID(s.user("alex").ID)
		seen, err := db.Member(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s.want(s.reset(s.token("ada", demoPassword), string(id), nil), http.StatusOK, "")
		late := session.Session{
			ID: uuid.NewString(), UserID: id, AccountID: seen.User.AccountID, Generation: seen.User.Generation,
			SignedInAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour), RefreshCount: 1, RefreshSalt: "salt",
		}
		err = db.OpenSession(t.Context(), session.Opening{Session: late, Guard: change.Guard{UserID: id, Revision: seen.User.Revision}})
		if !errors.Is(err, change.ErrConflict) {
			t.Fatalf("got %v, want ErrConflict", err)
		}
		if _, _, err := db.Session(t.Context(), late.ID); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the session was written: %v", err)
		}
	})
}

// peers bug 9 (goiabada #106), the interleaving forced: a refresh that read the session before a change, a sign-out or a
// reset is not saved after it.
func TestSessions_refreshOvertakenByAChange(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		db, ada := s.database(), s.token("ada", demoPassword)
		for name, overtake := range map[string]func(mine issued, username string) answer{
			"alex": func(mine issued, _ string) answer {
				return s.change(mine.access, map[string]string{"new_password": otherPassword, "current_password": demoPassword})
			},
			"wanda": func(mine issued, _ string) answer {
				return s.call(http.MethodDelete, "/sessions/current", mine.access, nil)
			},
			"bo":   func(_ issued, username string) answer { return s.reset(ada, s.user(username).ID, nil) },
			"erin": func(mine issued, _ string) answer { return sendRefresh(s, mine.refresh) },
		} {
			mine := openSession(s, name, demoPassword)
			seen, _, err := db.Session(t.Context(), mine.session)
			if err != nil {
				t.Fatal(err)
			}
			if a := overtake(mine, name); a.status >= http.StatusBadRequest {
				t.Fatalf("%s: %d %s", name, a.status, a.raw)
			}
			before, _, err := db.Session(t.Context(), mine.session)
			if err != nil {
				t.Fatal(err)
			}
			next := seen
			next.RefreshCount, next.ExpiresAt = seen.RefreshCount+1, seen.ExpiresAt.Add(time.Hour)
			if err := db.RotateRefresh(t.Context(), next, seen.RefreshCount, time.Now()); !errors.Is(err, change.ErrConflict) {
				t.Errorf("%s: got %v, want ErrConflict", name, err)
			}
			salted := before // a number that fits by chance: the salt of the time before does not
			salted.RefreshSalt, salted.RefreshCount = "of another time", before.RefreshCount+1
			if err := db.RotateRefresh(t.Context(), salted, before.RefreshCount, time.Now()); !errors.Is(err, change.ErrConflict) {
				t.Errorf("%s, with another salt: got %v, want ErrConflict", name, err)
			}
			after, _, err := db.Session(t.Context(), mine.session)
			if diff := cmp.Diff(before, after); err != nil || diff != "" {
				t.Errorf("%s: something was written: %v\n%s", name, err, diff)
			}
		}
	})
}

// REC-02, api.md must_change_password: what a session opened with a temporary password may and may not do, and that it
// ends with that password at the latest.
func TestSessions_mustChange(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		erin, bo := s.user("erin"), s.user("bo")
		temporary := s.want(s.reset(s.token("ada", demoPassword), erin.ID, nil), http.StatusOK, "").text("temporary_password")
		limited := openSession(s, "erin", temporary)
		refreshed := s.want(sendRefresh(s, limited.refresh), http.StatusOK, "")
		if refreshed.body["must_change_password"] != true {
			t.Errorf("a refresh must not lift the limit: %s", refreshed.raw)
		}
		limited = issuedIn(refreshed)
		for _, path := range []string{"/users/me", "/users/me/credentials", "/password-policy"} {
			s.want(s.call(http.MethodGet, path, limited.access, nil), http.StatusOK, "")
		}
		for _, path := range []string{"/admin/users", "/admin/users/" + bo.ID, "/admin/users/" + bo.ID + "/username-history"} {
			s.want(s.call(http.MethodGet, path, limited.access, nil), http.StatusForbidden, "must_change_password")
		}
		s.want(s.reset(limited.access, bo.ID, nil), http.StatusForbidden, "must_change_password")
		s.want(s.change(limited.access, map[string]string{"username": "erin2"}), http.StatusForbidden, "must_change_password")
		wrong := map[string]string{"username": "erin2", "new_password": otherPassword, "current_password": demoPassword}
		s.want(s.change(limited.access, wrong), http.StatusForbidden, "wrong_current_password") // REC-05: the old one is over

		right := map[string]string{"username": "erin2", "new_password": otherPassword, "current_password": temporary}
		free := issuedIn(s.want(s.change(limited.access, right), http.StatusOK, ""))
		wantDead(s, limited)
		s.want(s.call(http.MethodGet, "/admin/users/"+bo.ID, free.access, nil), http.StatusOK, "")

		temporary = s.want(s.reset(free.access, bo.ID, nil), http.StatusOK, "").text("temporary_password")
		limited = openSession(s, "bo", temporary)
		s.want(s.call(http.MethodDelete, "/sessions/current", limited.access, nil), http.StatusNoContent, "")

		limited = openSession(s, "bo", temporary)
		s.clock.advance(24*time.Hour - 5*time.Minute)
		limited = wantRefreshed(s, limited.refresh)
		wantAlive(s, limited.access)
		s.clock.advance(6 * time.Minute) // the access token alone would still be good for nine minutes
		wantDead(s, limited)
	})
}

// SES-06, product.md decision 1, peers bug 16: a rename needs a fresh sign-in or the current password, which is the
// caller's own; a refresh is no sign-in.
func TestSessions_freshSignIn(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		others := s.change(s.token("bo", demoPassword), map[string]string{"new_password": otherPassword, "current_password": demoPassword})
		s.want(others, http.StatusOK, "")

		mine := openSession(s, "alex", demoPassword)
		before := s.want(s.call(http.MethodGet, "/users/me", mine.access, nil), http.StatusOK, "").text("auth_time")
		s.want(s.change(mine.access, map[string]string{"username": "alex1"}), http.StatusOK, "")
		s.want(s.change(mine.access, map[string]string{"new_password": thirdPassword}), http.StatusUnprocessableEntity, "validation_failed")
		s.clock.advance(5*time.Minute + time.Second)
		late := wantRefreshed(s, mine.refresh)
		if after := s.want(s.call(http.MethodGet, "/users/me", late.access, nil), http.StatusOK, "").text("auth_time"); after != before {
			t.Errorf("auth_time moved from %s to %s", before, after)
		}
		refused := s.want(s.change(late.access, map[string]string{"username": "alex2"}), http.StatusUnprocessableEntity, "validation_failed")
		if codes := refused.fieldCodes(); len(codes) != 1 || codes[0] != "/current_password required" {
			t.Error(codes)
		}
		for _, wrong := range []string{otherPassword, "wrong", late.access, late.refresh} { // another user's, none, and tokens
			s.want(s.change(late.access, map[string]string{"username": "alex2", "current_password": wrong}), http.StatusForbidden, "wrong_current_password")
		}
		s.want(s.change(late.access, map[string]string{"username": "alex2", "current_password": demoPassword}), http.StatusOK, "")
	})
}

// NIST SP 800-63B-4 section 2.2.3: a session ends when it is not used, and in any case after its whole life.
func TestSessions_lifetime(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		idle, used := openSession(s, "alex", demoPassword), openSession(s, "alex", demoPassword)
		for range 5 {
			s.clock.advance(5 * 24 * time.Hour)
			used = wantRefreshed(s, used.refresh)
		}
		wantDead(s, idle)
		s.clock.advance(5*24*time.Hour - time.Minute)
		used = wantRefreshed(s, used.refresh)
		wantAlive(s, used.access)
		s.clock.advance(2 * time.Minute) // past 30 days, within the life of the access token
		wantDead(s, used)
	}, "SESSION_IDLE_TIME=144h")
}

// api.md, peers bug 9: what ends on one replica has ended on every other with the next request.
func TestSessions_endOnEveryReplica(t *testing.T) {
	url := databaseURL(t, "postgres")
	one := start(t, url, "PUBLIC_URL=https://credentials.example")
	two := start(t, url, "PUBLIC_URL=https://credentials.example")
	alex := one.user("alex")

	signedOut, mine := openSession(one, "alex", demoPassword), openSession(one, "alex", demoPassword)
	wantAlive(two, signedOut.access)
	one.want(one.call(http.MethodDelete, "/sessions/current", signedOut.access, nil), http.StatusNoContent, "")
	wantDead(two, signedOut)

	mine = wantRefreshed(two, mine.refresh)
	changed := issuedIn(one.want(one.change(mine.access, map[string]string{"new_password": otherPassword, "current_password": demoPassword}), http.StatusOK, ""))
	wantDead(two, mine)
	wantAlive(two, changed.access)

	two.want(two.reset(two.token("ada", demoPassword), alex.ID, map[string]string{"method": "set", "new_password": demoPassword}), http.StatusOK, "")
	wantDead(one, changed)

	limited := openSession(one, "alex", demoPassword)
	wantAlive(two, limited.access)
	alterUser(t, one.database(), alex.ID, func(u *user.User) { u.Status = user.Disabled })
	wantDead(one, limited)
	wantDead(two, limited)
}
