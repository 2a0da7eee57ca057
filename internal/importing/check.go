package importing

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/user"
)

// check is the first reading of a file.
type check struct {
	store   Store
	options Options
	now     time.Time

	rows     int
	isBad    map[int]bool // lines of bad rows
	problems []Problem
	seen     map[fingerprint]place // where each id and each folded name was seen first
	accounts map[string]*account
	waiting  []waiting // rows to be looked up in the database
}

// fingerprint stands for an id or a name: of a large file there are millions, and nobody finds two with the same half of a
// SHA-256.
type fingerprint [16]byte

func fingerprintOf(text string) fingerprint {
	sum := sha256.Sum256([]byte(text))
	return fingerprint(sum[:16])
}

// place is a cell that another row may repeat. It has no pointers, so that the collector need not look at it.
type place struct {
	line     int
	column   uint8 // of uniqueColumns
	repeated bool
}

// uniqueColumns are those in which no two rows may have the same; of the names, also not across them.
var uniqueColumns = []string{"id", "username", "email"}

// account is one that rows are in.
type account struct {
	name    string // for one that is made
	named   int    // the line that says so
	lines   []int  // of its rows
	checked bool   // the database was asked
	exists  bool   // and has it
	naming  *identifier.Naming
}

// waiting is what is to be looked up of a row.
type waiting struct {
	line    int
	id      user.ID
	account string
	names   []Name
	email   string // folded, or ""
}

// Name is a folded username or address, with the column that it is in.
type Name struct{ Column, Key string }

// NamesOf lists what the user is called by. An address that is the username too is one name, and an empty one is none.
func NamesOf(u user.User) []Name {
	var names []Name
	if u.Username != "" {
		names = append(names, Name{"username", identifier.Key(u.Username)})
	}
	if u.Email == "" {
		return names
	}
	address := Name{"email", identifier.Key(u.Email)}
	if len(names) == 1 && names[0].Key == address.Key {
		return names
	}
	return append(names, address)
}

func newCheck(store Store, options Options, now time.Time) *check {
	return &check{
		store: store, options: options, now: now, isBad: map[int]bool{}, seen: map[fingerprint]place{}, accounts: map[string]*account{},
	}
}

// file checks every row, and returns the file's digest.
func (c *check) file(ctx context.Context, file io.ReadSeeker) (digest [32]byte, err error) {
	digest, err = readAll(file, c.options.Format, func(s *source, line int, r row, unreadable []fault) error {
		c.rows++
		c.faults(line, unreadable)
		if unreadable == nil {
			c.row(line, r)
		}
		if len(c.waiting) < batchSize {
			return nil
		}
		c.options.Progress(Checking, s.read)
		return c.lookUp(ctx)
	})
	if err != nil {
		return digest, err
	}
	return digest, c.lookUp(ctx)
}

// bad notes what is wrong with a row.
func (c *check) bad(line int, column, detail string) {
	c.isBad[line] = true
	c.problems = append(c.problems, Problem{line, column, detail})
}

func (c *check) faults(line int, faults []fault) {
	for _, f := range faults {
		c.bad(line, f.column, f.detail)
	}
}

// row checks a row by itself and against those before it. Its id and names count even if it is bad, so that everything that
// is wrong with a file is told at once.
func (c *check) row(line int, r row) {
	u, faults := r.user(c.now)
	c.faults(line, faults)
	w := waiting{line: line, names: NamesOf(u)}
	if u.Email != "" {
		w.email = identifier.Key(u.Email)
	}
	if u.ID.Valid() {
		w.id = u.ID
		c.once("id "+r.ID, line, "id") // no name has a space
	}
	for _, n := range w.names {
		c.once(n.Key, line, n.Column)
	}
	if user.ID(u.AccountID).Valid() {
		w.account = u.AccountID
		c.account(line, r)
	}
	c.waiting = append(c.waiting, w)
}

