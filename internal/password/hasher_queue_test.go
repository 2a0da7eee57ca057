package password_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

// blocking makes a hasher whose computations wait for the returned function to be called once each.
func blocking(t *testing.T, config password.HasherConfig) (h *password.Hasher, finish func(), computed *atomic.Int32) {
	t.Helper()
	h = hasher(t, config)
	gate := make(chan struct{})
	computed = new(atomic.Int32)
	h.SetKDF(func(_, _ []byte, _ password.Params, size int) []byte {
		computed.Add(1)
		<-gate
		return make([]byte, size)
	})
	return h, func() { gate <- struct{}{} }, computed
}

func expectStats(t *testing.T, hasher *password.Hasher, busy, waiting int) {
	t.Helper()
	synctest.Wait()
	if gotBusy, gotWaiting := hasher.Stats(); gotBusy != busy || gotWaiting != waiting {
		t.Fatalf("%d busy, %d waiting; want %d and %d", gotBusy, gotWaiting, busy, waiting)
	}
}

// HASH-12: beyond the lanes and the places there is a refusal at once that says when to come back.
func TestHasher_refusesWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher, finish, computed := blocking(t, password.HasherConfig{Lanes: 2, Queue: 3})
		var all sync.WaitGroup
		for range 2 + 3 {
			all.Go(func() { hash(t, hasher, "kitchen oboe gravel") })
		}
		expectStats(t, hasher, 2, 3)
		_, err := hasher.Hash(context.Background(), password.People, secret.New("one too many"))
		var overloaded *password.OverloadedError
		if !errors.As(err, &overloaded) || overloaded.RetryAfter < time.Second || overloaded.RetryAfter%time.Second != 0 {
			t.Errorf("got %v", err)
		}
		for range 5 {
			finish()
		}
		all.Wait()
		expectStats(t, hasher, 0, 0)
		if computed.Load() != 5 {
			t.Errorf("%d computed", computed.Load())
		}
	})
}

// HASH-12: no one waits longer than the deadline, and who gave up is not computed for.
func TestHasher_boundsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher, finish, computed := blocking(t, password.HasherConfig{Lanes: 1})
		var first sync.WaitGroup
		first.Go(func() { hash(t, hasher, "kitchen oboe gravel") })
		expectStats(t, hasher, 1, 0)
		asked := time.Now()
		err := hasher.VerifyNothing(context.Background(), password.Staff, secret.New("later"))
		var overloaded *password.OverloadedError
		if waited := time.Since(asked); !errors.As(err, &overloaded) || waited != 5*time.Second {
			t.Errorf("after %s: %v", waited, err)
		}
		expectStats(t, hasher, 1, 0)
		finish()
		first.Wait()
		expectStats(t, hasher, 0, 0)
		if computed.Load() != 1 {
			t.Errorf("%d computed", computed.Load())
		}
	})
}

// HASH-12: when to come back follows from how long hashes take and how many wait.
func TestHasher_estimatesWhenToRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher := hasher(t, password.HasherConfig{Lanes: 2, Queue: 10, QueueTimeout: time.Hour})
		hasher.SetKDF(func(_, _ []byte, _ password.Params, size int) []byte {
			<-time.After(2 * time.Second)
			return make([]byte, size)
		})
		hash(t, hasher, "measured")
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() { hash(t, hasher, "kitchen oboe gravel") })
		}
		expectStats(t, hasher, 2, 10)
		_, err := hasher.Hash(context.Background(), password.People, secret.New("one too many"))
		var overloaded *password.OverloadedError
		if !errors.As(err, &overloaded) || overloaded.RetryAfter != 10*time.Second {
			t.Errorf("got %v", err)
		}
		all.Wait()
		synctest.Wait()
	})
}

// HASH-13: who has gone while waiting is not computed for.
func TestHasher_forgetsWhoLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher, finish, computed := blocking(t, password.HasherConfig{Lanes: 1})
		var first, second sync.WaitGroup
		first.Go(func() { hash(t, hasher, "kitchen oboe gravel") })
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		second.Go(func() {
			if _, err := hasher.Hash(ctx, password.People, secret.New("gone")); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		expectStats(t, hasher, 1, 1)
		cancel()
		second.Wait()
		expectStats(t, hasher, 1, 0)
		finish()
		first.Wait()
		expectStats(t, hasher, 0, 0)
		if _, err := hasher.Hash(ctx, password.People, secret.New("gone before")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		expectStats(t, hasher, 0, 0)
		if computed.Load() != 1 {
			t.Errorf("%d computed", computed.Load())
		}
	})
}

// HASH-12, peers' bug 12: who hangs up while being served is answered at once and does not free the lane for more.
func TestHasher_keepsTheLaneOfWhoHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher, finish, computed := blocking(t, password.HasherConfig{Lanes: 1})
		ctx, cancel := context.WithCancel(context.Background())
		var first, second sync.WaitGroup
		first.Go(func() {
			if _, err := hasher.Hash(ctx, password.People, secret.New("impatient")); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		expectStats(t, hasher, 1, 0)
		cancel()
		first.Wait()
		second.Go(func() { hash(t, hasher, "kitchen oboe gravel") })
		expectStats(t, hasher, 1, 1)
		if computed.Load() != 1 {
			t.Errorf("%d computed", computed.Load())
		}
		finish()
		expectStats(t, hasher, 1, 0)
		finish()
		second.Wait()
		expectStats(t, hasher, 0, 0)
	})
}

// A class that is none gets no more than the least.
func TestHasher_unknownClass(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	hasher.SetKDF(instant)
	for _, class := range []password.Class{-1, 3, 1 << 40} {
		if err := hasher.VerifyNothing(context.Background(), class, secret.New("any")); err != nil {
			t.Error(err)
		}
	}
}
