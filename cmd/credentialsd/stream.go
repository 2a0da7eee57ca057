package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/signal"
)

// streamCommands are what the operator does with streams of Shared Signals. Receivers create and delete them.
type streamCommands struct {
	List    streamListCommand   `cmd:"" help:"List the streams, with what waits on each and how its delivery goes."`
	Dead    streamDeadCommand   `cmd:"" help:"List the events that a stream's receiver has refused."`
	Retry   streamRetryCommand  `cmd:"" help:"Deliver refused events again."`
	Verify  streamVerifyCommand `cmd:"" help:"Send a stream's receiver a verification event."`
	Enable  streamEnableCommand `cmd:"" help:"Let a stream deliver again, and tell its receiver."`
	Pause   streamPauseCommand  `cmd:"" help:"Hold a stream's events, and tell its receiver."`
	Disable streamStopCommand   `cmd:"" help:"Drop a stream's events from now on, and tell its receiver."`
}

// withStreams opens the database for a command about streams.
func withStreams(ctx context.Context, p process, work func(*signal.Operator) error) error {
	s, _, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	if err := checkMigrated(ctx, s); err != nil {
		return err
	}
	return streamProblem(work(signal.NewOperator(s, p.now)))
}

// streamProblem says in the words of the command line what went wrong.
func streamProblem(err error) error {
	if wrong, is := errors.AsType[*signal.InvalidError](err); is {
		return errors.New(wrong.Detail)
	}
	switch {
	case errors.Is(err, signal.ErrNotFound):
		return errors.New("there is no such stream; credentialsd stream list shows those there are")
	case errors.Is(err, change.ErrConflict):
		return errors.New("the stream was changed at the same time; try again")
	}
	return err
}

type streamListCommand struct{}

// Run lists the streams.
func (streamListCommand) Run(ctx context.Context, p process) error {
	return withStreams(ctx, p, func(o *signal.Operator) error {
		streams, err := o.List(ctx)
		if err != nil {
			return err
		}
		return inColumns(p.stdout, "ID\tCLIENT\tSTATUS\tDELIVERY\tWAITING\tSINCE\tDEAD\tFAILURES\tLAST ERROR", func(line func(string, ...any)) {
			for _, s := range streams {
				delivery, since := "poll", "-"
				if s.Method == signal.Push {
					delivery = "push"
				}
				if s.Oldest != nil {
					since = s.Oldest.Format(time.RFC3339)
				}
				line("%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\n", s.ID, s.ClientID, s.Status, delivery, s.Waiting, since, s.Dead, s.Failures, s.LastError)
			}
		})
	})
}

type streamDeadCommand struct {
	ID    string `arg:"" help:"Id of the stream."`
	Limit int    `help:"The most to list, the oldest first." default:"100"`
}

// Run lists dead letters.
func (c streamDeadCommand) Run(ctx context.Context, p process) error {
	return withStreams(ctx, p, func(o *signal.Operator) error {
		letters, err := o.DeadLetters(ctx, c.ID, c.Limit)
		if err != nil {
			return err
		}
		return inColumns(p.stdout, "JTI\tREFUSED\tQUEUED\tSUBJECT\tTYPE\tWHY", func(line func(string, ...any)) {
			for _, d := range letters {
				line("%s\t%s\t%s\t%s\t%s\t%s\n", d.JTI, d.DeadAt.Format(time.RFC3339), d.CreatedAt.Format(time.RFC3339), d.Subject, d.Type, d.DeadWhy)
			}
		})
	})
}

type streamRetryCommand struct {
	ID  string   `arg:"" help:"Id of the stream."`
	JTI []string `arg:"" optional:"" help:"Which refused events to deliver again; all if none is named."`
}

// Run revives dead letters.
func (c streamRetryCommand) Run(ctx context.Context, p process) error {
	return withStreams(ctx, p, func(o *signal.Operator) error {
		revived, err := o.Retry(ctx, c.ID, c.JTI)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.stdout, "%d will be delivered again\n", revived)
		return err
	})
}

type streamVerifyCommand struct {
	ID string `arg:"" help:"Id of the stream."`
}

// Run queues a verification.
func (c streamVerifyCommand) Run(ctx context.Context, p process) error {
	return withStreams(ctx, p, func(o *signal.Operator) error { return o.Verify(ctx, c.ID) })
}

type streamEnableCommand struct {
	ID     string `arg:"" help:"Id of the stream."`
	Reason string `help:"What the receiver is told."`
}

// Run enables the stream.
func (c streamEnableCommand) Run(ctx context.Context, p process) error {
	return setStatus(ctx, p, c.ID, signal.Enabled, c.Reason)
}

type streamPauseCommand struct {
	ID     string `arg:"" help:"Id of the stream."`
	Reason string `help:"What the receiver is told."`
}

// Run pauses the stream.
func (c streamPauseCommand) Run(ctx context.Context, p process) error {
	return setStatus(ctx, p, c.ID, signal.Paused, c.Reason)
}

type streamStopCommand struct {
	ID     string `arg:"" help:"Id of the stream."`
	Reason string `help:"What the receiver is told."`
}

// Run disables the stream.
func (c streamStopCommand) Run(ctx context.Context, p process) error {
	return setStatus(ctx, p, c.ID, signal.Disabled, c.Reason)
}

func setStatus(ctx context.Context, p process, id string, status signal.Status, reason string) error {
	return withStreams(ctx, p, func(o *signal.Operator) error {
		if err := o.SetStatus(ctx, id, status, reason); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.stdout, "%s is %s\n", id, status)
		return err
	})
}

// inColumns prints a table whose lines each call of line adds.
func inColumns(to io.Writer, head string, lines func(line func(format string, values ...any))) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	var failed error
	line := func(format string, values ...any) {
		if _, err := fmt.Fprintf(table, format, values...); err != nil && failed == nil {
			failed = err
		}
	}
	line("%s\n", head)
	lines(line)
	return errors.Join(failed, table.Flush())
}
