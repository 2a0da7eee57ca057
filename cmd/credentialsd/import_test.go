package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/importing"
	"github.com/salesexec/credentials/internal/user"
)

// oldPassword is what the hashes in these tests were made of, by other programs: see internal/password/scheme_test.go.
const oldPassword = "kitchen oboe gravel"

// importOf runs credentialsd import on the database, with a file of the lines.
func importOf(t *testing.T, databaseURL, flags, name string, lines ...string) (path string, w wants) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, wants{args: strings.TrimSpace("import "+flags) + " " + path, env: map[string]string{"DATABASE_URL": databaseURL}}
}

// PW-09, HASH-08: users of another system sign in with the password they have, whatever hashed it, and are stored with argon2id
// from then on; the trail tells of both. Nothing is written before, by a dry run.
func TestImport_signIn(t *testing.T) {
	oneByOne(t)
	hashes := map[string]string{
		"argon2id":      "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$N7Vr874O8YPJ0LX7QOWRwzQorWvBUu5lMiyWAxK75AE",
		"argon2i":       "$argon2i$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$NqIL8d18NDOJFV68tBZauTMTKQ8PpawZEZiY9X6yNXs",
		"bcrypt":        "$2b$10$abcdefghijklmnopqrstuupQ.VAbEmsn4.J6UDCx3jfy84OeUFC8a",
		"pbkdf2-sha256": "$pbkdf2-sha256$i=29000$MDEyMzQ1Njc4OWFiY2RlZg$yXx2dntOD3P2bL9jbgnq0WW+aEHXlUOMDg+3BvhPt/g",
		"pbkdf2-sha512": "$pbkdf2-sha512$i=25000$MDEyMzQ1Njc4OWFiY2RlZg$" +
			"oDbVi7GnQn0F4pH4xoM1yGF1AsaeuFI6z+drBm9QL3eTgi/EjCo02fP1pP/AQuw7M6nFXI4ATIjw5JRDOQCkKA",
		"aspnet-identity-v2": "ADAxMjM0NTY3ODlhYmNkZWYUACEF8kCUbriMESJT/VZPk1vV1UyE4dkmvUx8E9Yhfw==",
		"aspnet-identity-v3": "AQAAAAIAAYagAAAAEDAxMjM0NTY3ODlhYmNkZWZ9KftDgY2Szkhtu4Q6asWFvCAAYm+5Vj+MzyGh++kcEw==",
	}
	lines := []string{"id,account_id,account_name,team,role,username,email,status,password_hash,password_changed_at"}
	for scheme, hash := range hashes {
		lines = append(lines, fmt.Sprintf("crm-%s,demo,,/east/,agent,%s,%s@demo.example,,\"%s\",2024-11-18T14:03:51Z", scheme, scheme, scheme, hash))
	}
	lines = append(lines, "crm-gone,demo,,/,agent,gone.agent,,disabled,"+hashes["bcrypt"]+",", "crm-boss,acme,Acme Sales,/,administrator,boss@acme.example,boss@acme.example,,,")
	onEachDatabase(t, func(t *testing.T, s *service) {
		db := s.database()
		_, w := importOf(t, s.databaseURL, "--dry-run --create-accounts", "users.csv", lines...)
		w.out = []string{"9 of 9 rows can be imported; checked in ", "accounts to be made: acme\n"}
		w.check(t)
		if len(s.events(audit.UserImported)) != 0 || stored(t, db, "crm-gone") || accountExists(t, db, "acme") {
			t.Error("a dry run has written")
		}
		_, w = importOf(t, s.databaseURL, "--create-accounts --reason moved", "users.csv", lines...)
		w.out = []string{"imported 9 of 9 rows in ", "accounts made: acme\n"}
		if out := w.check(t); strings.Contains(out, "$") || strings.Contains(out, "demo.example") {
			t.Errorf("values of rows are shown: %s", out)
		}
		p := peopleOf(s)
		for scheme := range hashes {
			id := "crm-" + scheme
			if before := p.row(id).Password; before.Hash != hashes[scheme] || before.SetBy != user.SetByImport {
				t.Errorf("%s was stored as %+v", scheme, before)
			}
			me := s.want(s.signIn(strings.ToUpper(scheme), oldPassword), http.StatusCreated, "")
			if me.body["must_change_password"] != false {
				t.Errorf("%s: %s", scheme, me.raw)
			}
			after := p.row(id)
			if !newHash.MatchString(after.Password.Hash) || after.Version != 1 || after.Generation != 1 || after.Password.ChangedAt.Year() != 2024 {
				t.Errorf("%s is now %+v, version %d", scheme, after.Password, after.Version)
			}
			s.want(s.signIn(scheme, oldPassword), http.StatusCreated, "")
		}
		s.want(s.signIn("bcrypt", oldPassword+" "), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signIn("gone.agent", oldPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signIn("boss@acme.example", oldPassword), http.StatusUnauthorized, "invalid_credentials") // has no password at all
		schemes := map[string]string{}
		for _, e := range s.events(audit.UserImported) {
			schemes[e.Target.ID] = e.Details.Scheme + " " + e.Reason
		}
		for _, e := range s.events(audit.PasswordRehashed) {
			schemes[e.Target.ID] += ", replaced " + e.Details.Scheme
		}
		want := map[string]string{"crm-gone": "bcrypt moved"}
		for scheme := range hashes {
			want["crm-"+scheme] = scheme + " moved, replaced " + scheme
		}
		if diff := cmp.Diff(want, schemes); diff != "" {
			t.Error(diff)
		}
	})
}

func stored(t *testing.T, db importing.Store, ids ...user.ID) bool {
	t.Helper()
	return countStored(t, db, ids) > 0
}

// countStored counts the users of the ids that are there.
func countStored(t *testing.T, db importing.Store, ids []user.ID) int {
	t.Helper()
	found, err := db.Occupied(context.Background(), importing.Wanted{IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	return len(found.IDs)
}

func accountExists(t *testing.T, db importing.Store, id string) bool {
	t.Helper()
	found, err := db.Occupied(context.Background(), importing.Wanted{Accounts: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	return len(found.Accounts) == 1
}

// USR-03, peers bugs 6 and 12: every bad row is told with its line and all reasons, and keeps the file out or is left out: names
// that are in use, held, twice there in any case or against the naming rule, and hashes that would cost the service dearly.
func TestImport_badRows(t *testing.T) {
	lines := []string{
		"id,account_id,team,role,username,email,display_name,password_hash", // 1
		"crm-1,demo,/east/,agent,kim.young,,,",
		"%alex%,demo,/east/,agent,some.body,,,",
		"crm-4,demo,/east/,agent,ALEX,,,",
		"crm-5,demo,/east/,agent,ada,ALEX@demo.example,,",
		"crm-6,demo,/east/,agent,kim.jung,,,",
		"crm-7,demo,/east/,agent,Kim.JUNG,,,",
		"crm-8,nowhere,/east/,agent,any.body,,,",
		"crm-9,demo,east,agent,no.team,,\"A name",
		"of two lines\",", // of line 9
		"crm-11,demo,/east/,agent,one.cell",
		"crm-12,demo,/east/,agent,argon.bomb,,,\"$argon2id$v=19$m=4294967295,t=3,p=1$QUFBQUFBQUFBQUFBQUFBQQ$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE\"",
		"crm-13,demo,/east/,agent,pbkdf.bomb,,,\"$pbkdf2-sha256$i=4294967295$MDEyMzQ1Njc4OWFiY2RlZg$yXx2dntOD3P2bL9jbgnq0WW+aEHXlUOMDg+3BvhPt/g\"",
		"crm-14,demo,/east/,agent,dotnet.bomb,,,AQAAAAL/////AAAAEDAxMjM0NTY3ODlhYmNkZWZ9KftDgY2Szkhtu4Q6asWFvCAAYm+5Vj+MzyGh++kcEw==",
		"crm-15,demo,/east/,agent,bcrypt.bomb,,,$2b$31$abcdefghijklmnopqrstuupQ.VAbEmsn4.J6UDCx3jfy84OeUFC8a",
		"crm-16,demo,/east/,agent,no.\xff\xfe,,,",
	}
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada := s.token("ada", demoPassword)
		s.want(s.administer(ada, "alex", map[string]string{"username": "alex.reed"}), http.StatusOK, "") // alex is held
		s.want(s.setNaming(ada, map[string]any{"kind": "login_name", "template": "{first}.{last}"}), http.StatusOK, "")
		alex := s.user("alex").ID
		file := strings.Split(strings.ReplaceAll(strings.Join(lines, "\n"), "%alex%", alex), "\n")
		const rule = "username does not follow the account's naming rule. Use a name of the form {first}.{last}, like maria.ortiz. An e-mail address cannot be a username in your company."
		want := []string{
			"line 3: id is that of a user already.",
			"line 4: username is held for the user " + alex + ", who had it before.",
			"line 4: " + rule,
			"line 5: username is in use by the user " + s.user("ada").ID + ".",
			"line 5: email is in use by the user " + alex + ".",
			"line 5: " + rule,
			"line 6: username means the same as the username on line 7.",
			"line 7: username means the same as the username on line 6.",
			"line 8: account_id is not that of an account, and accounts are not to be made.",
			"line 9: team must be a path like / or /east/boston/.",
			"line 9: display_name must have at most 200 characters, and no control characters.",
			"line 11: has 5 cells; the header has 8.",
			"line 12: password_hash cannot be used: argon2 memory is not from 8 KiB a thread to 1 GiB.",
			"line 13: password_hash cannot be used: PBKDF2 iterations are below 1,000, or above 3,000,000 for all digests of the tag together.",
			"line 14: password_hash cannot be used: PBKDF2 iterations are below 1,000, or above 3,000,000 for all digests of the tag together.",
			"line 15: password_hash cannot be used: not a bcrypt hash of cost 10 to 14.",
			"line 16: is not UTF-8 in cell 5.",
		}
		for _, c := range []struct {
			flags string
			code  int
			out   []string
			err   []string
		}{
			{"", 1, want, []string{"nothing was imported: 13 of 14 rows are bad; mend them, or leave them out with --skip-bad"}},
			{"--dry-run", 1, want, []string{"13 of 14 rows are bad"}},
			{"--dry-run --skip-bad", 0, append(want[:len(want):len(want)], "1 of 14 rows can be imported; checked in "), nil},
			{"--skip-bad", 0, append(want[:len(want):len(want)], "imported 1 of 14 rows in "), nil},
		} {
			_, w := importOf(t, s.databaseURL, c.flags, "users.csv", file...)
			w.code, w.err = c.code, c.err
			printed := strings.Split(w.check(t), "\n")
			for i, line := range c.out {
				if !strings.HasPrefix(printed[i], line) {
					t.Errorf("%s: printed %q, want %q", c.flags, printed[i], line)
				}
			}
			if written := s.call(http.MethodGet, "/admin/users/crm-1", ada, nil).status == http.StatusOK; written != (c.flags == "--skip-bad") {
				t.Errorf("%s: written %v", c.flags, written)
			}
		}
		if got := s.events(audit.UserImported); len(got) != 1 || got[0].Target.Username != "kim.young" {
			t.Errorf("events: %+v", got)
		}
		_, w := importOf(t, s.databaseURL, "--any-names", "users.ndjson", `{"id":"crm-20","account_id":"demo","team":"/","role":"agent","username":"lonesome"}`)
		w.out = []string{"imported 1 of 1 rows in "}
		w.check(t)
	})
}

// Files that are no list of users are refused as a whole, with where and why; so is a database without a schema.
func TestImport_badFiles(t *testing.T) {
	url := databaseURL(t, "sqlite")
	_, w := importOf(t, url, "", "users.csv", "id,account_id,team,role,username")
	w.code, w.err = 1, []string{"run credentialsd migrate up first"}
	w.check(t)
	if err := migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	const header = "id,account_id,team,role,username"
	for name, c := range map[string]struct {
		file  string
		lines []string
		err   string
	}{
		"another ending":   {"users.txt", []string{header}, "must end with .csv or .ndjson"},
		"empty":            {"users.csv", nil, "nothing was imported: line 1: The file is empty. It needs a line with the names of its columns: id,"},
		"an unknown name":  {"users.csv", []string{header + ",phone"}, "nothing was imported: line 1: The header cannot be used: column 6, phone, is not known."},
		"quote not closed": {"users.csv", []string{header, "1,acme,/,agent,\"alex", "2,acme,/,agent,bo"}, "nothing was imported: line 2: A quoted cell of the row that begins here"},
		"one huge line":    {"users.csv", []string{header, strings.Repeat("x", 200<<10)}, "has more than 64 KiB"},
	} {
		_, w := importOf(t, url, "--skip-bad --create-accounts", c.file, c.lines...)
		w.code, w.err = 1, []string{c.err}
		if out := w.check(t); strings.Contains(out, "xxx") {
			t.Errorf("%s: %s", name, out)
		}
	}
	wants{args: "import " + filepath.Join(t.TempDir(), "missing.csv"), env: map[string]string{"DATABASE_URL": url}, code: 1, err: []string{"no such file"}}.check(t)
	folder := filepath.Join(t.TempDir(), "folder.csv")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	wants{args: "import " + folder, env: map[string]string{"DATABASE_URL": url}, code: 1, err: []string{"is not a regular file"}}.check(t)
	path, w := importOf(t, url, "", "users.csv", "\ufeff"+header+"\r", "") // a file of no rows is a whole one
	w.out = []string{"imported 0 of 0 rows in "}
	w.check(t)
	wants{args: "import --reason " + strings.Repeat("x", 501) + " " + path, env: w.env, code: 1, err: []string{"a reason has at most 500 characters"}}.check(t)
}

// AZ-16: a kill -9 in the middle of the writing leaves nothing, and the import can be made again; once made it is refused.
func TestImport_kill(t *testing.T) {
	const rows = 1500
	ids := make([]user.ID, rows)
	for i := range ids {
		ids[i] = user.ID("crm-" + strconv.Itoa(i))
	}
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			if err := migrate(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			path := writeUsers(t, rows)
			began := bytesWritten(t, url)
			command := exec.CommandContext(t.Context(), os.Args[0], "import", "--create-accounts", path)
			command.Env = append(os.Environ(), asProgram+"=1", "DATABASE_URL="+url)
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				_ = command.Wait() // its state is looked at
				close(ended)
			}()
			poll := time.NewTicker(time.Millisecond)
			defer poll.Stop()
			for before := began(); began()-before < 256<<10; {
				select {
				case <-ended:
					t.Fatalf("it ended by itself: %v", command.ProcessState)
				case <-poll.C:
				}
			}
			_ = command.Process.Kill()
			<-ended
			s := &service{t: t, clock: &clock{}, databaseURL: url}
			db := s.database()
			if n := countStored(t, db, ids); n != 0 || command.ProcessState.Success() || accountExists(t, db, "account-1") {
				t.Fatalf("%d of %d users are there, %v", n, rows, command.ProcessState)
			}
			w := wants{args: "import --create-accounts " + path, env: map[string]string{"DATABASE_URL": url}, out: []string{"imported 1500 of 1500 rows in "}}
			w.check(t)
			if n := countStored(t, db, ids); n != rows {
				t.Errorf("%d of %d users are there", n, rows)
			}
			integrity, err := db.Integrity(t.Context(), "account-1")
			if err != nil || !integrity.Intact || integrity.Events != rows/100 {
				t.Errorf("the trail: %+v, %v", integrity, err)
			}
			wants{args: w.args, env: w.env, code: 1, out: []string{"line 1501: id is that of a user already.\n"}, err: []string{"1500 of 1500 rows are bad"}}.check(t)
		})
	}
}

// bytesWritten tells how far the writing has come, also what is not committed: SQLite spills it into its log, PostgreSQL
// enlarges the table.
func bytesWritten(t *testing.T, url string) func() int64 {
	t.Helper()
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return func() int64 {
			about, err := os.Stat(path + "-wal")
			if err != nil { // not there yet
				return 0
			}
			return about.Size()
		}
	}
	connection, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close(context.Background()) })
	return func() (size int64) {
		if err := connection.QueryRow(t.Context(), "SELECT pg_relation_size('users')").Scan(&size); err != nil {
			t.Fatal(err)
		}
		return size
	}
}
