package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/pkg/client"
	events "github.com/salesexec/credentials/pkg/client/signals"
)

// BenchmarkSignals renames users of a program of its own, 200 a second for 20 seconds whether or not the answers keep up, and measures
// how long it takes until a receiver in this process has verified the event. It counts from the time of the change, which is a
// little before its commit. cpu-ms/rename is what the program takes of the processors, load-cpu-ms/rename what this process does; the database comes on top:
//
//	go test ./cmd/credentialsd -run '^$' -bench BenchmarkSignals -benchtime 1x
func BenchmarkSignals(b *testing.B) {
	for _, database := range databases() {
		for _, method := range []string{"poll", "push"} {
			b.Run(database+"/"+method, func(b *testing.B) {
				for b.Loop() {
					measureLag(b, database, method == "push")
				}
			})
		}
	}
}

func measureLag(b *testing.B, database string, push bool) {
	const rate, renames, users = 200, 4000, 2000
	url := databaseURL(b, database)
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

	admin := administrator(b, p.demo)
	turns := make([]sync.Mutex, users) // two changes of a user at once would be a conflict
	began, before, own := time.Now(), processorTime(b, p.process.Pid), processorTime(b, os.Getpid())
	var running sync.WaitGroup
	for i := range renames {
		<-time.After(time.Until(began.Add(time.Duration(i) * time.Second / rate)))
		running.Go(func() {
			turns[i%users].Lock()
			defer turns[i%users].Unlock()
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
	for name, taken := range map[string]time.Duration{
		"cpu-ms/rename": processorTime(b, p.process.Pid) - before, "load-cpu-ms/rename": processorTime(b, os.Getpid()) - own,
	} {
		b.ReportMetric(float64(taken.Microseconds())/1000/renames, name)
	}
}

// administrator returns a client that acts as ada.
func administrator(b *testing.B, d demo) *client.Client {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(transport.CloseIdleConnections)
	anybody, err := client.New(d.URL, client.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		b.Fatal(err)
	}
	tokens, err := anybody.SignIn(b.Context(), "ada", demoPassword)
	if err != nil {
		b.Fatal(err)
	}
	admin, err := client.New(d.URL, client.WithHTTPClient(&http.Client{Transport: transport}),
		client.WithToken(func(context.Context) (string, error) { return tokens.AccessToken, nil }))
	if err != nil {
		b.Fatal(err)
	}
	return admin
}

// processorTime returns what a process has taken of the processors so far. Linux counts it in ticks of 10 ms (proc(5)).
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), ") ") // behind the name, which may hold spaces
	fields := strings.Fields(rest)
	ticks := 0
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
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
