package password

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// pace knows how long a hash with current parameters takes, so that cheaper ones can be made to look alike: who has
// an old hash must not be told apart by a quicker answer.
type pace struct {
	mu   sync.Mutex
	mean time.Duration // exponentially weighted; 0 before the first measurement
}

// record takes a measurement in, with a weight of one eighth.
func (p *pace) record(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mean == 0 {
		p.mean = took
		return
	}
	p.mean += (took - p.mean) / 8
}

func (p *pace) usual() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mean
}

// wait returns after d, or earlier with the context's error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collectAt is how much discarded hash memory may lie about, in KiB.
const collectAt = 32 << 10

// garbage counts the memory of finished hashes. golang.org/x/crypto/argon2 allocates afresh for every hash, and left
// to itself the collector lets as much garbage gather as there is memory in use.
type garbage struct {
	mu  sync.Mutex
	kib uint32
}

// add counts the memory of one hash, at most 1 GiB.
func (g *garbage) add(kib uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kib += kib
}

// collect runs the collector when enough has gathered. A hash calls it before it gives its lane to the next, so that
// what is in use and what is discarded together stay below all lanes' memory and twice collectAt.
func (g *garbage) collect() {
	if g.due() {
		runtime.GC()
	}
}

func (g *garbage) due() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kib < collectAt {
		return false
	}
	g.kib = 0
	return true
}
