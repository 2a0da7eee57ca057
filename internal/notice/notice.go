// Package notice is what users hear by mail: that something about their credentials happened, and links to act on.
//
// A use case describes what happened; Compose makes of it one message for each address, which the use case saves with the
// change (package outbox). A Mailer turns a message that is due into a mail of plain text and HTML and hands it to a
// Transport: an SMTP server, or in development a mailbox in a folder. It depends on packages access, audit, change, outbox,
// secret and user for their words, and on go-mail for the form of mails and SMTP.
package notice

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

// Kind is what a mail tells.
type Kind string

// The closed set of kinds.
const (
	PasswordChanged  Kind = "password_changed"  // by the user
	PasswordReset    Kind = "password_reset"    // by an administrator or a service
	PasswordDisabled Kind = "password_disabled" // after too many failures
	UsernameChanged  Kind = "username_changed"
	EmailChangeAsked Kind = "email_change_asked" // to the address on file, while the new one is not confirmed
	EmailChanged     Kind = "email_changed"      // to the old address and the new one
	NewDevice        Kind = "new_device"         // a sign-in from a device or network not seen before
	Reverted         Kind = "reverted"           // "this wasn't me" was used
	SecurityLocked   Kind = "security_locked"    // an administrator locked the user out of concern

	ConfirmEmail     Kind = "confirm_email"     // to the new address, with the link that confirms it
	EmailUnavailable Kind = "email_unavailable" // to the owner of an address that somebody else wanted
	ResetLink        Kind = "reset_link"        // with the link to choose a new password

	AdministratorsPasswordDisabled Kind = "administrators_password_disabled" // to those who manage the user
	AdministratorsReverted         Kind = "administrators_reverted"          // likewise
	AdministratorsSecurityLocked   Kind = "administrators_security_locked"   // likewise
)

// Kinds returns every kind.
func Kinds() []Kind {
	return []Kind{
		PasswordChanged, PasswordReset, PasswordDisabled, UsernameChanged, EmailChangeAsked, EmailChanged, NewDevice, Reverted,
		SecurityLocked, ConfirmEmail, EmailUnavailable, ResetLink, AdministratorsPasswordDisabled, AdministratorsReverted,
		AdministratorsSecurityLocked,
	}
}

// How long links are good for.
const (
	// ResetLife and ConfirmLife: a recovery link by e-mail is good for at most 24 hours (NIST SP 800-63B-4 section 4.2.1.2).
	ResetLife   = 24 * time.Hour
	ConfirmLife = 24 * time.Hour
	// RevertLife is how long a self-service change can be undone by its notice.
	RevertLife = 7 * 24 * time.Hour
	// GiveUpAfter is how long a notice is tried; a link that is over sooner is tried no longer than it is good for.
	GiveUpAfter = 48 * time.Hour
)

// By is who did what a notice tells of.
type By struct {
	Kind string `json:"kind"` // self, administrator, service or system
	Name string `json:"name,omitempty"`
}

// Notice is what a mail is made of: facts alone, the words are chosen when it is sent.
type Notice struct {
	Kind        Kind           `json:"kind"`
	To          string         `json:"to"`
	Account     string         `json:"account"`
	Name        string         `json:"name"`     // display name of the user it is about
	Username    string         `json:"username"` // as it is now
	OldUsername string         `json:"old_username,omitempty"`
	OldEmail    string         `json:"old_email,omitempty"`
	NewEmail    string         `json:"new_email,omitempty"`
	At          time.Time      `json:"at"`
	IP          string         `json:"ip,omitempty"`
	UserAgent   string         `json:"user_agent,omitempty"`
	By          By             `json:"by"`
	Method      string         `json:"method,omitempty"` // of a reset: temporary or set
	Purpose     change.Purpose `json:"purpose,omitempty"`
	Token       string         `json:"token,omitempty"` // of the link; a secret: the message is sealed
	LinkUntil   *time.Time     `json:"link_until,omitempty"`
}

