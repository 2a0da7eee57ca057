package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/pkg/client"
)

// follower runs bulk-reset --job j-1 against a service of which only this job is there.
func follower(ctx context.Context, t *testing.T, job client.PasswordResetJob, handOut http.HandlerFunc, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	job.ID = "j-1"
	paths := http.NewServeMux()
	paths.HandleFunc("GET "+jobs+"/j-1", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, job) })
	paths.HandleFunc("POST "+jobs+"/j-1/temporary-passwords", handOut)
	server := httptest.NewServer(paths)
	defer server.Close()
	var out, problems output
	code = run(ctx, append([]string{"bulk-reset", "--server", server.URL, "--job", "j-1"}, args...),
		process{getenv: func(name string) string { return map[string]string{tokenVariable: "token"}[name] }, stdout: &out, stderr: &problems, now: time.Now})
	return code, out.String(), problems.String()
}

func answerJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // who asked finds out
}

// REC-04: who interrupts the command while passwords are fetched loses none: what the service has handed out is written, and
// the rest stays there.
func TestBulkReset_interruptedFetch(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	finished := time.Now()
	asked := 0
	handOut := func(w http.ResponseWriter, _ *http.Request) {
		asked++
		interrupt() // the service has forgotten the password by now
		answerJSON(w, client.TemporaryPasswords{Items: []client.TemporaryPassword{{UserID: fmt.Sprint("u-", asked), Username: "alex", TemporaryPassword: "p", ExpiresAt: finished}}, Waiting: 1})
	}
	file := filepath.Join(t.TempDir(), "passwords.csv")
	code, _, stderr := follower(ctx, t, client.PasswordResetJob{Status: "completed", Total: 2, Done: 2, FinishedAt: &finished}, handOut, "--passwords", file)
	if lines := csvOf(t, file); len(lines) != 2 || lines[1][0] != "u-1" || asked != 1 {
		t.Errorf("asked %d times, %d lines", asked, len(lines))
	}
	if code != 1 || !strings.Contains(stderr, "--job j-1 --passwords "+file) {
		t.Errorf("%d %s", code, stderr)
	}
}

// A script learns by the exit code that users were left as they were, and by the text how many.
func TestBulkReset_exitCode(t *testing.T) {
	t.Parallel()
	finished := time.Now()
	for _, c := range []struct {
		job  client.PasswordResetJob
		code int
		want string
	}{
		{client.PasswordResetJob{Status: "completed", Total: 2, Done: 1, Skipped: 1}, 0, "1 skipped"},
		{client.PasswordResetJob{Status: "completed", Total: 2, Done: 1, Failed: 1}, 1, "left 1 users"},
		{client.PasswordResetJob{Status: "cancelled", Total: 3, Done: 1, Cancelled: 2}, 1, "left 2 users"},
	} {
		c.job.FinishedAt = &finished
		if code, stdout, stderr := follower(t.Context(), t, c.job, http.NotFound); code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%+v: %d %s %s", c.job, code, stdout, stderr)
		}
	}
}
