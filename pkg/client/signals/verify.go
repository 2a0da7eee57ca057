package signals

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// algorithm is the only one that events are signed with (CAEP interoperability profile section 2.6; RFC 8725 section 3.1).
	algorithm = "RS256"
	// mediaType is the header "typ" that tells a SET from every other kind of JWT (SSF 1.0 section 4.1.1).
	mediaType = "secevent+jwt"
	// maxSize is the most bytes of a SET that are looked at, well over what the service makes.
	maxSize = 64 << 10
	// leeway allows for clocks that differ.
	leeway = time.Minute
)

// The codes of RFC 8935 section 2.4 that a SET itself can be refused with.
const (
	invalidRequest  = "invalid_request"
	invalidKey      = "invalid_key"
	invalidIssuer   = "invalid_issuer"
	invalidAudience = "invalid_audience"
)

// Config is what a Verifier needs.
type Config struct {
	// Issuer is the exact "iss" of the SETs: the PUBLIC_URL of the credentials service. Audience is that of the stream, which is the
	// receiver's client id. Neither may be empty.
	Issuer, Audience string
	// KeysURL is where the keys are; empty stands for /.well-known/jwks.json below Issuer.
	KeysURL string
	// Client fetches the keys; nil stands for one that waits 5 seconds and follows no redirect.
	Client *http.Client
	// Now is the clock; nil stands for the system's.
	Now func() time.Time
}

// Verifier checks SETs. Any number of goroutines may use it.
type Verifier struct {
	config Config
	parser *jwt.Parser
	keys   *keys
}

// NewVerifier returns a Verifier. It fetches nothing: the first SET does. It refuses an empty issuer or audience.
func NewVerifier(config Config) (*Verifier, error) {
	config.KeysURL = cmp.Or(config.KeysURL, strings.TrimSuffix(config.Issuer, "/")+"/.well-known/jwks.json")
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Client == nil {
		config.Client = &http.Client{
			Timeout: fetchWithin, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if config.Issuer == "" || config.Audience == "" {
		return nil, errors.New("signals: the issuer and the audience must not be empty")
	}
	if at, err := url.Parse(config.KeysURL); err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, errors.New("signals: the address of the keys is not an absolute http or https URL")
	}
	return &Verifier{
		config: config, keys: newKeys(config),
		// The claims are checked after the signature, by check: a SET has others than an access token.
		parser: jwt.NewParser(jwt.WithValidMethods([]string{algorithm}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation()),
	}, nil
}

// subject is a subject identifier (RFC 9493) in the forms that the service writes.
type subject struct {
	Format  string   `json:"format"`
	Issuer  string   `json:"iss"`
	Subject string   `json:"sub"`
	ID      string   `json:"id"`
	User    *subject `json:"user"`
	Session *subject `json:"session"`
	Tenant  *subject `json:"tenant"`
}

// payload are the claims of a SET.
type payload struct {
	jwt.RegisteredClaims
	Txn    string                     `json:"txn"`
	SubID  *subject                   `json:"sub_id"`
	Events map[string]json.RawMessage `json:"events"`
}

// Verify checks a SET: type, signature, issuer, audience and form. It returns a *RefusedError for one that will never be good, and
// ErrUnavailable when its key could not be had or its time is more than a minute ahead of the clock; ctx bounds the wait.
func (v *Verifier) Verify(ctx context.Context, set string) (Event, error) {
	if len(set) > maxSize {
		return Event{}, refuse(invalidRequest, "the SET is too long")
	}
	var content payload
	var keyErr error
	_, err := v.parser.ParseWithClaims(set, &content, func(t *jwt.Token) (any, error) {
		id, err := keyID(t.Header)
		if err != nil {
			keyErr = err
			return nil, err
		}
		key, err := v.keys.find(ctx, id)
		keyErr = err
		return key, err
	})
	switch {
	case keyErr != nil:
		return Event{}, keyErr
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Event{}, refuse(invalidRequest, "the SET cannot be read")
	case err != nil:
		return Event{}, refuse(invalidKey, "the algorithm or the signature is wrong")
	}
	return v.event(content)
}

// keyID checks the header. The key is found by "kid" alone: one that the SET brings itself is not looked at (RFC 8725 section 3.10).
func keyID(header map[string]any) (string, error) {
	kind, _ := header["typ"].(string)
	if kind = strings.ToLower(kind); kind != mediaType && kind != "application/"+mediaType {
		return "", refuse(invalidRequest, "the type is not "+mediaType)
	}
	if _, critical := header["crit"]; critical { // none is understood (RFC 7515 section 4.1.11)
		return "", refuse(invalidRequest, "there is an unknown critical header")
	}
	id, _ := header["kid"].(string)
	if id == "" {
		return "", refuse(invalidKey, "there is no key id")
	}
	return id, nil
}

func (v *Verifier) event(content payload) (Event, error) {
	switch {
	case content.Issuer != v.config.Issuer:
		return Event{}, refuse(invalidIssuer, "it is of another issuer")
	case !slices.Contains(content.Audience, v.config.Audience):
		return Event{}, refuse(invalidAudience, "it is for another audience")
	case content.Subject != "" || content.ExpiresAt != nil: // what would make another kind of token of it (SSF 1.0 section 4.1)
		return Event{}, refuse(invalidRequest, "a SET has neither sub nor exp")
	case content.ID == "" || content.IssuedAt == nil || content.SubID == nil:
		return Event{}, refuse(invalidRequest, "jti, iat or sub_id is missing")
	case len(content.Events) != 1:
		return Event{}, refuse(invalidRequest, "there is not exactly one event")
	case content.IssuedAt.After(v.config.Now().Add(leeway)): // a clock is wrong: refused for that, the event would be lost
		return Event{}, fmt.Errorf("%w: by the clock here it is issued in the future", ErrUnavailable)
	}
	e := Event{ID: content.ID, Txn: content.Txn, IssuedAt: content.IssuedAt.Time}
	for kind, claims := range content.Events {
		e.Type, e.Claims = kind, claims
	}
	return e, v.about(&e, *content.SubID)
}

// about notes whom an event is about.
func (v *Verifier) about(e *Event, id subject) error {
	if id.Format == "opaque" && id.ID != "" && (e.Type == Verification || e.Type == StreamUpdated) {
		e.StreamID = id.ID
		return nil
	}
	of := &id
	if id.Format == "complex" {
		of = id.User
		if id.Session != nil {
			e.SessionID = id.Session.ID
		}
		if id.Tenant != nil {
			e.AccountID = id.Tenant.ID
		}
	}
	if of == nil || of.Format != "iss_sub" || of.Issuer != v.config.Issuer || of.Subject == "" {
		return refuse(invalidRequest, "the subject is no user of the issuer")
	}
	e.UserID = of.Subject
	return nil
}
