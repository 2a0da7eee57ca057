package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// mail is what a mail server has taken.
type mail struct {
	from, to string // of the envelope
	header   netmail.Header
	subject  string // decoded
	text     string
	html     string
	source   string // as it came over the wire
}

var linkForm = regexp.MustCompile(`(?m)^https?://\S+#token=\S+$`)

// link returns the link with a token that the mail holds, or "".
func (m mail) link() string { return linkForm.FindString(m.text) }

// token returns the token of the mail's link, or "".
func (m mail) token() string {
	_, token, _ := strings.Cut(m.link(), "#token=")
	return token
}

// mailServer is an SMTP server in this process, with a certificate of an authority of its own.
type mailServer struct {
	t         *testing.T
	address   string
	caFile    string
	scheme    string
	encrypted *tls.Config // nil: it offers no TLS at all
	user, pw  string      // that it wants; empty: none
	server    *smtp.Server
	arrived   chan mail
	seen      []mail // of the test's own goroutine

	mu      sync.Mutex
	refuse  func(stage, to string) error // asked at "mail", "rcpt" and "data"
	hangUp  string                       // "before" or "after" the answer to DATA
	logins  int
	hello   string
	running sync.WaitGroup
}

// startMailServer runs a mail server until the test ends, with implicit TLS and a password; settle changes that before it starts.
func startMailServer(t *testing.T, settle ...func(*mailServer)) *mailServer {
	t.Helper()
	caFile, certificate := newAuthority(t)
	m := &mailServer{
		t: t, scheme: "smtps", caFile: caFile, user: "service@example.com", pw: "pass/word of #mail",
		encrypted: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, arrived: make(chan mail, 1000),
	}
	for _, change := range settle {
		change(m)
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

// startTLS makes the server speak plainly until it is asked for TLS.
func startTLS(m *mailServer) { m.scheme = "smtp" }

// env are the settings of a service that sends through the server.
func (m *mailServer) env() []string {
	login := ""
	if m.user != "" {
		login = strings.NewReplacer("@", "%40", "/", "%2F", " ", "%20", "#", "%23").Replace(m.user+"\x00"+m.pw) + "@"
		login = strings.Replace(login, "\x00", ":", 1)
	}
	return []string{"SMTP_URL=" + m.scheme + "://" + login + m.address, "SMTP_CA_FILE=" + m.caFile, "MAIL_FROM=SalesExec <no-reply@mail.example>"}
}

// start listens again on the address it had, if it had one.
func (m *mailServer) start() {
	m.t.Helper()
	if m.address == "" {
		m.address = "127.0.0.1:0"
	}
	listener, err := (&net.ListenConfig{}).Listen(m.t.Context(), "tcp", m.address)
	if err != nil {
		m.t.Fatal(err)
	}
	m.address = listener.Addr().String()
	m.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &mailSession{server: m, connection: c}, nil }))
	m.server.Domain, m.server.ErrorLog = "mail.example", log.New(io.Discard, "", 0)
	if m.scheme == "smtps" {
		listener = tls.NewListener(listener, m.encrypted)
	} else {
		m.server.TLSConfig = m.encrypted
	}
	server := m.server
	m.running.Go(func() { _ = server.Serve(listener) })
}

// stop ends the server: connections are refused from now on.
func (m *mailServer) stop() {
	_ = m.server.Close() // a second time it is closed already
	m.running.Wait()
}

