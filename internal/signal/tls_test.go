package signal_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

func begin() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// open returns an empty database.
func open(t *testing.T, now func() time.Time) *store.Store {
	t.Helper()
	sealer, err := secret.NewSealer(secret.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Config{
		URL: "sqlite:" + filepath.Join(t.TempDir(), "credentials.db"), Sealer: sealer, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// pushed makes a stream that is pushed to the endpoint, with one verification waiting on it.
func pushed(t *testing.T, s *store.Store, endpoint string) {
	t.Helper()
	event := func() audit.Event {
		return audit.New(audit.StreamCreated, audit.Done, access.Actor{Kind: access.Operator}, user.User{}, access.Origin{}, begin())
	}
	c := client.Client{ID: "router", Name: "router", Scopes: []string{"ssf.manage"}, CreatedAt: begin()}
	if err := s.CreateClient(t.Context(), c, client.Secret{Digest: "digest", CreatedAt: begin()}, event()); err != nil {
		t.Fatal(err)
	}
	stream := signal.Stream{
		ID: uuid.NewString(), ClientID: "router", Audience: "router", Method: signal.Push, Endpoint: endpoint, Status: signal.Enabled, CreatedAt: begin(), Revision: 1,
	}
	if err := s.CreateStream(t.Context(), signal.Saving{Stream: stream, Event: event()}); err != nil {
		t.Fatal(err)
	}
	if err := signal.NewOperator(s, begin).Verify(t.Context(), stream.ID); err != nil {
		t.Fatal(err)
	}
}

// deliver runs a pusher until its one event has had an outcome, and returns that with the error that is kept.
func deliver(t *testing.T, s *store.Store, roots *x509.CertPool, timeout time.Duration) (signal.Outcome, string) {
	t.Helper()
	ring := signal.NewRing(s, time.Hour, begin)
	outcomes := make(chan signal.Outcome, 10)
	pusher := signal.NewPusher(signal.PusherConfig{
		Store: s, Signer: signal.NewSigner("https://credentials.example.com", ring), Hub: signal.NewHub(), Roots: roots, Every: time.Millisecond,
		Timeout: timeout, Now: begin,
		Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Report: signal.Report{
			Observe: func(outcome signal.Outcome, _ time.Duration) { outcomes <- outcome }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		pusher.Run(ctx)
		close(ended)
	}()
	outcome := <-outcomes
	stop()
	<-ended
	streams, err := s.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return outcome, streams[0].LastError
}

// PSH-06: events go to receivers with a trusted certificate, for their name, over TLS 1.2 or later, and to no others.
func TestPush_TLS(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server  func(*tls.Config)
		trusted bool
		host    string
		outcome signal.Outcome
		why     string
	}{
		"trusted":          {func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }, true, "127.0.0.1", signal.Delivered, ""},
		"TLS 1.2":          {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true, "127.0.0.1", signal.Delivered, ""},
		"self-signed":      {func(*tls.Config) {}, false, "127.0.0.1", signal.Postponed, "the receiver's certificate is not trusted"},
		"for another name": {func(*tls.Config) {}, true, "localhost", signal.Postponed, "the receiver's certificate is not trusted"},
		"TLS 1.1":          {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, true, "127.0.0.1", signal.Postponed, "the receiver cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan string, 10)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- r.Header.Get("Content-Type")
				w.WriteHeader(http.StatusAccepted)
			}))
			server.TLS = &tls.Config{}
			server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug)
			test.server(server.TLS)
			server.StartTLS()
			t.Cleanup(server.Close)
			var roots *x509.CertPool
			if test.trusted {
				roots = x509.NewCertPool()
				roots.AddCert(server.Certificate())
			}
			s := open(t, begin)
			pushed(t, s, strings.Replace(server.URL, "127.0.0.1", test.host, 1))
			if outcome, why := deliver(t, s, roots, time.Minute); outcome != test.outcome || why != test.why {
				t.Errorf("%s, %q", outcome, why)
			}
			if got := len(arrived); (got == 1) != (test.outcome == signal.Delivered) {
				t.Errorf("%d arrived", got)
			}
		})
	}
}

// PSH-04: a receiver that does not answer is tried again.
func TestPush_timeout(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hang) })
	s := open(t, begin)
	pushed(t, s, server.URL)
	if outcome, why := deliver(t, s, nil, 50*time.Millisecond); outcome != signal.Postponed || why != "no answer in time" {
		t.Errorf("%s, %q", outcome, why)
	}
}

// SSF-11: a proxy that the environment names is not asked, since it would connect where the guard does not look.
func TestPush_noProxy(t *testing.T) {
	proxied := make(chan struct{}, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied <- struct{}{} }))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("HTTP_PROXY", proxy.URL)
	s := open(t, begin)
	pushed(t, s, "http://receiver.invalid/events")
	if outcome, why := deliver(t, s, nil, time.Minute); outcome != signal.Postponed || why != "the receiver cannot be reached" || len(proxied) != 0 {
		t.Errorf("%s, %q, %d through the proxy", outcome, why, len(proxied))
	}
}

// SET-08: keys are replaced when they are old; the new one is published before it signs, and the old one a while after.
func TestRing(t *testing.T) {
	t.Parallel()
	now := begin()
	clock := func() time.Time { return now }
	s := open(t, clock)
	ring, replica := signal.NewRing(s, 90*24*time.Hour, clock), signal.NewRing(s, 90*24*time.Hour, clock)
	published := func(r *signal.Ring) []string {
		t.Helper()
		var ids []string
		listed, err := r.JWKS(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range listed {
			ids = append(ids, k.ID)
		}
		return ids
	}
	signs := func(r *signal.Ring) string {
		t.Helper()
		raw, err := signal.NewSigner("https://credentials.example.com", r).SET(t.Context(), signal.Stream{}, signal.Delivery{Type: "x", Claims: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		return keyOf(t, raw)
	}
	tend := func(r *signal.Ring) {
		t.Helper()
		if err := r.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tend(ring)
	if got := published(ring); len(got) != 0 {
		t.Fatalf("without a stream there is a key: %v", got)
	}
	first := signs(ring)
	if got := signs(replica); got != first || len(published(replica)) != 1 {
		t.Errorf("the replica signs with %s", got)
	}
	now = now.Add(90 * 24 * time.Hour)
	tend(ring)
	tend(replica)
	if got := published(ring); len(got) != 2 || signs(ring) != first || signs(replica) != first {
		t.Errorf("a new key is published first: %v", got)
	}
	now = now.Add(10 * time.Minute)
	second := signs(ring)
	if second == first || signs(replica) != second || len(published(ring)) != 2 {
		t.Error("after a while the new one signs, and both are published")
	}
	now = now.Add(7 * 24 * time.Hour)
	if got := published(replica); len(got) != 1 || got[0] != second {
		t.Errorf("in the end the new one is alone: %v", got)
	}
}

// OPS-01: while the store is away the set is what the store said last, keys or none; nothing is made up before it ever answered.
func TestRing_storeAway(t *testing.T) {
	t.Parallel()
	s := open(t, begin)
	looked, strange := signal.NewRing(s, 90*24*time.Hour, begin), signal.NewRing(s, 90*24*time.Hour, begin)
	if err := looked.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if keys, err := looked.JWKS(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := strange.JWKS(t.Context()); err == nil {
		t.Error("a set without keys came from a store that never answered")
	}
}

// keyOf returns the key id in a SET's header.
func keyOf(t *testing.T, raw string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(raw, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := parsed.Header["kid"].(string)
	return id
}
