package review

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func ago(days int) *time.Time {
	at := now().Add(-time.Duration(days) * day)
	return &at
}

// describe takes for legacy what says so.
func describe(hash string) (scheme string, legacy bool) {
	scheme, _, _ = strings.Cut(hash, " ")
	return scheme, strings.HasSuffix(hash, "legacy")
}

// crowd makes users as they are asked for, and keeps none.
type crowd struct {
	users  int
	make   func(i int) user.User
	uses   func(i int, visit func(at time.Time, network string))
	events []audit.Event
	asked  []int // limits
	actor  access.Actor
}

func number(id user.ID) int {
	var i int
	if _, err := fmt.Sscanf(string(id), "user-%d", &i); err != nil {
		return -1
	}
	return i
}

func (c *crowd) Members(_ context.Context, actor access.Actor, _ credential.Filter, after user.ID, limit int) ([]session.Member, error) {
	c.asked, c.actor = append(c.asked, limit), actor
	var members []session.Member
	for i := number(after) + 1; i < c.users && len(members) < limit; i++ {
		u := c.make(i)
		u.ID = user.ID(fmt.Sprintf("user-%08d", i))
		members = append(members, session.Member{User: u})
	}
	return members, nil
}

func (c *crowd) Standings(_ context.Context, subjects []string) (map[string]throttle.Standing, error) {
	found := map[string]throttle.Standing{}
	for _, s := range subjects {
		if i := number(user.ID(strings.TrimPrefix(s, "user:"))); i%10 == 4 {
			found[s] = throttle.Standing{Failures: i}
		}
	}
	return found, nil
}

func (c *crowd) Uses(_ context.Context, users []user.ID, visit func(user.ID, time.Time, string)) error {
	for _, id := range users {
		if c.uses != nil {
			c.uses(number(id), func(at time.Time, network string) { visit(id, at, network) })
		}
	}
	return nil
}

func (c *crowd) Commit(_ context.Context, changed change.Change) (change.Result, error) {
	c.events = append(c.events, changed.Audit...)
	return change.Result{}, nil
}

func plain(int) user.User {
	return user.User{
		AccountID: "demo", Status: user.Active, Role: user.Agent, Team: "/east/", Username: "alex.reed", CreatedAt: *ago(900), LastSignInAt: ago(1),
		Password: user.Password{Hash: "argon2id", SetBy: user.SetBySelf, ChangedAt: ago(10)},
	}
}

func query(findings ...Finding) Query {
	return Query{
		Account: user.Account{ID: "demo", Naming: identifier.Rule{Kind: identifier.LoginName, Template: "{first}.{last}"}},
		Actor:   access.Actor{Kind: access.Service, ClientID: "auditor", AllAccounts: true}, Findings: findings, OldDays: DefaultOldDays, DormantDays: DefaultDormantDays,
	}
}

// Issue's rule "many places at once": the most networks with a use each within one hour.
func TestPlaces(t *testing.T) {
	at := func(minutes int, network string) func(*places) {
		return func(p *places) { p.use(now().Add(time.Duration(minutes)*time.Minute), network) }
	}
	for name, c := range map[string]struct {
		uses []func(*places)
		most int
		when int
	}{
		"one network, often":                {[]func(*places){at(0, "a"), at(1, "a"), at(2, "a")}, 1, 0},
		"one after another within the hour": {[]func(*places){at(0, "a"), at(30, "b"), at(60, "c")}, 3, 60},
		"a minute too late":                 {[]func(*places){at(0, "a"), at(30, "b"), at(61, "c")}, 2, 30},
		"back again":                        {[]func(*places){at(0, "a"), at(50, "b"), at(55, "a"), at(110, "c")}, 3, 110},
		"a commuter through the week":       {[]func(*places){at(0, "a"), at(61, "b"), at(122, "c"), at(183, "d"), at(244, "a")}, 1, 0},
		"no network is no place":            {[]func(*places){at(0, ""), at(1, "")}, 0, 0},
	} {
		var p places
		for _, use := range c.uses {
			use(&p)
		}
		if p.most != c.most || c.most > 0 && !p.at.Equal(now().Add(time.Duration(c.when)*time.Minute)) {
			t.Errorf("%s: %d at %s", name, p.most, p.at)
		}
	}
}

// The same in a plain way: of every use, how many networks there were in the hour up to it.
func TestPlaces_generated(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var uses []time.Duration
		for range random.IntN(20) {
			uses = append(uses, time.Duration(random.IntN(300))*time.Minute)
		}
		slices.Sort(uses)
		networks := make([]string, len(uses))
		var p places
		want := 0
		for i, use := range uses {
			networks[i] = string(rune('a' + random.IntN(6)))
			p.use(now().Add(use), networks[i])
			within := map[string]bool{}
			for j := range i + 1 {
				if use-uses[j] <= time.Hour {
					within[networks[j]] = true
				}
			}
			want = max(want, len(within))
		}
		if p.most != want {
			t.Fatalf("%v %v: got %d, want %d", uses, networks, p.most, want)
		}
	}
}

