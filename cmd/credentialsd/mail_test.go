package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// outboxOf opens the service's database beside it, with its sealing key, so that a test can put messages into it.
func (s *service) outboxOf() *store.Store {
	s.t.Helper()
	kept, err := os.ReadFile(filepath.Join(s.folder, "sealing.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	settings, err := config.Load(func(name string) string {
		return map[string]string{"DATABASE_URL": s.databaseURL, "SEALING_KEY": string(kept), "PUBLIC_URL": "http://127.0.0.1", "TOKEN_AUDIENCE": "x"}[name]
	})
	if err != nil {
		s.t.Fatal(err)
	}
	opened, err := openStore(context.Background(), settings, newLogger(s.log, "error"), s.clock.now)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { closeQuietly(opened) })
	return opened
}

// letters returns n notices about a demo user, as a change would write them.
func (s *service) letters(name string, n int, link *notice.Link) notice.Letters {
	s.t.Helper()
	u := s.user(name)
	about := user.User{ID: user.ID(u.ID), AccountID: u.AccountID, Username: u.Username, DisplayName: "Alex\r\nBcc: all@evil.example Reed", Email: u.Email, EmailVerified: true}
	var letters notice.Letters
	for i := range n {
		told := notice.Notice{
			Kind: notice.PasswordChanged, Account: "Demo Sales", Name: about.DisplayName, Username: about.Username, At: s.clock.now(),
			IP: "192.0.2.1", UserAgent: "curl/8.5\r\nX-Evil: yes", By: notice.By{Kind: "self"},
		}
		err := notice.NewComposer(true).Letter(&letters, fmt.Sprintf("event-%s-%d", name, i), told, about, u.Email, link)
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return letters
}

// post writes notices about a demo user into the outbox.
func (s *service) post(name string, n int) {
	s.t.Helper()
	c := change.Change{At: s.clock.now()}
	s.letters(name, n, nil).AddTo(&c)
	if _, err := s.outboxOf().Commit(context.Background(), c); err != nil {
		s.t.Fatal(err)
	}
}

// metric returns the value of a series, or 0 when there is none.
func (s *service) metric(series string) float64 {
	s.t.Helper()
	status, _, text := s.ops("/metrics")
	if status != http.StatusOK {
		s.t.Fatalf("/metrics: %d", status)
	}
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return value
}

func messages(outcome string) string {
	return `credentials_messages_total{kind="password_changed",outcome="` + outcome + `",topic="mail"}`
}

const waiting = `credentials_messages_waiting{topic="mail"}`

// until waits for what the service does by itself.
func (s *service) until(what string, done func() bool) {
	s.t.Helper()
	for giveUp := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(giveUp) {
			s.t.Fatalf("waited in vain until %s\n%s", what, s.log)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// NOT-03: a mail that really travels: over TLS from the first byte and by STARTTLS, with a password, in a form that its
// receivers can tell apart, group and not answer, and that holds nothing a user could have put into its header.
func TestMail_travels(t *testing.T) {
	for name, settle := range map[string][]func(*mailServer){
		"implicit TLS": nil, "STARTTLS": {startTLS}, "without a password": {func(m *mailServer) { m.user = "" }},
	} {
		t.Run(name, func(t *testing.T) {
			server := startMailServer(t, settle...)
			s := start(t, databaseURL(t, "sqlite"), append(server.env(), "PUBLIC_URL=https://credentials.example.com", "ACCOUNT_URL=https://app.example.com/account")...)
			s.post("alex", 1)
			got := server.next()
			if got.from != "no-reply@mail.example" || got.to != "alex@demo.example" || got.subject != "Your password was changed" {
				t.Errorf("from %q to %q: %q", got.from, got.to, got.subject)
			}
			for header, want := range map[string]string{
				"From": `^"?SalesExec"? <no-reply@mail\.example>$`, "To": `^<alex@demo\.example>$`, "Auto-Submitted": "^auto-generated$",
				"Message-Id": `^<event-alex-0=password_changed=[0-9a-f]{16}@mail\.example>$`, "Mime-Version": `^1\.0$`, "X-Auto-Response-Suppress": "^All$",
				"X-Mailer": "^$", "User-Agent": "^$", "Bcc": "^$", "X-Evil": "^$", "Cc": "^$",
			} {
				if value := got.header.Get(header); !regexp.MustCompile(want).MatchString(value) {
					t.Errorf("%s: %q, want %s", header, value, want)
				}
			}
			sent, err := got.header.Date()
			if err != nil || s.clock.now().Sub(sent).Abs() > time.Minute {
				t.Errorf("Date %v, %v", sent, err)
			}
			for part, text := range map[string]string{"text": got.text, "html": got.html} {
				for _, want := range []string{"Demo Sales", "alex", "curl", "192.0.2.1", "contact your administrator", "https://app.example.com/account"} {
					if !strings.Contains(text, want) {
						t.Errorf("the %s lacks %q:\n%s", part, want, text)
					}
				}
			}
			for line := range strings.SplitSeq(got.source, "\r\n") {
				if len(line) > 998 || strings.Contains(line, "\n") {
					t.Errorf("a line of %d bytes, against RFC 5322 section 2.1.1", len(line))
				}
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if (server.logins == 1) != (server.user != "") || server.hello != "credentials.example.com" {
				t.Errorf("%d logins, HELO %q", server.logins, server.hello)
			}
		})
	}
}

// A server that offers no TLS, one with a certificate of somebody else, and one that does not take the password get no mail.
// All three are faults of the settings: the mail stays and leaves when they are mended.
func TestMail_unsafeServers(t *testing.T) {
	oneByOne(t)
	otherCA, otherCertificate := newAuthority(t)
	for name, broken := range map[string]struct{ breaks, mends func(*mailServer) }{
		"no TLS": { // nor a password, for the want of which nothing would leave either
			func(m *mailServer) { m.scheme, m.encrypted, m.user = "smtp", nil, "" },
			func(m *mailServer) {
				m.encrypted = &tls.Config{Certificates: []tls.Certificate{otherCertificate}, MinVersion: tls.VersionTLS12}
			},
		},
		"certificate of another authority": {
			func(*mailServer) {},
			func(m *mailServer) { m.encrypted.Certificates[0] = otherCertificate },
		},
		"another authority by STARTTLS": {
			startTLS,
			func(m *mailServer) { m.encrypted.Certificates[0] = otherCertificate },
		},
		"wrong password": {
			func(m *mailServer) { m.encrypted.Certificates[0], m.pw = otherCertificate, "another" },
			func(m *mailServer) { m.pw = "pass/word of #mail" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := startMailServer(t, broken.breaks)
			env := server.env()
			env[0] = strings.Replace(env[0], "another", "pass%2Fword%20of%20%23mail", 1)
			s := start(t, databaseURL(t, "sqlite"), env[0], "SMTP_CA_FILE="+otherCA, env[2])
			s.post("alex", 1)
			s.until("the mail was postponed", func() bool { return s.metric(messages("postponed")) == 1 })
			if n := s.metric(waiting); n != 1 {
				t.Errorf("%v messages wait", n)
			}
			if got := server.received(0); len(got) != 0 {
				t.Fatalf("the mail has left: %+v", got)
			}
			if strings.Contains(s.log.String(), "word%20of") || strings.Contains(s.log.String(), "word of") {
				t.Errorf("the log holds the password:\n%s", s.log)
			}
			server.stop()
			broken.mends(server)
			server.start()
			s.clock.advance(10 * time.Second)
			server.next()
		})
	}
}

func temporarily(stage string) func(string, string) error {
	return func(at, _ string) error {
		if at == stage {
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
		}
		return nil
	}
}

// NOT-04: what the server cannot take now leaves later, once; meanwhile it waits, and shows in the metrics.
func TestMail_triedAgain(t *testing.T) {
	onEachDatabaseWithMail(t, func(t *testing.T, s *service, server *mailServer) {
		for i, stage := range []string{"mail", "rcpt", "data"} {
			server.refusing(temporarily(stage))
			s.post([]string{"alex", "bo", "wanda"}[i], 1)
			s.until("it was postponed", func() bool { return s.metric(messages("postponed")) == float64(i+1) })
			if n := s.metric(waiting); n != 1 {
				t.Errorf("%s: %v messages wait", stage, n)
			}
			server.refusing(nil)
			s.clock.advance(10 * time.Second)
			if age := s.metric(`credentials_messages_oldest_seconds{topic="mail"}`); age != 0 && age < 10 {
				t.Errorf("%s: the oldest has waited %v s", stage, age)
			}
			server.next()
			s.until("it is gone", func() bool { return s.metric(waiting) == 0 })
		}
		if n := s.metric(messages("delivered")); n != 3 || len(server.received(3)) != 3 {
			t.Errorf("%v delivered, %d received", n, len(server.received(3)))
		}
		if strings.Contains(s.log.String(), "@demo.example") {
			t.Errorf("the log holds an address:\n%s", s.log)
		}
	})
}

// onEachDatabaseWithMail is onEachDatabase with a mail server that the service sends through.
func onEachDatabaseWithMail(t *testing.T, test func(t *testing.T, s *service, server *mailServer), env ...string) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			server := startMailServer(t)
			test(t, start(t, databaseURL(t, database), append(server.env(), env...)...), server)
		})
	}
}

