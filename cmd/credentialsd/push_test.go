package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// endpoint is a receiver that events are pushed to.
type endpoint struct {
	*httptest.Server
	arrived chan *pushedEvent // every request, in the order of arrival

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) // nil: 202
}

// pushedEvent is a request to an endpoint.
type pushedEvent struct {
	*http.Request
	body string
}

func newEndpoint(t *testing.T, serve func(http.Handler) *httptest.Server) *endpoint {
	t.Helper()
	e := &endpoint{arrived: make(chan *pushedEvent, 1000)}
	e.Server = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows in the test
		e.mu.Lock()
		answer := e.answer
		e.mu.Unlock()
		e.arrived <- &pushedEvent{r, string(body)}
		if answer == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

// answers makes the endpoint answer like that from now on; nil: with 202.
func (e *endpoint) answers(answer func(w http.ResponseWriter, r *http.Request)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func status(code int, headers ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// next returns the next event that arrives.
func (e *endpoint) next(l *listener) (*pushedEvent, set) {
	l.t.Helper()
	select {
	case p := <-e.arrived:
		return p, l.read(p.body)
	case <-time.After(time.Minute):
		l.t.Fatalf("no event arrived\n%s", l.log)
	}
	return nil, set{}
}

// pushTo is the body of a stream of renames that are pushed.
func pushTo(url string, more ...string) map[string]any {
	delivery := map[string]string{"method": pushMethod, "endpoint_url": url}
	for i := 0; i+1 < len(more); i += 2 {
		delivery[more[i]] = more[i+1]
	}
	return map[string]any{"events_requested": []string{renamed}, "delivery": delivery}
}

// idle waits until nothing is left that could be pushed now, and nothing is being pushed.
func (l *listener) idle() {
	l.t.Helper()
	db, beside := l.database(), connect(l.t, l.databaseURL)
	defer beside.Close()
	l.until("nothing is to be pushed", func() bool {
		ids, err := db.Pushable(context.Background(), l.clock.now())
		if err != nil {
			l.t.Fatal(err)
		}
		return len(ids) == 0 && len(rowsOf(l.t, beside, "SELECT jti FROM stream_deliveries WHERE lease <> '' AND dead_at IS NULL")) == 0
	})
}

// counted waits until so many outcomes are counted: each is logged before.
func (l *listener) counted(outcome string, want int) {
	l.t.Helper()
	l.until(fmt.Sprint(want, " are ", outcome), func() bool {
		return l.metric(`credentials_signals_total{outcome="`+outcome+`"}`) == float64(want)
	})
}

// row is a stream as the operator sees it.
func (l *listener) row() (line string) {
	l.t.Helper()
	for line := range strings.Lines(l.operator("stream list", 0)) {
		if strings.HasPrefix(line, l.id) {
			return line
		}
	}
	l.t.Fatal("the stream is not listed")
	return ""
}

// PSH-01, PSH-02, SSF-09: the form of a push to the byte; the header that the receiver wants goes with each, and is neither shown
// nor stored nor logged in the clear.
func TestPush_form(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const header = "Bearer canary-9f2c8d5e7a1b"
		e := newEndpoint(t, httptest.NewServer)
		l := s.listen(pushTo(e.URL+"/events?tenant=demo", "authorization_header", header))
		alex := s.token("alex", demoPassword)
		for i, code := range []int{202, 200, 204} { // other successes than 202 count as well
			e.answers(status(code))
			s.want(s.change(alex, map[string]string{"username": fmt.Sprintf("alex.%d", i)}), http.StatusOK, "")
			p, got := e.next(l)
			if p.Method != http.MethodPost || p.URL.String() != "/events?tenant=demo" || p.Proto != "HTTP/1.1" {
				t.Errorf("%s %s", p.Method, p.URL)
			}
			for name, want := range map[string]string{"Content-Type": "application/secevent+jwt", "Accept": "application/json", "Authorization": header} {
				if diff := cmp.Diff([]string{want}, p.Header[name]); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
			if strings.Count(p.body, ".") != 2 || strings.TrimSpace(p.body) != p.body {
				t.Errorf("the body is no compact JWS alone: %q", p.body)
			}
			if got.claims["aud"] != "demo-service" || got.kind() != "username-changed" {
				t.Errorf("%v", got.claims)
			}
			l.idle()
		}
		s.want(l.pollRaw(map[string]any{}), http.StatusBadRequest, "malformed_request") // it is pushed
		e.answers(func(w http.ResponseWriter, r *http.Request) {                        // a receiver that repeats what it did not believe
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			_, _ = fmt.Fprintf(w, `{"err":"authentication_failed","description":"%s, \u009b31m%s"}`, r.Header.Get("Authorization"), token) // what is missing shows below
		})
		s.want(s.change(alex, map[string]string{"username": "alex.echo"}), http.StatusOK, "")
		e.next(l)
		l.idle()
		l.counted("refused", 1)
		dead := s.operator("stream dead "+l.id, 0, "authentication_failed: [authorization],  31m[authorization]")
		shown := s.want(s.call(http.MethodGet, "/ssf/streams?stream_id="+l.id, l.token, nil), http.StatusOK, "")
		if diff := cmp.Diff(map[string]any{"method": pushMethod, "endpoint_url": e.URL + "/events?tenant=demo"}, shown.body["delivery"]); diff != "" {
			t.Errorf("shown: %s", diff)
		}
		for what, text := range map[string]string{"the database": dump(t, s.databaseURL), "the log": s.log.String(), "the operator's list": l.row(), "the dead letters": dead, "an answer": string(shown.raw)} {
			if strings.Contains(text, "canary-9f2c") {
				t.Errorf("%s shows the header", what)
			}
		}

		// It stays when the receiver changes something else, and does not move to another endpoint.
		e.answers(nil)
		moved := newEndpoint(t, httptest.NewServer)
		s.want(s.streams(http.MethodPatch, l.token, map[string]any{"stream_id": l.id, "description": "router"}), http.StatusOK, "")
		s.want(s.change(alex, map[string]string{"username": "alex.stays"}), http.StatusOK, "")
		if p, _ := e.next(l); p.Header.Get("Authorization") != header {
			t.Errorf("it went with %q", p.Header.Get("Authorization"))
		}
		l.idle()
		s.want(s.streams(http.MethodPatch, l.token, merge(pushTo(moved.URL), "stream_id", l.id)), http.StatusOK, "")
		s.want(s.change(alex, map[string]string{"username": "alex.moves"}), http.StatusOK, "")
		if p, _ := moved.next(l); p.Header["Authorization"] != nil {
			t.Errorf("it moved as %q", p.Header.Get("Authorization"))
		}
	})
}

// PSH-03: what the receiver refuses is not sent again: it is a dead letter that the operator sees, hears of and can send again.
func TestPush_refused(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		e := newEndpoint(t, httptest.NewServer)
		l := s.listen(pushTo(e.URL))
		alex := s.token("alex", demoPassword)
		letters := map[string]string{}
		for i, err := range []string{"invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "authentication_failed", "access_denied", "invalid_state"} {
			e.answers(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Language", "en")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w, `{"err":%q,"description":"number %d"}`, err, i) // what is missing shows below
			})
			s.want(s.change(alex, map[string]string{"username": fmt.Sprintf("alex.%d", i)}), http.StatusOK, "")
			_, got := e.next(l)
			letters[got.jti()] = fmt.Sprintf("answer 400: %s: number %d", err, i)
			l.idle()
		}
		for i, code := range []int{302, 401, 404, 410, 413} { // SSF-11: a redirect is not followed
			e.answers(status(code, "Location", e.URL+"/elsewhere"))
			s.want(s.change(alex, map[string]string{"username": fmt.Sprintf("alexa.%d", i)}), http.StatusOK, "")
			p, got := e.next(l)
			letters[got.jti()] = fmt.Sprintf("answer %d", code)
			if p.URL.Path != "/" {
				t.Errorf("%d was followed to %s", code, p.URL)
			}
			l.idle()
		}
		l.counted("refused", len(letters))
		dead := s.operator("stream dead "+l.id, 0)
		for jti, why := range letters {
			if !slices.ContainsFunc(slices.Collect(strings.Lines(dead)), func(line string) bool {
				return strings.HasPrefix(line, jti) && strings.HasSuffix(strings.TrimSpace(line), why)
			}) {
				t.Errorf("%s is not listed with %q:\n%s", jti, why, dead)
			}
			if !strings.Contains(s.log.String(), jti) {
				t.Errorf("the log does not tell of %s", jti)
			}
		}
		if got := len(e.arrived); got != 0 {
			t.Errorf("%d arrived again", got)
		}
		if fields := strings.Fields(l.row()); fields[6] != fmt.Sprint(len(letters)) {
			t.Errorf("listed: %v", fields)
		}
		e.answers(nil)
		one := slices.Sorted(func(yield func(string) bool) {
			for jti := range letters {
				if !yield(jti) {
					return
				}
			}
		})[3]
		s.operator("stream retry "+l.id+" "+one, 0, "1 will be delivered again")
		if _, got := e.next(l); got.jti() != one {
			t.Errorf("%s instead of %s", got.jti(), one)
		}
		s.operator("stream retry "+l.id, 0, fmt.Sprintf("%d will be delivered again", len(letters)-1))
		for range len(letters) - 1 {
			_, got := e.next(l)
			delete(letters, got.jti())
		}
		if len(letters) != 1 {
			t.Errorf("%d did not come back", len(letters)-1)
		}
	})
}

