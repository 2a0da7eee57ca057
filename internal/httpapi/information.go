package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"strconv"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
)

// GetJwks publishes the keys of access tokens and events.
func (s *Server) GetJwks(ctx context.Context, _ api.GetJwksRequestObject) (api.GetJwksResponseObject, error) {
	encoded, err := s.config.JWKS(ctx)
	if err != nil {
		return nil, fmt.Errorf("httpapi: key set: %w", err)
	}
	var keys api.Jwks
	if err := json.Unmarshal(encoded, &keys); err != nil {
		return nil, fmt.Errorf("httpapi: key set: %w", err)
	}
	return api.GetJwks200JSONResponse(keys), nil
}

// GetIssuerMetadata tells where tokens come from (RFC 8414).
func (s *Server) GetIssuerMetadata(context.Context, api.GetIssuerMetadataRequestObject) (api.GetIssuerMetadataResponseObject, error) {
	base := s.config.PublicURL
	return api.GetIssuerMetadata200JSONResponse{
		Issuer: base, JwksURI: base + "/.well-known/jwks.json", TokenEndpoint: base + "/oauth/token", ServiceDocumentation: base + "/openapi.yaml",
		GrantTypesSupported: []string{"client_credentials"}, ResponseTypesSupported: []string{}, ScopesSupported: access.Scopes(),
		TokenEndpointAuthMethodsSupported: []string{"client_secret_basic", "client_secret_post"},
	}, nil
}

// GetOpenapi sends the contract.
func (s *Server) GetOpenapi(context.Context, api.GetOpenapiRequestObject) (api.GetOpenapiResponseObject, error) {
	return api.GetOpenapi200ApplicationYamlResponse{Body: bytes.NewReader(api.Spec), ContentLength: int64(len(api.Spec))}, nil
}

var problemPage = template.Must(template.New("problem").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}} · SalesExec</title></head>
<body><main><h1>{{.Title}}</h1><p>{{.Advice}}</p><dl><dt>Code</dt><dd><code>{{.Code}}</code></dd><dt>HTTP status</dt><dd>{{.Status}}</dd></dl></main></body></html>
`))

// GetProblem explains a problem code to people.
func (s *Server) GetProblem(_ context.Context, request api.GetProblemRequestObject) (api.GetProblemResponseObject, error) {
	explained, ok := kindOf(request.Code)
	if !ok {
		return nil, credential.ErrNotFound
	}
	var page bytes.Buffer
	err := problemPage.Execute(&page, map[string]string{
		"Title": explained.Title, "Advice": explained.Advice, "Code": explained.Code, "Status": strconv.Itoa(explained.Status),
	})
	if err != nil {
		return nil, fmt.Errorf("httpapi: problem page: %w", err)
	}
	return api.GetProblem200TextHTMLResponse{Body: &page, ContentLength: int64(page.Len())}, nil
}
