// Command credentialsd owns the login credentials of SalesExec: it serves the API, runs it for development, migrates the
// database, creates the first administrator, and verifies, exports and prunes the audit trail.
//
// Everything is wired here by hand; it depends on every package of the project.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], process{getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now, limitMemory: limitMemory})
	stop()
	os.Exit(code)
}

// process is what a command has of the process it runs in; tests give another.
type process struct {
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    func() time.Time
	// limitMemory tells the collector how much the process should take; nil where it is not one's own.
	limitMemory func(bytes int64)
	// checkedAtStart replaces the constant of that name, unless it is 0.
	checkedAtStart int64
}

// limitMemory steers the collector, unless the operator did so by GOMEMLIMIT.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}

type commands struct {
	Dev     devCommand   `cmd:"" help:"Run the service for development: embedded database, demo accounts, loopback only."`
	Serve   serveCommand `cmd:"" help:"Run the service, configured by environment variables."`
	Migrate struct {
		Up     migrateUpCommand     `cmd:"" help:"Bring the database's schema up to date."`
		Status migrateStatusCommand `cmd:"" help:"List the migrations and whether they are applied."`
	} `cmd:"" help:"Migrate the database named by DATABASE_URL."`
	User struct {
		Create userCreateCommand `cmd:"" help:"Create a user, with the account if it is new, and print a temporary password once."`
	} `cmd:"" help:"Manage users from the command line."`
	Client clientCommands `cmd:"" help:"Manage the services that may call this one."`
	Audit  struct {
		Verify auditVerifyCommand `cmd:"" help:"Verify an exported audit trail without the database. Exit code 3: it is not intact."`
		Export auditExportCommand `cmd:"" help:"Write the whole audit trail of an account as lines that can be verified."`
		Prune  auditPruneCommand  `cmd:"" help:"Remove the oldest events of the audit trails; what is left stays verifiable. For the owner of the tables."`
	} `cmd:"" help:"Work with the audit trail."`
	Stream    streamCommands   `cmd:"" help:"Look after streams of Shared Signals."`
	Breach    breachCommands   `cmd:"" help:"Make and try the filter of breached passwords that BREACHED_PASSWORDS_FILTER names."`
	Import    importCommand    `cmd:"" help:"Import the users of another system with their password hashes, from a CSV file or JSON lines."`
	BulkReset bulkResetCommand `cmd:"" help:"Reset the passwords of many users as a job of a running service, and follow it."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// exit is how kong's wish to end the process travels up to run.
type exit struct{ code int }

// run executes one command and returns the process's exit code: 0 done, 1 failed, 3 an audit trail is not intact or a password
// is listed as breached, 80 wrongly called.
func run(ctx context.Context, args []string, p process) (code int) {
	defer func() {
		switch panicked := recover().(type) {
		case nil:
		case exit:
			code = panicked.code
		default:
			panic(panicked) // a fault of the program, which must not look like a good end
		}
	}()
	var cli commands
	parser, err := kong.New(&cli,
		kong.Name("credentialsd"),
		kong.Description("The login credentials of SalesExec: usernames, e-mails and passwords."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(code int) { panic(exit{code}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Help(help),
		kong.Bind(p),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return fail(p, err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(p.stderr, "credentialsd: %v\nTry credentialsd --help.\n", err)
		return 80
	}
	switch err := command.Run(); {
	case errors.Is(err, errListed):
		return 3 // that was said already, as a result
	case err != nil:
		return fail(p, err)
	}
	return 0
}

func fail(p process, err error) int {
	text := err.Error()
	if strings.Contains(text, "\n") { // several problems at once, a line each
		text = "cannot start:\n  " + strings.ReplaceAll(text, "\n", "\n  ")
	}
	fmt.Fprintln(p.stderr, "credentialsd:", text)
	if _, broken := errors.AsType[*audit.BrokenError](err); broken || errors.Is(err, store.ErrBrokenChain) {
		return 3
	}
	return 1
}

// help shows what kong knows of a command, and the variables that every command reads.
func help(options kong.HelpOptions, c *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, c); err != nil {
		return err
	}
	_, err := fmt.Fprint(c.Stdout, "\n", variables(), "\n")
	return err
}

// variables lists the environment variables for --help.
func variables() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, v := range config.Variables() {
		name, unset := v.Name, v.Default
		if v.Secret {
			name += "*"
		}
		if v.Required {
			unset = "required by serve"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", name, v.Help, unset)
	}
	_ = table.Flush() // writes to memory
	return "Environment (variables marked * can also be read from a file named by NAME_FILE):\n\n  " + strings.ReplaceAll(strings.TrimRight(text.String(), "\n"), "\n", "\n  ")
}

type versionCommand struct{}

// Run prints the version that the program was built with.
func (versionCommand) Run(p process) error {
	_, err := fmt.Fprintln(p.stdout, "credentialsd", version())
	return err
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return info.Main.Version + " " + setting.Value
		}
	}
	return info.Main.Version
}
