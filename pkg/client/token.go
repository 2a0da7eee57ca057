package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// early is how long before its end a token is replaced: longer than a call takes on its way and the clocks differ. A token
// that lives less than five times as long is replaced when a fifth of its life is left.
const early = time.Minute

// TokenSource answers the access tokens for calls. Any number of goroutines use it.
type TokenSource interface {
	// Token answers a token that is good for this call.
	Token(ctx context.Context) (string, error)
	// Refused tells that the service did not accept a token that Token had answered: it must not be answered again.
	Refused(token string)
}

// TokenFunc is a TokenSource that knows nothing of the tokens it answers: when one is refused it is asked for another.
type TokenFunc func(ctx context.Context) (string, error)

// Token calls f.
func (f TokenFunc) Token(ctx context.Context) (string, error) { return f(ctx) }

// Refused does nothing.
func (TokenFunc) Refused(string) {}

// held is a token with its times.
type held struct {
	token        string
	renewAt, end time.Time
}

// hold notes when a token that was just answered is to be replaced.
func (c *Client) hold(token string, expiresIn int) held {
	now, life := c.caller.now(), time.Duration(expiresIn)*time.Second
	return held{token: token, renewAt: now.Add(life - min(early, life/5)), end: now.Add(life)}
}

// keeper is a TokenSource that keeps a token for as long as it is good. Callers that need a new one at the same time wait for
// the same request.
type keeper struct {
	now   func() time.Time
	fetch func(ctx context.Context) (held, error)
	group singleflight.Group

	mu      sync.Mutex
	current held
}

func newKeeper(now func() time.Time, fetch func(ctx context.Context) (held, error)) *keeper {
	return &keeper{now: now, fetch: fetch}
}

// Token answers the kept token, or a new one when that is about to expire. While no new one can be had the old one is
// answered until it has expired; a refusal counts at once.
func (k *keeper) Token(ctx context.Context) (string, error) {
	if kept := k.kept(); k.now().Before(kept.renewAt) {
		return kept.token, nil
	}
	// Cut off from the caller's cancellation: others wait for the outcome too.
	result := k.group.DoChan("", func() (any, error) { return k.renew(aside(context.WithoutCancel(ctx))) })
	select {
	case r := <-result:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (k *keeper) renew(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	kept := k.kept()
	if k.now().Before(kept.renewAt) { // somebody was faster
		return kept.token, nil
	}
	fresh, err := k.fetch(ctx)
	if err == nil {
		k.replace(kept, fresh)
		return fresh.token, nil
	}
	if refusal(err) || !k.now().Before(kept.end) {
		return "", err
	}
	return kept.token, nil
}

// refusal tells an answer that says no from a failure that passes.
func refusal(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status < http.StatusInternalServerError && e.Status != http.StatusTooManyRequests
}

// Refused forgets the token, unless it was replaced already.
func (k *keeper) Refused(token string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current.token == token {
		k.current = held{}
	}
}

func (k *keeper) kept() held {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

func (k *keeper) keep(fresh held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = fresh
}

// replace keeps fresh instead of kept, unless another token has taken its place meanwhile.
func (k *keeper) replace(kept, fresh held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == kept || k.current == (held{}) {
		k.current = fresh
	}
}

// session is the TokenSource of a user's session.
type session struct {
	*keeper
	client  *Client
	renewed func(ctx context.Context, tokens SessionTokens) error

	mu     sync.Mutex
	tokens SessionTokens
}

func newSession(c *Client, tokens SessionTokens, renewed func(ctx context.Context, tokens SessionTokens) error) *session {
	s := &session{client: c, tokens: tokens, renewed: renewed}
	s.keeper = newKeeper(c.caller.now, s.refresh)
	// When it was issued is not known of stored tokens: if it has expired, it is refused and replaced.
	s.keep(c.hold(tokens.AccessToken, tokens.ExpiresIn))
	return s
}

func (s *session) refresh(ctx context.Context) (held, error) {
	last := s.present().RefreshToken
	tokens, err := s.client.RefreshSession(ctx, last)
	if err != nil {
		return held{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens.RefreshToken != last { // a change of the password was faster, and has ended what was just answered
		return s.kept(), nil
	}
	if err := s.tell(ctx, *tokens); err != nil { // under the lock: pairs are told in the order in which they replace each other
		return held{}, err
	}
	s.tokens = *tokens
	return s.client.hold(tokens.AccessToken, tokens.ExpiresIn), nil
}

// changed goes over to the tokens that a change of the password answered: all earlier ones have ended with it.
func (s *session) changed(ctx context.Context, answer *ChangedCredentials) error {
	if answer.AccessToken == nil || answer.RefreshToken == nil || answer.ExpiresIn == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.AccessToken, s.tokens.RefreshToken, s.tokens.ExpiresIn = *answer.AccessToken, *answer.RefreshToken, *answer.ExpiresIn
	s.tokens.MustChangePassword = false
	s.keep(held{}) // the one from before is dead; where the new pair cannot be stored, the next call refreshes it and tells again
	if err := s.tell(context.WithoutCancel(ctx), s.tokens); err != nil {
		return err
	}
	s.keep(s.client.hold(*answer.AccessToken, *answer.ExpiresIn))
	return nil
}

func (s *session) present() SessionTokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

func (s *session) tell(ctx context.Context, tokens SessionTokens) error {
	if s.renewed == nil {
		return nil
	}
	if err := s.renewed(ctx, tokens); err != nil {
		return fmt.Errorf("client: store the session's new tokens: %w", err)
	}
	return nil
}
