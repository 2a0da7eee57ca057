package notice_test

import (
	"errors"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/user"
)

const (
	publicURL  = "https://credentials.example.com"
	accountURL = "https://app.example.com/account?tab=security&from=mail"
	token      = "q5mXo0W1Yv3ZkTq9cJ2rT7bN4sD8fGhL6pKzUeQ1abc"
	firefox    = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
)

func links() notice.Links { return notice.Links{PublicURL: publicURL, AccountURL: accountURL} }

// about describes something that happened to Alex, by whoever acts.
func about(kind notice.Kind, actor access.Actor) notice.Notice {
	alex := alexReed()
	event := audit.New(audit.CredentialsChanged, audit.Done, actor, alex, access.Origin{IP: "203.0.113.7", UserAgent: firefox},
		time.Date(2026, 11, 24, 11, 47, 17, 0, time.FixedZone("CET", 3600)))
	n := notice.New(kind, user.Account{ID: "demo", Name: "Demo Sales"}, alex, event)
	n.To = alex.Email
	return n
}

func alexReed() user.User {
	return user.User{ID: "alex-1", AccountID: "demo", Username: "alex.reed", DisplayName: "Alex Reed", Email: "alex@demo.example"}
}

func withLink(n notice.Notice, purpose change.Purpose) notice.Notice {
	until := n.At.Add(24 * time.Hour)
	n.Purpose, n.Token, n.LinkUntil = purpose, token, &until
	return n
}

// actors are all who can do what a notice tells of, and what it calls them.
func actors() map[string]access.Actor {
	return map[string]access.Actor{
		"the user, signed in":      {Kind: access.Person, User: alexReed()},
		"administrator Ada Marsh":  {Kind: access.Person, User: user.User{ID: "ada-1", DisplayName: "Ada Marsh"}},
		"the service Demo service": {Kind: access.Service, ClientID: "demo-service", ClientName: "Demo service"},
		"SalesExec, automatically": {},
	}
}

// NOT-03, ASVS 6.3.7: each kind of notice says what happened, to whom, when, from where, by whom, and what to do if it was not
// the user; with a link, where it leads and until when. It holds no other secret, and both parts say the same.
func TestRender_everyKind(t *testing.T) {
	what := map[notice.Kind]string{
		notice.PasswordChanged: "password of your SalesExec user was changed", notice.PasswordReset: "replaced by a temporary one",
		notice.PasswordDisabled: "opens nothing any more", notice.UsernameChanged: "username of your SalesExec user was changed",
		notice.EmailChangeAsked: "Nothing changes before it is confirmed", notice.EmailChanged: "e-mail address of your SalesExec user was changed",
		notice.NewDevice: "signed in as you, with the right password", notice.Reverted: "your password is disabled",
		notice.ConfirmEmail: "used only if you confirm it", notice.EmailUnavailable: "Nothing was changed",
		notice.ResetLink: "link to choose a new password", notice.AdministratorsPasswordDisabled: "sign in as this user",
		notice.AdministratorsReverted: "All sessions of the user have ended",
	}
	remedy := regexp.MustCompile(`contact your administrator|do nothing|reset the password`)
	for _, kind := range notice.Kinds() {
		for by, actor := range actors() {
			t.Run(string(kind)+" by "+by, func(t *testing.T) {
				n := about(kind, actor)
				mail := render(t, n)
				if kind == notice.Reverted || kind == notice.AdministratorsReverted {
					by = strings.Replace(by, "the user, signed in", "whoever opened the link in the mail", 1)
				}
				if kind == notice.EmailUnavailable {
					by = strings.Replace(by, "SalesExec, automatically", "somebody who is not named here", 1)
				}
				for _, want := range []string{
					what[kind], "\nAccount: Demo Sales\n", "\nUser: Alex Reed\nUsername: alex.reed\n", "\nWhen: 24 November 2026, 10:47 UTC\n",
					"\nFrom: Firefox on Linux, IP address 203.0.113.7\n", "\nBy: " + by + "\n", accountURL,
				} {
					if !strings.Contains(mail.Text, want) {
						t.Errorf("the text lacks %q", want)
					}
				}
				if !remedy.MatchString(strings.ToLower(mail.Text)) {
					t.Error("it does not say what to do")
				}
				if mail.To != "alex@demo.example" || mail.Subject == "" || strings.Contains(mail.Text, "#token") {
					t.Errorf("to %q: %q", mail.To, mail.Subject)
				}
				if t.Failed() {
					t.Log(mail.Text)
				}
			})
		}
	}
}

