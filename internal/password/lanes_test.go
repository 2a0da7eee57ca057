package password

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// place is one request as the test sees it.
type place struct {
	class Class
	turn  chan struct{}
}

func (p place) called() bool {
	select {
	case <-p.turn:
		return true
	default:
		return false
	}
}

func join(t *testing.T, lanes *lanes, class Class, count int) []place {
	t.Helper()
	var places []place
	for range count {
		turn, err := lanes.join(class)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, place{class, turn})
	}
	return places
}

// serve frees a lane count times and returns how many turns each class got.
func serve(t *testing.T, lanes *lanes, waiting []place, count int) (turns [classes]int, left []place) {
	t.Helper()
	for range count {
		lanes.release()
		at := slices.IndexFunc(waiting, place.called)
		if at < 0 {
			t.Fatal("a lane is free while somebody waits")
		}
		turns[waiting[at].class]++
		waiting = slices.Delete(waiting, at, at+1)
		if slices.ContainsFunc(waiting, place.called) {
			t.Fatal("two turns for one lane")
		}
	}
	return turns, waiting
}

// HASH-12: of every seven turns people get four, administrators and services two, bulk jobs one.
func TestLanes_sharesByWeight(t *testing.T) {
	lanes := newLanes(1, 100, time.Minute)
	join(t, lanes, People, 1)
	waiting := slices.Concat(join(t, lanes, Bulk, 40), join(t, lanes, Staff, 40), join(t, lanes, People, 40))
	for round := range 5 {
		var turns [classes]int
		turns, waiting = serve(t, lanes, waiting, 7)
		if diff := cmp.Diff([classes]int{People: 4, Staff: 2, Bulk: 1}, turns); diff != "" {
			t.Fatalf("round %d: %s", round, diff)
		}
	}
}

// A class that nobody used does not get the turns it did not want.
func TestLanes_doesNotSaveTurnsUp(t *testing.T) {
	lanes := newLanes(1, 200, time.Minute)
	join(t, lanes, People, 1)
	waiting := join(t, lanes, People, 150)
	_, waiting = serve(t, lanes, waiting, 100)
	waiting = append(waiting, join(t, lanes, Bulk, 20)...)
	turns, _ := serve(t, lanes, waiting, 25)
	if turns[Bulk] < 5 || turns[Bulk] > 6 {
		t.Fatalf("bulk jobs got %d of 25 turns", turns[Bulk])
	}
}

// Whoever of a class came first is served first.
func TestLanes_keepsOrder(t *testing.T) {
	lanes := newLanes(1, 100, time.Minute)
	join(t, lanes, People, 1)
	for _, next := range join(t, lanes, Staff, 20) {
		lanes.release()
		if !next.called() {
			t.Fatal("somebody was overtaken")
		}
	}
}

// HASH-12: each class has its own places, so that a flood of one leaves room for the others.
func TestLanes_boundsEachQueue(t *testing.T) {
	lanes := newLanes(2, 3, time.Minute)
	join(t, lanes, Bulk, 2+3)
	if _, err := lanes.join(Bulk); err == nil {
		t.Fatal("there was a place too many")
	}
	join(t, lanes, People, 3)
	if busy, waiting := lanes.load(); busy != 2 || waiting != 6 {
		t.Fatalf("%d busy, %d waiting", busy, waiting)
	}
}

// HASH-12: whatever comes and goes, no more than the lanes are busy, none is idle while somebody waits, and none is lost.
func TestLanes_properties(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		total := 1 + random.IntN(4)
		lanes := newLanes(total, 1+random.IntN(5), time.Minute)
		var present []place
		for step := range 100 {
			if at := random.IntN(len(present) + 3); at < len(present) {
				lanes.leave(present[at].class, present[at].turn)
				present = slices.Delete(present, at, at+1)
			} else {
				class := Class(random.IntN(int(classes)))
				if turn, err := lanes.join(class); err == nil {
					present = append(present, place{class, turn})
				}
			}
			called := 0
			for _, place := range present {
				if place.called() {
					called++
				}
			}
			busy, waiting := lanes.load()
			if busy != called || busy != min(total, len(present)) || busy+waiting != len(present) {
				t.Fatalf("seed %d, step %d: %d busy, %d waiting, %d called of %d", seed, step, busy, waiting, called, len(present))
			}
		}
	}
}

// HASH-12: the collector runs as soon as 32 MiB have been discarded, and not for less.
func TestGarbage_due(t *testing.T) {
	var garbage garbage
	var got []bool
	for _, kib := range []uint32{12288, 12288, 12288, 0, 65536, 32767, 1} {
		garbage.add(kib)
		got = append(got, garbage.due())
	}
	if diff := cmp.Diff([]bool{false, false, true, false, true, false, true}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestPace_followsSlowly(t *testing.T) {
	var pace pace
	for _, step := range []struct{ took, want time.Duration }{{80, 80}, {160, 90}, {10, 80}} {
		pace.record(step.took * time.Millisecond)
		if got := pace.usual(); got != step.want*time.Millisecond {
			t.Fatalf("after %d: %s", step.took, got)
		}
	}
}
