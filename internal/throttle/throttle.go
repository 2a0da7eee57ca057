// Package throttle bounds guessing: it reserves every attempt at a password before anything is hashed, and counts it
// as a failure unless it is given back.
//
// It is a leaf. The counters live in the database behind Store, shared by every endpoint and replica and outside the
// business transaction (THR-02, THR-03); the rules are pure functions of a counter's State, so that they read and test
// without a database.
package throttle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Delays after too many consecutive failures (NIST SP 800-63B-4 section 3.2.2 names 30 seconds up to an hour).
const (
	firstDelay = 30 * time.Second
	lastDelay  = time.Hour
)

// Thresholds of product.md decision 8.
const (
	networkThreshold = 5   // failures of one name from one network before a delay
	strangerFrom     = 20  // failures of one user over all networks before networks unknown to the user are delayed too
	sessionThreshold = 5   // wrong current passwords in one session before a delay
	SessionLimit     = 10  // wrong current passwords that end the session
	PasswordLimit    = 100 // consecutive failures that disable the password (NIST SP 800-63B-4 section 3.2.2)
	MailLimit        = 10  // mails an hour that requests can cause for one user, and to one new address
)

// lease is how long an attempt may stay unheard of before it counts as wrong: longer than any queue and hash takes.
const lease = time.Minute

// everyone is more than can be in line.
const everyone = math.MaxInt

// pollEvery is how often a waiting attempt looks again for what another replica may have settled.
const pollEvery = time.Second

// ErrBusy says that too many attempts at the same password are being checked; the caller may try again in a moment.
var ErrBusy = errors.New("throttle: too many attempts at once")

// DelayedError says that attempts are refused for RetryAfter.
type DelayedError struct{ RetryAfter time.Duration }

// Error names the delay in seconds.
func (e *DelayedError) Error() string {
	return fmt.Sprintf("throttle: delayed for %d seconds", int(e.RetryAfter/time.Second))
}

// Rule is how one counter reacts.
type Rule struct {
	Threshold int // from this many failures on, one attempt per delay; 0: never delayed
	Limit     int // at this many failures the attempt is granted as Exhausted, without counting; 0: no limit
}

// State is one counter.
type State struct {
	Failures     int // consecutive failures, attempts in flight included
	InFlight     int
	LeaseUntil   time.Time
	BlockedUntil time.Time
}

// Confirmed returns the failures that are known to be such.
func (s State) Confirmed() int { return s.Failures - s.InFlight }

// delayAfter returns how long attempts are refused after so many failures.
func delayAfter(failures, threshold int) time.Duration {
	doublings := failures - threshold
	if doublings < 0 {
		return 0
	}
	if doublings > 6 { // 30 s doubled seven times is over an hour
		return lastDelay
	}
	return firstDelay << doublings
}

// verdict is what became of asking for a reservation.
type verdict int

const (
	granted verdict = iota
	exhausted
	busy
	delayed
)

// reserve returns the state with one attempt more in flight, if it may be made now.
func (s State) reserve(rule Rule, now time.Time) (State, verdict) {
	if s.InFlight > 0 && !now.Before(s.LeaseUntil) { // its replica died: never heard of again is wrong
		s.InFlight = 0
		s = s.block(rule, s.LeaseUntil)
	}
	if rule.Limit > 0 && s.Failures >= rule.Limit {
		if s.InFlight > 0 {
			return s, busy
		}
		return s, exhausted
	}
	if rule.Threshold > 0 && s.Failures >= rule.Threshold {
		if now.Before(s.BlockedUntil) {
			return s, delayed
		}
		if s.InFlight > 0 {
			return s, busy
		}
	}
	s.Failures++
	s.InFlight++
	s.LeaseUntil = now.Add(lease)
	return s, granted
}

func (s State) block(rule Rule, now time.Time) State {
	if rule.Threshold > 0 && s.Failures >= rule.Threshold {
		s.BlockedUntil = now.Add(delayAfter(s.Failures, rule.Threshold))
	}
	return s
}

// Outcome is how a reserved attempt ended.
type Outcome int

// The outcomes. GivenBack is for attempts that were not judged: the credentials changed meanwhile, no lane was free.
const (
	Wrong Outcome = iota
	Right
	GivenBack
)

func (s State) settle(rule Rule, outcome Outcome, now time.Time) State {
	s.InFlight = max(0, s.InFlight-1)
	switch outcome {
	case Right:
		s.Failures = s.InFlight
		s.BlockedUntil = time.Time{}
	case GivenBack:
		s.Failures = max(s.InFlight, s.Failures-1)
	case Wrong:
		s = s.block(rule, now)
	}
	return s
}

