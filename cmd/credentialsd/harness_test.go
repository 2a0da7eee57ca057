package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/spectest"
	"github.com/salesexec/credentials/internal/store"
)

// asProgram makes the test binary act as credentialsd itself, so that tests can kill a real process.
const asProgram = "CREDENTIALSD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	if config := os.Getenv(asLeadRouter); config != "" {
		if err := leadRouter(context.Background(), config); err != nil {
			log.Fatal(err)
		}
		return
	}
	os.Exit(pgtest.Main(m))
}

// demoPassword is the password of every demo user in these tests.
const demoPassword = "tin boat river seven"

// fastHashing are the least allowed parameters: the tests prove rules, not cost.
func fastHashing() map[string]string {
	return map[string]string{"ARGON2_MEMORY_KIB": "12288", "ARGON2_TIME": "3", "ARGON2_THREADS": "1", "RATE_LIMIT_PER_MINUTE": "100000"}
}

// databases are what every end-to-end test runs on. In short mode, which is for the race detector, it is PostgreSQL alone: the
// detector slows the SQLite library, which is Go, so much that the tests would take an hour; the store's own suite runs on
// both under it.
func databases() []string {
	if testing.Short() {
		return []string{"postgres"}
	}
	return []string{"sqlite", "postgres"}
}

// oneByOne skips a long test in short mode whose requests come one after the other: what runs beside each other in it, the race
// detector sees in every other test.
func oneByOne(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("its requests come one after the other")
	}
}

// onEachDatabase runs a test against the program on SQLite and on PostgreSQL, one after the other: tests of many requests at
// once take all there is of the machine.
func onEachDatabase(t *testing.T, test func(t *testing.T, s *service), env ...string) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) { test(t, start(t, databaseURL(t, database), env...)) })
	}
}

// databaseURL returns a database of the test's own; PostgreSQL's is migrated already.
func databaseURL(t testing.TB, database string) string {
	if database == "postgres" {
		return pgtest.Database(t, migrate)
	}
	return "sqlite:" + filepath.Join(t.TempDir(), "credentials.db")
}

func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Config{URL: url, Log: newLogger(io.Discard, "error"), Now: time.Now})
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	_, err = s.Migrate(ctx)
	return err
}

// clock is the time that a service under test believes in: real time, moved ahead by tests.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// output collects what a program writes; it is safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// service is a running credentialsd dev with its demo accounts.
type service struct {
	t           *testing.T
	demo        demo
	clock       *clock
	log         *output
	databaseURL string
	folder      string // of its data
	http        *http.Client
	contract    *spectest.Recorder
	stop        func() int // ends it and returns its exit code
}

func newService(t *testing.T, databaseURL string) *service {
	t.Helper()
	transport, recorder := checkedTransport(t)
	return &service{t: t, clock: &clock{}, log: &output{}, databaseURL: databaseURL, http: &http.Client{Transport: transport, CheckRedirect: stay}, contract: recorder}
}

// stay follows no redirect: where it leads is looked at, and may be another machine.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// start runs the program in this process until the test ends. env are NAME=value on top of fastHashing.
func start(t *testing.T, databaseURL string, env ...string) *service {
	t.Helper()
	return startAs(t, databaseURL, process{}, env...)
}

// startAs is start with more of the process than its environment.
func startAs(t *testing.T, databaseURL string, p process, env ...string) *service {
	t.Helper()
	variables := fastHashing()
	variables["DATABASE_URL"] = databaseURL
	variables["HASH_QUEUE_TIMEOUT"] = "20s" // tests run beside each other: who waits for a lane is not what they are about
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		variables[name] = value
	}
	s := newService(t, databaseURL)
	s.folder = dataFolder(t, databaseURL)
	ctx, cancel := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	code := make(chan int, 1)
	p.getenv, p.stdout, p.stderr, p.now = func(name string) string { return variables[name] }, writer, s.log, s.clock.now
	go func() {
		code <- run(ctx, []string{"dev", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--password", demoPassword, "--json", "--data", s.folder}, p)
		_ = writer.Close()
	}()
	var once sync.Once
	ended := 0
	s.stop = func() int {
		once.Do(func() { cancel(); ended = <-code })
		return ended
	}
	t.Cleanup(func() { s.stop() })
	if err := json.NewDecoder(reader).Decode(&s.demo); err != nil {
		t.Fatalf("the program did not get ready: %v\n%s", err, s.log)
	}
	return s
}

// dataFolder keeps the sealing key of a database, so that a second start on it reads what the first has sealed.
func dataFolder(t *testing.T, databaseURL string) string {
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		return filepath.Dir(path)
	}
	folder := filepath.Join(os.TempDir(), "credentialsd-test-"+strings.NewReplacer("/", "_", ":", "_", "?", "_", "&", "_", "=", "_").Replace(databaseURL))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any // nil if it is not a JSON object
}

