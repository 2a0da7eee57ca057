package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// stream returns an enabled stream of a client of the demo account, which it registers.
func stream(t *testing.T, s *store.Store, of string, method signal.Method) signal.Stream {
	t.Helper()
	ctx := context.Background()
	c := client.Client{ID: of, Name: of, AccountID: "demo", Scopes: []string{"ssf.manage"}, CreatedAt: Now()}
	must(t, s.CreateClient(ctx, c, client.Secret{Digest: "digest-of-" + of, CreatedAt: Now()}, event(audit.ServiceCreated, user.User{AccountID: "demo"})))
	made := signal.Stream{ID: uuid.NewString(), ClientID: of, Audience: of, Method: method, Status: signal.Enabled, CreatedAt: Now(), Revision: 1}
	if method == signal.Push {
		made.Endpoint = "https://router.example.com/events"
	}
	header := secret.New("Bearer of-" + of)
	must(t, s.CreateStream(ctx, signal.Saving{Stream: made, Header: &header, Event: event(audit.StreamCreated, user.User{AccountID: "demo"})}))
	return made
}

// renameTimes renames a user n times, to name.1 and so on.
func renameTimes(t *testing.T, s *store.Store, id user.ID, n int) {
	t.Helper()
	for i := range n {
		u := load(t, s, id)
		_, err := s.Commit(context.Background(), renameTo(u, fmt.Sprintf("%s.%d", strings.Split(u.Username, ".")[0], i+1), Now()))
		must(t, err)
	}
}

func handout(t *testing.T, s *store.Store, id string) []signal.Delivery {
	t.Helper()
	handed, _, err := s.Handout(context.Background(), id, 100)
	must(t, err)
	return handed
}

// testQueue: the change and what others hear of it exist together or not at all, also when writers race and lose.
func testQueue(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"))
	polled, pushed := stream(t, s, "poller", signal.Poll), stream(t, s, "pusher", signal.Push)
	failing := renameTo(alex(), "reed", Now())
	events, err := s.AuditEvents(ctx, "demo", time.Time{}, 1)
	must(t, err)
	failing.Audit[0].ID = events[0].ID // what a change writes last fails
	if _, err := s.Commit(ctx, failing); err == nil {
		t.Fatal("the change was saved")
	}
	if left := handout(t, s, polled.ID); len(left) != 0 {
		t.Fatalf("events of a change that was not saved: %+v", left)
	}
	_, err = s.Commit(ctx, renameTo(alex(), "BO", Now()))
	wantError(t, err, change.ErrIdentifierTaken)

	var mu sync.Mutex
	var heard []change.Heard
	errs := parallel(8, func(i int) error {
		result, err := s.Commit(ctx, renameTo(alex(), fmt.Sprintf("reed.%d", i), Now()))
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, result.Heard...)
		return err
	})
	oneWins(t, errs, change.ErrConflict, change.ErrIdentifierTaken)
	slices.SortFunc(heard, func(a, b change.Heard) int { return strings.Compare(fmt.Sprint(a.Push), fmt.Sprint(b.Push)) })
	if diff := cmp.Diff([]change.Heard{{StreamID: polled.ID}, {StreamID: pushed.ID, Push: true}}, heard); diff != "" {
		t.Errorf("heard: %s", diff)
	}
	for _, id := range []string{polled.ID, pushed.ID} {
		left := handout(t, s, id)
		if len(left) != 1 || left[0].Type != signal.UsernameChanged || left[0].Subject != "alex-1" || left[0].AccountID != "demo" {
			t.Errorf("got %+v", left)
		}
	}
}

