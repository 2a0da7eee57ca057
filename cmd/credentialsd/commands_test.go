package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/pgtest"
)

// wants is a command, and what it must end with and say.
type wants struct {
	args string
	env  map[string]string
	code int
	out  []string // on standard output
	err  []string // on standard error
}

// check runs the command.
func (w wants) check(t *testing.T) (stdout string) {
	t.Helper()
	var out, problems bytes.Buffer
	code := run(t.Context(), strings.Fields(w.args), process{getenv: func(name string) string { return w.env[name] }, stdout: &out, stderr: &problems, now: time.Now})
	if code != w.code {
		t.Errorf("%s: exit code %d, want %d\n%s%s", w.args, code, w.code, &out, &problems)
	}
	for _, text := range w.out {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%s: standard output lacks %q:\n%s", w.args, text, &out)
		}
	}
	for _, text := range w.err {
		if !strings.Contains(problems.String(), text) {
			t.Errorf("%s: standard error lacks %q:\n%s", w.args, text, &problems)
		}
	}
	return out.String() + problems.String()
}

// serving are the variables that serve needs, with hashing at its floor.
func serving(databaseURL string) map[string]string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	variables := fastHashing()
	maps.Copy(variables, map[string]string{
		"DATABASE_URL": databaseURL, "PUBLIC_URL": "https://credentials.example.com", "TOKEN_AUDIENCE": "salesexec",
		"SEALING_KEY": base64.StdEncoding.EncodeToString(key), "LISTEN_ADDR": "127.0.0.1:0", "OPS_ADDR": "127.0.0.1:0",
	})
	return variables
}

func TestCommands_version(t *testing.T) {
	out := wants{args: "version"}.check(t)
	if !regexp.MustCompile(`^credentialsd \S+`).MatchString(out) || strings.Count(out, "\n") != 1 {
		t.Errorf("%q", out)
	}
}

// CFG-01: the help of every command lists the variables, with what an unset one means.
func TestCommands_help(t *testing.T) {
	for _, args := range []string{"--help", "-h", "dev --help", "serve --help", "migrate --help", "migrate up --help", "migrate status --help", "user --help", "user create --help",
		"audit --help", "audit verify --help", "audit export --help", "audit prune --help",
		"import --help", "breach --help", "breach build --help", "breach check --help", "version --help"} {
		var listed []string
		for _, v := range config.Variables() {
			listed = append(listed, v.Name, v.Help, v.Default)
		}
		out := wants{args: args, out: append(listed, "Usage: credentialsd", "SEALING_KEY*", "NAME_FILE")}.check(t)
		if strings.Contains(out, "LISTEN_ADDR*") {
			t.Errorf("%s: only secrets come from files", args)
		}
	}
}

// A wrong call says so and how to go on; nothing starts.
func TestCommands_wrongCalls(t *testing.T) {
	for args, text := range map[string]string{
		"": "expected one of", "bogus": "unexpected argument bogus", "serve now": "unexpected argument now", "serve --bogus": "unknown flag --bogus",
		"audit verify": "expected", "audit export": "missing flags", "audit prune --older-than soon": "expected duration",
		"breach build": "missing flags", "breach check": "missing flags", "breach build --from - --out x --min-count many": "--min-count",
		"user create": "missing flags", "user create --account a --username b --role root": "--role must be one of",
	} {
		wants{args: args, code: 80, err: []string{"credentialsd: ", text, "--help"}}.check(t)
	}
}

// CFG-01: everything that is missing is named at once.
func TestCommands_missingVariables(t *testing.T) {
	wants{args: "serve", code: 1, err: []string{"DATABASE_URL is not set", "PUBLIC_URL is not set", "TOKEN_AUDIENCE is not set", "SEALING_KEY is not set"}}.check(t)
	for _, args := range []string{"migrate up", "migrate status", "user create --account demo --username ada", "audit export --account demo", "audit prune"} {
		out := wants{args: args, code: 1, err: []string{"DATABASE_URL is not set"}}.check(t)
		if strings.Contains(out, "SEALING_KEY") {
			t.Errorf("%s needs the database alone: %s", args, out)
		}
	}
}

