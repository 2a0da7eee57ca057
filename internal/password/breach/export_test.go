package breach

import (
	"bytes"
	"encoding/binary"
)

// The form of the file, for tests that damage it.
const (
	HeaderSize   = headerSize
	EntrySize    = entrySize
	ShardKeys    = shardKeys
	MinShardKeys = minShardKeys
	MostKeys     = mostKeys
)

// HasKey is Contains for a hash that no password is known of.
func (f *Filter) HasKey(key uint64) bool { return f.has(key) }

// ShardSizes returns how many keys each shard of a file has.
func ShardSizes(file []byte) ([]int, error) {
	_, entries, err := readHeader(bytes.NewReader(file), int64(len(file)))
	var sizes []int
	for _, e := range entries {
		sizes = append(sizes, int(e.Keys))
	}
	return sizes, err
}

// Reseal gives a changed file the size and the header's checksum that it would need to be believed, if it is long enough.
func Reseal(file []byte) {
	var h header
	if binary.Read(bytes.NewReader(file), binary.LittleEndian, &h) != nil {
		return
	}
	h.Size = int64(len(file))
	length := min(max(int64(h.Shards)*entrySize, 0), h.Size-headerSize)
	copy(file, h.encode(file[h.Size-length:]))
}
