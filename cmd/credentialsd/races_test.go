package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// inParallel calls n times at once and counts the statuses.
func inParallel(t *testing.T, n int, call func(i int) (answer, error)) (map[int]int, []answer) {
	t.Helper()
	answers := make([]answer, n)
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		running.Go(func() {
			<-begin
			a, err := call(i)
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			answers[i] = a
		})
	}
	close(begin)
	running.Wait()
	statuses := map[int]int{}
	for _, a := range answers {
		statuses[a.status]++
	}
	return statuses, answers
}

// AZ-17, PRE-03, peers bug 13: 100 parallel password changes by one user; one wins, the rest hear so, and the stored hash is the
// winner's.
func TestRaces_ownPassword(t *testing.T) {
	for name, headers := range map[string][]string{"without If-Match": nil, "with If-Match": {"If-Match", `"1"`}} {
		t.Run(name, func(t *testing.T) {
			onEachDatabase(t, func(t *testing.T, s *service) {
				token := s.token("alex", demoPassword)
				wanted := func(i int) string { return fmt.Sprintf("marble lantern orbit %d quiet", i) }
				statuses, answers := inParallel(t, 100, func(i int) (answer, error) {
					return s.try(http.MethodPatch, "/users/me/credentials", token,
						map[string]string{"new_password": wanted(i), "current_password": demoPassword}, headers...)
				})
				if statuses[http.StatusOK] != 1 {
					t.Fatalf("one must win: %v", statuses)
				}
				for i, a := range answers {
					switch a.status {
					case http.StatusOK:
						s.want(s.signIn("alex", wanted(i)), http.StatusCreated, "")
					// 401: the token had died before this request was looked at.
					case http.StatusConflict, http.StatusPreconditionFailed, http.StatusForbidden, http.StatusUnauthorized:
					default:
						t.Errorf("%d %s", a.status, a.raw)
					}
				}
				s.want(s.signIn("alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
			}, "HASH_QUEUE_TIMEOUT=30s") // who is told that the service is busy, on a busy machine, races with nobody
		})
	}
}

// USR-04, peers bug 6: 20 parallel claims of one name, in any case variant: exactly one gets it.
func TestRaces_username(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		tokens := map[string]string{}
		names := []string{"alex", "bo", "wanda", "erin"}
		for _, name := range names {
			tokens[name] = s.token(name, demoPassword)
		}
		variants := []string{"Star.Seller", "star.seller", "STAR.SELLER"}
		statuses, _ := inParallel(t, 20, func(i int) (answer, error) {
			return s.try(http.MethodPatch, "/users/me/credentials", tokens[names[i%len(names)]],
				map[string]string{"username": variants[i%len(variants)]}, "If-Match", `"1"`)
		})
		if statuses[http.StatusOK] != 1 || statuses[http.StatusOK]+statuses[http.StatusConflict]+statuses[http.StatusPreconditionFailed] != 20 {
			t.Errorf("exactly one must get the name: %v", statuses)
		}
	})
}

// peers bug 13: parallel resets of one user never fail with 500, and the last one's password is the one that signs in.
func TestRaces_reset(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, alex := s.token("ada", demoPassword), s.user("alex")
		statuses, answers := inParallel(t, 20, func(int) (answer, error) {
			return s.try(http.MethodPost, "/admin/users/"+alex.ID+"/password-reset", ada, nil)
		})
		if statuses[http.StatusOK] == 0 || statuses[http.StatusOK]+statuses[http.StatusConflict] != 20 {
			t.Errorf("resets must win or conflict: %v", statuses)
		}
		var last answer // the highest version is the one that stayed
		for _, a := range answers {
			if a.status == http.StatusOK && etagOf(a) > etagOf(last) {
				last = a
			}
		}
		s.want(s.signIn("alex", last.text("temporary_password")), http.StatusCreated, "")
	})
}

// peers section 4 "conflict instead of last-write-wins": two administrators who both read version 1; one change is made.
func TestRaces_administrators(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, erin, bo := s.token("ada", demoPassword), s.token("erin", demoPassword), s.user("bo")
		statuses, _ := inParallel(t, 10, func(i int) (answer, error) {
			return s.try(http.MethodPatch, "/admin/users/"+bo.ID+"/credentials", []string{ada, erin}[i%2],
				map[string]string{"username": fmt.Sprintf("bo-%d", i), "email": fmt.Sprintf("bo-%d@demo.example", i)}, "If-Match", `"1"`)
		})
		if statuses[http.StatusOK] != 1 || statuses[http.StatusPreconditionFailed] != 9 {
			t.Errorf("exactly one must win: %v", statuses)
		}
		now := s.want(s.call(http.MethodGet, "/admin/users/"+bo.ID, ada, nil), http.StatusOK, "")
		if now.text("email") != now.text("username")+"@demo.example" || now.header.Get("ETag") != `"2"` {
			t.Errorf("a change was mixed from two: %s", now.raw)
		}
	})
}

// etagOf returns the version in an answer's ETag, 0 without one.
func etagOf(a answer) int {
	n, _ := strconv.Atoi(strings.Trim(a.header.Get("ETag"), `"`))
	return n
}