// CFG-01, CFG-02, CFG-04: everything unsafe is refused at once, by name and without the values of secrets.
func TestCommands_unsafeVariables(t *testing.T) {
	short := base64.StdEncoding.EncodeToString([]byte("canary-0123456789-abcdefghijklmn"[:31]))
	variables := serving("mysql://canary-user:canary-password@db/credentials")
	maps.Copy(variables, map[string]string{
		"PUBLIC_URL": "http://credentials.example.com", "SEALING_KEY": short, "ALLOWED_ORIGINS": "*", "TRUSTED_PROXIES": "0.0.0.0/0",
		"ARGON2_MEMORY_KIB": "8192", "ARGON2_TIME": "1", "PASSWORD_MIN_LENGTH": "7", "TOKEN_LIFETIME": "24h", "HASH_LANES": "many", "LOG_LEVEL": "loud",
	})
	names := []string{"DATABASE_URL", "PUBLIC_URL", "SEALING_KEY", "ALLOWED_ORIGINS", "TRUSTED_PROXIES", "ARGON2_MEMORY_KIB", "PASSWORD_MIN_LENGTH", "TOKEN_LIFETIME", "HASH_LANES", "LOG_LEVEL"}
	out := wants{args: "serve", env: variables, code: 1, err: names}.check(t)
	for _, value := range []string{short, "canary", "mysql"} {
		if strings.Contains(out, value) {
			t.Errorf("%q is shown:\n%s", value, out)
		}
	}
	for name, values := range map[string][]string{
		"SEALING_KEY":     {short, "x", base64.StdEncoding.EncodeToString(make([]byte, 32)), base64.StdEncoding.EncodeToString([]byte("0101010101010101010101010101010101"[:32]))},
		"ALLOWED_ORIGINS": {"*", "null", "https://*.example.com", "https://App.example.com", "http://app.example.com", "https://app.example.com/", "https://app.example.com,*"},
		"TRUSTED_PROXIES": {"0.0.0.0/0", "::/0", "10.0.0.0/8,0.0.0.0/0", "proxy.example.com"},
		"PUBLIC_URL":      {"http://credentials.example.com", "credentials.example.com", "https://credentials.example.com/api", "https://user:pw@credentials.example.com", "ftp://x"},
		"DATABASE_URL":    {"sqlite:", "file.db", "postgres:host"},
		"SIGNING_KEY":     {"canary-no-pem"},
		"OPS_ADDR":        {"9090", "localhost"},
	} {
		for _, value := range values {
			variables := serving("sqlite:" + filepath.Join(t.TempDir(), "credentials.db"))
			variables[name] = value
			if name == "SIGNING_KEY" { // read once there is a database
				wants{args: "migrate up", env: variables}.check(t)
			}
			out := wants{args: "serve", env: variables, code: 1, err: []string{name}}.check(t)
			if strings.Contains(out, "canary") || name == "SEALING_KEY" && strings.Contains(out, value+"\n") {
				t.Errorf("%s: the value is shown:\n%s", name, out)
			}
		}
	}
}

// CFG-01, CFG-03: secrets can come from files; which of two is meant is not guessed.
func TestCommands_variablesFromFiles(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "url")
	if err := os.WriteFile(path, []byte("sqlite:"+filepath.Join(folder, "credentials.db")+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants{args: "migrate status", env: map[string]string{"DATABASE_URL_FILE": path}, out: []string{"pending 0001_"}}.check(t)
	both := wants{args: "serve", env: map[string]string{"DATABASE_URL_FILE": path, "DATABASE_URL": "sqlite:canary", "SEALING_KEY_FILE": "/nowhere/key"}, code: 1,
		err: []string{"DATABASE_URL and DATABASE_URL_FILE are both set", "SEALING_KEY_FILE cannot be read"}}.check(t)
	if strings.Contains(both, "canary") {
		t.Errorf("a value is shown: %s", both)
	}
	wants{args: "serve", env: map[string]string{"TOKEN_AUDIENCE_FILE": path}, code: 1, err: []string{"TOKEN_AUDIENCE is not set"}}.check(t)
}

// CFG-02: demo accounts with known passwords are for this machine alone.
func TestCommands_devIsLoopbackOnly(t *testing.T) {
	for _, flags := range []string{"--addr 0.0.0.0:0", "--addr :0", "--addr [::]:0", "--addr example.com:0", "--addr 127.0.0.1", "--addr 127.0.0.1:0 --ops-addr 0.0.0.0:0"} {
		wants{args: "dev --data " + t.TempDir() + " " + flags, env: fastHashing(), code: 1, err: []string{"loopback only"}}.check(t)
	}
}

// emptyDatabase returns a database without a schema.
func emptyDatabase(t *testing.T, database string) string {
	t.Helper()
	if database == "sqlite" {
		return "sqlite:" + filepath.Join(t.TempDir(), "credentials.db")
	}
	address := pgtest.Database(t, migrate)
	connection, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close(t.Context()) }()
	if _, err := connection.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
		t.Fatal(err)
	}
	return address
}

