package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
)

func allUsers() credential.Filter { return credential.Filter{} }

func opening(id string) session.Opening {
	return session.Opening{
		Session: session.Session{
			ID: id, UserID: "alex-1", AccountID: "demo", Generation: 1, SignedInAt: Now(), LastUsedAt: Now(), ExpiresAt: Now().Add(time.Hour),
			RefreshCount: 1, RefreshSalt: "salt", IP: "192.0.2.1", Network: "192.0.2.0/24", UserAgent: "test",
		},
		Guard: change.Guard{UserID: "alex-1", Revision: 1}, Device: "device-1",
		Audit: []audit.Event{event(audit.SignedIn, alex())},
	}
}

func testSessions(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	first := opening("session-1")
	first.Rehash = &session.Rehash{Old: "hash-1", New: "hash-2"}
	must(t, s.OpenSession(ctx, first))
	got, member, err := s.Session(ctx, "session-1")
	must(t, err)
	if diff := cmp.Diff(first.Session, got); diff != "" || member.User.Password.Hash != "hash-2" || member.User.Revision != 1 {
		t.Fatalf("%s %+v", diff, member.User)
	}
	known, err := s.KnowsNetwork(ctx, "alex-1", "192.0.2.0/24", Now())
	if must(t, err); !known {
		t.Error("the network is not known")
	}
	stale := opening("session-2")
	stale.Guard.Revision = 9
	wantError(t, s.OpenSession(ctx, stale), change.ErrConflict)

	next := first.Session
	next.RefreshCount = 2
	must(t, s.RotateRefresh(ctx, next, 1, Now()))
	wantError(t, s.RotateRefresh(ctx, next, 1, Now()), change.ErrConflict)

	expired := opening("session-3")
	expired.Session.ExpiresAt = Now().Add(-time.Second)
	must(t, s.OpenSession(ctx, expired))
	result, err := s.Commit(ctx, change.Change{At: Now(), End: &change.EndSessions{UserID: "alex-1", Why: "password_reset"}})
	if must(t, err); result.SessionsEnded != 1 { // the one that had run out is not counted
		t.Errorf("%d ended", result.SessionsEnded)
	}
	wantError(t, s.RotateRefresh(ctx, next, 2, Now()), change.ErrConflict)
	_, err = s.Commit(ctx, change.Change{At: Now(), Renew: &change.Renew{SessionID: "session-1", ExpiresAt: Now()}})
	wantError(t, err, change.ErrConflict) // a session that was ended stays ended
}

func testSweep(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	must(t, s.OpenSession(ctx, opening("session-1")))
	_, err := s.AllowRate(ctx, "ip:1", 10, time.Minute, Now().Add(-time.Hour)) // whole again by now
	must(t, err)
	for _, sweep := range []struct {
		since time.Time
		want  int64
	}{
		{Now().Add(-time.Hour), 1},    // the rate alone: the session, its network and its device are in use
		{Now().Add(2 * time.Hour), 3}, // with the device, none has been touched since then
		{Now().Add(2 * time.Hour), 0},
	} {
		swept, err := s.Sweep(ctx, sweep.since)
		if must(t, err); swept != sweep.want {
			t.Errorf("%d swept, want %d", swept, sweep.want)
		}
	}
	_, _, err = s.Session(ctx, "session-1")
	wantError(t, err, session.ErrNotFound)
}

func testSigningKeys(t *testing.T, s *store.Store) {
	ctx := context.Background()
	key := func(i int) store.SigningKey {
		return store.SigningKey{ID: fmt.Sprintf("key-%d", i), Private: secret.New("private half"), ActiveFrom: Now().Add(time.Duration(i) * time.Second)}
	}
	oneWins(t, parallel(8, func(i int) error { return s.AddSigningKey(ctx, key(i), "", time.Time{}) }), store.ErrNewerKey)
	keys, err := s.SigningKeys(ctx)
	if must(t, err); len(keys) != 1 || keys[0].Private.Reveal() != "private half" {
		t.Fatalf("got %+v", keys)
	}
	retire := Now().Add(time.Hour)
	oneWins(t, parallel(8, func(i int) error { return s.AddSigningKey(ctx, key(i+10), keys[0].ID, retire) }), store.ErrNewerKey)
	if keys, err = s.SigningKeys(ctx); err != nil || len(keys) != 2 || !keys[0].RetireAt.Equal(retire) {
		t.Fatalf("got %+v, %v", keys, err)
	}
}

func testSealing(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	for range 30 {
		_, err := s.Commit(ctx, change.Change{At: Now(), Audit: []audit.Event{event(audit.ChangeRefused, alex())}})
		must(t, err)
	}
	for _, err := range parallel(4, func(int) error { _, err := s.Seal(ctx); return err }) {
		must(t, err)
	}
	integrity, err := s.Integrity(ctx, "demo")
	if must(t, err); !integrity.Intact || integrity.Events != 31 || len(integrity.Head) != 64 || strings.Trim(integrity.Head, "0123456789abcdef") != "" {
		t.Fatalf("got %+v", integrity)
	}
}

func testMigrateAgain(t *testing.T, s *store.Store) {
	ctx := context.Background()
	steps, err := s.Migrate(ctx)
	if must(t, err); len(steps) != 0 {
		t.Errorf("applied again: %v", steps)
	}
	must(t, s.Migrated(ctx))
}
