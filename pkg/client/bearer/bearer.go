// Package bearer lets another service's net/http server accept the access tokens of the SalesExec credentials service.
//
// A Verifier checks a token by itself, with the keys that the service publishes (RFC 9068 section 4, RFC 8725): no request is made
// for it. What ended before its time (a session, every token older than a changed password) it learns from Revocations, of
// which package signals keeps one. Require is the middleware; From and RequireScope are for the handlers behind it.
//
// It depends on the standard library, golang.org/x/sync and github.com/golang-jwt/jwt/v5, so that other services can import it.
package bearer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// algorithm is the only one that the service signs access tokens with (RFC 8725 section 3.1).
	algorithm = "EdDSA"
	// mediaType is the header "typ" that tells an access token from every other kind of JWT (RFC 9068 section 2.1).
	mediaType = "at+jwt"
	// maxSize is the most bytes of a token that are looked at, well over what the service makes.
	maxSize = 8 << 10
	// defaultLifetime is what the service gives its tokens unless it is configured otherwise.
	defaultLifetime = 15 * time.Minute
	// defaultLeeway allows for clocks that differ; maxLeeway is the most allowed, "no more than a few minutes" (RFC 7519 section
	// 4.1.4), here one.
	defaultLeeway, maxLeeway = 30 * time.Second, time.Minute
)

var (
	// ErrNoToken says that a request has no access token.
	ErrNoToken = errors.New("bearer: no access token")
	// ErrMalformed says that a request has more than one Authorization header.
	ErrMalformed = errors.New("bearer: more than one Authorization header")
	// ErrInvalid says that a text is no good access token, or that it was revoked. The reason around it never holds the token.
	ErrInvalid = errors.New("bearer: invalid access token")
	// ErrScope says that a good token lacks a scope.
	ErrScope = errors.New("bearer: the token lacks a scope")
	// ErrUnavailable says that a token cannot be judged, as the keys could not be fetched.
	ErrUnavailable = errors.New("bearer: the keys that verify access tokens are not there")
)

// Revocations tells of tokens that have ended before they expire. It is asked for every token, so it must know without asking
// another service. The View of package signals is one.
type Revocations interface {
	// Revoked tells whether tokens of the user with the claims sid and gen have ended.
	Revoked(userID, sessionID string, generation int64) bool
}

// Config is what a Verifier needs.
type Config struct {
	// Issuer is the exact "iss" of the tokens: the PUBLIC_URL of the credentials service. Audience is the "aud" that must be among
	// theirs, its TOKEN_AUDIENCE. Neither may be empty.
	Issuer, Audience string
	// Revocations may be nil: then a token is good until it expires, whatever happens to its session.
	Revocations Revocations
	// KeysURL is where the keys are; empty stands for /.well-known/jwks.json below Issuer.
	KeysURL string
	// Client fetches the keys; nil stands for one that waits 5 seconds and follows no redirect.
	Client *http.Client
	// Lifetime is the longest that a token may be good for in all: 0 stands for 15 minutes. It must not be less than the
	// service's TOKEN_LIFETIME.
	Lifetime time.Duration
	// Leeway is allowed on every time of a token: 0 stands for 30 seconds, more than 60 is refused.
	Leeway time.Duration
	// Now is the clock; nil stands for the system's.
	Now func() time.Time
	// Refuse writes the answer to a refused request, whose status and headers are set on w but not written yet. err is one of the
	// errors of this package, wrapped. nil writes a problem document (RFC 9457).
	Refuse func(w http.ResponseWriter, r *http.Request, status int, err error)
}

// Verifier checks access tokens. Any number of goroutines may use it.
type Verifier struct {
	config    Config
	parser    *jwt.Parser
	validator *jwt.Validator
	keys      *keys
}