// NOT-04: a server that is down loses nothing: the change is made, the mail waits through a restart, and leaves once.
func TestMail_serverDown(t *testing.T) {
	onEachDatabaseWithMail(t, func(t *testing.T, s *service, server *mailServer) {
		server.stop()
		s.post("alex", 3)
		s.until("all were tried", func() bool { return s.metric(messages("postponed")) == 3 })
		if code := s.stop(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		server.start()
		again := start(t, s.databaseURL, server.env()...)
		again.clock.advance(10 * time.Second)
		server.received(3)
		again.until("nothing waits", func() bool { return again.metric(waiting) == 0 })
		again.stop()
		if got := server.received(3); len(got) != 3 {
			t.Errorf("%d mails", len(got))
		}
	})
}

// givenUp returns the code of the audit events that tell of mails given up.
func givenUp(t *testing.T, s *service) []string {
	t.Helper()
	var codes []string
	for _, found := range regexp.MustCompile(`(?m)^audit_events .*notice\.given_up.*$`).FindAllString(dump(t, s.databaseURL), -1) {
		code := regexp.MustCompile(`"code": ?"(\w+)".*"notice": ?"password_changed"|"notice": ?"password_changed".*"code": ?"(\w+)"`).FindStringSubmatch(found)
		if code == nil {
			t.Fatalf("an event without a code or the kind: %s", found)
		}
		if !strings.Contains(found, s.user("alex").ID) {
			t.Errorf("an event about somebody else: %s", found)
		}
		codes = append(codes, code[1]+code[2])
	}
	return codes
}

// What the server refuses for good, the receiver or the mail, is given up at once, in the audit trail and the metrics; so is
// what could not leave in time. A refused sender is a fault of the settings and is tried again.
func TestMail_givenUp(t *testing.T) {
	onEachDatabaseWithMail(t, func(t *testing.T, s *service, server *mailServer) {
		for i, stage := range []string{"rcpt", "data"} {
			server.refusing(func(at, _ string) error {
				if at == stage {
					return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here: alex@demo.example"}
				}
				return nil
			})
			s.post("alex", 1)
			s.until("it was given up", func() bool { return s.metric(messages("given_up")) == float64(i+1) && s.metric(waiting) == 0 })
		}
		server.refusing(func(at, _ string) error {
			if at == "mail" {
				return &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "not your address"}
			}
			return nil
		})
		s.post("alex", 1)
		s.until("it was postponed", func() bool { return s.metric(messages("postponed")) == 1 })
		s.clock.advance(notice.GiveUpAfter)
		s.until("it was given up", func() bool { return s.metric(messages("given_up")) == 3 && s.metric(waiting) == 0 })
		if codes := givenUp(t, s); !slices.Equal(slices.Sorted(slices.Values(codes)), []string{"expired", "refused", "refused"}) {
			t.Errorf("events %q", codes)
		}
		if log := s.log.String(); strings.Contains(log, "alex@demo") || !strings.Contains(log, "550 5.1.1") {
			t.Errorf("the log must tell the answer's codes and no address:\n%s", log)
		}
		if got := server.received(0); len(got) != 0 {
			t.Errorf("%d mails", len(got))
		}
	})
}

// NOT-04: two replicas on one database deliver every message, each once.
func TestMail_twoReplicas(t *testing.T) {
	onEachDatabaseWithMail(t, func(t *testing.T, s *service, server *mailServer) {
		other := start(t, s.databaseURL, server.env()...)
		const each = 40
		for _, name := range []string{"alex", "bo", "wanda"} {
			s.post(name, each)
		}
		server.received(3 * each)
		s.until("nothing waits", func() bool { return s.metric(waiting) == 0 })
		by := []float64{s.metric(messages("delivered")), other.metric(messages("delivered"))}
		s.stop()
		other.stop()
		ids := map[string]int{}
		for _, got := range server.received(3 * each) {
			ids[got.header.Get("Message-Id")]++
		}
		if len(ids) != 3*each || len(server.seen) != 3*each {
			t.Errorf("%d mails, %d different, want %d", len(server.seen), len(ids), 3*each)
		}
		if by[0]+by[1] != 3*each {
			t.Errorf("the replicas delivered %v", by)
		}
	})
}

// A connection that breaks after the server has taken a mail does not make a second one of it; one that breaks before its
// answer does, since nobody can know, with the same Message-ID, so that receivers can drop it.
func TestMail_brokenConnections(t *testing.T) {
	server := startMailServer(t)
	s := start(t, databaseURL(t, "sqlite"), server.env()...)
	server.hangUp = "after"
	s.post("alex", 1)
	server.next()
	s.until("nothing waits", func() bool { return s.metric(waiting) == 0 })
	if s.metric(messages("delivered")) != 1 || s.metric(messages("postponed")) != 0 {
		t.Errorf("%v delivered, %v postponed", s.metric(messages("delivered")), s.metric(messages("postponed")))
	}
	server.mu.Lock()
	server.hangUp = "before"
	server.mu.Unlock()
	s.post("bo", 1)
	first := server.next()
	s.until("it was postponed", func() bool { return s.metric(messages("postponed")) == 1 })
	s.clock.advance(10 * time.Second)
	second := server.next()
	if a, b := first.header.Get("Message-Id"), second.header.Get("Message-Id"); a != b || a == "" {
		t.Errorf("Message-ID %q, then %q", a, b)
	}
}

