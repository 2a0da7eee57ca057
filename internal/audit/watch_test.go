package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
)

// heads is what a Watch looks at.
type heads struct {
	now     []audit.Head
	pruned  bool // what is not there any more was pruned
	overdue int64
	asked   time.Time
	err     error
}

func (h *heads) Heads(context.Context) ([]audit.Head, error) { return h.now, h.err }

func (h *heads) Holds(_ context.Context, noted audit.Head) (bool, error) {
	for _, head := range h.now {
		if head.AccountID == noted.AccountID && head.Sequence > noted.Sequence {
			return true, nil
		}
	}
	return h.pruned, nil
}

func (h *heads) Overdue(_ context.Context, olderThan time.Time) (int64, error) {
	h.asked = olderThan
	return h.overdue, nil
}

// peers section 4: the newest events are removed with their links; the head that was noted outside tells.
func TestWatch(t *testing.T) {
	store := &heads{now: []audit.Head{{AccountID: "demo", Sequence: 5, Chain: "c5"}, {AccountID: "other", Sequence: 2, Chain: "o2"}}}
	var log strings.Builder
	var seen []audit.Watched
	w := audit.NewWatch(store, 0, func() time.Time { return start }, slog.New(slog.NewJSONHandler(&log, nil)), func(found audit.Watched) { seen = append(seen, found) })
	look := func(now ...audit.Head) {
		t.Helper()
		store.now = now
		if err := w.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other := audit.Head{AccountID: "other", Sequence: 2, Chain: "o2"}
	look(store.now...)
	look(audit.Head{AccountID: "demo", Sequence: 7, Chain: "c7"}, other)
	look(audit.Head{AccountID: "demo", Sequence: 4, Chain: "c4"}, other) // three were removed
	look(audit.Head{AccountID: "demo", Sequence: 4, Chain: "x4"}, other) // the last was written anew
	look(audit.Head{AccountID: "demo", Sequence: 4, Chain: "x4"})        // a whole chain is gone
	store.pruned = true
	look()
	want := []audit.Watched{
		{At: start, Chains: 2, Sequence: 7}, {At: start, Chains: 2, Sequence: 9}, {At: start, Chains: 2, Sequence: 6, Lost: 1},
		{At: start, Chains: 2, Sequence: 6, Lost: 1}, {At: start, Chains: 1, Sequence: 4, Lost: 1}, {At: start},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	var told []string
	for line := range strings.Lines(log.String()) {
		var entry struct {
			Level, Msg, Head string
			AccountID        string `json:"account_id"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Level == "ERROR" {
			told = append(told, entry.AccountID+" "+entry.Head)
		}
	}
	if diff := cmp.Diff([]string{"demo c7", "demo c4", "other o2"}, told); diff != "" {
		t.Error(diff)
	}
	if got := strings.Count(log.String(), `"msg":"audit head"`); got != 9 {
		t.Errorf("%d heads were written", got)
	}
	store.err = errors.New("away")
	if err := w.Look(t.Context()); !errors.Is(err, store.err) {
		t.Errorf("got %v", err)
	}
}

// Retention is a setting that a command enforces: the log says when nobody runs it.
func TestWatch_overdue(t *testing.T) {
	for retention, want := range map[time.Duration]bool{0: false, 720 * time.Hour: true} {
		store := &heads{overdue: 3}
		var log strings.Builder
		w := audit.NewWatch(store, retention, func() time.Time { return start }, slog.New(slog.NewJSONHandler(&log, nil)), func(audit.Watched) {})
		if err := w.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), `"accounts":3`) && strings.Contains(log.String(), "credentialsd audit prune"); got != want {
			t.Errorf("%s: %s", retention, &log)
		}
		if want && !store.asked.Equal(start.Add(-retention-48*time.Hour)) {
			t.Errorf("asked for %s", store.asked)
		}
	}
}