// once notes where an id or a name is. Of rows that have the same, none is good: which of them is meant cannot be told.
func (c *check) once(text string, line int, column string) {
	key := fingerprintOf(text)
	first, known := c.seen[key]
	if !known {
		c.seen[key] = place{line: line, column: uint8(slices.Index(uniqueColumns, column))} //nolint:gosec // one of three
		return
	}
	const detail = "means the same as the %s on line %d."
	c.bad(line, column, fmt.Sprintf(detail, uniqueColumns[first.column], first.line))
	if !first.repeated {
		first.repeated = true
		c.seen[key] = first
		c.bad(first.line, uniqueColumns[first.column], fmt.Sprintf(detail, column, line))
	}
}

func (c *check) account(line int, r row) {
	a, known := c.accounts[r.AccountID]
	if !known {
		a = &account{}
		c.accounts[r.AccountID] = a
	}
	a.lines = append(a.lines, line)
	switch {
	case r.AccountName == "" || r.AccountName == a.name:
	case a.name == "":
		a.name, a.named = r.AccountName, line
	default:
		c.bad(line, "account_name", fmt.Sprintf("is not that of the same account on line %d.", a.named))
	}
}

// lookUp asks the database about the rows that wait for it.
func (c *check) lookUp(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var wanted Wanted
	for _, w := range c.waiting {
		if w.id != "" {
			wanted.IDs = append(wanted.IDs, w.id)
		}
		for _, n := range w.names {
			wanted.Keys = append(wanted.Keys, n.Key)
		}
		if a := c.accounts[w.account]; a != nil && !a.checked {
			a.checked = true
			wanted.Accounts = append(wanted.Accounts, w.account)
		}
	}
	found, err := c.store.Occupied(ctx, wanted)
	if err != nil {
		return err
	}
	for id, rule := range found.Accounts {
		a := c.accounts[id]
		if a.naming, err = rule.Compile(); err != nil {
			return fmt.Errorf("importing: account %s: %w", id, err)
		}
		a.exists = true
	}
	for _, w := range c.waiting {
		c.against(found, w)
	}
	c.waiting = c.waiting[:0]
	return nil
}

// against compares a row with what the database has.
func (c *check) against(found Found, w waiting) {
	if found.IDs[w.id] {
		c.bad(w.line, "id", "is that of a user already.")
	}
	for _, n := range w.names {
		holder, taken := found.Keys[n.Key]
		switch {
		case taken && holder.Held:
			c.bad(w.line, n.Column, fmt.Sprintf("is held for the user %s, who had it before.", holder.UserID))
		case taken:
			c.bad(w.line, n.Column, fmt.Sprintf("is in use by the user %s.", holder.UserID))
		}
	}
	switch a := c.accounts[w.account]; {
	case a == nil:
	case a.exists:
		c.follows(a.naming, w)
	case !c.options.CreateAccounts:
		c.bad(w.line, "account_id", "is not that of an account, and accounts are not to be made.")
	}
}

// follows holds the username of a row against the naming rule of its account.
func (c *check) follows(naming *identifier.Naming, w waiting) {
	if c.options.AnyNames || len(w.names) == 0 || w.names[0].Column != "username" {
		return
	}
	for _, wrong := range naming.Check(w.names[0].Key, w.email) {
		c.bad(w.line, "username", "does not follow the account's naming rule. "+wrong.Detail)
	}
}

// newAccounts returns those that are to be made: the good rows are in them.
func (c *check) newAccounts() []user.Account {
	var made []user.Account
	for _, id := range slices.Sorted(maps.Keys(c.accounts)) {
		a := c.accounts[id]
		if !a.exists && slices.ContainsFunc(a.lines, func(line int) bool { return !c.isBad[line] }) {
			made = append(made, user.Account{ID: id, Name: cmp.Or(a.name, id)})
		}
	}
	return made
}

func (c *check) result() Result {
	r := Result{Rows: c.rows, Bad: len(c.isBad), Problems: slices.Clone(c.problems)}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	for _, a := range c.newAccounts() {
		r.Accounts = append(r.Accounts, a.ID)
	}
	return r
}
