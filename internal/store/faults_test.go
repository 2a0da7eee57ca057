package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
	"github.com/salesexec/credentials/internal/user"
)

// fault is where a save breaks: at rows of a table for which the condition holds.
type fault struct{ name, event, table, when string }

// faults has one for each statement of a save.
func faults() []fault {
	return []fault{
		{"the user", "UPDATE", "users", ""},
		{"the old username is released", "UPDATE", "identifiers", "OLD.key = 'alex'"},
		{"the old e-mail is released", "UPDATE", "identifiers", "OLD.key = 'alex@demo.example'"},
		{"the new username is claimed", "INSERT", "identifiers", "NEW.key = 'reed'"},
		{"the new e-mail is claimed", "INSERT", "identifiers", "NEW.key = 'reed@demo.example'"},
		{"the old name ends in the history", "UPDATE", "username_history", ""},
		{"the new name begins in the history", "INSERT", "username_history", ""},
		{"the own session is renewed", "UPDATE", "sessions", "NEW.id = 'own'"},
		{"a session that ran out is closed", "UPDATE", "sessions", "NEW.id = 'expired'"},
		{"another session is ended", "UPDATE", "sessions", "NEW.id = 'other'"},
		{"failures are forgiven", "DELETE", "throttles", ""},
		{"the answer is kept", "UPDATE", "idempotency_keys", ""}, // IDM-02
		{"the audit event", "INSERT", "audit_events", ""},
		{"the event's place in line for its seal", "INSERT", "audit_unsealed", ""},
		{"what others hear of it", "INSERT", "stream_deliveries", ""}, // EVT-06
	}
}

// install makes the database raise an error at the fault; the returned function takes that back.
func (f fault) install(t *testing.T, db besides) (remove func()) {
	t.Helper()
	when := ""
	if f.when != "" {
		when = "WHEN (" + f.when + ")"
	}
	create, drop := "CREATE TRIGGER fault BEFORE %s ON %s FOR EACH ROW %s BEGIN SELECT RAISE(ABORT, 'injected fault'); END", "DROP TRIGGER fault"
	if db.postgres {
		db.exec(t, "CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'injected fault'; END $$")
		create, drop = "CREATE TRIGGER fault BEFORE %s ON %s FOR EACH ROW %s EXECUTE FUNCTION fault()", "DROP TRIGGER fault ON "+f.table
	}
	db.exec(t, fmt.Sprintf(create, f.event, f.table, when))
	return func() { db.exec(t, drop) }
}

// listen makes a stream that hears of everything in the account.
func listen(t *testing.T, s *store.Store, account string) {
	t.Helper()
	at, by := storetest.Now(), user.User{AccountID: account}
	service := client.Client{ID: "router", Name: "router", AccountID: account, Scopes: []string{"ssf.manage"}, CreatedAt: at}
	must(t, s.CreateClient(t.Context(), service, client.Secret{Digest: "digest-1", CreatedAt: at}, event(audit.ServiceCreated, by)))
	stream := signal.Stream{ID: uuid.NewString(), ClientID: "router", Audience: "router", Method: signal.Poll, Status: signal.Enabled, CreatedAt: at, Revision: 1}
	must(t, s.CreateStream(t.Context(), signal.Saving{Stream: stream, Event: event(audit.StreamCreated, by)}))
}

// AZ-16 (ASVS 2.3.3), EVT-06: a change of username, e-mail and password that breaks at any of its statements changes nothing at
// all, and nobody hears of it; nor is there a change that nobody hears of.
func TestCommit_faultAtEachStatement(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s := opened(t, url)
		seed(t, s, person())
		listen(t, s, person().AccountID)
		before := db.contents(t)
		for _, f := range faults() {
			t.Run(f.name, func(t *testing.T) {
				remove := f.install(t, db)
				_, err := s.Commit(t.Context(), fullChange(person(), "hash-2"))
				remove()
				if err == nil || !strings.Contains(err.Error(), "injected fault") {
					t.Fatalf("the change must fail with the fault: %v", err)
				}
				if diff := cmp.Diff(before, db.contents(t)); diff != "" {
					t.Error(diff)
				}
			})
		}
		result, err := s.Commit(t.Context(), fullChange(person(), "hash-2"))
		if must(t, err); result.SessionsEnded != 1 {
			t.Errorf("%+v", result)
		}
		after := db.contents(t)
		for _, f := range faults() { // it is the fault that stopped it, and every table is one that it writes to
			if before[f.table] == after[f.table] {
				t.Errorf("without a fault, %s must change", f.table)
			}
		}
	})
}
