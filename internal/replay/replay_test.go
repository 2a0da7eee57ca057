package replay_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/secret"
)

// memory is a store of one process.
type memory struct {
	entries map[string]replay.Entry
	failure error
}

func (m *memory) ReserveKey(_ context.Context, e replay.Entry, now time.Time) (replay.Entry, bool, error) {
	found, there := m.entries[e.Lookup]
	if m.failure != nil || there && now.Before(found.ExpiresAt) && (found.Sealed != nil || now.Before(found.LeaseUntil)) {
		return found, false, m.failure
	}
	m.entries[e.Lookup] = e
	return replay.Entry{}, true, nil
}

func (m *memory) ReleaseKey(_ context.Context, lookup, owner string) error {
	if found := m.entries[lookup]; found.Owner == owner && found.Sealed == nil {
		delete(m.entries, lookup)
	}
	return m.failure
}

func (m *memory) Key(_ context.Context, lookup string, now time.Time) (replay.Entry, bool, error) {
	found, there := m.entries[lookup]
	return found, there && now.Before(found.ExpiresAt), m.failure
}

// bench is a Keeper over memory.
type bench struct {
	*replay.Keeper
	t     *testing.T
	store *memory
	now   time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	sealer, err := secret.NewSealer(secret.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, store: &memory{entries: map[string]replay.Entry{}}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	if b.Keeper, err = replay.New(b.store, sealer, func() time.Time { return b.now }); err != nil {
		t.Fatal(err)
	}
	return b
}

func asked() replay.Request {
	return replay.Request{
		Caller: "user:u1", Key: "0123456789abcdef", Method: "PATCH", Path: "/users/me/credentials", Fields: []string{`"7"`, ""},
		Body: []byte(`{"new_password":"canary-new","current_password":"canary-old"}`),
	}
}

// answered carries a request out.
func (b *bench) answered(r replay.Request, answer replay.Answer) {
	b.t.Helper()
	attempt, found, err := b.Begin(b.t.Context(), r)
	if err != nil || found != nil {
		b.t.Fatalf("%+v, %v", found, err)
	}
	sealed, err := attempt.Seal(answer)
	if err != nil {
		b.t.Fatal(err)
	}
	slot := attempt.Slot()
	entry := b.store.entries[slot.Lookup]
	entry.Sealed, entry.Generation = sealed, 2
	b.store.entries[slot.Lookup] = entry
}

var given = replay.Answer{Status: 200, Header: map[string]string{"ETag": `"8"`}, Body: `{"access_token":"canary-token"}`}

// IDM-02, IDM-03, IDM-06: what counts as the same request by the same caller, and what does not.
func TestBegin(t *testing.T) {
	b := newBench(t)
	b.answered(asked(), given)
	same := map[string]func(r *replay.Request){
		"the very same": func(*replay.Request) {},
		"members in other order": func(r *replay.Request) {
			r.Body = []byte(`{ "current_password" : "canary-old", "new_password":"canary-new" }` + "\n")
		},
		"escaped otherwise": func(r *replay.Request) {
			r.Body = []byte(`{"new_password":"canary-n\u0065w","current_password":"canary-old"}`)
		},
	}
	for name, alter := range same {
		r := asked()
		alter(&r)
		_, found, err := b.Begin(t.Context(), r)
		if err != nil || found == nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(given, *found); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, alter := range map[string]func(r *replay.Request){
		"another body": func(r *replay.Request) { r.Body = []byte(`{"new_password":"canary-new","current_password":"other"}`) },
		"a member more": func(r *replay.Request) {
			r.Body = []byte(`{"new_password":"canary-new","current_password":"canary-old","x":1}`)
		},
		"no body":              func(r *replay.Request) { r.Body = nil },
		"something after it":   func(r *replay.Request) { r.Body = append(r.Body, " {}"...) },
		"another method":       func(r *replay.Request) { r.Method = "POST" },
		"another path":         func(r *replay.Request) { r.Path = "/admin/users/u2/credentials" },
		"another precondition": func(r *replay.Request) { r.Fields = []string{`"8"`, ""} },
		"shifted fields":       func(r *replay.Request) { r.Fields = []string{"", `"7"`} },
	} {
		r := asked()
		alter(&r)
		if _, _, err := b.Begin(t.Context(), r); !errors.Is(err, replay.ErrReused) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := b.After(t.Context(), r, 2); !errors.Is(err, replay.ErrReused) {
			t.Errorf("%s, after the change: %v", name, err)
		}
	}
	for name, alter := range map[string]func(r *replay.Request){
		"another caller": func(r *replay.Request) { r.Caller = "user:u2" }, "another key": func(r *replay.Request) { r.Key = "0123456789abcdeg" },
		"a caller and a key that read alike": func(r *replay.Request) { r.Caller, r.Key = "user:u10", "123456789abcdef" },
	} {
		r := asked()
		alter(&r)
		if found, err := b.After(t.Context(), r, 2); found != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if attempt, found, err := b.Begin(t.Context(), r); attempt == nil || found != nil || err != nil {
			t.Errorf("%s must be free: %+v, %v", name, found, err)
		}
	}
}

// IDM-04: one runs at a time; a refused one gives the key back, one that is never heard of loses it.
func TestBegin_whileItRuns(t *testing.T) {
	b := newBench(t)
	first, _, err := b.Begin(t.Context(), asked())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Begin(t.Context(), asked()); !errors.Is(err, replay.ErrInProgress) {
		t.Errorf("got %v", err)
	}
	other := asked()
	other.Body = []byte(`{}`)
	if _, _, err := b.Begin(t.Context(), other); !errors.Is(err, replay.ErrReused) {
		t.Errorf("got %v", err)
	}
	if found, err := b.After(t.Context(), asked(), 2); found != nil || err != nil {
		t.Errorf("an answer that is not there yet: %+v, %v", found, err)
	}
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost, _, err := b.Begin(t.Context(), other)
	if err != nil {
		t.Fatalf("a key that was given back: %v", err)
	}
	b.now = b.now.Add(time.Minute)
	next, _, err := b.Begin(t.Context(), asked())
	if err != nil || next.Slot().Owner == lost.Slot().Owner {
		t.Errorf("%+v, %v", next, err)
	}
}

// api.md: the answer to the very change that ended the token, and to no other.
func TestAfter(t *testing.T) {
	b := newBench(t)
	b.answered(asked(), given)
	for generation, want := range map[int64]bool{1: false, 2: true, 3: false, 0: false} {
		found, err := b.After(t.Context(), asked(), generation)
		if err != nil || (found != nil) != want {
			t.Errorf("generation %d: %+v, %v", generation, found, err)
		}
	}
	b.now = b.now.Add(replay.Life) // IDM-08
	if found, err := b.After(t.Context(), asked(), 2); found != nil || err != nil {
		t.Errorf("%+v, %v", found, err)
	}
}

// IDM-07: what is kept tells nothing of the request, the key or the answer.
func TestKept(t *testing.T) {
	b := newBench(t)
	b.answered(asked(), given)
	for _, e := range b.store.entries {
		for _, text := range []string{e.Lookup, e.Fingerprint, e.Owner, string(e.Sealed)} {
			for _, mark := range []string{"canary", "0123456789abcdef", "user:u1"} {
				if strings.Contains(text, mark) {
					t.Errorf("%q holds %q", text, mark)
				}
			}
		}
	}
	b.store.failure = errors.New("away")
	if _, _, err := b.Begin(t.Context(), asked()); !errors.Is(err, b.store.failure) {
		t.Errorf("got %v", err)
	}
	if _, err := b.After(t.Context(), asked(), 2); !errors.Is(err, b.store.failure) {
		t.Errorf("got %v", err)
	}
}

// An answer that was put into another's place, or altered, is a fault and no answer.
func TestTampered(t *testing.T) {
	b := newBench(t)
	b.answered(asked(), given)
	for lookup, e := range b.store.entries {
		e.Sealed[len(e.Sealed)-1] ^= 1
		b.store.entries[lookup] = e
	}
	if _, found, err := b.Begin(t.Context(), asked()); found != nil || !errors.Is(err, secret.ErrSealed) {
		t.Errorf("%+v, %v", found, err)
	}
}
