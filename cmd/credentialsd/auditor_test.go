package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// auditAgent is the User-Agent of an auditor's requests.
const auditAgent = "audit-test/1.0 (made up)"

// auditor sends requests, notes what the audit trail must tell of each, and compares when all is over: by then users have
// other names, and the trail must still tell those of the time.
type auditor struct {
	*service
	db    *store.Store
	told  map[string]*told // by request id
	last  *told
	marks []string // what must be nowhere in the trail
}

// told is what the trail must tell of one request.
type told struct {
	origin   access.Origin
	from, to time.Time
	events   []audit.Event
}

func newAuditor(s *service) *auditor {
	return &auditor{service: s, db: s.database(), told: map[string]*told{}, marks: []string{demoPassword}}
}

// ask sends a request with an id and a User-Agent of its own.
func (a *auditor) ask(method, path, token string, body any, headers ...string) answer {
	a.t.Helper()
	id := fmt.Sprintf("audit-request-%03d", len(a.told)+1)
	a.last = &told{origin: access.Origin{RequestID: id, IP: "127.0.0.1", UserAgent: auditAgent}, from: a.clock.now().Truncate(time.Microsecond)}
	a.told[id] = a.last
	got := a.call(method, path, token, body, append(headers, "X-Request-Id", id, "User-Agent", auditAgent)...)
	a.last.to = a.clock.now()
	return got
}

// tells notes the events of the last request, all of them and in order. Nothing told is nothing written.
func (a *auditor) tells(events ...audit.Event) {
	for i := range events {
		events[i].Origin = a.last.origin
		if events[i].AccountID == "" {
			events[i].AccountID = "demo"
		}
	}
	a.last.events = events
}

// party is a demo user under the username that it had at the time.
func (a *auditor) party(name, username string) audit.Party {
	a.t.Helper()
	member, err := a.db.Member(a.t.Context(), user.ID(a.user(name).ID))
	if err != nil {
		a.t.Fatal(err)
	}
	return audit.Party{Kind: access.Person, ID: string(member.User.ID), Username: username, Name: member.User.DisplayName}
}

// failures counts so many wrong passwords of a user, at the places too if there are any.
func (a *auditor) failures(name string, count int, places ...string) {
	a.t.Helper()
	subject := session.ThrottleSubject(user.ID(a.user(name).ID))
	keys := []string{subject}
	for _, place := range places {
		keys = append(keys, subject+place)
	}
	err := a.db.UpdateThrottles(a.t.Context(), subject, keys, func(states []throttle.State) ([]throttle.State, bool) {
		for i := range states {
			states[i] = throttle.State{Failures: count}
		}
		return states, true
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// storeHash gives a user a hash that an older system made.
func (a *auditor) storeHash(name, hash string) {
	a.t.Helper()
	member, err := a.db.Member(a.t.Context(), user.ID(a.user(name).ID))
	if err != nil {
		a.t.Fatal(err)
	}
	u := member.User
	u.Password.Hash = hash
	_, err = a.db.Commit(a.t.Context(), change.Change{At: a.clock.now(), Target: &change.Guard{UserID: u.ID, Revision: u.Revision}, User: &u})
	if err != nil {
		a.t.Fatal(err)
	}
}

// chains are the three chains of the tests: of the two demo accounts, and of names that nobody has.
func chains() []string { return []string{"demo", "other", audit.UnknownAccount} }

// compare ends the service and holds the whole trail against what was noted.
func (a *auditor) compare(t *testing.T) {
	if code := a.stop(); code != 0 {
		t.Fatalf("the service ended with %d", code)
	}
	text := dump(t, a.databaseURL)
	a.sealed(t, text)
	found := map[string][]audit.Event{}
	for _, chain := range chains() {
		events, err := a.db.AuditEvents(t.Context(), chain, time.Time{}, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if (e.Action == audit.UserCreated || e.Action == audit.ServiceCreated) && e.Actor.Kind == access.Operator && e.Origin == (access.Origin{}) {
				continue // the demo users and their client
			}
			found[e.Origin.RequestID] = append(found[e.Origin.RequestID], e)
		}
		integrity, err := a.db.Integrity(t.Context(), chain)
		if err != nil || !integrity.Intact || integrity.Events != int64(len(events)) || len(events) == 0 {
			t.Errorf("chain %s of %d events: %+v, %v", chain, len(events), integrity, err)
		}
	}
	for id, want := range a.told {
		want.compare(t, found[id])
		delete(found, id)
	}
	if len(found) != 0 {
		t.Errorf("events of requests that nobody made: %v", found)
	}
	a.unmarked(t, text)
}

// compare checks the events of one request: each in every part, made in UTC while the request ran, with an id of its own.
func (w *told) compare(t *testing.T, events []audit.Event) {
	for i := range events {
		e := &events[i]
		if e.ID == "" || e.At.Location() != time.UTC || e.At.Before(w.from) || e.At.After(w.to) {
			t.Errorf("%s of %s: id %q, at %v, not in %v to %v", e.Action, w.origin.RequestID, e.ID, e.At, w.from, w.to)
		}
		e.ID, e.At = "", time.Time{}
	}
	if diff := cmp.Diff(w.events, events); diff != "" {
		t.Errorf("%s (-want +got):\n%s", w.origin.RequestID, diff)
	}
}

// sealed fails unless every event has its seal after the service's end, and none waits.
func (*auditor) sealed(t *testing.T, text string) {
	rows := map[string]int{}
	for line := range strings.Lines(text) {
		table, _, _ := strings.Cut(line, " ")
		rows[table]++
	}
	if rows["audit_unsealed"] != 0 || rows["audit_events"] == 0 || rows["audit_seals"] != rows["audit_events"] {
		t.Errorf("%d events, %d seals, %d wait", rows["audit_events"], rows["audit_seals"], rows["audit_unsealed"])
	}
}

// unmarked looks for passwords, tokens and names that nobody has in what is kept of the events.
func (a *auditor) unmarked(t *testing.T, text string) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "audit_") {
			continue
		}
		for _, mark := range append(a.marks, "$argon2id$", "$2b$", "Bearer") {
			if strings.Contains(line, mark) {
				t.Errorf("the trail holds %q: %s", mark, line)
			}
		}
	}
}
