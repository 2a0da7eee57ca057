package spectest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/spectest"
)

const tiny = `
openapi: 3.1.0
info: {title: Tiny, version: 1.0.0}
servers: [{url: /}]
paths:
  /things/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string, maxLength: 8}}
    patch:
      operationId: changeThing
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: '#/components/schemas/Change'}}
      responses:
        '200':
          description: changed
          headers:
            ETag: {required: true, schema: {type: string, pattern: '^"[0-9]+"$'}}
          content:
            application/json: {schema: {$ref: '#/components/schemas/Thing'}}
        default: {$ref: '#/components/responses/Problem'}
    delete:
      operationId: dropThing
      responses:
        '204': {description: gone}
  /page:
    get:
      operationId: getPage
      responses:
        '200': {description: a page, content: {text/html: {schema: {type: string}}}}
  /tiny.yaml:
    get:
      operationId: getTiny
      responses:
        '200': {description: this, content: {application/yaml: {schema: {type: string}}}}
components:
  responses:
    Problem:
      description: wrong
      content:
        application/problem+json: {schema: {$ref: '#/components/schemas/Problem'}}
  schemas:
    Change:
      type: object
      required: [password]
      properties: {password: {type: string, minLength: 3}}
    Thing:
      type: object
      required: [name, size]
      properties: {name: {type: string, pattern: '^[a-z]+$'}, size: {type: [integer, 'null']}}
    Problem:
      type: object
      required: [type, status, code]
      properties: {type: {type: string}, status: {type: integer}, code: {type: string, enum: [bad, unknown]}}
`

// canary stands for a secret: no report of a difference may hold it.
const canary = "canary7Zx81"

// spy collects what a test would be failed with.
type spy struct{ failures []string }

func (s *spy) Helper() {}

func (s *spy) Errorf(format string, args ...any) {
	s.failures = append(s.failures, fmt.Sprintf(format, args...))
}

func (s *spy) Fatalf(format string, args ...any) { s.Errorf(format, args...) }

// answer is a transport that answers always the same.
type answer struct {
	status int
	header map[string]string
	body   string
}

func (a answer) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	for name, value := range a.header {
		header.Set(name, value)
	}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.body)), Request: request}, nil
}

// call makes one exchange through a Recorder and returns the failures and the body as the caller sees it.
func call(t *testing.T, a answer, method, path, body string) (*spectest.Recorder, []string, string) {
	t.Helper()
	watcher := &spy{}
	recorder := spectest.New(watcher, []byte(tiny))
	request, err := http.NewRequestWithContext(t.Context(), method, "http://tiny.example"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := recorder.Transport(a).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return recorder, watcher.failures, string(got)
}

var (
	jsonWithTag = map[string]string{"Content-Type": "application/json", "ETag": `"7"`}
	problemJSON = map[string]string{"Content-Type": "application/problem+json"}
)

const good = `{"password":"` + canary + `"}`

func TestTransport_acceptsWhatTheContractSays(t *testing.T) {
	for name, tc := range map[string]struct {
		answer             answer
		method, path, body string
	}{
		"success":                  {answer{200, jsonWithTag, `{"name":"abc","size":null}`}, "PATCH", "/things/1", good},
		"problem":                  {answer{422, problemJSON, `{"type":"urn:x:bad","status":422,"code":"bad"}`}, "PATCH", "/things/1", `{}`},
		"no body":                  {answer{204, nil, ""}, "DELETE", "/things/1", ""},
		"page":                     {answer{200, map[string]string{"Content-Type": "text/html; charset=utf-8"}, "<p>"}, "GET", "/page", ""},
		"yaml":                     {answer{200, map[string]string{"Content-Type": "application/yaml"}, "a: 1"}, "GET", "/tiny.yaml", ""},
		"a path that is not there": {answer{404, problemJSON, `{"type":"urn:x:unknown","status":404,"code":"unknown"}`}, "GET", "/nowhere", ""},
		"a preflight":              {answer{204, nil, ""}, "OPTIONS", "/things/1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, failures, body := call(t, tc.answer, tc.method, tc.path, tc.body)
			if diff := cmp.Diff([]string(nil), failures); diff != "" {
				t.Error(diff)
			}
			if body != tc.answer.body {
				t.Errorf("the caller got the body %q, not %q", body, tc.answer.body)
			}
		})
	}
}

