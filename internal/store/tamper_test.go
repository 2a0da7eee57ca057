package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
	"github.com/salesexec/credentials/internal/user"
)

// trail is the chain of one account: five events, each with its seal.
type trail struct {
	account string
	events  []audit.Event
}

func newTrail(t *testing.T, s *store.Store, account string) trail {
	t.Helper()
	made := trail{account: account}
	for i := range 5 {
		target := user.User{ID: user.ID(fmt.Sprintf("target-%d", i)), AccountID: account, Username: "alex", DisplayName: "Alex Reed"}
		actor := access.Actor{Kind: access.Person, User: user.User{ID: "ada-1", Username: "ada", DisplayName: "Ada Marsh"}, SessionID: "session-1"}
		origin := access.Origin{RequestID: "request-1", IP: "192.0.2.1", UserAgent: "test"}
		if i == 3 {
			origin.OnBehalfOf = "bo-1"
		}
		e := audit.New(audit.ChangeRefused, audit.Refused, actor, target, origin, storetest.Now())
		e.Reason, e.Details.Code, e.Details.Violations = "asked for", "policy_violation", []string{"/new_password too_short"}
		_, err := s.Commit(t.Context(), change.Change{At: e.At, Audit: []audit.Event{e}})
		must(t, err)
		made.events = append(made.events, e)
	}
	if got := check(t, s, account); !got.Intact || got.Events != 5 || got.FirstBroken != "" {
		t.Fatalf("an untouched chain: %+v", got)
	}
	return made
}

func check(t *testing.T, s *store.Store, account string) audit.Integrity {
	t.Helper()
	found, err := s.Integrity(t.Context(), account)
	must(t, err)
	return found
}

// tampering is what somebody does to a trail; its statements name events as {0} to {4}, the account as {account}, and an
// event that the service never made as {stray}.
type tampering struct {
	name        string
	statements  []string
	firstBroken string
}

// strayEvent copies an event under an id of its own.
const strayEvent = "INSERT INTO audit_events SELECT {stray}, account_id, at, action, outcome, actor_kind, actor_id, actor_username, actor_name," +
	" target_kind, target_id, target_username, target_name, session_id, reason, request_id, ip, user_agent, details, on_behalf_of FROM audit_events WHERE id = {4}"

func tamperings() []tampering {
	all := []tampering{
		{"an event's code is changed", []string{`UPDATE audit_events SET details = '{"code":"conflict","violations":["/new_password too_short"]}' WHERE id = {2}`}, "{2}"},
		{"an event's details say a thing twice", []string{`UPDATE audit_events SET details = '{"code":"conflict","code":"policy_violation","violations":["/new_password too_short"]}' WHERE id = {2}`}, "{2}"},
		{"an event's details say more", []string{`UPDATE audit_events SET details = '{"code":"policy_violation","violations":["/new_password too_short"],"by":"bo"}' WHERE id = {2}`}, "{2}"},
		{"an event's time is changed", []string{"UPDATE audit_events SET at = '2026-03-01 12:00:01+00:00' WHERE id = {2}"}, "{2}"},
		{"an event is moved to another account", []string{"UPDATE audit_events SET account_id = 'somebody' WHERE id = {2}"}, "{2}"},
		{"an event is removed", []string{"DELETE FROM audit_events WHERE id = {2}"}, "{2}"},
		{"the first event is removed", []string{"DELETE FROM audit_events WHERE id = {0}"}, "{0}"},
		{"the last event is removed", []string{"DELETE FROM audit_events WHERE id = {4}"}, "{4}"},
		{"a seal is removed", []string{"DELETE FROM audit_seals WHERE event_id = {2}"}, "{3}"}, // which is out of place now
		{"the first seal is removed", []string{"DELETE FROM audit_seals WHERE event_id = {0}"}, "{1}"},
		{"the last seal is removed", []string{"DELETE FROM audit_seals WHERE event_id = {4}"}, "{4}"},
		{"all seals are removed", []string{"DELETE FROM audit_seals WHERE account_id = {account}"}, "{0}"},
		{"an event is removed with its seal", []string{"DELETE FROM audit_events WHERE id = {2}", "DELETE FROM audit_seals WHERE event_id = {2}"}, "{3}"},
		{"an event is removed and the gap is closed", []string{
			"DELETE FROM audit_events WHERE id = {2}", "DELETE FROM audit_seals WHERE event_id = {2}",
			"UPDATE audit_seals SET sequence = 3 WHERE event_id = {3}", "UPDATE audit_seals SET sequence = 4 WHERE event_id = {4}",
		}, "{3}"},
		{"a digest is changed", []string{"UPDATE audit_seals SET digest = chain WHERE event_id = {2}"}, "{2}"},
		{"a chain value is changed", []string{"UPDATE audit_seals SET chain = digest WHERE event_id = {2}"}, "{2}"},
		{"whom an event was on behalf of is left out", []string{"UPDATE audit_events SET on_behalf_of = '' WHERE id = {3}"}, "{3}"},
		{"an event comes without a seal", []string{strayEvent}, "{stray}"},
	}
	for _, column := range []string{"action", "outcome", "actor_kind", "actor_id", "actor_username", "actor_name", "target_kind", "target_id",
		"target_username", "target_name", "session_id", "reason", "request_id", "ip", "user_agent", "on_behalf_of", "details"} {
		all = append(all, tampering{column + " is changed", []string{"UPDATE audit_events SET " + column + " = " + column + " || 'x' WHERE id = {2}"}, "{2}"})
	}
	return all
}

