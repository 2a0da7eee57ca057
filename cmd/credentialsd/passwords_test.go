package main

import (
	"context"
	"database/sql"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/user"
)

// command runs a command of the program against a database, and returns what it printed.
func command(env map[string]string, args ...string) (code int, stdout, stderr string) {
	var out, problems output
	code = run(context.Background(), args, process{getenv: func(name string) string { return env[name] }, stdout: &out, stderr: &problems, now: time.Now})
	return code, out.String(), problems.String()
}

// TestPasswordRules goes through product.md decision 7 as a client meets it. Rules that do not touch the database are proven
// on one of them.
func TestPasswordRules(t *testing.T) {
	oneByOne(t)
	stored := map[string]func(*testing.T, people){
		"PW-01 an account's own minimum":    testAccountMinimum,
		"PW-06 no expiry":                   testNoExpiry,
		"PW-07 evidence forces a change":    testForcedChange,
		"PW-18 PW-19 reasons, never echoed": testReasons,
		"PW-21 current password":            testCurrentPassword,
		"PW-22 no hints":                    testNoHints,
	}
	onEachDatabase(t, func(t *testing.T, s *service) { runWith(t, s, stored) })
	runWith(t, start(t, databaseURL(t, "sqlite")), map[string]func(*testing.T, people){
		"PW-01 PW-02 PW-03 length":            testLength,
		"PW-04 PW-05 PW-13 what is taken":     testAccepted,
		"PW-12 PW-13 PW-16 what is refused":   testRefused,
		"PW-08 the whole password counts":     testWholePassword,
		"PW-10 NFC":                           testNormalForm,
		"PW-11 text that is none":             testBrokenText,
		"PW-20 not the current one":           testSameAsCurrent,
		"PW-23 published is what is enforced": testPublishedPolicy,
		"PW-25 never in the URL":              testNotInURL,
	})
}

func runWith(t *testing.T, s *service, tests map[string]func(*testing.T, people)) {
	everybody := peopleOf(s)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, everybody.in(t)) })
	}
}

const lock = "\U0001F512" // one code point, two UTF-16 units, four bytes

// long returns so many code points that no blocklist holds and no word explains.
func long(n int) string { return strings.Repeat("kestrel 42 marble lantern orbit; ", n/33+1)[:n] }

func testLength(_ *testing.T, p people) {
	u := p.add("length")
	u.refuses(long(14), "too_short")
	u.refuses(strings.Repeat(lock, 14), "too_short") // 56 bytes, 28 UTF-16 units
	u.refuses("kestrel oboe e\u0301", "too_short")   // 15 code points as sent, 14 in NFC
	u.refuses(long(129), "too_long")
	u.refuses(strings.Repeat(lock, 129), "too_long")
	u.accepts(long(15))
	u.accepts(strings.Repeat("k"+lock, 7) + "k") // 15 code points
	u.accepts(long(64))
	u.accepts(strings.Repeat(lock+"k", 64))          // 128 code points, 320 bytes
	u.accepts(strings.Repeat("e\u0301k", 63) + "ab") // 191 code points as sent, 128 in NFC
	u.accepts(long(128))
	for _, other := range []string{long(127), long(128) + "x"} { // PW-02: never truncated
		p.s.want(p.s.signIn("length", other), http.StatusUnauthorized, "invalid_credentials")
	}
}

func testAccountMinimum(t *testing.T, p people) {
	env := fastHashing()
	env["DATABASE_URL"] = p.s.databaseURL
	create := func(minimum string) (int, string, string) {
		return command(env, "user", "create", "--account", "factor2", "--min-password-length", minimum, "--username", "mfa", "--role", "agent")
	}
	for _, wrong := range []string{"7", "65", "-1"} {
		if code, stdout, stderr := create(wrong); code == 0 || !strings.Contains(stderr, "--min-password-length") {
			t.Errorf("a minimum of %s: %d %q %q", wrong, code, stdout, stderr)
		}
	}
	code, stdout, stderr := create("8")
	_, temporary, found := strings.Cut(stdout, "temporary password: ")
	temporary, _, _ = strings.Cut(temporary, "\n")
	if code != 0 || !found {
		t.Fatalf("%d %q %q", code, stdout, stderr)
	}
	u := person{people: p, name: "mfa", pw: temporary, token: p.s.token("mfa", temporary)}
	u.refuses("kite 42", "too_short")
	u.accepts("kite 42 ")
	for token, minimum := range map[string]float64{u.token: 8, "": 15} {
		policy := p.s.want(p.s.call(http.MethodGet, "/password-policy", token, nil), http.StatusOK, "")
		if policy.body["min_length"] != minimum {
			t.Errorf("min_length must be %v: %s", minimum, policy.raw)
		}
	}
}