func testStreams(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	made := stream(t, s, "router", signal.Push)
	told := event(audit.StreamChanged, user.User{AccountID: "demo"})
	second := made
	second.ID = uuid.NewString()
	wantError(t, s.CreateStream(ctx, signal.Saving{Stream: second, Event: told}), signal.ErrExists)
	for _, find := range []func() (signal.Stream, error){
		func() (signal.Stream, error) { return s.Stream(ctx, made.ID) },
		func() (signal.Stream, error) { return s.StreamOf(ctx, "router") },
	} {
		found, err := find()
		must(t, err)
		if diff := cmp.Diff(made, found); diff != "" {
			t.Errorf("found: %s", diff)
		}
	}
	for _, id := range []string{uuid.NewString(), "none", "", "\x00"} {
		_, err := s.Stream(ctx, id)
		wantError(t, err, signal.ErrNotFound)
	}
	oneWins(t, parallel(6, func(i int) error {
		saving := signal.Saving{Stream: made, Event: event(audit.StreamChanged, user.User{AccountID: "demo"})}
		saving.Stream.Description = fmt.Sprint("writer ", i)
		return s.SaveStream(ctx, saving)
	}), change.ErrConflict)

	// Deleting a stream while changes are saved that it hears of disturbs neither.
	errs := parallel(9, func(i int) error {
		if i == 4 {
			return s.DeleteStream(ctx, made.ID, event(audit.StreamDeleted, user.User{AccountID: "demo"}))
		}
		_, err := s.Commit(ctx, renameTo(alex(), fmt.Sprintf("reed.%d", i), Now()))
		return err
	})
	if errs[4] != nil {
		t.Errorf("the deletion: %v", errs[4])
	}
	oneWins(t, append(errs[:4:4], errs[5:]...), change.ErrConflict, change.ErrIdentifierTaken)
	wantError(t, s.DeleteStream(ctx, made.ID, told), signal.ErrNotFound)
	_, _, err := s.Handout(ctx, made.ID, 1)
	wantError(t, err, signal.ErrNotFound)
}

func testHandout(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"))
	made := stream(t, s, "poller", signal.Poll)
	renameTimes(t, s, "alex-1", 3)
	renameTimes(t, s, "bo-1", 2)
	handed, more, err := s.Handout(ctx, made.ID, 1)
	if must(t, err); len(handed) != 1 || !more {
		t.Fatalf("%d, more %v", len(handed), more)
	}
	var order []string
	for {
		handed, more, err = s.Handout(ctx, made.ID, 10)
		must(t, err)
		if len(handed) == 0 {
			break
		}
		var jtis []string
		for _, d := range handed {
			_, name, _ := strings.Cut(string(d.Claims), `"new_username":"`)
			name, _, _ = strings.Cut(name, `"`)
			order, jtis = append(order, name), append(jtis, d.JTI)
		}
		if filled, err := s.Fillable(ctx, []string{made.ID, "another"}); err != nil || len(filled) != 1 {
			t.Errorf("fillable: %v, %v", filled, err)
		}
		settled, err := s.SettlePoll(ctx, made.ID, append(jtis, uuid.NewString()), nil, Now())
		if must(t, err); len(settled) != len(handed) {
			t.Errorf("%d of %d settled", len(settled), len(handed))
		}
	}
	if diff := cmp.Diff([]string{"Alex.1", "bo.1", "Alex.2", "bo.2", "Alex.3"}, order); diff != "" || more {
		t.Errorf("order: %s, more %v", diff, more)
	}
	if filled, err := s.Fillable(ctx, []string{made.ID}); err != nil || len(filled) != 0 {
		t.Errorf("fillable: %v, %v", filled, err)
	}
}

// claimPushes claims up to limit of a stream's events at a time.
func claimPushes(s *store.Store, id string, at time.Time, limit int) ([]signal.Delivery, error) {
	_, claimed, err := s.ClaimPushes(context.Background(), id, at, at.Add(time.Minute), limit)
	return claimed, err
}

// tally counts who was claimed.
type tally struct {
	mu    sync.Mutex
	times map[string]int // by jti
	users map[string]bool
}

func (c *tally) add(claimed []signal.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range claimed {
		c.times[d.JTI]++
		c.users[d.Subject] = true
	}
}

// claimedOnce fails unless of each of the users one event was claimed, once.
func (c *tally) claimedOnce(t *testing.T, users int) {
	t.Helper()
	for jti, times := range c.times {
		if times != 1 {
			t.Errorf("%s was claimed %d times", jti, times)
		}
	}
	if len(c.times) != users || len(c.users) != users {
		t.Errorf("%d claimed of %d users: of each user the first alone", len(c.times), len(c.users))
	}
}

func testClaims(t *testing.T, s *store.Store) {
	const number = 12
	users := make([]user.User, number)
	for i := range users {
		users[i] = with(alex(), user.ID(fmt.Sprintf("user-%d", i)), fmt.Sprintf("name%d", i))
	}
	create(t, s, users...)
	made := stream(t, s, "pusher", signal.Push)
	for _, u := range users {
		renameTimes(t, s, u.ID, 2)
	}
	counted := tally{times: map[string]int{}, users: map[string]bool{}}
	errs := parallel(6, func(int) error { // six replicas
		for range 3 {
			claimed, err := claimPushes(s, made.ID, Now(), 2)
			if err != nil {
				return err
			}
			counted.add(claimed)
		}
		return nil
	})
	must(t, errors.Join(errs...))
	rest, err := claimPushes(s, made.ID, Now(), 100) // a replica that passed by rows another one held got fewer than it could have
	must(t, err)
	counted.add(rest)
	counted.claimedOnce(t, number)
	leasesEnd(t, s, made.ID, number, counted.times)
	ofDisabledClient(t, s, made.ID)
}