// New returns a Verifier. It fetches nothing: the first token does, or Refresh. It refuses an empty issuer or audience, and
// bounds that Config does not allow.
func New(config Config) (*Verifier, error) {
	config.Lifetime = cmp.Or(config.Lifetime, defaultLifetime)
	config.Leeway = cmp.Or(config.Leeway, defaultLeeway)
	config.KeysURL = cmp.Or(config.KeysURL, strings.TrimSuffix(config.Issuer, "/")+"/.well-known/jwks.json")
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Client == nil {
		config.Client = newClient()
	}
	if config.Refuse == nil {
		config.Refuse = writeProblem
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	return &Verifier{
		config: config,
		// The claims are checked after the signature, by the validator.
		parser: jwt.NewParser(jwt.WithValidMethods([]string{algorithm}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation()),
		validator: jwt.NewValidator(
			jwt.WithIssuer(config.Issuer), jwt.WithAudience(config.Audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithLeeway(config.Leeway), jwt.WithTimeFunc(config.Now),
		),
		keys: newKeys(config),
	}, nil
}

func (c Config) check() error {
	base, err := url.Parse(c.KeysURL)
	switch {
	case c.Issuer == "" || c.Audience == "":
		// An empty expectation would turn the library's check off instead of failing it.
		return errors.New("bearer: the issuer and the audience must not be empty")
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		return errors.New("bearer: the address of the keys is not an absolute http or https URL")
	case c.Lifetime < time.Second:
		return fmt.Errorf("bearer: a lifetime of %v is less than a second", c.Lifetime)
	case c.Leeway < 0 || c.Leeway > maxLeeway:
		return fmt.Errorf("bearer: a leeway of %v is not within 0 and %v", c.Leeway, maxLeeway)
	}
	return nil
}

// compactForm is a JWS in compact serialisation (RFC 7515 section 3.1) with nothing in it empty.
var compactForm = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// Verify checks an access token and returns its claims. It fails with ErrInvalid, or with ErrUnavailable when the token's key
// is not known and the keys cannot be fetched; ctx bounds the wait for them.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	content, err := v.open(ctx, token)
	if err == nil {
		err = v.check(content)
	}
	if err != nil {
		if errors.Is(err, ErrUnavailable) {
			return Claims{}, err
		}
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return content.claims(), nil
}

// open checks form, header and signature.
func (v *Verifier) open(ctx context.Context, token string) (payload, error) {
	if len(token) > maxSize || !compactForm.MatchString(token) {
		return payload{}, refusal("not in compact form, or too long")
	}
	var content payload
	var keyErr error
	_, err := v.parser.ParseWithClaims(token, &content, func(t *jwt.Token) (any, error) {
		var id string
		if id, keyErr = keyID(t.Header); keyErr != nil {
			return nil, keyErr
		}
		key, err := v.keys.find(ctx, id)
		keyErr = err
		return key, err
	})
	if keyErr != nil {
		return payload{}, keyErr
	}
	if err != nil {
		return payload{}, reason(err)
	}
	return content, nil
}

// keyID checks the header. The key is found by "kid" alone: "jku", "x5u", "jwk" and "x5c", with which a token would bring its own
// key, are not looked at (RFC 8725 section 3.10).
func keyID(header map[string]any) (string, error) {
	kind, _ := header["typ"].(string)
	kind = strings.ToLower(kind)
	if kind != mediaType && kind != "application/"+mediaType {
		return "", refusal("not of type " + mediaType)
	}
	if _, critical := header["crit"]; critical { // none is understood (RFC 7515 section 4.1.11)
		return "", refusal("unknown critical header")
	}
	id, _ := header["kid"].(string)
	if id == "" {
		return "", refusal("no key id")
	}
	return id, nil
}

// check checks the claims.
func (v *Verifier) check(content payload) error {
	if err := content.complete(); err != nil {
		return err
	}
	if err := v.validator.Validate(content); err != nil {
		return reason(err)
	}
	if content.lifetime() > v.config.Lifetime {
		return refusal("made for too long a time")
	}
	c := content.claims()
	if v.config.Revocations != nil && !c.OfService() && v.config.Revocations.Revoked(c.Subject, c.SessionID, c.Generation) {
		return refusal("revoked")
	}
	return nil
}

// refusal is a fixed reason: it never repeats anything that a token holds.
type refusal string

func (r refusal) Error() string { return string(r) }

// reason puts a fixed text in the place of a library's error, which may repeat parts of the token.
func reason(err error) error {
	for _, known := range []struct {
		err    error
		reason refusal
	}{
		{jwt.ErrTokenMalformed, "malformed"},
		{jwt.ErrTokenUnverifiable, "unknown algorithm"},
		{jwt.ErrTokenSignatureInvalid, "wrong algorithm or signature"},
		{jwt.ErrTokenInvalidIssuer, "another issuer"},
		{jwt.ErrTokenInvalidAudience, "another audience"},
		{jwt.ErrTokenExpired, "expired"},
		{jwt.ErrTokenNotValidYet, "not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "issued in the future"},
	} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return refusal("not valid")
}
