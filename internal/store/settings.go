package store

import (
	"encoding/json"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/user"
)

// accountRow is an account with its settings. 0, the empty text and the empty list stand for what the deployment has.
type accountRow struct {
	ID                string
	Name              string
	MinPasswordLength int
	BlockedWords      string // JSON, as ResetMethods and ReservedNames
	HoldDays          int
	ResetMethods      string
	PolicyVersion     int64
	NamingKind        string
	NamingTemplate    string
	NamingRegex       string
	NamingMinLength   int
	NamingMaxLength   int
	ReservedNames     string
	NamingVersion     int64
	MaxPlaces         int
	CreatedAt         time.Time
}

func (accountRow) TableName() string { return "accounts" }

// accountColumns are those of an accountRow that an account is read from.
func accountColumns() []string {
	return []string{"id", "name", "min_password_length", "blocked_words", "hold_days", "reset_methods", "policy_version", "naming_kind",
		"naming_template", "naming_regex", "naming_min_length", "naming_max_length", "reserved_names", "naming_version", "max_places"}
}

func (r accountRow) account() (user.Account, error) {
	account := user.Account{
		ID: r.ID, Name: r.Name, PolicyVersion: r.PolicyVersion, NamingVersion: r.NamingVersion,
		Policy: user.Policy{MinLength: r.MinPasswordLength, HoldDays: r.HoldDays, MaxPlaces: r.MaxPlaces},
		Naming: identifier.Rule{
			Kind: identifier.Kind(r.NamingKind), Template: r.NamingTemplate, Regex: r.NamingRegex,
			MinLength: r.NamingMinLength, MaxLength: r.NamingMaxLength,
		},
	}
	for _, list := range []struct {
		text string
		into any
	}{{r.BlockedWords, &account.Policy.BlockedWords}, {r.ResetMethods, &account.Policy.ResetMethods}, {r.ReservedNames, &account.Naming.Reserved}} {
		if list.text == noList { // what nearly every account has, on nearly every request
			continue
		}
		if err := json.Unmarshal([]byte(list.text), list.into); err != nil {
			return user.Account{}, fmt.Errorf("store: settings of account %s: %w", r.ID, err)
		}
	}
	return account, nil
}

// noList is how an empty list is stored.
const noList = "[]"

func listText[T ~string](list []T) (string, error) {
	if len(list) == 0 {
		return noList, nil
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// replaceSettings writes new settings over those of the version that they were decided on.
func replaceSettings(tx *gorm.DB, s *change.Settings) error {
	if s == nil {
		return nil
	}
	values, version, err := settingValues(s)
	if err != nil {
		return err
	}
	values[version] = s.Version + 1
	update := tx.Table("accounts").Where("id = ? AND "+version+" = ?", s.AccountID, s.Version)
	if s.Versions != nil {
		update = update.Where(version+" IN ?", s.Versions)
	}
	if update = update.Updates(values); update.Error != nil {
		return update.Error
	}
	switch {
	case update.RowsAffected == 1:
		return nil
	case s.Versions != nil:
		return change.ErrVersion
	}
	return change.ErrConflict
}

// settingValues returns the columns of what is replaced, and the name of the one that counts its versions.
func settingValues(s *change.Settings) (values map[string]any, version string, err error) {
	if p := s.Policy; p != nil {
		words, err := listText(p.BlockedWords)
		if err != nil {
			return nil, "", err
		}
		methods, err := listText(p.ResetMethods)
		return map[string]any{
			"min_password_length": p.MinLength, "blocked_words": words, "hold_days": p.HoldDays, "reset_methods": methods, "max_places": p.MaxPlaces,
		}, "policy_version", err
	}
	n := s.Naming
	reserved, err := listText(n.Reserved)
	return map[string]any{
		"naming_kind": string(n.Kind), "naming_template": n.Template, "naming_regex": n.Regex,
		"naming_min_length": n.MinLength, "naming_max_length": n.MaxLength, "reserved_names": reserved,
	}, "naming_version", err
}