// Store keeps the counters.
type Store interface {
	// UpdateThrottles reads the counters of keys (zero States for new ones), lets apply change them, and writes them,
	// alone with them from the read to the write. subject is whose counters they are. When apply returns false nothing is written.
	UpdateThrottles(ctx context.Context, subject string, keys []string, apply func([]State) ([]State, bool)) error
	// AllowRate counts one request against key, of which n per period are allowed, and returns how many are left, or
	// how long to wait for the next one.
	AllowRate(ctx context.Context, key string, n int, per time.Duration, now time.Time) (Allowance, error)
}

// Standing is what holds off attempts at a subject's password now.
type Standing struct {
	Failures     int        // consecutive, over all networks
	BlockedUntil *time.Time // the latest delay that is not over, if any
}

// Allowance is what is left of a rate.
type Allowance struct {
	Allowed    bool
	Limit      int
	Remaining  int
	RetryAfter time.Duration // until the next request is allowed; 0 when Allowed
	ResetAfter time.Duration // until the whole rate is there again
}

// Counter is one counter an attempt is counted by.
type Counter struct {
	Key  string
	Rule Rule
}

// Limiter reserves and settles attempts.
type Limiter struct {
	store    Store
	now      func() time.Time
	patience time.Duration

	mu      sync.Mutex
	waiting map[string][]chan struct{} // by subject, first come first woken
}

// New returns a Limiter over store. An attempt waits at most patience for others at the same password that are just
// being checked.
func New(store Store, patience time.Duration, now func() time.Time) *Limiter {
	return &Limiter{store: store, now: now, patience: patience, waiting: map[string][]chan struct{}{}}
}

// Attempt is one reserved attempt at a password.
type Attempt struct {
	limiter  *Limiter
	subject  string
	counters []Counter
	// Exhausted says that so many failures preceded that the password is to be disabled: it must not be compared.
	Exhausted bool
	done      bool
}

// Network returns the network of an address that failures are counted by: /24 for IPv4, /48 for IPv6.
func Network(ip string) string {
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return "unknown"
	}
	address = address.Unmap()
	bits := 48
	if address.Is4() {
		bits = 24
	}
	prefix, err := address.WithZone("").Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
}

// SignIn reserves an attempt to sign in as subject (a user, or a name nobody has) from network. Networks from which the
// user has signed in lately are known. It returns *DelayedError or ErrBusy when the attempt may not be made now.
func (l *Limiter) SignIn(ctx context.Context, subject, network string, known bool) (*Attempt, error) {
	stranger := Rule{Threshold: strangerFrom, Limit: PasswordLimit}
	if known {
		stranger.Threshold = 0
	}
	return l.reserve(ctx, subject, []Counter{
		{Key: subject, Rule: stranger},
		{Key: subject + "@" + network, Rule: Rule{Threshold: networkThreshold}},
	})
}

// CurrentPassword reserves an attempt of a signed-in user to prove the current password. It returns *DelayedError or
// ErrBusy when the attempt may not be made now.
func (l *Limiter) CurrentPassword(ctx context.Context, subject, sessionID string) (*Attempt, error) {
	return l.reserve(ctx, subject, []Counter{
		{Key: subject, Rule: Rule{Limit: PasswordLimit}},
		{Key: subject + "#" + sessionID, Rule: Rule{Threshold: sessionThreshold}},
	})
}

func keysOf(counters []Counter) []string {
	keys := make([]string, len(counters))
	for i, c := range counters {
		keys[i] = c.Key
	}
	return keys
}

func (l *Limiter) reserve(ctx context.Context, subject string, counters []Counter) (*Attempt, error) {
	deadline := l.now().Add(l.patience)
	for {
		turn := l.join(subject)
		attempt, err := l.try(ctx, subject, counters)
		if errors.Is(err, ErrBusy) && l.now().Before(deadline) {
			err = wait(ctx, turn)
			l.leave(subject, turn)
			if err != nil {
				return nil, err
			}
			continue
		}
		l.leave(subject, turn)
		if _, ok := errors.AsType[*DelayedError](err); ok {
			l.wake(subject, everyone) // nobody's turn comes any more: let all hear it now
		}
		return attempt, err
	}
}

// wait returns when it may be the caller's turn: an attempt was settled on this replica, or perhaps on another.
func wait(ctx context.Context, turn <-chan struct{}) error {
	poll := time.NewTimer(pollEvery)
	defer poll.Stop()
	select {
	case <-turn:
	case <-poll.C:
	case <-ctx.Done():
		return fmt.Errorf("throttle: wait for a reservation: %w", ctx.Err())
	}
	return nil
}

