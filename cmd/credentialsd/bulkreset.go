package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/salesexec/credentials/pkg/client"
)

type bulkResetCommand struct {
	Server    string `required:"" help:"Address of the service, like https://credentials.example.com." placeholder:"URL"`
	Reason    string `help:"Why, for the audit trail and the users' mails; at most 500 characters."`
	Users     string `help:"A file with the ids of the users, one a line; - is standard input." placeholder:"FILE"`
	Team      string `help:"Users of this team and of those below it; / is everybody." placeholder:"PATH"`
	Role      string `help:"Only users of this role." enum:"agent,administrator," default:""`
	Status    string `help:"Only users of this status." enum:"active,disabled," default:""`
	Query     string `help:"Only users whose username, e-mail or display name holds this." placeholder:"TEXT"`
	Method    string `help:"How users get at a new password: a temporary one that you hand out, or a mailed link." enum:"temporary,link" default:"temporary"`
	Account   string `help:"The account, for a service of every account." placeholder:"ID"`
	DryRun    bool   `help:"Only list who would be reset, and who not and why."`
	Job       string `help:"Follow a job that was begun before, instead of beginning one." placeholder:"ID"`
	Cancel    bool   `help:"Cancel the job named by --job; who was reset stays so."`
	Passwords string `help:"Where to write the temporary passwords, as CSV, when the job is over: a new file, or one to append to with --job. Each is handed out once." placeholder:"FILE" type:"path"`
}

// Names of the environment variables with which a bulk reset proves who wants it.
const (
	tokenVariable        = "CREDENTIALS_TOKEN"
	clientIDVariable     = "CREDENTIALS_CLIENT_ID"
	clientSecretVariable = "CREDENTIALS_CLIENT_SECRET"
)

// Help tells how to prove who one is.
func (bulkResetCommand) Help() string {
	return "It calls the service as an administrator with the access token in " + tokenVariable + ", or as a service with " + clientIDVariable + " and " +
		clientSecretVariable + ". The job runs in the service: an interrupted command leaves it running, and --job follows it again."
}

// jobPoll is how often a running job is asked how far it is.
const jobPoll = 500 * time.Millisecond

// Run begins a job or takes up one, shows how far it is until it is over, and fetches the passwords if wanted.
func (c bulkResetCommand) Run(ctx context.Context, p process) error {
	err := c.run(ctx, p)
	if refused, ok := errors.AsType[*client.Error](err); ok {
		for _, wrong := range refused.Errors {
			err = fmt.Errorf("%w; %s: %s", err, wrong.Pointer, wrong.Detail)
		}
		return fmt.Errorf("%w: %s", err, refused.Detail)
	}
	return err
}

func (c bulkResetCommand) run(ctx context.Context, p process) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	if c.Job != "" {
		return c.takeUp(ctx, p, api)
	}
	if c.Cancel {
		return errors.New("name the job to cancel with --job")
	}
	wanted, err := c.wanted(p)
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.preview(ctx, p, api, wanted)
	}
	out, err := c.passwordFile(os.O_EXCL) // before anything is reset: a wrong path must not cost passwords
	if err != nil {
		return err
	}
	defer closeQuietly(out)
	job, err := api.BeginPasswordResetJob(ctx, c.Account, wanted)
	if err != nil {
		if out != nil { // nothing is in it, and the next try needs a new one
			return errors.Join(err, os.Remove(out.Name()))
		}
		return err
	}
	if _, err := fmt.Fprintf(p.stderr, "job %s resets %d users\n", job.ID, job.Total); err != nil {
		return err
	}
	return c.follow(ctx, p, api, job.ID, out)
}

// connect makes a client of who the environment says calls.
func (c bulkResetCommand) connect(p process) (*client.Client, error) {
	token, id, proof := p.getenv(tokenVariable), p.getenv(clientIDVariable), p.getenv(clientSecretVariable)
	switch {
	case token != "":
		return client.New(c.Server, client.WithToken(func(context.Context) (string, error) { return token, nil }))
	case id != "" && proof != "":
		return client.New(c.Server, client.WithClientCredentials(id, proof))
	}
	return nil, fmt.Errorf("set %s, or %s and %s", tokenVariable, clientIDVariable, clientSecretVariable)
}

