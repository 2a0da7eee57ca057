package httpapi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

// maxBody bounds request bodies in bytes: the longest legal one (three passwords of 128 code points, escaped) fits twice.
const maxBody = 16 << 10

const (
	mediaJSON       = "application/json"
	mediaMergePatch = "application/merge-patch+json"
	mediaForm       = "application/x-www-form-urlencoded"

	patches = mediaMergePatch + ", " + mediaJSON // what PATCH takes
)

// What is wrong with a body before anybody looks at its meaning.
var (
	errMediaType = errors.New("httpapi: unsupported media type")
	errEncoding  = errors.New("httpapi: unsupported content encoding")
	errTooLarge  = errors.New("httpapi: body too large")
)

// malformedError says how a body cannot be read, in words for people that never repeat a value.
type malformedError struct{ detail string }

func (e *malformedError) Error() string { return "httpapi: malformed request: " + e.detail }

// binder reads one JSON object, strictly. encoding/json alone takes member names in any case, lets the last of two win,
// ignores what follows, and turns broken text into U+FFFD, so that different passwords would become one.
type binder struct{}

// Bind reads the body into target, a pointer to a struct. An absent body is io.EOF: some operations need none.
func (binder) Bind(target any, c echo.Context) error {
	request := c.Request()
	body, err := readBody(request)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return io.EOF
	}
	if err := checkMediaType(request, mediaJSON, mediaMergePatch); err != nil {
		return err
	}
	if err := checkText(body); err != nil {
		return err
	}
	if err := checkMembers(body, reflect.TypeOf(target).Elem()); err != nil {
		return err
	}
	if err := json.Unmarshal(body, target); err != nil {
		return &malformedError{detail: "A member has a value of the wrong type."}
	}
	return nil
}

func readBody(request *http.Request) ([]byte, error) {
	if request.ContentLength > maxBody {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(request.Body, maxBody+1))
	if err != nil {
		return nil, &malformedError{detail: "The body ended early."}
	}
	if len(body) > maxBody {
		return nil, errTooLarge
	}
	return body, nil
}

// checkMediaType allows merge patches on PATCH only.
func checkMediaType(request *http.Request, allowed ...string) error {
	if encoding := request.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return errEncoding
	}
	media, parameters, err := mime.ParseMediaType(request.Header.Get("Content-Type"))
	if err != nil {
		return errMediaType
	}
	if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return errMediaType
	}
	for _, a := range allowed {
		if media == a && (a != mediaMergePatch || request.Method == http.MethodPatch) {
			return nil
		}
	}
	return errMediaType
}

// checkText refuses what encoding/json would replace by U+FFFD: bytes that are not UTF-8, and escaped lone surrogates.
func checkText(body []byte) error {
	if !utf8.Valid(body) {
		return &malformedError{detail: "The body is not UTF-8."}
	}
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		unit, ok := escapedUnit(body[i:])
		if !ok {
			i++ // some other escape: skip what is escaped
			continue
		}
		if unit < 0xD800 || unit > 0xDFFF {
			i += 5
			continue
		}
		low, ok := escapedUnit(body[min(i+6, len(body)):])
		if unit > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
			return &malformedError{detail: "The body holds half of a surrogate pair."}
		}
		i += 11
	}
	return nil
}

// escapedUnit reads the UTF-16 unit of an escape such as \u00e9 at the start of text.
func escapedUnit(text []byte) (uint16, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := hex.DecodeString(string(text[2:6]))
	if err != nil {
		return 0, false
	}
	return uint16(unit[0])<<8 | uint16(unit[1]), true
}

// checkMembers refuses everything but one object whose members are known, in their exact spelling, once, and not null.
func checkMembers(body []byte, shape reflect.Type) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return &malformedError{detail: "The body must be one JSON object."}
	}
	known, seen := memberNames(shape), map[string]bool{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return &malformedError{detail: "The body is not JSON."}
		}
		member, _ := name.(string)
		if !known[member] {
			return &malformedError{detail: "The body holds a member that this operation does not know. It knows: " + strings.Join(listed(shape), ", ") + "."}
		}
		if seen[member] {
			return &malformedError{detail: fmt.Sprintf("The member %s is there twice.", member)}
		}
		seen[member] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return &malformedError{detail: "The body is not JSON."}
		}
		if string(value) == "null" {
			return &malformedError{detail: fmt.Sprintf("The member %s is null: leave it out to keep it as it is.", member)}
		}
	}
	if _, err := decoder.Token(); err != nil {
		return &malformedError{detail: "The body is not JSON."}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &malformedError{detail: "Something follows the JSON object."}
	}
	return nil
}

func listed(shape reflect.Type) []string {
	var names []string
	for i := range shape.NumField() {
		name, _, _ := strings.Cut(shape.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func memberNames(shape reflect.Type) map[string]bool {
	names := map[string]bool{}
	for _, name := range listed(shape) {
		names[name] = true
	}
	return names
}
