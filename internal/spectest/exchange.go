package spectest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

const problemType = "application/problem+json"

// exchange is one request and its answer. The request's body can be read again and again through GetBody.
type exchange struct {
	request *http.Request
	sent    []byte
	status  int
	header  http.Header
	got     []byte
}

// Transport sends requests through next and checks each exchange: the answer's status, headers, media type and body,
// and, if the answer is a success, that the request was one the contract allows. A difference fails the test with the
// operation and the reason, which never holds a value of the exchange: it may be a secret.
func (r *Recorder) Transport(next http.RoundTripper) http.RoundTripper {
	return transport{recorder: r, next: next}
}

type transport struct {
	recorder *Recorder
	next     http.RoundTripper
}

// RoundTrip implements http.RoundTripper. Its errors are those of the transport below and of reading either body.
func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	t.recorder.t.Helper()
	sent, err := drain(request.Body)
	if err != nil {
		return nil, fmt.Errorf("spectest: read the request: %w", err)
	}
	forward := request.Clone(request.Context())
	if request.Body != nil {
		forward.Body = io.NopCloser(bytes.NewReader(sent))
	}
	response, err := t.next.RoundTrip(forward)
	if err != nil {
		return nil, err
	}
	got, err := drain(response.Body)
	if err != nil {
		return nil, fmt.Errorf("spectest: read the answer: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(got))
	t.recorder.check(exchange{request: request, sent: sent, status: response.StatusCode, header: response.Header, got: got})
	return response, nil
}

func drain(body io.ReadCloser) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	data, err := io.ReadAll(body)
	return data, errors.Join(err, body.Close())
}

// check finds the operation of an exchange and compares the two.
func (r *Recorder) check(e exchange) {
	r.t.Helper()
	if e.request.Method == http.MethodOptions { // a preflight is the browser's affair, not the contract's
		return
	}
	name := e.request.Method + " " + e.request.URL.Path
	route, params, err := r.router.FindRoute(e.request)
	var reasons []string
	if err != nil {
		reasons = r.outside(e)
	} else {
		name = route.Operation.OperationID
		r.note(r.called, name)
		input := &openapi3filter.RequestValidationInput{Request: e.again(), PathParams: params, Route: route, Options: options()}
		reasons = append(r.wrongRequest(e, input), r.wrongAnswer(e, input)...)
	}
	reasons = append(reasons, r.wrongProblem(e)...)
	for _, reason := range reasons {
		r.t.Errorf("spectest: %s answered %d: %s", name, e.status, reason)
	}
}

func (r *Recorder) note(seen map[string]bool, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen[name] = true
}

// again returns the request with a body that can be read.
func (e exchange) again() *http.Request {
	request := e.request.Clone(e.request.Context())
	request.Body = io.NopCloser(bytes.NewReader(e.sent))
	return request
}

func options() *openapi3filter.Options {
	return &openapi3filter.Options{
		AuthenticationFunc:                openapi3filter.NoopAuthenticationFunc, // who may call what is tested elsewhere
		IncludeResponseStatus:             true,
		MultiError:                        true,
		RejectWhenRequestBodyNotSpecified: true,
		SkipSettingDefaults:               true,
	}
}

// outside checks an exchange that the contract does not know: it must have failed with a problem document.
func (r *Recorder) outside(e exchange) []string {
	if e.status < 400 {
		return []string{"the contract does not know this operation"}
	}
	if e.request.Method == http.MethodHead {
		return nil
	}
	if mediaType(e.header) != problemType {
		return []string{"not a problem document"}
	}
	problem := r.doc.Components.Schemas["Problem"]
	if problem == nil {
		return nil
	}
	var value any
	if json.Unmarshal(e.got, &value) != nil {
		return []string{"the problem document is not JSON"}
	}
	return reasons(problem.Value.VisitJSON(value, openapi3.MultiErrors(), openapi3.EnableJSONSchema2020(), openapi3.VisitAsResponse()))
}

// wrongRequest checks a request that succeeded: the contract must allow it.
func (r *Recorder) wrongRequest(e exchange, input *openapi3filter.RequestValidationInput) []string {
	if e.status < 200 || e.status > 299 {
		return nil
	}
	return reasons(openapi3filter.ValidateRequest(e.request.Context(), input))
}

