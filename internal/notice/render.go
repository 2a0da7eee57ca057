package notice

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/salesexec/credentials/internal/change"
)

// Mail is a notice as it is sent.
type Mail struct {
	ID      string    `json:"id"` // of the message: the same whenever it is sent again
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
	At      time.Time `json:"at"` // when it is sent
}

// Links says where links in mails lead. Both come from the settings, never from a request (EML-04, peers bug 10).
type Links struct {
	PublicURL  string // origin of this service, without a slash at the end
	AccountURL string // the app's account page; empty: mails do not mention it
}

// to returns the page of a purpose with the token in the fragment, which no server logs and no referrer carries; "" for none.
func (l Links) to(purpose change.Purpose, token string) (string, error) {
	var path string
	switch purpose {
	case "":
		return "", nil
	case change.ResetPassword:
		path = "/reset"
	case change.ConfirmEmail:
		path = "/confirm-email"
	case change.Revert:
		path = "/revert"
	default:
		return "", fmt.Errorf("notice: no page for links of the purpose %q", purpose)
	}
	return l.PublicURL + path + "#token=" + token, nil
}

// ErrUnknownKind says that a notice is of a kind that this version has no words for: a newer one has.
var ErrUnknownKind = errors.New("notice: unknown kind")

//go:embed templates
var files embed.FS

var (
	words      = template.Must(template.ParseFS(files, "templates/words.txt"))
	textLayout = template.Must(template.ParseFS(files, "templates/mail.txt"))
	htmlLayout = htmltemplate.Must(htmltemplate.ParseFS(files, "templates/mail.html"))
)

// fact is one line of what is known.
type fact struct{ Label, Value string }

// letter is a mail in words, before it is laid out as plain text and as HTML.
type letter struct {
	Subject, What, Next string
	Facts               []fact
	Button, URL, Until  string
	AccountURL          string

	// For the choice of words.
	By, Method, NewEmail string
}

// Render puts a notice into words, as plain text and as HTML that say the same. Names are shown so that they can neither
// make a link nor pass for the service's own words. ErrUnknownKind when there are no words for its kind.
func Render(n Notice, links Links) (Mail, error) {
	if !slices.Contains(Kinds(), n.Kind) {
		return Mail{}, fmt.Errorf("%w: %s", ErrUnknownKind, n.Kind)
	}
	url, err := links.to(n.Purpose, n.Token)
	if err != nil {
		return Mail{}, err
	}
	l := letter{Facts: n.facts(), URL: url, AccountURL: links.AccountURL, By: n.By.Kind, Method: n.Method, NewEmail: n.NewEmail}
	if n.LinkUntil != nil {
		l.Until = moment(*n.LinkUntil)
	}
	said := map[string]*string{string(n.Kind) + " subject": &l.Subject, string(n.Kind): &l.What, string(n.Kind) + " next": &l.Next}
	if url != "" {
		said[string(n.Purpose)+" button"] = &l.Button
	}
	var text, html strings.Builder
	for block, to := range said {
		text.Reset()
		err = errors.Join(err, words.ExecuteTemplate(&text, block, l))
		*to = text.String()
	}
	text.Reset()
	if err = errors.Join(err, textLayout.Execute(&text, l), htmlLayout.Execute(&html, l)); err != nil {
		return Mail{}, fmt.Errorf("notice: put %s into words: %w", n.Kind, err)
	}
	return Mail{To: n.To, Subject: l.Subject, Text: text.String(), HTML: html.String()}, nil
}

// facts lists what is known: who it is about, what was and is, when, from where and by whom (NOT-03).
func (n Notice) facts() []fact {
	known := []fact{
		{"Account", name(n.Account)},
		{"User", name(n.Name)},
		{"Username", line(n.Username)}, // on a line of its own, which no display name can pass for
		{"Username before", line(n.OldUsername)},
		{"E-mail address before", line(n.OldEmail)},
		{n.newEmailLabel(), line(n.NewEmail)},
		{"When", moment(n.At)},
		{"From", place(n.IP, n.UserAgent)},
		{"By", n.by()},
	}
	return slices.DeleteFunc(known, func(f fact) bool { return f.Value == "" })
}

func (n Notice) newEmailLabel() string {
	switch n.Kind { //nolint:exhaustive // the others tell of an address that is in use
	case EmailChangeAsked:
		return "E-mail address asked for"
	case ConfirmEmail, EmailUnavailable:
		return "E-mail address"
	}
	return "E-mail address now"
}

// by says who did it, so that it is true for every reader: the user, and who manages it.
func (n Notice) by() string {
	reverted := n.Kind == Reverted || n.Kind == AdministratorsReverted
	switch {
	case n.By.Kind == "administrator":
		return "administrator " + name(n.By.Name)
	case n.By.Kind == "service":
		return "the service " + name(n.By.Name)
	case n.By.Kind == "self" && (reverted || n.Method == "link"):
		return "whoever opened the link in the mail"
	case n.By.Kind == "self":
		return "the user, signed in"
	case n.Kind == EmailUnavailable:
		return "somebody who is not named here"
	}
	return "SalesExec, automatically"
}

// moment writes a time for people.
func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }
