package notice

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"

	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/secret"
)

// smtpTimeout bounds each of the two halves of a delivery, coming to terms with the server and handing the mail over, so
// that both together stay within the relay's time.
const smtpTimeout = 30 * time.Second

// SMTPConfig says how to reach an SMTP server, and as whom.
type SMTPConfig struct {
	Host        string
	Port        int
	ImplicitTLS bool // TLS from the first byte (RFC 8314 section 3.3); else STARTTLS, without which nothing is sent
	Username    string
	Password    secret.Text
	CAs         *x509.CertPool // that may vouch for the server; nil: the system's
	From        mail.Address
	Hello       string // the host name that this side introduces itself by
}

// SMTP is the Transport of production: it sends over TLS to a server whose certificate is checked, or not at all.
type SMTP struct{ config SMTPConfig }

var _ Transport = (*SMTP)(nil)

// NewSMTP returns an SMTP. Nothing is sent yet.
func NewSMTP(config SMTPConfig) *SMTP {
	if address, err := netip.ParseAddr(config.Hello); err == nil { // an address literal (RFC 5321 section 4.1.3)
		config.Hello = "[" + address.String() + "]"
		if address.Is6() {
			config.Hello = "[IPv6:" + address.String() + "]"
		}
	}
	return &SMTP{config: config}
}

// Send hands a mail to the server, over a connection of its own. outbox.ErrUndeliverable when the server refuses the receiver
// or the mail for good. What goes wrong once the server has taken the mail is no error: it would be sent twice.
func (s *SMTP) Send(ctx context.Context, mail Mail) error {
	message, ascii, err := s.message(mail)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*smtpTimeout)
	defer cancel()
	client, err := s.client(ctx, ascii)
	if err != nil {
		return fmt.Errorf("notice: set up SMTP: %w", err)
	}
	err = client.DialAndSendWithContext(ctx, message)
	if message.IsDelivered() {
		return nil
	}
	return explain(err)
}

// message puts a mail into the form of RFC 5322; ascii tells whether both addresses are such.
func (s *SMTP) message(mail Mail) (message *gomail.Msg, ascii bool, err error) {
	to, err := overWire(mail.To)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", outbox.ErrUndeliverable, err)
	}
	from, err := overWire(s.config.From.Address)
	if err != nil {
		return nil, false, err
	}
	message = gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := errors.Join(message.FromFormat(s.config.From.Name, from), message.To(to)); err != nil {
		return nil, false, fmt.Errorf("notice: address a mail: %w", err)
	}
	message.Subject(mail.Subject)
	message.SetDateWithValue(mail.At.UTC())
	// The same each time, so that receivers can drop a second copy.
	message.SetMessageIDWithValue(atom(mail.ID) + from[strings.LastIndexByte(from, '@'):])
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 section 5: nobody's absence notice answers
	message.SetGenHeader("X-Auto-Response-Suppress", "All")  // and Exchange's neither
	message.SetBodyString(gomail.TypeTextPlain, mail.Text)
	message.AddAlternativeString(gomail.TypeTextHTML, mail.HTML)
	return message, isASCII(to) && isASCII(from), nil
}

// overWire returns an address with its domain in ASCII, which every server understands. A local part beyond ASCII stays: it
// takes a server that knows SMTPUTF8.
func overWire(address string) (string, error) {
	local, domain, found := strings.Cut(address, "@")
	ascii, err := idna.Lookup.ToASCII(domain)
	if !found || err != nil {
		return "", errors.New("notice: a mail has an address that is none")
	}
	return local + "@" + ascii, nil
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c > 0x7f })
}

// client makes a client for one delivery. Its connection is closed when ctx is over, whatever comes of it.
func (s *SMTP) client(ctx context.Context, ascii bool) (*gomail.Client, error) {
	encryption := &tls.Config{ServerName: s.config.Host, RootCAs: s.config.CAs, MinVersion: tls.VersionTLS12}
	options := []gomail.Option{
		gomail.WithPort(s.config.Port), gomail.WithTimeout(smtpTimeout), gomail.WithHELO(s.config.Hello),
		gomail.WithTLSConfig(encryption), gomail.WithTLSPolicy(gomail.TLSMandatory), gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(dialing context.Context, network, address string) (net.Conn, error) {
			connection, err := (&net.Dialer{}).DialContext(dialing, network, address)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { _ = connection.Close() }) // nobody waits for it any more
			if !s.config.ImplicitTLS {
				return connection, nil
			}
			secured := tls.Client(connection, encryption)
			return secured, secured.HandshakeContext(dialing)
		}),
	}
	if s.config.ImplicitTLS {
		options = append(options, gomail.WithSSL())
	}
	if s.config.Username != "" {
		options = append(options, gomail.WithUsername(s.config.Username), gomail.WithPassword(s.config.Password.Reveal()),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthSCRAMSHA256))
	}
	if ascii {
		options = append(options, gomail.WithoutSMTPUTF8()) // asked for needlessly, it makes servers further on refuse the mail
	}
	return gomail.NewClient(s.config.Host, options...)
}

// explain tells what a failed delivery means, without the server's words: they may repeat the address, or the mail. A refusal
// of the sender, or for want of authentication, is a fault of the settings, and passes when they are mended.
func explain(err error) error {
	failed, ok := errors.AsType[*gomail.SendError](err)
	if !ok {
		return fmt.Errorf("notice: reach the SMTP server: %w", err)
	}
	told := fmt.Errorf("notice: the SMTP server was lost while %s", failed.Reason)
	code := failed.ErrorCode()
	if code > 0 {
		answer := strings.TrimSpace(strconv.Itoa(code) + " " + failed.EnhancedStatusCode())
		told = fmt.Errorf("notice: the SMTP server answered %s while %s", answer, failed.Reason)
	}
	aboutMail := failed.Reason == gomail.ErrSMTPRcptTo || failed.Reason == gomail.ErrSMTPData || failed.Reason == gomail.ErrSMTPDataClose
	const authentication = 53 // 530, 534, 535, 538 (RFC 4954 section 6)
	if aboutMail && code >= 500 && code/10 != authentication {
		return fmt.Errorf("%w: %w", outbox.ErrUndeliverable, told)
	}
	return told
}
