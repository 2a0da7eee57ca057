package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/salesexec/credentials/pkg/client/internal/pause"
)

const (
	// timeout bounds a call through the default HTTP client: longer than the service keeps a request in its hashing queue.
	timeout = 30 * time.Second
	// defaultRetries are enough for a replica that is being replaced, and end within seconds.
	defaultRetries = 3
)

// Option sets up a Client. WithHTTPClient makes calls through another HTTP client than the default, which waits 30
// seconds and follows no redirect.
type Option interface {
	apply(s *settings) error
}

// settings is what options set.
type settings struct {
	core   *Core
	caller *caller
	source func(c *Client) TokenSource
}

// apply lets the options of the generated core be options of a Client.
func (o ClientOption) apply(s *settings) error { return o(s.core) }

// setting is an option of this package's own.
type setting func(s *settings) error

func (f setting) apply(s *settings) error { return f(s) }

// WithToken sends the access tokens that token answers with every operation that wants one. Without a source of tokens none
// is sent. A source that keeps tokens itself is better given to WithTokenSource.
func WithToken(token func(ctx context.Context) (string, error)) Option {
	return WithTokenSource(TokenFunc(token))
}

// WithTokenSource sends the access tokens of source with every operation that wants one. A token that the service refuses
// makes it ask for another one, once, and repeat the call with that.
func WithTokenSource(source TokenSource) Option {
	return from(func(*Client) TokenSource { return source })
}

// WithClientCredentials calls as a registered service (RFC 6749 section 4.4): with tokens for the wanted scopes, or for all
// that the service has when none is given. A token is kept until shortly before it expires.
func WithClientCredentials(clientID, clientSecret string, scopes ...string) Option {
	return from(func(c *Client) TokenSource {
		return newKeeper(c.caller.now, func(ctx context.Context) (held, error) {
			token, err := c.IssueToken(ctx, clientID, clientSecret, scopes...)
			if err != nil {
				return held{}, err
			}
			return c.hold(token.AccessToken, token.ExpiresIn), nil
		})
	})
}

// WithSession calls as the user of a session, which SignIn answered or was stored: its tokens are refreshed when they are about
// to expire, and replaced when ChangeMyCredentials answers others. renewed is told of each new pair of tokens before it is
// used, so that it can be stored: an older refresh token ends the session once its successor was used. While renewed fails, so
// does every call that needs the new tokens. It may be nil, and must not
// use the Client. ChangeMyCredentials answers the changed credentials beside the error when the change was made and renewed failed.
func WithSession(tokens SessionTokens, renewed func(ctx context.Context, tokens SessionTokens) error) Option {
	return from(func(c *Client) TokenSource { return newSession(c, tokens, renewed) })
}

func from(source func(c *Client) TokenSource) Option {
	return setting(func(s *settings) error {
		s.source = source
		return nil
	})
}

// WithRetries bounds how often a call is repeated, 3 times by default; 0 never repeats. Only calls that cannot have an effect
// twice are repeated: those that read, those that get tokens, and the changes that are sent with an Idempotency-Key, which the
// Client makes (see WithIdempotencyKey). They are when the service was not reached, or when it answers 429, 500, 502, 503 or 504,
// or that it is still carrying out the first attempt. The pauses grow from 0.2 to at most 5 seconds, are drawn at random, and follow Retry-After; a call fails at once when the
// service asks for more than 10 seconds, or for more than the context allows.
func WithRetries(most int) Option {
	return setting(func(s *settings) error {
		if most < 0 {
			return fmt.Errorf("client: %d retries", most)
		}
		s.caller.retries = most
		return nil
	})
}

// WithClock makes the Client go by another time than the system's, for tests: now tells it, and wait returns after d, or with
// an error when ctx ends before.
func WithClock(now func() time.Time, wait func(ctx context.Context, d time.Duration) error) Option {
	return setting(func(s *settings) error {
		s.caller.now, s.caller.wait = now, wait
		return nil
	})
}

// newCaller returns a caller as it is without options.
func newCaller() *caller {
	return &caller{
		next:    &http.Client{Timeout: timeout, CheckRedirect: stay},
		retries: defaultRetries, now: time.Now, wait: pause.For,
		random: rand.N[time.Duration], // chance that spreads load, not a secret
	}
}

// stay follows no redirect: a request that holds a password or a token goes where the caller said and nowhere else.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
