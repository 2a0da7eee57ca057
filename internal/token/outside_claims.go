package token

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// administrator is the role that a token of this service names.
const administrator = "administrator"

// outsideClaims are the claims of another issuer by their exact names: encoding into a struct would take them in any case.
type outsideClaims map[string]json.RawMessage

// has tells whether the claim is there and not null.
func (c outsideClaims) has(name string) bool {
	value, there := c[name]
	return there && !bytes.Equal(value, []byte("null"))
}

// text reads a claim that is a string; "" when it is not there.
func (c outsideClaims) text(name string) (string, error) {
	if !c.has(name) {
		return "", nil
	}
	var value string
	if err := json.Unmarshal(c[name], &value); err != nil {
		return "", wrongType(name)
	}
	return value, nil
}

// list reads a claim that is a string or an array of strings; nil when it is not there.
func (c outsideClaims) list(name string) ([]string, error) {
	if !c.has(name) {
		return nil, nil
	}
	if one, err := c.text(name); err == nil {
		return []string{one}, nil
	}
	var several []*string
	if err := json.Unmarshal(c[name], &several); err != nil {
		return nil, wrongType(name)
	}
	values := make([]string, len(several))
	for i, value := range several {
		if value == nil {
			return nil, wrongType(name)
		}
		values[i] = *value
	}
	return values, nil
}

// lastSecond is the end of the year 9999, beyond which no time can be written.
const lastSecond = 253402300799

// when reads a claim that is a NumericDate, in whole seconds: nil when it is not there. A number in a string is none.
func (c outsideClaims) when(name string) (*time.Time, error) {
	if !c.has(name) {
		return nil, nil
	}
	seconds, err := strconv.ParseFloat(string(c[name]), 64)
	if err != nil || seconds < 0 || seconds > lastSecond {
		return nil, wrongType(name)
	}
	at := instant(int64(math.Floor(seconds)))
	return &at, nil
}

// count reads a claim that is a whole number from 1; 0 when it is not there.
func (c outsideClaims) count(name string) (int64, error) {
	if !c.has(name) {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(c[name]), 10, 64)
	if err != nil || n < 1 {
		return 0, wrongType(name)
	}
	return n, nil
}

// wrongType is fixed for the names of the standard's claims; configured names come from the operator.
func wrongType(name string) refusal { return refusal("wrong type of " + name) }

// acceptable refuses what lacks a claim that the service relies on, and tokens that are for something else (RFC 9068 section
// 4, RFC 8725 sections 2.8 and 3.12): ID tokens, security events, tokens of a client for itself, and those that are good only
// with a proof that nobody asked for.
func (c outsideClaims) acceptable() error {
	for _, name := range []string{"iss", "aud", "sub", "iat", "exp"} {
		if !c.has(name) {
			return refusal("no " + name)
		}
	}
	for _, foreign := range []struct {
		name string
		why  refusal
	}{
		{"cnf", "bound to a key that was not proven"},
		{"nonce", "an ID token"}, {"at_hash", "an ID token"}, {"c_hash", "an ID token"}, {"s_hash", "an ID token"},
		{"events", "a security event"},
	} {
		if c.has(foreign.name) {
			return foreign.why
		}
	}
	subject, err := c.text("sub")
	if err != nil || subject == "" {
		return refusal("no sub")
	}
	for _, name := range []string{"client_id", "azp", "cid", "appid"} { // the names that issuers give to the client
		client, err := c.text(name)
		if err != nil {
			return err
		}
		if client == subject {
			return refusal("a client for itself")
		}
	}
	if use, err := c.text("token_use"); err != nil || use != "" && use != "access" {
		return refusal("not used as an access token")
	}
	return nil
}

// claims reads what the token says in the words of this service. The content must be acceptable and valid.
func (o *Outside) claims(content outsideClaims) (Claims, error) {
	issued, issuedErr := content.when("iat")
	expires, expiresErr := content.when("exp")
	signedIn, signedInErr := content.when("auth_time")
	generation, generationErr := content.count("gen")
	for _, err := range []error{issuedErr, expiresErr, signedInErr, generationErr} {
		if err != nil {
			return Claims{}, err
		}
	}
	if expires.Sub(*issued) > o.trust.Lifetime {
		return Claims{}, refusal("made for too long a time")
	}
	claims := Claims{IssuedAt: *issued, ExpiresAt: *expires, Generation: generation}
	if signedIn != nil {
		if signedIn.After(issued.Add(o.config.Leeway)) { // or it would count as fresh for as long as it is ahead
			return Claims{}, refusal("auth_time after iat")
		}
		claims.AuthTime = *signedIn
	}
	var err error
	if claims.Subject, err = content.text("sub"); err != nil {
		return Claims{}, err
	}
	if claims.AccountID, err = o.account(content); err != nil {
		return Claims{}, err
	}
	if claims.Roles, err = o.roles(content); err != nil {
		return Claims{}, err
	}
	claims.Scope, err = scopeOf(content)
	return claims, err
}

// account returns the account that the token is of. An issuer speaks for no other accounts than those it was given.
func (o *Outside) account(content outsideClaims) (string, error) {
	if o.trust.AccountClaim == "" {
		return o.trust.Accounts[0], nil
	}
	named, err := content.text(o.trust.AccountClaim)
	if err != nil {
		return "", err
	}
	if named == "" || !slices.Contains(o.trust.Accounts, named) && o.trust.Accounts[0] != everyAccount {
		return "", refusal("of no account that the issuer speaks for")
	}
	return named, nil
}

func (o *Outside) roles(content outsideClaims) ([]string, error) {
	held, err := content.list(o.trust.RoleClaim)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(held, func(role string) bool { return slices.Contains(o.trust.Administrators, role) }) {
		return []string{administrator}, nil
	}
	return nil, nil
}

// scopeOf reads "scope", or "scp" as some issuers call it, a text or a list.
func scopeOf(content outsideClaims) (string, error) {
	scope, err := content.list("scope")
	if err != nil {
		return "", err
	}
	if scope == nil {
		if scope, err = content.list("scp"); err != nil {
			return "", err
		}
	}
	return strings.Join(scope, " "), nil
}

// The getters make outsideClaims a jwt.Claims, which the library's validator reads.

// GetIssuer returns "iss".
func (c outsideClaims) GetIssuer() (string, error) { return c.text("iss") }

// GetSubject returns "sub".
func (c outsideClaims) GetSubject() (string, error) { return c.text("sub") }

// GetAudience returns "aud".
func (c outsideClaims) GetAudience() (jwt.ClaimStrings, error) { return c.list("aud") }

// GetIssuedAt returns "iat", nil when it is missing.
func (c outsideClaims) GetIssuedAt() (*jwt.NumericDate, error) { return c.date("iat") }

// GetExpirationTime returns "exp", nil when it is missing.
func (c outsideClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.date("exp") }

// GetNotBefore returns "nbf", nil when it is missing.
func (c outsideClaims) GetNotBefore() (*jwt.NumericDate, error) { return c.date("nbf") }

func (c outsideClaims) date(name string) (*jwt.NumericDate, error) {
	at, err := c.when(name)
	if at == nil || err != nil {
		return nil, err
	}
	return jwt.NewNumericDate(*at), nil
}
