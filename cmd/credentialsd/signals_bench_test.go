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

// Load of BenchmarkSignals.
const (
	offeredRate  = 200             // renames a second
	warmedUp     = 5 * offeredRate // that are not counted: connections are opened, plans made
	countedAfter = 20 * offeredRate
	offeredTo    = 2000 // users
)

// BenchmarkSignals renames users of a program of its own, 200 a second whether or not the answers keep up, and measures for 20 seconds,
// after 5 that are not counted, how long it takes until a receiver in this process has verified the event. It counts from the time
// of the change, which is a little before its commit. cpu-ms/rename is what the program takes of the processors, and
// load-cpu-ms/rename what this process does; the database comes on top:
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

// arrival is when a change was made, and how long later a receiver had verified the event.
type arrival struct {
	changed time.Time
	lag     time.Duration
}

func measureLag(b *testing.B, database string, push bool) {
	url := databaseURL(b, database)
	p := startBuilt(b, "DATABASE_URL="+url, "RATE_LIMIT_PER_MINUTE=1000000")
	db, err := store.Open(b.Context(), store.Config{URL: url, Log: newLogger(io.Discard, "error"), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	ids := crowd(b, db, offeredTo)
	closeQuietly(db)
	arrived := make(chan arrival, warmedUp+countedAfter)
	listenTo(b, p.demo, push, func(_ context.Context, e events.Event) error {
		r, err := e.Rename()
		if err == nil {
			arrived <- arrival{r.ChangedAt, time.Since(r.ChangedAt)}
		}
		return err
	})
	began, before, own := offer(b, administrator(b, p.demo), ids, p.process.Pid)
	took := time.Since(began)
	var lags []time.Duration
	for range warmedUp + countedAfter {
		select {
		case a := <-arrived:
			if a.changed.After(began) {
				lags = append(lags, a.lag)
			}
		case <-time.After(time.Minute):
			b.Fatal("an event did not arrive")
		}
	}
	slices.Sort(lags)
	for name, at := range map[string]int{"p50": len(lags) / 2, "p99": len(lags) * 99 / 100, "max": len(lags) - 1} {
		b.ReportMetric(float64(lags[at].Microseconds())/1000, name+"-ms")
	}
	b.ReportMetric(float64(len(lags))/took.Seconds(), "renames/s")
	for name, taken := range map[string]time.Duration{
		"cpu-ms/rename": processorTime(b, p.process.Pid) - before, "load-cpu-ms/rename": processorTime(b, os.Getpid()) - own,
	} {
		b.ReportMetric(float64(taken.Microseconds())/1000/float64(len(lags)), name)
	}
}

// offer renames the users in turn, at the offered rate, and returns when the last one is renamed: when counting began, and what the
// program and this process had taken of the processors by then.
func offer(b *testing.B, admin *client.Client, ids []string, pid int) (began time.Time, program, own time.Duration) {
	b.Helper()
	turns := make([]sync.Mutex, len(ids)) // two changes of a user at once would be a conflict
	start := time.Now()
	var running sync.WaitGroup
	for i := range warmedUp + countedAfter {
		<-time.After(time.Until(start.Add(time.Duration(i) * time.Second / offeredRate)))
		if i == warmedUp {
			began, program, own = time.Now(), processorTime(b, pid), processorTime(b, os.Getpid())
		}
		running.Go(func() {
			turn := &turns[i%len(ids)]
			turn.Lock()
			defer turn.Unlock()
			name := fmt.Sprintf("bench%d.%d", i%len(ids), i/len(ids))
			if _, _, err := admin.ChangeUserCredentials(b.Context(), ids[i%len(ids)], client.CredentialsChange{Username: &name}, ""); err != nil {
				b.Errorf("rename %d: %v", i, err)
			}
		})
	}
	running.Wait()
	if b.Failed() { // there are events that will not come
		b.FailNow()
	}
	return began, program, own
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
