package importing

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

// row is a user as the file describes it. The names in its tags are those of the columns.
type row struct {
	ID                string      `json:"id"`
	AccountID         string      `json:"account_id"`
	AccountName       string      `json:"account_name"` // of an account that is made
	Team              string      `json:"team"`
	Role              string      `json:"role"`
	AlsoManages       []string    `json:"also_manages"`
	Username          string      `json:"username"`
	Email             string      `json:"email"`
	DisplayName       string      `json:"display_name"`
	Status            string      `json:"status"`
	PasswordHash      secret.Text `json:"password_hash"`
	PasswordChangedAt string      `json:"password_changed_at"`
}

// column is one of a CSV file.
type column struct {
	name     string
	required bool
	set      func(r *row, cell string)
}

// columns are all there are, in the order that they are documented in.
func columns() []column {
	return []column{
		{"id", true, func(r *row, cell string) { r.ID = cell }},
		{"account_id", true, func(r *row, cell string) { r.AccountID = cell }},
		{"account_name", false, func(r *row, cell string) { r.AccountName = cell }},
		{"team", true, func(r *row, cell string) { r.Team = cell }},
		{"role", true, func(r *row, cell string) { r.Role = cell }},
		{"also_manages", false, func(r *row, cell string) { r.AlsoManages = teamsIn(cell) }},
		{"username", true, func(r *row, cell string) { r.Username = cell }},
		{"email", false, func(r *row, cell string) { r.Email = cell }},
		{"display_name", false, func(r *row, cell string) { r.DisplayName = cell }},
		{"status", false, func(r *row, cell string) { r.Status = cell }},
		{"password_hash", false, func(r *row, cell string) { r.PasswordHash = secret.New(cell) }},
		{"password_changed_at", false, func(r *row, cell string) { r.PasswordChangedAt = cell }},
	}
}

// Columns lists the names that columns, and members of JSON lines, can have.
func Columns() []string {
	var names []string
	for _, c := range columns() {
		names = append(names, c.name)
	}
	return names
}

// teamsIn splits a cell of several teams. Semicolons stand between them; JSON lines have a list.
func teamsIn(cell string) []string {
	if cell == "" {
		return nil
	}
	return strings.Split(cell, ";")
}

// fault is what is wrong with a cell, in words for the operator that never repeat it.
type fault struct{ column, detail string }

// maxName bounds what people read, in code points; ours.
const maxName = 200

// user makes the user that the row describes, without names that are none, and says everything that is wrong with it.
func (r row) user(now time.Time) (user.User, []fault) {
	u := user.User{
		ID: user.ID(r.ID), AccountID: r.AccountID, Team: user.Team(r.Team), Role: user.Role(r.Role), DisplayName: r.DisplayName,
		Status: user.Status(r.Status), Generation: 1, Version: 1, Revision: 1, CreatedAt: now,
	}
	if r.Status == "" {
		u.Status = user.Active
	}
	for _, team := range r.AlsoManages {
		u.AlsoManages = append(u.AlsoManages, user.Team(team))
	}
	return u, slices.Concat(r.place(u), r.name(&u), r.password(&u, now))
}

// place checks who the user is and where it belongs.
func (r row) place(u user.User) []fault {
	var faults []fault
	add := func(wrong bool, column, detail string) {
		if wrong {
			faults = append(faults, fault{column, detail})
		}
	}
	add(!u.ID.Valid(), "id", "must be 1 to 64 of A-Z, a-z, 0-9, _ and -.")
	add(!user.ID(u.AccountID).Valid(), "account_id", "must be 1 to 64 of A-Z, a-z, 0-9, _ and -.")
	add(!readable(r.AccountName), "account_name", "must have at most 200 characters, and no control characters.")
	add(!u.Team.Valid(), "team", "must be a path like / or /east/boston/.")
	add(!u.Role.Valid(), "role", "must be agent or administrator.")
	add(!u.Status.Valid(), "status", "must be active or disabled; leave it empty for active.")
	add(!readable(r.DisplayName), "display_name", "must have at most 200 characters, and no control characters.")
	badTeam := slices.ContainsFunc(u.AlsoManages, func(t user.Team) bool { return !t.Valid() })
	add(badTeam || len(u.AlsoManages) > user.MaxAlsoManages, "also_manages", "must be at most 50 paths like /east/; in CSV with semicolons between them.")
	add(len(u.AlsoManages) > 0 && u.Role == user.Agent, "also_manages", "is for administrators: an agent manages no teams.")
	return faults
}

// name takes the username and the address over. An import may give an address as username, and a reserved name.
func (r row) name(u *user.User) []fault {
	var faults []fault
	if identifier.LooksLikeEmail(r.Username) {
		address, err := identifier.ParseEmail(r.Username)
		faults, u.Username = append(faults, faultOf("username", err)...), address.Address
	} else {
		name, err := identifier.ParseUsername(r.Username)
		faults, u.Username = append(faults, faultOf("username", err)...), name.Display
	}
	if r.Email != "" {
		address, err := identifier.ParseEmail(r.Email)
		faults, u.Email, u.EmailVerified = append(faults, faultOf("email", err)...), address.Address, true
	}
	return faults
}

func faultOf(column string, err error) []fault {
	if wrong, ok := errors.AsType[*identifier.Error](err); ok {
		return []fault{{column, wrong.Detail}}
	}
	return nil
}

// password takes the hash over. Without one the user has no password until a reset.
func (r row) password(u *user.User, now time.Time) []fault {
	var faults []fault
	if r.PasswordChangedAt != "" {
		at, err := time.Parse(time.RFC3339, r.PasswordChangedAt)
		switch {
		case err != nil:
			faults = append(faults, fault{"password_changed_at", "must be a time like 2024-11-18T14:03:51Z."})
		case at.Before(earliest()):
			faults = append(faults, fault{"password_changed_at", "is before 1970: leave it empty when it is not known."})
		case at.After(now):
			faults = append(faults, fault{"password_changed_at", "is in the future."})
		case r.PasswordHash.Empty():
			faults = append(faults, fault{"password_changed_at", "is given for a user without a password_hash."})
		default:
			u.Password.ChangedAt = &at
		}
	}
	if r.PasswordHash.Empty() {
		return faults
	}
	u.Password.Hash, u.Password.SetBy = r.PasswordHash.Reveal(), user.SetByImport
	if err := password.CheckHash(u.Password.Hash); err != nil {
		faults = append(faults, fault{"password_hash", "cannot be used: " + err.Error() + "."})
	}
	return faults
}

// earliest is when a password can have been set at first. Other systems write their zero for what they do not know, .NET the year 1;
// with an offset from UTC that is a year which neither JSON nor SQLite can give back.
func earliest() time.Time { return time.Unix(0, 0) }

// readable tells whether text can be shown to people, and stored.
func readable(text string) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= maxName && !strings.ContainsFunc(text, unprintable)
}

func unprintable(c rune) bool { return unicode.IsControl(c) }
