package store

import (
	"context"
	"slices"
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

// where returns the conditions as a clause: none when there are none.
func (c *conditions) where() string {
	if len(c.texts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.texts, " AND ")
}

// account narrows to the account of the actor, if it belongs to one.
func (c *conditions) account(actor access.Actor) {
	switch {
	case actor.Kind != access.Service:
		c.add("users.account_id = ?", actor.User.AccountID)
	case !actor.AllAccounts:
		c.add("users.account_id = ?", actor.ClientAccount)
	}
}

// team narrows to the users of a team and of those below it, if one is named; all are below the root.
func (c *conditions) team(team user.Team) {
	if team != "" && team != user.Root {
		c.add(`users.team LIKE ? ESCAPE '\'`, escapeLike(string(team))+"%")
	}
}

// teams narrows to the users of the teams that a person manages, the own one among them; an agent, who manages none, to itself.
// What SQL cannot say shortly (nobody sees a wider reach than the own) is asked of each row afterwards.
func (c *conditions) teams(actor access.Actor) {
	if actor.ReachesAll() {
		return
	}
	var teams conditions
	for _, team := range actor.User.Reach() {
		teams.team(team)
	}
	if len(teams.texts) == 0 {
		teams.add("users.id = ?", string(actor.User.ID))
	}
	c.add("("+strings.Join(teams.texts, " OR ")+")", teams.values...)
}

// shortQuery is below how many code points a query is the beginning of a name: shorter parts are in everybody's.
const shortQuery = 3

// holding narrows to the users whose username, e-mail or display name holds the query, or begins with a short one. The three
// stand in one text, a line each.
func (c *conditions) holding(query, position string) {
	part := searchText(query)
	if utf8.RuneCountInString(query) >= shortQuery {
		c.add(position+"(users.search, ?) > 0", part)
		return
	}
	c.add("("+position+"(users.search, ?) = 1 OR "+position+"(users.search, ?) > 0)", part, "\n"+part)
}

// trigram is how many letters PostgreSQL's index of parts of names knows together (pg_trgm).
const trigram = 3

// resembling narrows to the users whom that index finds for the query, by LIKE, the test it knows: all who hold it, and few
// others. It is asked for every letter once, not for all threes of letters: it would read the users of each of them, for hardly
// fewer to be left.
func (c *conditions) resembling(query string) {
	part := searchText(query)
	if utf8.RuneCountInString(query) < shortQuery {
		begins := escapeLike(part) + "%"
		c.add(`(users.search LIKE ? ESCAPE '\' OR users.search LIKE ? ESCAPE '\')`, begins, "%\n"+begins)
		return
	}
	pattern, letters := "%", []rune(part)
	for ; len(letters) >= 2*trigram; letters = letters[trigram:] {
		pattern += escapeLike(string(letters[:trigram])) + "%"
	}
	c.add(`users.search LIKE ? ESCAPE '\'`, pattern+escapeLike(string(letters))+"%")
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

// filter narrows to what is asked for besides the query and the team.
func (c *conditions) filter(account string, f credential.Filter, now time.Time) {
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

// list is one page of the users within the actor's reach, up to limit after the one named. They are in the order of their accounts
// and ids, which never change.
type list struct {
	actor  access.Actor
	filter credential.Filter
	after  user.ID
	limit  int
	now    time.Time
	// position is the function of the database that tells where a text holds another.
	position string
}

// sample is how many users are looked through for a query before anything else: one that many names hold fills the page from
// them, and of the others they tell how rare it is.
const sample = 2000

// find returns who is on the page, by reading the ids that statements select. For a query there are two ways. To look through
// the users in their order until the page is full takes limit/frequency of them; to collect all who hold the query, from an index,
// and sort them takes frequency*users, each at some six times the cost. With a million users one is as good as the other where the
// square of what the sample holds is half the limit. PostgreSQL cannot choose: its statistics do not tell such frequencies.
func (l list) find(read func(statement string, values []any) (ids []user.ID, err error)) ([]user.ID, error) {
	if l.filter.Query == "" {
		return read(l.all())
	}
	ids, err := read(l.ahead(sample))
	if found := len(ids); err == nil && found < l.limit && 2*found*found >= l.limit {
		ids, err = read(l.ahead(2 * sample * l.limit / found)) // twice as far as the page should reach
	}
	if err == nil && len(ids) < l.limit {
		return read(l.collected())
	}
	return ids, err
}

// all selects the page of a list without a query.
func (l list) all() (statement string, values []any) {
	var c conditions
	l.follow(&c)
	l.narrow(&c)
	return "SELECT users.id FROM users" + c.where() + inOrder, append(c.values, l.limit)
}

// ahead selects the page from the next so many users of the account, whom the index alone that serves the filter tells enough of.
func (l list) ahead(users int) (statement string, values []any) {
	var next, c conditions
	l.follow(&next)
	next.filter(l.actor.OwnAccount(), l.filter, l.now)
	c.account(l.actor)                    // or else PostgreSQL does not see that they are in order
	c.holding(l.filter.Query, l.position) // first, as the quickest to rule somebody out
	c.teams(l.actor)
	c.team(l.filter.Team)
	from := "(SELECT users.account_id, users.id, users.search, users.team FROM users" + next.where() + inOrder + ") users"
	return "SELECT users.id FROM " + from + c.where() + inOrder, slices.Concat(next.values, []any{users}, c.values, []any{l.limit})
}

// collected selects all who hold the query, and then the page from them.
func (l list) collected() (statement string, values []any) {
	var c conditions
	l.follow(&c)
	c.holding(l.filter.Query, l.position)
	l.narrow(&c)
	c.resembling(l.filter.Query)
	return "WITH held AS MATERIALIZED (SELECT users.account_id, users.id FROM users" + c.where() + ") SELECT users.id FROM held users" + inOrder,
		append(c.values, l.limit)
}

// follow narrows to the account and to who comes after the last page.
func (l list) follow(c *conditions) {
	c.account(l.actor)
	switch {
	case l.after == "":
	case len(c.texts) > 0:
		c.add("users.id > ?", string(l.after))
	default:
		c.add("(users.account_id, users.id) > ((SELECT last.account_id FROM users last WHERE last.id = ?), ?)", string(l.after), string(l.after))
	}
}

// narrow narrows to who may be seen and is asked for, but for the query.
func (l list) narrow(c *conditions) {
	c.teams(l.actor)
	c.team(l.filter.Team)
	c.filter(l.actor.OwnAccount(), l.filter, l.now)
}

const inOrder = " ORDER BY users.account_id, users.id LIMIT ?"

// Members lists users within the actor's reach in the order of their accounts and ids, which never change, after the one named.
func (s *Store) Members(ctx context.Context, actor access.Actor, f credential.Filter, after user.ID, limit int) ([]session.Member, error) {
	var found []session.Member
	for more := true; more && len(found) < limit; {
		l := list{actor, f, after, limit, s.now(), s.dialect.position()}
		ids, err := l.find(func(statement string, values []any) (ids []user.ID, err error) {
			err = s.query(ctx).Raw(statement, values...).Scan(&ids).Error
			return ids, err
		})
		if err != nil {
			return nil, s.translate(err)
		}
		members, err := s.MembersByID(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			after = id
			if member, ok := members[id]; ok && len(found) < limit && actor.Sees(member.User) {
				found = append(found, member)
			}
		}
		more = len(ids) == limit
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
