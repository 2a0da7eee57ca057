package store

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/importing"
	"github.com/salesexec/credentials/internal/user"
)

// Occupied looks up which ids, identifiers and accounts are there.
func (s *Store) Occupied(ctx context.Context, wanted importing.Wanted) (importing.Found, error) {
	found, err := s.occupied(s.query(ctx), wanted)
	return found, s.translate(err)
}

func (s *Store) occupied(db *gorm.DB, wanted importing.Wanted) (importing.Found, error) {
	found := importing.Found{IDs: map[user.ID]bool{}, Keys: map[string]importing.Holder{}, Accounts: map[string]identifier.Rule{}}
	var ids []string
	if err := db.Raw("SELECT id FROM users WHERE id IN ?", wanted.IDs).Scan(&ids).Error; err != nil {
		return importing.Found{}, err
	}
	var accounts []accountRow
	if err := db.Select(accountColumns()).Where("id IN ?", wanted.Accounts).Find(&accounts).Error; err != nil {
		return importing.Found{}, err
	}
	var holders []struct {
		Key    string
		UserID string
		Held   bool
	}
	err := db.Raw("SELECT key, user_id, held_until IS NOT NULL AS held FROM identifiers WHERE key IN ? AND (held_until IS NULL OR held_until > ?)",
		wanted.Keys, moment(s.now())).Scan(&holders).Error
	if err != nil {
		return importing.Found{}, err
	}
	for _, id := range ids {
		found.IDs[user.ID(id)] = true
	}
	for _, row := range accounts {
		account, err := row.account()
		if err != nil {
			return importing.Found{}, err
		}
		found.Accounts[account.ID] = account.Naming
	}
	for _, h := range holders {
		found.Keys[h.Key] = importing.Holder{UserID: user.ID(h.UserID), Held: h.Held}
	}
	return found, nil
}

// errTaken rolls an import back that found entries taken.
var errTaken = errors.New("store: entries are taken")

// ImportUsers adds users with what CreateUser adds for each, in one transaction. It returns the entries whose id or names are
// not free; if there are any, and the load does not leave them out, nothing was written.
func (s *Store) ImportUsers(ctx context.Context, load importing.Load) ([]importing.Taken, error) {
	var taken []importing.Taken
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		taken, tx = nil, s.dialect.byKey(tx)
		for _, account := range load.Accounts {
			if err := s.addAccount(tx, account); err != nil {
				return err
			}
		}
		for entries, err := range load.Entries {
			if err != nil {
				return err
			}
			lost, err := s.importBatch(tx, entries)
			if err != nil {
				return err
			}
			taken = append(taken, lost...)
		}
		if len(taken) > 0 && !load.LeaveOut {
			return errTaken
		}
		return nil
	})
	if errors.Is(err, errTaken) {
		err = nil
	}
	return taken, err
}

// importBatch writes entries all at once and, when something of them is taken, one by one, to find out what.
func (s *Store) importBatch(tx *gorm.DB, entries []importing.Entry) ([]importing.Taken, error) {
	err := s.tentatively(tx, entries)
	if !isTaken(err) {
		return nil, err
	}
	var taken []importing.Taken
	for i, entry := range entries {
		err := s.tentatively(tx, entries[i:i+1])
		if err != nil && !isTaken(err) {
			return nil, err
		}
		if err == nil {
			continue
		}
		column, err := s.takenColumn(tx, entry.User)
		if err != nil {
			return nil, err
		}
		taken = append(taken, importing.Taken{Line: entry.Line, Column: column})
	}
	return taken, nil
}

func isTaken(err error) bool {
	return errors.Is(err, ErrUserExists) || errors.Is(err, change.ErrIdentifierTaken)
}

// tentatively adds the entries, and takes all of them back when something of them is taken.
func (s *Store) tentatively(tx *gorm.DB, entries []importing.Entry) error {
	users, events := make([]user.User, len(entries)), make([]audit.Event, len(entries))
	for i, entry := range entries {
		users[i], events[i] = entry.User, entry.Event
	}
	if err := tx.Exec("SAVEPOINT batch").Error; err != nil {
		return err
	}
	added := s.addUsers(tx, users, events)
	if added != nil && !isTaken(added) {
		return added
	}
	if added != nil {
		if err := tx.Exec("ROLLBACK TO SAVEPOINT batch").Error; err != nil {
			return err
		}
	}
	if err := tx.Exec("RELEASE SAVEPOINT batch").Error; err != nil {
		return err
	}
	return added
}

// takenColumn finds out what of a user is taken.
func (s *Store) takenColumn(tx *gorm.DB, u user.User) (string, error) {
	names := importing.NamesOf(u)
	wanted := importing.Wanted{IDs: []user.ID{u.ID}}
	for _, n := range names {
		wanted.Keys = append(wanted.Keys, n.Key)
	}
	found, err := s.occupied(tx, wanted)
	if err != nil || found.IDs[u.ID] {
		return "id", err
	}
	for _, n := range names {
		if _, taken := found.Keys[n.Key]; taken {
			return n.Column, nil
		}
	}
	return "", nil // it is free again
}
