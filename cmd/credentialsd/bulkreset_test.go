package main

import (
	"encoding/csv"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An administrator resets a team from the command line: looks first, follows the job, and gets each temporary password once, in
// a file that nobody else may read (REC-04).
func TestBulkReset_command(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.crew(3)
		env := map[string]string{tokenVariable: s.token("ada", demoPassword)}
		reset := func(args ...string) (int, string, string) {
			return command(env, append([]string{"bulk-reset", "--server", s.demo.URL}, args...)...)
		}
		code, stdout, stderr := reset("--team", "/crew/", "--reason", "Leak", "--dry-run")
		if code != 0 || !strings.Contains(stdout, "u-crew-001\tcrew-001\treset\n") || !strings.HasSuffix(stdout, "3 of 3 users would be reset\n") {
			t.Errorf("%d %s %s", code, stdout, stderr)
		}
		file := filepath.Join(t.TempDir(), "passwords.csv")
		code, stdout, stderr = reset("--team", "/crew/", "--reason", "Leak", "--passwords", file)
		if code != 0 || !strings.Contains(stdout, "completed: 3 of 3 users reset, 0 skipped, 0 failed, 0 cancelled\n3 temporary passwords are in "+file) {
			t.Fatalf("%d %s %s", code, stdout, stderr)
		}
		if about, err := os.Stat(file); err != nil || about.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", about.Mode(), err)
		}
		lines := csvOf(t, file)
		if len(lines) != 4 || lines[2][1] != "crew-001" || strings.Contains(stdout+stderr, lines[2][2]) {
			t.Fatalf("%d lines", len(lines))
		}
		signedIn := s.want(s.signIn("crew-001", lines[2][2]), http.StatusCreated, "")
		if signedIn.body["must_change_password"] != true {
			t.Errorf("%s", signedIn.raw)
		}
		id := strings.Fields(stdout)[1]
		if code, stdout, _ := reset("--job", id, "--passwords", file); code != 0 || !strings.Contains(stdout, "0 temporary passwords") || len(csvOf(t, file)) != 4 {
			t.Errorf("handed out twice: %s", stdout)
		}
		if code, _, stderr := reset("--job", id, "--cancel"); code != 1 || !strings.Contains(stderr, "conflict") {
			t.Errorf("%d %s", code, stderr)
		}
		// A wish that cannot be met resets nobody.
		if code, _, stderr := reset("--team", "/crew/", "--reason", "Leak", "--passwords", file); code != 1 || !strings.Contains(stderr, "file exists") {
			t.Errorf("%d %s", code, stderr)
		}
		other := filepath.Join(t.TempDir(), "other.csv")
		if code, _, stderr := reset("--team", "/crew/", "--passwords", other); code != 1 || !strings.Contains(stderr, "/reason") {
			t.Errorf("%d %s", code, stderr)
		}
		if _, err := os.Stat(other); !os.IsNotExist(err) {
			t.Errorf("a file is in the way of the next try: %v", err)
		}
		// Passwords are not put where others may read them.
		if err := os.Chmod(file, 0o640); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := reset("--job", id, "--passwords", file); code != 1 || !strings.Contains(stderr, "others may read") {
			t.Errorf("%d %s", code, stderr)
		}
		if jobs := s.want(s.call(http.MethodGet, jobs, env[tokenVariable], nil), http.StatusOK, "").items(); len(jobs) != 1 {
			t.Errorf("%d jobs", len(jobs))
		}
	})
}

// Users by a list, as a service; what was forgotten is told.
func TestBulkReset_commandAsService(t *testing.T) {
	t.Parallel()
	s := start(t, databaseURL(t, "sqlite"))
	list := filepath.Join(t.TempDir(), "ids")
	if err := os.WriteFile(list, []byte("u-crew-000\r\n\n u-crew-001\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.crew(2)
	service := map[string]string{clientIDVariable: s.demo.Clients[0].ClientID, clientSecretVariable: s.demo.Clients[0].ClientSecret}
	for _, c := range []struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		{nil, []string{"--team", "/"}, 1, tokenVariable},
		{service, []string{"--reason", "Leak"}, 1, "whom to reset"},
		{service, []string{"--reason", "Leak", "--cancel"}, 1, "--job"},
		{service, []string{"--team", "/crew/"}, 1, "/reason"},
		{service, []string{"--role", "agent", "--users", list, "--reason", "Leak"}, 1, "either"},
		{service, []string{"--users", os.DevNull, "--reason", "Leak"}, 1, "no id"},
		{map[string]string{tokenVariable: "x"}, []string{"--team", "/crew/", "--reason", "Leak"}, 1, "unauthorized"},
		{service, []string{"--users", list, "--reason", "Leak"}, 0, "2 temporary passwords wait"},
	} {
		code, stdout, stderr := command(c.env, append([]string{"bulk-reset", "--server", s.demo.URL}, c.args...)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%v: %d %s %s", c.args, code, stdout, stderr)
		}
	}
}

func csvOf(t *testing.T, path string) [][]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(file)
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
