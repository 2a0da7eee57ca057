package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// POL-01, POL-02, POL-03, POL-03b, POL-04: what a poll can ask for, and what it is answered.
func TestPoll(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(map[string]any{"events_requested": []string{renamed}})
		now := map[string]any{"returnImmediately": true}
		empty := s.want(l.pollRaw(now), http.StatusOK, "")
		if diff := cmp.Diff(map[string]any{"sets": map[string]any{}}, empty.body); diff != "" || empty.header.Get("Content-Type") != "application/json" {
			t.Errorf("nothing waits: %s %v", diff, empty.header)
		}
		tokens := map[string]string{}
		for _, name := range []string{"alex", "bo", "wanda"} {
			tokens[name] = s.token(name, demoPassword)
		}
		for i, name := range []string{"alex", "bo", "wanda", "alex"} {
			s.want(s.change(tokens[name], map[string]string{"username": fmt.Sprintf("%s.%d", name, i)}), http.StatusOK, "")
		}

		one := s.want(l.pollRaw(map[string]any{"maxEvents": 1, "returnImmediately": true}), http.StatusOK, "")
		if sets := one.body["sets"].(map[string]any); len(sets) != 1 || one.body["moreAvailable"] != true {
			t.Errorf("maxEvents 1: %s", one.raw)
		}
		all := l.poll(map[string]any{}) // what waits is answered at once also by a poll that would wait
		if len(all) != 3 {
			t.Fatalf("%d events of three users", len(all))
		}
		none := s.want(l.pollRaw(map[string]any{"maxEvents": 0, "returnImmediately": false}), http.StatusOK, "")
		if diff := cmp.Diff(map[string]any{"sets": map[string]any{}}, none.body); diff != "" {
			t.Errorf("maxEvents 0: %s", diff)
		}

		// Acknowledged events come no more, the others do; the second event of a user comes when the first is acknowledged.
		acknowledged := slices.IndexFunc(all, func(one set) bool { return one.user() == s.user("alex").ID })
		s.want(l.pollRaw(map[string]any{"maxEvents": 0, "ack": []string{all[acknowledged].jti(), all[acknowledged].jti()}}), http.StatusOK, "")
		next := l.poll(now)
		var names []string
		for _, one := range next {
			_, claims := one.event()
			names = append(names, claims["new_username"].(string))
			if one.jti() == all[acknowledged].jti() {
				t.Error("an acknowledged event came again")
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff([]string{"alex.3", "bo.1", "wanda.2"}, names); diff != "" {
			t.Errorf("after one acknowledgement: %s", diff)
		}

		// A refused event is a dead letter: it comes no more until the operator wants it to. Ids that nobody knows do no harm.
		refused := next[0]
		s.want(l.pollRaw(map[string]any{
			"maxEvents": 0, "ack": []string{"0198f3a2-5c1e-7b3a-9d41-6f0c2b7e8a10", "nobody", "\x00", ""},
			"setErrs": map[string]any{refused.jti(): map[string]string{"err": "invalid_issuer", "description": "who\n\tare you"}, "nobody": map[string]string{"err": "x"}},
		}), http.StatusOK, "")
		if left := l.poll(now); len(left) != 2 || slices.ContainsFunc(left, func(one set) bool { return one.jti() == refused.jti() }) {
			t.Errorf("%d events beside the refused one", len(left))
		}
		s.operator("stream dead "+l.id, 0, refused.jti(), renamed, "invalid_issuer: who  are you")
		s.operator("stream list", 0, l.id)
		if !strings.Contains(s.log.String(), refused.jti()) {
			t.Error("the log does not tell of a dead letter")
		}
		if refusals := s.metric(`credentials_signals_total{outcome="refused"}`); refusals != 1 {
			t.Errorf("%v refusals are counted", refusals)
		}
		s.operator("stream retry "+l.id, 0, "1 will be delivered again")
		if back := l.drain(); len(back) != 3 || !slices.ContainsFunc(back, func(one set) bool { return one.jti() == refused.jti() }) {
			t.Errorf("%d events after the retry", len(back))
		}

		for name, wrong := range map[string]any{
			"no JSON": "{", "an empty body": "", "a list": "[]", "a negative maxEvents": map[string]int{"maxEvents": -1}, "a text": map[string]string{"maxEvents": "1"},
			"an acknowledgement that is none": map[string]string{"ack": "x"}, "errors that are none": map[string]any{"setErrs": []string{"x"}}, "an unknown member": map[string]int{"max": 1},
		} {
			if a := l.pollRaw(wrong); a.status != http.StatusBadRequest || a.code() != "malformed_request" {
				t.Errorf("%s: %d %s", name, a.status, a.raw)
			}
		}
		if a := l.call(http.MethodPost, "/ssf/streams/"+l.id+"/poll", l.token, "{}", "Content-Type", "text/plain"); a.status != http.StatusUnsupportedMediaType {
			t.Errorf("another media type: %d", a.status)
		}
	}, "SIGNALS_POLL_TIMEOUT=1s")
}

