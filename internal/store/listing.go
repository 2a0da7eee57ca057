package store

import (
	"context"
	"strings"

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

func (s *Store) filter(c *conditions, f credential.Filter) {
	if f.Query != "" {
		c.add(`users.search LIKE ? ESCAPE '\'`, "%"+escapeLike(searchText(f.Query))+"%")
	}
	if f.Team != "" {
		c.add(`users.team LIKE ? ESCAPE '\'`, escapeLike(string(f.Team))+"%")
	}
	if f.Status != "" {
		c.add("users.status = ?", string(f.Status))
	}
	if f.Role != "" {
		c.add("users.role = ?", string(f.Role))
	}
	if f.MustChange != nil {
		c.add("users.must_change = ?", *f.MustChange)
	}
	if f.Locked != nil {
		not := "NOT "
		if *f.Locked {
			not = ""
		}
		c.add(not+"(users.password_disabled_at IS NOT NULL OR EXISTS (SELECT 1 FROM throttles t WHERE t.subject = 'user:' || users.id AND t.key NOT LIKE t.subject || '#%' AND t.blocked_until > ?))", moment(s.now()))
	}
}

// Members lists users within the actor's reach in the order of their ids, which never change, after the one named.
func (s *Store) Members(ctx context.Context, actor access.Actor, f credential.Filter, after user.ID, limit int) ([]session.Member, error) {
	var found []session.Member
	for len(found) < limit {
		var c conditions
		c.reach(actor)
		s.filter(&c, f)
		c.add("users.id > ?", string(after))
		var rows []memberRow
		err := s.query(ctx).Raw("SELECT "+memberColumns()+fromMembers+"WHERE "+strings.Join(c.texts, " AND ")+" ORDER BY users.id LIMIT ?",
			append(c.values, limit)...).Scan(&rows).Error
		if err != nil {
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