// wanted is the job that the flags ask for.
func (c bulkResetCommand) wanted(p process) (client.PasswordResetJobWanted, error) {
	method := client.PasswordResetJobWantedMethod(c.Method)
	wanted := client.PasswordResetJobWanted{Reason: c.Reason, Method: &method}
	filter := client.UserFilter{Team: given(c.Team), Query: given(c.Query), Role: given(client.Role(c.Role)), Status: given(client.UserStatus(c.Status))}
	filtered := filter != (client.UserFilter{})
	switch {
	case filtered && c.Users != "":
		return wanted, errors.New("give either --users, or --team, --role, --status and --query")
	case filtered:
		wanted.Filter = &filter
		return wanted, nil
	case c.Users == "":
		return wanted, errors.New(`say whom to reset: --users FILE, or --team, --role, --status, --query; everybody is --team /`)
	}
	source := p.stdin
	if c.Users != "-" {
		file, err := os.Open(c.Users)
		if err != nil {
			return wanted, err
		}
		defer closeQuietly(file)
		source = file
	}
	lines := bufio.NewScanner(source)
	for lines.Scan() {
		if id := strings.TrimSpace(lines.Text()); id != "" {
			wanted.UserIds = append(wanted.UserIds, id)
		}
	}
	if lines.Err() == nil && len(wanted.UserIds) == 0 {
		return wanted, errors.New("there is no id in " + c.Users)
	}
	return wanted, lines.Err()
}

// given is what an optional flag says, nil when it was not given.
func given[T ~string](value T) *T {
	if value == "" {
		return nil
	}
	return &value
}

// preview lists everybody whom the job would look at, and counts them.
func (c bulkResetCommand) preview(ctx context.Context, p process, api *client.Client, wanted client.PasswordResetJobWanted) error {
	limit := 200
	params := client.BeginPasswordResetJobParams{AccountID: given(c.Account), Limit: &limit}
	var summary *client.PasswordResetJobSummary
	for {
		page, err := api.PreviewPasswordResetJob(ctx, params, wanted)
		if err != nil {
			return err
		}
		summary = cmp.Or(summary, page.Summary) // of the first page
		if _, err := p.stdout.Write(foreseen(page)); err != nil {
			return err
		}
		if page.NextCursor == nil {
			break
		}
		params.Cursor = page.NextCursor
	}
	if summary == nil {
		return errors.New("the service did not count the users")
	}
	_, err := fmt.Fprintf(p.stdout, "%d of %d users would be reset\n", summary.WouldReset, summary.Total)
	return err
}

// foreseen is a page of a preview as lines for people.
func foreseen(page *client.PasswordResetJobPreview) []byte {
	var lines []byte
	for _, u := range page.Items {
		verdict := "reset"
		if !u.WouldReset {
			verdict = "skip: " + *cmp.Or(u.Code, new(string))
		}
		lines = fmt.Appendf(lines, "%s\t%s\t%s\n", u.UserID, *cmp.Or(u.Username, new(string)), verdict)
	}
	return lines
}

// takeUp follows or cancels a job that was begun before.
func (c bulkResetCommand) takeUp(ctx context.Context, p process, api *client.Client) error {
	if c.Cancel {
		job, err := api.CancelPasswordResetJob(ctx, c.Job)
		if err != nil {
			return err
		}
		return report(p.stdout, job)
	}
	out, err := c.passwordFile(os.O_APPEND)
	if err != nil {
		return err
	}
	defer closeQuietly(out)
	return c.follow(ctx, p, api, c.Job, out)
}

// passwordFile opens the file for the passwords, which only its owner may read; nil when none is wanted. One that was there
// before and that others may read is refused.
func (c bulkResetCommand) passwordFile(flag int) (*os.File, error) {
	if c.Passwords == "" {
		return nil, nil //nolint:nilnil // no file is wanted
	}
	file, err := os.OpenFile(c.Passwords, os.O_CREATE|os.O_WRONLY|flag, 0o600)
	if err != nil {
		return nil, err
	}
	about, err := file.Stat()
	if err == nil && about.Mode().IsRegular() && about.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("others may read %s: chmod 600 it, or name another file", c.Passwords)
	}
	if err != nil {
		closeQuietly(file)
		return nil, err
	}
	return file, nil
}

