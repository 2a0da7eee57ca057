// Package importing brings the users of another system in, with their ids and the hashes of their passwords, from a CSV file or
// a file of JSON lines.
//
// Everything is checked before anything is written, in a first reading of the file; a second one writes in one transaction.
// So a file of any size takes memory for the ids, names and addresses in it only. The package depends on packages identifier,
// password and user for what may be stored and on audit for the events; the database is behind Store.
package importing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/user"
)

// Format is how a file is written.
type Format string

// The formats.
const (
	CSV    Format = "csv"    // RFC 4180 in UTF-8, with a header of column names
	NDJSON Format = "ndjson" // one JSON object a line
)

// FormatOf tells the format by the end of a file's name, or "".
func FormatOf(name string) Format {
	for _, format := range []Format{CSV, NDJSON} {
		if strings.HasSuffix(strings.ToLower(name), "."+string(format)) {
			return format
		}
	}
	return ""
}

// Problem is one reason why a row is bad.
type Problem struct {
	Line   int    // where the row begins in the file, from 1
	Column string // empty when it is about the row as a whole
	Detail string // for the operator; never a value of the row
}

// FileError says that a file cannot be read any further, so that nothing of it is imported.
type FileError struct {
	Line   int // about where
	Detail string
}

// Error says where and why.
func (e *FileError) Error() string { return fmt.Sprintf("importing: line %d: %s", e.Line, e.Detail) }

// ErrChanged says that the file was changed while it was imported; nothing was written.
var ErrChanged = errors.New("importing: the file was changed meanwhile")

// Entry is a user to be stored, with the event that tells of it.
type Entry struct {
	Line  int
	User  user.User
	Event audit.Event
}

// Load is what one transaction writes.
type Load struct {
	Accounts []user.Account // made if they are not there
	// Entries hands out the users in batches, from the first each time it is ranged over: a transaction may be tried again.
	Entries iter.Seq2[[]Entry, error]
	// LeaveOut leaves those out whose id or names are not free; else nothing is written when there is one.
	LeaveOut bool
}

// Taken is an entry whose id, username or e-mail address was not free when it was to be written.
type Taken struct {
	Line   int
	Column string // "id", "username" or "email"; empty when it is free again by now
}

// Wanted is what an import asks about.
type Wanted struct {
	IDs      []user.ID
	Keys     []string // folded usernames and addresses
	Accounts []string
}

// Found is what there is of it in the database.
type Found struct {
	IDs      map[user.ID]bool
	Keys     map[string]Holder          // those that nobody else can take
	Accounts map[string]identifier.Rule // with what they ask of usernames
}

// Holder says whose an identifier is.
type Holder struct {
	UserID user.ID
	Held   bool // released by that user, who alone can take it back
}

// Store is what an import needs of the database.
type Store interface {
	// Occupied looks up what is there already.
	Occupied(ctx context.Context, wanted Wanted) (Found, error)
	// ImportUsers writes the load in one transaction, and returns the entries that were taken. If there are any and the
	// load does not leave them out, nothing was written.
	ImportUsers(ctx context.Context, load Load) ([]Taken, error)
}

// Stage is what an import is doing.
type Stage string

// The stages, in their order.
const (
	Checking Stage = "checking"
	Writing  Stage = "writing"
)

// Options say how to import.
type Options struct {
	Format         Format
	DryRun         bool   // check only
	SkipBad        bool   // write the good rows although there are bad ones
	CreateAccounts bool   // make accounts that are not there
	AnyNames       bool   // take usernames that do not follow the naming rules of their accounts, and reserved ones
	Reason         string // kept with each event; at most 500 code points
	// Progress, if given, is told after every batch how many bytes of the file the stage has read.
	Progress func(stage Stage, read int64)
}

// maxReason bounds a reason in code points, as everywhere.
const maxReason = 500

