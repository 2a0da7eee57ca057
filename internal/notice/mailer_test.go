package notice_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/secret"
)

func mailbox(t *testing.T, folder string) *notice.Mailbox {
	t.Helper()
	box, err := notice.OpenMailbox(folder)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func mails(t *testing.T, box *notice.Mailbox) []notice.Mail {
	t.Helper()
	found, err := box.Mails()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func messageOf(t *testing.T, id string, n any) outbox.Message {
	t.Helper()
	body, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return outbox.Message{ID: id, Topic: outbox.Mail, Kind: "password_changed", Body: secret.New(string(body))}
}

// A message becomes one mail, with the message's id and the time it was sent at.
func TestMailer_delivers(t *testing.T) {
	box, at := mailbox(t, t.TempDir()), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	mailer := notice.NewMailer(box, links(), func() time.Time { return at })
	n := about(notice.PasswordChanged, access.Actor{})
	if err := mailer.Deliver(context.Background(), messageOf(t, "event-1:password_changed:0123", n)); err != nil {
		t.Fatal(err)
	}
	want := render(t, n)
	want.ID, want.At = "event-1:password_changed:0123", at
	if diff := cmp.Diff([]notice.Mail{want}, mails(t, box)); diff != "" {
		t.Error(diff)
	}
}

// A message that this version cannot read stays for one that can, and the error does not repeat what it holds.
func TestMailer_unreadable(t *testing.T) {
	box := mailbox(t, t.TempDir())
	mailer := notice.NewMailer(box, links(), time.Now)
	for name, body := range map[string]any{"form": []string{"canary"}, "kind": map[string]string{"kind": "newer", "token": "canary"}, "member": map[string]any{"at": "canary"}} {
		err := mailer.Deliver(context.Background(), messageOf(t, "x", body))
		if err == nil || errors.Is(err, outbox.ErrUndeliverable) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found := mails(t, box); len(found) != 0 {
		t.Errorf("got %v", found)
	}
}

// The mailbox keeps every mail once, the newest first, for its owner alone, and over a restart; a mail that is half written
// when the process dies is none.
func TestMailbox(t *testing.T) {
	folder, at := filepath.Join(t.TempDir(), "mail"), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	box := mailbox(t, folder)
	first := notice.Mail{ID: "a:1", To: "alex@demo.example", Subject: "One", Text: "1 < 2\n", HTML: "<p>1 &lt; 2</p>", At: at}
	second, third := first, first
	second.ID, second.At = "b:../../escape", at.Add(time.Second)
	third.ID = "c"
	for _, mail := range []notice.Mail{first, second, third, first} {
		if err := box.Send(context.Background(), mail); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "d.new"), []byte(`{"to":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]notice.Mail{second, third, first}, mails(t, mailbox(t, folder))); diff != "" {
		t.Error(diff)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 4 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", entry.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(folder, "e.json"), []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Mails(); err == nil || !strings.Contains(err.Error(), "e.json") {
		t.Errorf("got %v", err)
	}
}
