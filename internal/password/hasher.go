package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/salesexec/credentials/internal/secret"
)

// maxInput is the longest password in bytes that is hashed or verified as it is: far above what the policy accepts,
// for hashes that were made elsewhere, and the size of the largest request body.
const maxInput = 8 << 10

var (
	// ErrUnusableHash says that a stored hash is of an unknown scheme, damaged, or asks for more than is computed.
	ErrUnusableHash = errors.New("password: stored hash cannot be used")
	// ErrTooLong says that a password of more than 8 KiB was to be hashed, which no policy accepts.
	ErrTooLong = errors.New("password: too long to be hashed")
)

// OverloadedError says that no lane came free in time; the password was not looked at.
type OverloadedError struct {
	RetryAfter time.Duration // when to try again: whole seconds, 1 to 60
}

// Error says when to try again.
func (e *OverloadedError) Error() string {
	return fmt.Sprintf("password: all hashing lanes are busy, try again in %s", e.RetryAfter)
}

// HasherConfig says what a Hasher may spend. Zero values stand for the defaults.
type HasherConfig struct {
	Params       Params        // of new hashes; default DefaultParams()
	Lanes        int           // hashes computed at once, which bounds their memory to that of Lanes hashes and 60 MiB; default one a CPU
	Queue        int           // places to wait in for each class; default 32 a lane
	QueueTimeout time.Duration // longest wait; default 5 s

	// Observe, if given, is called after every "hash" or "verify" that was computed, from its lane: how long it waited
	// for the lane and how long it took there. It must be quick and safe for concurrent use.
	Observe func(operation string, waited, took time.Duration)
}

// Hasher hashes and verifies passwords. It computes a fixed number of hashes at once (ASVS 15.1.3) and is safe for
// concurrent use. A caller whose context ends while it waits is not computed for; one whose context ends later is
// answered at once, but its lane is taken until the computation ends.
type Hasher struct {
	params  Params
	lanes   *lanes
	pace    pace
	garbage garbage
	observe func(operation string, waited, took time.Duration)
	random  io.Reader
	kdf     derive
}

// Verdict is what a verification found.
type Verdict struct {
	Match    bool // the password is the one that was hashed
	Outdated bool // it matches, and should be hashed anew: the scheme or a parameter is below what is made today
}

// NewHasher returns an error when the parameters are not approved (see Params.Validate) or a number is negative.
func NewHasher(config HasherConfig) (*Hasher, error) {
	if config.Params == (Params{}) {
		config.Params = DefaultParams()
	}
	if err := config.Params.Validate(); err != nil {
		return nil, err
	}
	if config.Lanes < 0 || config.Queue < 0 || config.QueueTimeout < 0 {
		return nil, errors.New("password: lanes, queue and queue timeout cannot be negative")
	}
	if config.Lanes == 0 {
		config.Lanes = runtime.GOMAXPROCS(0)
	}
	if config.Queue == 0 {
		config.Queue = 32 * config.Lanes
	}
	if config.QueueTimeout == 0 {
		config.QueueTimeout = 5 * time.Second
	}
	if config.Observe == nil {
		config.Observe = func(string, time.Duration, time.Duration) {}
	}
	return &Hasher{
		params:  config.Params,
		lanes:   newLanes(config.Lanes, config.Queue, config.QueueTimeout),
		observe: config.Observe,
		random:  rand.Reader,
		kdf:     argon2Tag,
	}, nil
}

// Hash returns the PHC string of the password's NFC form: argon2id, version 19, with a salt of its own.
// It returns ErrTooLong, *OverloadedError or the context's error.
func (h *Hasher) Hash(ctx context.Context, class Class, password secret.Text) (string, error) {
	password, fits := limited(password)
	if !fits {
		return "", ErrTooLong
	}
	hash := phc{variant: argon2id, params: h.params, salt: make([]byte, saltSize)}
	if _, err := io.ReadFull(h.random, hash.salt); err != nil {
		return "", fmt.Errorf("read salt: %w", err)
	}
	input := []byte(Normalize(password).Reveal())
	_, err := h.compute(ctx, class, "hash", func() { hash.tag = h.derive(hash.variant, input, hash.salt, hash.params, tagSize) })
	if err != nil {
		return "", err
	}
	return hash.String(), nil
}

