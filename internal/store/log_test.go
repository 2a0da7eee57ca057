package store_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
)

const canary = "canary"

// logged opens a store whose log goes to text, down to the least important line.
func logged(t *testing.T, url string) (s *store.Store, text *bytes.Buffer) {
	t.Helper()
	sealer, err := secret.NewSealer(secret.NewKey())
	must(t, err)
	text = &bytes.Buffer{}
	log := slog.New(slog.NewJSONHandler(text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err = store.Open(t.Context(), store.Config{URL: url, Sealer: sealer, Log: log, Now: storetest.Now})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, text
}

// markedChange is a change with the canary in everything that is secret or personal.
func markedChange() change.Change {
	c := fullChange(person(), "$argon2id$"+canary)
	c.User.DisplayName, c.Claim[0].Key, c.Rename.NewUsername, c.Rename.NewKey = canary, canary, canary, canary
	c.Renew.RefreshSalt = canary
	c.Replay.Seal = func(change.Result) ([]byte, error) { return []byte(canary), nil }
	c.Audit[0].Origin.UserAgent, c.Audit[0].Reason, c.Audit[0].Details.NewUsername = canary, canary, canary
	return c
}

// holdsNoValues fails if the log lacks the lines that the test is about, or if they hold a value.
func holdsNoValues(t *testing.T, log *bytes.Buffer, message string, statements ...string) {
	t.Helper()
	text := log.String()
	for _, statement := range statements {
		statement = strings.ReplaceAll(statement, `"`, `\"`) // as in JSON
		if !strings.Contains(text, `"msg":"`+message+`","statement":"`+statement) {
			t.Errorf("no line %q of %s in the log: %s", message, statement, text)
		}
	}
	for _, value := range []string{canary, "$argon2id$", "alex", "demo", "192.0.2."} {
		if at := strings.Index(text, value); at >= 0 {
			t.Errorf("the log holds %q: ...%s...", value, text[max(0, at-300):at+len(value)])
		}
	}
}

// HASH-15, LOG-04: statements that fail are logged as they are prepared: without hashes, names or addresses. The error that
// the store returns for them holds none either.
func TestLog_failingStatements(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, db besides) {
		s, log := logged(t, url)
		seed(t, s, person())
		listen(t, s, person().AccountID)
		log.Reset()
		for _, f := range faults() {
			f.when = "" // the marked change has other keys
			remove := f.install(t, db)
			_, err := s.Commit(t.Context(), markedChange())
			remove()
			if err == nil || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "alex") {
				t.Errorf("%s: %v", f.name, err)
			}
		}
		// A broken constraint, whose text repeats the value in PostgreSQL.
		twin := person()
		twin.Password.Hash, twin.Email = "$argon2id$"+canary, canary+"@demo.example"
		if err := s.CreateUser(t.Context(), twin, event(audit.UserCreated, twin)); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("a second user of one id: %v", err)
		}
		db.exec(t, "ALTER TABLE known_networks RENAME TO networks_elsewhere")
		if _, err := s.KnowsNetwork(t.Context(), "alex-1", canary, storetest.Now()); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("a table that is not there: %v", err)
		}
		holdsNoValues(t, log, "a statement failed", "SELECT 1 FROM known_networks", `UPDATE "users"`, "UPDATE identifiers", "INSERT INTO identifiers", "UPDATE sessions",
			`INSERT INTO "username_history"`, "DELETE FROM throttles", "INSERT INTO audit_events", "INSERT INTO users")
	})
}

// HASH-15, LOG-04: and so are slow ones.
func TestLog_slowStatements(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, url string, _ besides) {
		s, log := logged(t, url)
		s.TakeAllForSlow()
		seed(t, s, person())
		ctx := context.WithoutCancel(t.Context())
		_, err := s.Commit(ctx, markedChange())
		must(t, err)
		must(t, s.AddSigningKey(ctx, store.SigningKey{ID: "key-1", Private: secret.New(canary), ActiveFrom: storetest.Now()}, "", time.Time{}))
		service, kept := client.Client{ID: canary, Name: canary, AccountID: "demo", CreatedAt: storetest.Now()}, client.Secret{Digest: canary, CreatedAt: storetest.Now()}
		must(t, s.CreateClient(ctx, service, kept, event(audit.ServiceCreated, person())))
		kept.Digest += "2"
		must(t, s.RotateClient(ctx, canary, kept, storetest.Now(), event(audit.ServiceRotated, person())))
		if _, err := s.ClientSecrets(ctx, canary); err != nil {
			t.Error(err)
		}
		if _, err := s.MemberByUsername(ctx, canary); err != nil {
			t.Error(err)
		}
		if _, err := s.KnowsNetwork(ctx, "alex-1", "192.0.2.0/24", storetest.Now()); err != nil {
			t.Error(err)
		}
		if _, _, err := s.Session(ctx, canary); err == nil {
			t.Error("no session has this id")
		}
		if _, err := s.AllowRate(ctx, "ip:"+canary, 10, time.Minute, storetest.Now()); err != nil {
			t.Error(err)
		}
		if _, err := s.Standings(ctx, []string{session.ThrottleSubject(canary)}); err != nil {
			t.Error(err)
		}
		holdsNoValues(t, log, "a statement was slow", "INSERT INTO users", `UPDATE "users"`, "UPDATE identifiers", "INSERT INTO identifiers",
			`INSERT INTO "sessions"`, "UPDATE sessions", `INSERT INTO "username_history"`, "INSERT INTO audit_events", "SELECT")
	})
}