// LOG-06, peers section 4 "hash-chained audit": whatever somebody with rights to the database does to what was sealed shows,
// names the first event that is not as it was, and leaves the chains of other accounts alone.
func TestIntegrity_tampering(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		newTrail(t, s, "untouched")
		for i, tamper := range tamperings() {
			t.Run(tamper.name, func(t *testing.T) {
				chain := newTrail(t, s, fmt.Sprintf("account-%d", i))
				stray := fmt.Sprintf("stray-%d", i)
				for _, statement := range tamper.statements {
					db.exec(t, chain.replace(statement, stray, "'"))
				}
				got := check(t, s, chain.account)
				if want := chain.replace(tamper.firstBroken, stray, ""); got.Intact || got.FirstBroken != want {
					t.Errorf("intact %t, first broken %q, want %q", got.Intact, got.FirstBroken, want)
				}
			})
		}
		if got := check(t, s, "untouched"); !got.Intact || got.Events != 5 {
			t.Errorf("another account's chain: %+v", got)
		}
	})
}

// replace puts ids for the names in braces.
func (c trail) replace(text, stray, quote string) string {
	pairs := []string{"{account}", quote + c.account + quote, "{stray}", quote + stray + quote}
	for i, e := range c.events {
		pairs = append(pairs, fmt.Sprintf("{%d}", i), quote+e.ID+quote)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// An event that is taken out of the line for its seal shows, however often seals are made after that.
func TestIntegrity_unsealed(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		chain := newTrail(t, s, "demo")
		late := event(audit.SignedIn, user.User{ID: "alex-1", AccountID: "demo", Username: "alex"})
		_, err := s.Commit(t.Context(), change.Change{At: late.At, Audit: []audit.Event{late}})
		must(t, err)
		db.exec(t, "DELETE FROM audit_unsealed")
		for range 2 {
			if got := check(t, s, "demo"); got.Intact || got.FirstBroken != late.ID || got.Events != int64(len(chain.events)) {
				t.Errorf("got %+v", got)
			}
		}
		db.exec(t, fmt.Sprintf("INSERT INTO audit_unsealed (event_id, account_id) VALUES ('%s', 'demo')", late.ID))
		if got := check(t, opened(t, url), "demo"); !got.Intact || got.Events != 6 {
			t.Errorf("back in line it must be sealed: %+v", got)
		}
	})
}

// peers section 4: who removes the newest events with their seals leaves a shorter chain that is whole. The head and the
// number of events that were noted outside tell.
func TestIntegrity_notedHead(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		chain := newTrail(t, s, "demo")
		noted := check(t, s, "demo")
		if diff := cmp.Diff(noted, check(t, s, "demo")); diff != "" {
			t.Errorf("nothing happened, yet: %s", diff)
		}
		db.exec(t, chain.replace("DELETE FROM audit_events WHERE id = {4}", "", "'"), chain.replace("DELETE FROM audit_seals WHERE event_id = {4}", "", "'"))
		if got := check(t, s, "demo"); got.Head == noted.Head || got.Events != 4 {
			t.Errorf("the head must tell: %+v, noted %+v", got, noted)
		}
	})
}