func (l *Limiter) try(ctx context.Context, subject string, counters []Counter) (*Attempt, error) {
	now := l.now()
	attempt := &Attempt{limiter: l, subject: subject, counters: counters}
	var refusal error
	err := l.store.UpdateThrottles(ctx, subject, keysOf(counters), func(states []State) ([]State, bool) {
		attempt.Exhausted, refusal = false, nil
		for i, c := range counters {
			next, verdict := states[i].reserve(c.Rule, now)
			switch verdict {
			case busy:
				refusal = cmp.Or(refusal, ErrBusy)
			case delayed:
				refusal = later(refusal, next.BlockedUntil.Sub(now))
			case exhausted:
				attempt.Exhausted = true
			case granted:
			}
			states[i] = next
		}
		return states, refusal == nil
	})
	if err != nil {
		return nil, fmt.Errorf("throttle: reserve an attempt: %w", err)
	}
	if refusal != nil {
		return nil, refusal
	}
	return attempt, nil
}

// later returns the longer of two delays, rounded up to whole seconds. A delay outranks ErrBusy: waiting would not help.
func later(refusal error, delay time.Duration) error {
	var earlier *DelayedError
	if errors.As(refusal, &earlier) && earlier.RetryAfter > delay {
		return refusal
	}
	return &DelayedError{RetryAfter: (delay + time.Second - 1).Truncate(time.Second)}
}

// Failures are the consecutive failures after a wrong attempt, those in flight left out.
type Failures struct {
	Password int // of the user, over all networks and sessions
	Place    int // of the network or the session
}

// Settle says how the attempt ended. Call it exactly once; it is kept even when the caller's context is over.
func (a *Attempt) Settle(ctx context.Context, outcome Outcome) (Failures, error) {
	if a.done {
		return Failures{}, nil
	}
	a.done = true
	defer a.limiter.wake(a.subject, networkThreshold) // a right attempt frees that many places at most
	now := a.limiter.now()
	var failures Failures
	err := a.limiter.store.UpdateThrottles(context.WithoutCancel(ctx), a.subject, keysOf(a.counters), func(states []State) ([]State, bool) {
		for i, c := range a.counters {
			exhausted := c.Rule.Limit > 0 && a.Exhausted // was not counted
			if !exhausted || outcome == Right {
				states[i] = states[i].settle(c.Rule, outcome, now)
			}
		}
		failures = Failures{Password: states[0].Confirmed(), Place: states[len(states)-1].Confirmed()}
		return states, true
	})
	if err != nil {
		return Failures{}, fmt.Errorf("throttle: settle an attempt: %w", err)
	}
	return failures, nil
}

// Allow counts one request of key against n per minute.
func (l *Limiter) Allow(ctx context.Context, key string, n int) (Allowance, error) {
	allowance, err := l.store.AllowRate(ctx, key, n, time.Minute, l.now())
	if err != nil {
		return Allowance{}, fmt.Errorf("throttle: count a request: %w", err)
	}
	return allowance, nil
}

// AllowMail counts one mail that a request causes against key, of which MailLimit an hour are allowed: nobody's mailbox is
// filled by somebody else. A *DelayedError says when the next one is.
func (l *Limiter) AllowMail(ctx context.Context, key string) error {
	allowance, err := l.store.AllowRate(ctx, "mail:"+key, MailLimit, time.Hour, l.now())
	if err != nil {
		return fmt.Errorf("throttle: count a mail: %w", err)
	}
	if !allowance.Allowed {
		return &DelayedError{RetryAfter: max(allowance.RetryAfter, time.Second)}
	}
	return nil
}

// join puts the caller in line before it looks, so that no settling between looking and waiting is missed.
func (l *Limiter) join(subject string) chan struct{} {
	turn := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[subject] = append(l.waiting[subject], turn)
	return turn
}

func (l *Limiter) leave(subject string, turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := slices.DeleteFunc(l.waiting[subject], func(c chan struct{}) bool { return c == turn })
	if len(line) == 0 {
		delete(l.waiting, subject)
		return
	}
	l.waiting[subject] = line
}

// wake tells the first n in line to look again.
func (l *Limiter) wake(subject string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.waiting[subject]
	n = min(n, len(line))
	for _, turn := range line[:n] {
		close(turn)
	}
	if l.waiting[subject] = line[n:]; len(line) == n {
		delete(l.waiting, subject)
	}
}