// follow shows how far a job is until it is over, says what came of it, and fetches its passwords into out, if there is one.
func (c bulkResetCommand) follow(ctx context.Context, p process, api *client.Client, id string, out *os.File) error {
	job, err := c.wait(ctx, p, api, id)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted; the job goes on: follow it with --job %s, or stop it with --job %s --cancel", id, id)
	}
	if err != nil && c.Job == "" {
		return fmt.Errorf("the job goes on, follow it with --job %s: %w", id, err)
	}
	if err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	if err := report(p.stdout, job); err != nil {
		return err
	}
	switch {
	case out != nil:
		err = fetch(ctx, p.stdout, api, id, out)
	case job.PasswordsWaiting > 0:
		_, err = fmt.Fprintf(p.stdout, "%d temporary passwords wait for 24 hours: fetch them with --job %s --passwords FILE\n", job.PasswordsWaiting, id)
	}
	if left := job.Failed + job.Cancelled; err == nil && left > 0 {
		err = fmt.Errorf("job %s left %d users as they were; its results tell why", id, left)
	}
	return err
}

// wait asks for the job until it is over.
func (c bulkResetCommand) wait(ctx context.Context, p process, api *client.Client, id string) (*client.PasswordResetJob, error) {
	share := 0.0
	bar := newProgress(p, func() float64 { return share })
	defer bar.end()
	poll := time.NewTicker(jobPoll)
	defer poll.Stop()
	for {
		job, err := api.GetPasswordResetJob(ctx, id)
		if err != nil || job.FinishedAt != nil {
			return job, cmp.Or(ctx.Err(), err)
		}
		settled := job.Done + job.Skipped + job.Failed + job.Cancelled
		share = float64(settled) / float64(max(1, job.Total))
		bar.show(fmt.Sprintf("%d of %d users", settled, job.Total))
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// report says what came of a job.
func report(to io.Writer, job *client.PasswordResetJob) error {
	_, err := fmt.Fprintf(to, "job %s is %s: %d of %d users reset, %d skipped, %d failed, %d cancelled\n",
		job.ID, job.Status, job.Done, job.Total, job.Skipped, job.Failed, job.Cancelled)
	return err
}

// handOutBatch is how many passwords are fetched at once: few, because those that were answered and not written are lost.
const handOutBatch = 50

// fetch writes the temporary passwords of a job to out, each batch to the disk before the next is asked for. An interruption
// counts between two batches: the passwords of one that is under way would be lost.
func fetch(ctx context.Context, to io.Writer, api *client.Client, id string, out *os.File) error {
	lines := csv.NewWriter(out)
	if about, err := out.Stat(); err != nil {
		return err
	} else if about.Size() == 0 {
		_ = lines.Write([]string{"user_id", "username", "temporary_password", "expires_at"}) // Error tells, below
	}
	for written := 0; ; {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted; %d passwords were written: fetch the others with --job %s --passwords %s", written, id, out.Name())
		}
		batch, err := api.HandOutTemporaryPasswords(context.WithoutCancel(ctx), id, handOutBatch)
		if err != nil {
			return fmt.Errorf("%d passwords were written: %w", written, err)
		}
		for u := range slices.Values(batch.Items) {
			_ = lines.Write([]string{u.UserID, u.Username, u.TemporaryPassword, u.ExpiresAt.Format(time.RFC3339)})
		}
		lines.Flush()
		if err := errors.Join(lines.Error(), out.Sync()); err != nil {
			return fmt.Errorf("%d passwords were written; of the next %d the users need another reset: %w", written, len(batch.Items), err)
		}
		written += len(batch.Items)
		if len(batch.Items) == 0 {
			_, err := fmt.Fprintf(to, "%d temporary passwords are in %s\n", written, out.Name())
			return err
		}
	}
}