// PSH-04, PSH-05: what may pass is tried again, under the same jti, after a while that grows, and not before the receiver wants
// it; what comes after it about the same user waits for it.
func TestPush_triedAgain(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		e := newEndpoint(t, httptest.NewServer)
		l := s.listen(pushTo(e.URL))
		alex := s.token("alex", demoPassword)
		db := s.outboxOf()
		pushable := func(after time.Duration) bool {
			t.Helper()
			ids, err := db.Pushable(t.Context(), s.clock.now().Add(after))
			if err != nil {
				t.Fatal(err)
			}
			return len(ids) > 0
		}
		// Each answer, how long nothing is sent after it at least, and when it is sent again at the latest.
		type try struct {
			answer  func(http.ResponseWriter, *http.Request)
			rest    time.Duration
			because string
		}
		tries := []try{
			{status(500), 3 * time.Second, "answer 500"}, {status(503), 7 * time.Second, "answer 503"},
			{status(429, "Retry-After", "300"), 290 * time.Second, "answer 429"},
			{status(503, "Retry-After", "junk"), 25 * time.Second, "answer 503"},
			{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 50 * time.Second, "the receiver cannot be reached"},
			{status(503, "Retry-After", s.clock.now().Add(5*time.Hour).UTC().Format(http.TimeFormat)), 59 * time.Minute, "answer 503"}, // an hour at most
			{status(503, "Retry-After", "99999999999999999999"), 59 * time.Minute, "answer 503"},
		}
		e.answers(tries[0].answer)
		s.want(s.change(alex, map[string]string{"username": "alex.one"}), http.StatusOK, "")
		first := ""
		for i, one := range tries {
			_, got := e.next(l)
			if first == "" {
				first = got.jti()
			}
			if got.jti() != first {
				t.Errorf("try %d has another id", i)
			}
			if i == 0 {
				s.want(s.change(alex, map[string]string{"username": "alex.two"}), http.StatusOK, "")
			}
			l.idle()
			if pushable(one.rest) {
				t.Errorf("try %d is repeated within %s", i, one.rest)
			}
			if fields := l.row(); !strings.Contains(fields, one.because) {
				t.Errorf("try %d: %s", i, fields)
			}
			if i+1 < len(tries) {
				e.answers(tries[i+1].answer)
			} else {
				e.answers(nil)
			}
			s.clock.advance(one.rest*2 + time.Minute)
		}
		var names []string
		for range 2 {
			_, got := e.next(l)
			_, claims := got.event()
			names = append(names, claims["new_username"].(string))
		}
		if diff := cmp.Diff([]string{"alex.one", "alex.two"}, names); diff != "" {
			t.Errorf("order: %s", diff)
		}
		l.idle()
		if fields := strings.Fields(l.row()); fields[4] != "0" || fields[7] != "0" {
			t.Errorf("afterwards: %v", fields)
		}
		l.counted("postponed", len(tries))
	})
}

