package store_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/pgtest"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// crowd makes the account big of so many users in the database beside, and another with a quarter of that: 100 regions of 20
// branches each, 40 first names, and last names that one user in 36 has, or in 870, and anything between; one user in 1,000
// disabled, one in 20,000 locked, one in 200 an administrator, one in 50 with a temporary password. None of these has to do with
// another, nor with where a user is stored or comes in a list.
func crowd(tb testing.TB, db besides, users int) {
	tb.Helper()
	for _, statement := range []string{
		"ALTER TABLE users SET (autovacuum_enabled = false)", // which would come in between, and keep the VACUUM below from its work
		"INSERT INTO accounts (id, name, created_at) VALUES ('big', 'Big', now()), ('other', 'Other', now())",
		"CREATE FUNCTION drawn(n bigint, draw bigint, of int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs(hashint8extended(n, draw) % of)::int'",
		people("big", users), people("other", users/4),
		"INSERT INTO throttles (key, subject, failures, in_flight, blocked_until, updated_at) SELECT 'user:' || id, 'user:' || id, 25, 0, '2030-01-01', now() FROM users WHERE id LIKE '%0777big'",
		"VACUUM ANALYZE users", "VACUUM ANALYZE throttles", "VACUUM ANALYZE accounts",
		"VACUUM users", // for the pages that something else still looked at
	} {
		if _, err := db.ExecContext(tb.Context(), statement); err != nil {
			tb.Fatal(err)
		}
	}
}

// people makes so many users in an account.
func people(account string, users int) string {
	return strings.NewReplacer("ACCOUNT", account, "USERS", strconv.Itoa(users), "LAST_NAMES", lastNames).Replace(`
		INSERT INTO users (id, account_id, team, role, display_name, status, username, email, email_verified, search, password_hash, must_change, password_disabled_at, created_at)
		SELECT 'user-' || lpad(to_hex((n * 2654435761) % 4294967296), 8, '0') || '-' || n || 'ACCOUNT', 'ACCOUNT',
			'/region-' || drawn(n, 1, 100) || '/branch-' || drawn(n, 2, 20) || '/', CASE WHEN drawn(n, 3, 200) = 0 THEN 'administrator' ELSE 'agent' END,
			initcap(given) || ' ' || initcap(family), CASE WHEN drawn(n, 4, 1000) = 0 THEN 'disabled' ELSE 'active' END, name, name || '@ACCOUNT.example', true,
			name || E'\n' || name || '@ACCOUNT.example' || E'\n' || given || ' ' || family, 'x',
			drawn(n, 5, 50) = 0, CASE WHEN drawn(n, 6, 20000) = 0 THEN now() END, now()
		FROM (SELECT n, given, family, given || '.' || family || n AS name
			FROM (SELECT n, (ARRAY['alex','maria','bo','wanda','erin','ada','olga','oscar','dora','kim','jonas','lena','pavel','nina','hugo','ines','omar','tara','ivan','ruth',
				'carl','eva','finn','greta','hans','iris','jack','kate','liam','mia','noah','otto','paul','rosa','sam','tom','uma','vera','will','zoe'])[1 + drawn(n, 7, 40)] AS given,
				(string_to_array('LAST_NAMES', ' '))[1 + floor(10.5 * power(25.66::float8, drawn(n, 8, 1000000) / 1e6::float8) - 10.5)::int] AS family
				FROM generate_series(1, USERS) n) drawn) named`)
}

