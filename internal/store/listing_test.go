package store_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// crowd makes the account big of so many users in the database beside, and another with a quarter of that between them: 100 regions
// of 20 branches each, 40 first and 500 last names, one user in 1,000 disabled, one in 7,000 locked, one in 200 an administrator,
// one in 50 with a temporary password.
func crowd(tb testing.TB, db besides, users int) {
	tb.Helper()
	for _, statement := range []string{
		"ALTER TABLE users SET (autovacuum_enabled = false)", // which would come in between, and keep the VACUUM below from its work
		"INSERT INTO accounts (id, name, created_at) VALUES ('big', 'Big', now()), ('other', 'Other', now())",
		people("big", users), people("other", users/4),
		"INSERT INTO throttles (key, subject, failures, in_flight, blocked_until, updated_at) SELECT 'user:' || id, 'user:' || id, 25, 0, '2030-01-01', now() FROM users WHERE id LIKE '%0777big'",
		"VACUUM ANALYZE users", "VACUUM ANALYZE throttles", "VACUUM ANALYZE accounts",
	} {
		if _, err := db.ExecContext(tb.Context(), statement); err != nil {
			tb.Fatal(err)
		}
	}
}

// people makes so many users in an account.
func people(account string, users int) string {
	return strings.NewReplacer("ACCOUNT", account, "USERS", strconv.Itoa(users)).Replace(`
		INSERT INTO users (id, account_id, team, role, display_name, status, username, email, email_verified, search, password_hash, must_change, password_disabled_at, created_at)
		SELECT 'user-' || lpad(to_hex((n * 2654435761) % 4294967296), 8, '0') || '-' || n || 'ACCOUNT', 'ACCOUNT', team,
			CASE WHEN n % 200 = 7 THEN 'administrator' ELSE 'agent' END, initcap(given) || ' ' || initcap(family),
			CASE WHEN n % 1000 = 3 THEN 'disabled' ELSE 'active' END, name, name || '@ACCOUNT.example', true,
			name || E'\n' || name || '@ACCOUNT.example' || E'\n' || given || ' ' || family, 'x', n % 50 = 9, CASE WHEN n % 20000 = 5 THEN now() END, now()
		FROM (SELECT n, given, family, given || '.' || family || n AS name, '/region-' || n % 100 || '/branch-' || (n / 100) % 20 || '/' AS team
			FROM (SELECT n, (ARRAY['alex','maria','bo','wanda','erin','ada','olga','oscar','dora','kim','jonas','lena','pavel','nina','hugo','ines','omar','tara','ivan','ruth',
				'carl','eva','finn','greta','hans','iris','jack','kate','liam','mia','noah','otto','paul','rosa','sam','tom','uma','vera','will','zoe'])[1 + n % 40] AS given,
				(ARRAY['reed','lind','voss','cole','marsh','hale','brandt','finch','ortiz','kowalski'])[1 + (n / 40) % 10] || (ARRAY['','s','er','son','mann','ova','berg','dal','ström','ley',
				'ton','ham','wood','field','ford','gate','hill','land','moor','over','park','ridge','shaw','stone','thorpe','vale','ward','well','worth','by','croft','den','don','low','more',
				'ness','side','stead','ter','wick','win','yard','zel','ina','ini','ano','ero','ide','ani','ulu'])[1 + (n / 400) % 50] AS family
				FROM generate_series(1, USERS) n) names) placed`)
}

// look is one way to look for users.
type look struct {
	name   string
	actor  access.Actor
	filter credential.Filter
	after  user.ID
	index  string // that PostgreSQL finds them by
}

