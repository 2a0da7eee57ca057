// Package breach knows which passwords are known from breaches (NIST SP 800-63B-4 section 3.1.1.2, ASVS 6.2.12), without
// asking anybody at run time: Build turns the ordered list that Have I Been Pwned publishes into one small file, and a
// Filter, which maps that file into memory, tells whether a password is on it. README.md has the format and the figures.
//
// It depends on the standard library, github.com/FastFilter/xorfilter and package secret. Commands make filters, the
// policy of package password consults one.
package breach

import (
	"errors"
	"time"
)

// ErrDamaged says that a file is no filter, or not the one it was when it was built.
var ErrDamaged = errors.New("damaged, or no filter of breached passwords")

// Info is what a filter says of itself.
type Info struct {
	Entries    int64     // different passwords that are found for certain
	MinCount   int64     // passwords that were seen less often than this in breaches were left out; 1 or more
	SourceDate time.Time // of the list it was built from; UTC, in whole seconds
	Shards     int       // independent parts, each of a contiguous range of hashes
	Size       int64     // of the file, in bytes
}

const (
	// shardKeys is the size of a shard: the list is turned into a filter piece by piece in the memory that one takes,
	// about 40 MB, and above a million keys a binary fuse filter takes 2.25 bytes a key, no less.
	shardKeys = 1 << 20
	// minShardKeys is the least of a shard that is not the only one: smaller ones take more bytes a key.
	minShardKeys = 100_000
)