// Verify tells whether the whole password, in its NFC form, is the one that stored was made of. It takes about as long
// whatever stored is. It returns ErrUnusableHash (wrapped), *OverloadedError or the context's error.
func (h *Hasher) Verify(ctx context.Context, class Class, stored string, password secret.Text) (Verdict, error) {
	hash, unusable := parseStored(stored)
	if unusable != nil {
		if err := h.VerifyNothing(ctx, class, password); err != nil {
			return Verdict{}, err
		}
		return Verdict{}, fmt.Errorf("%w: %w", ErrUnusableHash, unusable)
	}
	password, fits := limited(password)
	outdated := hash.outdated(h.params)
	var match bool
	started, err := h.compute(ctx, class, "verify", func() {
		match = hash.matches(h.derive, password) && fits
		if outdated && h.pace.usual() == 0 {
			h.garbage.collect()
			h.spend(password) // nothing to go by yet
		}
	})
	if err == nil && outdated {
		err = wait(ctx, h.pace.usual()-time.Since(started))
	}
	if err != nil {
		return Verdict{}, err
	}
	return Verdict{Match: match, Outdated: match && outdated}, nil
}

// VerifyNothing costs what Verify costs: for a user who does not exist or has no password, so that the time of the
// answer does not tell. It returns *OverloadedError or the context's error.
func (h *Hasher) VerifyNothing(ctx context.Context, class Class, password secret.Text) error {
	password, _ = limited(password)
	_, err := h.compute(ctx, class, "verify", func() { h.spend(password) })
	return err
}

// Lanes returns how many hashes are computed at once.
func (h *Hasher) Lanes() int { return h.lanes.total }

// Stats returns how many lanes are busy and how many requests wait for one.
func (h *Hasher) Stats() (busy, waiting int) { return h.lanes.load() }

// compute runs work in a lane and returns when that began. The lane belongs to the work, not to the caller, who
// may leave before it ends; it is free again when the work's memory is accounted for.
func (h *Hasher) compute(ctx context.Context, class Class, operation string, work func()) (begun time.Time, err error) {
	asked := time.Now()
	if err := h.lanes.acquire(ctx, class); err != nil {
		return time.Time{}, h.overloaded(err)
	}
	started := time.Now() // not the result: leaving early writes that while the work still reads this
	done := make(chan struct{})
	go func() {
		defer h.lanes.release()
		work()
		h.observe(operation, started.Sub(asked), time.Since(started))
		close(done)
		h.garbage.collect()
	}()
	select {
	case <-done:
		return started, nil
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("%s password: %w", operation, ctx.Err())
	}
}

// overloaded estimates when those who wait now will have been served.
func (h *Hasher) overloaded(err error) error {
	if !errors.Is(err, errFull) {
		return fmt.Errorf("wait for a hashing lane: %w", err)
	}
	_, waiting := h.lanes.load()
	estimate := h.pace.usual() * time.Duration(waiting) / time.Duration(h.lanes.total)
	return &OverloadedError{RetryAfter: min(max(estimate.Round(time.Second), time.Second), time.Minute)}
}

// derive computes a tag, and takes note of its memory and of what a current one costs.
func (h *Hasher) derive(kind variant, password, salt []byte, params Params, size int) []byte {
	started := time.Now()
	tag := h.kdf(kind, password, salt, params, size)
	h.garbage.add(params.MemoryKiB)
	if kind == argon2id && params == h.params {
		h.pace.record(time.Since(started))
	}
	return tag
}

// spend computes what the verification of a current hash computes.
func (h *Hasher) spend(password secret.Text) {
	phc{argon2id, h.params, make([]byte, saltSize), make([]byte, tagSize)}.matches(h.derive, password)
}

// limited replaces a password that is too long to be anybody's by nothing, and tells whether it was not.
func limited(password secret.Text) (kept secret.Text, fits bool) {
	if len(password.Reveal()) > maxInput {
		return secret.Text{}, false
	}
	return password, true
}
