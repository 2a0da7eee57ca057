package httpapi

import (
	"context"
	"errors"
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
	id       string
	secret   secret.Text
	basic    bool
	repeated bool // a parameter was there twice, or the client proved itself in two ways (RFC 6749 section 2.3)
}

// proveClient reads the form and the Basic header of the token endpoint (RFC 6749 section 2.3.1).
func proveClient(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		if err := checkMediaType(request, mediaForm); err != nil {
			return err
		}
		if request.ContentLength > maxBody {
			return errTooLarge
		}
		if err := request.ParseForm(); err != nil {
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
				return errTooLarge
			}
			return &malformedError{detail: "The body is not a form."}
		}
		proof := clientProof{id: request.PostForm.Get("client_id"), secret: secret.New(request.PostForm.Get("client_secret"))}
		for _, values := range request.PostForm {
			proof.repeated = proof.repeated || len(values) > 1
		}
		if id, pw, ok := request.BasicAuth(); ok {
			proof.repeated = proof.repeated || !proof.secret.Empty()
			proof.basic, proof.id, proof.secret = true, unescape(id), secret.New(unescape(pw))
		}
		// The rest of the form alone reaches the binding: a parameter in the URL is none (RFC 6749 section 3.2).
		request.Form = request.PostForm
		c.SetRequest(request.WithContext(context.WithValue(request.Context(), clientProofKey, proof)))
		return next(c)
	}
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
	case proof.repeated:
		return refuse(api.TokenErrorCodeInvalidRequest, "A parameter was sent twice, or the client proved itself in two ways."), nil
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