// startServe runs serve until the test ends, and returns it with nothing but an address and a log.
func startServe(t *testing.T, variables map[string]string) *service {
	t.Helper()
	transport, _ := checkedTransport(t)
	s := &service{t: t, clock: &clock{}, log: &output{}, databaseURL: variables["DATABASE_URL"], http: &http.Client{Transport: transport}}
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"serve"}, process{getenv: func(name string) string { return variables[name] }, stdout: s.log, stderr: s.log, now: s.clock.now})
	}()
	s.stop = func() int { cancel(); return <-code }
	ready := regexp.MustCompile(`"msg":"serving","api":"([^"]+)","ops":"([^"]+)"`)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if found := ready.FindStringSubmatch(s.log.String()); found != nil {
			s.demo.URL, s.demo.OpsURL = "http://"+found[1], "http://"+found[2]
			return s
		}
		select {
		case ended := <-code:
			t.Fatalf("serve ended with %d:\n%s", ended, s.log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("serve did not get ready:\n%s", s.log)
		}
	}
}

// OPS-07, CFG-02, REC-05: from an empty database to an administrator with a password of the own, by commands alone.
func TestCommands_fromEmptyToFirstAdministrator(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			variables := serving(emptyDatabase(t, database))
			env := map[string]string{"DATABASE_URL": variables["DATABASE_URL"]}
			wants{args: "serve", env: variables, code: 1, err: []string{"run credentialsd migrate up first"}}.check(t)
			if out := (wants{args: "migrate status", env: env, out: []string{"pending 0001_"}}).check(t); strings.Contains(out, "applied") {
				t.Errorf("applied on an empty database:\n%s", out)
			}
			wants{args: "migrate up", env: env, out: []string{"applied 0001_", "the schema is up to date"}}.check(t)
			if out := (wants{args: "migrate up", env: env, out: []string{"the schema is up to date"}}).check(t); strings.Contains(out, "applied") {
				t.Errorf("applied twice:\n%s", out)
			}
			if out := (wants{args: "migrate status", env: env, out: []string{"applied 0001_"}}).check(t); strings.Contains(out, "pending") {
				t.Errorf("still pending:\n%s", out)
			}
			env["ARGON2_MEMORY_KIB"], env["ARGON2_TIME"], env["ARGON2_THREADS"] = "12288", "3", "1"
			create := "user create --account acme --username ada --display-name Ada"
			out := wants{args: create, env: env, out: []string{"created administrator ada in account acme, team /", "is not shown again"}}.check(t)
			temporary := regexp.MustCompile(`temporary password: (\S+)`).FindStringSubmatch(out)
			if temporary == nil || strings.Count(out, temporary[1]) != 1 {
				t.Fatalf("the temporary password must be there once:\n%s", out)
			}
			again := wants{args: create, env: env, code: 1, err: []string{"in use or held"}}.check(t)
			if strings.Contains(again, "temporary password") {
				t.Errorf("a password of nobody is shown:\n%s", again)
			}
			wants{args: "user create --account .. --username=-x --team east --email nowhere --min-password-length 7", env: env, code: 1,
				err: []string{"--account must", "--username:", "--team must", "--email:", "--min-password-length must"}}.check(t)

			firstSignIn(t, startServe(t, variables), temporary[1])
		})
	}
}

// firstSignIn signs in with a temporary password, which is good for nothing but choosing another.
func firstSignIn(t *testing.T, s *service, temporary string) {
	opened := s.want(s.signIn("ada", temporary), http.StatusCreated, "")
	if opened.body["must_change_password"] != true {
		t.Errorf("%s", opened.raw)
	}
	limited := opened.text("access_token")
	s.want(s.call(http.MethodGet, "/admin/users", limited, nil), http.StatusForbidden, "must_change_password")
	changed := s.want(s.change(limited, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": temporary}), http.StatusOK, "")
	s.want(s.signIn("ada", temporary), http.StatusUnauthorized, "invalid_credentials")
	list := s.want(s.call(http.MethodGet, "/admin/users", changed.text("access_token"), nil), http.StatusOK, "")
	if items, _ := list.body["items"].([]any); len(items) != 1 {
		t.Errorf("%s", list.raw)
	}
	if strings.Contains(s.log.String(), temporary) {
		t.Error("the temporary password is in the log")
	}
	s.wantProbe("/readyz", http.StatusOK)
	if code := s.stop(); code != 0 { // OPS-02
		t.Errorf("exit code %d\n%s", code, s.log)
	}
	s.logLines()
}

// A fault of the program is not a good end: whoever started it must see that it failed.
func TestCommands_panic(t *testing.T) {
	defer func() {
		if panicked := recover(); panicked != "broken" {
			t.Errorf("got %v", panicked)
		}
	}()
	code := run(t.Context(), []string{"serve"}, process{getenv: func(string) string { panic("broken") }, stdout: io.Discard, stderr: io.Discard, now: time.Now})
	t.Errorf("exit code %d", code)
}
