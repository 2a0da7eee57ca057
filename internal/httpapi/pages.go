package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html"
	"html/template"
	"net/http"
	"regexp"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/user"
)

//go:embed pages
var pageFiles embed.FS

func pageFile(name string) string {
	content, err := pageFiles.ReadFile("pages/" + name)
	if err != nil {
		panic(err) // it is embedded: the program was built without it
	}
	return string(content)
}

// webAddress is a link in the text of a mail.
var webAddress = regexp.MustCompile(`https?://[^\s<>"]+`)

// linked makes HTML of a mail's text, with its links to be followed.
func linked(text string) template.HTML {
	escaped := html.EscapeString(text)
	return template.HTML(webAddress.ReplaceAllString(escaped, `<a href="$0">$0</a>`)) //nolint:gosec // it is escaped just above
}

// pages are what people see of the service: small, without anything from elsewhere, allowed no more than they need.
type pages struct {
	templates *template.Template
	style     template.CSS
	script    template.JS
	// Content-Security-Policy of the pages of links, and of the mailbox, which runs no script.
	linkPolicy, mailPolicy string
}

func newPages() *pages {
	style, script := pageFile("page.css"), pageFile("link.js")
	return &pages{
		templates: template.Must(template.New("").Funcs(template.FuncMap{"linked": linked}).ParseFS(pageFiles, "pages/*.html")),
		style:     template.CSS(style), script: template.JS(script), //nolint:gosec // they are the program's own files
		linkPolicy: "default-src 'none'; script-src " + hashSource(script) + "; style-src " + hashSource(style) +
			"; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
		mailPolicy: "default-src 'none'; style-src " + hashSource(style) + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
}

// hashSource allows an inline script or style by what it is (Content Security Policy Level 3 section 2.3.1).
func hashSource(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// htmlPage is an answer in HTML with a policy of its own.
type htmlPage struct {
	policy string
	body   []byte
}

func (p htmlPage) visit(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(p.body)
	return err
}

func (p *pages) render(name, policy string, data any) (htmlPage, error) {
	var body bytes.Buffer
	if err := p.templates.ExecuteTemplate(&body, name, data); err != nil {
		return htmlPage{}, fmt.Errorf("httpapi: page %s: %w", name, err)
	}
	return htmlPage{policy: policy, body: body.Bytes()}, nil
}

// linkPage is what the page of a mailed link says. It changes nothing until its button is pressed: mail scanners follow links.
type linkPage struct {
	Action, Title, Intro, Button string
	Invalid                      string        // what to do when the link is not good
	Done                         template.HTML // what has happened and what comes next; data-member marks places for members of the answer
	ChoosesPassword              bool
	MinLength                    int
	PasswordRules                string
	AccountURL                   string
	Style                        template.CSS
	Script                       template.JS
}

func (s *Server) linkPage(p linkPage) (htmlPage, error) {
	policy := s.credentials.PolicyFor(user.Account{})
	p.MinLength, p.PasswordRules, p.AccountURL = policy.MinLength, policy.PasswordRules(), s.config.AccountURL
	p.Style, p.Script = s.pages.style, s.pages.script
	return s.pages.render("link.html", s.pages.linkPolicy, p)
}

// ShowResetPage lets the holder of a reset link choose a new password.
func (s *Server) ShowResetPage(context.Context, api.ShowResetPageRequestObject) (api.ShowResetPageResponseObject, error) {
	shown, err := s.linkPage(linkPage{
		Action: "/password-resets/redeem", Title: "Choose a new password", Button: "Save the new password", ChoosesPassword: true,
		Intro:   "The new password replaces the old one, and all sessions end.",
		Invalid: "This link is not valid, or no longer: it was used, it has expired, or a newer one was sent. Ask your administrator for a new one.",
		Done:    "<h2>The password is saved</h2><p>Sign in with it from now on.</p>",
	})
	return resetPage{shown}, err
}

// ShowConfirmEmailPage lets the holder of a confirmation link confirm the address.
func (s *Server) ShowConfirmEmailPage(context.Context, api.ShowConfirmEmailPageRequestObject) (api.ShowConfirmEmailPageResponseObject, error) {
	shown, err := s.linkPage(linkPage{
		Action: "/email-confirmations", Title: "Confirm your e-mail address", Button: "Confirm",
		Intro: "From then on notices go to this address. If your username is your e-mail address, it changes with it.",
		Invalid: "This link is not valid, or no longer: it was used, it has expired, another address was asked for, or somebody else has confirmed this one. " +
			"Ask for the change again in your account settings.",
		Done: `<h2>The address is confirmed</h2><p>Your e-mail address is <strong data-member="email"></strong>. You sign in as <strong data-member="username"></strong>.</p>`,
	})
	return confirmEmailPage{shown}, err
}

// ShowRevertPage lets the holder of a "this wasn't me" link undo what was done.
func (s *Server) ShowRevertPage(context.Context, api.ShowRevertPageRequestObject) (api.ShowRevertPageResponseObject, error) {
	shown, err := s.linkPage(linkPage{
		Action: "/credential-reverts", Title: "This wasn't me", Button: "It wasn't me: undo it",
		Intro: "If somebody else did what the mail tells of, undo it here: all your sessions end, your username and e-mail address become those from before, " +
			"and your password is disabled until your administrator resets it. If it was you, close this page.",
		Invalid: "This link is not valid, or no longer: it was used, it has expired, or your administrator has changed your user since. If something is still wrong, contact your administrator.",
		Done: `<h2>It is undone</h2><p>Your username is <strong data-member="username"></strong> and your e-mail address <strong data-member="email"></strong>. ` +
			`Sessions that were ended: <span data-member="sessions_ended"></span>.</p>` +
			`<p>Nobody can sign in as you now, not even you. Ask your administrator to reset your password; your administrators have been told.</p>`,
	})
	return revertPage{shown}, err
}

// GetDevMail shows the mailbox of dev; elsewhere there is none.
func (s *Server) GetDevMail(ctx context.Context, _ api.GetDevMailRequestObject) (api.GetDevMailResponseObject, error) {
	if s.config.Mailbox == nil {
		return nil, credential.ErrNotFound
	}
	mails, err := s.config.Mailbox(ctx)
	if err != nil {
		return nil, fmt.Errorf("httpapi: mailbox: %w", err)
	}
	accept, _ := ctx.Value(acceptKey).(string)
	if quality(accept, mediaJSON) > quality(accept, "text/html") {
		shown := make(api.GetDevMail200JSONResponse, len(mails))
		for i, m := range mails {
			shown[i] = api.DevMail{To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML, At: m.At.UTC()}
		}
		return shown, nil
	}
	shown, err := s.pages.render("mailbox.html", s.pages.mailPolicy, map[string]any{"Mails": mails, "Style": s.pages.style})
	return devMailPage{shown}, err
}

// GetChangePassword leads password managers to the app's account page (W3C change-password URL).
func (s *Server) GetChangePassword(context.Context, api.GetChangePasswordRequestObject) (api.GetChangePasswordResponseObject, error) {
	if s.config.AccountURL == "" {
		return nil, credential.ErrNotFound
	}
	return api.GetChangePassword303Response{Headers: api.GetChangePassword303ResponseHeaders{Location: s.config.AccountURL}}, nil
}

// Each operation has an answer type of its own in the generated code.
type (
	resetPage        struct{ htmlPage }
	confirmEmailPage struct{ htmlPage }
	revertPage       struct{ htmlPage }
	devMailPage      struct{ htmlPage }
)

// VisitShowResetPageResponse writes the page.
func (p resetPage) VisitShowResetPageResponse(w http.ResponseWriter) error { return p.visit(w) }

// VisitShowConfirmEmailPageResponse writes the page.
func (p confirmEmailPage) VisitShowConfirmEmailPageResponse(w http.ResponseWriter) error {
	return p.visit(w)
}

// VisitShowRevertPageResponse writes the page.
func (p revertPage) VisitShowRevertPageResponse(w http.ResponseWriter) error { return p.visit(w) }

// VisitGetDevMailResponse writes the page.
func (p devMailPage) VisitGetDevMailResponse(w http.ResponseWriter) error { return p.visit(w) }
