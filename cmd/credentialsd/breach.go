package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/password/breach"
	"github.com/salesexec/credentials/internal/secret"
)

type breachCommands struct {
	Build breachBuildCommand `cmd:"" help:"Make the filter of a list of breached passwords."`
	Check breachCheckCommand `cmd:"" help:"Tell whether one password, typed or piped in, is on a filter's list. Exit code 0: it is not, 3: it is."`
}

type breachBuildCommand struct {
	From       string `help:"List of Have I Been Pwned, ordered by hash: lines HASH:COUNT with SHA-1 hashes, packed with gzip or not; - for standard input." required:"" placeholder:"FILE|-"`
	Out        string `help:"File to write the filter to. It appears, or is replaced, once the filter is complete." required:"" placeholder:"FILTER"`
	MinCount   int64  `help:"Leave out passwords that were seen less often than this." default:"1" placeholder:"N"`
	SourceDate string `help:"Date of the list, like 2026-01-31; that of the file, or today for standard input, if not given." placeholder:"DATE"`
}

// Run builds the filter until it is complete or the context is over.
func (b breachBuildCommand) Run(ctx context.Context, p process) error {
	if b.MinCount < 1 {
		return errors.New("--min-count must be 1 or more")
	}
	from, err := b.open(p)
	if err != nil {
		return err
	}
	defer closeQuietly(from)
	config := breach.BuildConfig{MinCount: b.MinCount, SourceDate: from.date}
	if b.SourceDate != "" {
		if config.SourceDate, err = time.Parse(time.DateOnly, b.SourceDate); err != nil {
			return fmt.Errorf("--source-date must be a date like 2026-01-31, not %q", b.SourceDate)
		}
	}
	bar := newProgress(p, from.share)
	config.Progress = func(lines int64) { bar.show(fmt.Sprintf("%.1f million lines", float64(lines)/1e6)) }
	built, err := breach.Build(ctx, from, b.Out, config)
	bar.end()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %s is as it was", b.Out)
	}
	if err != nil {
		return err
	}
	if built.Missing > 0 {
		fmt.Fprintf(p.stderr, "credentialsd: warning: about %d lines seem to be missing after line %d: was the list downloaded whole?\n", built.Missing, built.MissingAfter)
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %d entries of %d lines, %d bytes (%.2f an entry), source date %s, minimum count %d\n", b.Out, built.Entries, built.Lines,
		built.Size, float64(built.Size)/float64(built.Entries), built.SourceDate.Format(time.DateOnly), built.MinCount)
	return err
}

// source is a list being read.
type source struct {
	io.Reader
	file *os.File // nil for standard input
	size int64    // 0 if it is not known
	date time.Time
	read atomic.Int64 // bytes so far
}

func (b breachBuildCommand) open(p process) (*source, error) {
	if b.From == "-" {
		if p.stdin == nil {
			return nil, errors.New("there is no standard input")
		}
		return &source{Reader: p.stdin, date: p.now()}, nil
	}
	file, err := os.Open(b.From)
	if err != nil {
		return nil, err
	}
	stat, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if out, err := os.Stat(b.Out); err == nil && os.SameFile(stat, out) {
		return nil, errors.Join(errors.New("--from and --out are the same file"), file.Close())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, file.Close())
	}
	opened := &source{Reader: file, file: file, date: stat.ModTime()}
	if stat.Mode().IsRegular() {
		opened.size = stat.Size()
	}
	return opened, nil
}

// share is how much of the list was read: negative if its size is not known.
func (s *source) share() float64 {
	if s.size == 0 {
		return -1
	}
	return float64(s.read.Load()) / float64(s.size)
}

// Read counts what is read.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.read.Add(int64(n))
	return n, err
}

// Close closes a file, and leaves standard input to whoever gave it.
func (s *source) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

type breachCheckCommand struct {
	Filter string `help:"File made by breach build." required:"" placeholder:"FILTER"`
}

// errListed is how a command ends that has said that a password is on the list: a result, not a failure.
var errListed = errors.New("the password is listed as breached")

// Run checks the whole filter, reads a password and says whether it is on the list.
func (c breachCheckCommand) Run(ctx context.Context, p process) error {
	filter, err := breach.Open(c.Filter, nil)
	if err != nil {
		return err
	}
	defer closeQuietly(filter)
	candidate, err := readPassword(ctx, p)
	if err != nil {
		return err
	}
	if err := filter.Verify(ctx); err != nil {
		return err
	}
	info := filter.Info()
	of := fmt.Sprintf("the list of %d breached passwords of %s", info.Entries, info.SourceDate.Format(time.DateOnly))
	if !filter.Contains(password.Normalize(candidate)) {
		_, err = fmt.Fprintln(p.stdout, "not on", of)
		return err
	}
	if _, err := fmt.Fprintln(p.stdout, "on", of); err != nil {
		return err
	}
	return errListed
}

// maxPassword is the longest line in bytes that is read as a password: far above what the policy accepts.
const maxPassword = 8 << 10

// readPassword reads a password from the terminal without showing it, or the first line of what is piped in.
func readPassword(ctx context.Context, p process) (secret.Text, error) {
	if p.stdin == nil {
		return secret.Text{}, errors.New("there is no standard input")
	}
	var typed string
	var err error
	if from, ok := p.stdin.(*os.File); ok && isTerminal(from) {
		typed, err = readUnseen(ctx, p, int(from.Fd()))
	} else {
		typed, err = readLine(p.stdin)
	}
	if err != nil {
		return secret.Text{}, fmt.Errorf("read the password: %w", err)
	}
	if typed == "" {
		return secret.Text{}, errors.New("no password was given")
	}
	return secret.New(typed), nil
}

func readLine(from io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(from, maxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if len(line) > maxPassword {
		return "", fmt.Errorf("it has more than %d bytes", maxPassword)
	}
	return line, nil
}

// readUnseen reads a line that the terminal does not echo. When the context ends before it is there, the terminal is put
// back as it was.
func readUnseen(ctx context.Context, p process, terminal int) (string, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	fmt.Fprint(p.stderr, "Password: ")
	type answer struct {
		typed []byte
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		typed, err := term.ReadPassword(terminal)
		answered <- answer{typed, err}
	}()
	defer fmt.Fprintln(p.stderr) // the end of the line was not echoed either
	select {
	case a := <-answered:
		return string(a.typed), a.err
	case <-ctx.Done():
		return "", errors.Join(errors.New("interrupted"), term.Restore(terminal, before))
	}
}

func isTerminal(file *os.File) bool {
	return term.IsTerminal(int(file.Fd()))
}
