package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/importing"
)

type importCommand struct {
	File           string `arg:"" help:"The users: a .csv file in UTF-8 with a header, or an .ndjson file with one JSON object a line." type:"path"`
	DryRun         bool   `help:"Check everything and write nothing."`
	SkipBad        bool   `help:"Import the good rows although there are bad ones; without it one bad row keeps all out."`
	CreateAccounts bool   `help:"Make the accounts that are not there yet, named by account_name or else by their id."`
	AnyNames       bool   `help:"Take usernames too that do not follow the naming rules of their accounts."`
	Reason         string `help:"Kept with the audit event of each user; at most 500 characters."`
}

// Help describes the file.
func (importCommand) Help() string {
	return "Columns, or members of the objects: " + strings.Join(importing.Columns(), ", ") + ". " +
		"Required are id, account_id, team, role and username. password_hash takes argon2id, argon2i and PBKDF2 as PHC strings, bcrypt, and what ASP.NET Core Identity stores; " +
		"without it a user has no password until a reset. In CSV, semicolons stand between the teams of also_manages."
}

// Run imports the file, lists every bad row, and says what was done.
func (c importCommand) Run(ctx context.Context, p process) error {
	format := importing.FormatOf(c.File)
	if format == "" {
		return errors.New("the name of the file must end with .csv or .ndjson")
	}
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer closeQuietly(file)
	about, err := file.Stat()
	if err != nil {
		return err
	}
	if !about.Mode().IsRegular() { // it is read twice
		return fmt.Errorf("%s is not a regular file", c.File)
	}
	s, _, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	if err := checkMigrated(ctx, s); err != nil {
		return err
	}
	started := p.now()
	var share float64
	bar := newProgress(p, func() float64 { return share })
	last := importing.Checking
	result, err := importing.New(s, p.now).Run(ctx, file, importing.Options{
		Format: format, DryRun: c.DryRun, SkipBad: c.SkipBad, CreateAccounts: c.CreateAccounts, AnyNames: c.AnyNames, Reason: c.Reason,
		Progress: func(stage importing.Stage, read int64) {
			if stage != last {
				last, bar.started = stage, p.now()
			}
			share = float64(read) / float64(about.Size())
			bar.show(string(stage))
		},
	})
	bar.end()
	return errors.Join(c.list(p, result.Problems), c.conclude(p, result, err, p.now().Sub(started)))
}

// list prints what is wrong, a line for each.
func (importCommand) list(p process, problems []importing.Problem) error {
	out := bufio.NewWriter(p.stdout)
	for _, problem := range problems {
		if _, err := fmt.Fprintf(out, "line %d: %s\n", problem.Line, sentence(problem)); err != nil {
			return err
		}
	}
	return out.Flush()
}

// sentence puts the column before what is wrong with it, which is a predicate or else a sentence of its own.
func sentence(p importing.Problem) string {
	first, _ := utf8.DecodeRuneInString(p.Detail)
	switch {
	case p.Column == "":
		return p.Detail
	case unicode.IsUpper(first):
		return p.Column + ": " + p.Detail
	}
	return p.Column + " " + p.Detail
}

// conclude says what became of the file; an error, when it is not what was asked for.
func (c importCommand) conclude(p process, r importing.Result, err error, took time.Duration) error {
	unreadable, isFile := errors.AsType[*importing.FileError](err)
	switch {
	case isFile:
		return fmt.Errorf("nothing was imported: line %d: %s", unreadable.Line, unreadable.Detail)
	case errors.Is(err, importing.ErrChanged):
		return errors.New("nothing was imported: the file was changed meanwhile")
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; nothing was imported")
	case err != nil:
		return fmt.Errorf("import: %w", err)
	case r.Bad > 0 && !c.SkipBad:
		return fmt.Errorf("nothing was imported: %d of %d rows are bad; mend them, or leave them out with --skip-bad", r.Bad, r.Rows)
	}
	done := "imported %d of %d rows in %s\n"
	accounts := "accounts made: %s\n"
	if c.DryRun {
		done, accounts = "%d of %d rows can be imported; checked in %s\n", "accounts to be made: %s\n"
	}
	text := fmt.Sprintf(done, r.Rows-r.Bad, r.Rows, took.Round(time.Millisecond))
	if len(r.Accounts) > 0 {
		text += fmt.Sprintf(accounts, strings.Join(r.Accounts, ", "))
	}
	_, err = fmt.Fprint(p.stdout, text)
	return err
}
