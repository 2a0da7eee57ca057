package signals

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"
)

// View remembers which access tokens have ended before their time, as far as events told it. Handle is its Handler; package bearer
// asks it for each token. Any number of goroutines may use it.
//
// It is kept in memory. One that was just made knows nothing of what was revoked before its first event: until the tokens of that
// time have expired by themselves, within the lifetime, it may take a dead one for good.
type View struct {
	keep time.Duration
	now  func() time.Time

	mu       sync.Mutex
	users    map[string]ended // by user id
	sessions map[string]time.Time
	sweepAt  time.Time
}

// ended says that tokens of a user below a generation are dead, and until when that matters.
type ended struct {
	below int64
	until time.Time
}

// NewView returns a View that knows nothing yet. lifetime is the longest that an access token is good for, the service's
// TOKEN_LIFETIME: what was revoked is forgotten two minutes after the tokens from before it have expired, one for a clock that is
// behind the service's and one for what a bearer.Verifier allows. now is the clock; nil stands for the system's.
func NewView(lifetime time.Duration, now func() time.Time) *View {
	if now == nil {
		now = time.Now
	}
	return &View{keep: lifetime + 2*leeway, now: now, users: map[string]ended{}, sessions: map[string]time.Time{}}
}

// Revoked tells whether a token of a user with the claims "sid" and "gen" has ended: its session was, or every token older than the
// user's generation.
func (v *View) Revoked(userID, sessionID string, generation int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	if until, there := v.sessions[sessionID]; there && now.Before(until) {
		return true
	}
	of, there := v.users[userID]
	return there && generation < of.below && now.Before(of.until)
}

// Handle learns from an event. It is a Handler, to be used alone or from another one; it passes over what ends no token.
func (v *View) Handle(_ context.Context, e Event) error {
	if e.Type != SessionRevoked {
		return nil
	}
	var claims struct {
		Generation int64 `json:"generation"`
	}
	if err := json.Unmarshal(e.Claims, &claims); err != nil {
		return fmt.Errorf("signals: read an ended session: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	v.sweep(now)
	until := now.Add(v.keep)
	if e.SessionID != "" {
		v.sessions[e.SessionID] = until
		return nil
	}
	below := claims.Generation
	if below == 0 { // all sessions, and nothing said of which tokens live on: none does
		below = math.MaxInt64
	}
	if known := v.users[e.UserID]; now.Before(known.until) {
		below = max(below, known.below) // an event that comes again, late, takes nothing back
	}
	v.users[e.UserID] = ended{below, until}
	return nil
}

// sweep forgets what no longer matters, now and then.
func (v *View) sweep(now time.Time) {
	if now.Before(v.sweepAt) {
		return
	}
	v.sweepAt = now.Add(v.keep / 2)
	for id, of := range v.users {
		if !now.Before(of.until) {
			delete(v.users, id)
		}
	}
	for id, until := range v.sessions {
		if !now.Before(until) {
			delete(v.sessions, id)
		}
	}
}
