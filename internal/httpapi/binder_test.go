package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/internal/secret"
)

// sample has the kinds of member that the bodies of the contract have.
type sample struct {
	Name     *string      `json:"name,omitempty"`
	Password *secret.Text `json:"password,omitempty"`
	Flag     *bool        `json:"flag,omitempty"`
}

// members shows what a sample holds, with the password revealed.
func (s sample) members() map[string]any {
	found := map[string]any{}
	if s.Name != nil {
		found["name"] = *s.Name
	}
	if s.Password != nil {
		found["password"] = s.Password.Reveal()
	}
	if s.Flag != nil {
		found["flag"] = *s.Flag
	}
	return found
}

// sent is a request with a body and headers as name, value, name, value ...
func sent(method, body string, headers ...string) *http.Request {
	request := httptest.NewRequest(method, "/", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return request
}

func bind(request *http.Request) (sample, error) {
	var target sample
	err := binder{}.Bind(&target, echo.New().NewContext(request, httptest.NewRecorder()))
	return target, err
}

// api.md "Conventions", peers bug 10: the one object that was meant, and nothing read into what was not.
func TestBind_refusesWhatIsNotOneStrictObject(t *testing.T) {
	for name, body := range map[string]string{
		"unknown member":                `{"name":"a","role":"administrator"}`,
		"duplicate member":              `{"name":"a","name":"b"}`,
		"duplicate, escaped":            `{"name":"a","n\u0061me":"b"}`,
		"duplicate and equal":           `{"name":"a","name":"a"}`,
		"case variant":                  `{"Name":"a"}`,
		"case variant beside":           `{"name":"a","NAME":"b"}`,
		"variant by Unicode folding":    `{"pa` + "\u017f" + `sword":"a"}`,
		"name of the Go field":          `{"Password":"a"}`,
		"empty name":                    `{"":"a"}`,
		"null for text":                 `{"name":null}`,
		"null for a secret":             `{"password":null}`,
		"null for a flag":               `{"flag": null }`,
		"null":                          `null`,
		"array (PAT-01b)":               `[]`,
		"array of objects":              `[{"name":"a"}]`,
		"string (PAT-01b)":              `"name"`,
		"number (PAT-01b)":              `1`,
		"only white space":              " \n\t",
		"trailing object":               `{"name":"a"}{"name":"b"}`,
		"trailing text":                 `{"name":"a"} x`,
		"trailing comma":                `{"name":"a",}`,
		"unfinished":                    `{"name":"a"`,
		"unfinished text":               `{"name":"a`,
		"no value":                      `{"name":}`,
		"no colon":                      `{"name" "a"}`,
		"a comment":                     `{"name":"a"/* */}`,
		"single quotes":                 `{'name':'a'}`,
		"bare name":                     `{name:"a"}`,
		"raw control character":         "{\"name\":\"a\nb\"}",
		"raw NUL":                       "{\"name\":\"a\x00\"}",
		"number for text":               `{"name":1}`,
		"list for text (CVE-2023-7028)": `{"name":["a@x.example","b@x.example"]}`,
		"object for text":               `{"name":{"$ne":""}}`,
		"number for a secret":           `{"password":123456789012345}`,
		"list for a secret":             `{"password":["a"]}`,
		"text for a flag":               `{"flag":"true"}`,
		"number for a flag":             `{"flag":1}`,
		"byte order mark":               "\ufeff" + `{"name":"a"}`,
		"UTF-16":                        "\xff\xfe{\x00}\x00",
		"broken UTF-8":                  "{\"name\":\"a\xff\"}",
		"broken UTF-8 in a name":        "{\"na\xc3me\":\"a\"}",
		"overlong UTF-8":                "{\"name\":\"\xc0\xae\"}",
		"surrogate in UTF-8":            "{\"name\":\"\xed\xa0\x80\"}",
		"lone high surrogate":           `{"password":"a\ud800"}`,
		"lone low surrogate":            `{"password":"\udc00a"}`,
		"two high surrogates":           `{"password":"\ud83d\ud83d"}`,
		"pair the wrong way round":      `{"password":"\ude00\ud83d"}`,
		"high surrogate and a letter":   `{"password":"\ud83d\u0061"}`,
		"lone after a pair":             `{"password":"\ud83d\ude00\ud83d"}`,
		"lone after a backslash":        `{"password":"\\\ud83d"}`,
		"unfinished escape":             `{"password":"\u12"}`,
		"escape that is none":           `{"password":"\x41"}`,
		"very deep":                     `{"name":` + strings.Repeat("[", 8000),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bind(sent(http.MethodPost, body))
			if _, ok := errors.AsType[*malformedError](err); !ok {
				t.Fatalf("Bind(%q) = %v, %v; want a malformed request", body, got.members(), err)
			}
		})
	}
}

// AZ-04: the answer never repeats what was sent.
func TestBind_errorsHoldNoValue(t *testing.T) {
	const canary = "canary-7f3a"
	for _, body := range []string{
		`{"password":"` + canary + `","password":"x"}`, `{"` + canary + `":1}`, `{"flag":"` + canary + `"}`, `{"password":["` + canary + `"]}`,
		`{"password":"` + canary + `"} ` + canary, `{"password":"` + canary + `\ud800"}`, `{"password":"` + canary + "\xff\"}", canary,
	} {
		if _, err := bind(sent(http.MethodPost, body)); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("Bind(%q) = %v", body, err)
		}
	}
}

