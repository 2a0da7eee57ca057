package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
)

// devMail returns what GET /dev/mail lists, the newest first.
func (s *service) devMail() []notice.Mail {
	s.t.Helper()
	a := s.want(s.call(http.MethodGet, "/dev/mail", "", nil, "Accept", "application/json"), http.StatusOK, "")
	var listed []notice.Mail
	if err := json.Unmarshal(a.raw, &listed); err != nil {
		s.t.Fatal(err)
	}
	return listed
}

// What a finished request has to tell is in the mailbox of dev at once, once, the newest first, as JSON and as a page, and is
// still there after a restart.
func TestDevMail(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		if listed := s.devMail(); len(listed) != 0 {
			t.Fatalf("%+v", listed)
		}
		for i, name := range []string{"alex", "bo", "wanda"} {
			s.clock.advance(time.Second)
			s.post(name, 1)
			listed := s.devMail()
			if len(listed) != i+1 || listed[0].To != name+"@demo.example" || listed[0].Subject != "Your password was changed" {
				t.Fatalf("after %s: %+v", name, listed)
			}
			if listed[0].At.After(s.clock.now()) || !slices.IsSortedFunc(listed, func(a, b notice.Mail) int { return b.At.Compare(a.At) }) {
				t.Errorf("not the newest first: %+v", listed)
			}
		}
		if files, err := filepath.Glob(filepath.Join(s.folder, "mail", "*")); err != nil || len(files) != 3 {
			t.Errorf("%v, %v", files, err)
		}
		want := s.devMail()
		if code := s.stop(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		again := start(t, s.databaseURL)
		if diff := cmp.Diff(want, again.devMail()); diff != "" {
			t.Errorf("after a restart:\n%s", diff)
		}
		if again.demo.MailURL != again.demo.URL+"/dev/mail" {
			t.Errorf("dev announces %q", again.demo.MailURL)
		}
	})
}

// The page of the mailbox is for people: links can be followed, and what users called themselves is no HTML.
func TestDevMail_page(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	if a := s.want(s.call(http.MethodGet, "/dev/mail", "", nil), http.StatusOK, ""); !strings.Contains(string(a.raw), "There is none yet") {
		t.Errorf("%s", a.raw)
	}
	letters := s.letters("alex", 1, &notice.Link{Purpose: change.Revert, Life: notice.RevertLife})
	c := change.Change{At: s.clock.now()}
	letters.AddTo(&c)
	if _, err := s.outboxOf().Commit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	for _, accept := range []string{"", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "*/*", "application/json;q=0.1, text/html"} {
		a := s.want(s.call(http.MethodGet, "/dev/mail", "", nil, "Accept", accept), http.StatusOK, "")
		page, policy := string(a.raw), directives(a.header.Get("Content-Security-Policy"))
		if a.header.Get("Content-Type") != "text/html; charset=utf-8" || policy["default-src"] != "'none'" || policy["script-src"] != "" || policy["frame-ancestors"] != "'none'" {
			t.Errorf("%s %v", a.header.Get("Content-Type"), policy)
		}
		wantInline(t, page, "style", strings.TrimSpace(policy["style-src"]))
		link := (&mail{text: s.devMail()[0].Text}).link()
		if !strings.HasPrefix(link, s.demo.URL+"/revert#token=") || !strings.Contains(page, `<a href="`+link+`">`+link+`</a>`) {
			t.Errorf("%s: no link %s", page, link)
		}
		if !strings.Contains(page, "alex@demo.example") || strings.Contains(page, "<script") {
			t.Errorf("%s", page)
		}
	}
	a := s.want(s.call(http.MethodGet, "/dev/mail", "", nil, "Accept", "application/json, text/html;q=0.5"), http.StatusOK, "")
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Content-Security-Policy") != "default-src 'none'; frame-ancestors 'none'" {
		t.Errorf("%v", a.header)
	}
}

// EML-04, peers bug 10: links lead where the settings say, whatever the request that sets the mail off names as its host.
func TestDevMail_hostHeader(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "PUBLIC_URL=https://credentials.example.com")
	letters := s.letters("alex", 1, &notice.Link{Purpose: change.ResetPassword, Life: notice.ResetLife})
	c := change.Change{At: s.clock.now()}
	letters.AddTo(&c)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.demo.URL+"/dev/mail", nil) // which sends what is due
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example"
	request.Header = http.Header{"Accept": {"application/json"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"host=evil.example;proto=http"}, "Origin": {"https://evil.example"}}
	if _, err := s.outboxOf().Commit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	plain := &service{t: t, demo: s.demo, http: &http.Client{}}
	t.Cleanup(plain.http.CloseIdleConnections)
	a := s.want(plain.send(request), http.StatusOK, "")
	if !strings.Contains(string(a.raw), "https://credentials.example.com/reset#token=") || strings.Contains(string(a.raw), "evil.example/") {
		t.Errorf("%s", a.raw)
	}
	page := s.want(s.bareRequest(t, http.MethodGet, "/reset", "X-Forwarded-Host", "evil.example"), http.StatusOK, "")
	if strings.Contains(string(page.raw), "evil") {
		t.Errorf("%s", page.raw)
	}
}

// The mailbox is there in dev alone, and there only while no server is named.
func TestDevMail_nowhereElse(t *testing.T) {
	server := startMailServer(t)
	dev := start(t, databaseURL(t, "sqlite"), server.env()...)
	dev.want(dev.call(http.MethodGet, "/dev/mail", "", nil), http.StatusNotFound, "not_found")
	if dev.demo.MailURL != "" {
		t.Errorf("dev announces %q", dev.demo.MailURL)
	}
	if _, err := os.Stat(filepath.Join(dev.folder, "mail")); !os.IsNotExist(err) {
		t.Errorf("a mailbox was made: %v", err)
	}
	serve := startServe(t, serving(databaseURL(t, "postgres")))
	for _, accept := range []string{"", "application/json"} {
		serve.want(serve.call(http.MethodGet, "/dev/mail", "", nil, "Accept", accept), http.StatusNotFound, "not_found")
	}
}