// refusing makes the server ask answer before it takes a sender ("mail"), a receiver ("rcpt") or a mail ("data").
func (m *mailServer) refusing(answer func(stage, to string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = answer
}

// received waits until so many mails have arrived since the server was made, and returns all that have, in their order.
func (m *mailServer) received(atLeast int) []mail {
	m.t.Helper()
	for len(m.seen) < atLeast {
		select {
		case got := <-m.arrived:
			m.seen = append(m.seen, got)
		case <-time.After(time.Minute): // it hangs: the test has failed
			m.t.Fatalf("%d mails have arrived, want %d", len(m.seen), atLeast)
		}
	}
	for {
		select {
		case got := <-m.arrived:
			m.seen = append(m.seen, got)
		default:
			return m.seen
		}
	}
}

// next waits for the mail after those that were received before.
func (m *mailServer) next() mail {
	m.t.Helper()
	select {
	case got := <-m.arrived:
		m.seen = append(m.seen, got)
		return got
	case <-time.After(time.Minute): // it hangs: the test has failed
		m.t.Fatal("no mail has arrived")
	}
	return mail{}
}

// mailSession is one connection to a mailServer.
type mailSession struct {
	server     *mailServer
	connection *smtp.Conn
	allowed    bool
	from, to   string
	taken      bool
}

var _ smtp.AuthSession = (*mailSession)(nil)

func (s *mailSession) ask(stage, to string) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.hello = s.connection.Hostname()
	if s.server.refuse == nil {
		return nil
	}
	return s.server.refuse(stage, to)
}

func (s *mailSession) AuthMechanisms() []string {
	if s.server.user == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pw string) error {
		if user != s.server.user || pw != s.server.pw {
			return smtp.ErrAuthFailed
		}
		s.allowed = true
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		s.server.logins++
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.user != "" && !s.allowed {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return s.ask("mail", from)
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	return s.ask("rcpt", to)
}

func (s *mailSession) Data(from io.Reader) error {
	source, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	if err := s.ask("data", s.to); err != nil {
		return err
	}
	got, err := readMail(source)
	if err != nil {
		return err
	}
	got.from, got.to = s.from, s.to
	s.server.arrived <- got
	s.taken = true
	if s.hangsUp("before") {
		_ = s.connection.Conn().Close()
	}
	return nil
}

// hangsUp tells whether the connection is to break at this moment, once.
func (s *mailSession) hangsUp(when string) bool {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.hangUp != when {
		return false
	}
	s.server.hangUp = ""
	return true
}

func (s *mailSession) Reset() {
	if s.taken && s.hangsUp("after") {
		_ = s.connection.Conn().Close()
	}
	s.from, s.to, s.taken = "", "", false
}

func (s *mailSession) Logout() error { return nil }

// readMail reads a mail as its receiver does.
func readMail(source []byte) (mail, error) {
	message, err := netmail.ReadMessage(bytes.NewReader(source))
	if err != nil {
		return mail{}, err
	}
	m := mail{header: message.Header, source: string(source)}
	if m.subject, err = new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject")); err != nil {
		return mail{}, err
	}
	media, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || media != "multipart/alternative" {
		return mail{}, errors.Join(err, errors.New("not multipart/alternative but "+media))
	}
	parts := multipart.NewReader(message.Body, parameters["boundary"])
	for _, part := range []*string{&m.text, &m.html} { // plain text comes first, the richest form last (RFC 2046 section 5.1.4)
		next, err := parts.NextRawPart()
		if err != nil {
			return mail{}, err
		}
		want := map[*string]string{&m.text: "text/plain; charset=UTF-8", &m.html: "text/html; charset=UTF-8"}[part]
		if got := next.Header.Get("Content-Type"); got != want || next.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			return mail{}, errors.New("a part is " + got + ", not " + want)
		}
		content, err := io.ReadAll(quotedprintable.NewReader(next))
		if err != nil {
			return mail{}, err
		}
		*part = strings.ReplaceAll(string(content), "\r\n", "\n")
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		return mail{}, errors.New("there are more than two parts")
	}
	return m, nil
}

// newAuthority makes a certificate authority, writes its certificate to a file, and has it vouch for 127.0.0.1.
func newAuthority(t *testing.T) (caFile string, certificate tls.Certificate) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			parent, by = template, key
		}
		raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	authority, authorityKey := sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, key := sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mail.example"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, authorityKey)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return caFile, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}
