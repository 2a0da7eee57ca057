package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// What keeps a client from being registered or changed.
var (
	ErrExists    = errors.New("client: a client with this id exists")
	ErrUnknown   = errors.New("client: no such client")
	ErrNoAccount = errors.New("client: no such account")
	ErrDisabled  = errors.New("client: the client is disabled")
)

const (
	// maxName bounds a client's name in code points.
	maxName = 100
	// MaxOverlap is the longest time that a secret stays good after the next one was made. Two good secrets are two to
	// lose: a month is plenty to bring a new one to every machine (ASVS 13.3.4 asks for rotation to be bounded).
	MaxOverlap = 30 * 24 * time.Hour
)

// Books is what registering clients needs of the database. Each method writes the event in the same transaction.
type Books interface {
	// Account finds an account. session.ErrNotFound when there is none.
	Account(ctx context.Context, id string) (user.Account, error)
	// Client finds a client. session.ErrNotFound when there is none.
	Client(ctx context.Context, id string) (Client, error)
	// Clients returns every client, in the order of their ids.
	Clients(ctx context.Context) ([]Client, error)
	// ClientSecrets returns a client's secrets, the newest first.
	ClientSecrets(ctx context.Context, id string) ([]Secret, error)
	// CreateClient registers a client with its first secret. ErrExists when the id is taken.
	CreateClient(ctx context.Context, c Client, first Secret, event audit.Event) error
	// RotateClient adds a secret; every one from before stops being good at until, or earlier if it was to anyway.
	RotateClient(ctx context.Context, id string, next Secret, until time.Time, event audit.Event) error
	// SetClientDisabled disables a client or enables it again.
	SetClientDisabled(ctx context.Context, id string, disabled bool, event audit.Event) error
}

// Registrar registers services for the operator.
type Registrar struct {
	books Books
	now   func() time.Time
}

// NewRegistrar returns a Registrar.
func NewRegistrar(books Books, now func() time.Time) *Registrar {
	return &Registrar{books: books, now: now}
}

// Register makes a client and returns it as it is kept, with its secret, which is kept nowhere: whoever loses it rotates.
// The client is bound to c.AccountID, or to none if that is empty. Everything that is wrong with c is said at once;
// ErrNoAccount, ErrExists.
func (r *Registrar) Register(ctx context.Context, c Client) (Client, secret.Text, error) {
	if err := c.check(); err != nil {
		return Client{}, secret.Text{}, err
	}
	if c.AccountID != "" {
		if _, err := r.books.Account(ctx, c.AccountID); errors.Is(err, session.ErrNotFound) {
			return Client{}, secret.Text{}, ErrNoAccount
		} else if err != nil {
			return Client{}, secret.Text{}, fmt.Errorf("client: register %s: %w", c.ID, err)
		}
	}
	c.Scopes, c.CreatedAt = slices.Compact(slices.Sorted(slices.Values(c.Scopes))), r.now()
	made, first := r.newSecret()
	event := r.event(audit.ServiceCreated, c)
	event.Details.Scopes = c.Scopes
	if err := r.books.CreateClient(ctx, c, first, event); err != nil {
		return Client{}, secret.Text{}, fmt.Errorf("client: register %s: %w", c.ID, err)
	}
	return c, made, nil
}

// Rotate makes a further secret and returns it with the time until which those from before are good: overlap from now, 0
// to MaxOverlap. With 0 they are refused at once. Tokens that were issued stay good until they expire. ErrUnknown, ErrDisabled.
func (r *Registrar) Rotate(ctx context.Context, id string, overlap time.Duration) (secret.Text, time.Time, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return secret.Text{}, time.Time{}, fmt.Errorf("client: the overlap must be 0 to %s", MaxOverlap)
	}
	c, err := r.find(ctx, id)
	if err != nil {
		return secret.Text{}, time.Time{}, err
	}
	if c.Disabled {
		return secret.Text{}, time.Time{}, ErrDisabled
	}
	made, next := r.newSecret()
	until := next.CreatedAt.Add(overlap)
	if err := r.books.RotateClient(ctx, id, next, until, r.event(audit.ServiceRotated, c)); err != nil {
		return secret.Text{}, time.Time{}, fmt.Errorf("client: rotate the secret of %s: %w", id, err)
	}
	return made, until, nil
}

