package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// claimsKey is where the context of a request keeps the claims of its token.
type claimsKey struct{}

// From returns the claims of the token that Require has verified for the request with this context.
func From(ctx context.Context) (Claims, bool) {
	c, ok := ctx.Value(claimsKey{}).(Claims)
	return c, ok
}

// Require lets through requests with a good access token in their Authorization header (RFC 6750 section 2.1; a token in the
// query or in a form is not looked at), with the claims in their context. Others it refuses: 401 without a good token, 400 for more
// than one Authorization header, 503 while the keys cannot be fetched.
func (v *Verifier) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := v.authenticate(r)
		if err != nil {
			v.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims)))
	})
}

// RequireScope lets through requests whose token has all the scopes; the others are refused with 403. The
// scopes are those of the credentials service, which its registered services have and its users never. It goes behind Require.
func (v *Verifier) RequireScope(next http.Handler, scopes ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, ok := From(r.Context())
		if !ok {
			v.refuse(w, r, ErrNoToken)
			return
		}
		for _, scope := range scopes {
			if !claims.HasScope(scope) {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer error=\"insufficient_scope\", scope=%q", strings.Join(scopes, " ")))
				v.refuse(w, r, fmt.Errorf("%w: %s", ErrScope, scope))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (v *Verifier) authenticate(r *http.Request) (Claims, error) {
	header := r.Header.Values("Authorization")
	if len(header) > 1 {
		return Claims{}, ErrMalformed
	}
	if len(header) == 0 {
		return Claims{}, ErrNoToken
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Claims{}, ErrNoToken
	}
	return v.Verify(r.Context(), strings.TrimLeft(token, " "))
}

// refuse answers a request that is not let through (RFC 6750 section 3).
func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, err error) {
	header, status := w.Header(), http.StatusUnauthorized
	header.Set("Cache-Control", "no-store")
	switch {
	case errors.Is(err, ErrUnavailable):
		status = http.StatusServiceUnavailable
		header.Set("Retry-After", fmt.Sprint(int(retryEvery.Seconds())))
	case errors.Is(err, ErrScope):
		status = http.StatusForbidden
	case errors.Is(err, ErrMalformed):
		status = http.StatusBadRequest
		header.Set("WWW-Authenticate", `Bearer error="invalid_request", error_description="Send one Authorization header"`)
	case errors.Is(err, ErrInvalid):
		header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	default:
		header.Set("WWW-Authenticate", "Bearer")
	}
	v.config.Refuse(w, r, status, err)
}

// writeProblem writes a problem document like those of the credentials service. Why a token is bad is not told.
func writeProblem(w http.ResponseWriter, _ *http.Request, status int, err error) {
	code, title := "unauthorized", "A valid access token is needed"
	switch {
	case errors.Is(err, ErrUnavailable):
		code, title = "unavailable", "The service cannot answer now"
	case errors.Is(err, ErrScope):
		code, title = "insufficient_scope", "The token lacks a scope"
	case errors.Is(err, ErrMalformed):
		code, title = "malformed_request", "The request cannot be read"
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // a caller who is gone is told nothing
		"type": "urn:salesexec:problem:" + code, "title": title, "status": status, "code": code,
	})
}
