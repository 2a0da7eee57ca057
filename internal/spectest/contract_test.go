package spectest_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func contract(t *testing.T) *openapi3.T {
	t.Helper()
	data, err := os.ReadFile("../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func operations(doc *openapi3.T) map[string]*openapi3.Operation {
	all := map[string]*openapi3.Operation{}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			all[method+" "+path] = operation
		}
	}
	return all
}

// The document is OpenAPI 3.1, its examples match their schemas, and no operation id is used twice.
func TestContract_isValid(t *testing.T) {
	doc := contract(t)
	if err := doc.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("the document says OpenAPI %s", doc.OpenAPI)
	}
}

// ERR-01: every operation is described, and says how it fails.
func TestContract_describesEveryOperation(t *testing.T) {
	for name, operation := range operations(contract(t)) {
		if operation.OperationID == "" || operation.Summary == "" || operation.Description == "" || len(operation.Tags) == 0 {
			t.Errorf("%s lacks an operationId, a summary, a description or a tag", name)
		}
		fallback := operation.Responses.Default()
		if fallback == nil || fallback.Ref != "#/components/responses/Problem" {
			t.Errorf("%s does not answer a problem document by default", name)
		}
	}
}

// Decision 9: snake_case in JSON, queries and paths, but for the members that RFC 8936 names (sections 2.2 and 2.3).
func TestContract_isSnakeCase(t *testing.T) {
	ofRFC8936 := []string{"Poll.maxEvents", "Poll.returnImmediately", "Poll.setErrs", "Polled.moreAvailable"}
	snake := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	doc := contract(t)
	for name, schema := range doc.Components.Schemas {
		for member := range schema.Value.Properties {
			if !snake.MatchString(member) && !slices.Contains(ofRFC8936, name+"."+member) {
				t.Errorf("%s.%s is not snake_case", name, member)
			}
		}
	}
	for name, operation := range operations(doc) {
		for _, parameter := range operation.Parameters {
			if p := parameter.Value; p.In != openapi3.ParameterInHeader && !snake.MatchString(p.Name) {
				t.Errorf("%s: parameter %s is not snake_case", name, p.Name)
			}
		}
	}
}

// ERR-02: every code is explained beside the list of codes, and no code is explained that does not exist.
func TestContract_explainsEveryCode(t *testing.T) {
	doc := contract(t)
	for name, row := range map[string]string{
		"ProblemCode":      `\| \d{3} \| .([a-z_]+). \|`,
		"SignInReasonCode": "(?m)^\\* `([a-z_]+)`",
	} {
		schema := doc.Components.Schemas[name].Value
		var explained []string
		for _, match := range regexp.MustCompile(row).FindAllStringSubmatch(schema.Description, -1) {
			explained = append(explained, match[1])
		}
		codes := enum(schema)
		slices.Sort(explained)
		slices.Sort(codes)
		if !slices.Equal(explained, codes) {
			t.Errorf("%s explains %v, and lists %v", name, explained, codes)
		}
	}
	fields := doc.Components.Schemas["FieldErrorCode"].Value
	for _, code := range enum(fields) {
		if !strings.Contains(fields.Description, "`"+code+"`") {
			t.Errorf("FieldErrorCode does not explain %s", code)
		}
	}
}

func enum(schema *openapi3.Schema) []string {
	values := make([]string, len(schema.Enum))
	for i, value := range schema.Enum {
		values[i], _ = value.(string)
	}
	return values
}

// LOG-04: every secret in a request has the format "password", which makes a secret.Text of it in the server, and a bound.
func TestContract_marksSecretsInRequests(t *testing.T) {
	secret := regexp.MustCompile(`password$|secret$|token$`)
	marked := 0
	for name, operation := range operations(contract(t)) {
		if operation.RequestBody == nil {
			continue
		}
		for mediaType, content := range operation.RequestBody.Value.Content {
			for member, ref := range content.Schema.Value.Properties {
				schema := ref.Value
				if !secret.MatchString(member) {
					continue
				}
				marked++
				if schema.Format != "password" || !schema.WriteOnly || schema.MaxLength == nil {
					t.Errorf("%s, %s: %s is not marked as a secret with a bound", name, mediaType, member)
				}
			}
			// Members that a receiver knows and the transmitter does not are passed over (SSF 1.0 section 8.1.1).
			shared := strings.Contains(name, " /ssf/")
			if object := content.Schema.Value; isJSON(mediaType) && !shared && (object.AdditionalProperties.Has == nil || *object.AdditionalProperties.Has) {
				t.Errorf("%s, %s: the body allows unknown members", name, mediaType)
			}
		}
	}
	if marked == 0 {
		t.Error("there is no secret in any request: the test looks at nothing")
	}
}

func isJSON(mediaType string) bool { return strings.HasSuffix(mediaType, "json") }

// API-05, IDM-01, IDM-05: no operation asks for an Idempotency-Key, and every PATCH and POST takes an Idempotency-Key, but for those that change no credentials and lose nothing when
// they are sent again.
func TestContract_repeatable(t *testing.T) {
	without := map[string]string{
		"POST /sessions":                           "opens one session more",
		"POST /sessions/refresh":                   "has a grace of its own for a lost answer",
		"POST /oauth/token":                        "gives one token more, as RFC 6749 has it",
		"POST /password-policy/check":              "changes nothing",
		"POST /internal/credentials/verify":        "changes nothing",
		"POST /admin/password-resets/{job}/cancel": "a job that is cancelled stays so, and is answered again",
		"POST /ssf/streams":                        "there is one stream, which can be read",
		"PATCH /ssf/streams":                       "sets values, and can be sent again",
		"POST /ssf/status":                         "sets a value",
		"POST /ssf/subjects/add":                   "sets a value",
		"POST /ssf/subjects/remove":                "sets a value",
		"POST /ssf/verification":                   "asks for one event more",
		"POST /ssf/streams/{stream_id}/poll":       "is acknowledged by the next one",
	}
	for name, operation := range operations(contract(t)) {
		_, excepted := without[name]
		key := operation.Parameters.GetByInAndName("header", "Idempotency-Key")
		takes := key != nil
		must := !excepted && (strings.HasPrefix(name, "PATCH ") || strings.HasPrefix(name, "POST "))
		if takes != must {
			t.Errorf("%s takes an Idempotency-Key: %v", name, takes)
		}
		if takes && key.Required {
			t.Errorf("%s asks for an Idempotency-Key", name)
		}
		delete(without, name)
	}
	if len(without) != 0 {
		t.Errorf("there is no %v", without)
	}
}

// PRE-01, PRE-02: what answers an ETag to a change takes If-Match; RL-01, RL-06: a delay says how long it is.
func TestContract_headers(t *testing.T) {
	for name, operation := range operations(contract(t)) {
		if !strings.HasPrefix(name, "GET ") {
			answer := operation.Responses.Status(200)
			tagged := answer != nil && answer.Value.Headers["ETag"] != nil
			if tagged != (operation.Parameters.GetByInAndName("header", "If-Match") != nil) {
				t.Errorf("%s has one of ETag and If-Match without the other", name)
			}
		}
		for _, status := range []int{429, 503} {
			if delay := operation.Responses.Status(status); delay != nil && delay.Value.Headers["Retry-After"] == nil {
				t.Errorf("%s: %d has no Retry-After", name, status)
			}
		}
	}
}
