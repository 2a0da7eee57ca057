package importing_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/importing"
	"github.com/salesexec/credentials/internal/user"
)

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// memory is a store that keeps what it is given, and has what it is told.
type memory struct {
	found   importing.Found
	taken   []importing.Taken // by the time of writing
	fail    error
	loads   int // how often the whole load was taken
	entries []importing.Entry
	made    []user.Account
	during  func() // is called before the first batch is taken
}

func (m *memory) Occupied(context.Context, importing.Wanted) (importing.Found, error) {
	found := m.found
	if found.Accounts == nil {
		found.Accounts = map[string]identifier.Rule{"acme": {}}
	}
	return found, m.fail
}

func (m *memory) ImportUsers(_ context.Context, load importing.Load) ([]importing.Taken, error) {
	var all []importing.Entry
	if m.during != nil {
		m.during()
	}
	for range 2 { // a transaction may be tried again
		all = nil
		for batch, err := range load.Entries {
			if err != nil {
				return nil, err
			}
			all = append(all, batch...)
		}
		m.loads++
	}
	if len(m.taken) > 0 && !load.LeaveOut {
		return m.taken, nil
	}
	m.entries, m.made = all, load.Accounts
	return m.taken, nil
}

// lines returns where the entries that were written come from.
func (m *memory) lines() []int {
	var lines []int
	for _, e := range m.entries {
		lines = append(lines, e.Line)
	}
	return lines
}

func run(t *testing.T, m *memory, file string, o importing.Options) (importing.Result, error) {
	t.Helper()
	if o.Format == "" {
		o.Format = importing.CSV
	}
	return importing.New(m, now).Run(t.Context(), strings.NewReader(file), o)
}

// told is a problem as it is told.
func told(problems []importing.Problem) []string {
	var texts []string
	for _, p := range problems {
		texts = append(texts, fmt.Sprintf("%d %s: %s", p.Line, p.Column, p.Detail))
	}
	return texts
}

const header = "id,account_id,team,role,username,email,display_name,status,password_hash,also_manages\n"

// Imported users are what the file says, with the event that tells of each.
func TestRun(t *testing.T) {
	const hash = "$pbkdf2-sha256$i=29000$MDEyMzQ1Njc4OWFiY2RlZg$yXx2dntOD3P2bL9jbgnq0WW+aEHXlUOMDg+3BvhPt/g"
	at := time.Date(2024, 11, 18, 14, 3, 51, 0, time.UTC)
	want := []user.User{
		{
			ID: "crm-1", AccountID: "acme", Team: "/east/", Role: user.Administrator, AlsoManages: []user.Team{"/west/", "/north; south/"},
			DisplayName: "Ada \"A\" Marsh", Status: user.Active, Username: "Ada.Marsh", Email: "Ada@acme.example", EmailVerified: true,
			Password: user.Password{Hash: hash, SetBy: user.SetByImport, ChangedAt: &at}, Generation: 1, Version: 1, Revision: 1, CreatedAt: now(),
		},
		{ // a reserved name, and an address as username
			ID: "crm-2", AccountID: "acme", Team: "/", Role: user.Agent, Status: user.Disabled, Username: "admin",
			Generation: 1, Version: 1, Revision: 1, CreatedAt: now(),
		},
		{
			ID: "crm-3", AccountID: "acme", Team: "/", Role: user.Agent, Status: user.Active, Username: "bo@acme.example", Email: "bo@acme.example", EmailVerified: true,
			Generation: 1, Version: 1, Revision: 1, CreatedAt: now(),
		},
	}
	for format, file := range map[importing.Format]string{
		importing.CSV: "\ufeffid,role,account_id,team,also_manages,display_name,status,username,email,password_hash,password_changed_at\r\n" +
			"crm-1,administrator,acme,/east/,/west/;/north/,\"Ada \"\"A\"\" Marsh\",active,Ada.Marsh,Ada@acme.example," + hash + ",2024-11-18T14:03:51Z\r\n" +
			"\r\ncrm-2,agent,acme,/,,,disabled,admin,,,\r\ncrm-3,agent,acme,/,,,,bo@acme.example,bo@acme.example,,",
		importing.NDJSON: `{"id":"crm-1","role":"administrator","account_id":"acme","team":"/east/","also_manages":["/west/","/north; south/"],"display_name":"Ada \"A\" Marsh","username":"Ada.Marsh","email":"Ada@acme.example","password_hash":"` +
			hash + `","password_changed_at":"2024-11-18T14:03:51Z"}` + "\n\n" + `{"id":"crm-2","role":"agent","account_id":"acme","team":"/","status":"disabled","username":"admin"}` +
			"\r\n" + ` {"id":"crm-3","role":"agent","account_id":"acme","team":"/","username":"bo@acme.example","email":"bo@acme.example"}`,
	} {
		t.Run(string(format), func(t *testing.T) {
			m := &memory{}
			result, err := run(t, m, file, importing.Options{Format: format, Reason: "moved from the old CRM"})
			if diff := cmp.Diff(importing.Result{Rows: 3, Written: 3}, result); err != nil || diff != "" {
				t.Fatalf("%v\n%s", err, diff)
			}
			for i, entry := range m.entries {
				u := want[i]
				if i == 0 && format == importing.CSV {
					u.AlsoManages = []user.Team{"/west/", "/north/"}
				}
				if diff := cmp.Diff(u, entry.User); diff != "" {
					t.Error(diff)
				}
				e := entry.Event
				if e.Action != audit.UserImported || e.Actor.Kind != access.Operator || e.Target.ID != string(u.ID) || e.Target.Username != u.Username ||
					e.AccountID != "acme" || e.Reason != "moved from the old CRM" || !e.At.Equal(now()) {
					t.Errorf("the event: %+v", e)
				}
			}
			schemes := m.entries[0].Event.Details.Scheme + " " + m.entries[1].Event.Details.Scheme
			if schemes != "pbkdf2-sha256 none" || m.loads != 2 {
				t.Errorf("schemes %s, loaded %d times", schemes, m.loads)
			}
		})
	}
}

