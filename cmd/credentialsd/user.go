package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

type userCreateCommand struct {
	Account           string `help:"Id of the account; it is made if it is new." required:""`
	AccountName       string `help:"Name of a new account; its id if not given."`
	MinPasswordLength int    `help:"Shortest password of a new account, 8 to 64; 0 for the deployment's. Below 15 only where people sign in with a second factor elsewhere." default:"0"`
	Username          string `help:"What the user signs in with." required:""`
	Email             string `help:"Contact address."`
	DisplayName       string `help:"Name for people."`
	Team              string `help:"Team as a path, / for the whole company." default:"/"`
	Role              string `help:"agent or administrator." enum:"agent,administrator" default:"administrator"`
	ID                string `help:"Id that the CRM uses already; a new one if not given."`
}

// temporaryLife is how long the printed password opens a session (ASVS 6.4.1).
const temporaryLife = 24 * time.Hour

// Run creates the user and prints the temporary password.
func (c userCreateCommand) Run(ctx context.Context, p process) error {
	account, u, err := c.build(p.now())
	if err != nil {
		return err
	}
	s, settings, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	hasher, err := password.NewHasher(password.HasherConfig{Params: settings.Hashing, Lanes: 1})
	if err != nil {
		return err
	}
	if account, err = c.present(ctx, s, account); err != nil {
		return err
	}
	if err := c.follows(account.Naming); err != nil {
		return err
	}
	temporary, err := password.Generate(max(settings.PasswordMinLength, account.Policy.MinLength))
	if err != nil {
		return err
	}
	if u.Password.Hash, err = hasher.Hash(ctx, password.Staff, temporary); err != nil {
		return err
	}
	if err := s.CreateAccount(ctx, account); err != nil {
		return err
	}
	if err := createUser(ctx, s, u); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "created %s %s in account %s, team %s\nuser id:            %s\ntemporary password: %s\nIt is good until %s, for choosing a password of the own, and is not shown again.\n",
		u.Role, u.Username, account.ID, u.Team, u.ID, temporary.Reveal(), u.Password.TemporaryUntil.UTC().Format(time.RFC3339))
	return err
}

// present returns the account as it is stored, or the new one.
func (userCreateCommand) present(ctx context.Context, s *store.Store, made user.Account) (user.Account, error) {
	account, err := s.Account(ctx, made.ID)
	if errors.Is(err, session.ErrNotFound) {
		return made, nil
	}
	return account, err
}

// follows says how the username breaks the account's naming rule.
func (c userCreateCommand) follows(rule identifier.Rule) error {
	naming, err := rule.Compile()
	if err != nil {
		return err
	}
	var problems []error
	for _, wrong := range naming.Check(identifier.Key(c.Username), identifier.Key(c.Email)) {
		problems = append(problems, flagError("--username", wrong))
	}
	return errors.Join(problems...)
}

// build makes the account and the user of the flags, or says everything that is wrong with them.
func (c userCreateCommand) build(now time.Time) (user.Account, user.User, error) {
	var problems []error
	account := user.Account{ID: c.Account, Name: c.AccountName, Policy: user.Policy{MinLength: c.MinPasswordLength}}
	if account.Name == "" {
		account.Name = account.ID
	}
	if !user.ID(c.Account).Valid() {
		problems = append(problems, errors.New("--account must be 1 to 64 of A-Z, a-z, 0-9, _ and -"))
	}
	if c.MinPasswordLength != 0 && (c.MinPasswordLength < password.MinLengthFloor || c.MinPasswordLength > password.MinLengthCeiling) {
		problems = append(problems, fmt.Errorf("--min-password-length must be %d to %d", password.MinLengthFloor, password.MinLengthCeiling))
	}
	until := now.Add(temporaryLife)
	u := user.User{
		ID: user.ID(c.ID), AccountID: c.Account, Team: user.Team(c.Team), Role: user.Role(c.Role), DisplayName: c.DisplayName,
		Status: user.Active, Generation: 1, Version: 1, Revision: 1, CreatedAt: now,
		Password: user.Password{SetBy: user.SetByOperator, ChangedAt: &now, MustChange: true, TemporaryUntil: &until},
	}
	if u.ID == "" {
		u.ID = user.ID(uuid.Must(uuid.NewV7()).String())
	}
	if !u.ID.Valid() {
		problems = append(problems, errors.New("--id must be 1 to 64 of A-Z, a-z, 0-9, _ and -"))
	}
	if !u.Team.Valid() {
		problems = append(problems, errors.New("--team must be a path like / or /east/boston/"))
	}
	problems = append(problems, c.name(&u)...)
	return account, u, errors.Join(problems...)
}

func (c userCreateCommand) name(u *user.User) []error {
	var problems []error
	if identifier.LooksLikeEmail(c.Username) {
		address, err := identifier.ParseEmail(c.Username)
		problems, u.Username = append(problems, flagError("--username", err)), address.Address
	} else {
		name, err := identifier.ParseUsername(c.Username)
		problems, u.Username = append(problems, flagError("--username", err)), name.Display
	}
	if c.Email != "" {
		address, err := identifier.ParseEmail(c.Email)
		problems, u.Email, u.EmailVerified = append(problems, flagError("--email", err)), address.Address, true
	}
	return problems
}

func flagError(flag string, err error) error {
	if wrong, ok := errors.AsType[*identifier.Error](err); ok {
		return fmt.Errorf("%s: %s", flag, wrong.Detail)
	}
	return err
}

// createUser stores a user with the event that tells of it.
func createUser(ctx context.Context, s *store.Store, u user.User) error {
	event := audit.New(audit.UserCreated, audit.Done, access.Actor{Kind: access.Operator}, u, access.Origin{}, u.CreatedAt)
	err := s.CreateUser(ctx, u, event)
	switch {
	case errors.Is(err, change.ErrIdentifierTaken):
		return fmt.Errorf("the username %s or the e-mail is in use or held", u.Username)
	case errors.Is(err, store.ErrUserExists):
		return fmt.Errorf("a user with the id %s exists", u.ID)
	}
	return err
}
