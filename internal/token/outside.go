package token

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Bounds on how long tokens of outside issuers may be good for.
const (
	// defaultOutsideLifetime is what identity providers commonly give an access token.
	defaultOutsideLifetime = time.Hour
	// maxOutsideLifetime is the longest that can be configured: a revocation that this service does not hear of lasts as
	// long (NIST SP 800-63B-4 section 2.2.3 bounds a whole session by 24 hours).
	maxOutsideLifetime = 24 * time.Hour
)

// Trust says which tokens of another issuer are accepted, and for whom. Such an issuer speaks for users, never for services.
type Trust struct {
	// Issuer is the exact "iss" of its tokens; Audience the "aud" that stands for this service there. Neither may be empty.
	Issuer, Audience string
	// KeysURL is where its JWK set is; Keys is a JWK set or one public key in PEM. Exactly one of them is given.
	KeysURL, Keys string
	// Algorithms are the "alg" that are accepted, of those that Algorithms() returns.
	Algorithms []string
	// Accounts are those that it may speak for; "*" is all. With AccountClaim the token must name one of them in that claim;
	// without, there is one account and its tokens are of that.
	Accounts     []string
	AccountClaim string
	// RoleClaim holds a role or a list of them; whoever has one of Administrators counts as administrator, if the database
	// says so too.
	RoleClaim      string
	Administrators []string
	// Scope is what "scope" or "scp" must hold for this service; empty: nothing.
	Scope string
	// Lifetime is the longest that a token may be good for in all, up to 24 hours: 0 stands for one.
	Lifetime time.Duration
	// AllowMissingTyp accepts tokens without "typ" and with the "typ" JWT, from an issuer that cannot set at+jwt (RFC 9068
	// section 2.1). Then its ID tokens differ from its access tokens by the audience alone.
	AllowMissingTyp bool
}

// OutsideConfig is what every Outside needs beside whom to trust.
type OutsideConfig struct {
	Leeway time.Duration // allowed on every time of a token, at most 60 seconds
	Now    func() time.Time
	Client *http.Client // fetches JWK sets; NewKeysClient makes one that is careful
	Log    *slog.Logger // hears why a set could not be fetched for a token
}

// Outside verifies the access tokens of one outside issuer. All its methods may be used concurrently.
type Outside struct {
	trust     Trust
	config    OutsideConfig
	parser    *jwt.Parser
	validator *jwt.Validator
	keys      atomic.Pointer[[]outsideKey]
	refresher *refresher // nil when the keys are given
}

// NewOutside returns a verifier of the issuer's tokens. It fetches nothing: the first token does, or Refresh. It refuses
// empty expectations, algorithms that it does not know, and given keys that are weak or private.
func NewOutside(trust Trust, config OutsideConfig) (*Outside, error) {
	trust.Lifetime = cmp.Or(trust.Lifetime, defaultOutsideLifetime)
	if err := trust.check(); err != nil {
		return nil, fmt.Errorf("token: outside issuer %q: %w", trust.Issuer, err)
	}
	if config.Leeway < 0 || config.Leeway > maxLeeway || config.Now == nil {
		return nil, errors.New("token: a leeway of at most a minute and a clock are needed")
	}
	o := &Outside{
		trust: trust, config: config, parser: newParser(trust.Algorithms...),
		validator: newValidator(trust.Issuer, trust.Audience, config.Leeway, config.Now),
	}
	if trust.KeysURL != "" {
		o.refresher = newRefresher(config.Now, o.fetch)
		return o, nil
	}
	keys, err := trust.givenKeys()
	if err != nil {
		return nil, fmt.Errorf("token: outside issuer %q: %w", trust.Issuer, err)
	}
	o.keys.Store(&keys)
	return o, nil
}

func (t Trust) check() error {
	switch {
	case t.Issuer == "" || t.Audience == "":
		return errors.New("the issuer and the audience must not be empty")
	case len(t.Algorithms) == 0:
		return errors.New("it needs an algorithm")
	case len(t.Accounts) == 0:
		return errors.New("it needs an account to speak for")
	case t.AccountClaim == "" && (len(t.Accounts) > 1 || t.Accounts[0] == everyAccount):
		return errors.New("with more than one account the tokens must name theirs in a claim")
	case (t.KeysURL == "") == (t.Keys == ""):
		return errors.New("it needs either a URL of keys or given keys")
	case t.Lifetime < time.Second || t.Lifetime > maxOutsideLifetime:
		return fmt.Errorf("a lifetime of %v is not within a second and %v", t.Lifetime, maxOutsideLifetime)
	}
	for _, algorithm := range t.Algorithms {
		if !slices.Contains(Algorithms(), algorithm) {
			return fmt.Errorf("the algorithm %q is not one of %s", algorithm, strings.Join(Algorithms(), ", "))
		}
	}
	return nil
}

