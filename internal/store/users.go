package store

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"gorm.io/gorm"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

type userRow struct {
	ID                 string
	AccountID          string
	Team               string
	Role               string
	AlsoManages        string
	DisplayName        string
	Status             string
	Username           string
	Email              string
	EmailVerified      bool
	PendingEmail       string
	PendingEmailKey    string
	PendingEmailUntil  *time.Time
	Search             string
	PasswordHash       string
	PasswordSetBy      string
	PasswordChangedAt  *time.Time
	MustChange         bool
	TemporaryUntil     *time.Time
	PasswordDisabledAt *time.Time
	Generation         int64
	GenerationSince    *time.Time
	Version            int64
	Revision           int64
	LastSignInAt       *time.Time
	CreatedAt          time.Time
}

func (userRow) TableName() string { return "users" }

func rowOf(u user.User) (userRow, error) {
	teams := u.AlsoManages
	if teams == nil {
		teams = []user.Team{}
	}
	also, err := json.Marshal(teams)
	if err != nil {
		return userRow{}, fmt.Errorf("store: teams of %s: %w", u.ID, err)
	}
	pendingKey := ""
	if u.Pending.Address != "" {
		pendingKey = identifier.Key(u.Pending.Address)
	}
	return userRow{
		ID: string(u.ID), AccountID: u.AccountID, Team: string(u.Team), Role: string(u.Role), AlsoManages: string(also),
		DisplayName: u.DisplayName, Status: string(u.Status), Username: u.Username, Email: u.Email, EmailVerified: u.EmailVerified,
		PendingEmail: u.Pending.Address, PendingEmailKey: pendingKey, PendingEmailUntil: momentOf(u.Pending.Until),
		Search:       searched(u),
		PasswordHash: u.Password.Hash, PasswordSetBy: string(u.Password.SetBy), PasswordChangedAt: momentOf(u.Password.ChangedAt),
		MustChange: u.Password.MustChange, TemporaryUntil: momentOf(u.Password.TemporaryUntil),
		PasswordDisabledAt: momentOf(u.Password.DisabledAt),
		Generation:         u.Generation, GenerationSince: momentOf(u.GenerationSince), Version: u.Version, Revision: u.Revision,
		LastSignInAt: momentOf(u.LastSignInAt), CreatedAt: moment(u.CreatedAt),
	}, nil
}

func (r userRow) user() (user.User, error) {
	u := user.User{
		ID: user.ID(r.ID), AccountID: r.AccountID, Team: user.Team(r.Team), Role: user.Role(r.Role), DisplayName: r.DisplayName,
		Status: user.Status(r.Status), Username: r.Username, Email: r.Email, EmailVerified: r.EmailVerified,
		Pending: user.PendingEmail{Address: r.PendingEmail, Until: momentOf(r.PendingEmailUntil)},
		Password: user.Password{
			Hash: r.PasswordHash, SetBy: user.SetBy(r.PasswordSetBy), ChangedAt: momentOf(r.PasswordChangedAt),
			MustChange: r.MustChange, TemporaryUntil: momentOf(r.TemporaryUntil), DisabledAt: momentOf(r.PasswordDisabledAt),
		},
		Generation: r.Generation, GenerationSince: momentOf(r.GenerationSince), Version: r.Version, Revision: r.Revision,
		LastSignInAt: momentOf(r.LastSignInAt), CreatedAt: moment(r.CreatedAt),
	}
	if err := json.Unmarshal([]byte(r.AlsoManages), &u.AlsoManages); err != nil {
		return user.User{}, fmt.Errorf("store: teams of %s: %w", r.ID, err)
	}
	return u, nil
}

// maxSearched bounds in bytes what is searched of a user, so that it fits into an index beside the longest team: all but names
// that nobody has, for folding can make them many times longer.
const maxSearched = 1500

// searched is the text that users are found by: username, e-mail and display name, a line each.
func searched(u user.User) string {
	text := searchText(u.Username + "\n" + u.Email + "\n" + u.DisplayName)
	if len(text) > maxSearched {
		text = strings.ToValidUTF8(text[:maxSearched], "")
	}
	return text
}

// searchText folds what is searched and what is searched for alike; the databases' own lower() differ.
func searchText(text string) string { return cases.Fold().String(norm.NFKC.String(text)) }

// memberRow is a user with its account, from one statement.
type memberRow struct {
	User    userRow    `gorm:"embedded;embeddedPrefix:u_"`
	Account accountRow `gorm:"embedded;embeddedPrefix:a_"`
}

func (r memberRow) member() (session.Member, error) {
	u, err := r.User.user()
	if err != nil {
		return session.Member{}, err
	}
	account, err := r.Account.account()
	return session.Member{User: u, Account: account}, err
}

// columns lists a row's columns with the prefix memberRow expects: statements name what they read.
func columns(table, prefix string, names ...string) string {
	listed := make([]string, len(names))
	for i, n := range names {
		listed[i] = table + "." + n + " AS " + prefix + n
	}
	return strings.Join(listed, ", ")
}

// userColumns are the columns of a userRow with the prefix u_.
func userColumns() string {
	return columns("users", "u_", "id", "account_id", "team", "role", "also_manages", "display_name", "status", "username", "email",
		"email_verified", "pending_email", "pending_email_until", "password_hash", "password_set_by", "password_changed_at", "must_change", "temporary_until",
		"password_disabled_at", "generation", "generation_since", "version", "revision", "last_sign_in_at", "created_at")
}

