package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/outbox"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/store"
)

func message(id string) outbox.Message {
	return outbox.Message{
		ID: id, Topic: outbox.Mail, AccountID: "demo", UserID: "alex-1", Kind: "password_changed", Body: secret.New("body of " + id),
		At: Now(), GiveUpAt: Now().Add(48 * time.Hour),
	}
}

func enqueue(t *testing.T, s *store.Store, messages ...outbox.Message) {
	t.Helper()
	_, err := s.Commit(context.Background(), change.Change{At: Now(), Outbox: messages})
	must(t, err)
}

func claim(t *testing.T, s *store.Store, now time.Time) []outbox.Claimed {
	t.Helper()
	claimed, err := s.ClaimMessages(context.Background(), outbox.Mail, now, now.Add(time.Minute), 10)
	must(t, err)
	return claimed
}

func wantWaiting(t *testing.T, s *store.Store, want int64) {
	t.Helper()
	number, oldest, err := s.Waiting(context.Background(), outbox.Mail)
	must(t, err)
	if number != want || (want == 0) != oldest.IsZero() {
		t.Fatalf("%d messages wait since %v, want %d", number, oldest, want)
	}
}

// testOutbox: a message is kept sealed and once, leased to one claimer at a time, and settled only by who holds the lease.
func testOutbox(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	enqueue(t, s, message("m-1"), message("m-1"))
	enqueue(t, s, message("m-1"))
	wantWaiting(t, s, 1)
	first := claim(t, s, Now())
	if len(first) != 1 || first[0].Body.Reveal() != "body of m-1" || first[0].Attempts != 1 || !first[0].GiveUpAt.Equal(message("m-1").GiveUpAt) {
		t.Fatalf("got %+v", first)
	}
	if again := claim(t, s, Now().Add(59*time.Second)); len(again) != 0 {
		t.Fatalf("leased twice: %+v", again)
	}

	second := claim(t, s, Now().Add(time.Minute)) // the first claimer took too long
	if len(second) != 1 || second[0].Attempts != 2 || second[0].Lease == first[0].Lease {
		t.Fatalf("got %+v", second)
	}
	must(t, s.RemoveMessage(ctx, first[0]))
	must(t, s.PostponeMessage(ctx, first[0], Now()))
	_, err := s.Commit(ctx, change.Change{At: Now(), GiveUp: &first[0], Audit: []audit.Event{event(audit.NoticeGivenUp, alex())}})
	wantError(t, err, change.ErrConflict)
	wantWaiting(t, s, 1)
	if taken := claim(t, s, Now().Add(time.Minute)); len(taken) != 0 {
		t.Fatalf("the lost lease took the message from its holder: %+v", taken)
	}

	must(t, s.PostponeMessage(ctx, second[0], Now().Add(time.Hour)))
	if early := claim(t, s, Now().Add(time.Hour-time.Second)); len(early) != 0 {
		t.Fatalf("claimed before it is due: %+v", early)
	}
	third := claim(t, s, Now().Add(time.Hour))
	_, err = s.Commit(ctx, change.Change{At: Now(), GiveUp: &third[0], Audit: []audit.Event{event(audit.NoticeGivenUp, alex())}})
	must(t, err)
	wantWaiting(t, s, 0)
}

// testParallelLeases: any number of replicas that claim at once get different messages.
func testParallelLeases(t *testing.T, s *store.Store) {
	const messages, claimers = 60, 8
	for i := range messages {
		enqueue(t, s, message(fmt.Sprintf("m-%02d", i)))
	}
	var got sync.Map
	var running sync.WaitGroup
	for range claimers {
		running.Go(func() {
			for {
				claimed, err := s.ClaimMessages(context.Background(), outbox.Mail, Now(), Now().Add(time.Minute), 3)
				if err != nil || len(claimed) == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				for _, c := range claimed {
					if _, twice := got.LoadOrStore(c.ID, true); twice {
						t.Errorf("%s was claimed twice", c.ID)
					}
				}
			}
		})
	}
	running.Wait()
	seen := 0
	got.Range(func(any, any) bool { seen++; return true })
	if seen != messages {
		t.Errorf("%d of %d were claimed", seen, messages)
	}
}

// testRelays: relays at once on one database deliver every message once, give up once what is refused, and try again what
// failed.
func testRelays(t *testing.T, s *store.Store) {
	const messages = 40
	for i := range messages {
		enqueue(t, s, message(fmt.Sprintf("m-%02d", i)))
	}
	enqueue(t, s, message("refused"), message("later"))
	var mu sync.Mutex
	var delivered, given []string
	now := Now()
	relay := func() *outbox.Relay {
		return outbox.NewRelay(outbox.RelayConfig{
			Topic: outbox.Mail, Store: s, Log: slog.New(slog.DiscardHandler), Observe: func(outbox.Topic, string, outbox.Outcome) {},
			Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
			Deliver: func(_ context.Context, m outbox.Message) error {
				mu.Lock()
				defer mu.Unlock()
				if m.ID == "refused" {
					return outbox.ErrUndeliverable
				}
				if m.ID == "later" && now.Equal(Now()) {
					return errors.New("not now")
				}
				delivered = append(delivered, m.ID)
				return nil
			},
			GiveUp: func(ctx context.Context, c outbox.Claimed, _ error) error {
				mu.Lock()
				given = append(given, c.ID)
				mu.Unlock()
				return s.RemoveMessage(ctx, c)
			},
		})
	}
	flush := func() {
		var running sync.WaitGroup
		for range 3 {
			running.Go(func() {
				if err := relay().Flush(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
	flush()
	wantWaiting(t, s, 1)
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	flush()
	wantWaiting(t, s, 0)
	slices.Sort(delivered)
	if len(delivered) != messages+1 || len(slices.Compact(slices.Clone(delivered))) != messages+1 || !slices.Equal(given, []string{"refused"}) {
		t.Errorf("delivered %v, given up %v", delivered, given)
	}
}