// Disable makes every token and secret of a client good for nothing with the next request, on every replica. ErrUnknown.
func (r *Registrar) Disable(ctx context.Context, id string) error {
	return r.set(ctx, id, true, audit.ServiceDisabled)
}

// Enable takes back Disable. ErrUnknown.
func (r *Registrar) Enable(ctx context.Context, id string) error {
	return r.set(ctx, id, false, audit.ServiceEnabled)
}

func (r *Registrar) set(ctx context.Context, id string, disabled bool, action audit.Action) error {
	c, err := r.find(ctx, id)
	if err != nil || c.Disabled == disabled { // it is so already: nothing happens that could be told
		return err
	}
	if err := r.books.SetClientDisabled(ctx, id, disabled, r.event(action, c)); err != nil {
		return fmt.Errorf("client: %s %s: %w", action, id, err)
	}
	return nil
}

// Entry is a client with the secrets that are good now.
type Entry struct {
	Client
	Secrets []Secret
}

// List returns every client in the order of their ids.
func (r *Registrar) List(ctx context.Context) ([]Entry, error) {
	clients, err := r.books.Clients(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: list: %w", err)
	}
	entries, now := make([]Entry, len(clients)), r.now()
	for i, c := range clients {
		secrets, err := r.books.ClientSecrets(ctx, c.ID)
		if err != nil {
			return nil, fmt.Errorf("client: list: %w", err)
		}
		entries[i] = Entry{Client: c, Secrets: slices.DeleteFunc(secrets, func(s Secret) bool { return !s.good(now) })}
	}
	return entries, nil
}

func (r *Registrar) find(ctx context.Context, id string) (Client, error) {
	c, err := r.books.Client(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		return Client{}, ErrUnknown
	}
	if err != nil {
		return Client{}, fmt.Errorf("client: find %s: %w", id, err)
	}
	return c, nil
}

func (r *Registrar) newSecret() (secret.Text, Secret) {
	made := secret.NewToken()
	return made, Secret{Digest: made.Digest(), CreatedAt: r.now()}
}

// event is what the operator did with a client.
func (r *Registrar) event(action audit.Action, c Client) audit.Event {
	event := audit.New(action, audit.Done, access.Actor{Kind: access.Operator}, user.User{AccountID: c.AccountID}, access.Origin{}, r.now())
	event.Target = audit.PartyOf(c.actor())
	return event
}

// check says everything that is wrong with a registration.
func (c Client) check() error {
	var problems []error
	if !user.ID(c.ID).Valid() || c.ID == session.AppClientID { // or the app's tokens would name this client
		problems = append(problems, fmt.Errorf("client: the id must be 1 to 64 of A-Z, a-z, 0-9, _ and -, and not %s", session.AppClientID))
	}
	if !goodName(c.Name) {
		problems = append(problems, fmt.Errorf("client: the name must have 1 to %d characters that can be printed", maxName))
	}
	if c.AccountID != "" && !user.ID(c.AccountID).Valid() {
		problems = append(problems, errors.New("client: the account must be 1 to 64 of A-Z, a-z, 0-9, _ and -"))
	}
	if len(c.Scopes) == 0 {
		problems = append(problems, errors.New("client: it needs at least one scope"))
	}
	for _, scope := range c.Scopes {
		if !slices.Contains(access.Scopes(), scope) {
			problems = append(problems, fmt.Errorf("client: there is no scope %q; there are %s", scope, strings.Join(access.Scopes(), ", ")))
		}
	}
	return errors.Join(problems...)
}

func goodName(name string) bool {
	return name != "" && utf8.ValidString(name) && utf8.RuneCountInString(name) <= maxName &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}
