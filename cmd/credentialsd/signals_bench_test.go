package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/pkg/client"
	events "github.com/salesexec/credentials/pkg/client/signals"
)

// BenchmarkSignals renames users of a program of its own on PostgreSQL, 200 a second for 20 seconds, and measures how long it takes
// until a receiver in this process has verified the event. It counts from the time of the change, which is a little before its
// commit:
//
//	go test ./cmd/credentialsd -run '^$' -bench BenchmarkSignals -benchtime 1x
func BenchmarkSignals(b *testing.B) {
	for _, method := range []string{"poll", "push"} {
		b.Run(method, func(b *testing.B) {
			for b.Loop() {
				measureLag(b, method == "push")
			}
		})
	}
}

func measureLag(b *testing.B, push bool) {
	const rate, renames, users = 200, 4000, 2000 // no user again before 10 s: two changes at once would be a conflict
	url := databaseURL(b, "postgres")
	p := startBuilt(b, "DATABASE_URL="+url, "RATE_LIMIT_PER_MINUTE=1000000")
	db, err := store.Open(b.Context(), store.Config{URL: url, Log: newLogger(io.Discard, "error"), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	ids := crowd(b, db, users)
	closeQuietly(db)

	var mu sync.Mutex
	var lags []time.Duration
	arrived := make(chan struct{}, renames)
	listenTo(b, p.demo, push, func(_ context.Context, e events.Event) error {
		r, err := e.Rename()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		lags = append(lags, time.Since(r.ChangedAt))
		arrived <- struct{}{}
		return nil
	})

	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	admin, err := client.New(p.demo.URL, client.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		b.Fatal(err)
	}
	tokens, err := admin.SignIn(b.Context(), "ada", demoPassword)
	if err != nil {
		b.Fatal(err)
	}
	admin, err = client.New(p.demo.URL, client.WithHTTPClient(&http.Client{Transport: transport}),
		client.WithToken(func(context.Context) (string, error) { return tokens.AccessToken, nil }))
	if err != nil {
		b.Fatal(err)
	}
	began, tick := time.Now(), time.NewTicker(time.Second/rate)
	defer tick.Stop()
	var running sync.WaitGroup
	for i := range renames {
		<-tick.C
		running.Go(func() {
			name := fmt.Sprintf("bench%d.%d", i%users, i/users)
			if _, _, err := admin.ChangeUserCredentials(b.Context(), ids[i%users], client.CredentialsChange{Username: &name}, ""); err != nil {
				b.Errorf("rename %d: %v", i, err)
				arrived <- struct{}{} // there is none to wait for
			}
		})
	}
	running.Wait()
	took := time.Since(began)
	for range renames {
		select {
		case <-arrived:
		case <-time.After(time.Minute):
			b.Fatal("an event did not arrive")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(lags)
	for name, at := range map[string]int{"p50": len(lags) / 2, "p99": len(lags) * 99 / 100, "max": len(lags) - 1} {
		b.ReportMetric(float64(lags[at].Microseconds())/1000, name+"-ms")
	}
	b.ReportMetric(renames/took.Seconds(), "renames/s")
}

// listenTo follows the renames of a program until the benchmark ends.
func listenTo(b *testing.B, d demo, push bool, handle events.Handler) {
	b.Helper()
	own := d.Clients[0]
	c, err := client.New(d.URL, client.WithClientCredentials(own.ClientID, own.ClientSecret, "ssf.manage"))
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := events.NewVerifier(events.Config{Issuer: d.URL, Audience: own.ClientID})
	if err != nil {
		b.Fatal(err)
	}
	wanted := client.StreamWanted{EventsRequested: []string{events.UsernameChanged}}
	if push {
		endpoint := httptest.NewServer(events.NewReceiver(verifier, "", handle))
		b.Cleanup(endpoint.Close)
		wanted.Delivery = &client.StreamDeliveryWanted{Method: pushMethod, EndpointURL: &endpoint.URL}
	}
	stream, err := c.CreateStream(b.Context(), wanted)
	if err != nil {
		b.Fatal(err)
	}
	if push {
		return
	}
	ctx, stop := context.WithCancel(b.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := events.NewPoller(c, stream.StreamID, verifier, handle).Run(ctx); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() { stop(); ended.Wait() })
}