func (o Options) validate() error {
	switch {
	case o.Format != CSV && o.Format != NDJSON:
		return errors.New("importing: the file is neither .csv nor .ndjson")
	case utf8.RuneCountInString(o.Reason) > maxReason || strings.ContainsFunc(o.Reason, unprintable):
		return errors.New("importing: a reason has at most 500 characters, and no control characters")
	}
	return nil
}

// Result is what came of an import.
type Result struct {
	Rows     int       // in the file
	Bad      int       // of them
	Written  int       // users; 0 unless the import was made
	Accounts []string  // ids of those that were made, or would be
	Problems []Problem // in the order of their lines
}

// Importer imports users.
type Importer struct {
	store Store
	now   func() time.Time
}

// New returns an importer that writes to the store.
func New(store Store, now func() time.Time) *Importer { return &Importer{store: store, now: now} }

// Run checks the whole file and, unless it is a dry run or something is wrong, writes its users in one transaction: whatever
// stops it, all of them are there afterwards or none. What is wrong with rows is in the result. Errors are *FileError,
// ErrChanged, the context's error up to the moment of the commit, and those of the store and the file.
func (i *Importer) Run(ctx context.Context, file io.ReadSeeker, o Options) (Result, error) {
	if err := o.validate(); err != nil {
		return Result{}, err
	}
	if o.Progress == nil {
		o.Progress = func(Stage, int64) {}
	}
	c := newCheck(i.store, o, i.now())
	digest, err := c.file(ctx, file)
	result := c.result()
	if err != nil || o.DryRun || (result.Bad > 0 && !o.SkipBad) || result.Rows == result.Bad {
		return result, err
	}
	w := &writing{check: c, file: file, digest: digest}
	// Once everything is handed over, the commit is not broken off: nobody could tell whether it was made.
	taken, err := i.store.ImportUsers(context.WithoutCancel(ctx), Load{Accounts: c.newAccounts(), Entries: w.entries(ctx), LeaveOut: o.SkipBad})
	if err != nil {
		return result, err
	}
	for _, t := range taken {
		c.bad(t.Line, t.Column, "was taken while the file was imported.")
	}
	result = c.result()
	if len(taken) == 0 || o.SkipBad {
		result.Written = result.Rows - result.Bad
	}
	return result, nil
}

// batchSize is how many users are looked up and written at once.
const batchSize = 500

// writing is the second reading of a file.
type writing struct {
	check  *check
	file   io.ReadSeeker
	digest [32]byte // of the first reading
}

// entries hands out the good rows in batches.
func (w *writing) entries(ctx context.Context) iter.Seq2[[]Entry, error] {
	return func(yield func([]Entry, error) bool) {
		var batch []Entry
		hand := func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if whole := batch; len(whole) > 0 && !yield(whole, nil) {
				return errStopped
			}
			batch = nil
			return nil
		}
		digest, err := readAll(w.file, w.check.options.Format, func(s *source, line int, r row, unreadable []fault) error {
			if w.check.isBad[line] {
				return nil
			}
			u, faults := r.user(w.check.now)
			if unreadable != nil || faults != nil {
				return ErrChanged
			}
			if batch = append(batch, w.entry(line, u)); len(batch) < batchSize {
				return nil
			}
			w.check.options.Progress(Writing, s.read)
			return hand()
		})
		if _, unreadable := errors.AsType[*FileError](err); unreadable || err == nil && digest != w.digest {
			err = ErrChanged
		}
		if err == nil {
			err = hand()
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
}

// errStopped says that nobody wants further rows.
var errStopped = errors.New("importing: stopped")

func (w *writing) entry(line int, u user.User) Entry {
	event := audit.New(audit.UserImported, audit.Done, access.Actor{Kind: access.Operator}, u, access.Origin{}, w.check.now)
	event.Reason = w.check.options.Reason
	event.Details.Scheme = password.Scheme(u.Password.Hash)
	return Entry{Line: line, User: u, Event: event}
}