// New describes what an audit event tells, for the user it is about.
func New(kind Kind, account user.Account, about user.User, event audit.Event) Notice {
	return Notice{
		Kind: kind, Account: account.Name, Name: about.DisplayName, Username: about.Username, At: event.At,
		IP: event.Origin.IP, UserAgent: event.Origin.UserAgent, By: byOf(event.Actor, about),
		OldUsername: event.Details.OldUsername, OldEmail: event.Details.OldEmail, NewEmail: event.Details.NewEmail,
		Method: event.Details.Method,
	}
}

func byOf(actor audit.Party, about user.User) By {
	switch {
	case actor.Kind == access.Person && actor.ID == string(about.ID):
		return By{Kind: "self"}
	case actor.Kind == access.Person:
		return By{Kind: "administrator", Name: actor.Name}
	case actor.Kind == access.Service:
		return By{Kind: "service", Name: actor.Name}
	}
	return By{Kind: "system"}
}

// Letters are mails on their way into a change: the messages, and what is kept of the links in them.
type Letters struct {
	Messages []outbox.Message
	Tokens   []change.Token
}

// AddTo puts the letters into a change.
func (l Letters) AddTo(c *change.Change) {
	c.Outbox = append(c.Outbox, l.Messages...)
	c.Tokens = append(c.Tokens, l.Tokens...)
}

// Composer makes letters. One that is off makes none: without a mail transport nothing could send them.
type Composer struct{ on bool }

// NewComposer returns a Composer; on tells whether there is a mail transport.
func NewComposer(on bool) *Composer { return &Composer{on: on} }

// On tells whether mail is sent at all.
func (c *Composer) On() bool { return c.on }

// Link is a link that a letter carries.
type Link struct {
	Purpose change.Purpose
	Life    time.Duration
	Facts   change.TokenFacts
}

// Letter adds one mail about the user to the address: with a link of its own if link is not nil. id names the event; one
// event makes one message for each address and kind, however often it is tried.
func (c *Composer) Letter(l *Letters, id string, n Notice, about user.User, to string, link *Link) error {
	if !c.on || to == "" {
		return nil
	}
	n.To = to
	giveUp := n.At.Add(GiveUpAfter)
	if link != nil {
		token := secret.NewToken()
		until := n.At.Add(link.Life)
		n.Purpose, n.Token, n.LinkUntil = link.Purpose, token.Reveal(), &until
		l.Tokens = append(l.Tokens, change.Token{
			Digest: token.Digest(), UserID: about.ID, AccountID: about.AccountID, Purpose: link.Purpose,
			IssuedAt: n.At, ExpiresAt: until, Facts: link.Facts,
		})
		if until.Before(giveUp) {
			giveUp = until
		}
	}
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("notice: write %s: %w", n.Kind, err)
	}
	l.Messages = append(l.Messages, outbox.Message{
		ID: id + ":" + string(n.Kind) + ":" + secret.New(to).Digest()[:16], Topic: outbox.Mail, AccountID: about.AccountID, UserID: about.ID,
		Kind: string(n.Kind), Body: secret.New(string(body)), At: n.At, GiveUpAt: giveUp,
	})
	return nil
}

// Managers adds a mail about the user to each of the administrators who manages it. The others must not learn of it: to them
// the user does not exist.
func (c *Composer) Managers(l *Letters, id string, n Notice, about user.User, administrators []user.User) error {
	for _, a := range administrators {
		if a.ID == about.ID || !a.Manages(about) {
			continue
		}
		if err := c.Letter(l, id, n, about, a.Email, nil); err != nil {
			return err
		}
	}
	return nil
}

// RevertLink is the "this wasn't me" link for what was done to a user that was as in before. It goes to confirmed addresses
// alone: nil for any other.
func RevertLink(before user.User) *Link {
	if before.Email == "" || !before.EmailVerified {
		return nil
	}
	return &Link{Purpose: change.Revert, Life: RevertLife, Facts: change.TokenFacts{
		Email: before.Email, EmailVerified: before.EmailVerified, Username: before.Username,
	}}
}
