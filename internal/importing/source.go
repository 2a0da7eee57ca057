package importing

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/strictjson"
)

// maxRow bounds a row in bytes, so that a quote that is never closed does not take the whole file into memory.
const maxRow = 64 << 10

// source is a file that is being read: it counts, digests, and gives out no more than one row is allowed to take. Once reading
// has failed it does not go on.
type source struct {
	from   io.Reader
	digest hash.Hash
	read   int64
	most   int64 // how far reading may go until the next row
	failed error
}

var errLongRow = errors.New("importing: the row is too long")

func (s *source) Read(p []byte) (int, error) {
	if s.failed == nil && s.read >= s.most {
		s.failed = errLongRow
	}
	if s.failed != nil {
		return 0, s.failed
	}
	n, err := s.from.Read(p)
	_, _ = s.digest.Write(p[:n]) // a digest takes everything
	s.read += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed = fmt.Errorf("importing: read: %w", err)
		return n, s.failed
	}
	return n, err
}

// ahead is what the readers below may take in before they need it.
const ahead = 4 << 10

// nextRow allows another row to be read.
func (s *source) nextRow() { s.most = s.read + ahead + maxRow }

// byteOrderMark is what some programs write before UTF-8.
const byteOrderMark = "\ufeff"

// visit is called for every row: with what could be read of it, or why it could not.
type visit func(s *source, line int, r row, unreadable []fault) error

// readAll reads a file from its beginning and returns its SHA-256. Errors are *FileError, and those of visit and of the file.
func readAll(file io.ReadSeeker, format Format, visit visit) (digest [32]byte, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return digest, fmt.Errorf("importing: read from the start: %w", err)
	}
	s := &source{from: file, digest: sha256.New()}
	s.nextRow()
	buffered := bufio.NewReaderSize(s, ahead)
	if begin, _ := buffered.Peek(len(byteOrderMark)); string(begin) == byteOrderMark {
		_, _ = buffered.Discard(len(byteOrderMark)) // it was peeked at
	}
	if format == CSV {
		err = readCSV(s, buffered, visit)
	} else {
		err = readLines(s, buffered, visit)
	}
	return [32]byte(s.digest.Sum(nil)), err
}

func readCSV(s *source, from *bufio.Reader, visit visit) error {
	cells := csv.NewReader(from)
	cells.ReuseRecord = true
	header, err := cells.Read()
	if errors.Is(err, io.EOF) {
		return &FileError{1, "The file is empty. It needs a line with the names of its columns: " + strings.Join(Columns(), ", ") + "."}
	}
	if err != nil {
		return csvError(s, err, 0)
	}
	setters, err := readHeader(header)
	if err != nil {
		return err
	}
	for line := 1; ; {
		s.nextRow()
		record, wrong := cells.Read()
		if errors.Is(wrong, io.EOF) {
			return nil
		}
		if wrong == nil && strings.Join(record, "") == "" { // as spreadsheets write below what was removed
			continue
		}
		var r row
		var unreadable []fault
		switch {
		case s.failed != nil:
			return csvError(s, wrong, line)
		case wrong != nil:
			unreadable = rowOnly(wrong, len(record), len(setters))
			if unreadable == nil {
				return csvError(s, wrong, line)
			}
		default:
			r, unreadable = readRecord(setters, record)
		}
		line = lineOf(cells, wrong)
		if err := visit(s, line, r, unreadable); err != nil {
			return err
		}
	}
}

// lineOf returns the line that a record begins on, whether or not it could be read.
func lineOf(cells *csv.Reader, wrong error) int {
	if e, ok := errors.AsType[*csv.ParseError](wrong); ok {
		return e.StartLine
	}
	line, _ := cells.FieldPos(0)
	return line
}

// rowOnly explains what is wrong with one row alone: the wrong number of cells, or a quote where none can be. After a quoted
// cell that does not end well nobody knows what is a row, and it returns nil.
func rowOnly(wrong error, cells, header int) []fault {
	switch {
	case errors.Is(wrong, csv.ErrFieldCount):
		return []fault{{"", fmt.Sprintf("has %d cells; the header has %d.", cells, header)}}
	case errors.Is(wrong, csv.ErrBareQuote):
		return []fault{{"", "has a quote inside a cell that does not begin with one: quote the cell, and double the quotes in it."}}
	}
	return nil
}