// PW-01: no deployment asks for less than 8, nor for more than what must be possible.
func TestPasswordMinimum_configuration(t *testing.T) {
	for _, wrong := range []string{"7", "0", "-8", "65", "eight", "8.5"} {
		env := fastHashing()
		env["PASSWORD_MIN_LENGTH"] = wrong
		code, _, stderr := command(env, "dev", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--data", t.TempDir())
		if code != 1 || !strings.Contains(stderr, "PASSWORD_MIN_LENGTH") {
			t.Errorf("PASSWORD_MIN_LENGTH=%s: %d %s", wrong, code, stderr)
		}
	}
	s := start(t, databaseURL(t, "sqlite"), "PASSWORD_MIN_LENGTH=8")
	u := peopleOf(s).add("eight")
	u.refuses("kite 42", "too_short")
	u.refuses("password", "blocklisted")
	u.accepts("kite 42 ")
}

func testAccepted(t *testing.T, p people) {
	u := p.add("taken")
	var ascii []byte
	for c := byte(' '); c <= '~'; c++ {
		ascii = append(ascii, c)
	}
	for _, chosen := range []string{
		string(ascii), "   inner   and outer spaces   ", `back\slash "quotes" 'too' </script>`,
		"正しい馬電池の綴じ金具と青い空", "סוס נכון סוללה מהדק", "حصان صحيح بطارية دبوس", "kitchen oboe \U0001F468\u200d\U0001F469\u200d\U0001F467",
		"ok next year's emoji \U0001FAFF", "kitchenoboegravelsky", "583920174658203", "KITCHENOBOEGRAVELSKY", // PW-05: one kind of character
		"my password1234567 oboe", "alex reed likes marble", "salesexec lantern orbit", // PW-13, PW-16: never by substring
	} {
		a := u.choose(chosen)
		if a.status != http.StatusOK {
			t.Errorf("%q: %d %v", chosen, a.status, a.fieldCodes())
			continue
		}
		p.s.want(p.s.signIn("taken", chosen), http.StatusCreated, "")
	}
	p.s.want(p.s.signIn("taken", strings.TrimSpace(u.pw)+" "), http.StatusUnauthorized, "invalid_credentials")
}

func testRefused(_ *testing.T, p people) {
	u := p.add("rosalind", func(u *user.User) {
		u.Email, u.DisplayName = "r.franklin@demo.example", "Photograph Fiftyone"
	})
	for _, control := range []string{"\x00", "\t", "\n", "\x1f", "\x7f", "\u0085", "\uffff"} { // PW-12
		u.refuses("kitchen oboe "+control+" gravel", "invalid_characters")
	}
	for _, common := range []string{"passwordpassword", "PASSWORDPASSWORD1", "qwertyuiopasdfghjkl", "aaaaaaaaaaaaaaaa"} { // PW-13, PW-17
		u.refuses(common, "blocklisted")
	}
	for _, known := range []string{ // PW-16
		"rosalind1234567", "rosalindrosalind", "Rosalind-Rosalind!", "r.franklin@demo.example", "franklin20260729", "FRANKLIN.franklin",
		"photograph fiftyone", "salesexec1234567", "SalesExec-2026-!!", "Demo Sales 12345678",
	} {
		u.refuses(known, "context_word")
	}
	// PW-16: the name the same request asks for counts as well, and so does the one it gives up.
	for _, word := range []string{"crystallography-1", "rosalind-7654321"} {
		a := p.s.want(p.s.change(u.token, map[string]string{
			"username": "crystallography", "new_password": word, "current_password": u.pw,
		}), http.StatusUnprocessableEntity, "policy_violation")
		if !slices.Equal(a.fieldCodes(), []string{"/new_password context_word"}) {
			p.s.t.Errorf("%s: %v", word, a.fieldCodes())
		}
	}
	p.s.want(p.s.signIn("rosalind", demoPassword), http.StatusCreated, "") // PW-21: nothing was changed
	// PW-12: what was hashed elsewhere with such characters still verifies.
	p.alter(u.id, func(u *user.User) { u.Password.Hash = fastHash(p.s.t, "tab\there \x01") })
	p.s.want(p.s.signIn("rosalind", "tab\there \x01"), http.StatusCreated, "")
}

func testNoExpiry(t *testing.T, p people) {
	u := p.add("old", func(u *user.User) {
		tenYearsAgo := p.s.clock.now().AddDate(-10, 0, 0)
		u.CreatedAt, u.Password.ChangedAt = tenYearsAgo, &tenYearsAgo
	})
	opened := p.s.want(p.s.signIn("old", demoPassword), http.StatusCreated, "")
	policy := p.s.want(p.s.call(http.MethodGet, "/password-policy", "", nil), http.StatusOK, "")
	if opened.body["must_change_password"] != false || policy.text("expiry") != "none" {
		t.Errorf("an old password must be as good as a new one: %s %s", opened.raw, policy.raw)
	}
	p.s.want(p.s.change(u.token, map[string]string{"username": "old.hand"}), http.StatusOK, "")
}

func testForcedChange(t *testing.T, p people) {
	u := p.add("compromised")
	p.alter(u.id, func(u *user.User) { u.Password.MustChange = true })
	opened := p.s.want(p.s.signIn(u.name, demoPassword), http.StatusCreated, "")
	if opened.body["must_change_password"] != true {
		t.Errorf("not marked: %s", opened.raw)
	}
	u.token = opened.text("access_token")
	p.s.want(p.s.change(u.token, map[string]string{"username": "free"}), http.StatusForbidden, "must_change_password")
	u.refuses(demoPassword, "same_as_current")
	p.s.want(p.s.change(u.token, map[string]string{"username": "free"}), http.StatusForbidden, "must_change_password")
	u.accepts("violet harbor stone drift")
	again := p.s.want(p.s.signIn(u.name, u.pw), http.StatusCreated, "")
	if again.body["must_change_password"] != false || p.row(u.id).Password.MustChange {
		t.Errorf("the mark must go with the change: %s", again.raw)
	}
	p.s.want(p.s.change(u.token, map[string]string{"username": "free"}), http.StatusOK, "")
}

func testWholePassword(t *testing.T, p people) {
	u := p.add("whole")
	chosen := strings.ToUpper(long(20)) + long(80)
	u.accepts(chosen)
	for i, wrong := range []string{chosen[:72], chosen + "x", strings.ToLower(chosen), " " + chosen, chosen + " ", chosen[1:], chosen[:99]} {
		p.s.want(p.s.signIn(u.name, wrong), http.StatusUnauthorized, "invalid_credentials")
		if i%3 == 2 { // before the throttle sets in
			p.s.want(p.s.signIn(u.name, chosen), http.StatusCreated, "")
		}
	}
	for _, wrong := range []string{chosen[:72], chosen + "x", strings.ToLower(chosen), " " + chosen} {
		a := p.s.change(u.token, map[string]string{"new_password": "violet harbor stone drift", "current_password": wrong})
		p.s.want(a, http.StatusForbidden, "wrong_current_password")
	}
	p.s.want(p.s.change(u.token, map[string]string{"username": "whole.one", "current_password": chosen}), http.StatusOK, "")
	if u.name = p.row(u.id).Username; u.name != "whole.one" {
		t.Errorf("called %s", u.name)
	}
}

func testNormalForm(_ *testing.T, p people) {
	u := p.add("normal")
	u.accepts("cafe\u0301 lantern orbit") // decomposed
	p.s.want(p.s.signIn(u.name, "caf\u00e9 lantern orbit"), http.StatusCreated, "")
	u.refuses("caf\u00e9 lantern orbit", "same_as_current") // PW-20
	u.accepts("\ufb01rst \u00e9tude lantern")
	p.s.want(p.s.signIn(u.name, "\ufb01rst e\u0301tude lantern"), http.StatusCreated, "")
	p.s.want(p.s.signIn(u.name, "first \u00e9tude lantern"), http.StatusUnauthorized, "invalid_credentials") // so it is not NFKC
	p.s.want(p.s.change(u.token, map[string]string{
		"new_password": "violet harbor stone drift", "current_password": "\ufb01rst e\u0301tude lantern",
	}), http.StatusOK, "")
}

func testBrokenText(_ *testing.T, p people) {
	u := p.add("broken")
	for _, text := range []string{"\xff", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", `\ud800`, `\udc00`, `\ud83d x`, `\udd12\ud83d`, `\uD83D\uD83D`} {
		chosen := "kitchen oboe gravel " + text
		p.s.want(p.s.change(u.token, `{"new_password":"`+chosen+`","current_password":"`+demoPassword+`"}`), http.StatusBadRequest, "malformed_request")
		p.s.want(p.s.change(u.token, `{"new_password":"kitchen oboe gravel","current_password":"`+chosen+`"}`), http.StatusBadRequest, "malformed_request")
		p.s.want(p.s.call(http.MethodPost, "/sessions", "", `{"username":"broken","password":"`+chosen+`"}`), http.StatusBadRequest, "malformed_request")
	}
	// A whole pair is one character, however it is written.
	p.s.want(p.s.change(u.token, `{"new_password":"kitchen oboe gravel \ud83d\udd12","current_password":"`+demoPassword+`"}`), http.StatusOK, "")
	p.s.want(p.s.signIn("broken", "kitchen oboe gravel "+lock), http.StatusCreated, "")
}

func testReasons(t *testing.T, p people) {
	u := p.add("reasons")
	const mark = "zyxwv" // in each of the passwords, and nowhere else
	for _, refused := range []string{mark, mark + "\n", strings.Repeat(mark, 30), mark + "\x00 kitchen oboe gravel"} {
		a := p.s.want(u.choose(refused), http.StatusUnprocessableEntity, "policy_violation")
		if media := a.header.Get("Content-Type"); media != "application/problem+json" {
			t.Errorf("a refusal as %s", media)
		}
		for _, item := range a.body["errors"].([]any) {
			field := item.(map[string]any)
			if field["pointer"] != "/new_password" || field["detail"] == "" || !strings.Contains(field["detail"].(string), "Use ") {
				t.Errorf("no guidance: %v", field)
			}
		}
		for name, values := range a.header {
			if strings.Contains(strings.Join(values, " "), mark) {
				t.Errorf("the header %s repeats the password", name)
			}
		}
		if strings.Contains(string(a.raw), mark) {
			t.Errorf("the answer repeats the password: %s", a.raw)
		}
	}
	u.refuses("zyxwv\n", "too_short", "invalid_characters") // all reasons at once
	reset := p.s.reset(p.s.token("ada", demoPassword), u.id, map[string]string{"method": "set", "new_password": mark + "\n"})
	p.s.want(reset, http.StatusUnprocessableEntity, "policy_violation") // peers bug 20: administrators meet the same policy
	if !slices.Equal(reset.fieldCodes(), []string{"/new_password too_short", "/new_password invalid_characters"}) {
		t.Errorf("an administrator hears %v", reset.fieldCodes())
	}
	for place, text := range map[string]string{"log": p.s.log.String(), "database": dump(t, p.s.databaseURL), "metrics": scrape(t, p.s)} {
		if strings.Contains(text, mark) {
			t.Errorf("the %s holds the password", place)
		}
	}
}

// scrape reads the metrics.
func scrape(t *testing.T, s *service) string {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.demo.OpsURL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: time.Minute}).Do(request) // the service's own client knows the API alone
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", response.StatusCode, err)
	}
	return string(text)
}

