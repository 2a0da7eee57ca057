package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/salesexec/credentials/internal/client"
)

// clientCommands are what the operator does with other services.
type clientCommands struct {
	Create  clientCreateCommand  `cmd:"" help:"Register a service and print its secret once."`
	List    clientListCommand    `cmd:"" help:"List the services, with what each may do and how many secrets it has."`
	Rotate  clientRotateCommand  `cmd:"" help:"Print a new secret of a service once; the old one stays good for a while."`
	Disable clientDisableCommand `cmd:"" help:"Refuse a service's secrets and tokens from now on."`
	Enable  clientEnableCommand  `cmd:"" help:"Take disabling a service back."`
}

// withRegistrar opens the database for a command about services.
func withRegistrar(ctx context.Context, p process, work func(*client.Registrar) error) error {
	s, _, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	if err := checkMigrated(ctx, s); err != nil {
		return err
	}
	return work(client.NewRegistrar(s, p.now))
}

type clientCreateCommand struct {
	ID          string   `arg:"" help:"Id of the service: 1 to 64 of A-Z, a-z, 0-9, _ and -."`
	Name        string   `help:"Name for people; the id if not given."`
	Account     string   `help:"The one account that the service works for." xor:"account" required:""`
	AllAccounts bool     `help:"The service works for every account." xor:"account" required:""`
	Scope       []string `help:"What it may do; repeat it, or separate several by commas." required:"" placeholder:"SCOPE"`
}

// Run registers the service and prints its secret.
func (c clientCreateCommand) Run(ctx context.Context, p process) error {
	wanted := client.Client{ID: c.ID, Name: cmp.Or(c.Name, c.ID), AccountID: c.Account, Scopes: c.Scope}
	return withRegistrar(ctx, p, func(r *client.Registrar) error {
		made, proof, err := r.Register(ctx, wanted)
		if err != nil {
			return clientProblem(err, c.ID, c.Account)
		}
		_, err = fmt.Fprintf(p.stdout, "registered %s for %s\nscopes:        %s\nclient id:     %s\nclient secret: %s\nThe secret is not shown again.\n",
			made.Name, accountOf(made), strings.Join(made.Scopes, " "), made.ID, proof.Reveal())
		return err
	})
}

type clientListCommand struct{}

// Run lists the services.
func (clientListCommand) Run(ctx context.Context, p process) error {
	return withRegistrar(ctx, p, func(r *client.Registrar) error {
		entries, err := r.List(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		if _, err := fmt.Fprintln(table, "ID\tNAME\tWORKS FOR\tSTATUS\tSECRETS\tCREATED\tSCOPES"); err != nil {
			return err
		}
		for _, e := range entries {
			status := "active"
			if e.Disabled {
				status = "disabled"
			}
			if _, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.Name, accountOf(e.Client), status, secretsOf(e),
				e.CreatedAt.Format(time.DateOnly), strings.Join(e.Scopes, " ")); err != nil {
				return err
			}
		}
		return table.Flush()
	})
}

// secretsOf tells how many secrets are good, and until when the older ones are.
func secretsOf(e client.Entry) string {
	var last time.Time
	for _, s := range e.Secrets {
		if s.ExpiresAt != nil && s.ExpiresAt.After(last) {
			last = *s.ExpiresAt
		}
	}
	if last.IsZero() {
		return strconv.Itoa(len(e.Secrets))
	}
	return fmt.Sprintf("%d, old until %s", len(e.Secrets), last.Format(time.RFC3339))
}

type clientRotateCommand struct {
	ID      string        `arg:"" help:"Id of the service."`
	Overlap time.Duration `help:"How long the secrets from before stay good, up to 720h; 0s refuses them at once." default:"24h"`
}

// Run makes a further secret and prints it.
func (c clientRotateCommand) Run(ctx context.Context, p process) error {
	return withRegistrar(ctx, p, func(r *client.Registrar) error {
		proof, until, err := r.Rotate(ctx, c.ID, c.Overlap)
		if err != nil {
			return clientProblem(err, c.ID, "")
		}
		_, err = fmt.Fprintf(p.stdout, "client id:     %s\nclient secret: %s\nThe secret is not shown again. Those from before are good until %s.\n",
			c.ID, proof.Reveal(), until.UTC().Format(time.RFC3339))
		return err
	})
}

type clientDisableCommand struct {
	ID string `arg:"" help:"Id of the service."`
}

// Run disables the service.
func (c clientDisableCommand) Run(ctx context.Context, p process) error {
	return withRegistrar(ctx, p, func(r *client.Registrar) error {
		if err := r.Disable(ctx, c.ID); err != nil {
			return clientProblem(err, c.ID, "")
		}
		_, err := fmt.Fprintf(p.stdout, "%s is disabled: its secrets and tokens are refused\n", c.ID)
		return err
	})
}

type clientEnableCommand struct {
	ID string `arg:"" help:"Id of the service."`
}

// Run enables the service.
func (c clientEnableCommand) Run(ctx context.Context, p process) error {
	return withRegistrar(ctx, p, func(r *client.Registrar) error {
		if err := r.Enable(ctx, c.ID); err != nil {
			return clientProblem(err, c.ID, "")
		}
		_, err := fmt.Fprintf(p.stdout, "%s is active\n", c.ID)
		return err
	})
}

func accountOf(c client.Client) string {
	if c.AccountID == "" {
		return "all accounts"
	}
	return "account " + c.AccountID
}

// clientProblem says in the words of the command line why a service was not registered or changed.
func clientProblem(err error, id, account string) error {
	switch {
	case errors.Is(err, client.ErrExists):
		return fmt.Errorf("a service with the id %s exists", id)
	case errors.Is(err, client.ErrUnknown):
		return fmt.Errorf("there is no service %s; credentialsd client list shows those there are", id)
	case errors.Is(err, client.ErrNoAccount):
		return fmt.Errorf("there is no account %s; credentialsd user create makes one", account)
	case errors.Is(err, client.ErrDisabled):
		return fmt.Errorf("%s is disabled; enable it first", id)
	}
	return err
}