func TestTransport_catchesWhatTheContractDoesNotSay(t *testing.T) {
	for name, tc := range map[string]struct {
		answer             answer
		method, path, body string
		want               string
	}{
		"missing member": {answer{200, jsonWithTag, `{"name":"` + canary + `"}`}, "PATCH", "/things/1", good, `breaks the keyword "required"`},
		"wrong pattern":  {answer{200, jsonWithTag, `{"name":"` + canary + `","size":1}`}, "PATCH", "/things/1", good, `/name breaks the keyword "pattern"`},
		"unknown member": {answer{200, jsonWithTag, `{"name":"abc","size":1,"hash":"` + canary + `"}`}, "PATCH", "/things/1", good, `additionalProperties`},
		"missing header": {answer{200, map[string]string{"Content-Type": "application/json"}, `{"name":"abc","size":1}`}, "PATCH", "/things/1", good, `"ETag" missing`},
		"wrong header":   {answer{200, map[string]string{"Content-Type": "application/json", "ETag": canary}, `{"name":"abc","size":1}`}, "PATCH", "/things/1", good, `"ETag"`},
		"other media type": {
			answer{200, map[string]string{"Content-Type": "text/plain", "ETag": `"7"`}, canary},
			"PATCH", "/things/1", good, "media type",
		},
		"not JSON":               {answer{200, jsonWithTag, canary}, "PATCH", "/things/1", good, "failed to decode"},
		"unknown status":         {answer{200, nil, ""}, "DELETE", "/things/1", "", "does not know this status"},
		"body where none is":     {answer{204, nil, canary}, "DELETE", "/things/1", "", "knows no body"},
		"empty page":             {answer{200, map[string]string{"Content-Type": "text/html"}, ""}, "GET", "/page", "", "no body"},
		"request not allowed":    {answer{200, jsonWithTag, `{"name":"abc","size":1}`}, "PATCH", "/things/1", `{"password":"` + canary + `","x":1}`, "request body"},
		"request without member": {answer{200, jsonWithTag, `{"name":"abc","size":1}`}, "PATCH", "/things/1", `{}`, `request body: / breaks the keyword "required"`},
		"wrong parameter":        {answer{200, jsonWithTag, `{"name":"abc","size":1}`}, "PATCH", "/things/" + canary, good, "request parameter id in path"},
		"undocumented code":      {answer{422, problemJSON, `{"type":"urn:x:odd","status":422,"code":"odd"}`}, "PATCH", "/things/1", good, `/code breaks the keyword "enum"`},
		"problem's status":       {answer{422, problemJSON, `{"type":"urn:x:bad","status":400,"code":"bad"}`}, "PATCH", "/things/1", good, "another status"},
		"problem's type":         {answer{422, problemJSON, `{"type":"urn:x:other","status":422,"code":"bad"}`}, "PATCH", "/things/1", good, "does not end with its code"},
		"unknown operation":      {answer{200, jsonWithTag, `{}`}, "GET", "/nowhere", "", "does not know this operation"},
		"unknown path, no problem": {
			answer{404, map[string]string{"Content-Type": "application/json"}, `{"message":"Not Found"}`},
			"GET", "/nowhere", "", "not a problem document",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, failures, _ := call(t, tc.answer, tc.method, tc.path, tc.body)
			all := strings.Join(failures, "\n")
			if !strings.Contains(all, tc.want) {
				t.Errorf("failures are %q, without %q", all, tc.want)
			}
			if strings.Contains(all, canary) {
				t.Errorf("a failure holds a value of the exchange: %s", all)
			}
		})
	}
}

func TestRecorder_remembersOperationsAndCodes(t *testing.T) {
	recorder, failures, _ := call(t, answer{422, problemJSON, `{"type":"urn:x:bad","status":422,"code":"bad"}`}, "PATCH", "/things/1", good)
	if diff := cmp.Diff([]string(nil), failures); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"dropThing", "getPage", "getTiny"}, recorder.Unexercised()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"bad"}, recorder.Codes()); diff != "" {
		t.Error(diff)
	}
}