// render renders a notice and checks what is true of every mail.
func render(t *testing.T, n notice.Notice) notice.Mail {
	t.Helper()
	mail, err := notice.Render(n, links())
	if err != nil {
		t.Fatal(err)
	}
	sameInBothParts(t, mail)
	for _, sign := range []string{"<no value>", "{{", "%!", "  \n"} {
		if strings.Contains(mail.Text+mail.Subject, sign) {
			t.Errorf("%q in the text:\n%s", sign, mail.Text)
		}
	}
	if strings.ContainsAny(mail.Subject, "\r\n") || strings.Contains(mail.Text, "\r") {
		t.Error("a line break where none belongs")
	}
	for _, want := range []string{`<html lang="en">`, `<meta charset="utf-8">`, "<title>" + html.EscapeString(mail.Subject) + "</title>"} {
		if !strings.Contains(mail.HTML, want) {
			t.Errorf("the HTML lacks %s", want)
		}
	}
	if remote := regexp.MustCompile(`(?i)<(img|script|link|style|iframe|form|input|object|embed|video|audio)|url\(|@import|\bsrc=|\bon[a-z]+=`).FindString(mail.HTML); remote != "" {
		t.Errorf("the HTML holds %q", remote)
	}
	for _, leads := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(mail.HTML, -1) {
		if url := html.UnescapeString(leads[1]); !strings.HasPrefix(url, publicURL+"/") && url != accountURL {
			t.Errorf("a link to %s", url)
		}
	}
	return mail
}

// sameInBothParts checks that each line of the text is in the HTML, a URL as the target of a link.
func sameInBothParts(t *testing.T, mail notice.Mail) {
	t.Helper()
	spaces := regexp.MustCompile(`\s+`)
	shown := spaces.ReplaceAllString(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(mail.HTML, " ")), " ")
	for line := range strings.SplitSeq(mail.Text, "\n") {
		if strings.HasPrefix(line, "https://") {
			if !strings.Contains(html.UnescapeString(mail.HTML), `href="`+line+`"`) {
				t.Errorf("the HTML does not lead to %s", line)
			}
			continue
		}
		sentence, fact := strings.TrimSuffix(line, ":"), strings.Replace(line, ": ", " ", 1)
		if line != "--" && !strings.Contains(shown, sentence) && !strings.Contains(shown, fact) {
			t.Errorf("the HTML does not say %q:\n%s", line, shown)
		}
	}
}

