package signal

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/salesexec/credentials/internal/user"
)

const (
	// algorithm is what CAEP's interoperability profile fixes (section 2.6).
	algorithm = "RS256"
	// mediaType is the header "typ" that tells a SET from every other JWT (SSF 1.0 section 4.1.1).
	mediaType = "secevent+jwt"
)

// subjectID is a subject identifier (RFC 9493) as this transmitter writes them: a user by issuer and id, a session by user,
// session and account, a stream by its id. It is never an e-mail address.
type subjectID struct {
	Format  string     `json:"format"`
	Issuer  string     `json:"iss,omitempty"`
	Subject string     `json:"sub,omitempty"`
	ID      string     `json:"id,omitempty"`
	User    *subjectID `json:"user,omitempty"`
	Session *subjectID `json:"session,omitempty"`
	Tenant  *subjectID `json:"tenant,omitempty"`
}

// setClaims are the claims of a SET: neither "sub" nor "exp" (SSF 1.0 sections 4.1.2 and 4.1.7).
type setClaims struct {
	Issuer   string                     `json:"iss"`
	JTI      string                     `json:"jti"`
	IssuedAt int64                      `json:"iat"` // seconds since 1970: when it was queued, the same each time it is sent
	Audience string                     `json:"aud"`
	Txn      string                     `json:"txn,omitempty"`
	SubID    subjectID                  `json:"sub_id"`
	Events   map[string]json.RawMessage `json:"events"` // exactly one
}

// These make setClaims what golang-jwt signs; it validates nothing here.

func (setClaims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (setClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (setClaims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c setClaims) GetIssuer() (string, error)                 { return c.Issuer, nil }
func (setClaims) GetSubject() (string, error)                  { return "", nil }
func (c setClaims) GetAudience() (jwt.ClaimStrings, error)     { return jwt.ClaimStrings{c.Audience}, nil }

// Signer makes SETs of what is delivered.
type Signer struct {
	issuer string // also that of access tokens and of subjects
	ring   *Ring
}

// NewSigner returns a Signer.
func NewSigner(issuer string, ring *Ring) *Signer { return &Signer{issuer: issuer, ring: ring} }

// SET returns the signed SET of a delivery on a stream: the same claims each time, whichever key signs them.
func (s *Signer) SET(ctx context.Context, stream Stream, d Delivery) (string, error) {
	signing, err := s.ring.signing(ctx)
	if err != nil {
		return "", err
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, setClaims{
		Issuer: s.issuer, JTI: d.JTI, IssuedAt: d.CreatedAt.Unix(), Audience: stream.Audience, Txn: d.Txn, SubID: s.subject(d),
		Events: map[string]json.RawMessage{d.Type: d.Claims},
	})
	unsigned.Header["typ"], unsigned.Header["kid"] = mediaType, signing.id
	signed, err := unsigned.SignedString(signing.private)
	if err != nil {
		return "", fmt.Errorf("signal: sign: %w", err)
	}
	return signed, nil
}

func (s *Signer) subject(d Delivery) subjectID {
	if d.AboutStream() {
		return subjectID{Format: "opaque", ID: d.StreamID}
	}
	u := subjectID{Format: "iss_sub", Issuer: s.issuer, Subject: d.Subject}
	if d.SessionID == "" {
		return u
	}
	return subjectID{
		Format: "complex", User: &u, Session: &subjectID{Format: "opaque", ID: d.SessionID}, Tenant: &subjectID{Format: "opaque", ID: d.AccountID},
	}
}

// Subject reads a subject identifier that names whom a stream should hear of: a user, an account, or a user of an account. Whom
// this transmitter does not know, such as the holder of an e-mail address, is the zero Rule. *InvalidError when it is no subject
// identifier.
func (t *Transmitter) Subject(raw []byte) (Rule, error) {
	var members map[string]json.RawMessage
	var id subjectID
	if json.Unmarshal(raw, &members) != nil || json.Unmarshal(raw, &id) != nil {
		return Rule{}, invalid("subject is no subject identifier of RFC 9493.")
	}
	if id.Format != "complex" {
		named, err := t.user(id)
		return Rule{UserID: user.ID(named)}, err
	}
	var r Rule
	if id.User != nil {
		named, err := t.user(*id.User)
		if err != nil || named == "" {
			return Rule{}, err
		}
		r.UserID = user.ID(named)
	}
	if id.Tenant != nil {
		if id.Tenant.Format != "opaque" || id.Tenant.ID == "" {
			return Rule{}, invalid("subject.tenant must be {\"format\": \"opaque\", \"id\": \"<account id>\"}.")
		}
		r.AccountID = id.Tenant.ID
	}
	for name := range members {
		if name != "format" && name != "user" && name != "tenant" {
			return Rule{}, nil // a part of what a user is, such as a device: streams are not told apart by it
		}
	}
	if r == (Rule{}) {
		return Rule{}, invalid("a complex subject needs a user, a tenant or both.")
	}
	return r, nil
}

// user returns the user id that a simple identifier names, or "" when it names nobody here.
func (t *Transmitter) user(id subjectID) (string, error) {
	switch id.Format {
	case "":
		return "", invalid("subject.format is missing.")
	case "opaque":
		if id.ID == "" {
			return "", invalid("an opaque subject needs an id.")
		}
		return id.ID, nil
	case "iss_sub":
		if id.Issuer == "" || id.Subject == "" {
			return "", invalid("an iss_sub subject needs iss and sub.")
		}
		if id.Issuer == t.config.Issuer {
			return id.Subject, nil
		}
	}
	return "", nil
}