// memberColumns are the columns of a memberRow.
func memberColumns() string {
	return userColumns() + ", " + columns("accounts", "a_", accountColumns()...)
}

const fromMembers = " FROM users JOIN accounts ON accounts.id = users.account_id "

func (s *Store) member(ctx context.Context, join, where string, values ...any) (session.Member, error) {
	var rows []memberRow
	err := s.byKey(ctx).Raw("SELECT "+memberColumns()+fromMembers+join+" WHERE "+where, values...).Scan(&rows).Error
	if err != nil {
		return session.Member{}, s.translate(err)
	}
	if len(rows) == 0 {
		return session.Member{}, session.ErrNotFound
	}
	return rows[0].member()
}

// memberBatch bounds the users that one statement finds.
const memberBatch = 1000

// MembersByID finds those users there are.
func (s *Store) MembersByID(ctx context.Context, ids []user.ID) (map[user.ID]session.Member, error) {
	found := make(map[user.ID]session.Member, len(ids))
	for batch := range slices.Chunk(ids, memberBatch) {
		var rows []memberRow
		text, values := s.dialect.rowsFrom([]reflect.Value{reflect.ValueOf(batch)})
		if err := s.byKey(ctx).Raw("SELECT "+memberColumns()+fromMembers+"WHERE users.id IN ("+text+")", values...).Scan(&rows).Error; err != nil {
			return nil, s.translate(err)
		}
		for _, row := range rows {
			member, err := row.member()
			if err != nil {
				return nil, err
			}
			found[member.User.ID] = member
		}
	}
	return found, nil
}

// Member finds a user with the account. session.ErrNotFound when there is none.
func (s *Store) Member(ctx context.Context, id user.ID) (session.Member, error) {
	return s.member(ctx, "", "users.id = ?", string(id))
}

// MemberByUsername finds who signs in with the folded name: with the username, and where the account's naming rule says so
// with the confirmed e-mail address. session.ErrNotFound when nobody does.
func (s *Store) MemberByUsername(ctx context.Context, key string) (session.Member, error) {
	return s.member(ctx, "JOIN identifiers ON identifiers.user_id = users.id",
		"identifiers.key = ? AND (identifiers.is_username OR identifiers.is_email AND users.email_verified AND accounts.naming_kind = ?)",
		key, string(identifier.OwnEmail))
}

// Account finds an account. session.ErrNotFound when there is none.
func (s *Store) Account(ctx context.Context, id string) (user.Account, error) {
	var row accountRow
	if err := s.query(ctx).Select(accountColumns()).Where("id = ?", id).Take(&row).Error; err != nil {
		return user.Account{}, s.translate(err)
	}
	return row.account()
}

// CreateAccount adds an account with a minimum length of passwords, and else the deployment's settings; one that is there
// already stays as it is.
func (s *Store) CreateAccount(ctx context.Context, account user.Account) error {
	return s.transaction(ctx, func(tx *gorm.DB) error { return s.addAccount(tx, account) })
}

func (s *Store) addAccount(tx *gorm.DB, account user.Account) error {
	return tx.Exec("INSERT INTO accounts (id, name, min_password_length, created_at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
		account.ID, account.Name, account.Policy.MinLength, moment(s.now())).Error
}

// ErrUserExists says that the id of a new user is somebody's already.
var ErrUserExists = change.ErrUserExists

// CreateUser adds a user with its identifiers, its first line of history and the audit event. ErrUserExists,
// change.ErrIdentifierTaken.
func (s *Store) CreateUser(ctx context.Context, u user.User, event audit.Event) error {
	return s.transaction(ctx, func(tx *gorm.DB) error { return s.addUsers(tx, []user.User{u}, []audit.Event{event}) })
}

// addUsers writes users who have neither an id nor a name in common, each with the event that tells of it, with one
// statement for each table. After an error the transaction is to be given up.
func (s *Store) addUsers(tx *gorm.DB, users []user.User, events []audit.Event) error {
	rows := make([]userRow, len(users))
	var claims []change.Claim
	var names []historyRow
	for i, u := range users {
		var err error
		if rows[i], err = rowOf(u); err != nil {
			return err
		}
		key := identifier.Key(u.Username)
		claims = append(claims, claimsOf(u, key)...)
		names = append(names, historyOf(change.Rename{
			UserID: u.ID, AccountID: u.AccountID, NewUsername: u.Username, NewKey: key, At: u.CreatedAt, By: events[i].Actor,
		}))
	}
	if _, err := insertRows(s, tx, rows, ""); err != nil {
		if s.dialect.brokenConstraint(err) != "" {
			return ErrUserExists
		}
		return err
	}
	if err := s.claim(tx, claims, users[0].CreatedAt); err != nil {
		return err
	}
	if _, err := insertRows(s, tx, names, ""); err != nil {
		return err
	}
	return s.record(tx, events)
}

// claimsOf are the identifiers of a new user whose username has the key. A username that is the e-mail too is one.
func claimsOf(u user.User, key string) []change.Claim {
	username := change.Claim{Key: key, UserID: u.ID, AccountID: u.AccountID, IsUsername: true}
	if u.Email == "" {
		return []change.Claim{username}
	}
	email := change.Claim{Key: identifier.Key(u.Email), UserID: u.ID, AccountID: u.AccountID, IsEmail: true}
	if email.Key == key {
		username.IsEmail = true
		return []change.Claim{username}
	}
	return []change.Claim{username, email}
}