// lastNames are some of the most frequent ones of Europe, America and Asia, the most frequent here first.
const lastNames = `smith johnson garcía müller kowalski nguyen martin silva rossi andersson kim nowak jansen novák schmidt williams fernández dubois santos ivanov brown larsen papadopoulos horváth weber jones lópez nilsson wójcik meyer davis bernard costa hansen popov miller ferrari kaya tanaka wagner wilson martínez petit lindström kovács becker moore sánchez durand oliveira petrov taylor bianchi yılmaz suzuki hoffmann anderson pérez leroy johansen dvořák schulz thomas gómez moreau eriksson kaminski koch jackson martín simon almeida smirnov white russo demir watanabe bauer harris jiménez laurent karlsson szabó richter thompson ruiz lefebvre pedersen lewandowski klein clark hernández michel carvalho volkov lewis esposito çelik itō wolf robinson díaz garnier olsson svoboda schröder walker moreno david svensson zieliński neumann young álvarez bertrand nielsen tóth schwarz allen muñoz roux gomes kuznetsov king romano şahin yamamoto zimmermann wright romero vincent gustafsson novotný braun scott alonso fournier kristensen szymański krüger torres gutiérrez morel ribeiro sokolov hill colombo arslan nakamura hofmann green navarro girard pettersson nagy hartmann adams domínguez andré møller woźniak lange baker vázquez mercier martins lebedev nelson ricci doğan kobayashi schmitt carter ramos dupont jonsson černý werner mitchell gil lambert christensen dąbrowski krause roberts serrano bonnet rodrigues kozlov turner marino kılıç katō meier phillips blanco martinez hansson kučera lehmann campbell molina françois sørensen kozłowski schmid parker castro legrand lopes novikov evans greco aslan yoshida schulze edwards ortega garcia bengtsson veselý maier collins rubio perrin thomsen jankowski köhler stewart marín clément pinto morozov morris bruno çetin yamada herrmann murphy delgado morin danielsson horák könig cook ortiz nicolas jørgensen mazur walter rogers sanz henry teixeira pavlov peterson gallo kara sasaki`

// look is one way to look for users.
type look struct {
	name   string
	actor  access.Actor
	filter credential.Filter
	after  user.ID
	index  string // that PostgreSQL finds them by; empty where several are as good
}

// leader is an administrator of the account big who manages these teams.
func leader(teams ...user.Team) access.Actor {
	return access.Actor{Kind: access.Person, User: user.User{ID: "nobody-1", AccountID: "big", Role: user.Administrator, Team: teams[0], AlsoManages: teams[1:]}}
}

// everywhere is a service of all accounts.
var everywhere = access.Actor{Kind: access.Service, AllAccounts: true}

func looks() []look {
	yes := true
	company := leader("/")
	return []look{
		{"first page", company, credential.Filter{}, "", "users_page"},
		{"page in the middle", company, credential.Filter{}, "user-8", "users_page"},
		{"name", company, credential.Filter{Query: "navarro"}, "", "users_by_search"},
		{"frequent name", company, credential.Filter{Query: "richter"}, "", ""},
		{"one user", company, credential.Filter{Query: "Navarro284@big"}, "", "users_by_search"},
		{"part of many names", company, credential.Filter{Query: "big.example"}, "", "users_page"},
		{"part of nobody's name", company, credential.Filter{Query: "xyzzy"}, "", "users_by_search"},
		{"beginning of many names", company, credential.Filter{Query: "zo"}, "", "users_page"},
		{"beginning of nobody's name", company, credential.Filter{Query: "xq"}, "", "users_by_search"},
		{"one letter", company, credential.Filter{Query: "k"}, "", "users_page"},
		{"team", company, credential.Filter{Team: "/region-7/branch-3/"}, "", "users_by_team"},
		{"region", company, credential.Filter{Team: "/region-7/"}, "", ""},
		{"name in a region", company, credential.Filter{Team: "/region-7/", Query: "navarro"}, "", ""},
		{"leader of a branch", leader("/region-7/branch-3/"), credential.Filter{}, "", "users_by_team"},
		{"leader of a region", leader("/region-7/", "/region-9/branch-1/"), credential.Filter{}, "user-8", ""},
		{"leader of a region, name", leader("/region-7/"), credential.Filter{Query: "navarro"}, "", ""},
		{"disabled", company, credential.Filter{Status: user.Disabled}, "", "users_disabled"},
		{"first name with a temporary password", company, credential.Filter{Query: "alex", MustChange: &yes}, "", "users_to_change"},
		{"first name in a region", company, credential.Filter{Team: "/region-7/", Query: "alex"}, "", ""},
		{"temporary passwords in a region", company, credential.Filter{Team: "/region-7/", MustChange: &yes}, "", ""},
		{"locked", company, credential.Filter{Locked: &yes}, "", "users_locked"},
		{"administrators", company, credential.Filter{Role: user.Administrator}, "", "users_leading"},
		{"temporary passwords", company, credential.Filter{MustChange: &yes}, "", "users_to_change"},
		{"service of all accounts", everywhere, credential.Filter{Query: "navarro"}, "", "users_by_search"},
	}
}

