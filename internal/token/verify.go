package token

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxSize is the most bytes of a token that are looked at: 8 KiB, well over what Mint makes and about what servers take
// in one header field.
const maxSize = 8 << 10

// ErrInvalid says that a text is no good access token of this service. The reason around it never holds the token.
var ErrInvalid = errors.New("token: invalid")

// compactForm is a JWS in compact serialisation (RFC 7515 section 3.1) with nothing in it empty.
var compactForm = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// newParser reads and checks the signature only: the claims are checked after it, by Verify.
func newParser(algorithms ...string) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods(algorithms),
		jwt.WithStrictDecoding(),
		jwt.WithoutClaimsValidation(),
	)
}

// newValidator checks claims. Neither the issuer nor the audience may be empty: that would turn the check off.
func newValidator(issuer, audience string, leeway time.Duration, now func() time.Time) *jwt.Validator {
	return jwt.NewValidator(
		jwt.WithIssuer(issuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(now),
	)
}

// Verify checks an access token (RFC 9068 section 4, RFC 8725) and returns its claims. Every failure wraps ErrInvalid.
// A key id that is not known makes it reload the keys, at most once a minute; ctx bounds the wait for a reload that
// another caller began.
func (i *Issuer) Verify(ctx context.Context, raw string) (Claims, error) {
	content, err := i.open(ctx, raw)
	if err == nil {
		err = i.check(content)
	}
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return content.claims(), nil
}

// open checks form, header and signature.
func (i *Issuer) open(ctx context.Context, raw string) (payload, error) {
	if err := checkForm(raw); err != nil {
		return payload{}, err
	}
	var content payload
	var keyErr error
	_, err := i.parser.ParseWithClaims(raw, &content, func(t *jwt.Token) (any, error) {
		var key Key
		if key, keyErr = i.keyFor(ctx, t.Header); keyErr != nil {
			return nil, keyErr
		}
		return key.public(), nil
	})
	if keyErr != nil {
		return payload{}, keyErr
	}
	if err != nil {
		return payload{}, reason(err)
	}
	return content, nil
}

// checkForm refuses what no parser needs to look at.
func checkForm(raw string) error {
	if len(raw) > maxSize {
		return refusal("too long")
	}
	if !compactForm.MatchString(raw) {
		return refusal("not in compact form")
	}
	return nil
}

// keyFor checks the header and finds the key by "kid" alone: "jku", "x5u", "jwk" and "x5c", with which a token would
// bring its own key, are not looked at (RFC 8725 section 3.10).
func (i *Issuer) keyFor(ctx context.Context, header map[string]any) (Key, error) {
	if !isAccessToken(header) {
		return Key{}, errNotAccessToken
	}
	if _, critical := header["crit"]; critical {
		return Key{}, errCritical
	}
	id, _ := header["kid"].(string)
	if id == "" {
		return Key{}, refusal("no key id")
	}
	return i.verifyingKey(ctx, id)
}

// What is refused by the header alone; no critical extension is understood (RFC 7515 section 4.1.11).
const (
	errNotAccessToken = refusal("not of type " + mediaType)
	errCritical       = refusal("unknown critical header")
)

// isAccessToken tells whether the header's "typ" is that of an access token (RFC 9068 section 4).
func isAccessToken(header map[string]any) bool {
	kind, _ := header["typ"].(string)
	kind = strings.ToLower(kind)
	return kind == mediaType || kind == "application/"+mediaType
}

// check checks the claims.
func (i *Issuer) check(content payload) error {
	if err := content.complete(); err != nil {
		return err
	}
	if err := i.validator.Validate(content); err != nil {
		return reason(err)
	}
	if content.lifetime() > i.config.Lifetime {
		return refusal("made for too long a time")
	}
	return nil
}

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