// wrongAnswer checks an answer against the one documented for its status, or the default.
func (r *Recorder) wrongAnswer(e exchange, input *openapi3filter.RequestValidationInput) []string {
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: e.status, Header: e.header,
		Body: io.NopCloser(bytes.NewReader(e.got)), Options: options(),
	}
	documented := input.Route.Operation.Responses.Status(e.status)
	if documented == nil {
		documented = input.Route.Operation.Responses.Default()
	}
	if documented == nil {
		return []string{"the contract does not know this status"}
	}
	var wrong []string
	if content := documented.Value.Content; len(content) == 0 && len(e.got) > 0 {
		wrong = append(wrong, "the contract knows no body")
	} else if len(content) > 0 && !isJSON(mediaType(e.header)) { // a text: it has no schema to compare with
		answer.Options.ExcludeResponseBody = true
		if content.Get(e.header.Get("Content-Type")) == nil {
			wrong = append(wrong, "the contract does not know this media type")
		}
		if len(e.got) == 0 {
			wrong = append(wrong, "there is no body")
		}
	}
	return append(wrong, reasons(openapi3filter.ValidateResponse(e.request.Context(), answer))...)
}

// wrongProblem checks what the members of a problem document have to do with each other and with the answer (RFC 9457
// section 3.1), and remembers its code.
func (r *Recorder) wrongProblem(e exchange) []string {
	if mediaType(e.header) != problemType || len(e.got) == 0 {
		return nil
	}
	var problem struct {
		Type, Code string
		Status     int
	}
	if json.Unmarshal(e.got, &problem) != nil {
		return []string{"the problem document cannot be read"}
	}
	r.note(r.codes, problem.Code)
	var wrong []string
	if problem.Status != e.status {
		wrong = append(wrong, "the problem document has another status")
	}
	if !strings.HasSuffix(problem.Type, ":"+problem.Code) {
		wrong = append(wrong, "the type of the problem document does not end with its code")
	}
	return wrong
}

func mediaType(header http.Header) string {
	name, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return name
}

func isJSON(mediaType string) bool {
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

// reasons says what a validator found, without the values it found it in: where, and which keyword of the schema.
func reasons(err error) []string {
	if err == nil {
		return nil
	}
	var all []string
	for _, one := range flatten(err) {
		place, cause := locate(one)
		for _, detail := range flatten(cause) {
			for _, leaf := range leaves(detail) {
				all = append(all, place+keyword(leaf))
			}
		}
	}
	return all
}

// flatten returns the errors of a list, and any other error alone.
func flatten(err error) []error {
	many, ok := err.(openapi3.MultiError) //nolint:errorlint // a list further inside belongs to the error around it
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range many {
		all = append(all, flatten(one)...)
	}
	return all
}

// leaves returns what is wrong in a value that several things are wrong with.
func leaves(err error) []error {
	schema, ok := errors.AsType[*openapi3.SchemaError](err)
	if !ok {
		return []error{err}
	}
	many, ok := errors.AsType[openapi3.MultiError](schema.Origin)
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range many {
		all = append(all, leaves(one)...)
	}
	return all
}

// locate tells the part of the exchange that an error is about, and what is wrong there.
func locate(err error) (string, error) {
	if response, ok := errors.AsType[*openapi3filter.ResponseError](err); ok {
		return response.Reason + ": ", response.Err
	}
	request, ok := errors.AsType[*openapi3filter.RequestError](err)
	if !ok {
		return "", err
	}
	if request.Parameter != nil {
		return fmt.Sprintf("request parameter %s in %s: ", request.Parameter.Name, request.Parameter.In), request.Err
	}
	return "request body: ", request.Err
}

func keyword(err error) string {
	if schema, ok := errors.AsType[*openapi3.SchemaError](err); ok {
		return fmt.Sprintf("/%s breaks the keyword %q", strings.Join(schema.JSONPointer(), "/"), schema.SchemaField)
	}
	return "not as the contract says"
}
