package review

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// byteOrderMark tells spreadsheet programs that the file is UTF-8: without it they read names in the code page of the machine.
const byteOrderMark = "\ufeff"

// columns are those of the file, in their order. New ones are only ever added at the end.
func columns() []string {
	return []string{
		"user_id", "username", "display_name", "role", "team", "status", "password_changed_at", "password_age_days", "password_set_by",
		"hash_scheme", "hash_legacy", "must_change_password", "password_disabled", "last_sign_in_at", "failures", "naming_violations",
		"places", "places_at", "findings",
	}
}

// File is the review of all users that a query asks for, as CSV (RFC 4180 in UTF-8). It begins with Open; nothing has been written
// then.
type File struct {
	pass  *pass
	first []Entry
}

// Open begins a file: it records that the review is exported, and reads the first users, so that what can go wrong is known
// before anything is written.
func (r *Reviewer) Open(ctx context.Context, q Query) (*File, error) {
	if err := r.record(ctx, q, "csv"); err != nil {
		return nil, err
	}
	pass, err := r.pass(q, "", window)
	if err != nil {
		return nil, err
	}
	first, err := pass.next(ctx)
	return &File{pass: pass, first: first}, err
}

// Write writes the lines, one window of users at a time; before each, ready is asked whether to go on.
func (f *File) Write(ctx context.Context, w io.Writer, ready func() error) error {
	var page bytes.Buffer
	page.WriteString(byteOrderMark)
	lines := csv.NewWriter(&page)
	lines.UseCRLF = true
	if err := lines.Write(columns()); err != nil {
		return fmt.Errorf("review: write: %w", err)
	}
	entries := f.first
	f.first = nil
	for {
		for i := range entries {
			if !f.pass.query.wants(&entries[i]) {
				continue
			}
			if err := lines.Write(entries[i].cells()); err != nil {
				return fmt.Errorf("review: write: %w", err)
			}
		}
		lines.Flush()
		if err := send(w, &page, ready); err != nil {
			return err
		}
		if f.pass.over {
			return nil
		}
		var err error
		if entries, err = f.pass.next(ctx); err != nil {
			return err
		}
	}
}

// send writes what is in the page and empties it.
func send(w io.Writer, page *bytes.Buffer, ready func() error) error {
	if page.Len() == 0 {
		return nil
	}
	if err := ready(); err != nil {
		return fmt.Errorf("review: %w", err)
	}
	if _, err := page.WriteTo(w); err != nil {
		return fmt.Errorf("review: write: %w", err)
	}
	return nil
}

// cells are the line of an entry.
func (e *Entry) cells() []string {
	u, age := e.User, ""
	if e.AgeDays != nil {
		age = strconv.Itoa(*e.AgeDays)
	}
	var naming, findings []string
	for _, wrong := range e.Naming {
		naming = append(naming, wrong.Code)
	}
	for _, f := range e.Findings {
		findings = append(findings, string(f))
	}
	cells := []string{
		string(u.ID), u.Username, u.DisplayName, string(u.Role), string(u.Team), string(u.Status), cellTime(u.Password.ChangedAt), age,
		string(u.Password.SetBy), e.Scheme, strconv.FormatBool(e.Legacy), strconv.FormatBool(u.Password.MustChange),
		strconv.FormatBool(u.Password.DisabledAt != nil), cellTime(u.LastSignInAt), strconv.Itoa(e.Failures), strings.Join(naming, " "),
		strconv.Itoa(e.Places), cellTime(&e.PlacesAt), strings.Join(findings, " "),
	}
	for i, cell := range cells {
		cells[i] = harmless(cell)
	}
	return cells
}

func cellTime(at *time.Time) string {
	if at == nil || at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// harmless makes a text of what a spreadsheet program could take for a formula, by an apostrophe before it (OWASP, "CSV
// Injection"): what begins with = + - @, a tab or a carriage return, also in full width, and also behind blanks and signs that
// cannot be seen, which some programs take away. Numbers below zero are not among the cells.
func harmless(cell string) string {
	rest := strings.TrimLeftFunc(cell, func(r rune) bool {
		return r != '\t' && r != '\r' && r != '\n' && (unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
	})
	for _, begins := range []string{"=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "﹢", "﹣", "﹦", "﹫", "−"} {
		if strings.HasPrefix(rest, begins) {
			return "'" + cell
		}
	}
	return cell
}
