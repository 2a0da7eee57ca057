package store

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// escapeLike makes text stand for itself in a LIKE pattern with ESCAPE '\'.
func escapeLike(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}

// conditions collects what a WHERE asks for.
type conditions struct {
	texts  []string
	values []any
}

func (c *conditions) add(text string, values ...any) {
	c.texts, c.values = append(c.texts, text), append(c.values, values...)
}

// reach narrows a listing to the account and teams of the actor. What SQL cannot say shortly (nobody sees a wider reach
// than the own) is asked of each row afterwards.
func (c *conditions) reach(actor access.Actor) {
	if actor.Kind == access.Service {
		if !actor.AllAccounts {
			c.add("users.account_id = ?", actor.ClientAccount)
		}
		return
	}
	c.add("users.account_id = ?", actor.User.AccountID)
	c.teams(actor)
}

// teams narrows to the users of the teams that a person manages, and to itself.
func (c *conditions) teams(actor access.Actor) {
	if actor.ReachesAll() {
		return
	}
	teams := conditions{}
	teams.add("users.id = ?", string(actor.User.ID))
	for _, team := range actor.User.Reach() {
		teams.add(`users.team LIKE ? ESCAPE '\'`, escapeLike(string(team))+"%")
	}
	c.add("("+strings.Join(teams.texts, " OR ")+")", teams.values...)
}

// shortQuery is below how many code points a query is the beginning of a name: shorter parts are in everybody's.
const shortQuery = 3

// matching narrows to the users whose username, e-mail or display name holds the query, or begins with a short one. The three
// stand in one text, a line each, so that one index serves all.
func (c *conditions) matching(query string) {
	part := escapeLike(searchText(query))
	if utf8.RuneCountInString(query) >= shortQuery {
		c.add(`users.search LIKE ? ESCAPE '\'`, "%"+part+"%")
		return
	}
	c.add(`(users.search LIKE ? ESCAPE '\' OR users.search LIKE ? ESCAPE '\')`, part+"%", "%\n"+part+"%")
}

// locked narrows to the users whose password is disabled or whose attempts are delayed, or to the others. They are few, and
// found first. What delays a session that is open ('#') does not keep anybody from signing in.
func (c *conditions) locked(account string, yes bool, now time.Time) {
	in := "users.id IN "
	if !yes {
		in = "users.id NOT IN "
	}
	disabled, values := "SELECT u.id FROM users u WHERE u.password_disabled_at IS NOT NULL", []any{}
	if account != "" {
		disabled, values = disabled+" AND u.account_id = ?", append(values, account)
	}
	c.add(in+"("+disabled+" UNION SELECT substr(t.subject, 6) FROM throttles t WHERE t.blocked_until > ? AND t.subject LIKE 'user:%'"+
		" AND t.key NOT LIKE t.subject || '#%')", append(values, moment(now))...)
}

func (c *conditions) filter(account string, f credential.Filter, now time.Time) {
	if f.Query != "" {
		c.matching(f.Query)
	}
	if f.Team != "" && f.Team != user.Root {
		c.add(`users.team LIKE ? ESCAPE '\'`, escapeLike(string(f.Team))+"%")
	}
	if f.Status != "" {
		c.add("users.status = ?", string(f.Status))
	}
	if f.Role != "" {
		c.add("users.role = ?", string(f.Role))
	}
	if f.MustChange != nil && *f.MustChange {
		c.add("users.must_change") // as the partial index has it
	} else if f.MustChange != nil {
		c.add("NOT users.must_change")
	}
	if f.Locked != nil {
		c.locked(account, *f.Locked, now)
	}
}

// membersStatement selects one page of the users within the actor's reach. Who is on the page is found first, from an index
// alone where there is one that holds what is asked for.
func membersStatement(actor access.Actor, f credential.Filter, after user.ID, limit int, now time.Time) (string, []any) {
	var c conditions
	c.reach(actor)
	c.filter(actor.OwnAccount(), f, now)
	c.add("users.id > ?", string(after))
	page := "(SELECT users.id FROM users WHERE " + strings.Join(c.texts, " AND ") + " ORDER BY users.id LIMIT ?) page"
	return "SELECT " + memberColumns() + " FROM " + page + " JOIN users ON users.id = page.id JOIN accounts ON accounts.id = users.account_id ORDER BY users.id",
		append(c.values, limit)
}

// Members lists users within the actor's reach in the order of their ids, which never change, after the one named.
func (s *Store) Members(ctx context.Context, actor access.Actor, f credential.Filter, after user.ID, limit int) ([]session.Member, error) {
	var found []session.Member
	for len(found) < limit {
		var rows []memberRow
		statement, values := membersStatement(actor, f, after, limit, s.now())
		if err := s.query(ctx).Raw(statement, values...).Scan(&rows).Error; err != nil {
			return nil, s.translate(err)
		}
		for _, row := range rows {
			member, err := row.member()
			if err != nil {
				return nil, err
			}
			after = member.User.ID
			if len(found) < limit && actor.Sees(member.User) {
				found = append(found, member)
			}
		}
		if len(rows) < limit {
			break
		}
	}
	return found, nil
}

// UsernameHistory returns the names a user has had, the newest first.
func (s *Store) UsernameHistory(ctx context.Context, id user.ID) ([]credential.Held, error) {
	var rows []historyRow
	err := s.query(ctx).Where("user_id = ?", string(id)).Order("held_from DESC, id DESC").Find(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	names := make([]credential.Held, len(rows))
	for i, row := range rows {
		names[i] = credential.Held{
			Username: row.Username, From: moment(row.HeldFrom), Until: momentOf(row.HeldUntil),
			By: audit.Party{Kind: access.Kind(row.ChangedByKind), ID: row.ChangedByID, Name: row.ChangedByName},
		}
	}
	return names, nil
}

// Activity returns up to limit events about the user that the user may see, the newest first, from before the position given.
func (s *Store) Activity(ctx context.Context, u user.User, before *audit.Position, limit int) ([]audit.Event, error) {
	mine := s.query(ctx).Where("target_id <> '' AND target_id = ? AND account_id = ? AND target_kind = ?", string(u.ID), u.AccountID, string(access.Person)).
		Where("action IN ? AND (outcome = ? OR actor_kind = '' OR actor_kind = ? AND actor_id = ?)",
			audit.Personal(), string(audit.Done), string(access.Person), string(u.ID))
	if before != nil {
		mine = mine.Where("at <= ? AND (at < ? OR id < ?)", moment(before.At), moment(before.At), before.ID)
	}
	var rows []eventRow
	if err := mine.Order("at DESC, id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, s.translate(err)
	}
	return eventsOf(rows)
}

// Holdings returns who was called by the folded name, in the order of time.
func (s *Store) Holdings(ctx context.Context, key string) ([]credential.Holding, error) {
	var rows []struct {
		UserID    string
		AccountID string
		HeldFrom  time.Time
		HeldUntil *time.Time
		Username  string
	}
	err := s.query(ctx).Raw("SELECT h.user_id, h.account_id, h.held_from, h.held_until, users.username FROM username_history h"+
		" JOIN users ON users.id = h.user_id WHERE h.key = ? ORDER BY h.held_from, h.id", key).Scan(&rows).Error
	if err != nil {
		return nil, s.translate(err)
	}
	holdings := make([]credential.Holding, len(rows))
	for i, row := range rows {
		holdings[i] = credential.Holding{
			UserID: user.ID(row.UserID), AccountID: row.AccountID, From: moment(row.HeldFrom), Until: momentOf(row.HeldUntil), CurrentUsername: row.Username,
		}
	}
	return holdings, nil
}
