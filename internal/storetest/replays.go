package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/store"
)

func reservation(owner string, at time.Time) replay.Entry {
	return replay.Entry{Lookup: "lookup-1", Fingerprint: "print-of-" + owner, Owner: owner, LeaseUntil: at.Add(time.Minute), ExpiresAt: at.Add(replay.Life)}
}

// raceForKey lets one of 20 parallel requests reserve a key.
func raceForKey(t *testing.T, s *store.Store) {
	t.Helper()
	var won atomic.Int32
	for _, err := range parallel(20, func(i int) error {
		_, reserved, err := s.ReserveKey(context.Background(), reservation(fmt.Sprintf("owner-%d", i), Now()), Now())
		if reserved {
			won.Add(1)
		}
		return err
	}) {
		must(t, err)
	}
	if won.Load() != 1 {
		t.Fatalf("%d requests hold one key", won.Load())
	}
}

func testKeys(t *testing.T, s *store.Store) {
	ctx := context.Background()
	at := func(after time.Duration) time.Time { return Now().Add(after) }
	reserve := func(owner string, after time.Duration) (replay.Entry, bool) {
		t.Helper()
		found, reserved, err := s.ReserveKey(ctx, reservation(owner, at(after)), at(after))
		must(t, err)
		return found, reserved
	}
	raceForKey(t, s)
	holder, there, err := s.Key(ctx, "lookup-1", Now())
	if must(t, err); !there || holder.Sealed != nil {
		t.Fatalf("%+v", holder)
	}
	must(t, s.ReleaseKey(ctx, "lookup-1", "somebody else"))
	if found, reserved := reserve("later", time.Minute-1); reserved || !cmp.Equal(found, holder) {
		t.Fatalf("the key of one that runs: %+v", found)
	}
	must(t, s.ReleaseKey(ctx, "lookup-1", holder.Owner))
	if _, there, err := s.Key(ctx, "lookup-1", Now()); err != nil || there {
		t.Fatalf("a key that was given back: %v", err)
	}

	reserve("lost", 0)
	if _, reserved := reserve("next", time.Minute); !reserved {
		t.Fatal("the lease of a request that was never heard of again is over")
	}
	keep := func(owner string, after time.Duration) error {
		_, err := s.Commit(ctx, change.Change{At: at(after), Replay: &change.Replay{
			Slot: change.Slot{Lookup: "lookup-1", Owner: owner}, Seal: func(change.Result) ([]byte, error) { return []byte("sealed"), nil }, Generation: 3,
		}})
		return err
	}
	wantError(t, keep("lost", time.Minute), change.ErrConflict) // somebody else has taken its place
	must(t, keep("next", time.Minute))
	wantError(t, keep("next", time.Minute), change.ErrConflict)
	must(t, s.ReleaseKey(ctx, "lookup-1", "next"))
	found, reserved := reserve("again", time.Minute+replay.Life-1)
	if want := (replay.Entry{
		Lookup: "lookup-1", Fingerprint: "print-of-next", Owner: "next", LeaseUntil: at(2 * time.Minute), ExpiresAt: at(time.Minute + replay.Life), Generation: 3, Sealed: []byte("sealed"),
	}); reserved || !cmp.Equal(want, found) {
		t.Errorf("an answer that is kept: %s", cmp.Diff(want, found))
	}
	if _, there, err := s.Key(ctx, "lookup-1", at(time.Minute+replay.Life)); err != nil || there { // IDM-08
		t.Errorf("an answer whose time is over: %v", err)
	}
	if _, reserved := reserve("much later", time.Minute+replay.Life); !reserved {
		t.Error("a key whose time is over is free")
	}
}

// testKeptAnswers: what Seal is told is what the save found out, and nothing is saved without the answer.
func testKeptAnswers(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	must(t, s.OpenSession(ctx, opening("session-1")))
	_, _, err := s.ReserveKey(ctx, reservation("owner", Now()), Now())
	must(t, err)
	wanted := renameTo(load(t, s, "alex-1"), "reed", Now())
	wanted.End = &change.EndSessions{UserID: "alex-1", Why: "password_reset"}
	wanted.Replay = &change.Replay{Slot: change.Slot{Lookup: "lookup-1", Owner: "stranger"}, Seal: func(change.Result) ([]byte, error) { return []byte("x"), nil }}
	before := load(t, s, "alex-1")
	_, err = s.Commit(ctx, wanted)
	wantError(t, err, change.ErrConflict)
	broken := errors.New("cannot be rendered")
	wanted.Replay = &change.Replay{Slot: change.Slot{Lookup: "lookup-1", Owner: "owner"}, Seal: func(change.Result) ([]byte, error) { return nil, broken }}
	_, err = s.Commit(ctx, wanted)
	wantError(t, err, broken)
	if diff := cmp.Diff(before, load(t, s, "alex-1")); diff != "" {
		t.Fatal(diff)
	}
	_, err = s.MemberByUsername(ctx, identifier.Key("reed"))
	if err == nil {
		t.Fatal("the name was taken without the answer")
	}

	wanted.Replay.Seal = func(found change.Result) ([]byte, error) {
		return fmt.Appendf(nil, "%d %d", found.Revision, found.SessionsEnded), nil
	}
	_, err = s.Commit(ctx, wanted)
	must(t, err)
	kept, there, err := s.Key(ctx, "lookup-1", Now())
	if must(t, err); !there || string(kept.Sealed) != "2 1" {
		t.Errorf("%+v", kept)
	}
	events, err := s.AuditEvents(ctx, "demo", time.Time{}, 100)
	must(t, err)
	changes := 0
	for _, e := range events {
		if e.Action == audit.CredentialsChanged {
			changes++
		}
	}
	if changes != 1 {
		t.Errorf("%d events of one change", changes)
	}
}

// testSweptKeys: what is over goes, what may still be asked for stays.
func testSweptKeys(t *testing.T, s *store.Store) {
	ctx := context.Background()
	over, live := reservation("over", Now()), reservation("live", Now())
	over.ExpiresAt, live.Lookup, live.ExpiresAt = Now(), "lookup-2", Now().Add(time.Second)
	for _, e := range []replay.Entry{over, live} {
		_, _, err := s.ReserveKey(ctx, e, Now().Add(-time.Hour))
		must(t, err)
	}
	swept, err := s.Sweep(ctx, Now())
	if must(t, err); swept != 1 {
		t.Errorf("%d swept", swept)
	}
	for lookup, want := range map[string]bool{"lookup-1": false, "lookup-2": true} {
		_, there, err := s.Key(ctx, lookup, Now().Add(-time.Hour))
		if must(t, err); there != want {
			t.Errorf("%s: %v", lookup, there)
		}
	}
}