func readRecord(setters []func(*row, string), record []string) (r row, unreadable []fault) {
	for i, cell := range record {
		if !utf8.ValidString(cell) {
			unreadable = append(unreadable, fault{"", fmt.Sprintf("is not UTF-8 in cell %d.", i+1)})
			continue
		}
		setters[i](&r, strings.Clone(cell)) // the record's cells share its memory
	}
	return r, unreadable
}

// csvError explains why no further row can be told apart; after is the line that the last one begins on, 0 before the header.
func csvError(s *source, wrong error, after int) error {
	if e, ok := errors.AsType[*csv.ParseError](wrong); ok && s.failed == nil {
		return &FileError{e.StartLine, "A quoted cell of the row that begins here does not end as it should, so that the rows after it cannot be told apart."}
	}
	if errors.Is(s.failed, errLongRow) && after == 0 {
		return &FileError{1, "The header has more than 64 KiB."}
	}
	if errors.Is(s.failed, errLongRow) {
		return &FileError{after, "The row after the one that begins here has more than 64 KiB: is a quoted cell not closed?"}
	}
	return s.failed
}

// nameForm is what names of columns look like. Anything else may be a value, of a file without a header.
var nameForm = regexp.MustCompile(`^[A-Za-z][A-Za-z _-]{0,30}$`)

// readHeader returns what to do with the cells of each column, or everything that is wrong with the header.
func readHeader(header []string) ([]func(*row, string), error) {
	if !utf8.ValidString(strings.Join(header, "")) {
		return nil, &FileError{1, "The file is not UTF-8: save it as CSV in UTF-8."}
	}
	if len(header) == 1 && strings.ContainsAny(header[0], ";\t") {
		return nil, &FileError{1, "The cells are not separated by commas, but by semicolons or tabs: save it as CSV with commas."}
	}
	var wrong []string
	known := columns()
	setters := make([]func(*row, string), len(header))
	for i, name := range header {
		at := slices.IndexFunc(known, func(c column) bool { return c.name == name })
		switch {
		case at < 0 && nameForm.MatchString(name):
			wrong = append(wrong, fmt.Sprintf("column %d, %s, is not known", i+1, name))
		case at < 0:
			wrong = append(wrong, fmt.Sprintf("column %d is not known", i+1))
		case slices.Contains(header[:i], name):
			wrong = append(wrong, fmt.Sprintf("%s is there twice", name))
		default:
			setters[i] = known[at].set
		}
	}
	for _, c := range known {
		if c.required && !slices.Contains(header, c.name) {
			wrong = append(wrong, c.name+" is missing")
		}
	}
	if wrong != nil {
		return nil, &FileError{1, "The header cannot be used: " + strings.Join(wrong, "; ") + ". Known are: " + strings.Join(Columns(), ", ") + "."}
	}
	return setters, nil
}

func readLines(s *source, from *bufio.Reader, visit visit) error {
	s.most = math.MaxInt64 // lines are bounded one by one
	for line := 1; ; line++ {
		text, fits, err := readLine(from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		ended := err != nil
		var r row
		var unreadable []fault
		if !fits {
			unreadable = []fault{{"", "has more than 64 KiB."}}
		} else if len(bytes.TrimSpace(text)) > 0 {
			r, unreadable = readObject(text)
		} else if ended {
			return nil
		} else {
			continue
		}
		if err := visit(s, line, r, unreadable); err != nil || ended {
			return err
		}
	}
}

// readLine reads to the end of the line, and tells whether it is no longer than a row can be.
func readLine(from *bufio.Reader) (text []byte, fits bool, err error) {
	fits = true
	for {
		part, err := from.ReadSlice('\n')
		if fits = fits && len(text)+len(part) <= maxRow; fits {
			text = append(text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, fits, err
		}
	}
}

func readObject(text []byte) (r row, unreadable []fault) {
	err := strictjson.Decode(text, &r)
	if wrong, ok := errors.AsType[*strictjson.Error](err); ok {
		return row{}, []fault{{"", "cannot be read. " + wrong.Detail}}
	}
	return r, nil
}
