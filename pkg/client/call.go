package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// firstPause and longestPause bound the pauses between repetitions, which double: three are 1.4 seconds at most where the
	// service asks for none, and less on average; each attempt may take as long as the HTTP client allows.
	firstPause, longestPause = 200 * time.Millisecond, 5 * time.Second
	// longestAsked is the most that is waited because the service asks for it; more is for the caller to decide.
	longestAsked = 10 * time.Second
)

// manner is how a call is made; its context says so.
type manner struct {
	tokenless  bool   // it needs no token, so that a TokenSource can use it to get one
	repeatable bool   // it has no effect twice, although it is no GET
	streamed   bool   // the caller reads the answer as it comes
	key        string // its Idempotency-Key
}

type (
	mannerKey struct{} // where a context keeps a manner
	keyed     struct{} // where it keeps an Idempotency-Key of the caller's
	actingFor struct{} // where it keeps the user that a service acts for
)

func mannerOf(ctx context.Context) manner {
	m, _ := ctx.Value(mannerKey{}).(manner)
	return m
}

func in(ctx context.Context, m manner) context.Context { return context.WithValue(ctx, mannerKey{}, m) }

func withoutToken(ctx context.Context) context.Context { return in(ctx, manner{tokenless: true}) }

// again is withoutToken for a call that may be made more than once.
func again(ctx context.Context) context.Context {
	return in(ctx, manner{tokenless: true, repeatable: true})
}

// once is for a change that is made once, however often it is sent: with the caller's Idempotency-Key or a new one.
func once(ctx context.Context) context.Context {
	m := mannerOf(ctx)
	m.repeatable = true
	if m.key, _ = ctx.Value(keyed{}).(string); m.key == "" {
		m.key = rand.Text()
	}
	return in(ctx, m)
}

// aside is for what a call needs done beside it, such as getting a token: that is another call, and nobody's.
func aside(ctx context.Context) context.Context {
	return in(context.WithValue(ctx, actingFor{}, ""), manner{})
}

// caller sends requests: with a token, and again where that is safe and may help.
type caller struct {
	next    HttpRequestDoer
	source  TokenSource // nil: no token is sent
	retries int
	now     func() time.Time
	wait    func(ctx context.Context, d time.Duration) error
	random  func(below time.Duration) time.Duration
}

// Do sends a request and answers what the last attempt brought. The body of an answer is in memory, so that one which breaks
// off counts as none; streamed ones are not.
func (c *caller) Do(request *http.Request) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		response, err := c.authorized(request)
		pause, again := c.pause(request, attempt, response, err)
		if !again {
			return response, err
		}
		discard(response)
		if err := c.wait(request.Context(), pause); err != nil {
			return nil, err
		}
	}
}

// sourceError marks the failure of a TokenSource, which has made its own attempts.
type sourceError struct{ cause error }

func (e sourceError) Error() string { return "get a token: " + e.cause.Error() }
func (e sourceError) Unwrap() error { return e.cause }

// authorized sends the request with a token if it wants one. A refused token is replaced and the request sent once more: a
// request that was refused for its token had no effect.
func (c *caller) authorized(request *http.Request) (*http.Response, error) {
	if c.source == nil || mannerOf(request.Context()).tokenless {
		return c.send(request, "")
	}
	ctx := aside(request.Context())
	token, err := c.source.Token(ctx)
	if err != nil {
		return nil, sourceError{err}
	}
	response, err := c.send(request, token)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	c.source.Refused(token)
	fresh, err := c.source.Token(ctx)
	if err != nil && !refusal(err) { // it may pass: the caller must not take it for the end of the session
		discard(response)
		return nil, sourceError{err}
	}
	if err != nil || fresh == token || !rewinds(request) {
		return response, nil //nolint:nilerr // the service's own answer tells more than why there is no other token
	}
	discard(response)
	return c.send(request, fresh)
}

// send makes one attempt.
func (c *caller) send(request *http.Request, token string) (*http.Response, error) {
	attempt := request.Clone(request.Context())
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, fmt.Errorf("read the body once more: %w", err)
		}
		attempt.Body = body
	}
	if token != "" {
		attempt.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.next.Do(attempt)
	if err != nil || mannerOf(request.Context()).streamed {
		return response, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(data))
	return response, nil
}

// pause tells whether to repeat the request after what came of it, and when.
func (c *caller) pause(request *http.Request, attempt int, response *http.Response, err error) (time.Duration, bool) {
	ctx := request.Context()
	if attempt >= c.retries || ctx.Err() != nil || !safe(request) || !rewinds(request) || !passing(response, err) {
		return 0, false
	}
	pause := c.random(min(firstPause<<min(attempt, 10), longestPause)) + 1
	if response != nil {
		asked := retryAfter(response.Header)
		if asked > longestAsked {
			return 0, false
		}
		if asked > 0 {
			pause = asked + c.random(firstPause)
		}
	}
	if deadline, ok := ctx.Deadline(); ok && c.now().Add(pause).After(deadline) {
		return 0, false
	}
	return pause, true
}

// safe tells whether a request has no effect a second time.
func safe(request *http.Request) bool {
	return request.Method == http.MethodGet || mannerOf(request.Context()).repeatable
}

// rewinds tells whether the body can be sent again.
func rewinds(request *http.Request) bool { return request.Body == nil || request.GetBody != nil }

// passing tells whether what came of an attempt may be another the next time.
func passing(response *http.Response, err error) bool {
	if err != nil {
		_, ofSource := errors.AsType[sourceError](err)
		_, ofCertificate := errors.AsType[*tls.CertificateVerificationError](err)
		return !ofSource && !ofCertificate
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case http.StatusConflict:
		return inProgress(response)
	}
	return false
}

// inProgress tells whether the first request with the same Idempotency-Key is still being carried out.
func inProgress(response *http.Response) bool {
	data, err := io.ReadAll(response.Body) // from memory
	if err != nil {
		return false
	}
	response.Body = io.NopCloser(bytes.NewReader(data))
	var problem Problem
	return json.Unmarshal(data, &problem) == nil && problem.Code == ProblemCodeIdempotencyInProgress
}

// discard lets go of an answer that is not looked at.
func discard(response *http.Response) {
	if response != nil {
		_ = response.Body.Close() // nothing is wanted of it
	}
}
