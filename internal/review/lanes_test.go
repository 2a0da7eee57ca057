package review

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// busy is a store that lists users when it is let.
type busy struct {
	crowd
	inside, most atomic.Int32
	let          chan struct{}
}

func (b *busy) Members(ctx context.Context, _ access.Actor, _ credential.Filter, _ user.ID, _ int) ([]session.Member, error) {
	b.most.Store(max(b.most.Load(), b.inside.Add(1)))
	defer b.inside.Add(-1)
	select {
	case <-b.let:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *busy) Commit(context.Context, change.Change) (change.Result, error) {
	return change.Result{}, nil
}

// Issue's "credential review, streamed": however many ask at once for summaries, pages and files, the database answers few of them
// at a time, and all get their turn.
func TestReviewer_manyAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &busy{let: make(chan struct{})}
		r := New(store, describe, now)
		done := make(chan error)
		for range 10 {
			go func() {
				_, _, _, err := r.Page(t.Context(), query(), "", 50, true)
				done <- err
			}()
			go func() {
				file, err := r.Open(t.Context(), query())
				if err == nil {
					err = file.Write(t.Context(), io.Discard, func() error { return nil })
				}
				done <- err
			}()
		}
		synctest.Wait()
		if inside := store.inside.Load(); inside != lanes {
			t.Errorf("%d of 20 reviews are in the database at once, want %d", inside, lanes)
		}
		close(store.let)
		for range 20 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if most := store.most.Load(); most > lanes {
			t.Errorf("%d reviews were in the database at once, want %d at most", most, lanes)
		}
	})
}

// A caller who hangs up while others are served is not waited for, and takes no turn.
func TestReviewer_waitsNoLongerThanTheCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &busy{let: make(chan struct{})}
		r := New(store, describe, now)
		ctx, hangUp := context.WithCancel(t.Context())
		served, left := make(chan error), make(chan error)
		for range lanes {
			go func() {
				_, _, _, err := r.Page(t.Context(), query(), "", 50, true)
				served <- err
			}()
		}
		synctest.Wait()
		go func() {
			_, _, _, err := r.Page(ctx, query(), "", 50, true)
			left <- err
		}()
		synctest.Wait()
		hangUp()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who hung up got %v", err)
		}
		close(store.let)
		for range lanes {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
}
