package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeUsers writes a CSV file of n users of 100 accounts, as a CRM on .NET would export them, and returns its path.
func writeUsers(tb testing.TB, n int) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "users.csv")
	file, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out := bufio.NewWriter(file)
	_, _ = out.WriteString("id,account_id,team,role,username,email,display_name,status,password_hash\n") // Flush tells
	const hash = "AQAAAAIAAYagAAAAEDAxMjM0NTY3ODlhYmNkZWZ9KftDgY2Szkhtu4Q6asWFvCAAYm+5Vj+MzyGh++kcEw=="
	for i := range n {
		account, role := i%100, "agent"
		if i < 100 {
			role = "administrator"
		}
		_, _ = fmt.Fprintf(out, "crm-%d,account-%d,/team-%d/,%s,agent.%d,agent.%d@account-%d.example,Agent Number %d,active,%s\n",
			i, account, i%7, role, i, i, account, i, hash)
	}
	if err := out.Flush(); err != nil {
		tb.Fatal(err)
	}
	return path
}

// BenchmarkImport imports 100,000 users into a new database by the command, checks included:
//
//	go test ./cmd/credentialsd -run '^$' -bench BenchmarkImport -benchtime 1x
func BenchmarkImport(b *testing.B) {
	const rows = 100_000
	for _, database := range databases() {
		b.Run(database, func(b *testing.B) {
			path := writeUsers(b, rows)
			for b.Loop() {
				b.StopTimer()
				url := databaseURL(b, database)
				if database == "sqlite" {
					if err := migrate(b.Context(), url); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				var out, problems bytes.Buffer
				code := run(b.Context(), []string{"import", "--create-accounts", path},
					process{getenv: func(name string) string { return map[string]string{"DATABASE_URL": url}[name] }, stdout: &out, stderr: &problems, now: time.Now})
				if code != 0 {
					b.Fatalf("exit code %d\n%s%s", code, &out, &problems)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
