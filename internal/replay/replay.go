// Package replay gives a repeated request the answer that the first one got: an app whose network lost it asks again with the
// same Idempotency-Key.
//
// It depends on packages change and secret, and names the store it needs. What it keeps opens nothing: the look-up key and the
// fingerprint of a request are MACs, and the answer is sealed with a key made of the Idempotency-Key itself, which only the
// caller has. It knows no HTTP: an answer is a status, a few header fields and a body.
package replay

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/secret"
)

// What keeps a request with an Idempotency-Key from being carried out.
var (
	ErrInProgress = errors.New("replay: a request with this key is being carried out")
	ErrReused     = errors.New("replay: the key was used for another request")
)

const (
	// Life is how long an answer is kept (api.md; draft-ietf-httpapi-idempotency-key-header leaves it to the service).
	Life = 24 * time.Hour
	// lease is how long a request may run unheard of before another may take its place: longer than any is allowed to.
	lease = time.Minute
)

// Request is what makes two requests the same.
type Request struct {
	Caller string // who asks; the keys of others are not even looked at (IDM-06)
	Key    string // the Idempotency-Key
	Method string
	Path   string   // with the query
	Fields []string // header fields that say what is asked for
	Body   []byte
}

// Answer is what a request was answered.
type Answer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header"`
	Body   string            `json:"body"` // UTF-8
}

// Entry is what is kept of a request.
type Entry struct {
	Lookup      string
	Fingerprint string
	Owner       string // of the request that runs, or ran
	LeaseUntil  time.Time
	ExpiresAt   time.Time
	Generation  int64  // of the caller, if the request let it grow
	Sealed      []byte // the answer; nil while the request runs
}

// Store keeps entries. One whose time is over is none.
type Store interface {
	// ReserveKey writes the entry, unless there is one for its Lookup that has an answer or a lease that is not over: then it
	// returns that one, and false.
	ReserveKey(ctx context.Context, e Entry, now time.Time) (Entry, bool, error)
	// ReleaseKey forgets the reservation of an owner; an answer stays.
	ReleaseKey(ctx context.Context, lookup, owner string) error
	// Key finds an entry; false when there is none.
	Key(ctx context.Context, lookup string, now time.Time) (Entry, bool, error)
}

// Keeper keeps answers.
type Keeper struct {
	store   Store
	sealer  *secret.Sealer
	lookups []byte
	now     func() time.Time
}

// New returns a Keeper that seals with sealer's master key.
func New(store Store, sealer *secret.Sealer, now func() time.Time) (*Keeper, error) {
	lookups, err := sealer.Derive("look-up of idempotency keys")
	if err != nil {
		return nil, err
	}
	return &Keeper{store: store, sealer: sealer, lookups: lookups, now: now}, nil
}

// Attempt is a request that holds its key while it is carried out.
type Attempt struct {
	keeper *Keeper
	key    string
	slot   change.Slot
	sealed bool
}

// Begin reserves the key for the request, or returns the answer that the same request got within Life. It returns
// ErrInProgress while the same request runs, and ErrReused when the key was used for another.
func (k *Keeper) Begin(ctx context.Context, r Request) (*Attempt, *Answer, error) {
	fingerprint, err := k.fingerprint(r)
	if err != nil {
		return nil, nil, err
	}
	now := k.now()
	wanted := Entry{Lookup: k.lookup(r), Fingerprint: fingerprint, Owner: newOwner(), LeaseUntil: now.Add(lease), ExpiresAt: now.Add(Life)}
	found, reserved, err := k.store.ReserveKey(ctx, wanted, now)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("replay: reserve a key: %w", err)
	case reserved:
		return &Attempt{keeper: k, key: r.Key, slot: change.Slot{Lookup: wanted.Lookup, Owner: wanted.Owner}}, nil, nil
	case !hmac.Equal([]byte(found.Fingerprint), []byte(fingerprint)):
		return nil, nil, ErrReused
	case found.Sealed == nil:
		return nil, nil, ErrInProgress
	}
	answer, err := k.open(r.Key, found)
	return nil, answer, err
}

// After returns the answer to the request if that let the caller's generation grow to the one given, so that the caller has
// no newer token than one that is good for nothing since. It returns nil when there is none, and ErrReused when the key was
// used for another request of that kind.
func (k *Keeper) After(ctx context.Context, r Request, generation int64) (*Answer, error) {
	found, there, err := k.store.Key(ctx, k.lookup(r), k.now())
	if err != nil {
		return nil, fmt.Errorf("replay: find a key: %w", err)
	}
	if !there || found.Sealed == nil || found.Generation != generation {
		return nil, nil
	}
	fingerprint, err := k.fingerprint(r)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal([]byte(found.Fingerprint), []byte(fingerprint)) {
		return nil, ErrReused
	}
	return k.open(r.Key, found)
}

// Slot is where the answer belongs.
func (a *Attempt) Slot() change.Slot { return a.slot }

// Seal makes of an answer what can be kept.
func (a *Attempt) Seal(answer Answer) ([]byte, error) {
	encoded, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("replay: encode an answer: %w", err)
	}
	a.sealed = true
	return a.keeper.sealer.Seal(answersOf(a.key), a.slot.Lookup, secret.New(string(encoded)))
}

// Sealed tells whether an answer was made to be kept.
func (a *Attempt) Sealed() bool { return a.sealed }

// Release gives the key back: the request was refused, and may be tried again. It does nothing to an answer that is kept.
func (a *Attempt) Release(ctx context.Context) error {
	if err := a.keeper.store.ReleaseKey(context.WithoutCancel(ctx), a.slot.Lookup, a.slot.Owner); err != nil {
		return fmt.Errorf("replay: release a key: %w", err)
	}
	return nil
}

func (k *Keeper) open(key string, e Entry) (*Answer, error) {
	text, err := k.sealer.Open(answersOf(key), e.Lookup, e.Sealed)
	if err != nil {
		return nil, fmt.Errorf("replay: open an answer: %w", err)
	}
	answer := &Answer{}
	if err := json.Unmarshal([]byte(text.Reveal()), answer); err != nil {
		return nil, fmt.Errorf("replay: decode an answer: %w", err)
	}
	return answer, nil
}

// answersOf is the purpose that answers are sealed for: the Idempotency-Key is part of what the sealing key is derived from.
func answersOf(key string) string { return "answers kept for " + key }

func (k *Keeper) lookup(r Request) string { return mac(k.lookups, r.Caller, r.Key) }

// fingerprint tells requests apart. Its key too is made of the Idempotency-Key: with the sealing key alone, a body that holds a
// password cannot be guessed at.
func (k *Keeper) fingerprint(r Request) (string, error) {
	key, err := k.sealer.Derive("fingerprint of requests with " + r.Key)
	if err != nil {
		return "", err
	}
	return mac(key, append([]string{r.Method, r.Path, canonical(r.Body)}, r.Fields...)...), nil
}

// canonical is a JSON text with its members in one order and without white space: not every app writes it alike twice. What
// is no JSON stays as it is.
func canonical(body []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || decoder.More() {
		return string(body)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return string(body)
	}
	return string(encoded)
}

// mac authenticates a list of texts; where one ends is part of it.
func mac(key []byte, texts ...string) string {
	hash := hmac.New(sha256.New, key)
	for _, text := range texts {
		hash.Write([]byte(strconv.Itoa(len(text)) + ":" + text))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// newOwner returns 128 random bits in hex.
func newOwner() string {
	owner := make([]byte, 16)
	_, _ = rand.Read(owner) // crypto/rand.Read never fails (Go 1.24)
	return hex.EncodeToString(owner)
}
