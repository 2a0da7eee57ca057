package breach

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"time"
)

// The form of the file: a header, the fingerprints of all shards, and an index with an entry a shard. README.md describes
// it. Numbers are little-endian.
const (
	version      = 1
	headerSize   = 112
	entrySize    = 28
	fingerprint  = 2       // bytes of one
	maxShards    = 1 << 16 // 68 billion keys: what a damaged header can make us read is bounded
	maxSegment   = 1 << 18 // what the library makes at most
	moreSegments = 2       // the segments that a filter has beyond those that a key's first position can be in
)

// header is the beginning of the file. It is written last: an unfinished file has zeros there.
type header struct {
	Magic      [8]byte
	Version    uint32
	Shards     uint32
	Entries    int64
	MinCount   int64
	SourceDate int64 // Unix time
	Size       int64 // of the whole file
	Content    [sha256.Size]byte
	Sum        [sha256.Size]byte // of the header before it, and of the index
}

// entry describes one shard. Its keys are those from First on, up to the First of the next one.
type entry struct {
	First         uint64
	Seed          uint64
	Keys          uint32
	SegmentLength uint32 // fingerprints of a segment: a power of two
	Segments      uint32 // that a key's first position can be in
}

func magic() [8]byte { return [8]byte([]byte("SXBREACH")) }

// encode returns the bytes of the header, sealed with the index.
func (h header) encode(index []byte) []byte {
	h.Sum = h.sum(index)
	return littleEndian(h)
}

func (h header) sum(index []byte) [sha256.Size]byte {
	encoded := littleEndian(h)
	return sha256.Sum256(append(encoded[:headerSize-sha256.Size], index...))
}

// littleEndian encodes a value of fixed size.
func littleEndian(value any) []byte {
	encoded, err := binary.Append(nil, binary.LittleEndian, value)
	if err != nil {
		panic(fmt.Sprintf("breach: %T has no fixed size: %v", value, err)) // a mistake in this package
	}
	return encoded
}

// fingerprints returns how many a shard has. It is at most 2^50, whatever the entry says.
func (e entry) fingerprints() int64 {
	return (int64(e.Segments) + moreSegments) * int64(e.SegmentLength)
}

// readHeader reads and checks the header and the index of a file of this size. Nothing in them is used before the checksum
// and the bounds are right: what it returns describes parts that lie in the file, one after the other.
func readHeader(file io.ReaderAt, size int64) (header, []entry, error) {
	var h header
	raw := make([]byte, headerSize)
	if size < headerSize {
		return h, nil, fmt.Errorf("%w: it is too short", ErrDamaged)
	}
	if _, err := file.ReadAt(raw, 0); err != nil {
		return h, nil, fmt.Errorf("read the header: %w", err)
	}
	if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, &h); err != nil {
		return h, nil, fmt.Errorf("read the header: %w", err)
	}
	switch {
	case h.Magic != magic():
		return h, nil, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	case h.Version != version:
		return h, nil, fmt.Errorf("its form has the version %d, this program reads %d: build it again", h.Version, version)
	case h.Size != size:
		return h, nil, fmt.Errorf("%w: it has %d bytes and should have %d", ErrDamaged, size, h.Size)
	case h.Shards == 0 || h.Shards > maxShards || int64(h.Shards)*entrySize > size-headerSize:
		return h, nil, fmt.Errorf("%w: it cannot have %d shards", ErrDamaged, h.Shards)
	}
	index := make([]byte, int64(h.Shards)*entrySize)
	if _, err := file.ReadAt(index, size-int64(len(index))); err != nil {
		return h, nil, fmt.Errorf("read the index: %w", err)
	}
	if h.Sum != h.sum(index) {
		return h, nil, fmt.Errorf("%w: the checksum of the header is wrong", ErrDamaged)
	}
	entries := make([]entry, h.Shards)
	if err := binary.Read(bytes.NewReader(index), binary.LittleEndian, entries); err != nil {
		return h, nil, fmt.Errorf("read the index: %w", err)
	}
	return h, entries, checkIndex(h, entries)
}

// checkIndex makes sure of what a checksum does not: that the file was made by a program that means what this one does.
func checkIndex(h header, entries []entry) error {
	var keys, length int64
	for i, e := range entries {
		switch {
		case e.Keys == 0 || e.Segments == 0 || e.SegmentLength > maxSegment || bits.OnesCount32(e.SegmentLength) != 1,
			e.fingerprints() > math.MaxUint32:
			return fmt.Errorf("%w: shard %d has no possible size", ErrDamaged, i)
		case len(entries) > 1 && e.Keys < minShardKeys:
			return fmt.Errorf("%w: shard %d is too small", ErrDamaged, i)
		case i > 0 && e.First <= entries[i-1].First:
			return fmt.Errorf("%w: shard %d is out of order", ErrDamaged, i)
		}
		keys += int64(e.Keys)
		length += e.fingerprints() * fingerprint
	}
	if keys != h.Entries || length != h.Size-headerSize-int64(len(entries))*entrySize {
		return fmt.Errorf("%w: the index does not fit the file", ErrDamaged)
	}
	return nil
}

func (h header) info() Info {
	return Info{
		Entries: h.Entries, MinCount: h.MinCount, SourceDate: time.Unix(h.SourceDate, 0).UTC(), Shards: int(h.Shards), Size: h.Size,
	}
}
