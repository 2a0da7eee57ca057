package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/salesexec/credentials/pkg/client"
)

// BenchmarkBulkReset begins a job over 50,000 users, the most that one may have, of a program of its own on PostgreSQL, and
// measures its pace for 20 seconds while one user signs in over and over, as fast as the answers come:
//
//	go test ./cmd/credentialsd -run '^$' -bench BenchmarkBulkReset -benchtime 1x
func BenchmarkBulkReset(b *testing.B) {
	for name, env := range map[string][]string{
		"default hashing": nil, "least hashing": {"ARGON2_MEMORY_KIB=12288", "ARGON2_TIME=3", "ARGON2_THREADS=1"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				measureBulk(b, env)
			}
		})
	}
}

func measureBulk(b *testing.B, env []string) {
	const users, window = 50_000, 20 * time.Second
	url := databaseURL(b, "postgres")
	p := startBuilt(b, append(env, "DATABASE_URL="+url, "RATE_LIMIT_PER_MINUTE=1000000")...)
	importTeam(b, url, users)
	admin := administrator(b, p.demo)
	ms := func(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

	alone := signIns(b, admin, window/4)
	team := "/bench/"
	wanted := client.PasswordResetJobWanted{Filter: &client.UserFilter{Team: &team}, Reason: "Benchmark"}
	began := time.Now()
	foreseen, err := admin.PreviewPasswordResetJob(b.Context(), client.BeginPasswordResetJobParams{}, wanted)
	if err != nil || foreseen.Summary == nil || foreseen.Summary.WouldReset != users {
		b.Fatalf("%+v, %v", foreseen, err)
	}
	b.ReportMetric(ms(began), "dry-run-ms")
	began = time.Now()
	job, err := admin.BeginPasswordResetJob(b.Context(), "", wanted)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(ms(began), "begin-ms")

	done := func() int {
		seen, err := admin.GetPasswordResetJob(b.Context(), job.ID)
		if err != nil {
			b.Fatal(err)
		}
		return seen.Done
	}
	before, began := done(), time.Now()
	beside := signIns(b, admin, window)
	b.ReportMetric(float64(done()-before)/time.Since(began).Seconds(), "users/s")
	began = time.Now()
	if _, err := admin.CancelPasswordResetJob(b.Context(), job.ID); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(ms(began), "cancel-ms")
	b.ReportMetric(alone, "sign-in-alone-p50-ms")
	b.ReportMetric(beside, "sign-in-p50-ms")
	b.ReportMetric(float64(p.peakMemory(b))/(1<<20), "MiB-peak")
}

// signIns signs alex in again and again for a time and returns the median of how long that took, in milliseconds.
func signIns(b *testing.B, c *client.Client, lasting time.Duration) float64 {
	b.Helper()
	var took []time.Duration
	for until := time.Now().Add(lasting); time.Now().Before(until); {
		began := time.Now()
		if _, err := c.SignIn(b.Context(), "alex", demoPassword); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1000
}

// importTeam brings n agents of the team /bench/ into the account demo.
func importTeam(b *testing.B, url string, n int) {
	b.Helper()
	rows := bytes.NewBufferString("id,account_id,team,role,username\n")
	for i := range n {
		fmt.Fprintf(rows, "bench-%d,demo,/bench/,agent,bench.%d\n", i, i)
	}
	path := filepath.Join(b.TempDir(), "users.csv")
	if err := os.WriteFile(path, rows.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	code := run(b.Context(), []string{"import", path},
		process{getenv: func(name string) string { return map[string]string{"DATABASE_URL": url}[name] }, stdout: &out, stderr: &out, now: time.Now})
	if code != 0 {
		b.Fatalf("exit code %d\n%s", code, &out)
	}
}