func looks() []look {
	leader := func(teams ...user.Team) access.Actor {
		return access.Actor{Kind: access.Person, User: user.User{ID: "nobody-1", AccountID: "big", Role: user.Administrator, Team: teams[0], AlsoManages: teams[1:]}}
	}
	yes := true
	company := leader("/")
	return []look{
		{"first page", company, credential.Filter{}, "", "users_page"},
		{"page in the middle", company, credential.Filter{}, "user-8", "users_page"},
		{"name", company, credential.Filter{Query: "kowalskiström"}, "", "users_by_search"},
		{"one user", company, credential.Filter{Query: "KowalskiStröm3560@big"}, "", "users_by_search"},
		{"part of many names", company, credential.Filter{Query: "big.example"}, "", "users_page"},
		{"part of nobody's name", company, credential.Filter{Query: "xyzzy"}, "", "users_by_search"},
		{"beginning of many names", company, credential.Filter{Query: "zo"}, "", "users_page"},
		{"beginning of nobody's name", company, credential.Filter{Query: "xq"}, "", "users_by_search"},
		{"one letter", company, credential.Filter{Query: "k"}, "", "users_page"},
		{"team", company, credential.Filter{Team: "/region-7/branch-3/"}, "", "users_by_team"},
		{"region", company, credential.Filter{Team: "/region-7/"}, "", ""},
		{"name in a region", company, credential.Filter{Team: "/region-7/", Query: "kowalskiström"}, "", "users_by_search"},
		{"leader of a branch", leader("/region-7/branch-3/"), credential.Filter{}, "", "users_by_team"},
		{"leader of a region", leader("/region-7/", "/region-9/branch-1/"), credential.Filter{}, "user-8", ""},
		{"leader of a region, name", leader("/region-7/"), credential.Filter{Query: "kowalskiström"}, "", "users_by_search"},
		{"disabled", company, credential.Filter{Status: user.Disabled}, "", "users_disabled"},
		{"locked", company, credential.Filter{Locked: &yes}, "", "users_locked"},
		{"administrators", company, credential.Filter{Role: user.Administrator}, "", "users_leading"},
		{"temporary passwords", company, credential.Filter{MustChange: &yes}, "", "users_to_change"},
		{"service of all accounts", access.Actor{Kind: access.Service, AllAccounts: true}, credential.Filter{Query: "kowalskiström"}, "", "users_by_search"},
	}
}

// Lists are found by an index, whatever is asked for: no statement reads all users.
func TestMembers_plans(t *testing.T) {
	url := pgtest.Database(t, migrate)
	crowd(t, beside(t, url), 40_000)
	s := opened(t, url)
	for _, l := range looks() {
		plan, err := s.ExplainMembers(t.Context(), l.actor, l.filter, l.after, 51)
		must(t, err)
		if strings.Contains(plan, "Seq Scan on users") || l.index != "" && !strings.Contains(plan, l.index) {
			t.Errorf("%s is not found by %s:\n%s", l.name, l.index, plan)
		}
		t.Logf("%s:\n%s", l.name, plan)
	}
}

// BenchmarkMembers measures a page of 50 users, with what keeps them from signing in, in an account of BENCH_USERS users (1,000,000
// if that is not set), with another of a quarter of that, in a PostgreSQL of its own:
//
//	go test -run '^$' -bench Members -benchtime 200x -timeout 1h ./internal/store
func BenchmarkMembers(b *testing.B) {
	users := 1_000_000
	if given, err := strconv.Atoi(os.Getenv("BENCH_USERS")); err == nil {
		users = given
	}
	url := pgtest.Database(b, migrate)
	db := beside(b, url)
	began := time.Now()
	crowd(b, db, users)
	b.Logf("%d users were made in %s", users, time.Since(began).Round(time.Second))
	s := opened(b, url)
	for _, l := range looks() {
		b.Run(strings.ReplaceAll(l.name, " ", "_"), func(b *testing.B) {
			found := page(b, s, l) // warm
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				page(b, s, l)
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
			b.ReportMetric(float64(found), "users")
		})
		if plan, err := s.ExplainMembers(b.Context(), l.actor, l.filter, l.after, 51); err != nil {
			b.Fatal(err)
		} else if testing.Verbose() {
			b.Logf("%s:\n%s", l.name, plan)
		}
	}
}

// page reads what GET /admin/users shows, and returns how many users there are on it.
func page(b *testing.B, s *store.Store, l look) int {
	members, err := s.Members(b.Context(), l.actor, l.filter, l.after, 51)
	if err != nil {
		b.Fatal(err)
	}
	var subjects []string
	for _, m := range members {
		subjects = append(subjects, session.ThrottleSubject(m.User.ID))
	}
	if _, err := s.Standings(b.Context(), subjects); err != nil {
		b.Fatal(err)
	}
	return len(members)
}
