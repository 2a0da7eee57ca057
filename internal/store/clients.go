package store

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/session"
)

type clientRow struct {
	ID         string
	Name       string
	AccountID  *string
	Scopes     string
	SecretHash string // of the newest secret: what the release before looks at
	Disabled   bool
	CreatedAt  time.Time
}

func (clientRow) TableName() string { return "clients" }

func clientRowOf(c client.Client, newest client.Secret) clientRow {
	row := clientRow{
		ID: c.ID, Name: c.Name, Scopes: strings.Join(c.Scopes, " "), SecretHash: newest.Digest, Disabled: c.Disabled, CreatedAt: moment(c.CreatedAt),
	}
	if c.AccountID != "" {
		row.AccountID = &c.AccountID
	}
	return row
}

func (r clientRow) client() client.Client {
	c := client.Client{ID: r.ID, Name: r.Name, Scopes: strings.Fields(r.Scopes), Disabled: r.Disabled, CreatedAt: moment(r.CreatedAt)}
	if r.AccountID != nil {
		c.AccountID = *r.AccountID
	}
	return c
}

type clientSecretRow struct {
	Digest    string
	ClientID  string
	CreatedAt time.Time
	ExpiresAt *time.Time
}

func (clientSecretRow) TableName() string { return "client_secrets" }

func clientSecretRowOf(id string, s client.Secret) clientSecretRow {
	return clientSecretRow{Digest: s.Digest, ClientID: id, CreatedAt: moment(s.CreatedAt), ExpiresAt: momentOf(s.ExpiresAt)}
}

// Client finds a service. session.ErrNotFound when there is none.
func (s *Store) Client(ctx context.Context, id string) (client.Client, error) {
	if !utf8.ValidString(id) || strings.ContainsRune(id, 0) { // PostgreSQL takes no such text, so there is no such client
		return client.Client{}, session.ErrNotFound
	}
	var row clientRow
	err := s.byKey(ctx).Where("id = ?", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return client.Client{}, session.ErrNotFound
	}
	if err != nil {
		return client.Client{}, s.translate(err)
	}
	return row.client(), nil
}

// Clients returns every service, in the order of their ids.
func (s *Store) Clients(ctx context.Context) ([]client.Client, error) {
	var rows []clientRow
	if err := s.query(ctx).Order("id").Find(&rows).Error; err != nil {
		return nil, s.translate(err)
	}
	clients := make([]client.Client, len(rows))
	for i, row := range rows {
		clients[i] = row.client()
	}
	return clients, nil
}

// ClientSecrets returns what is kept of a service's secrets, the newest first.
func (s *Store) ClientSecrets(ctx context.Context, id string) ([]client.Secret, error) {
	var rows []clientSecretRow
	if err := s.query(ctx).Where("client_id = ?", id).Order("created_at DESC, digest").Find(&rows).Error; err != nil {
		return nil, s.translate(err)
	}
	secrets := make([]client.Secret, len(rows))
	for i, row := range rows {
		secrets[i] = client.Secret{Digest: row.Digest, CreatedAt: moment(row.CreatedAt), ExpiresAt: momentOf(row.ExpiresAt)}
	}
	return secrets, nil
}

// CreateClient registers a service with its first secret. client.ErrExists when the id is taken.
func (s *Store) CreateClient(ctx context.Context, c client.Client, first client.Secret, event audit.Event) error {
	row, proof := clientRowOf(c, first), clientSecretRowOf(c.ID, first)
	return s.transaction(ctx, func(tx *gorm.DB) error {
		if err := tx.Create(&row).Error; err != nil {
			if s.dialect.brokenConstraint(err) != "" {
				return client.ErrExists
			}
			return err
		}
		if err := tx.Create(&proof).Error; err != nil {
			return err
		}
		return s.record(tx, []audit.Event{event})
	})
}

// RotateClient adds a secret to a service; every one from before stops being good at until, or earlier if it was to
// anyway, and those that are no longer good go.
func (s *Store) RotateClient(ctx context.Context, id string, next client.Secret, until time.Time, event audit.Event) error {
	proof := clientSecretRowOf(id, next)
	return s.transaction(ctx, func(tx *gorm.DB) error {
		for _, step := range []struct {
			statement string
			values    []any
		}{
			{"UPDATE clients SET secret_hash = ? WHERE id = ?", []any{proof.Digest, id}},
			{"DELETE FROM client_secrets WHERE client_id = ? AND expires_at <= ?", []any{id, proof.CreatedAt}},
			{"UPDATE client_secrets SET expires_at = ? WHERE client_id = ? AND (expires_at IS NULL OR expires_at > ?)", []any{moment(until), id, moment(until)}},
		} {
			if err := tx.Exec(step.statement, step.values...).Error; err != nil {
				return err
			}
		}
		if err := tx.Create(&proof).Error; err != nil {
			return err
		}
		return s.record(tx, []audit.Event{event})
	})
}

// SetClientDisabled disables a service or enables it again.
func (s *Store) SetClientDisabled(ctx context.Context, id string, disabled bool, event audit.Event) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		if err := tx.Exec("UPDATE clients SET disabled = ? WHERE id = ?", disabled, id).Error; err != nil {
			return err
		}
		return s.record(tx, []audit.Event{event})
	})
}