// Lists are found by an index, whatever is asked for: no statement reads all users, and the one that fills the page uses the index
// it is meant to.
func TestMembers_plans(t *testing.T) {
	url := pgtest.Database(t, migrate)
	crowd(t, beside(t, url), 40_000)
	s := opened(t, url)
	for _, l := range looks() {
		plans, err := s.ExplainMembers(t.Context(), l.actor, l.filter, l.after, 51)
		must(t, err)
		all := strings.Join(plans, "\n")
		if strings.Contains(all, "Seq Scan on users") || !strings.Contains(plans[len(plans)-1], l.index) {
			t.Errorf("%s is not found by %s:\n%s", l.name, l.index, all)
		}
		t.Logf("%s:\n%s", l.name, all)
	}
}

// Page by page, a list holds everybody who is asked for, in order and once, by whichever way each page is found: a part that all
// names hold, many, some, few and none, for administrators and for a service of all accounts.
func TestMembers_pages(t *testing.T) {
	url := pgtest.Database(t, migrate)
	db := beside(t, url)
	crowd(t, db, 12_000)
	s := opened(t, url)
	yes, ways := true, map[int]bool{}
	for query, holds := range map[string]string{
		"big.example": "search LIKE '%big.example%'", "smith": "search LIKE '%smith%'", "navarro": "search LIKE '%navarro%'", "avarr": "search LIKE '%avarr%'",
		"Navarro284@b": "search LIKE '%navarro284@b%'", "xyzzy": "false", "zo": "(search LIKE 'zo%' OR search LIKE E'%\nzo%')", "": "true", "100%": "false", "a_e": "false",
	} {
		for _, list := range []struct {
			actor  access.Actor
			filter credential.Filter
			where  string
		}{
			{leader("/"), credential.Filter{}, "account_id = 'big'"},
			{leader("/region-7/"), credential.Filter{MustChange: &yes}, "account_id = 'big' AND team LIKE '/region-7/%' AND must_change"},
			{everywhere, credential.Filter{MustChange: &yes}, "must_change"},
		} {
			list.filter.Query = query
			var got []string
			after := user.ID("")
			for more := true; more; {
				plans, err := s.ExplainMembers(t.Context(), list.actor, list.filter, after, 51)
				must(t, err)
				ways[len(plans)] = true
				page, err := s.Members(t.Context(), list.actor, list.filter, after, 51)
				must(t, err)
				for _, m := range page {
					got, after = append(got, string(m.User.ID)), m.User.ID
				}
				more = len(page) == 51 && len(got) < 20_000
			}
			want := db.rows(t, "SELECT id FROM users WHERE "+list.where+" AND "+holds+" ORDER BY account_id, id")
			if !slices.Equal(got, want) {
				t.Errorf("%q where %s: got %d users, want %d", query, list.where, len(got), len(want))
			}
		}
	}
	if !ways[1] || !ways[2] || !ways[3] {
		t.Errorf("the steps that pages were found in: %v", ways)
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
	if _, err := db.ExecContext(b.Context(), "CHECKPOINT"); err != nil { // which would write them in the midst of the first figures
		b.Logf("the checkpoint is still to come: %v", err)
	}
	syscall.Sync()
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
		if plans, err := s.ExplainMembers(b.Context(), l.actor, l.filter, l.after, 51); err != nil {
			b.Fatal(err)
		} else if testing.Verbose() {
			b.Logf("%s:\n%s", l.name, strings.Join(plans, "\n"))
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