// NOT-03, EML-04, peers bug 10: a link leads to the page of its purpose below the configured URL, is there once in each part,
// and says until when it is good.
func TestRender_links(t *testing.T) {
	for purpose, want := range map[change.Purpose]struct {
		kind         notice.Kind
		path, button string
	}{
		change.ResetPassword: {notice.ResetLink, "/reset", "Choose a new password"},
		change.ConfirmEmail:  {notice.ConfirmEmail, "/confirm-email", "Confirm the e-mail address"},
		change.Revert:        {notice.PasswordChanged, "/revert", "This wasn't me"},
	} {
		mail := render(t, withLink(about(want.kind, actors()["the user, signed in"]), purpose))
		url := publicURL + want.path + "#token=" + token
		if !strings.Contains(mail.Text, "\n"+want.button+":\n"+url+"\n\nThis works once, until 25 November 2026, 10:47 UTC.\n") {
			t.Errorf("%s:\n%s", purpose, mail.Text)
		}
		for part, text := range map[string]string{"text": mail.Text, "html": mail.HTML} {
			if strings.Count(text, token) != 1 {
				t.Errorf("%s: the token is %d times in the %s", purpose, strings.Count(text, token), part)
			}
		}
	}
	repudiated := []notice.Kind{notice.PasswordChanged, notice.UsernameChanged, notice.EmailChangeAsked, notice.EmailChanged, notice.NewDevice}
	for _, kind := range repudiated {
		n := about(kind, actors()["the user, signed in"])
		with, without := render(t, withLink(n, change.Revert)).Text, render(t, n).Text
		if !strings.Contains(with, "If it was not, open this page") || strings.Contains(with, "contact your administrator") {
			t.Errorf("%s with a link:\n%s", kind, with)
		}
		if strings.Contains(without, "open this page") || !strings.Contains(without, "contact your administrator at once") {
			t.Errorf("%s without a link:\n%s", kind, without)
		}
	}
	if _, err := notice.Render(withLink(about(notice.ResetLink, access.Actor{}), "another"), links()); err == nil {
		t.Error("a link to no page")
	}
}

// NOT-03: what was and what is now.
func TestRender_before(t *testing.T) {
	n := about(notice.EmailChanged, actors()["the user, signed in"])
	n.OldUsername, n.OldEmail, n.NewEmail = "old@demo.example", "old@demo.example", "new@demo.example"
	text := render(t, n).Text
	if !strings.Contains(text, "\nUsername before: old@demo.example\nE-mail address before: old@demo.example\nE-mail address now: new@demo.example\n") {
		t.Error(text)
	}
	n.NewEmail = ""
	if text := render(t, n).Text; !strings.Contains(text, "There is none now") || strings.Contains(text, "address now") {
		t.Error(text)
	}
	n.Kind, n.NewEmail, n.OldEmail = notice.EmailChangeAsked, "new@demo.example", ""
	if text := render(t, n).Text; !strings.Contains(text, "\nE-mail address asked for: new@demo.example\n") || strings.Contains(text, "address before") {
		t.Error(text)
	}
	n.Kind, n.Method = notice.PasswordChanged, "link"
	if text := render(t, n).Text; !strings.Contains(text, "with a link from a mail") || !strings.Contains(text, "\nBy: whoever opened the link in the mail\n") {
		t.Error(text)
	}
	if _, err := notice.Render(notice.Notice{Kind: "of_a_newer_version"}, links()); !errors.Is(err, notice.ErrUnknownKind) {
		t.Errorf("got %v", err)
	}
}

// What users chose freely can neither make a link, a line or a tag of a mail, nor hide or turn around what it says.
func TestRender_hostileNames(t *testing.T) {
	for hostile, want := range map[string]string{
		"http://evil.example click here":         "http: / / evil. example click here",
		"www.evil.example":                       "www. evil. example",
		"mail me@evil.example":                   "mail me@ evil. example",
		`\\evil.example\share`:                   `\ \ evil. example\ share`,
		"evil。example":                           "evil。 example",
		"Alex\r\nBcc: all@evil.example":          "Alex Bcc: all@ evil. example",
		"Alex\nUsername: ada":                    "Alex Username: ada",
		"Alex\u2028Reed\u0085\v\f\tEnd":          "Alex Reed End",
		"Alex\x00\x1b[31m\x7f":                   "Alex [31m",
		"\u202eevil\u202c \u2066x\u2069 \ufeffy": "evil x y",
		"Al\xffex":                               "Al\ufffdex",
		`<a href="//evil">x</a>`:                 `<a href="/ / evil">x</ a>`,
		"J.R. Smith, Jr.":                        "J. R. Smith, Jr.",
		"Zoë O'Neill-李 نازنین":                   "Zoë O'Neill-李 نازنین",
		strings.Repeat("long ", 40):              strings.Repeat("long ", 12) + "lon…",
		strings.Repeat("e\u0301", 100):           strings.Repeat("e\u0301", 31) + "e…",
	} {
		n := about(notice.PasswordReset, access.Actor{Kind: access.Person, User: user.User{ID: "ada-1", DisplayName: hostile}})
		n.Name, n.Account = hostile, hostile
		mail := render(t, n)
		for _, line := range []string{"\nAccount: " + want + "\n", "\nUser: " + want + "\n", "\nBy: administrator " + want + "\n"} {
			if !strings.Contains(mail.Text, line) {
				t.Errorf("%q: no line %q in\n%s", hostile, line, mail.Text)
			}
		}
		if !strings.Contains(mail.HTML, html.EscapeString(want)) || strings.Contains(mail.HTML, "<a href=\"/") {
			t.Errorf("%q:\n%s", hostile, mail.HTML)
		}
		if mail.Subject != "Your password was reset" || mail.To != "alex@demo.example" {
			t.Errorf("%q to %q", mail.Subject, mail.To)
		}
	}
}