func testSameAsCurrent(_ *testing.T, p people) {
	u := p.add("same")
	u.refuses(demoPassword, "same_as_current")
	u.accepts("violet harbor stone drift")
	u.accepts(demoPassword) // nothing older is remembered
	u.accepts(strings.ToUpper(demoPassword))
}

func testCurrentPassword(t *testing.T, p people) {
	u := p.add("current")
	const chosen = "violet harbor stone drift"
	for name, body := range map[string]map[string]string{
		"none":  {"new_password": chosen},
		"empty": {"new_password": chosen, "current_password": ""},
	} {
		a := p.s.want(p.s.change(u.token, body), http.StatusUnprocessableEntity, "validation_failed")
		if !slices.Equal(a.fieldCodes(), []string{"/current_password required"}) {
			t.Errorf("%s: %v", name, a.fieldCodes())
		}
	}
	p.s.want(p.s.change(u.token, `{"new_password":"`+chosen+`","current_password":null}`), http.StatusBadRequest, "malformed_request")
	p.s.want(p.s.change(u.token, map[string]string{
		"username": "currently", "new_password": chosen, "current_password": chosen,
	}), http.StatusForbidden, "wrong_current_password")
	if row := p.row(u.id); row.Username != "current" || row.Version != 1 {
		t.Errorf("something was changed: %+v", row)
	}
	p.s.want(p.s.signIn("current", chosen), http.StatusUnauthorized, "invalid_credentials")
	p.s.want(p.s.signIn("current", demoPassword), http.StatusCreated, "")
	p.s.want(p.s.call(http.MethodGet, "/users/me", u.token, nil), http.StatusOK, "") // the session lives on
}