// A receiver that is slow to take one event still gets the rest of a backlog, and the slow one is delivered too.
func TestPush_slowAnswer(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		e := newEndpoint(t, httptest.NewServer)
		l, ada := s.listen(pushTo(e.URL)), s.token("ada", demoPassword)
		status := func(status string) {
			s.want(s.call(http.MethodPost, "/ssf/status", l.token, map[string]string{"stream_id": l.id, "status": status}), http.StatusOK, "")
		}
		status("paused")
		ids := s.crowd(40) // more than are claimed together
		for i, id := range ids {
			s.want(s.call(http.MethodPatch, "/admin/users/"+id+"/credentials", ada, map[string]string{"username": fmt.Sprintf("renamed%d", i)}), http.StatusOK, "")
		}
		rest := make(chan struct{})
		var first sync.Once
		e.answers(func(w http.ResponseWriter, r *http.Request) {
			first.Do(func() {
				select {
				case <-rest:
				case <-r.Context().Done(): // the service has lost its patience
				}
			})
			w.WriteHeader(http.StatusAccepted)
		})
		status("enabled")
		for range ids {
			e.next(l)
		}
		close(rest)
		l.counted("delivered", len(ids))
		l.counted("postponed", 0)
	})
}

// PSH-05: a process that is killed between taking an event and noting that it was sent sends it again, with the same jti.
func TestPush_survivesKill(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			folder := dataFolder(t, url)
			e := newEndpoint(t, httptest.NewServer)
			hang := make(chan struct{})
			e.answers(func(http.ResponseWriter, *http.Request) { <-hang })
			p := startProgram(t, url, folder)
			l := p.listen(pushTo(e.URL))
			p.want(p.change(p.token("alex", demoPassword), map[string]string{"username": "alex.reed"}), http.StatusOK, "")
			_, before := e.next(l)
			p.kill()
			close(hang)
			e.answers(nil)
			execute(t, url, "UPDATE stream_deliveries SET due_at = created_at WHERE lease <> ''") // the lease is over
			next := startProgram(t, url, folder)
			l.service = next.service
			l.keys = nil // those of the first process verify, as the second publishes them too
			_, after := e.next(l)
			if before.jti() != after.jti() || before.claims["iat"] != after.claims["iat"] {
				t.Errorf("%v became %v", before.claims, after.claims)
			}
		})
	}
}