// Every row that is bad is told, for everything that is wrong with it, with the line that it begins on, and never with a value
// of it; nothing is written.
func TestRun_badRows(t *testing.T) {
	m := &memory{found: importing.Found{
		IDs:  map[user.ID]bool{"old": true},
		Keys: map[string]importing.Holder{"used": {UserID: "u-1"}, "held@acme.example": {UserID: "u-2", Held: true}},
	}}
	file := header +
		"1,acme,/,agent,good,,,,,\n" +
		"canary/1,,east,boss,canary name,canary,\"canary\tname\",gone,canary-hash,\n" + // line 3
		"2,acme,/,agent,first,,\"a name\nof three\r\nlines\",,,\n" + // 4 to 6: a control character
		"3,acme,/,agent\n" + // 7
		"4,acme,/,agent,ca\"nary,,,,,\n" + // 8
		"5,acme,/,agent,used,held@acme.example,,,,\n" + // 9
		"old,acme,/,agent,other,,,,,\n" + // 10
		"6,nowhere,/,agent,sixth,,,,,\n" + // 11
		"\n7,acme,/,agent,seventh,,,,,/east/\n" + // 13
		"8,acme,/,administrator,eighth,,,,,/east/;west\n" + // 14
		"9,acme,/,agent,\xff\xfe,,,,,\n" + // 15
		"10,acme,/,agent,tenth,,,,\"$argon2id$v=19$m=4294967295,t=3,p=1$QUFBQUFBQUFBQUFBQUFBQQ$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE\",\n" // 16
	result, err := run(t, m, file, importing.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"3 id: must be 1 to 64 of A-Z, a-z, 0-9, _ and -.",
		"3 account_id: must be 1 to 64 of A-Z, a-z, 0-9, _ and -.",
		"3 team: must be a path like / or /east/boston/.",
		"3 role: must be agent or administrator.",
		"3 status: must be active or disabled; leave it empty for active.",
		"3 display_name: must have at most 200 characters, and no control characters.",
		"3 username: Use letters, digits, dots, underscores and hyphens only, without spaces.",
		"3 email: Give an address like name@example.com.",
		"3 password_hash: cannot be used: none of argon2id, argon2i, bcrypt, PBKDF2 and ASP.NET Core Identity.",
		"4 display_name: must have at most 200 characters, and no control characters.",
		"7 : has 4 cells; the header has 10.",
		"8 : has a quote inside a cell that does not begin with one: quote the cell, and double the quotes in it.",
		"9 username: is in use by the user u-1.",
		"9 email: is held for the user u-2, who had it before.",
		"10 id: is that of a user already.",
		"11 account_id: is not that of an account, and accounts are not to be made.",
		"13 also_manages: is for administrators: an agent manages no teams.",
		"14 also_manages: must be at most 50 paths like /east/; in CSV with semicolons between them.",
		"15 : is not UTF-8 in cell 5.",
		"16 password_hash: cannot be used: argon2 memory is not from 8 KiB a thread to 1 GiB.",
	}
	if diff := cmp.Diff(want, told(result.Problems)); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(strings.Join(told(result.Problems), " "), "canary") {
		t.Error("a value is told")
	}
	if result.Rows != 12 || result.Bad != 11 || result.Written != 0 || m.loads != 0 {
		t.Errorf("%d rows, %d bad, %d written in %d loads", result.Rows, result.Bad, result.Written, m.loads)
	}
	for _, o := range []importing.Options{{SkipBad: true, DryRun: true}, {SkipBad: true}} {
		result, err := run(t, m, file, o)
		if want := map[bool]int{true: 0, false: 1}[o.DryRun]; err != nil || result.Bad != 11 || result.Written != want {
			t.Errorf("%+v: %d bad, %d written, %v", o, result.Bad, result.Written, err)
		}
	}
	if diff := cmp.Diff([]int{2}, m.lines()); diff != "" {
		t.Errorf("the good row was written: %s", diff)
	}
}

