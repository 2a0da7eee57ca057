package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// later runs a command at a time ahead, and returns what it says.
func later(t *testing.T, databaseURL string, ahead time.Duration, code int, env map[string]string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	getenv := func(name string) string {
		if name == "DATABASE_URL" {
			return databaseURL
		}
		return env[name]
	}
	got := run(t.Context(), args, process{getenv: getenv, stdout: &out, stderr: &out, now: func() time.Time { return time.Now().Add(ahead) }})
	if got != code {
		t.Fatalf("%v: exit code %d, want %d\n%s", args, got, code, &out)
	}
	return out.String()
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// Retention: the operator exports, prunes and verifies; the service goes on, and its trail is whole from the checkpoint on.
func TestAuditCommands(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const month = 31 * 24 * time.Hour
		folder := t.TempDir()
		do := func(ahead time.Duration, code int, args ...string) string {
			t.Helper()
			return later(t, s.databaseURL, ahead, code, nil, args...)
		}
		n := int(s.trail(s.token("ada", demoPassword), "/integrity", http.StatusOK, "").body["sequence"].(float64))

		wantText(t, do(0, 1, "audit", "prune", "--yes"), "give --older-than or AUDIT_RETENTION, 720h0m0s or more")
		wantText(t, do(0, 1, "audit", "prune", "--older-than", "24h", "--yes"), "720h0m0s or more")
		wantText(t, do(month, 1, "audit", "prune", "--older-than", "720h", "--account", "nowhere"), "there is no account nowhere")
		wantText(t, do(0, 1, "audit", "export", "--account", "nowhere"), "there is no account nowhere")
		if out := do(0, 0, "audit", "prune", "--older-than", "720h", "--yes"); out != "" {
			t.Errorf("nothing is old enough: %s", out)
		}

		wantText(t, do(month, 0, "audit", "prune", "--older-than", "720h"), fmt.Sprintf("account demo: %d events would go, up to number %d", n, n), "account other: 2 events", "Nothing was removed", "credentialsd audit export --account")
		archive := filepath.Join(folder, "archive.ndjson")
		do(month, 0, "audit", "export", "--account", "demo", "--output", archive)
		wantText(t, do(month, 1, "audit", "export", "--account", "demo", "--output", archive), "file exists")
		gone := later(t, s.databaseURL, month, 0, map[string]string{"AUDIT_RETENTION": "720h"}, "audit", "prune", "--yes", "--account", "demo")
		wantText(t, gone, fmt.Sprintf("account demo: %d events are gone, up to number %d", n, n), "the chain goes on from ")
		chain := gone[strings.LastIndex(gone, " ")+1 : len(gone)-1]
		wantText(t, do(month, 0, "audit", "verify", archive, "--head", chain), fmt.Sprintf("intact: all %d events of account demo, number 1 to %d", n, n), fmt.Sprintf("is that of event number %d", n))

		left := do(month, 0, "audit", "export", "--account", "demo")
		if strings.Count(left, "\n") != 3 {
			t.Errorf("one event tells of the pruning: %s", left)
		}
		var out bytes.Buffer
		code := run(t.Context(), []string{"audit", "verify", "-", "--head", chain}, process{getenv: os.Getenv, stdin: strings.NewReader(left), stdout: &out, stderr: &out, now: time.Now})
		wantText(t, out.String(), fmt.Sprintf("intact: all 1 events of account demo, number %d to %d", n+1, n+1), fmt.Sprintf("events up to number %d were pruned earlier, as the trail itself tells", n))
		if code != 0 {
			t.Errorf("exit code %d", code)
		}

		ada := s.token("ada", demoPassword)
		checked := s.trail(ada, "/integrity", http.StatusOK, "")
		from, _ := checked.body["checkpoint"].(map[string]any)
		if checked.body["intact"] != true || from["sequence"] != float64(n) || from["chain"] != chain || checked.body["sequence"].(float64) < float64(n+2) {
			t.Errorf("%s", checked.raw)
		}
		told := s.trail(ada, "?action=audit.pruned", http.StatusOK, "").items()
		if len(told) != 1 || told[0]["actor"].(map[string]any)["kind"] != "operator" || told[0]["details"].(map[string]any)["events"] != float64(n) {
			t.Errorf("%v", told)
		}
		if strings.Contains(s.log.String(), "has lost its end") {
			t.Errorf("pruning is no loss:\n%s", s.log)
		}
	})
}