func TestBind_keepsWhatWasMeant(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want map[string]any
	}{
		"nothing":            {`{}`, map[string]any{}},
		"white space around": {" \r\n{ \"name\" : \"a\" }\n", map[string]any{"name": "a"}},
		"every member":       {`{"flag":false,"password":"p","name":""}`, map[string]any{"name": "", "password": "p", "flag": false}},
		"escaped valid pair": {`{"password":"a\uD83D\uDE00b"}`, map[string]any{"password": "a😀b"}},
		"two escaped pairs":  {`{"password":"\ud83d\ude00\ud83d\ude01"}`, map[string]any{"password": "😀😁"}},
		"backslash before what looks like half a pair": {`{"password":"\\ud800"}`, map[string]any{"password": `\ud800`}},
		"quotes and solidus":                           {`{"password":"\"\/\\"}`, map[string]any{"password": `"/\`}},
		"escaped NUL":                                  {`{"password":"a\u0000"}`, map[string]any{"password": "a\x00"}},
		"raw text beyond the BMP":                      {`{"password":"😀"}`, map[string]any{"password": "😀"}},
		"the replacement character":                    {`{"password":"` + "\ufffd" + `"}`, map[string]any{"password": "\ufffd"}},
		"escaped name of a member":                     {`{"n\u0061me":"a"}`, map[string]any{"name": "a"}},
		"text that says null":                          {`{"name":"null"}`, map[string]any{"name": "null"}},
		"spaces at the ends":                           {`{"password":" p "}`, map[string]any{"password": " p "}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bind(sent(http.MethodPost, test.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.members()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An absent body is told from a malformed one: a reset needs none.
func TestBind_absentBody(t *testing.T) {
	request := sent(http.MethodPost, "")
	request.Header.Del("Content-Type")
	if _, err := bind(request); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want io.EOF", err)
	}
}

// PAT-02, PAT-06, PAT-07, COR-08, peers bug 17.
func TestBind_mediaTypes(t *testing.T) {
	post, patch := http.MethodPost, http.MethodPatch
	for _, test := range []struct {
		method, media, encoding string
		want                    error
	}{
		{post, "application/json", "", nil},
		{post, "Application/JSON; Charset=UTF-8", "", nil},
		{post, `application/json; charset="utf-8"`, "identity", nil},
		{patch, "application/json", "", nil},
		{patch, "application/merge-patch+json; charset=utf-8", "", nil},
		{post, "application/merge-patch+json", "", errMediaType},
		{post, "", "", errMediaType},
		{post, "text/plain", "", errMediaType},
		{post, "application/x-www-form-urlencoded", "", errMediaType},
		{post, "multipart/form-data; boundary=x", "", errMediaType},
		{post, "text/json", "", errMediaType},
		{post, "application/jsonp", "", errMediaType},
		{post, "application/json; charset=iso-8859-1", "", errMediaType},
		{post, "application/json; charset=", "", errMediaType},
		{post, "application/json; charset=utf-8; charset=utf-16", "", errMediaType},
		{post, "application/json, text/plain", "", errMediaType},
		{patch, "application/json-patch+json", "", errMediaType},
		{patch, "application/xml", "", errMediaType},
		{post, "application/json", "gzip", errEncoding},
		{post, "application/json", "br, identity", errEncoding},
	} {
		_, err := bind(sent(test.method, `{"name":"a"}`, "Content-Type", test.media, "Content-Encoding", test.encoding))
		if !errors.Is(err, test.want) {
			t.Errorf("%s %q %q: got %v, want %v", test.method, test.media, test.encoding, err, test.want)
		}
	}
}

// AZ-13: 16 KiB and not a byte more, whether the length is announced or not.
func TestBind_limit(t *testing.T) {
	filled := func(length int) string {
		return `{"name":"` + strings.Repeat("a", length-len(`{"name":""}`)) + `"}`
	}
	for _, announced := range []bool{true, false} {
		for length, want := range map[int]error{maxBody: nil, maxBody + 1: errTooLarge, 10 * maxBody: errTooLarge} {
			request := sent(http.MethodPost, filled(length))
			if !announced {
				request.ContentLength = -1
			}
			if _, err := bind(request); !errors.Is(err, want) {
				t.Errorf("%d bytes, announced %v: got %v, want %v", length, announced, err, want)
			}
		}
	}
}

// A connection that breaks in the middle of a body never does half of what was asked.
func TestBind_bodyThatBreaksOff(t *testing.T) {
	request := sent(http.MethodPost, "")
	request.Body, request.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(`{"name":"a"}`), brokenReader{})), 100
	if _, err := bind(request); err == nil {
		t.Error("accepted")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// SUP-08: whatever the binder accepts is one JSON object that says exactly what was bound, to any reader of JSON.
func FuzzBind(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"a","password":"p","flag":true}`, `{"name":"\ud83d\ude00"}`, `{"name":"\ud800"}`, `{"name":"a","name":"b"}`,
		`{"NAME":"a"}`, `{"name":null}`, `{"name":"a"}x`, "\ufeff{}", "{\"name\":\"\xff\"}", `[]`, `{"flag":1}`, `{"n\u0061me":"\\u0041"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		bound, err := bind(sent(http.MethodPost, string(body)))
		if err != nil {
			return
		}
		var plain map[string]any
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("accepted %q, which is no JSON object: %v", body, err)
		}
		if diff := cmp.Diff(plain, bound.members()); diff != "" {
			t.Fatalf("%q was read as something else:\n%s", body, diff)
		}
		var replacement = []byte("\ufffd")
		encoded, err := json.Marshal(plain)
		if err != nil {
			t.Fatal(err)
		}
		escaped := bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`))
		if bytes.Contains(encoded, replacement) && !bytes.Contains(body, replacement) && !escaped {
			t.Fatalf("%q: broken text became U+FFFD", body)
		}
	})
}