// USR-03, peers bug 6: ids, usernames and addresses that mean the same, in any case and across columns, are told on each of
// their lines, and none of them is imported.
func TestRun_duplicates(t *testing.T) {
	m := &memory{}
	file := header +
		"1,acme,/,agent,alex,,,,,\n" + // 2
		"2,acme,/,agent,ALEX,,,,,\n" + // 3
		"3,acme,/,agent,Bo@Acme.example,,,,,\n" + // 4
		"4,acme,/,agent,\"wan\nda\",,,,,\n" + // 5, bad by itself
		"5,acme,/,agent,carl,bo@acme.EXAMPLE,,,,\n" + // 7
		"6,acme,/,agent,dora,,,,,\n" + // 8
		"6,acme,/,agent,erin,,,,,\n" + // 9
		"7,acme,/,agent,aLeX,,,,,\n" + // 10
		"8,acme,/,agent,finn@acme.example,finn@acme.example,,,,\n" + // 11: the own address
		"9,acme,/,boss,grace,,,,,\n" + // 12, bad by itself
		"10,acme,/,agent,GRACE,,,,,\n" + // 13
		"11,acme,/,agent,hal,,,,,\n" // 14
	want := []string{
		"2 username: means the same as the username on line 3.",
		"3 username: means the same as the username on line 2.",
		"4 username: means the same as the email on line 7.",
		"5 username: Use letters, digits, dots, underscores and hyphens only, without spaces.",
		"7 email: means the same as the username on line 4.",
		"8 id: means the same as the id on line 9.",
		"9 id: means the same as the id on line 8.",
		"10 username: means the same as the username on line 2.",
		"12 role: must be agent or administrator.",
		"12 username: means the same as the username on line 13.",
		"13 username: means the same as the username on line 12.",
	}
	result, err := run(t, m, file, importing.Options{SkipBad: true})
	if diff := cmp.Diff(want, told(result.Problems)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff([]int{11, 14}, m.lines()); diff != "" {
		t.Error(diff)
	}
}

// Accounts are made only when that is asked for, only those that good rows are in, and with one name.
func TestRun_accounts(t *testing.T) {
	const file = "id,account_id,account_name,team,role,username\n" +
		"1,beta,Beta Sales,/,agent,alex\n" +
		"2,beta,,/,agent,bo\n" +
		"3,beta,Beta,/,agent,carl\n" +
		"4,gamma,,/,agent,dora\n" +
		"5,delta,Delta Sales,/,boss,erin\n" +
		"6,acme,Another Acme,/,agent,finn\n"
	m := &memory{}
	result, err := run(t, m, file, importing.Options{SkipBad: true})
	if err != nil || result.Bad != 5 || result.Accounts != nil || m.made != nil {
		t.Errorf("%+v %v", result, err)
	}
	result, err = run(t, m, file, importing.Options{SkipBad: true, CreateAccounts: true})
	want := []string{"4 account_name: is not that of the same account on line 2.", "6 role: must be agent or administrator."}
	if diff := cmp.Diff(want, told(result.Problems)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff([]user.Account{{ID: "beta", Name: "Beta Sales"}, {ID: "gamma", Name: "gamma"}}, m.made); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"beta", "gamma"}, result.Accounts); diff != "" {
		t.Error(diff)
	}
}

