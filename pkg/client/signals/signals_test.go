package signals_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/pkg/client"
	"github.com/salesexec/credentials/pkg/client/bearer"
	"github.com/salesexec/credentials/pkg/client/signals"
)

const (
	issuer   = "https://credentials.example"
	receiver = "lead-router"
)

var (
	start                    = time.Unix(1_800_000_000, 0).UTC()
	_     signals.Stream     = (*client.Client)(nil)
	_     bearer.Revocations = (*signals.View)(nil)
)

// transmitter publishes keys and signs what it is told.
type transmitter struct {
	*httptest.Server
	key *rsa.PrivateKey

	mu        sync.Mutex
	at        time.Time
	published bool
	fetches   int
}

func newTransmitter(t testing.TB) *transmitter {
	t.Helper()
	tr, err := makeTransmitter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

func makeTransmitter() (*transmitter, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	tr := &transmitter{key: key, at: start, published: true}
	tr.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.fetches++
		keys := []map[string]string{}
		if tr.published {
			keys = append(keys, map[string]string{
				"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	}))
	return tr, nil
}

func (tr *transmitter) now() time.Time {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.at
}

func (tr *transmitter) set(change func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	change()
}

func (tr *transmitter) verifier(t testing.TB) *signals.Verifier {
	t.Helper()
	v, err := signals.NewVerifier(signals.Config{Issuer: issuer, Audience: receiver, KeysURL: tr.URL, Now: tr.now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// claims are those of a good SET: every session of a user has ended.
func claims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": issuer, "aud": receiver, "jti": "e1", "iat": start.Unix(), "txn": "t1",
		"sub_id": map[string]any{"format": "iss_sub", "iss": issuer, "sub": "u_814"},
		"events": map[string]any{signals.SessionRevoked: map[string]any{"generation": 3}},
	}
}

func (tr *transmitter) sign(t testing.TB, header map[string]any, c jwt.MapClaims) string {
	t.Helper()
	signed, err := tr.signed(header, c)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (tr *transmitter) signed(header map[string]any, c jwt.MapClaims) (string, error) {
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, c)
	unsigned.Header["typ"], unsigned.Header["kid"] = "secevent+jwt", "k1"
	maps.Copy(unsigned.Header, header)
	return unsigned.SignedString(tr.key)
}

// SET-01 to SET-04, SET-06, SET-08: what a good SET says.
func TestVerifier(t *testing.T) {
	tr := newTransmitter(t)
	e, err := tr.verifier(t).Verify(t.Context(), tr.sign(t, nil, claims()))
	if err != nil {
		t.Fatal(err)
	}
	want := signals.Event{ID: "e1", Type: signals.SessionRevoked, Txn: "t1", IssuedAt: start, UserID: "u_814", Claims: json.RawMessage(`{"generation":3}`)}
	e.IssuedAt = e.IssuedAt.UTC()
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
}

// SET-01 to SET-04, SET-08, SET-09: whatever is wrong with a SET is named by a code of RFC 8935 section 2.4.
func TestVerifier_refuses(t *testing.T) {
	tr := newTransmitter(t)
	v := tr.verifier(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, value any) string {
		c := claims()
		c[name] = value
		if value == nil {
			delete(c, name)
		}
		return tr.sign(t, nil, c)
	}
	forged := &transmitter{key: other}
	hmac, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims()).SignedString(tr.key.N.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	good := tr.sign(t, nil, claims())
	for name, c := range map[string]struct{ set, code string }{
		"empty":              {"", "invalid_request"},
		"no JWT":             {"a.b.c", "invalid_request"},
		"too long":           {good + strings.Repeat("A", 64<<10), "invalid_request"},
		"access token":       {tr.sign(t, map[string]any{"typ": "at+jwt"}, claims()), "invalid_request"},
		"plain JWT":          {tr.sign(t, map[string]any{"typ": "JWT"}, claims()), "invalid_request"},
		"critical header":    {tr.sign(t, map[string]any{"crit": []string{"x"}}, claims()), "invalid_request"},
		"no key id":          {tr.sign(t, map[string]any{"kid": ""}, claims()), "invalid_key"},
		"unknown key":        {tr.sign(t, map[string]any{"kid": "k2"}, claims()), "invalid_key"},
		"another signature":  {forged.sign(t, nil, claims()), "invalid_key"},
		"HMAC with the key":  {hmac, "invalid_key"},
		"another issuer":     {with("iss", issuer+"/"), "invalid_issuer"},
		"another audience":   {with("aud", "dialler"), "invalid_audience"},
		"no audience":        {with("aud", nil), "invalid_audience"},
		"sub":                {with("sub", "u_814"), "invalid_request"},
		"exp":                {with("exp", start.Unix()+60), "invalid_request"},
		"no jti":             {with("jti", nil), "invalid_request"},
		"no iat":             {with("iat", nil), "invalid_request"},
		"no subject":         {with("sub_id", nil), "invalid_request"},
		"an e-mail":          {with("sub_id", map[string]any{"format": "email", "email": "a@example.com"}), "invalid_request"},
		"another's subject":  {with("sub_id", map[string]any{"format": "iss_sub", "iss": "https://other.example", "sub": "u_814"}), "invalid_request"},
		"a stream's subject": {with("sub_id", map[string]any{"format": "opaque", "id": "u_814"}), "invalid_request"},
		"no event":           {with("events", map[string]any{}), "invalid_request"},
		"two events":         {with("events", map[string]any{"a": map[string]any{}, "b": map[string]any{}}), "invalid_request"},
	} {
		v := v
		if name == "unknown key" {
			v = tr.verifier(t)
		} else if _, err := v.Verify(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		_, err := v.Verify(t.Context(), c.set)
		refused, is := errors.AsType[*signals.RefusedError](err)
		if !is || refused.Code != c.code {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
}

// A key that was published after the keys were fetched is not refused but asked for later, at most once a minute.
func TestVerifier_newKey(t *testing.T) {
	tr := newTransmitter(t)
	tr.set(func() { tr.published = false })
	v := tr.verifier(t)
	set := tr.sign(t, nil, claims())
	if _, err := v.Verify(t.Context(), set); err == nil {
		t.Error("it was taken without a key")
	}
	tr.set(func() { tr.published = true })
	for range 3 {
		if _, err := v.Verify(t.Context(), set); !errors.Is(err, signals.ErrUnavailable) {
			t.Errorf("within the minute: %v", err)
		}
	}
	tr.set(func() { tr.at = tr.at.Add(time.Minute) })
	if _, err := v.Verify(t.Context(), set); err != nil {
		t.Errorf("after the minute: %v", err)
	}
	if tr.fetches != 2 {
		t.Errorf("%d fetches", tr.fetches)
	}
	tr.Close()
	tr.set(func() { tr.at = tr.at.Add(time.Hour) })
	if _, err := v.Verify(t.Context(), set); err != nil {
		t.Errorf("with the service gone: %v", err)
	}
}

// A SET from the future tells of a wrong clock. It is not refused, which would lose it, but taken once its time has come.
func TestVerifier_clockBehind(t *testing.T) {
	tr := newTransmitter(t)
	v := tr.verifier(t)
	c := claims()
	c["iat"] = start.Unix() + 61
	set := tr.sign(t, nil, c)
	if _, err := v.Verify(t.Context(), set); !errors.Is(err, signals.ErrUnavailable) {
		t.Errorf("a minute and a second ahead: %v", err)
	}
	tr.set(func() { tr.at = tr.at.Add(time.Second) })
	if _, err := v.Verify(t.Context(), set); err != nil {
		t.Errorf("a minute ahead: %v", err)
	}
}

func TestNewVerifier_refuses(t *testing.T) {
	for _, config := range []signals.Config{
		{Audience: receiver}, {Issuer: issuer}, {Issuer: "credentials", Audience: receiver}, {Issuer: issuer, Audience: receiver, KeysURL: "ftp://x"},
	} {
		if _, err := signals.NewVerifier(config); err == nil {
			t.Errorf("%+v was taken", config)
		}
	}
}

// PSH-01 to PSH-03, PSH-05: what a pushed event is answered, and that one which comes again is handled once.
func TestReceiver(t *testing.T) {
	tr := newTransmitter(t)
	handled, failing := 0, true
	r := signals.NewReceiver(tr.verifier(t), "Bearer 9f2c", func(context.Context, signals.Event) error {
		if failing {
			return errors.New("not now")
		}
		handled++
		return nil
	})
	push := func(method, authorization, media, set string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(method, "/events", strings.NewReader(set))
		request.Header.Set("Content-Type", media)
		request.Header.Set("Authorization", authorization)
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		return answer
	}
	const media = "application/secevent+jwt"
	good := tr.sign(t, nil, claims())
	if a := push("POST", "Bearer 9f2c", media, good); a.Code != http.StatusServiceUnavailable {
		t.Errorf("what was not handled is answered %d", a.Code)
	}
	failing = false
	for range 3 {
		if a := push("POST", "Bearer 9f2c", media, good); a.Code != http.StatusAccepted || a.Body.Len() != 0 {
			t.Errorf("a good one: %d %s", a.Code, a.Body)
		}
	}
	if handled != 1 {
		t.Errorf("handled %d times", handled)
	}
	if a := push("GET", "Bearer 9f2c", media, good); a.Code != http.StatusMethodNotAllowed || a.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d", a.Code)
	}
	wrong := claims()
	wrong["iss"] = "https://other.example"
	for code, a := range map[string]*httptest.ResponseRecorder{
		"authentication_failed": push("POST", "Bearer 9f2d", media, good),
		"invalid_request":       push("POST", "Bearer 9f2c", "application/jwt", good),
		"invalid_issuer":        push("POST", "Bearer 9f2c", media, tr.sign(t, nil, wrong)),
	} {
		var body map[string]string
		if err := json.Unmarshal(a.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if a.Code != http.StatusBadRequest || body["err"] != code || body["description"] == "" || len(body) != 2 ||
			a.Header().Get("Content-Type") != "application/json" || a.Header().Get("Content-Language") != "en" {
			t.Errorf("%s: %d %v %v", code, a.Code, body, a.Header())
		}
	}
}

// script answers polls one after the other, and then ends the poller.
type script struct {
	answers []func() (*client.Polled, error)
	said    []client.Poll
	end     context.CancelFunc
}

func (s *script) PollStream(_ context.Context, id string, poll client.Poll) (*client.Polled, error) {
	s.said = append(s.said, poll)
	if len(s.answers) == 0 {
		s.end()
		return &client.Polled{}, nil
	}
	next := s.answers[0]
	s.answers = s.answers[1:]
	return next()
}

func sets(pairs ...string) func() (*client.Polled, error) {
	return func() (*client.Polled, error) {
		answer := &client.Polled{Sets: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			answer.Sets[pairs[i]] = pairs[i+1]
		}
		return answer, nil
	}
}

// POL-01, POL-04: events are acknowledged when they are handled, refused when they cannot be verified, and left to come again when
// they were not handled; one that comes again after it was handled is acknowledged and not handled.
func TestPoller(t *testing.T) {
	tr := newTransmitter(t)
	named := func(id string) string { c := claims(); c["jti"] = id; return tr.sign(t, nil, c) }
	foreign := claims()
	foreign["jti"], foreign["aud"] = "e3", "dialler"
	ctx, end := context.WithCancel(t.Context())
	defer end()
	s := &script{end: end, answers: []func() (*client.Polled, error){
		sets("e1", named("e1"), "e2", named("e2"), "e3", tr.sign(t, nil, foreign), "e4", named("e1")),
		sets("e1", named("e1"), "e2", named("e2")),
		func() (*client.Polled, error) { return nil, &client.Error{Status: http.StatusServiceUnavailable} },
	}}
	var handled []string
	p := signals.NewPoller(s, "s1", tr.verifier(t), func(_ context.Context, e signals.Event) error {
		handled = append(handled, e.ID)
		if len(handled) == 2 {
			return errors.New("not now")
		}
		return nil
	})
	var pauses []time.Duration
	p.SetWait(func(_ context.Context, d time.Duration) error { pauses = append(pauses, d); return nil })
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"e1", "e2", "e2"}, handled); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]time.Duration{250 * time.Millisecond, 250 * time.Millisecond}, pauses); diff != "" {
		t.Error(diff)
	}
	var said []string
	for _, poll := range s.said {
		line := strings.Join(poll.Ack, " ")
		for _, id := range []string{"e3", "e4"} {
			if e, there := poll.SetErrs[id]; there {
				line += " " + id + "=" + e.Err
			}
		}
		if poll.MaxEvents != nil {
			line += " end"
		}
		said = append(said, line)
	}
	want := []string{"", "e1 e3=invalid_audience e4=invalid_request", "e1 e2", "e1 e2", "e1 e2 end"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
}

// A poller whose stream is gone ends with the reason.
func TestPoller_ends(t *testing.T) {
	tr := newTransmitter(t)
	gone := &script{answers: []func() (*client.Polled, error){
		func() (*client.Polled, error) { return nil, &client.Error{Status: http.StatusNotFound} },
	}}
	err := signals.NewPoller(gone, "s1", tr.verifier(t), nil).Run(t.Context())
	if e, is := errors.AsType[*client.Error](err); !is || e.Status != http.StatusNotFound {
		t.Error(err)
	}
}

// peers bug 9: a token of an older generation, and one of an ended session, is revoked; no other is, and nothing is kept for longer
// than tokens live.
func TestView(t *testing.T) {
	at := start
	v := signals.NewView(15*time.Minute, func() time.Time { return at })
	tell := func(kind, userID, sessionID, claims string) {
		if err := v.Handle(t.Context(), signals.Event{Type: kind, UserID: userID, SessionID: sessionID, Claims: json.RawMessage(claims)}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what, userID, sessionID string, generation int64, want bool) {
		t.Helper()
		if got := v.Revoked(userID, sessionID, generation); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	check("nothing is known", "u1", "s1", 1, false)
	tell(signals.SessionRevoked, "u1", "", `{"generation":3}`)
	tell(signals.SessionRevoked, "u1", "", `{"generation":2}`) // late
	tell(signals.SessionRevoked, "u2", "s2", `{}`)
	tell(signals.SessionRevoked, "u3", "", `{}`)
	tell(signals.CredentialChange, "u4", "", `{}`)
	check("older generation", "u1", "s1", 2, true)
	check("new generation", "u1", "s1", 3, false)
	check("another user", "u9", "s1", 2, false)
	check("ended session", "u2", "s2", 7, true)
	check("another session", "u2", "s3", 0, false)
	check("all sessions, no generation said", "u3", "s4", 99, true)
	check("another event", "u4", "s5", 0, false)
	// By a clock that is a minute behind the service's, a token from just before the event expires a minute after the lifetime, and a
	// verifier may allow it another.
	at = at.Add(17*time.Minute - time.Second)
	check("while the last token may be taken", "u1", "s1", 2, true)
	check("while the last token may be taken, session", "u2", "s2", 7, true)
	at = at.Add(time.Second)
	check("after the lifetime", "u1", "s1", 2, false)
	check("after the lifetime, session", "u2", "s2", 7, false)
	tell(signals.SessionRevoked, "u3", "", `{"generation":5}`)
	check("forgotten is forgotten", "u3", "s4", 5, false)
	if err := v.Handle(t.Context(), signals.Event{Type: signals.SessionRevoked, UserID: "u1", Claims: json.RawMessage(`[]`)}); err == nil {
		t.Error("claims that cannot be read were passed over")
	}
}

// Any number of goroutines use a view.
func TestView_parallel(t *testing.T) {
	v := signals.NewView(time.Minute, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for g := range int64(100) {
				_ = v.Handle(t.Context(), signals.Event{Type: signals.SessionRevoked, UserID: "u1", Claims: json.RawMessage(`{"generation":100}`)})
				if !v.Revoked("u1", "", g) {
					t.Errorf("%d: generation %d is alive", i, g)
				}
			}
		})
	}
	all.Wait()
}
