package main

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// The pages of mailed links: a GET changes nothing, since mail scanners follow links; nothing comes from elsewhere; and the
// policy allows the page's own script and style alone.
func TestPages(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		reset, confirmation := s.sendLink("alex", nil), s.askEmail(token, "alex@new.example")
		undo := s.newest(alexAddress, "/revert#").token(t, "revert")
		before := dump(t, s.databaseURL)
		for path, link := range map[string]string{"/reset": reset, "/confirm-email": confirmation, "/revert": undo} {
			for _, tail := range []string{"", "?token=" + link, "?utm_source=scanner"} {
				shown := s.want(s.call(http.MethodGet, path+tail, "", nil), http.StatusOK, "")
				checkPage(t, path, shown)
				if strings.Contains(string(shown.raw), link) {
					t.Errorf("%s repeats a token", path)
				}
			}
			if head := s.call(http.MethodHead, path, "", nil); head.status == http.StatusOK && len(head.raw) != 0 {
				t.Errorf("HEAD %s: %s", path, head.raw)
			}
		}
		if after := dump(t, s.databaseURL); withoutRates(after) != withoutRates(before) {
			t.Error("looking at a page changed something")
		}
		s.want(s.redeem(reset, "maple orbit lantern quiet"), http.StatusNoContent, "")
	})
}

// withoutRates leaves out what every request counts.
func withoutRates(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "rates ") && !strings.HasPrefix(line, "audit_") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func checkPage(t *testing.T, path string, shown answer) {
	t.Helper()
	body, policy := string(shown.raw), shown.header.Get("Content-Security-Policy")
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
	} {
		if got := shown.header.Get(name); got != want {
			t.Errorf("%s: %s is %q", path, name, got)
		}
	}
	for element, directive := range map[string]string{"script": "script-src", "style": "style-src"} {
		_, rest, _ := strings.Cut(body, "<"+element+">")
		inline, _, found := strings.Cut(rest, "</"+element+">")
		sum := sha256.Sum256([]byte(inline))
		if want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !found || !strings.Contains(policy, want) {
			t.Errorf("%s: the policy does not allow the %s of the page: %s", path, element, policy)
		}
	}
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "connect-src 'self'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("%s: the policy lacks %s", path, part)
		}
	}
	for _, foreign := range []string{"http://", "https://", "unsafe-inline", " onclick", "src=\"//"} {
		if strings.Contains(body, foreign) || strings.Contains(policy, foreign) {
			t.Errorf("%s holds %q", path, foreign)
		}
	}
}

// WK-01, WK-02: the change-password URL leads to the app's account page where there is one, and unknown well-known paths are no
// success.
func TestPages_changePassword(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "ACCOUNT_URL=https://app.example.com/account")
	to := s.want(s.call(http.MethodGet, "/.well-known/change-password", "", nil), http.StatusSeeOther, "")
	if to.header.Get("Location") != "https://app.example.com/account" {
		t.Errorf("it leads to %s", to.header.Get("Location"))
	}
	s.want(s.call(http.MethodGet, "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200", "", nil), http.StatusNotFound, "not_found")
	without := start(t, databaseURL(t, "sqlite"))
	without.want(without.call(http.MethodGet, "/.well-known/change-password", "", nil), http.StatusNotFound, "not_found")
}

// The mailbox of dev is a page for people, with links to follow, and shows mails as text whatever is in them.
func TestPages_mailbox(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	token := s.token("alex", demoPassword)
	s.want(s.change(token, map[string]string{"username": "alex.reed"}), http.StatusOK, "")
	shown := s.want(s.call(http.MethodGet, "/dev/mail", "", nil, "Accept", "text/html,application/xhtml+xml,*/*;q=0.8"), http.StatusOK, "")
	undo := s.newest(alexAddress, "/revert#").token(t, "revert")
	if !strings.Contains(string(shown.raw), `<a href="`+s.demo.URL+`/revert#token=`+undo+`">`) || shown.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("got %s", shown.raw)
	}
}
