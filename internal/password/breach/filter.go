package breach

import (
	"context"
	"crypto/sha1" //nolint:gosec // the list is published as SHA-1: here it is the key of a look-up and protects nothing
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/FastFilter/xorfilter"

	"github.com/salesexec/credentials/internal/secret"
)

// Filter tells whether a password is on the list it was built from. It lies in the file's pages, which all processes of a
// machine share, and takes a few kilobytes of the heap. It is safe for concurrent use.
type Filter struct {
	file    *os.File
	info    Info
	content [sha256.Size]byte
	told    func(error)
	damage  atomic.Pointer[error]

	mu     sync.RWMutex // held for reading by look-ups, for writing by Close
	mapped []byte
	firsts []uint64 // of each shard
	shards []xorfilter.BinaryFuse[uint16]
}

// Open maps the filter at path into memory. It checks the header and the index, not the content, so it takes no time
// however large the file is; Verify checks the rest. It returns an error that wraps ErrDamaged when the file is not a whole
// filter, and one that does not for a version of another program or a file that cannot be read.
//
// damaged, if it is not nil, is told once, from any goroutine, when the filter turns out to be damaged later: in Verify, or
// in a look-up of a part that is gone. Replace a filter by renaming another one over it, as Build does, never by writing
// into it.
func Open(path string, damaged func(error)) (*Filter, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("breach: %w", err)
	}
	f, err := open(file, damaged)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("breach: %s: %w", path, err), file.Close())
	}
	return f, nil
}

func open(file *os.File, damaged func(error)) (*Filter, error) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil, errors.New("filters can be used on little-endian machines only")
	}
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	size := stat.Size()
	if !stat.Mode().IsRegular() || size > math.MaxInt {
		return nil, fmt.Errorf("%w: it cannot be mapped into memory", ErrDamaged)
	}
	h, entries, err := readHeader(file, size)
	if err != nil {
		return nil, err
	}
	mapped, err := mapFile(file, int(size))
	if err != nil {
		return nil, fmt.Errorf("map into memory: %w", err)
	}
	f := &Filter{file: file, info: h.info(), content: h.Content, told: damaged, mapped: mapped}
	place := headerSize
	for _, e := range entries {
		// readHeader made sure that every shard lies in the file, and headerSize is even.
		length := int(e.fingerprints())
		f.firsts = append(f.firsts, e.First)
		f.shards = append(f.shards, xorfilter.BinaryFuse[uint16]{
			Seed: e.Seed, SegmentLength: e.SegmentLength, SegmentLengthMask: e.SegmentLength - 1,
			SegmentCount: e.Segments, SegmentCountLength: e.Segments * e.SegmentLength,
			Fingerprints: unsafe.Slice((*uint16)(unsafe.Pointer(&mapped[place])), length), //nolint:gosec // the one way to read a mapped file in place
		})
		place += length * fingerprint
	}
	return f, nil
}

// Info tells what the filter says of itself.
func (f *Filter) Info() Info { return f.info }

// Contains tells whether the password, in NFC as package password normalizes it, is on the list. What is on it is always
// found; of what is not, one in 65,536 is taken for it. Case counts: the list holds passwords as they were found, and it is
// the blocklist that ignores case. A closed filter contains nothing, and so does a part of the file that is gone; then
// Sound returns an error from now on.
func (f *Filter) Contains(password secret.Text) bool {
	hash := sha1.Sum([]byte(password.Reveal())) //nolint:gosec // see the import
	return f.has(keyOf(hash))
}

// keyOf is what the filter keeps of a hash: among two billion passwords hardly two share these 64 bits.
func keyOf(hash [sha1.Size]byte) uint64 { return binary.BigEndian.Uint64(hash[:]) }

func (f *Filter) has(key uint64) (found bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	at, exact := slices.BinarySearch(f.firsts, key)
	if !exact {
		at--
	}
	if at < 0 || len(f.shards) == 0 {
		return false
	}
	// A file that somebody cut short has pages that cannot be read any more; that must not end the process.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			found = false
			f.isDamaged(fmt.Errorf("breach: %w: a part of it is gone", ErrDamaged))
		default:
			panic(fault)
		}
	}()
	return f.shards[at].Contains(key)
}

// Verify reads the whole file and returns an error that wraps ErrDamaged when it is not what was built, or the context's
// error when that ends it before.
func (f *Filter) Verify(ctx context.Context) error {
	length := f.info.Size - headerSize - int64(f.info.Shards)*entrySize
	sum := sha256.New()
	from := untilOver{ctx: ctx, from: io.NewSectionReader(f.file, headerSize, length)}
	read, err := io.CopyBuffer(sum, from, make([]byte, 256<<10))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("breach: check the filter: %w", ctx.Err())
	case err != nil:
		err = fmt.Errorf("breach: read the filter: %w", err)
	case read != length:
		err = fmt.Errorf("breach: %w: a part of it is gone", ErrDamaged)
	case [sha256.Size]byte(sum.Sum(nil)) != f.content:
		err = fmt.Errorf("breach: %w: the checksum of the content is wrong", ErrDamaged)
	default:
		return nil
	}
	f.isDamaged(err)
	return err
}

// Sound returns what was found wrong with the filter since it was opened, or nil.
func (f *Filter) Sound(context.Context) error {
	if damage := f.damage.Load(); damage != nil {
		return *damage
	}
	return nil
}

func (f *Filter) isDamaged(err error) {
	if f.damage.CompareAndSwap(nil, &err) && f.told != nil {
		f.told(err)
	}
}

// Close waits for the look-ups under way and gives the file back.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	mapped := f.mapped
	f.mapped, f.firsts, f.shards = nil, nil, nil
	if mapped == nil {
		return nil
	}
	return errors.Join(unmapFile(mapped), f.file.Close())
}

// untilOver reads until the context is over.
type untilOver struct {
	ctx  context.Context
	from io.Reader
}

func (u untilOver) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.from.Read(p)
}
