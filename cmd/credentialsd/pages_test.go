package main

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"regexp"
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

// accountPage is the app's account page in these tests.
const accountPage = "https://app.example.com/account?from=credentials&tab=1"

// linkPages are the pages that mailed links lead to, and the operation that each calls.
func linkPages() map[string]string {
	return map[string]string{"/reset": "/password-resets/redeem", "/confirm-email": "/email-confirmations", "/revert": "/credential-reverts"}
}

// directives reads a Content-Security-Policy.
func directives(policy string) map[string]string {
	found := map[string]string{}
	for directive := range strings.SplitSeq(policy, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), " ")
		found[name] = value
	}
	return found
}

// wantInline checks that the one inline element of a page is the one that the policy lets run.
func wantInline(t *testing.T, page, element, allowed string) {
	t.Helper()
	found := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(page, -1)
	if len(found) != 1 || strings.Count(page, "<"+element) != 1 {
		t.Fatalf("%d elements %s", len(found), element)
	}
	sum := sha256.Sum256([]byte(found[0][1]))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; allowed != want {
		t.Errorf("the policy allows %s, the %s is %s", allowed, element, want)
	}
}

// HDR-01 to HDR-06: each page of a mailed link runs its own script and nothing else, talks to this service alone, is kept by no
// cache, tells no other site of itself, and can be used by people who see, hear or type it.
func TestPages_links(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "ACCOUNT_URL="+accountPage, "PASSWORD_MIN_LENGTH=17")
	rules := s.want(s.call(http.MethodGet, "/password-policy", "", nil), http.StatusOK, "").text("passwordrules")
	for path, action := range linkPages() {
		t.Run(path, func(t *testing.T) {
			a := s.want(s.call(http.MethodGet, path, "", nil), http.StatusOK, "")
			page, policy := string(a.raw), directives(a.header.Get("Content-Security-Policy"))
			for name, want := range map[string]string{
				"default-src": "'none'", "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'",
			} {
				if policy[name] != want {
					t.Errorf("%s %q, want %q", name, policy[name], want)
				}
			}
			wantInline(t, page, "script", policy["script-src"])
			wantInline(t, page, "style", policy["style-src"])
			for name, want := range map[string]string{
				"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Set-Cookie": "", "Location": "",
			} {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			for _, url := range regexp.MustCompile(`https?://[^\s"'<]+`).FindAllString(page, -1) {
				if html.UnescapeString(url) != accountPage {
					t.Errorf("the page names %s", url)
				}
			}
			if inline := regexp.MustCompile(`(?i)\s(on[a-z]+|style|src)=`).FindString(page); inline != "" {
				t.Errorf("the page holds %q, which the policy forbids", inline)
			}
			wanted := []string{
				`<html lang="en">`, `<meta charset="utf-8">`, `name="viewport"`, "<noscript>", `role="alert"`, `aria-live="polite"`, "<h1>", `method="post"`, ` hidden>`,
				`data-action="` + action + `"`, `<button id="send" type="submit">`,
			}
			if path == "/reset" {
				wanted = append(wanted, `<label for="new_password">`, `autocomplete="new-password"`, `passwordrules="`+html.EscapeString(rules)+`"`, "at least 17 characters",
					`aria-describedby="new_password_hint new_password_wrong"`, `<div role="alert"><ul id="new_password_wrong"`, `id="show" type="checkbox"`)
			} else if strings.Contains(page, "<input") {
				t.Error("the page asks for something")
			}
			for _, want := range wanted {
				if !strings.Contains(page, want) {
					t.Errorf("the page lacks %s", want)
				}
			}
		})
	}
}

// Without an account page the pages lead nowhere.
func TestPages_noAccountPage(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	for path := range linkPages() {
		if a := s.want(s.call(http.MethodGet, path, "", nil), http.StatusOK, ""); strings.Contains(string(a.raw), "<a ") {
			t.Errorf("%s:\n%s", path, a.raw)
		}
	}
}