// text returns a string member of the body.
func (a answer) text(name string) string {
	value, _ := a.body[name].(string)
	return value
}

// code returns the problem code, or "".
func (a answer) code() string { return a.text("code") }

// fieldCodes returns "pointer code" of every entry of errors.
func (a answer) fieldCodes() []string {
	var codes []string
	list, _ := a.body["errors"].([]any)
	for _, item := range list {
		field, _ := item.(map[string]any)
		codes = append(codes, field["pointer"].(string)+" "+field["code"].(string))
	}
	return codes
}

// call sends a request: body is nil, a string or []byte sent as it is, or anything else sent as JSON. headers are
// name, value, name, value ...
func (s *service) call(method, path, token string, body any, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(method, path, token, body, headers...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// try is call for tests that expect the connection to break, or that call from other goroutines.
func (s *service) try(method, path, token string, body any, headers ...string) (answer, error) {
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	case []byte:
		content = bytes.NewReader(b)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(context.Background(), method, s.demo.URL+path, content)
	if err != nil {
		return answer{}, err
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			request.Header.Del(headers[i])
			continue
		}
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, header: response.Header, raw: raw}
	_ = json.Unmarshal(raw, &a.body) // stays nil for what is no object
	return a, nil
}

// want fails the test unless the answer has the status, and the problem code if one is given.
func (s *service) want(a answer, status int, code string) answer {
	s.t.Helper()
	if a.status != status || (code != "" && a.code() != code) {
		s.t.Fatalf("got %d %q, want %d %q\n%s", a.status, a.code(), status, code, a.raw)
	}
	return a
}

// user returns a demo user by the name it was made with.
func (s *service) user(name string) demoUser {
	s.t.Helper()
	for _, u := range s.demo.Users {
		if strings.HasPrefix(u.Email, name+"@") {
			return u
		}
	}
	s.t.Fatalf("no demo user %s", name)
	return demoUser{}
}

func (s *service) signIn(username, pw string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/sessions", "", map[string]string{"username": username, "password": pw})
}

// token signs in and returns the access token.
func (s *service) token(username, pw string) string {
	s.t.Helper()
	return s.want(s.signIn(username, pw), http.StatusCreated, "").text("access_token")
}

// change is PATCH /users/me/credentials.
func (s *service) change(token string, body any, headers ...string) answer {
	s.t.Helper()
	return s.call(http.MethodPatch, "/users/me/credentials", token, body, headers...)
}

// reset is POST /admin/users/{id}/password-reset.
func (s *service) reset(token, id string, body any, headers ...string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/admin/users/"+id+"/password-reset", token, body, headers...)
}

// database opens the service's database beside it, to look at what is stored.
func (s *service) database() *store.Store {
	s.t.Helper()
	opened, err := store.Open(context.Background(), store.Config{URL: s.databaseURL, Log: newLogger(io.Discard, "error"), Now: s.clock.now})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { closeQuietly(opened) })
	return opened
}

// checkedTransport sends requests over connections of the test's own, and holds every exchange against openapi.yaml.
func checkedTransport(t *testing.T) (http.RoundTripper, *spectest.Recorder) {
	t.Helper()
	plain := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(plain.CloseIdleConnections)
	recorder := spectest.New(t, api.Spec)
	return recorder.Transport(plain), recorder
}
