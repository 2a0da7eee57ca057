package password

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// common is the list that blocklist/README.md describes: one folded password a line, sorted, none twice.
//
//go:embed blocklist/common.txt.gz
var common []byte

// Blocklist is a set of folded passwords that are refused (NIST SP 800-63B-4 section 3.1.1.2, ASVS 6.2.4).
// A nil Blocklist is empty. It is never changed and safe for concurrent use.
type Blocklist struct{ entries []string }

// LoadBlocklist unpacks the built-in list of common passwords. It takes some milliseconds and a few megabytes:
// load it once. It fails only if the program was built from a damaged file.
func LoadBlocklist() (*Blocklist, error) {
	packed, err := gzip.NewReader(bytes.NewReader(common))
	if err != nil {
		return nil, fmt.Errorf("open blocklist: %w", err)
	}
	text, err := io.ReadAll(packed)
	if err != nil {
		return nil, fmt.Errorf("unpack blocklist: %w", err)
	}
	return &Blocklist{entries: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")}, nil
}

// NewBlocklist makes a list of passwords in any order and case.
func NewBlocklist(passwords ...string) *Blocklist {
	entries := make([]string, len(passwords))
	for i, password := range passwords {
		entries[i] = Fold(password)
	}
	slices.Sort(entries)
	return &Blocklist{entries: slices.Compact(entries)}
}

// Contains tells whether the whole of folded, a result of Fold, is on the list.
func (b *Blocklist) Contains(folded string) bool {
	if b == nil {
		return false
	}
	_, found := slices.BinarySearch(b.entries, folded)
	return found
}

// Len returns the number of entries.
func (b *Blocklist) Len() int { return b.LenAtLeast(0) }

// LenAtLeast returns the number of entries of n or more code points: those that matter under a minimum length of n.
func (b *Blocklist) LenAtLeast(n int) int {
	if b == nil {
		return 0
	}
	count := 0
	for _, entry := range b.entries {
		if utf8.RuneCountInString(entry) >= n {
			count++
		}
	}
	return count
}
