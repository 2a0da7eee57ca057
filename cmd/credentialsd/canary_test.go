package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

// LOG-04, HASH-15, PW-19, peers bug 14: marked passwords and tokens go through every operation, right and wrong, and are
// then looked for in the log, in every table, in the metrics and in every answer.
func TestCanary(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const first, second, wrong = "canary-one orbit lantern", "canary-two orbit lantern", "canary-wrong orbit lantern"
		marks := []string{first, second, wrong, "canary-"}
		var shown []string // bodies that must not hold a mark
		send := func(method, path, token string, body any, headers ...string) answer {
			a := s.call(method, path, token, body, headers...)
			shown = append(shown, string(a.raw))
			return a
		}
		patch := func(token string, body any) answer {
			return send(http.MethodPatch, "/users/me/credentials", token, body)
		}
		signIn := func(name, pw string) answer {
			return send(http.MethodPost, "/sessions", "", map[string]string{"username": name, "password": pw})
		}

		keyed := []string{idempotencyHeader, "canary-key-0123456789"} // so that the answers are kept
		alex := s.token("alex", demoPassword)
		changed := s.want(s.change(alex, map[string]string{"new_password": first, "current_password": demoPassword}, keyed...), http.StatusOK, "")
		s.want(send(http.MethodPatch, ownCredentials, alex, map[string]string{"new_password": second}, keyed...), http.StatusUnprocessableEntity, "idempotency_key_reused")
		alex = changed.text("access_token")
		s.want(patch(alex, map[string]string{"new_password": second, "current_password": wrong}), http.StatusForbidden, "wrong_current_password")
		s.want(patch(alex, map[string]string{"new_password": "canary-", "current_password": first}), http.StatusUnprocessableEntity, "policy_violation")
		s.want(patch(alex, map[string]string{"new_password": strings.Repeat("canary-", 100), "current_password": first}), http.StatusUnprocessableEntity, "policy_violation")
		s.want(patch(alex, map[string]string{"username": "canary-€uro", "current_password": first}), http.StatusUnprocessableEntity, "policy_violation")
		s.want(patch(alex, `{"new_password":"canary-broken`), http.StatusBadRequest, "malformed_request")
		s.want(patch(alex, `{"canary-member":"canary-value"}`), http.StatusBadRequest, "malformed_request")
		s.want(patch(alex, `{"new_password":["canary-list"]}`), http.StatusBadRequest, "malformed_request")
		s.want(signIn("alex", wrong), http.StatusUnauthorized, "invalid_credentials")
		s.want(signIn("canary-typed-into-the-name", wrong), http.StatusUnauthorized, "invalid_credentials")
		s.want(signIn("alex", first), http.StatusCreated, "")
		s.want(send(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": "canary-refresh.1.x"}), http.StatusUnauthorized, "unauthorized")
		s.want(send(http.MethodGet, "/users/me?access_token=canary-query", "canary-token", nil), http.StatusUnauthorized, "unauthorized")
		ada := s.token("ada", demoPassword)
		bo := "/admin/users/" + s.user("bo").ID + "/password-reset"
		s.want(send(http.MethodPost, bo, ada, map[string]string{"method": "set", "new_password": second}), http.StatusOK, "")
		s.want(send(http.MethodPost, bo, ada, map[string]string{"method": "set", "new_password": "canary-"}), http.StatusUnprocessableEntity, "policy_violation")
		s.want(send(http.MethodPost, bo, ada, map[string]string{"method": "canary-method"}), http.StatusUnprocessableEntity, "validation_failed")
		send(http.MethodPost, "/oauth/token", "", "grant_type=client_credentials&client_id=demo-service&client_secret=canary-secret",
			"Content-Type", "application/x-www-form-urlencoded")
		temporary := s.want(s.reset(ada, s.user("wanda").ID, nil, keyed...), http.StatusOK, "").text("temporary_password")
		s.want(s.signIn("wanda", temporary), http.StatusCreated, "")
		created := s.want(s.create(ada, asked(), idempotencyHeader, "canary-key-9876543210"), http.StatusCreated, "").text("temporary_password")
		marks = append(marks, created, temporary, changed.text("refresh_token"), changed.text("access_token"), ada)

		for i, body := range shown {
			if strings.Contains(body, "canary-") {
				t.Errorf("answer %d repeats a secret: %s", i, body)
			}
		}
		s.stop()
		for place, text := range map[string]string{"log": s.log.String(), "database": dump(t, s.databaseURL)} {
			for _, mark := range append(marks, demoPassword) {
				if at := strings.Index(text, mark); at >= 0 {
					t.Errorf("the %s holds %q: ...%s...", place, mark, text[max(0, at-200):min(len(text), at+200)])
				}
			}
		}
		if strings.Contains(s.log.String(), "$argon2id$") {
			t.Error("the log holds a password hash")
		}
	})
}

// dump returns every value of every table as text.
func dump(t *testing.T, url string) string {
	t.Helper()
	list := "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
	if strings.HasPrefix(url, "sqlite:") {
		list = "SELECT name FROM sqlite_master WHERE type = 'table'"
	}
	db := connect(t, url)
	var text strings.Builder
	tables := rowsOf(t, db, list)
	for _, table := range tables {
		for _, row := range rowsOf(t, db, fmt.Sprintf("SELECT * FROM %q", table[0])) {
			for i, value := range row {
				if bytes, ok := value.([]byte); ok { // else it would be printed as numbers
					row[i] = string(bytes)
				}
			}
			fmt.Fprintln(&text, table[0], row)
		}
	}
	if len(tables) < 10 {
		t.Fatalf("the dump found only the tables %v", tables)
	}
	return text.String()
}

// connect opens a database without the store, until the test ends.
func connect(t *testing.T, url string) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, dsn = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// execute runs a statement on a database as somebody with rights to it would.
func execute(t *testing.T, url, statement string) {
	t.Helper()
	if _, err := connect(t, url).ExecContext(context.Background(), statement); err != nil {
		t.Fatal(err)
	}
}

func rowsOf(t *testing.T, db *sql.DB, query string) [][]any {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]any
	for rows.Next() {
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				values[i] = string(b)
			}
		}
		all = append(all, values)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
