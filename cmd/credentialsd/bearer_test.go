package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/salesexec/credentials/pkg/client"
	"github.com/salesexec/credentials/pkg/client/bearer"
	events "github.com/salesexec/credentials/pkg/client/signals"
)

// neighbour is another service, which takes the tokens of the service under test.
type neighbour struct {
	t   *testing.T
	url string
}

// newNeighbour serves /me to everybody with a good token, and /scoped to those with the scope users:read.
func newNeighbour(s *service, revocations bearer.Revocations) neighbour {
	s.t.Helper()
	verifier, err := bearer.New(bearer.Config{Issuer: s.demo.URL, Audience: "salesexec", Revocations: revocations, Now: s.clock.now})
	if err != nil {
		s.t.Fatal(err)
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.From(r.Context())
		_, _ = io.WriteString(w, claims.Subject+" of "+claims.AccountID) // a broken connection shows in the test
	})
	mux := http.NewServeMux()
	mux.Handle("/me", verifier.Require(hello))
	mux.Handle("/scoped", verifier.Require(verifier.RequireScope(hello, "users:read")))
	server := httptest.NewServer(mux)
	s.t.Cleanup(server.Close)
	return neighbour{s.t, server.URL}
}

// wants checks what the neighbour answers to a token.
func (n neighbour) wants(token, path string, status int, body string) {
	n.t.Helper()
	request, err := http.NewRequest(http.MethodGet, n.url+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status || body != "" && string(got) != body {
		n.t.Errorf("%s: got %d %s, %v; want %d %s", path, response.StatusCode, got, err, status, body)
	}
}

// present returns the token that a client calls with now.
func present(t *testing.T, c *client.Client) string {
	t.Helper()
	token, err := c.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// newClient returns a client of the service that goes by the service's time.
func (s *service) newClient(opts ...client.Option) *client.Client {
	s.t.Helper()
	clock := client.WithClock(s.clock.now, func(context.Context, time.Duration) error { return nil })
	c, err := client.New(s.demo.URL, append([]client.Option{client.WithHTTPClient(s.http), clock}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// Another service takes the tokens that clients keep: a user's over a changed password and a refresh, and a service's.
func TestBearer_atAnotherService(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	n, ctx, alex := newNeighbour(s, nil), t.Context(), s.user("alex")
	tokens, err := s.newClient().SignIn(ctx, "alex", demoPassword)
	if err != nil {
		t.Fatal(err)
	}
	var stored client.SessionTokens
	c := s.newClient(client.WithSession(*tokens, func(_ context.Context, tokens client.SessionTokens) error {
		stored = tokens
		return nil
	}))
	n.wants(present(t, c), "/me", http.StatusOK, alex.ID+" of demo")
	n.wants(present(t, c), "/scoped", http.StatusForbidden, "")
	n.wants(tokens.RefreshToken, "/me", http.StatusUnauthorized, "") // JWT-06

	// Who knows a temporary password gets nowhere but to a new one.
	temporary := s.want(s.reset(s.token("ada", demoPassword), s.user("bo").ID, nil), http.StatusOK, "").text("temporary_password")
	bo := s.want(s.signIn("bo", temporary), http.StatusCreated, "")
	n.wants(bo.text("access_token"), "/me", http.StatusUnauthorized, "")
	refreshed := s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": bo.text("refresh_token")}), http.StatusOK, "")
	n.wants(refreshed.text("access_token"), "/me", http.StatusUnauthorized, "")
	chosen := s.want(s.change(refreshed.text("access_token"), map[string]string{"new_password": "quiet lantern kestrel moss", "current_password": temporary}), http.StatusOK, "")
	n.wants(chosen.text("access_token"), "/me", http.StatusOK, s.user("bo").ID+" of demo")

	// The password change ends the token, and brings the next one.
	if _, _, err := c.ChangeMyCredentials(ctx, client.OwnCredentialsChange{NewPassword: ptr("maple orbit lantern quiet"), CurrentPassword: ptr(demoPassword)}, ""); err != nil {
		t.Fatal(err)
	}
	second := present(t, c)
	if second == tokens.AccessToken || stored.AccessToken != second || stored.SessionID != tokens.SessionID {
		t.Errorf("after the change the client calls with %q, and stored %+v", second, stored)
	}
	if me, _, err := c.GetMe(ctx); err != nil || me.ID != alex.ID {
		t.Errorf("got %+v, %v", me, err)
	}

	// In time the client refreshes; the token from before has expired everywhere.
	s.clock.advance(16 * time.Minute)
	third := present(t, c)
	n.wants(third, "/me", http.StatusOK, alex.ID+" of demo")
	n.wants(second, "/me", http.StatusUnauthorized, "")
	if stored.AccessToken != third {
		t.Error("a refreshed pair was not stored")
	}

	dialer := s.demo.Clients[0]
	machine := s.newClient(client.WithClientCredentials(dialer.ClientID, dialer.ClientSecret, "users:read"))
	if _, err := machine.ListUsers(ctx, client.ListUsersParams{}); err != nil {
		t.Error(err)
	}
	n.wants(present(t, machine), "/scoped", http.StatusOK, dialer.ClientID+" of demo")

	// A session that was ended elsewhere: the client says so instead of trying on.
	s.want(s.reset(s.token("ada", demoPassword), alex.ID, nil), http.StatusOK, "")
	if _, _, err := c.GetMe(ctx); client.CodeOf(err) != client.ProblemCodeUnauthorized {
		t.Errorf("got %v", err)
	}
}

// Peers bug 9: a view that follows the service's events lets another service refuse a token of an older generation without asking anybody.
func TestBearer_withASignalsView(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	view := events.NewView(15*time.Minute, s.clock.now)
	n, alex, bo := newNeighbour(s, view), s.user("alex"), s.user("bo")
	receiver := s.tokenOf("router", s.secretOf("client create router --account demo --scope ssf.manage,ssf.read"))
	stream := s.want(s.call(http.MethodPost, "/ssf/streams", receiver, map[string]any{}), http.StatusCreated, "").text("stream_id")
	verifier, err := events.NewVerifier(events.Config{Issuer: s.demo.URL, Audience: "router", Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	heard := make(chan struct{}, 100)
	poller := events.NewPoller(s.newClient(client.WithToken(func(context.Context) (string, error) { return receiver, nil })), stream, verifier, func(ctx context.Context, e events.Event) error {
		err := view.Handle(ctx, e)
		if e.Type == events.SessionRevoked && e.UserID == alex.ID {
			heard <- struct{}{}
		}
		return err
	})
	ended := make(chan error, 1)
	go func() { ended <- poller.Run(ctx) }()

	dead, other := s.token("alex", demoPassword), s.token("bo", demoPassword)
	n.wants(dead, "/me", http.StatusOK, alex.ID+" of demo")
	changed := s.want(s.change(dead, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "")
	<-heard
	n.wants(dead, "/me", http.StatusUnauthorized, "")
	n.wants(changed.text("access_token"), "/me", http.StatusOK, alex.ID+" of demo")
	n.wants(other, "/me", http.StatusOK, bo.ID+" of demo")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