// What is due when the process is told to end still leaves.
func TestMail_drainedAtTheEnd(t *testing.T) {
	server := startMailServer(t)
	s := start(t, databaseURL(t, "sqlite"), server.env()...)
	s.post("alex", 20)
	if code := s.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if got := server.received(0); len(got) != 20 {
		t.Errorf("%d mails have left", len(got))
	}
}

// Without a mail server nothing is sent, and the log says what that means.
func TestMail_none(t *testing.T) {
	variables := serving(databaseURL(t, "postgres"))
	s := startServe(t, variables)
	if !strings.Contains(s.log.String(), "no mail is sent") || !strings.Contains(s.log.String(), "take effect at once") {
		t.Errorf("the log does not say so:\n%s", s.log)
	}
	if _, _, text := s.ops("/metrics"); strings.Contains(text, "credentials_messages_waiting") {
		t.Error("messages wait for nobody")
	}
	server := startMailServer(t)
	variables = serving(databaseURL(t, "postgres"))
	for _, e := range server.env() {
		name, value, _ := strings.Cut(e, "=")
		variables[name] = value
	}
	if s := startServe(t, variables); strings.Contains(s.log.String(), "no mail is sent") {
		t.Errorf("%s", s.log)
	}
}

// REC-04: what waits to be sent is sealed: no link can be read in the database.
func TestMail_sealedWhileItWaits(t *testing.T) {
	onEachDatabaseWithMail(t, func(t *testing.T, s *service, server *mailServer) {
		server.refusing(temporarily("mail"))
		letters := s.letters("alex", 1, &notice.Link{Purpose: change.ResetPassword, Life: notice.ResetLife})
		c := change.Change{At: s.clock.now()}
		letters.AddTo(&c)
		if _, err := s.outboxOf().Commit(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		s.until("it was postponed", func() bool { return s.metric(messages("postponed")) == 1 })
		waits, log := dump(t, s.databaseURL), s.log.String()
		server.refusing(nil)
		s.clock.advance(10 * time.Second)
		got := server.next()
		token := got.token()
		if !strings.HasPrefix(got.link(), s.demo.URL+"/reset#token=") || len(token) != 43 || strings.Count(got.text, token) != 1 || strings.Count(got.html, token) != 1 {
			t.Fatalf("link %q\n%s", got.link(), got.text)
		}
		for place, text := range map[string]string{"database": waits, "log": log + s.log.String()} {
			if strings.Contains(text, token) || strings.Contains(text, token[10:30]) {
				t.Errorf("the %s holds the token", place)
			}
		}
		if !strings.Contains(waits, secret.New(token).Digest()) {
			t.Error("the digest of the token is not kept")
		}
	})
}
