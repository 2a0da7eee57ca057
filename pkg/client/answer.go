package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// maxAnswer bounds the bytes that are read of an answer: far more than the longest page of a list has.
const maxAnswer = 4 << 20

// Error is the answer to a call that did not succeed. Match it with errors.As and branch on Code.
type Error struct {
	Status     int           // the HTTP status
	Code       ProblemCode   // the stable name of the problem (that of a TokenErrorCode from IssueToken); empty if the answer has none
	Title      string        // what the code means
	Detail     string        // what to do about it this time, for people
	RequestID  string        // names the request in the service's logs
	RetryAfter time.Duration // how long to wait before trying again; 0 when the answer does not say
	Errors     []FieldError  // what is wrong with which member
}

// Error names the status, the code and the request.
func (e *Error) Error() string {
	return fmt.Sprintf("client: answer %d %s (request %s)", e.Status, e.Code, e.RequestID)
}

// CodeOf returns the code of the *Error that err is or wraps, and "" for any other error.
func CodeOf(err error) ProblemCode {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// nothing checks an answer without a body.
func nothing(response *http.Response, err error) error {
	_, err = read(response, err)
	return err
}

// body decodes an answer.
func body[T any](response *http.Response, err error) (*T, error) {
	value, _, err := tagged[T](response, err)
	return value, err
}

// tagged decodes an answer that has an ETag.
func tagged[T any](response *http.Response, err error) (*T, string, error) {
	data, err := read(response, err)
	if err != nil {
		return nil, "", err
	}
	value := new(T)
	if err := json.Unmarshal(data, value); err != nil {
		return nil, "", fmt.Errorf("client: decode the answer: %w", err)
	}
	return value, response.Header.Get("ETag"), nil
}

// read returns the body of a 2xx answer and an *Error for any other.
func read(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("client: call the service: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("client: read the answer: %w", err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("client: the answer is longer than %d bytes", maxAnswer)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, failure(response, data)
	}
	return data, nil
}

// failure makes an Error of what the answer tells. A proxy's answer may be of any kind: then only the status counts.
func failure(response *http.Response, data []byte) *Error {
	e := &Error{Status: response.StatusCode, RequestID: response.Header.Get("X-Request-Id"), RetryAfter: retryAfter(response.Header)}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch mediaType {
	case "application/problem+json":
		var problem Problem
		if json.Unmarshal(data, &problem) == nil {
			e.Code, e.Title, e.Errors = problem.Code, problem.Title, problem.Errors
			if problem.Detail != nil {
				e.Detail = *problem.Detail
			}
		}
	case "application/json":
		var refusal TokenError
		if json.Unmarshal(data, &refusal) == nil {
			e.Code = ProblemCode(refusal.Error)
			if refusal.ErrorDescription != nil {
				e.Detail = *refusal.ErrorDescription
			}
		}
	}
	return e
}

// retryAfter reads how long to wait (RFC 9110 section 10.2.3). The service writes seconds; a proxy may write a date, which counts
// from the answer's own. It is 0 when the answer does not say.
func retryAfter(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	from, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, until.Sub(from))
}