// What each finding is about, and what it is not.
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*user.User)
		want   []Finding
	}{
		"nothing":                               {func(*user.User) {}, nil},
		"set a year ago":                        {func(u *user.User) { u.Password.ChangedAt = ago(365) }, nil},
		"set before that":                       {func(u *user.User) { u.Password.ChangedAt = ago(366) }, []Finding{OldPassword}},
		"set at an unknown time":                {func(u *user.User) { u.Password.ChangedAt = nil }, []Finding{OldPassword}},
		"no password":                           {func(u *user.User) { u.Password = user.Password{} }, nil},
		"made with it":                          {func(u *user.User) { u.CreatedAt, u.Password.SetBy = *u.Password.ChangedAt, user.SetByAdministrator }, []Finding{NeverChanged}},
		"imported with it":                      {func(u *user.User) { u.CreatedAt, u.Password.SetBy = *ago(5), user.SetByImport }, []Finding{NeverChanged}},
		"reset later":                           {func(u *user.User) { u.Password.SetBy = user.SetByAdministrator }, nil},
		"chosen at once":                        {func(u *user.User) { u.CreatedAt = *u.Password.ChangedAt }, nil},
		"legacy":                                {func(u *user.User) { u.Password.Hash = "bcrypt legacy" }, []Finding{LegacyHash}},
		"away for 45 days":                      {func(u *user.User) { u.LastSignInAt = ago(45) }, nil},
		"away for longer":                       {func(u *user.User) { u.LastSignInAt = ago(46) }, []Finding{Dormant}},
		"never seen":                            {func(u *user.User) { u.LastSignInAt = nil }, []Finding{Dormant}},
		"never seen, but new":                   {func(u *user.User) { u.LastSignInAt, u.CreatedAt = nil, *ago(20) }, nil},
		"disabled and away":                     {func(u *user.User) { u.LastSignInAt, u.Status = ago(400), user.Disabled }, nil},
		"another form of name":                  {func(u *user.User) { u.Username = "alex" }, []Finding{NamingViolation}},
		"a reserved name":                       {func(u *user.User) { u.Username = "administrator" }, []Finding{NamingViolation}},
		"an address where login names are used": {func(u *user.User) { u.Username = "alex@demo.example" }, []Finding{NamingViolation}},
	} {
		store := &crowd{users: 1, make: func(i int) user.User { u := plain(i); c.change(&u); return u }}
		entries, more, summary, err := New(store, describe, now).Page(t.Context(), query(), "", 10, true)
		if err != nil || more || len(entries) != 1 {
			t.Fatalf("%s: %v %v %v", name, entries, more, err)
		}
		counted := map[Finding]int{}
		for _, f := range c.want {
			counted[f] = 1
		}
		if diff := cmp.Diff(c.want, entries[0].Findings) + cmp.Diff(counted, summary.Findings); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Pages are narrowed to users with all findings asked for, each user once; the summary counts everybody.
func TestReviewer_Page(t *testing.T) {
	store := &crowd{users: 3500, make: func(i int) user.User {
		u := plain(i)
		if i%7 == 0 {
			u.Password.Hash = "bcrypt legacy"
		}
		if i%5 == 0 {
			u.LastSignInAt = ago(100)
		}
		if i%100 == 1 {
			u.Status, u.Password.MustChange, u.Password.DisabledAt = user.Disabled, true, ago(1)
		}
		return u
	}, uses: func(i int, visit func(time.Time, string)) {
		for n := range i % 5 {
			visit(now(), string(rune('a'+n)))
		}
	}}
	r := New(store, describe, now)
	for _, c := range []struct {
		findings []Finding
		want     func(i int) bool
	}{
		{nil, func(int) bool { return true }},
		{[]Finding{LegacyHash}, func(i int) bool { return i%7 == 0 }},
		{[]Finding{LegacyHash, Dormant}, func(i int) bool { return i%35 == 0 }},
		{[]Finding{ManyPlaces}, func(i int) bool { return i%5 == 4 }},
		{[]Finding{NamingViolation}, func(int) bool { return false }},
	} {
		var want, got []int
		for i := range store.users {
			if c.want(i) {
				want = append(want, i)
			}
		}
		for after, more := user.ID(""), true; more; {
			var entries []Entry
			var err error
			if entries, more, _, err = r.Page(t.Context(), query(c.findings...), after, 150, false); err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				got, after = append(got, number(e.User.ID)), e.User.ID
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: %d users, want %d", c.findings, len(got), len(want))
		}
	}
	entries, more, summary, err := r.Page(t.Context(), query(LegacyHash), "", 2, true)
	want := &Summary{Users: 3500, Disabled: 35, MustChange: 35, PasswordDisabled: 35, Findings: map[Finding]int{LegacyHash: 500, Dormant: 700, ManyPlaces: 700}}
	if diff := cmp.Diff(want, summary); err != nil || diff != "" || !more || len(entries) != 2 {
		t.Errorf("%v %v %d\n%s", err, more, len(entries), diff)
	}
	if e := store.events[len(store.events)-1]; e.Action != audit.CredentialsReviewed || e.Target.ID != "demo" || e.Details.Format != "json" || !slices.Equal(e.Details.Findings, []string{"legacy_hash"}) {
		t.Errorf("the event: %+v", e)
	}
	if len(store.events) != 6 { // of each first page
		t.Errorf("%d events", len(store.events))
	}
	// A service of all accounts reviews the one that it names.
	if store.actor.AllAccounts || store.actor.ClientAccount != "demo" {
		t.Errorf("asked for the users of every account: %+v", store.actor)
	}
}

// export writes a review into w.
func export(t *testing.T, store Store, q Query, w io.Writer) {
	t.Helper()
	file, err := New(store, describe, now).Open(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Write(t.Context(), w, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// The file is one that RFC 4180 describes, in UTF-8 with a mark, and no name of a user is a formula in it.
func TestFile(t *testing.T) {
	names := []string{
		`=HYPERLINK("http://evil.example","x")`, "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "＋1", "－1", "＠x", " =1", "\u00a0=1", "\ufeff=1", "\u200b+1", "\u202e-1", "−1", "﹦1",
		"Ólafur \"Óli\" Šimić", "a,b;c", "line\nbreak", "李小龍", "O'Neil", "a=b",
	}
	const formulas = 17
	store := &crowd{users: len(names), make: func(i int) user.User {
		u := plain(i)
		u.DisplayName = names[i]
		return u
	}}
	var text bytes.Buffer
	export(t, store, query(), &text)
	if !utf8.Valid(text.Bytes()) || !strings.HasPrefix(text.String(), "\ufeffuser_id,username,display_name,") || !strings.HasSuffix(text.String(), "\r\n") {
		t.Errorf("%q", text.String())
	}
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text.String(), byteOrderMark))).ReadAll()
	if err != nil || len(lines) != len(names)+1 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if diff := cmp.Diff(columns(), lines[0]); diff != "" {
		t.Error(diff)
	}
	for i, name := range names {
		want := strings.ReplaceAll(name, "\r", "") // which the form has no place for within a line
		if i < formulas {
			want = "'" + want
		}
		if got := lines[i+1][2]; got != want {
			t.Errorf("%q is written as %q", name, got)
		}
	}
	wanted := []string{
		"user-00000004", "alex.reed", "'@SUM(A1)", "agent", "/east/", "active", "2026-02-19T12:00:00Z", "10", "self", "argon2id", "false", "false", "false",
		"2026-02-28T12:00:00Z", "4", "", "0", "", "",
	}
	wanted[0], wanted[2] = "user-00000004", "'\t=1"
	if diff := cmp.Diff(wanted, lines[5]); diff != "" {
		t.Error(diff)
	}
	if e := store.events[0]; len(store.events) != 1 || e.Details.Format != "csv" {
		t.Errorf("%+v", store.events)
	}
}

// weigher looks at the memory in use while a file is written.
type weigher struct {
	lines int
	every int
	calls int
	most  uint64
}

func (w *weigher) Write(p []byte) (int, error) {
	w.lines += bytes.Count(p, []byte("\n"))
	if w.calls++; w.calls%w.every == 0 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.most = max(w.most, m.HeapAlloc)
	}
	return len(p), nil
}

// 1,000,000 users do not fill the memory: what a file of ten times the users holds on to is no more, and never more than a window is
// asked for.
func TestFile_memory(t *testing.T) {
	peak := func(users int) uint64 {
		store := &crowd{users: users, make: plain}
		w := &weigher{every: 5}
		export(t, store, query(), w)
		if w.lines != users+1 || slices.Max(store.asked) > window {
			t.Fatalf("%d lines, windows of %d", w.lines, slices.Max(store.asked))
		}
		return w.most
	}
	small, large := peak(5_000), peak(50_000)
	if large > small+4<<20 {
		t.Errorf("%d bytes for 5,000 users, %d for 50,000", small, large)
	}
}

// A file that breaks off says so.
func TestFile_breaksOff(t *testing.T) {
	file, err := New(&crowd{users: 5000, make: plain}, describe, now).Open(t.Context(), query())
	if err != nil {
		t.Fatal(err)
	}
	left := 2
	hungUp := errors.New("hung up")
	err = file.Write(t.Context(), io.Discard, func() error {
		if left--; left < 0 {
			return hungUp
		}
		return nil
	})
	if !errors.Is(err, hungUp) {
		t.Errorf("got %v", err)
	}
}