// Whatever a name is made of, no program finds a link or an address in it.
func FuzzRender(f *testing.F) {
	for _, seed := range []string{"http://evil.example", "a.b.c", "..//::@@", "x\u200d.\u200dy", "e\u0301.x", "a。b．c｡d", ". . .", "\xff.\xfe"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, chosen string) {
		n := about(notice.NewDevice, access.Actor{})
		n.Name, n.UserAgent = chosen, chosen
		mail, err := notice.Render(n, notice.Links{PublicURL: publicURL})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(mail.Text, "\n") {
			shown, found := strings.CutPrefix(line, "User: ")
			if !found {
				continue
			}
			runes := []rune(shown)
			for i, c := range runes[:max(0, len(runes)-1)] {
				if strings.ContainsRune(`.:/\@。．｡：／＼＠`, c) && runes[i+1] != ' ' && runes[i+1] != '…' {
					t.Errorf("%q became %q", chosen, shown)
				}
			}
			if len(runes) > 64 || strings.ContainsFunc(shown, unicode.IsControl) {
				t.Errorf("%q became %q", chosen, shown)
			}
		}
		if i := slices.Index(strings.Split(mail.Text, "\n"), "Username: alex.reed"); i < 0 || strings.Count(mail.Text, "\nUsername: ") != 1 {
			t.Errorf("%q hides or repeats the username:\n%s", chosen, mail.Text)
		}
	})
}

// From where, in words: the usual browsers and systems, apps by their own name, and nothing that a header could smuggle in.
func TestRender_place(t *testing.T) {
	for agent, want := range map[string]string{
		firefox: "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36":                                "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0":                  "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15":                          "Safari on Mac",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1":        "Safari on iPhone",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36":     "Samsung Internet on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36":                                 "Chrome on ChromeOS",
		"SalesExec/3.2 (iPad; iOS 18.1)": "SalesExec on iPad",
		"okhttp/4.12.0":                  "okhttp",
		"Go-http-client/2.0":             "Go-http-client",
		"":                               "an unknown program",
		"\r\nX-Evil: 1":                  "an unknown program",
		"http://evil.example":            "http",
		"<script>alert(1)</script>":      "an unknown program",
	} {
		n := about(notice.NewDevice, access.Actor{})
		n.UserAgent = agent
		if text := render(t, n).Text; !strings.Contains(text, "\nFrom: "+want+", IP address 203.0.113.7\n") {
			t.Errorf("%q, want %q:\n%s", agent, want, text)
		}
	}
	for ip, want := range map[string]string{"2001:db8::1": "2001:db8::1", "fe80::1%eth0": "fe80::1", "": "", "203.0.113.7\r\nX: y": "", "evil.example": ""} {
		n := about(notice.NewDevice, access.Actor{})
		n.IP = ip
		text := render(t, n).Text
		if want == "" && strings.Contains(text, "From:") || want != "" && !strings.Contains(text, ", IP address "+want+"\n") {
			t.Errorf("%q:\n%s", ip, text)
		}
	}
}
