package breach

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1" //nolint:gosec // the list is published as SHA-1: here it is the key of a look-up and protects nothing
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
)

// maxLine is more than any line of the list has.
const maxLine = 256

// list reads the lines of an ordered list of hashes, each a SHA-1 in hexadecimal digits, a colon and how often the password
// was seen: 000000005AD76BD555C1D6D771DE417A4B87E4B4:10.
type list struct {
	from     *bufio.Reader
	lines    int64 // read so far
	previous [sha1.Size]byte

	// The widest hole between two neighbours, as a difference of keys, and the line it follows.
	hole      uint64
	holeAfter int64
}

// openList begins to read a list, unpacking it if it is packed with gzip. Reading ends with the context, even while from
// has nothing to give.
func openList(ctx context.Context, from io.Reader) (*list, error) {
	const buffer = 1 << 20
	reader, writer := io.Pipe()
	context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) }) // never fails
	go func() {
		// Without WriteTo and its small buffer. It stays behind if from never ends: that is for the end of the process.
		_, err := io.CopyBuffer(writer, struct{ io.Reader }{from}, make([]byte, buffer))
		_ = writer.CloseWithError(err) // never fails
	}()
	l := &list{from: bufio.NewReaderSize(reader, buffer)}
	if start, err := l.from.Peek(2); err != nil || !bytes.Equal(start, []byte{0x1f, 0x8b}) {
		return l, nil // next reports the error
	}
	unpacked, err := gzip.NewReader(l.from)
	if err != nil {
		return nil, fmt.Errorf("unpack the list: %w", err)
	}
	l.from = bufio.NewReaderSize(unpacked, buffer)
	return l, nil
}

// next returns the next line's hash and count, or io.EOF after the last one. A hash may come twice in a row.
func (l *list) next() (hash [sha1.Size]byte, count int64, err error) {
	line, err := l.line()
	if err != nil {
		return hash, 0, err
	}
	l.lines++
	digits, rest, _ := bytes.Cut(line, []byte{':'})
	if len(digits) != hex.EncodedLen(sha1.Size) {
		return hash, 0, l.malformed()
	}
	if _, err := hex.Decode(hash[:], digits); err != nil {
		return hash, 0, l.malformed()
	}
	count, ok := parseCount(rest)
	if !ok {
		return hash, 0, l.malformed()
	}
	if bytes.Compare(hash[:], l.previous[:]) < 0 {
		return hash, 0, fmt.Errorf("line %d is out of order: take the list that is ordered by hash", l.lines)
	}
	l.measure(keyOf(hash), l.lines-1)
	l.previous = hash
	return hash, count, nil
}

// line returns a line without its end.
func (l *list) line() ([]byte, error) {
	line, err := l.from.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF) && len(line) > 0: // the last one
	case errors.Is(err, io.EOF):
		l.measure(math.MaxUint64, l.lines)
		return nil, io.EOF
	case err != nil && !errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("read the list after line %d: %w", l.lines, err)
	}
	if len(line) > maxLine {
		l.lines++
		return nil, l.malformed()
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'}), nil
}

func (l *list) malformed() error {
	return fmt.Errorf("line %d is not a SHA-1 of 40 hexadecimal digits, a colon and a count", l.lines)
}

// measure keeps the widest hole.
func (l *list) measure(key uint64, after int64) {
	if hole := key - keyOf(l.previous); hole > l.hole {
		l.hole, l.holeAfter = hole, after
	}
}

// missing tells of a hole that is too wide to be chance, once all lines are read: hashes are spread evenly, so that a hole
// 64 times as wide as usual is not to be found in any list (e^-64), unless a part of it is missing.
func (l *list) missing() (about, after int64) {
	expected := float64(l.hole) / (1 << 64) * float64(l.lines)
	if expected < 64 {
		return 0, 0
	}
	return int64(expected), l.holeAfter
}

// parseCount reads a number of 1 to 18 digits.
func parseCount(digits []byte) (count int64, ok bool) {
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		count = 10*count + int64(d-'0')
	}
	return count, true
}