// leasesEnd: nobody came back, so when the leases are over the events are claimed again, under the same ids.
func leasesEnd(t *testing.T, s *store.Store, id string, number int, before map[string]int) {
	t.Helper()
	early, err := claimPushes(s, id, Now().Add(59*time.Second), 100)
	if must(t, err); len(early) != 0 {
		t.Errorf("%d within the lease", len(early))
	}
	again, err := claimPushes(s, id, Now().Add(time.Minute), 100)
	must(t, err)
	for _, d := range again {
		if before[d.JTI] != 1 || d.Attempts != 2 {
			t.Errorf("%s: attempt %d", d.JTI, d.Attempts)
		}
	}
	if len(again) != number {
		t.Errorf("%d again", len(again))
	}
}

func ofDisabledClient(t *testing.T, s *store.Store, id string) {
	t.Helper()
	ctx, late := context.Background(), Now().Add(time.Hour)
	if ids, err := s.Pushable(ctx, late); err != nil || len(ids) != 1 {
		t.Errorf("%v, %v", ids, err)
	}
	must(t, s.SetClientDisabled(ctx, "pusher", true, event(audit.ServiceDisabled, user.User{AccountID: "demo"})))
	if ids, err := s.Pushable(ctx, late); err != nil || len(ids) != 0 {
		t.Errorf("of a disabled client: %v, %v", ids, err)
	}
	if none, err := claimPushes(s, id, late, 100); err != nil || len(none) != 0 {
		t.Errorf("of a disabled client: %v, %v", none, err)
	}
}

// claimedAt claims up to ten events of a stream, of exactly these users.
func claimedAt(t *testing.T, s *store.Store, id string, at time.Time, users ...string) (signal.Stream, []signal.Delivery) {
	t.Helper()
	found, claimed, err := s.ClaimPushes(context.Background(), id, at, at.Add(time.Minute), 10)
	must(t, err)
	var subjects []string
	for _, d := range claimed {
		subjects = append(subjects, d.Subject)
	}
	if diff := cmp.Diff(users, subjects); diff != "" {
		t.Errorf("claimed: %s", diff)
	}
	return found, claimed
}

func testSettling(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"), with(alex(), "cy-1", "cy"))
	made := stream(t, s, "pusher", signal.Push)
	for _, id := range []user.ID{"alex-1", "bo-1", "cy-1"} {
		renameTimes(t, s, id, 2)
	}
	late := Now().Add(time.Hour)
	found, claimed := claimedAt(t, s, made.ID, Now(), "alex-1", "bo-1", "cy-1")
	if !found.Authorization.Equal(secret.New("Bearer of-pusher")) {
		t.Error("another header")
	}
	stolen := claimed[0]
	stolen.Lease = "of another replica"
	must(t, s.SettlePushes(ctx, found, []signal.PushResult{{Delivery: stolen, Outcome: signal.Delivered}}, Now()))
	must(t, s.SettlePushes(ctx, found, []signal.PushResult{
		{Delivery: claimed[0], Outcome: signal.Delivered}, {Delivery: claimed[1], Outcome: signal.Refused, Why: "answer 400: invalid_key"},
		{Delivery: claimed[2], Outcome: signal.Postponed, Why: "answer 503", Retry: late},
	}, Now()))
	found, next := claimedAt(t, s, made.ID, Now(), "alex-1", "bo-1") // cy's second waits for cy's first

	// Nothing gets through: pushing rests, and one alone tries when the time is over.
	must(t, s.SettlePushes(ctx, found, []signal.PushResult{
		{Delivery: next[0], Outcome: signal.Postponed, Why: "no answer in time", Retry: Now().Add(5 * time.Second)},
		{Delivery: next[1], Outcome: signal.Postponed, Why: "no answer in time", Retry: Now().Add(6 * time.Second)},
	}, Now()))
	claimedAt(t, s, made.ID, Now().Add(4*time.Second))
	found, probe := claimedAt(t, s, made.ID, late, "alex-1")
	if found.Failures != 1 || found.LastError != "no answer in time" {
		t.Errorf("%+v", found)
	}
	must(t, s.SettlePushes(ctx, found, []signal.PushResult{{Delivery: probe[0], Outcome: signal.Delivered}}, late))
	healed, more := claimedAt(t, s, made.ID, late, "bo-1", "cy-1")
	if healed.Failures != 0 || healed.LastError != "" {
		t.Errorf("%+v", healed)
	}

	// What the receiver asks for is kept, even if others got through.
	must(t, s.SettlePushes(ctx, healed, []signal.PushResult{
		{Delivery: more[0], Outcome: signal.Delivered}, {Delivery: more[1], Outcome: signal.Postponed, Why: "answer 429", Retry: late.Add(time.Hour), Rest: late.Add(time.Hour)},
	}, late))
	claimedAt(t, s, made.ID, late.Add(time.Hour-time.Second))
	claimedAt(t, s, made.ID, late.Add(time.Hour), "cy-1")
	deadLetters(t, s, made.ID, late)
}