// PSH-05: replicas share the work: each event arrives once, and those of one user in their order, whichever replica saved the
// change and whichever sends it.
func TestPush_replicas(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			replicas := []*service{start(t, url, "PUBLIC_URL=http://127.0.0.1"), start(t, url, "PUBLIC_URL=http://127.0.0.1")}
			e := newEndpoint(t, httptest.NewServer)
			l := replicas[1].listen(pushTo(e.URL))
			ada := replicas[1].token("ada", demoPassword)
			ids := replicas[0].crowd(8)
			const renames = 6
			var running sync.WaitGroup
			for u, id := range ids {
				running.Go(func() {
					for i := range renames {
						a, err := replicas[(u+i)%2].try(http.MethodPatch, "/admin/users/"+id+"/credentials", ada, map[string]string{"username": fmt.Sprintf("user%d.%d", u, i)})
						if err != nil || a.status != http.StatusOK {
							t.Errorf("%v %d %s", err, a.status, a.raw)
						}
					}
				})
			}
			running.Wait()
			seen, last := map[string]bool{}, map[string]float64{}
			for range len(ids) * renames {
				_, got := e.next(l)
				_, claims := got.event()
				if seen[got.jti()] {
					t.Errorf("%s arrived twice", got.jti())
				}
				seen[got.jti()] = true
				version := claims["version"].(float64)
				if version <= last[got.user()] {
					t.Errorf("version %v of %s after %v", version, got.user(), last[got.user()])
				}
				last[got.user()] = version
			}
			l.idle()
			if more := len(e.arrived); more != 0 {
				t.Errorf("%d more arrived", more)
			}
			l.until("each is counted once", func() bool {
				const delivered = `credentials_signals_total{outcome="delivered"}`
				return replicas[0].metric(delivered)+replicas[1].metric(delivered) == float64(len(ids)*renames)
			})
		})
	}
}

// SSF-11, API7: no push reaches an address inside, however the URL says it, unless the operator allows the network.
func TestPush_addresses(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		e := newEndpoint(t, httptest.NewServer)
		port := e.URL[strings.LastIndex(e.URL, ":"):]
		token := s.serviceToken("ssf.manage")
		for _, wrong := range []string{
			"http://router.example.com/", "http://10.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "https:///x", "//router.example.com",
			"https://user:pw@router.example.com/", "https://router.example.com/#x", "https:router.example.com", "router.example.com", "", "https://r\u00e9.example/",
			"https://router.example.com/ x", "https://" + strings.Repeat("x", 2048),
		} {
			if a := s.streams(http.MethodPost, token, pushTo(wrong)); a.status != http.StatusBadRequest {
				t.Errorf("%.40q: %d %s", wrong, a.status, a.raw)
			}
		}
		l := s.listen(pushTo(e.URL))
		alex := s.token("alex", demoPassword)
		const refused, perhaps = "not a public address", "cannot be reached" // perhaps: where it is no address, or not of this machine
		for i, to := range []struct{ url, or string }{
			{"http://127.0.0.1" + port, refused}, {"http://localhost" + port, refused}, // a name that stands for an address inside, as in DNS rebinding
			{"https://169.254.169.254/latest/meta-data", refused}, {"https://10.1.2.3/", refused}, {"https://[::ffff:127.0.0.1]" + port, refused},
			{"http://[::1]" + port, perhaps}, {"https://2130706433" + port, perhaps}, {"https://0x7f.1" + port, perhaps},
		} {
			s.want(s.streams(http.MethodPut, token, merge(pushTo(to.url), "stream_id", l.id)), http.StatusOK, "")
			s.want(s.change(alex, map[string]string{"username": fmt.Sprintf("alex.%d", i)}), http.StatusOK, "")
			s.clock.advance(time.Hour)
			alex, token = s.token(fmt.Sprintf("alex.%d", i), demoPassword), s.serviceToken("ssf.manage")
			s.until("it has been tried", func() bool { return strings.Fields(l.row())[7] != "0" })
			if row := l.row(); !strings.Contains(row, refused) && !strings.Contains(row, to.or) {
				t.Errorf("%s: %s", to.url, row)
			}
		}
		if got := len(e.arrived); got != 0 {
			t.Errorf("%d arrived", got)
		}
	}, "SIGNALS_ALLOWED_NETWORKS=192.0.2.0/24")
}

func merge(body map[string]any, name string, value any) map[string]any {
	body[name] = value
	return body
}