// product.md "standardize user naming conventions": new names follow the account's rule, unless they may be any; accounts
// that are made have no rule yet.
func TestRun_namingRule(t *testing.T) {
	rules := map[string]identifier.Rule{"acme": {Kind: identifier.LoginName, Regex: "[a-z]+[0-9]{2}", Reserved: []string{"team01"}}, "mail": {Kind: identifier.OwnEmail}}
	m := &memory{found: importing.Found{Accounts: rules}}
	file := header +
		"1,acme,/,agent,Alex01,,,,,\n" +
		"2,acme,/,agent,alex,,,,,\n" +
		"3,acme,/,agent,bo@acme.example,bo@acme.example,,,,\n" +
		"4,acme,/,agent,TEAM01,,,,,\n" +
		"5,mail,/,agent,Carl@mail.example,carl@MAIL.example,,,,\n" +
		"6,mail,/,agent,dora@mail.example,other@mail.example,,,,\n" +
		"7,mail,/,agent,erin,,,,,\n" +
		"8,new,/,agent,finn,,,,,\n"
	const acme, mail = "Use a name that matches [a-z]+[0-9]{2}. An e-mail address cannot be a username in your company.",
		"In your company the username is the user's own e-mail address, and changes with it."
	const wrong = " username: does not follow the account's naming rule. "
	want := []string{"3" + wrong + acme, "4" + wrong + acme, "5" + wrong + "Your company keeps this name for other uses. Choose another one.", "7" + wrong + mail, "8" + wrong + mail}
	result, err := run(t, m, file, importing.Options{SkipBad: true, CreateAccounts: true})
	if diff := cmp.Diff(want, told(result.Problems)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff([]int{2, 6, 9}, m.lines()); diff != "" {
		t.Error(diff)
	}
	if result, err = run(t, m, file, importing.Options{CreateAccounts: true, AnyNames: true}); err != nil || result.Written != 8 {
		t.Errorf("any names: %+v, %v", result, err)
	}
}

// Times that cannot be are refused: when a password was set is told to auditors.
func TestRun_passwordChangedAt(t *testing.T) {
	const hash = "$2b$10$abcdefghijklmnopqrstuupQ.VAbEmsn4.J6UDCx3jfy84OeUFC8a"
	file := "id,account_id,team,role,username,password_hash,password_changed_at\n" +
		"1,acme,/,agent,alex," + hash + ",2024-11-18\n2,acme,/,agent,bo," + hash + ",2026-03-01T12:00:01Z\n3,acme,/,agent,carl,,2024-11-18T14:03:51Z\n" +
		"4,acme,/,agent,dora," + hash + ",2024-11-18T14:03:51+02:00\n5,acme,/,agent,erin," + hash + ",0001-01-01T00:00:00+02:00\n" +
		"6,acme,/,agent,finn," + hash + ",1970-01-01T00:00:00Z\n"
	result, err := run(t, &memory{}, file, importing.Options{})
	want := []string{"2 password_changed_at: must be a time like 2024-11-18T14:03:51Z.", "3 password_changed_at: is in the future.",
		"4 password_changed_at: is given for a user without a password_hash.", "6 password_changed_at: is before 1970: leave it empty when it is not known."}
	if diff := cmp.Diff(want, told(result.Problems)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// An import gives an administrator no more teams than the API lets one have: a user with more could not even be disabled, as
// every change holds the whole user to that bound.
func TestRun_boundsTeamsAsTheAPI(t *testing.T) {
	teams := strings.Repeat("/west/;", user.MaxAlsoManages-1) + "/west/"
	row := func(id, teams string) string { return id + ",acme,/,administrator,name" + id + ",,,,," + teams + "\n" }
	result, err := run(t, &memory{}, header+row("1", teams)+row("2", teams+";/north/"), importing.Options{})
	want := []string{"3 also_manages: must be at most 50 paths like /east/; in CSV with semicolons between them."}
	if diff := cmp.Diff(want, told(result.Problems)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// Spreadsheets leave rows of empty cells below what was removed; like empty lines they are none. Lines are counted on.
func TestRun_emptyRows(t *testing.T) {
	result, err := run(t, &memory{}, header+"1,acme,/,agent,alex,,,,,\n,,,,,,,,,\n\n,,,,,,,,,x\n", importing.Options{})
	if err != nil || result.Rows != 2 || result.Bad != 1 || result.Problems[0].Line != 5 {
		t.Errorf("%+v, %v", result, err)
	}
}

// What is taken between the check and the writing is told like any other conflict, and keeps all out unless bad rows are
// skipped.
func TestRun_takenMeanwhile(t *testing.T) {
	for skip, written := range map[bool]int{false: 0, true: 1198} {
		m := &memory{taken: []importing.Taken{{Line: 700, Column: "username"}, {Line: 701, Column: "id"}}}
		result, err := run(t, m, manyRows(1200), importing.Options{SkipBad: skip})
		want := importing.Result{Rows: 1200, Bad: 2, Written: written, Problems: []importing.Problem{
			{Line: 700, Column: "username", Detail: "was taken while the file was imported."}, {Line: 701, Column: "id", Detail: "was taken while the file was imported."}}}
		if diff := cmp.Diff(want, result); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}
