package password

import (
	"errors"
	"fmt"
)

// Params is what one argon2id hash costs.
type Params struct {
	MemoryKiB uint32 // memory in KiB
	Time      uint32 // passes over it
	Threads   uint8  // parallelism
}

// Ceilings of parameters, ours: what a hostile or damaged stored hash can make us spend.
const (
	maxMemoryKiB = 1 << 20 // 1 GiB
	maxTime      = 16
	maxThreads   = 16
	// maxWork bounds memory times passes, as the time that a hash takes grows with both: 16 passes over 1 GiB hold a lane for 16
	// seconds. Within it are 16 passes over 64 MiB, and the middle preset of libsodium (3 over 256 MiB) but not its costliest.
	maxWork = maxMemoryKiB
)

// DefaultParams returns the second recommended option of RFC 9106 section 4: 64 MiB, 3 passes, 4 threads.
func DefaultParams() Params { return Params{MemoryKiB: 64 << 10, Time: 3, Threads: 4} }

// floors returns the weakest parameters approved for new hashes (ASVS 11.4.2, Appendix C).
func floors() []Params { return []Params{{47104, 1, 1}, {19456, 2, 1}, {12288, 3, 1}} }

// Validate returns an error when p is weaker than every approved set or costs more than 1 GiB, 16 passes or 16 threads, or
// more than 1 GiB for all passes together.
func (p Params) Validate() error {
	if err := p.bounded(); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	for _, floor := range floors() {
		if !p.below(floor) {
			return nil
		}
	}
	return fmt.Errorf("password: argon2id m=%d,t=%d,p=%d is weaker than every approved set", p.MemoryKiB, p.Time, p.Threads)
}

// below tells whether any parameter is lower than the other's.
func (p Params) below(other Params) bool {
	return p.MemoryKiB < other.MemoryKiB || p.Time < other.Time || p.Threads < other.Threads
}

// bounded returns an error for parameters that must not be computed at all. RFC 9106 section 3.1 asks for 8 KiB of
// memory a thread; golang.org/x/crypto panics on zero passes or threads.
func (p Params) bounded() error {
	switch {
	case p.Time < 1 || p.Time > maxTime:
		return errors.New("argon2 passes are not from 1 to 16")
	case p.Threads < 1 || p.Threads > maxThreads:
		return errors.New("argon2 threads are not from 1 to 16")
	case p.MemoryKiB < 8*uint32(p.Threads) || p.MemoryKiB > maxMemoryKiB:
		return errors.New("argon2 memory is not from 8 KiB a thread to 1 GiB")
	case uint64(p.MemoryKiB)*uint64(p.Time) > maxWork:
		return errors.New("argon2 passes go over more than 1 GiB together")
	}
	return nil
}
