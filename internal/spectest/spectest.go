// Package spectest checks in tests that what goes over the wire is what openapi.yaml says.
//
// Put a Recorder's Transport under the HTTP client of a test: it fails the test on the first difference in any exchange,
// and knows afterwards which operations were never called. It is stricter than a client may be: a member that the
// contract does not mention fails the test, so that nothing is answered by accident.
//
// It depends on kin-openapi. Only tests depend on it, so that no OpenAPI parser gets into the program.
package spectest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// T is what a Recorder needs of a test; a *testing.T is one.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Recorder checks exchanges and remembers them. Any number of goroutines may use it.
type Recorder struct {
	contract
	t T

	mu     sync.Mutex
	called map[string]bool // every operation id: whether it was called
	codes  map[string]bool // the problem codes that were answered
}

// contract is a document that is ready to check exchanges against. Nothing changes it once it is made.
type contract struct {
	doc    *openapi3.T
	router routers.Router
}

// contracts holds what was loaded before, by the document's text: reading and validating one takes half a second under the
// race detector, and hundreds of tests ask for the same.
var contracts sync.Map

// New returns a Recorder for the contract spec, an OpenAPI document. It fails t when the document is not valid.
func New(t T, spec []byte) *Recorder {
	t.Helper()
	known, _ := contracts.LoadOrStore(string(spec), sync.OnceValues(func() (contract, error) { return load(spec) }))
	c, err := known.(func() (contract, error))()
	if err != nil {
		t.Fatalf("spectest: %v", err)
	}
	r := &Recorder{t: t, contract: c, called: map[string]bool{}, codes: map[string]bool{}}
	for _, item := range c.doc.Paths.Map() {
		for _, operation := range item.Operations() {
			r.called[operation.OperationID] = false
		}
	}
	return r
}

func load(spec []byte) (contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(spec)
	if err != nil {
		return contract{}, fmt.Errorf("load the contract: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return contract{}, fmt.Errorf("the contract is not valid: %w", err)
	}
	closeObjects(doc)
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return contract{}, fmt.Errorf("route the contract: %w", err)
	}
	return contract{doc: doc, router: router}, nil
}

// Unexercised returns the ids of the operations that no exchange has called, sorted.
func (r *Recorder) Unexercised() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id, called := range r.called {
		if !called {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Codes returns the problem codes that were answered, sorted.
func (r *Recorder) Codes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.codes))
}

// closeObjects allows the objects of the contract's schemas no members but those they mention.
func closeObjects(doc *openapi3.T) {
	closed := false
	for _, schema := range doc.Components.Schemas {
		closeObject(schema, openapi3.AdditionalProperties{Has: &closed})
	}
}

// closeObject closes a schema and those inside it. One that says itself what else it allows is left as it is, and so are
// references: they lead to schemas of the document that have their own turn.
func closeObject(ref *openapi3.SchemaRef, closed openapi3.AdditionalProperties) {
	schema := ref.Value
	if schema.Type.Is(openapi3.TypeObject) && schema.AdditionalProperties.Has == nil && schema.AdditionalProperties.Schema == nil {
		schema.AdditionalProperties = closed
	}
	inner := slices.Collect(maps.Values(schema.Properties))
	if schema.Items != nil {
		inner = append(inner, schema.Items)
	}
	for _, next := range inner {
		if next.Ref == "" {
			closeObject(next, closed)
		}
	}
}
