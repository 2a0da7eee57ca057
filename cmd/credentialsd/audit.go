package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/store"
)

type auditVerifyCommand struct {
	File    string   `arg:"" help:"Export of an audit trail; - for standard input."`
	Head    []string `help:"Chain value that was noted earlier, from the log or the integrity check: it must be in the file. Can be given several times."`
	Partial bool     `help:"Accept an export that was narrowed by a filter: each of its events is checked, but not that none is missing."`
}

var headForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Validate refuses heads that are none.
func (c auditVerifyCommand) Validate() error {
	for _, head := range c.Head {
		if !headForm.MatchString(head) {
			return fmt.Errorf("--head must be 64 of 0-9 and a-f")
		}
	}
	return nil
}

// Run verifies an export without the service and its database.
func (c auditVerifyCommand) Run(p process) error {
	file, err := c.open(p)
	if err != nil {
		return err
	}
	defer closeQuietly(file)
	found, err := audit.Verify(file, audit.Expected{Heads: c.Head, Partial: c.Partial})
	if errors.Is(err, audit.ErrPartial) {
		return fmt.Errorf("%s: %w. With --partial each event is checked by itself; a head can be looked for in a whole export only", c.File, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return c.report(p.stdout, found)
}

func (c auditVerifyCommand) open(p process) (io.ReadCloser, error) {
	if c.File == "-" {
		return io.NopCloser(p.stdin), nil
	}
	return os.Open(c.File)
}

func (c auditVerifyCommand) report(w io.Writer, found audit.Verified) error {
	text := fmt.Sprintf("intact: all %d events of account %s, number %d to %d\n", found.Events, found.AccountID, found.After+1, found.Sequence)
	if found.Partial {
		text = fmt.Sprintf("each of the %d events of account %s in this file is as it was sealed; others were left out when it was made\n", found.Events, found.AccountID)
	}
	if found.After > 0 && !found.Partial {
		text += fmt.Sprintf("events up to number %d were pruned earlier, as the trail itself tells\n", found.After)
	}
	for _, head := range c.Head {
		text += fmt.Sprintf("the noted head %s is that of event number %d\n", head, found.Heads[head])
	}
	if !found.Partial {
		text += fmt.Sprintf("head: %s\n", found.Head)
	}
	_, err := io.WriteString(w, text)
	return err
}

type auditExportCommand struct {
	Account string `help:"Id of the account; - for the trail of names nobody has." required:""`
	Output  string `help:"File to make; standard output if not given." type:"path"`
}

// Run writes the whole trail of an account.
func (c auditExportCommand) Run(ctx context.Context, p process) error {
	s, _, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	export, err := audit.NewTrail(s, p.now).Open(ctx, audit.Query{Actor: access.Actor{Kind: access.Operator}, AccountID: c.Account})
	if errors.Is(err, audit.ErrNoTrail) {
		return fmt.Errorf("there is no account %s", c.Account)
	}
	if err != nil {
		return err
	}
	if c.Output == "" {
		return export.Write(ctx, p.stdout, ctx.Err)
	}
	file, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(export.Write(ctx, file, ctx.Err), file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Output))
	}
	return nil
}

type auditPruneCommand struct {
	OlderThan time.Duration `help:"Age from which events go, 720h or more; AUDIT_RETENTION if not given."`
	Account   string        `help:"Id of the one account that is pruned; all if not given."`
	Yes       bool          `help:"Remove them. Without it the command only says what it would remove."`
}

// Run prunes the trails, as the owner of the tables.
func (c auditPruneCommand) Run(ctx context.Context, p process) error {
	s, settings, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	age := c.OlderThan
	if age == 0 {
		age = settings.AuditRetention
	}
	if age < config.LeastRetention {
		return fmt.Errorf("give --older-than or AUDIT_RETENTION, %s or more", config.LeastRetention)
	}
	chains, err := s.Chains(ctx)
	if err != nil {
		return err
	}
	if c.Account != "" {
		if !slices.Contains(chains, c.Account) {
			return fmt.Errorf("there is no account %s", c.Account)
		}
		chains = []string{c.Account}
	}
	for _, account := range chains {
		if err := c.prune(ctx, p, s, account, p.now().Add(-age)); err != nil {
			return err
		}
	}
	if !c.Yes {
		_, err = fmt.Fprintln(p.stdout, "Nothing was removed. Export what will go, keep the file, and run this again with --yes:\n  credentialsd audit export --account ID --output FILE")
	}
	return err
}

func (c auditPruneCommand) prune(ctx context.Context, p process, s *store.Store, account string, olderThan time.Time) error {
	plan, err := s.PlanPruning(ctx, account, olderThan)
	if errors.Is(err, store.ErrBrokenChain) {
		return fmt.Errorf("%w. Nothing is pruned from a trail that is not intact: export it and look into it", err)
	}
	if err != nil {
		return err
	}
	if !c.Yes {
		if plan.Events == 0 {
			return nil
		}
		_, err = fmt.Fprintf(p.stdout, "account %s: %d events would go, up to number %d of %s\n", account, plan.Events, plan.Checkpoint.Sequence, plan.Newest.Format(time.RFC3339))
		return err
	}
	if err := s.Prune(ctx, account, plan); err != nil {
		return err
	}
	if plan.Events == 0 {
		return nil
	}
	_, err = fmt.Fprintf(p.stdout, "account %s: %d events are gone, up to number %d of %s; the chain goes on from %s\n",
		account, plan.Events, plan.Checkpoint.Sequence, plan.Newest.Format(time.RFC3339), plan.Checkpoint.Chain)
	return err
}
