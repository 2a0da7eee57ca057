package main

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/audit"
)

// letter is a mail in the mailbox of dev.
type letter struct {
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
	At      time.Time `json:"at"`
}

// mailbox returns the mails to an address, the oldest first; "" for all.
func (s *service) mailbox(to string) []letter {
	s.t.Helper()
	a := s.call(http.MethodGet, "/dev/mail", "", nil, "Accept", "application/json")
	s.want(a, http.StatusOK, "")
	var all []letter
	if err := json.Unmarshal(a.raw, &all); err != nil {
		s.t.Fatal(err)
	}
	slices.SortStableFunc(all, func(a, b letter) int { return a.At.Compare(b.At) })
	return slices.DeleteFunc(all, func(l letter) bool { return to != "" && l.To != to })
}

// newest returns the newest mail to an address whose text has all the parts; it fails the test when there is none.
func (s *service) newest(to string, parts ...string) letter {
	s.t.Helper()
	found := s.mailbox(to)
	for _, l := range slices.Backward(found) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(l.Text, part) }) {
			return l
		}
	}
	s.t.Fatalf("no mail to %s holds %q: %+v", to, parts, found)
	return letter{}
}

var mailedLink = regexp.MustCompile(`(https?://[^\s#]+)/(reset|confirm-email|revert)#token=([A-Za-z0-9_-]{43})`)

// link returns the one link of a purpose in a mail: its base URL and its token.
func (l letter) link(t *testing.T, page string) (base, token string) {
	t.Helper()
	for _, found := range mailedLink.FindAllStringSubmatch(l.Text, -1) {
		if found[2] == page {
			if !strings.Contains(l.HTML, found[0]) {
				t.Errorf("the link is not in the HTML part: %s", l.HTML)
			}
			return found[1], found[3]
		}
	}
	t.Fatalf("no link to %s in %s", page, l.Text)
	return "", ""
}

// token returns the token of the link to the page in a mail.
func (l letter) token(t *testing.T, page string) string {
	t.Helper()
	_, token := l.link(t, page)
	return token
}

func (l letter) hasLink() bool {
	return mailedLink.MatchString(l.Text) || strings.Contains(l.HTML, "#token=")
}

// confirm, redeem and revert use the links of mails.
func (s *service) confirm(token string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/email-confirmations", "", map[string]string{"token": token})
}

func (s *service) redeem(token, chosen string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/password-resets/redeem", "", map[string]string{"token": token, "new_password": chosen})
}

func (s *service) revert(token string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/credential-reverts", "", map[string]string{"token": token})
}

// events returns the audit events of the demo account with the action, the oldest first.
func (s *service) events(action audit.Action) []audit.Event {
	s.t.Helper()
	all, err := s.database().AuditEvents(context.Background(), "demo", time.Time{}, 100_000)
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e audit.Event) bool { return e.Action != action })
}
