package httpapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/internal/strictjson"
)

// maxBody bounds request bodies in bytes: the longest legal one (three passwords of 128 code points, escaped) fits twice.
const maxBody = 16 << 10

// maxJobBody bounds the body that begins a job, in bytes: 50,000 ids of the greatest length fit.
const maxJobBody = 4 << 20

// bodyLimit returns how many bytes the request's body may have.
func bodyLimit(c echo.Context) int64 {
	if c.Request().Method == http.MethodPost && c.Path() == jobsPath {
		return maxJobBody
	}
	return maxBody
}

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

// binder reads one JSON object, strictly.
type binder struct{}

// Bind reads the body into target, a pointer to a struct. An absent body is io.EOF: some operations need none.
func (binder) Bind(target any, c echo.Context) error {
	request := c.Request()
	body, err := readBody(request, bodyLimit(c))
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return io.EOF
	}
	if err := checkMediaType(request, mediaJSON, mediaMergePatch); err != nil {
		return err
	}
	err = strictjson.Decode(body, target)
	if wrong, ok := errors.AsType[*strictjson.Error](err); ok {
		return &malformedError{detail: wrong.Detail}
	}
	return err
}

func readBody(request *http.Request, most int64) ([]byte, error) {
	if request.ContentLength > most {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(request.Body, most+1))
	if err != nil {
		return nil, &malformedError{detail: "The body ended early."}
	}
	if int64(len(body)) > most {
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