func testNoHints(t *testing.T, p people) {
	u := p.add("hints")
	for _, member := range []string{"hint", "password_hint", "security_question", "security_answer", "password", "New_Password"} {
		body := map[string]string{"new_password": "violet harbor stone drift", "current_password": demoPassword, member: "x"}
		p.s.want(p.s.change(u.token, body), http.StatusBadRequest, "malformed_request")
	}
	for _, name := range columnNames(t, p.s.databaseURL) {
		if strings.Contains(name, "hint") || strings.Contains(name, "question") || strings.Contains(name, "answer") {
			t.Errorf("the schema has a column %s", name)
		}
	}
}

// columnNames lists the columns of the users table.
func columnNames(t *testing.T, url string) []string {
	t.Helper()
	db, sqlite := rawDatabase(t, url)
	query := "SELECT column_name FROM information_schema.columns WHERE table_name = 'users'"
	if sqlite {
		query = "SELECT name FROM pragma_table_info('users')"
	}
	var names []string
	for _, row := range rowsOf(t, db, query) {
		names = append(names, row[0].(string))
	}
	if !slices.Contains(names, "password_hash") {
		t.Fatalf("the columns of users are %v", names)
	}
	return names
}

// rawDatabase opens the service's database without the store, and tells whether it is SQLite.
func rawDatabase(t *testing.T, url string) (db *sql.DB, sqlite bool) {
	t.Helper()
	driver, dsn := "pgx", url
	path, sqlite := strings.CutPrefix(url, "sqlite:")
	if sqlite {
		driver, dsn = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, sqlite
}

func testPublishedPolicy(t *testing.T, p people) {
	u := p.add("published")
	policy := p.s.want(p.s.call(http.MethodGet, "/password-policy", u.token, nil), http.StatusOK, "")
	least, most := int(policy.body["min_length"].(float64)), int(policy.body["max_length"].(float64))
	if least != 15 || most != 128 || policy.text("composition_rules") != "none" || policy.body["blocklist"] != true || policy.body["context_words"] != true {
		t.Errorf("published: %s", policy.raw)
	}
	u.refuses(long(least-1), "too_short")
	u.refuses(long(most+1), "too_long")
	u.accepts(long(least))
	u.accepts(long(most))
	if rules := policy.text("passwordrules"); !strings.Contains(rules, "minlength: 15;") || !strings.Contains(rules, "maxlength: 128;") || strings.Contains(rules, "required") {
		t.Errorf("passwordrules: %s", rules)
	}
}

func testNotInURL(t *testing.T, p people) {
	u := p.add("query")
	const chosen, query = "canary-in-the-url", "?new_password=canary-in-the-url&current_password=tin+boat+river+seven"
	p.s.want(p.s.call(http.MethodPatch, "/users/me/credentials"+query, u.token, nil), http.StatusBadRequest, "malformed_request")
	p.s.want(p.s.call(http.MethodPatch, "/users/me/credentials"+query, u.token, map[string]string{"username": "query2"}), http.StatusBadRequest, "malformed_request")
	p.s.want(p.s.call(http.MethodPost, "/sessions?username=query&password=tin+boat+river+seven", "", "{}"), http.StatusBadRequest, "malformed_request")
	p.s.want(p.s.change(u.token, query[1:], "Content-Type", "application/x-www-form-urlencoded"), http.StatusUnsupportedMediaType, "unsupported_media_type")
	p.s.want(p.s.change(u.token, "{}", "New-Password", chosen, "Current-Password", demoPassword), http.StatusUnprocessableEntity, "validation_failed")
	p.s.want(p.s.signIn("query", chosen), http.StatusUnauthorized, "invalid_credentials")
	if log := p.s.log.String(); strings.Contains(log, "canary-in-the-url") || strings.Contains(log, "river+seven") {
		t.Error("the log holds a query")
	}
}
