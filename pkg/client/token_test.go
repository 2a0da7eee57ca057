package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/pkg/client"
)

// issuer gives tokens of 900 seconds and takes the newest alone, as if every earlier one had been revoked.
type issuer struct {
	mu       sync.Mutex
	issued   int            // tokens so far
	good     string         // the token that is accepted
	asked    map[string]int // requests by path
	down     bool           // the endpoints of tokens are out of order
	disabled bool           // they refuse everybody
	strict   bool           // no token is accepted
	claims   []string       // the X-On-Behalf-Of of requests for tokens
	arrived  chan struct{}  // receives with each request for a token, if not nil
	release  chan struct{}  // a request for a token waits for it, if not nil
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/oauth/token" || r.URL.Path == "/sessions/refresh" {
		if i.arrived != nil {
			i.arrived <- struct{}{}
			<-i.release
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.asked == nil {
		i.asked = map[string]int{}
	}
	i.asked[r.URL.Path]++
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/oauth/token", "/sessions/refresh":
		i.claims = append(i.claims, r.Header.Get("X-On-Behalf-Of"))
		var sent client.SessionRefresh
		_ = json.NewDecoder(r.Body).Decode(&sent) // a form stays empty
		if i.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if i.disabled || sent.RefreshToken == "ended" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		i.issue(w)
	case "/users/me/credentials":
		if i.strict || r.Header.Get("Authorization") != "Bearer "+i.good {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPatch {
			i.issued++
			i.good = fmt.Sprintf("access-%d", i.issued)
			_, _ = fmt.Fprintf(w, `{"username":"maria","access_token":%q,"refresh_token":"refresh-%d","expires_in":900}`, i.good, i.issued)
			return
		}
		_, _ = io.WriteString(w, credentialsJSON)
	}
}

func (i *issuer) issue(w http.ResponseWriter) {
	i.issued++
	i.good = fmt.Sprintf("access-%d", i.issued)
	_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":900,"scope":"users:read","refresh_token":"refresh-%d","session_id":"s1","must_change_password":false}`, i.good, i.issued)
}

func (i *issuer) serve(t *testing.T, opts ...client.Option) *client.Client {
	t.Helper()
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, append([]client.Option{client.WithHTTPClient(server.Client())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantToken(t *testing.T, c *client.Client, want string) {
	t.Helper()
	if got, err := c.Token(t.Context()); err != nil || got != want {
		t.Errorf("got the token %q, %v, not %q", got, err, want)
	}
}

// A token is kept until a minute before it expires.
func TestWithClientCredentials_keepsTheToken(t *testing.T) {
	i, clock := &issuer{}, newClock()
	c := i.serve(t, client.WithClientCredentials("dialer", "s"), clock.option())
	for _, step := range []struct {
		ahead time.Duration
		want  string
	}{{0, "access-1"}, {14*time.Minute - time.Second, "access-1"}, {time.Second, "access-2"}, {time.Minute, "access-2"}, {time.Hour, "access-3"}} {
		clock.advance(step.ahead)
		wantToken(t, c, step.want)
		if _, _, err := c.GetMyCredentials(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if i.asked["/oauth/token"] != 3 {
		t.Errorf("%d tokens were asked for, not 3", i.asked["/oauth/token"])
	}
}

// Parallel callers cause one request for a token; it is made for none of them, and one that gives up does not end it.
func TestWithClientCredentials_onceForAll(t *testing.T) {
	i := &issuer{arrived: make(chan struct{}, 100), release: make(chan struct{})}
	c := i.serve(t, client.WithClientCredentials("dialer", "s"))
	impatient, giveUp := context.WithCancel(client.OnBehalfOf(t.Context(), "u9"))
	gaveUp := make(chan error)
	go func() {
		_, err := c.Token(impatient)
		gaveUp <- err
	}()
	<-i.arrived
	giveUp()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if _, _, err := c.GetMyCredentials(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	close(i.release)
	callers.Wait()
	if i.asked["/oauth/token"] != 1 || i.claims[0] != "" {
		t.Errorf("%d tokens were asked for, on behalf of %q", i.asked["/oauth/token"], i.claims)
	}
}

// A refused token is replaced once, and the call repeated once, even one that must not be repeated after a failure.
func TestWithClientCredentials_replacesARefusedToken(t *testing.T) {
	i := &issuer{}
	c := i.serve(t, client.WithClientCredentials("dialer", "s"))
	wantToken(t, c, "access-1")
	i.good = "revoked"
	if _, _, err := c.ChangeMyCredentials(t.Context(), client.OwnCredentialsChange{Username: pointer("maria")}, ""); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"/oauth/token": 2, "/users/me/credentials": 2}; cmp.Diff(want, i.asked) != "" {
		t.Errorf("asked for %v", i.asked)
	}
	i.strict = true
	if _, _, err := c.GetMyCredentials(t.Context()); asError(t, err).Status != http.StatusUnauthorized {
		t.Errorf("got %v", err)
	}
	if want := map[string]int{"/oauth/token": 3, "/users/me/credentials": 4}; cmp.Diff(want, i.asked) != "" {
		t.Errorf("asked for %v", i.asked)
	}
}

// Callers whose token was refused at the same time get one new token.
func TestWithClientCredentials_refusedForAll(t *testing.T) {
	i := &issuer{}
	c := i.serve(t, client.WithClientCredentials("dialer", "s"))
	wantToken(t, c, "access-1")
	i.good = "revoked"
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if _, _, err := c.GetMyCredentials(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if i.asked["/oauth/token"] != 2 {
		t.Errorf("%d tokens were asked for, not 2", i.asked["/oauth/token"])
	}
}

// While no token can be had the last one does, until it has expired. A refusal of the service counts at once.
func TestWithClientCredentials_outage(t *testing.T) {
	i, clock := &issuer{}, newClock()
	c := i.serve(t, client.WithClientCredentials("dialer", "s"), clock.option(), client.WithRetries(0))
	wantToken(t, c, "access-1")
	i.down = true
	clock.advance(14*time.Minute + 59*time.Second)
	wantToken(t, c, "access-1")
	clock.advance(time.Second)
	if _, err := c.Token(t.Context()); asError(t, err).Status != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
	i.down = false
	wantToken(t, c, "access-2")
	i.disabled = true
	clock.advance(14*time.Minute + 30*time.Second)
	if _, err := c.Token(t.Context()); asError(t, err).Status != http.StatusUnauthorized {
		t.Errorf("got %v", err)
	}
}

// What a source does for a call is not the call: it is neither repeated with the call's key nor made for the call's user.
func TestWithToken_aside(t *testing.T) {
	s := &script{steps: []step{{503, "unavailable", ""}}}
	var c *client.Client
	c = scripted(t, s, newClock().option(), client.WithToken(func(ctx context.Context) (string, error) {
		return "", last(c.SignIn(ctx, "maria", "pw"))
	}))
	_, _, err := c.ResetPassword(client.OnBehalfOf(t.Context(), "u9"), "u1", client.PasswordReset{}, "")
	if client.CodeOf(err) != client.ProblemCodeUnavailable || len(s.requests) != 1 {
		t.Fatalf("got %v after %d requests", err, len(s.requests))
	}
	if h := s.requests[0].Header; h.Get("Idempotency-Key") != "" || h.Get("X-On-Behalf-Of") != "" {
		t.Errorf("the sign-in was sent with %v", h)
	}
}

// A source that answers the same token after a refusal is not asked a third time, and the refusal is the answer.
func TestWithToken_sameTokenAgain(t *testing.T) {
	i, asked := &issuer{good: "another"}, 0
	c := i.serve(t, client.WithToken(func(context.Context) (string, error) { asked++; return "tok", nil }))
	_, _, err := c.GetMyCredentials(t.Context())
	if asError(t, err).Status != http.StatusUnauthorized || asked != 2 || i.asked["/users/me/credentials"] != 1 {
		t.Errorf("got %v after asking %d times", err, asked)
	}
}

// Without a source there is no token.
func TestClient_Token_none(t *testing.T) { wantToken(t, (&issuer{}).serve(t), "") }

// A session's tokens are refreshed when they are about to expire, replaced by those of a changed password, and each new pair is
// told before it is used.
func TestWithSession(t *testing.T) {
	i, clock := &issuer{good: "access-0"}, newClock()
	var stored []string
	c := i.serve(t, clock.option(), client.WithSession(client.SessionTokens{AccessToken: "access-0", RefreshToken: "refresh-0", ExpiresIn: 900, SessionID: "s1", MustChangePassword: true},
		func(_ context.Context, tokens client.SessionTokens) error {
			stored = append(stored, fmt.Sprint(tokens.AccessToken, " ", tokens.RefreshToken, " ", tokens.SessionID, " ", tokens.MustChangePassword))
			return nil
		}))
	wantToken(t, c, "access-0")
	if _, _, err := c.ChangeMyCredentials(t.Context(), client.OwnCredentialsChange{NewPassword: pointer("pw")}, ""); err != nil {
		t.Fatal(err)
	}
	wantToken(t, c, "access-1")
	clock.advance(15 * time.Minute)
	wantToken(t, c, "access-2")
	i.good = "ended" // as if another replica had ended every token
	if _, _, err := c.GetMyCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"access-1 refresh-1 s1 false", "access-2 refresh-2 s1 false", "access-3 refresh-3 s1 false"}
	if diff := cmp.Diff(want, stored); diff != "" {
		t.Error(diff)
	}
}

// A session that is over says so, and tokens that cannot be stored are not used.
func TestWithSession_failures(t *testing.T) {
	i := &issuer{}
	c := i.serve(t, client.WithSession(client.SessionTokens{AccessToken: "old", RefreshToken: "ended", ExpiresIn: 900}, nil))
	if _, _, err := c.GetMyCredentials(t.Context()); asError(t, err).Status != http.StatusUnauthorized {
		t.Errorf("got %v", err)
	}
	full := errors.New("disk full")
	clock := newClock()
	c = i.serve(t, clock.option(), client.WithSession(client.SessionTokens{AccessToken: "old", RefreshToken: "refresh-0", ExpiresIn: 900},
		func(context.Context, client.SessionTokens) error { return full }))
	clock.advance(time.Hour)
	if _, _, err := c.GetMyCredentials(t.Context()); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// A refresh that a password change has overtaken does not bring the ended tokens back.
func TestWithSession_overtakenRefresh(t *testing.T) {
	arrived, release := make(chan struct{}), map[string]chan struct{}{http.MethodPatch: make(chan struct{}), http.MethodPost: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release[r.Method]
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPatch {
			_, _ = io.WriteString(w, `{"username":"maria","access_token":"changed","refresh_token":"of the change","expires_in":900}`)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"ended","refresh_token":"ended","expires_in":900}`)
	}))
	t.Cleanup(server.Close)
	clock := newClock()
	c, err := client.New(server.URL, clock.option(), client.WithSession(client.SessionTokens{AccessToken: "first", RefreshToken: "first", ExpiresIn: 900}, nil))
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	calls.Go(func() {
		if _, _, err := c.ChangeMyCredentials(t.Context(), client.OwnCredentialsChange{}, ""); err != nil {
			t.Error(err)
		}
		close(release[http.MethodPost]) // the refresh is answered after the change
	})
	<-arrived
	clock.advance(time.Hour)
	calls.Go(func() { wantToken(t, c, "changed") })
	<-arrived
	close(release[http.MethodPatch])
	calls.Wait()
	wantToken(t, c, "changed")
}
