package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/secret"
)

// clientProofKey is where the form's parsing leaves how the client proves itself: the generated handler sees no headers.
const clientProofKey contextKey = "client proof"

// clientProof is what a client sent to prove itself.
type clientProof struct {
	id     string
	secret secret.Text
	fault  string // what is wrong with the form itself, for the developer; empty: nothing
}

// errNotForm says that the token endpoint takes a form and nothing else.
var errNotForm = errors.New("httpapi: not a form")

// proveClient reads the form and the Basic header of the token endpoint (RFC 6749 section 2.3.1).
func proveClient(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		c.Response().Header().Set("Pragma", "no-cache") // beside Cache-Control, for caches of HTTP/1.0 (RFC 6749 section 5.1)
		if err := checkMediaType(request, mediaForm); err != nil {
			return fmt.Errorf("%w: %w", errNotForm, err)
		}
		body, err := readBody(request, maxBody)
		if err != nil {
			return err
		}
		form, err := url.ParseQuery(string(body))
		proof := proofIn(request, form)
		if err != nil {
			proof.fault = "The body is not a form."
		}
		// The body alone reaches the binding: a parameter in the URL is none (RFC 6749 section 3.2).
		request.Form, request.PostForm = form, form
		c.SetRequest(request.WithContext(context.WithValue(request.Context(), clientProofKey, proof)))
		return next(c)
	}
}

// proofIn finds how the client proves itself: in the header or in the form, never in both.
func proofIn(request *http.Request, form url.Values) clientProof {
	proof := clientProof{id: form.Get("client_id"), secret: secret.New(form.Get("client_secret"))}
	for _, values := range form {
		if len(values) > 1 {
			proof.fault = "A parameter was sent twice."
		}
	}
	header := request.Header.Values("Authorization")
	switch {
	case len(header) > 1:
		proof.fault = "Send one Authorization header."
	case len(header) == 1 && !proof.secret.Empty():
		proof.fault = "The client proved itself in two ways."
	case len(header) == 1:
		id, pw, _ := request.BasicAuth() // what is no Basic proves nothing
		named := proof.id
		proof.id, proof.secret = unescape(id), secret.New(unescape(pw))
		if named != "" && named != proof.id {
			proof.fault = "The header and the form name different clients."
		}
	}
	return proof
}

// unescape undoes the form encoding that RFC 6749 section 2.3.1 asks for before Basic.
func unescape(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}

// IssueToken gives a service a token.
func (s *Server) IssueToken(ctx context.Context, request api.IssueTokenRequestObject) (api.IssueTokenResponseObject, error) {
	proof, _ := ctx.Value(clientProofKey).(clientProof)
	refuse := func(code api.TokenErrorCode, description string) api.IssueToken400JSONResponse {
		return api.IssueToken400JSONResponse{Error: code, ErrorDescription: &description}
	}
	switch {
	case proof.fault != "":
		return refuse(api.TokenErrorCodeInvalidRequest, proof.fault), nil
	case request.Body.GrantType == "":
		return refuse(api.TokenErrorCodeInvalidRequest, "grant_type is missing."), nil
	case request.Body.GrantType != "client_credentials":
		return refuse(api.TokenErrorCodeUnsupportedGrantType, "Use client_credentials."), nil
	}
	issued, err := s.clients.IssueToken(ctx, proof.id, proof.secret, deref(request.Body.Scope), originOf(ctx))
	switch {
	case errors.Is(err, client.ErrInvalidClient):
		description := "The client is unknown or its secret is wrong."
		return api.IssueToken401JSONResponse{
			Body:    api.TokenError{Error: api.TokenErrorCodeInvalidClient, ErrorDescription: &description},
			Headers: api.IssueToken401ResponseHeaders{WWWAuthenticate: `Basic realm="salesexec"`},
		}, nil
	case errors.Is(err, client.ErrInvalidScope):
		return refuse(api.TokenErrorCodeInvalidScope, "The client was not given one of the scopes."), nil
	case err != nil:
		return nil, err
	}
	return api.IssueToken200JSONResponse{
		AccessToken: issued.Access.Reveal(), TokenType: api.ServiceTokenTokenTypeBearer, ExpiresIn: s.secondsUntil(issued.ExpiresAt), Scope: issued.Scope,
	}, nil
}