// POL-01, POL-03b, POL-05: a poll waits for an event, and is answered when there is one, when the time is over, when the stream
// goes, and when the process is being stopped.
func TestPoll_waits(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(map[string]any{"events_requested": []string{renamed}})
		alex := s.token("alex", demoPassword)
		waiting := func(body any) <-chan answer {
			answered := make(chan answer, 1)
			go func() {
				a, err := s.try(http.MethodPost, "/ssf/streams/"+l.id+"/poll", l.token, body)
				if err != nil {
					t.Error(err)
				}
				answered <- a
			}()
			return answered
		}
		pending := waiting(map[string]any{})
		s.until("a poll waits", s.pollWaits)
		s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		got := <-pending
		sets, _ := got.body["sets"].(map[string]any)
		if len(sets) != 1 {
			t.Fatalf("a new event: %d %s", got.status, got.raw)
		}

		var jti string
		for jti = range sets {
			break
		}
		if a := <-waiting(map[string]any{"ack": []string{jti}}); a.status != http.StatusOK || cmp.Diff(map[string]any{"sets": map[string]any{}}, a.body) != "" {
			t.Errorf("the time is over: %d %s", a.status, a.raw)
		}

		pending = waiting(map[string]any{})
		s.until("a poll waits", s.pollWaits)
		s.want(s.call(http.MethodDelete, "/ssf/streams?stream_id="+l.id, l.token, nil), http.StatusNoContent, "")
		if a := <-pending; a.status != http.StatusNotFound {
			t.Errorf("the stream is gone: %d %s", a.status, a.raw)
		}
	}, "SIGNALS_POLL_TIMEOUT=3s")
}

// pollWaits tells whether a poll is under way. Its acknowledgements are settled, and it has looked once: nothing can be missed.
func (s *service) pollWaits() bool {
	return s.metric("credentials_signal_polls_waiting") > 0
}

// POL-05: a poll that waits does not hold up the end of the process.
func TestPoll_endsWithTheProcess(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(everything())
		answered := make(chan answer, 1)
		go func() {
			a, err := s.try(http.MethodPost, "/ssf/streams/"+l.id+"/poll", l.token, map[string]any{})
			if err != nil {
				t.Error(err)
			}
			answered <- a
		}()
		s.until("a poll waits", s.pollWaits)
		if code := s.stop(); code != 0 { // would be 1 if a request had to be cut off after SHUTDOWN_TIMEOUT
			t.Errorf("exit code %d\n%s", code, s.log)
		}
		if a := <-answered; a.status != http.StatusOK || cmp.Diff(map[string]any{"sets": map[string]any{}}, a.body) != "" {
			t.Errorf("%d %s", a.status, a.raw)
		}
	}, "SIGNALS_POLL_TIMEOUT=28s", "SHUTDOWN_TIMEOUT=5s")
}

// POL-05: polls that wait hold no connection: with two connections to the database, forty of them leave both to others.
func TestPoll_holdsNoConnection(t *testing.T) {
	s := start(t, databaseURL(t, "postgres"), "DATABASE_MAX_CONNECTIONS=2", "SIGNALS_POLL_TIMEOUT=25s")
	l := s.listen(everything())
	alex := s.token("alex", demoPassword)
	const polls = 40
	answered := make(chan answer, polls)
	for range polls {
		go func() {
			a, err := s.try(http.MethodPost, "/ssf/streams/"+l.id+"/poll", l.token, map[string]any{})
			if err != nil {
				t.Error(err)
			}
			answered <- a
		}()
	}
	s.until("all polls wait", func() bool { return s.metric("credentials_signal_polls_waiting") == polls })
	s.want(s.call(http.MethodGet, "/users/me", alex, nil), http.StatusOK, "")
	s.want(s.change(alex, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
	for range polls {
		if a := <-answered; a.status != http.StatusOK || len(a.body["sets"].(map[string]any)) != 1 {
			t.Errorf("%d %s", a.status, a.raw)
		}
	}
}

// At most so many events are answered at once, and the rest is told of.
func TestPoll_limit(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(map[string]any{"events_requested": []string{renamed}})
		ada := s.token("ada", demoPassword)
		const users = 103
		for i, id := range s.crowd(users) {
			s.want(s.call(http.MethodPatch, "/admin/users/"+id+"/credentials", ada, map[string]string{"username": fmt.Sprintf("renamed%d", i)}), http.StatusOK, "")
		}
		a := s.want(l.pollRaw(map[string]any{"maxEvents": 1000}), http.StatusOK, "")
		if sets := a.body["sets"].(map[string]any); len(sets) != 100 || a.body["moreAvailable"] != true {
			t.Errorf("%d events, more: %v", len(sets), a.body["moreAvailable"])
		}
		if got := l.drain(); len(got) != users {
			t.Errorf("%d events of %d", len(got), users)
		}
	})
}

// crowd adds users without a password to the team of ada and returns their ids.
func (s *service) crowd(n int) []string {
	s.t.Helper()
	return crowd(s.t, s.database(), n)
}

func crowd(t testing.TB, db *store.Store, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		name := fmt.Sprintf("crowd%d", i)
		ids[i] = "id-of-" + name
		err := createUser(t.Context(), db, user.User{
			ID: user.ID(ids[i]), AccountID: "demo", Team: "/east/", Role: user.Agent, Status: user.Active, Username: name,
			Generation: 1, Version: 1, Revision: 1, CreatedAt: time.Now(),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}