// deadLetters looks at the one dead letter of bo and revives it.
func deadLetters(t *testing.T, s *store.Store, id string, now time.Time) {
	t.Helper()
	ctx := context.Background()
	letters, err := s.DeadLetters(ctx, id, 10)
	if must(t, err); len(letters) != 1 || letters[0].DeadWhy != "answer 400: invalid_key" || letters[0].Subject != "bo-1" {
		t.Fatalf("dead: %+v", letters)
	}
	revived, err := s.Revive(ctx, id, []string{letters[0].JTI}, now, event(audit.StreamChanged, user.User{AccountID: "demo"}))
	if must(t, err); revived != 1 {
		t.Errorf("%d revived", revived)
	}
	if dead, err := s.Dead(ctx); err != nil || dead != 0 {
		t.Errorf("%d dead, %v", dead, err)
	}
	claimedAt(t, s, id, now.Add(time.Hour), "bo-1")
}

// A dead letter that is delivered again is of long ago, which is no reason to give its stream up; what waits beside it is.
func testRevived(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"))
	made := stream(t, s, "pusher", signal.Push)
	renameTimes(t, s, "alex-1", 1)
	found, claimed := claimedAt(t, s, made.ID, Now(), "alex-1")
	must(t, s.SettlePushes(ctx, found, []signal.PushResult{{Delivery: claimed[0], Outcome: signal.Refused, Why: "answer 400"}}, Now()))
	overdue := func() int {
		streams, err := s.OverdueStreams(ctx, Now().Add(time.Hour))
		must(t, err)
		return len(streams)
	}
	_, err := s.Revive(ctx, made.ID, nil, Now(), event(audit.StreamChanged, user.User{AccountID: "demo"}))
	if must(t, err); overdue() != 0 {
		t.Error("a stream is given up for what was revived")
	}
	renameTimes(t, s, "bo-1", 1)
	if overdue() != 1 {
		t.Error("a stream is not given up for what waits")
	}
}

// A receiver that asks for the same subject again before it was answered gets no error.
func testParallelRules(t *testing.T, s *store.Store) {
	create(t, s, alex())
	made := stream(t, s, "router", signal.Poll)
	for _, err := range parallel(8, func(int) error {
		told := event(audit.StreamChanged, user.User{AccountID: "demo"})
		return s.SetRule(context.Background(), made.ID, signal.Rule{AccountID: "demo", UserID: "alex-1", Included: true}, told)
	}) {
		must(t, err)
	}
}

func testEventKeys(t *testing.T, s *store.Store) {
	ctx := context.Background()
	key := func(i int) signal.StoredKey {
		return signal.StoredKey{ID: fmt.Sprintf("key-%d", i), Private: secret.New("private half"), ActiveFrom: Now().Add(time.Duration(i) * time.Second)}
	}
	oneWins(t, parallel(8, func(i int) error { return s.AddEventKey(ctx, key(i), "", time.Time{}) }), signal.ErrNewerKey)
	keys, err := s.EventKeys(ctx)
	if must(t, err); len(keys) != 1 || keys[0].Private.Reveal() != "private half" {
		t.Fatalf("got %+v", keys)
	}
	must(t, s.AddEventKey(ctx, key(9), keys[0].ID, Now().Add(time.Hour)))
	wantError(t, s.AddEventKey(ctx, key(10), keys[0].ID, Now()), signal.ErrNewerKey)
	if tokens, err := s.SigningKeys(ctx); err != nil || len(tokens) != 0 { // SET-09
		t.Errorf("keys of access tokens: %+v, %v", tokens, err)
	}
}
