package password

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Class says on whose behalf a password is hashed, and so how often its turn comes when all lanes are busy.
type Class int

// The classes. A value that is none of them counts as Bulk.
const (
	People Class = iota // people who sign in or change their own password: weight 4
	Staff               // administrators and services: weight 2
	Bulk                // jobs over many users: weight 1
	classes
)

// strides are the inverse of the weights 4, 2 and 1: how far a class moves on with each turn it gets.
var strides = [classes]uint64{People: 1, Staff: 2, Bulk: 4}

// errFull says that there is no place to wait or that the wait was too long.
var errFull = errors.New("password: all hashing lanes are busy")

// lanes hands out a fixed number of lanes. Who finds none free waits in the queue of its class; the next turn goes to
// the class that has moved on least (stride scheduling), so that each gets its share and none starves.
type lanes struct {
	total    int           // lanes
	places   int           // in each queue
	patience time.Duration // longest wait

	mu     sync.Mutex
	free   int
	passed uint64 // how far the class that had the last turn had moved on before it
	queues [classes]queue
}

type queue struct {
	waiting []chan struct{} // each closed when its turn comes
	pass    uint64          // how far the class has moved on
}

func newLanes(total, places int, patience time.Duration) *lanes {
	return &lanes{total: total, places: places, patience: patience, free: total}
}

// acquire waits for a lane. It returns errFull or the context's error, and then holds none.
func (l *lanes) acquire(ctx context.Context, class Class) error {
	if class < People || class > Bulk {
		class = Bulk
	}
	turn, err := l.join(class)
	if err != nil {
		return err
	}
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case <-turn:
		err = ctx.Err() // the caller may have gone at the same moment
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errFull
	}
	if err != nil {
		l.leave(class, turn)
	}
	return err
}

// join takes a place in the class's queue; its turn may have come on return.
func (l *lanes) join(class Class) (turn chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := &l.queues[class]
	if l.free == 0 && len(queue.waiting) >= l.places {
		return nil, errFull
	}
	if len(queue.waiting) == 0 {
		queue.pass = max(queue.pass, l.passed) // turns not wanted are not saved up
	}
	turn = make(chan struct{})
	queue.waiting = append(queue.waiting, turn)
	l.dispatch()
	return turn, nil
}

// leave gives up the place in the queue, or the lane if the turn has come.
func (l *lanes) leave(class Class, turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := &l.queues[class]
	if at := slices.Index(queue.waiting, turn); at >= 0 {
		queue.waiting = slices.Delete(queue.waiting, at, at+1)
		return
	}
	l.free++
	l.dispatch()
}

// release gives a lane back.
func (l *lanes) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free++
	l.dispatch()
}

// dispatch gives free lanes to whom they are due. The caller holds the mutex.
func (l *lanes) dispatch() {
	for l.free > 0 {
		class, found := l.next()
		if !found {
			return
		}
		queue := &l.queues[class]
		l.free--
		l.passed = queue.pass
		queue.pass += strides[class]
		close(queue.waiting[0])
		queue.waiting = slices.Delete(queue.waiting, 0, 1)
	}
}

// next finds the class whose turn it is; of equals, the one with the greater weight.
func (l *lanes) next() (due Class, found bool) {
	for class := People; class <= Bulk; class++ {
		if len(l.queues[class].waiting) > 0 && (!found || l.queues[class].pass < l.queues[due].pass) {
			due, found = class, true
		}
	}
	return due, found
}

// load returns how many lanes are taken and how many requests wait.
func (l *lanes) load() (busy, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for class := range l.queues {
		waiting += len(l.queues[class].waiting)
	}
	return l.total - l.free, waiting
}
