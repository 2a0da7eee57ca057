package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
)

const idempotencyKey = "Idempotency-Key"

// keyForm is an Idempotency-Key: printable ASCII. The draft writes it as a quoted string; with or without quotes it is taken as
// it comes.
var keyForm = regexp.MustCompile(`^[\x20-\x7e]{16,128}$`)

// attemptKey is where a request that holds its Idempotency-Key is noted.
const attemptKey contextKey = "attempt"

// replaying gives a repeated request the answer of the first one, and lets one alone of several at once be carried out.
func (s *Server) replaying(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx := c.Request().Context()
		request, err := repeatable(c, actorOf(ctx))
		if err != nil {
			return err
		}
		if request == nil {
			return next(c)
		}
		attempt, answer, err := s.replays.Begin(ctx, *request)
		if err != nil {
			return err
		}
		if answer != nil {
			return send(c, *answer)
		}
		answered := false
		defer func() {
			if !answered {
				s.release(ctx, attempt)
			}
		}()
		c.SetRequest(c.Request().WithContext(context.WithValue(ctx, attemptKey, attempt)))
		err = next(c)
		answered = err == nil && attempt.Sealed() // what changes nothing, like a dry run, is not kept
		return err
	}
}

// release lets a refused request be tried again. Where that fails the key is free when its lease is over.
func (s *Server) release(ctx context.Context, attempt *replay.Attempt) {
	if err := attempt.Release(ctx); err != nil {
		s.log.WarnContext(ctx, "an idempotency key stays reserved for a while", "request_id", originOf(ctx).RequestID, "error", err.Error())
	}
}

// outgrown answers a request whose token is good for nothing since the change that the request itself has made, if it is
// repeated; else cause stays.
func (s *Server) outgrown(c echo.Context, rule access.Rule, cause error) error {
	token, ok := errors.AsType[*session.OutgrownError](cause)
	if !ok || !rule.Repeatable {
		return cause
	}
	request, err := repeatable(c, token.Actor)
	if err != nil {
		return err
	}
	if request == nil {
		return cause
	}
	answer, err := s.replays.After(c.Request().Context(), *request, token.Actor.User.Generation)
	if err != nil {
		return err
	}
	if answer == nil {
		return cause
	}
	c.Set(actorName, token.Actor)
	return send(c, *answer)
}

// repeatable reads what makes the request the same as another, or nil when it has no Idempotency-Key.
func repeatable(c echo.Context, actor access.Actor) (*replay.Request, error) {
	request := c.Request()
	keys := request.Header.Values(idempotencyKey)
	if len(keys) == 0 {
		return nil, nil
	}
	if len(keys) > 1 || !keyForm.MatchString(keys[0]) {
		return nil, &malformedError{detail: "The header " + idempotencyKey + " must be there once and hold 16 to 128 printable ASCII characters."}
	}
	body, err := readBody(request, bodyLimit(c))
	if err != nil {
		return nil, err
	}
	request.Body = io.NopCloser(bytes.NewReader(body)) // it is still to be bound
	return &replay.Request{
		Caller: callerOf(actor, body), Key: keys[0], Method: request.Method, Path: request.URL.Path + "?" + request.URL.Query().Encode(),
		Fields: []string{request.Header.Get("If-Match"), request.Header.Get(onBehalfOf)}, Body: body,
	}, nil
}

// callerOf names who may fetch an answer: the user, the service, or whoever holds the link that the request uses up.
func callerOf(actor access.Actor, body []byte) string {
	if subject := subjectOf(actor); subject != "" {
		return subject
	}
	var link struct {
		Token secret.Text `json:"token"`
	}
	if json.Unmarshal(body, &link) != nil {
		return "nobody" // such a body is refused, and nothing is kept
	}
	return "link:" + link.Token.Digest()
}

// send writes an answer that was kept.
func send(c echo.Context, answer replay.Answer) error {
	header := c.Response().Header()
	for name, value := range answer.Header {
		header.Set(name, value)
	}
	c.Response().WriteHeader(answer.Status)
	_, err := io.WriteString(c.Response(), answer.Body)
	return err
}

// reply makes the answer to a request: the one that is kept is the one that is sent.
type reply[T, R any] struct {
	render func(result T) R
	visit  func(R, http.ResponseWriter) error // writes it
	kept   *R
}

func newReply[T, R any](render func(T) R, visit func(R, http.ResponseWriter) error) *reply[T, R] {
	return &reply[T, R]{render: render, visit: visit}
}

// to returns the answer for a result.
func (r *reply[T, R]) to(result T) R {
	if r.kept != nil {
		return *r.kept
	}
	return r.render(result)
}

// keep is how the use case keeps the answer; nil when the request has no Idempotency-Key.
func (r *reply[T, R]) keep(ctx context.Context) *change.Keep[T] {
	attempt, ok := ctx.Value(attemptKey).(*replay.Attempt)
	if !ok {
		return nil
	}
	return &change.Keep[T]{Slot: attempt.Slot(), Seal: func(result T) ([]byte, error) {
		rendered := r.render(result)
		r.kept = &rendered
		var w recorder
		if err := r.visit(rendered, &w); err != nil {
			return nil, fmt.Errorf("httpapi: render an answer: %w", err)
		}
		return attempt.Seal(w.answer())
	}}
}

// recorder is a ResponseWriter that remembers.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header returns the header fields.
func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) { r.status = status }

// Write notes a part of the body.
func (r *recorder) Write(part []byte) (int, error) { return r.body.Write(part) }

func (r *recorder) answer() replay.Answer {
	answer := replay.Answer{Status: r.status, Header: map[string]string{}, Body: r.body.String()}
	for name := range r.header {
		answer.Header[name] = r.header.Get(name)
	}
	return answer
}