// everyAccount stands in Accounts for all of them.
const everyAccount = "*"

// Issuer returns the "iss" of the tokens it verifies.
func (o *Outside) Issuer() string { return o.trust.Issuer }

// Lacks returns the scope that the issuer's tokens need for this service and that is not among those of scope, or "".
func (o *Outside) Lacks(scope string) string {
	if o.trust.Scope == "" || slices.Contains(strings.Fields(scope), o.trust.Scope) {
		return ""
	}
	return o.trust.Scope
}

// IssuerOf returns who a token says it is from, or "" when it does not say. Nothing of it is verified.
func IssuerOf(raw string) string {
	if checkForm(raw) != nil {
		return ""
	}
	decoded, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		return ""
	}
	claims := outsideClaims{}
	if err := json.Unmarshal(decoded, &claims); err != nil {
		return ""
	}
	issuer, err := claims.text("iss")
	if err != nil {
		return ""
	}
	return issuer
}

// Verify checks an access token (RFC 9068 section 4, RFC 8725) and returns its claims: the account that it is of, the role
// "administrator" or none, and the generation that it names or 0. Every failure wraps ErrInvalid. A key id that is not known
// makes it fetch the keys, at most once a minute; ctx bounds the wait for a fetch that another caller began.
func (o *Outside) Verify(ctx context.Context, raw string) (Claims, error) {
	claims, err := o.verify(ctx, raw)
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return claims, nil
}

func (o *Outside) verify(ctx context.Context, raw string) (Claims, error) {
	if err := checkForm(raw); err != nil {
		return Claims{}, err
	}
	content := outsideClaims{}
	var keyErr error
	_, err := o.parser.ParseWithClaims(raw, &content, func(t *jwt.Token) (any, error) {
		var key outsideKey
		if key, keyErr = o.keyFor(ctx, t.Header); keyErr != nil {
			return nil, keyErr
		}
		return key.public, nil
	})
	if keyErr != nil {
		return Claims{}, keyErr
	}
	if err != nil {
		return Claims{}, reason(err)
	}
	if err := content.acceptable(); err != nil {
		return Claims{}, err
	}
	if err := o.validator.Validate(content); err != nil {
		return Claims{}, reason(err)
	}
	return o.claims(content)
}

// keyFor checks the header and finds the key by "kid" alone, as Issuer.keyFor does. A single key that was given in PEM has no
// id: it is the key of every token.
func (o *Outside) keyFor(ctx context.Context, header map[string]any) (outsideKey, error) {
	if !isAccessToken(header) && !(o.trust.AllowMissingTyp && isUntyped(header)) {
		return outsideKey{}, errNotAccessToken
	}
	if _, critical := header["crit"]; critical {
		return outsideKey{}, errCritical
	}
	algorithm, _ := header["alg"].(string)
	id, _ := header["kid"].(string)
	if key, ok := o.knownKey(id, algorithm); ok {
		return key, nil
	}
	if id == "" {
		return outsideKey{}, refusal("no key id")
	}
	if o.refresher != nil {
		if err := o.refresher.refresh(ctx); err != nil {
			o.config.Log.WarnContext(ctx, "the keys of an outside issuer could not be fetched", "issuer", o.trust.Issuer, "error", err.Error())
			return outsideKey{}, refusal("unknown key, and the issuer's keys cannot be fetched")
		}
		if key, ok := o.knownKey(id, algorithm); ok {
			return key, nil
		}
	}
	return outsideKey{}, refusal("unknown key")
}

// isUntyped tells whether the header has no "typ", or that of any JWT.
func isUntyped(header map[string]any) bool {
	given, there := header["typ"]
	kind, _ := given.(string)
	return !there || strings.EqualFold(kind, "JWT")
}

func (o *Outside) knownKey(id, algorithm string) (outsideKey, bool) {
	keys := o.keys.Load()
	if keys == nil {
		return outsideKey{}, false
	}
	at := slices.IndexFunc(*keys, func(k outsideKey) bool { return k.algorithm == algorithm && (k.anonymous || id != "" && k.id == id) })
	if at < 0 {
		return outsideKey{}, false
	}
	return (*keys)[at], true
}

// Keys returns how many keys the issuer's tokens are verified with now.
func (o *Outside) Keys() int {
	if keys := o.keys.Load(); keys != nil {
		return len(*keys)
	}
	return 0
}

// Refresh fetches the issuer's keys, so that those it has withdrawn are good for nothing. When that fails the keys at hand
// stay. It does nothing where the keys are given.
func (o *Outside) Refresh(ctx context.Context) error {
	if o.refresher == nil {
		return nil
	}
	return o.refresher.renew(ctx)
}
