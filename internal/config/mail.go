package config

import (
	"crypto/x509"
	"net/mail"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/salesexec/credentials/internal/secret"
)

// SMTP says how mail is sent.
type SMTP struct {
	Host        string
	Port        int
	ImplicitTLS bool   // smtps: TLS from the first byte; else STARTTLS
	Username    string // empty: without authentication
	Password    secret.Text
	CAs         *x509.CertPool // nil: the system's
	From        mail.Address
}

// smtp reads what belongs to mail, or returns nil when no mail is sent.
func (r *reader) smtp() *SMTP {
	given := r.text("SMTP_URL")
	s := SMTP{From: r.sender("MAIL_FROM", given != ""), CAs: r.certificates("SMTP_CA_FILE")}
	if given == "" {
		return nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		r.problem("SMTP_URL", "must be like smtps://user:password@host:465 or smtp://host:587 (its value is not shown)")
		return nil
	}
	s.Host = u.Hostname()
	switch u.Scheme { // with the ports of RFC 8314 section 3.3 and RFC 6409 section 3.1
	case "smtps":
		s.ImplicitTLS, s.Port = true, 465
	case "smtp":
		s.Port = 587
	default:
		r.problem("SMTP_URL", "must begin with smtps:// or smtp:// (its value is not shown)")
	}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			r.problem("SMTP_URL", "must have a port from 1 to 65535")
		}
		s.Port = int(port)
	}
	if u.User != nil {
		s.Username, s.Password = r.login(u.User)
	}
	return &s
}

func (r *reader) login(given *url.Userinfo) (username string, password secret.Text) {
	text, _ := given.Password()
	if given.Username() == "" || text == "" {
		r.problem("SMTP_URL", "must hold a user and a password, or neither")
	}
	return given.Username(), secret.New(text)
}

func (r *reader) sender(name string, needed bool) mail.Address {
	text := r.text(name)
	if text == "" {
		if needed {
			r.problem(name, "is not set, and SMTP_URL is: %s", describe(name).Help)
		}
		return mail.Address{}
	}
	address, err := mail.ParseAddress(text)
	if err != nil {
		r.problem(name, "must be an address like no-reply@example.com or SalesExec <no-reply@example.com>, not %q", text)
		return mail.Address{}
	}
	return *address
}

func (r *reader) certificates(name string) *x509.CertPool {
	path := r.text(name)
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		r.problem(name, "cannot be read: %v", err)
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		r.problem(name, "holds no certificate in PEM: %s", path)
	}
	return pool
}

// page reads the URL of a page of the app.
func (r *reader) page(name string) string {
	text := r.text(name)
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		r.problem(name, "must be the URL of a page, like https://app.example.com/account, not %q", text)
		return ""
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && IsLoopback(u.Hostname())) {
		r.problem(name, "must be https: passwords are entered there")
	}
	return u.String()
}
