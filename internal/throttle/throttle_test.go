package throttle

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// noon is when the pure rules are tried.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// after is that many seconds past noon.
func after(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// THR-06, THR-11: 30 seconds at the threshold, doubled with each further failure, never more than an hour.
func TestDelayAfter(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: 0, 1: 0, 4: 0,
		5: 30 * time.Second, 6: time.Minute, 7: 2 * time.Minute, 8: 4 * time.Minute, 9: 8 * time.Minute, 10: 16 * time.Minute, 11: 32 * time.Minute,
		12: time.Hour, 13: time.Hour, 68: time.Hour, 69: time.Hour, 1 << 40: time.Hour,
	} {
		if got := delayAfter(failures, 5); got != want {
			t.Errorf("after %d failures: %s, want %s", failures, got, want)
		}
	}
}

// THR-01, THR-04, peers bug 8: what one counter grants. An attempt counts as a failure from its reservation on.
func TestState_reserve(t *testing.T) {
	five, limited := Rule{Threshold: 5}, Rule{Limit: 100}
	for _, test := range []struct {
		name  string
		rule  Rule
		state State
		want  State
		says  verdict
	}{
		{"the first", five, State{}, State{Failures: 1, InFlight: 1, LeaseUntil: after(60)}, granted},
		{"the fifth, four in flight", five, State{Failures: 4, InFlight: 4, LeaseUntil: after(9)}, State{Failures: 5, InFlight: 5, LeaseUntil: after(60)}, granted},
		{"the sixth, five in flight", five, State{Failures: 5, InFlight: 5, LeaseUntil: after(9)}, State{Failures: 5, InFlight: 5, LeaseUntil: after(9)}, busy},
		{"one in flight after a delay", five, State{Failures: 6, InFlight: 1, LeaseUntil: after(9), BlockedUntil: after(-9)}, State{Failures: 6, InFlight: 1, LeaseUntil: after(9), BlockedUntil: after(-9)}, busy},
		{"during the delay", five, State{Failures: 5, BlockedUntil: after(1)}, State{Failures: 5, BlockedUntil: after(1)}, delayed},
		{"a delay outranks those in flight", five, State{Failures: 6, InFlight: 1, LeaseUntil: after(9), BlockedUntil: after(1)}, State{Failures: 6, InFlight: 1, LeaseUntil: after(9), BlockedUntil: after(1)}, delayed},
		{"the moment the delay ends", five, State{Failures: 5, BlockedUntil: noon}, State{Failures: 6, InFlight: 1, LeaseUntil: after(60), BlockedUntil: noon}, granted},
		{"an old delay below the threshold", five, State{Failures: 4, BlockedUntil: after(9)}, State{Failures: 5, InFlight: 1, LeaseUntil: after(60), BlockedUntil: after(9)}, granted},
		{"no rule", Rule{}, State{Failures: 1000, InFlight: 10, LeaseUntil: after(1), BlockedUntil: after(9)}, State{Failures: 1001, InFlight: 11, LeaseUntil: after(60), BlockedUntil: after(9)}, granted},
		{"the last before the limit", limited, State{Failures: 99}, State{Failures: 100, InFlight: 1, LeaseUntil: after(60)}, granted},
		{"at the limit, not all known", limited, State{Failures: 100, InFlight: 1, LeaseUntil: after(9)}, State{Failures: 100, InFlight: 1, LeaseUntil: after(9)}, busy},
		{"at the limit", limited, State{Failures: 100}, State{Failures: 100}, exhausted},
		{"a second before the lease ends", five, State{Failures: 5, InFlight: 2, LeaseUntil: after(1)}, State{Failures: 5, InFlight: 2, LeaseUntil: after(1)}, busy},
		{"an ended lease counts as wrong", five, State{Failures: 5, InFlight: 2, LeaseUntil: noon}, State{Failures: 5, LeaseUntil: noon, BlockedUntil: after(30)}, delayed},
		{"an ended lease below the threshold", five, State{Failures: 3, InFlight: 2, LeaseUntil: noon}, State{Failures: 4, InFlight: 1, LeaseUntil: after(60)}, granted},
		{"an ended lease at the limit", limited, State{Failures: 100, InFlight: 3, LeaseUntil: after(-5)}, State{Failures: 100, LeaseUntil: after(-5)}, exhausted},
		{"a delay counts from the end of the lease", five, State{Failures: 6, InFlight: 1, LeaseUntil: after(-61)}, State{Failures: 7, InFlight: 1, LeaseUntil: after(60), BlockedUntil: after(-1)}, granted},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, says := test.state.reserve(test.rule, noon)
			if says != test.says {
				t.Errorf("got verdict %d, want %d", says, test.says)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// THR-05, THR-06: what an attempt leaves behind when it is right, wrong or was not judged.
func TestState_settle(t *testing.T) {
	five := Rule{Threshold: 5}
	for _, test := range []struct {
		name    string
		rule    Rule
		state   State
		outcome Outcome
		want    State
	}{
		{"right resets", five, State{Failures: 5, InFlight: 1, BlockedUntil: after(-1)}, Right, State{}},
		{"right leaves those in flight", five, State{Failures: 9, InFlight: 3, BlockedUntil: after(9)}, Right, State{Failures: 2, InFlight: 2}},
		{"wrong below the threshold", five, State{Failures: 4, InFlight: 1}, Wrong, State{Failures: 4}},
		{"wrong at the threshold", five, State{Failures: 5, InFlight: 1}, Wrong, State{Failures: 5, BlockedUntil: after(30)}},
		{"wrong beyond it", five, State{Failures: 7, InFlight: 1, BlockedUntil: after(-1)}, Wrong, State{Failures: 7, BlockedUntil: after(120)}},
		{"wrong where nothing delays", Rule{Limit: 100}, State{Failures: 50, InFlight: 2}, Wrong, State{Failures: 50, InFlight: 1}},
		{"given back", five, State{Failures: 5, InFlight: 1}, GivenBack, State{Failures: 4}},
		{"given back leaves those in flight", five, State{Failures: 3, InFlight: 3}, GivenBack, State{Failures: 2, InFlight: 2}},
		{"given back keeps the delay", five, State{Failures: 6, InFlight: 1, BlockedUntil: after(9)}, GivenBack, State{Failures: 5, BlockedUntil: after(9)}},
		{"given back after a right one", five, State{InFlight: 0}, GivenBack, State{}},
		{"wrong after its lease ended", five, State{Failures: 5, BlockedUntil: after(9)}, Wrong, State{Failures: 5, BlockedUntil: after(30)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.state.settle(test.rule, test.outcome, noon)); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// Failures are counted by network, since one machine has many addresses.
func TestNetwork(t *testing.T) {
	for ip, want := range map[string]string{
		"203.0.113.7": "203.0.113.0/24", "203.0.113.255": "203.0.113.0/24", "203.0.114.7": "203.0.114.0/24",
		"::ffff:203.0.113.7": "203.0.113.0/24", // the same machine over a socket for both
		"2001:db8:5:6::1":    "2001:db8:5::/48", "2001:db8:5:ffff:ffff::2": "2001:db8:5::/48", "2001:db8:6::1": "2001:db8:6::/48",
		"fe80::1%eth0": "fe80::/48",
		"":             "unknown", "203.0.113": "unknown", "203.0.113.7:443": "unknown", "name.example": "unknown",
	} {
		if got := Network(ip); got != want {
			t.Errorf("Network(%q) = %q, want %q", ip, got, want)
		}
	}
}

// memory is a Store for one test.
type memory struct {
	mu     sync.Mutex
	states map[string]State
	rates  []string // what AllowRate was asked
	err    error    // what everything fails with
	then   func()   // called when counters were looked at
}

func newMemory() *memory { return &memory{states: map[string]State{}} }

func (m *memory) UpdateThrottles(ctx context.Context, _ string, keys []string, apply func([]State) ([]State, bool)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.err, ctx.Err()); err != nil {
		return err
	}
	states := make([]State, len(keys))
	for i, key := range keys {
		states[i] = m.states[key]
	}
	states, write := apply(states)
	if m.then != nil {
		m.then()
	}
	for i, key := range keys {
		if write {
			m.states[key] = states[i]
		}
	}
	return nil
}

func (m *memory) AllowRate(_ context.Context, key string, n int, per time.Duration, now time.Time) (Allowance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rates = append(m.rates, fmt.Sprintf("%s %d per %s at %s", key, n, per, now.Format(time.TimeOnly)))
	return Allowance{Allowed: true, Limit: n, Remaining: n - 1}, m.err
}

func (m *memory) state(key string) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[key]
}

// trial is a Limiter over memory, at a time that only the test moves: who has to wait is patient for ever.
type trial struct {
	*testing.T
	*Limiter
	store *memory
	time  atomic.Int64 // nanoseconds after noon
}

func newTrial(t *testing.T) *trial {
	trial := &trial{T: t, store: newMemory()}
	trial.Limiter = New(trial.store, time.Minute, trial.at)
	return trial
}

func (t *trial) at() time.Time           { return noon.Add(time.Duration(t.time.Load())) }
func (t *trial) advance(d time.Duration) { t.time.Add(int64(d)) }

// attempt is one way to try a password.
type attempt func(t *trial) (*Attempt, error)

func signIn(network string, known bool) attempt {
	return func(t *trial) (*Attempt, error) { return t.SignIn(t.Context(), "user:1", network, known) }
}

func current(session string) attempt {
	return func(t *trial) (*Attempt, error) { return t.CurrentPassword(t.Context(), "user:1", session) }
}

// try makes an attempt that must be granted and settles it.
func (t *trial) try(how attempt, outcome Outcome) Failures {
	t.Helper()
	reserved, err := how(t)
	if err != nil {
		t.Fatal(err)
	}
	failures, err := reserved.Settle(t.Context(), outcome)
	if err != nil {
		t.Fatal(err)
	}
	return failures
}

// refused makes an attempt that must be delayed, and returns for how long.
func (t *trial) refused(how attempt) time.Duration {
	t.Helper()
	_, err := how(t)
	delayed, ok := errors.AsType[*DelayedError](err)
	if !ok {
		t.Fatalf("got %v, want a delay", err)
	}
	return delayed.RetryAfter
}

// wave makes n attempts at once, by turns over the limiters, and counts those granted and those delayed.
func wave(t *testing.T, n int, outcome Outcome, limiters ...*Limiter) (granted, delayed int64) {
	t.Helper()
	var grants, delays, inFlight atomic.Int64
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			reserved, err := limiters[i%len(limiters)].SignIn(t.Context(), "user:1", "203.0.113.0/24", false)
			if _, ok := errors.AsType[*DelayedError](err); ok {
				delays.Add(1)
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			grants.Add(1)
			if at := inFlight.Add(1); at > networkThreshold {
				t.Errorf("%d attempts are under way at once", at)
			}
			runtime.Gosched() // let others try meanwhile
			inFlight.Add(-1)
			if _, err := reserved.Settle(t.Context(), outcome); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, l := range limiters {
		if len(l.waiting) != 0 {
			t.Errorf("somebody is still in line: %v", l.waiting)
		}
	}
	return grants.Load(), delays.Load()
}

// THR-04, peers bug 8: of 200 wrong guesses at once exactly five are looked at, on one replica and on two.
func TestLimiter_parallelWrong(t *testing.T) {
	for replicas := 1; replicas <= 2; replicas++ {
		t.Run(fmt.Sprintf("%d replicas", replicas), func(t *testing.T) {
			trial := newTrial(t)
			limiters := []*Limiter{trial.Limiter, New(trial.store, time.Minute, trial.at)}[:replicas]
			granted, delayed := wave(t, 200, Wrong, limiters...)
			if granted != 5 || delayed != 195 {
				t.Errorf("%d granted and %d delayed, want 5 and 195", granted, delayed)
			}
			want := State{Failures: 5, LeaseUntil: after(60), BlockedUntil: after(30)}
			if diff := cmp.Diff(want, trial.store.state("user:1@203.0.113.0/24")); diff != "" {
				t.Errorf("counter (-want +got):\n%s", diff)
			}
		})
	}
}

// THR-04, THR-05: 200 right ones at once are all looked at, five at a time, and none counts in the end.
func TestLimiter_parallelRight(t *testing.T) {
	trial := newTrial(t)
	if granted, _ := wave(t, 200, Right, trial.Limiter); granted != 200 {
		t.Errorf("%d granted, want all 200", granted)
	}
	if s := trial.store.state("user:1"); s.Failures != 0 || s.InFlight != 0 {
		t.Errorf("right attempts count: %+v", s)
	}
}

// Attempts that were not judged, because no lane was free or the user was changed, do not count, however many.
func TestLimiter_parallelGivenBack(t *testing.T) {
	trial := newTrial(t)
	if granted, _ := wave(t, 200, GivenBack, trial.Limiter); granted != 200 {
		t.Errorf("%d granted, want all 200", granted)
	}
	if s := trial.store.state("user:1@203.0.113.0/24"); s.Failures != 0 || s.InFlight != 0 {
		t.Errorf("attempts given back count: %+v", s)
	}
}

// THR-06: each failure after the fourth doubles the delay, and one attempt is granted when it is over.
func TestLimiter_growingDelay(t *testing.T) {
	trial, here := newTrial(t), signIn("203.0.113.0/24", true)
	for range 4 {
		trial.try(here, Wrong)
	}
	for _, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour} {
		trial.try(here, Wrong)
		if got := trial.refused(here); got != want {
			t.Errorf("delayed for %s, want %s", got, want)
		}
		trial.advance(want - 1500*time.Millisecond)
		if got := trial.refused(here); got != 2*time.Second { // whole seconds, never too few
			t.Errorf("at the end delayed for %s, want 2s", got)
		}
		trial.advance(1500 * time.Millisecond)
	}
	trial.try(here, Right)
	trial.try(here, Wrong) // and all begins anew
}

// THR-07: from the 20th failure over all networks strangers are delayed; who is known, is not, and lifts it.
func TestLimiter_strangers(t *testing.T) {
	trial := newTrial(t)
	for i := range 20 {
		trial.try(signIn(fmt.Sprintf("203.0.%d.0/24", i/4), false), Wrong)
	}
	stranger, known := signIn("198.51.100.0/24", false), signIn("192.0.2.0/24", true)
	if got := trial.refused(stranger); got != 30*time.Second {
		t.Errorf("a stranger is delayed for %s, want 30s", got)
	}
	if failures := trial.try(known, Wrong); failures != (Failures{Password: 21, Place: 1}) {
		t.Errorf("failures after a wrong password from a known network: %+v", failures)
	}
	trial.advance(30 * time.Second)
	trial.try(stranger, Wrong)
	if got := trial.refused(signIn("198.51.200.0/24", false)); got != 2*time.Minute { // the 22nd
		t.Errorf("the next stranger is delayed for %s, want 2m", got)
	}
	trial.try(known, Right)
	trial.try(stranger, Right)
}

// THR-01, THR-02: failures in sessions and from networks add up; the hundredth is the last that is compared, and the rest
// neither count nor pass.
func TestLimiter_exhausted(t *testing.T) {
	trial := newTrial(t)
	for i := range 99 {
		place := fmt.Sprint(i)
		how := []attempt{current(place), signIn(place, true)}[i%2]
		if failures := trial.try(how, Wrong); failures != (Failures{Password: i + 1, Place: 1}) {
			t.Fatalf("failures after %d: %+v", i+1, failures)
		}
	}
	if failures := trial.try(current("last"), Wrong); failures.Password != PasswordLimit {
		t.Fatalf("failures at the limit: %+v", failures)
	}
	for _, how := range []attempt{current("new"), signIn("new", true)} {
		reserved, err := how(trial)
		if err != nil || !reserved.Exhausted {
			t.Fatalf("beyond the limit: %+v, %v", reserved, err)
		}
		if failures, err := reserved.Settle(t.Context(), Wrong); err != nil || failures != (Failures{Password: PasswordLimit, Place: 1}) {
			t.Errorf("failures beyond the limit: %+v, %v", failures, err)
		}
	}
	if s := trial.store.state("user:1"); s.Failures != PasswordLimit || s.InFlight != 0 {
		t.Errorf("counter: %+v", s)
	}
}

// Product decision 8: in one session a delay from the fifth wrong current password, and the tenth is told to end it.
func TestLimiter_session(t *testing.T) {
	trial, here := newTrial(t), current("s1")
	for n := 1; n <= SessionLimit; n++ {
		if failures := trial.try(here, Wrong); failures != (Failures{Password: n, Place: n}) {
			t.Errorf("failures after %d: %+v", n, failures)
		}
		if n >= 5 {
			trial.advance(trial.refused(here))
		}
	}
	trial.try(current("s2"), Right)
	if failures := trial.try(here, Wrong); failures != (Failures{Password: 1, Place: 11}) {
		t.Errorf("another session's right one lifts the user's failures, not this session's: %+v", failures)
	}
}

// An attempt that is never heard of again, because its replica died, is a wrong one.
func TestLimiter_lostAttempts(t *testing.T) {
	trial, here := newTrial(t), signIn("203.0.113.0/24", false)
	for range networkThreshold {
		if _, err := here(trial); err != nil {
			t.Fatal(err)
		}
	}
	trial.advance(lease)
	if got := trial.refused(here); got != 30*time.Second {
		t.Errorf("delayed for %s, want 30s", got)
	}
	trial.advance(30 * time.Second)
	trial.try(here, Right)
	trial.try(here, Right)
}

// Who waits for the attempts under way gives up when patience ends, or when the caller has gone.
func TestLimiter_waiting(t *testing.T) {
	trial, here := newTrial(t), signIn("203.0.113.0/24", false)
	for range networkThreshold {
		if _, err := here(trial); err != nil {
			t.Fatal(err)
		}
	}
	hasty := New(trial.store, 0, trial.at)
	if _, err := hasty.SignIn(t.Context(), "user:1", "203.0.113.0/24", false); !errors.Is(err, ErrBusy) {
		t.Errorf("without patience: got %v, want ErrBusy", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	trial.store.then = cancel // the caller goes once the store has refused
	if _, err := trial.SignIn(ctx, "user:1", "203.0.113.0/24", false); !errors.Is(err, context.Canceled) {
		t.Errorf("with nobody to answer: got %v, want context.Canceled", err)
	}
	if len(trial.waiting) != 0 {
		t.Errorf("somebody is still in line: %v", trial.waiting)
	}
}

// THR-03: an outcome counts once, and also when the caller has gone before it is known.
func TestAttempt_Settle(t *testing.T) {
	trial := newTrial(t)
	reserved, err := trial.SignIn(t.Context(), "user:1", "203.0.113.0/24", false)
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if failures, err := reserved.Settle(gone, Wrong); err != nil || failures != (Failures{Password: 1, Place: 1}) {
		t.Errorf("settled without a caller: %+v, %v", failures, err)
	}
	if _, err := reserved.Settle(t.Context(), Right); err != nil {
		t.Error(err)
	}
	if s := trial.store.state("user:1"); s.Confirmed() != 1 {
		t.Errorf("the second outcome counted: %+v", s)
	}
}

// A store that fails lets nobody try: a guess that cannot be counted is not made.
func TestLimiter_storeFails(t *testing.T) {
	trial, away := newTrial(t), errors.New("away")
	reserved, err := trial.SignIn(t.Context(), "user:1", "203.0.113.0/24", false)
	if err != nil {
		t.Fatal(err)
	}
	trial.store.err = away
	if _, err := reserved.Settle(t.Context(), Wrong); !errors.Is(err, away) {
		t.Errorf("Settle: got %v", err)
	}
	if _, err := trial.CurrentPassword(t.Context(), "user:1", "s1"); !errors.Is(err, away) {
		t.Errorf("CurrentPassword: got %v", err)
	}
	if _, err := trial.Allow(t.Context(), "ip:203.0.113.7", 600); !errors.Is(err, away) {
		t.Errorf("Allow: got %v", err)
	}
}

// THR-08: requests are counted by the minute.
func TestLimiter_Allow(t *testing.T) {
	trial := newTrial(t)
	got, err := trial.Allow(t.Context(), "ip:203.0.113.7", 600)
	if diff := cmp.Diff(Allowance{Allowed: true, Limit: 600, Remaining: 599}, got); diff != "" || err != nil {
		t.Errorf("allowance (-want +got):\n%s%v", diff, err)
	}
	if diff := cmp.Diff([]string{"ip:203.0.113.7 600 per 1m0s at 12:00:00"}, trial.store.rates); diff != "" {
		t.Errorf("asked of the store (-want +got):\n%s", diff)
	}
}

// The delay is told in whole seconds.
func TestDelayedError(t *testing.T) {
	if got := (&DelayedError{RetryAfter: 90 * time.Second}).Error(); got != "throttle: delayed for 90 seconds" {
		t.Error(got)
	}
}
