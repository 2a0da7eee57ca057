package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// reign is one line of the model: who was called so, from when until when. It knows nothing of how the store keeps it.
type reign struct {
	id          user.ID
	from, until time.Time // until is zero while it lasts
	released    bool      // the name is held no more, before its time
}

// world is the model of all names: the reigns of each folded name in the order of time, and what each user is called.
type world struct {
	reigns  map[string][]reign
	current map[user.ID]string
}

func newWorld(users []user.User) *world {
	w := &world{reigns: map[string][]reign{}, current: map[user.ID]string{}}
	for _, u := range users {
		w.begin(u.ID, u.Username, u.CreatedAt)
	}
	return w
}

// begin calls the user by a name. Who takes it back at the very moment it was given up never was without it.
func (w *world) begin(id user.ID, name string, at time.Time) {
	key := identifier.Key(name)
	w.current[id] = name
	if last := len(w.reigns[key]) - 1; last >= 0 && w.reigns[key][last].id == id && w.reigns[key][last].until.Equal(at) {
		w.reigns[key][last].until, w.reigns[key][last].released = time.Time{}, false
		return
	}
	w.reigns[key] = append(w.reigns[key], reign{id: id, from: at})
}

// rename calls the user otherwise. Another spelling of the same name is the same reign.
func (w *world) rename(id user.ID, name string, at time.Time) {
	before := identifier.Key(w.current[id])
	if before == identifier.Key(name) {
		w.current[id] = name
		return
	}
	w.reigns[before][len(w.reigns[before])-1].until = at
	w.begin(id, name, at)
}

// release ends the hold of a name before its time, and returns for whom it was held; nobody when it was not.
func (w *world) release(name string, at time.Time, hold time.Duration) user.ID {
	reigns := w.reigns[identifier.Key(name)]
	if len(reigns) == 0 {
		return ""
	}
	last := &reigns[len(reigns)-1]
	if last.until.IsZero() || last.released || !last.until.Add(hold).After(at) {
		return ""
	}
	last.released = true
	return last.id
}

// free tells whether the user may take the name: it is nobody's and never was, it is or was the user's, or it was given up so
// long ago that it is held no more, or released.
func (w *world) free(id user.ID, name string, at time.Time, hold time.Duration) bool {
	reigns := w.reigns[identifier.Key(name)]
	if len(reigns) == 0 {
		return true
	}
	last := reigns[len(reigns)-1]
	return last.id == id || last.released && !last.until.IsZero() || !last.until.IsZero() && !last.until.Add(hold).After(at)
}

// holder returns who held the name at the time; without one, who holds it or held it last.
func (w *world) holder(name string, at *time.Time) (found reign, there bool) {
	for _, r := range w.reigns[identifier.Key(name)] {
		if at == nil || !at.Before(r.from) && (r.until.IsZero() || at.Before(r.until)) {
			found, there = r, true
		}
	}
	return found, there
}

// testAttribution renames users at random, along chains, back and forth, with holds that end or are released early, and re-use after them, and asks both
// the service and the model who held which name when: at every moment something happened, just before and just after.
func testAttribution(t *testing.T, s *store.Store) {
	releases := 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { releases += history(t, s, seed) })
	}
	if releases == 0 {
		t.Error("no held name was released before its time")
	}
}

const (
	historySteps = 80
	historyHold  = 10 * time.Minute
)

// history makes one history and compares it with the model. It returns how many held names were released before their time.
func history(t *testing.T, s *store.Store, seed uint64) (releases int) {
	random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // the same history again, so that a failure can be looked into
	name := func(i int) string {
		return fmt.Sprintf("%s%d", []string{"anna", "Ben", "cleo", "DORA", "emil"}[i], seed)
	}
	var users []user.User
	for i := range 3 {
		users = append(users, with(alex(), user.ID(fmt.Sprintf("user-%d-%d", seed, i)), name(i)))
	}
	create(t, s, users...)
	model := newWorld(users)
	moments := []time.Time{Now()}
	for at := Now(); len(moments) < historySteps; {
		at = at.Add(time.Duration(random.IntN(8)) * time.Minute) // also at the very moment of the last
		u := load(t, s, users[random.IntN(len(users))].ID)
		to := name(random.IntN(5))
		if held := name(random.IntN(5)); random.IntN(2) == 0 {
			releases += released(t, s, model, held, at)
		}
		if random.IntN(4) == 0 {
			to = identifier.Key(to) // in another spelling
		}
		if to == u.Username {
			continue
		}
		renamed(t, s, model, u, to, at)
		moments = append(moments, at, at.Add(-time.Microsecond), at.Add(time.Microsecond))
	}
	for i := range 6 {
		asked := name(min(i, 4))
		if i == 5 {
			asked = "nobody" + asked
		}
		compare(t, s, model, asked, nil)
		for _, at := range moments {
			compare(t, s, model, asked, &at)
		}
	}
	return releases
}

// released ends the hold of a name in the model, and if there was one, in the store; it returns how many there were.
func released(t *testing.T, s *store.Store, model *world, name string, at time.Time) int {
	t.Helper()
	owner := model.release(name, at, historyHold)
	if owner == "" {
		return 0
	}
	guard := change.Guard{UserID: owner, Revision: load(t, s, owner).Revision}
	_, err := s.Commit(context.Background(), change.Change{
		At: at, Target: &guard, Free: &change.Free{Key: identifier.Key(name), UserID: owner}, Audit: []audit.Event{event(audit.NameReleased, alex())},
	})
	must(t, err)
	return 1
}

// renamed renames the user in the store, if the model allows it too, and in the model.
func renamed(t *testing.T, s *store.Store, model *world, u user.User, to string, at time.Time) {
	t.Helper()
	c := renameTo(u, to, at)
	if identifier.Key(to) == identifier.Key(u.Username) {
		c.Release, c.Claim = nil, nil
	} else {
		c.Release[0].HeldUntil = at.Add(historyHold)
	}
	_, err := s.Commit(context.Background(), c)
	free := model.free(u.ID, to, at, historyHold)
	switch {
	case err == nil && free:
		model.rename(u.ID, to, at)
	case errors.Is(err, change.ErrIdentifierTaken) && !free:
	default:
		t.Fatalf("%s to %s: %v, free in the model: %v", u.Username, to, err, free)
	}
}

// compare asks the use case and the model who held the name.
func compare(t *testing.T, s *store.Store, model *world, name string, at *time.Time) {
	t.Helper()
	manager := credential.New(credential.Config{Now: Now}, s, nil, nil, nil)
	got, err := manager.Attribute(context.Background(), actor(administrator("ada-1", "/")), name, at)
	want, there := model.holder(name, at)
	if !there {
		if !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s at %v: got %+v, %v; nobody held it", name, at, got, err)
		}
		return
	}
	until := time.Time{}
	if got.Until != nil {
		until = *got.Until
	}
	if err != nil || got.UserID != want.id || !got.From.Equal(want.from) || !until.Equal(want.until) || got.CurrentUsername != model.current[want.id] {
		t.Errorf("%s at %v: got %+v until %v, %v; want %+v, called %s", name, at, got, until, err, want, model.current[want.id])
	}
}
