package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/storetest"
)

const rolesFile = "../../deployments/postgres/roles.sql"

// rolePassword is that of both roles.
const rolePassword = "made-up-for-the-tests"

// asServiceRole applies roles.sql to a migrated database and returns its URL for the role that the service uses. The roles
// are those of the whole server, and stay on it; the private server of the tests goes with them.
func asServiceRole(t *testing.T, database string) string {
	t.Helper()
	psql, err := exec.LookPath("psql")
	if err != nil && os.Getenv("REQUIRE_POSTGRES") != "1" {
		t.Skip("no psql to run roles.sql with")
	}
	must(t, err)
	command := exec.CommandContext(t.Context(), psql, "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file", rolesFile, database)
	command.Env = append(os.Environ(), "CREDENTIALS_OWNER_PASSWORD="+rolePassword, "CREDENTIALS_SERVICE_PASSWORD="+rolePassword)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("roles.sql: %v\n%s", err, output)
	}
	return asRole(t, database, "credentials_service")
}

// asRole returns the URL of the database for a role.
func asRole(t *testing.T, database, name string) string {
	t.Helper()
	role, err := url.Parse(database)
	must(t, err)
	role.User = url.UserPassword(name, rolePassword)
	settings := role.Query()
	settings.Del("user") // would win over the one above
	settings.Del("password")
	role.RawQuery = settings.Encode()
	return role.String()
}

// LOG-06 (ASVS 16.4.2), AUD-01: with the role of roles.sql the service does all that it does, and can change or remove nothing
// of what the audit log says.
func TestPostgres_serviceRole(t *testing.T) {
	serviceURL := asServiceRole(t, pgtest.Database(t, migrate))
	s := opened(t, serviceURL)
	t.Run("the service works", func(t *testing.T) { serviceWorks(t, s) })
	db := beside(t, serviceURL)
	if who := db.rows(t, "SELECT current_user"); who[0] != "credentials_service" {
		t.Fatalf("connected as %s", who)
	}
	before := db.contents(t)
	for _, statement := range []string{
		"UPDATE audit_events SET reason = 'other'",
		"UPDATE audit_events SET reason = reason",
		"UPDATE audit_seals SET chain = 'other'",
		"DELETE FROM audit_events",
		"DELETE FROM audit_seals",
		"DELETE FROM audit_checkpoints",
		"UPDATE audit_checkpoints SET sequence = sequence",
		"INSERT INTO audit_checkpoints (account_id, sequence, chain, pruned_at) VALUES ('demo', 1, 'x', now())",
		"TRUNCATE audit_checkpoints",
		"TRUNCATE audit_events",
		"TRUNCATE audit_seals",
		"INSERT INTO audit_seals SELECT * FROM audit_seals ON CONFLICT (account_id, sequence) DO UPDATE SET chain = 'other'",
		"DROP TABLE audit_events",
		"ALTER TABLE audit_events RENAME TO other",
		"ALTER TABLE audit_seals DISABLE TRIGGER ALL",
		"CREATE RULE forget AS ON INSERT TO audit_events DO INSTEAD NOTHING",
		"CREATE TRIGGER forget BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE TABLE other (id text)",
		"CREATE TEMPORARY TABLE audit_events (id text)",
		"GRANT UPDATE ON audit_events TO credentials_service",
		"SET ROLE credentials_owner",
		"INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)",
	} {
		t.Run(statement, func(t *testing.T) { refused(t, db, statement) })
	}
	if after := db.contents(t); after["audit_events"]+after["audit_seals"] != before["audit_events"]+before["audit_seals"] {
		t.Error("the audit log changed")
	}
}

// OPS-07: an empty database is handed over by roles.sql, migrated by its owner, who is no superuser, and opened to the service by
// roles.sql again; the extension that lists need is one that an owner may make.
func TestPostgres_ownerMigrates(t *testing.T) {
	admin := pgtest.Database(t, migrate)
	name := fmt.Sprintf("owned_%d", os.Getpid())
	beside(t, admin).exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		_, _ = beside(t, admin).ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
	})
	empty, err := url.Parse(admin)
	must(t, err)
	empty.Path = "/" + name
	asServiceRole(t, empty.String())
	owner := opened(t, asRole(t, empty.String(), "credentials_owner"))
	steps, err := owner.Migrate(t.Context())
	if must(t, err); len(steps) < 5 {
		t.Errorf("%d steps", len(steps))
	}
	s := opened(t, asServiceRole(t, empty.String()))
	serviceWorks(t, s)
	found, err := s.Members(t.Context(), access.Actor{Kind: access.Service, AllAccounts: true}, credential.Filter{Query: "reed"}, "", 10)
	if must(t, err); len(found) != 1 {
		t.Errorf("%d found", len(found))
	}
	aged(t, owner, "pruned", -50)
	pruned(t, owner, "pruned", -40)
}

// refused fails unless the database says that the role may not do this: SQLSTATE 42501, insufficient_privilege. A GRANT of
// somebody who may not give it is a warning only, so that what follows it is tried as well.
func refused(t *testing.T, db besides, statement string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	if err == nil && strings.HasPrefix(statement, "GRANT") {
		_, err = db.ExecContext(t.Context(), "UPDATE audit_events SET reason = reason")
	}
	if denied, ok := errors.AsType[*pgconn.PgError](err); !ok || denied.Code != "42501" {
		t.Errorf("got %v", err)
	}
}

// serviceWorks makes a user, changes it, seals and checks the events, and keeps a key.
func serviceWorks(t *testing.T, s *store.Store) {
	must(t, s.Migrated(t.Context()))
	seed(t, s, person())
	_, err := s.Commit(t.Context(), fullChange(person(), "hash-2"))
	must(t, err)
	member, err := s.MemberByUsername(t.Context(), "reed")
	if must(t, err); member.User.Version != 2 {
		t.Errorf("%+v", member)
	}
	if got := check(t, s, "demo"); !got.Intact || got.Events != 5 {
		t.Errorf("%+v", got)
	}
	must(t, s.AddSigningKey(t.Context(), store.SigningKey{ID: "key-1", Private: secret.New("private half"), ActiveFrom: storetest.Now()}, "", storetest.Now()))
	must(t, s.ReleaseKey(t.Context(), "lookup-1", "owner-1"))
	_, err = s.Sweep(t.Context(), storetest.Now())
	must(t, err)
}
