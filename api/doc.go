// Package api is the HTTP contract in Go: the types and the Echo server generated from openapi.yaml, and the document
// itself.
//
// Change openapi.yaml at the project's root, then run go generate ./api/... ./pkg/client/... and implement what the
// compiler asks for. overlay.yaml says what of the document is left out of the generated code, server.yaml how it is
// generated; the generator is pinned in internal/tools. Every request member with the format "password" becomes a
// secret.Text.
//
// It depends on Echo, on the generator's runtime and on package secret. Only package httpapi depends on it.
package api

import _ "embed"

//go:generate cp ../openapi.yaml openapi.yaml
//go:generate go tool -modfile=../internal/tools/go.mod oapi-codegen -config server.yaml ../openapi.yaml

// Spec is the contract as GET /openapi.yaml serves it: a copy of the document at the project's root that go generate
// keeps equal, because go:embed does not reach above its own folder. Nobody writes to it.
//
//go:embed openapi.yaml
var Spec []byte
