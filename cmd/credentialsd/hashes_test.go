package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"

	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/user"
)

// TestStoredHashes goes through what is stored of passwords, and what earlier systems may have stored. How each of those is
// read does not depend on the database, and is proven on one.
func TestStoredHashes(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		runWith(t, s, map[string]func(*testing.T, people){
			"HASH-01 HASH-04 HASH-10 form of new hashes": testHashForm,
			"PW-09 HASH-08 bcrypt at a change":           testBcryptChange,
			"HASH-09 weak argon2id":                      testWeakArgon2,
			"HASH-15 a failing statement":                testFailingStatement,
		})
	})
	runWith(t, start(t, databaseURL(t, "sqlite")), map[string]func(*testing.T, people){
		"PW-09 HASH-08 bcrypt at a sign-in": testBcryptSignIn,
		"HASH-06 damaged and hostile rows":  testHostileHashes,
	})
}

var newHash = regexp.MustCompile(`^\$argon2id\$v=19\$m=12288,t=3,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`)

func testHashForm(t *testing.T, p people) {
	u := p.add("form")
	ada := p.s.token("ada", demoPassword)
	seen := map[string]bool{}
	check := func(what, pw string) {
		t.Helper()
		hash := p.row(u.id).Password.Hash
		if !newHash.MatchString(hash) || seen[hash] {
			t.Errorf("%s stores %s", what, hash)
		}
		seen[hash] = true
		parts := strings.Split(hash, "$")
		salt, _ := base64.RawStdEncoding.DecodeString(parts[4])
		tag, _ := base64.RawStdEncoding.DecodeString(parts[5])
		if !bytes.Equal(argon2.IDKey([]byte(pw), salt, 3, 12288, 1, 32), tag) {
			t.Errorf("%s stores what no other argon2id can verify", what)
		}
	}
	u.accepts("violet harbor stone drift")
	check("a change", "violet harbor stone drift")
	u.accepts(demoPassword)
	check("a change back", demoPassword)
	reset := p.s.want(p.s.reset(ada, u.id, nil), http.StatusOK, "")
	check("a reset", reset.text("temporary_password"))
	for range 2 { // the same password twice has two hashes
		p.s.want(p.s.reset(ada, u.id, map[string]string{"method": "set", "new_password": "maple orbit lantern quiet"}), http.StatusOK, "")
		check("a chosen reset", "maple orbit lantern quiet")
	}
}

func bcryptHash(t *testing.T, pw string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(pw), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func (p people) storeHash(id, hash string) {
	p.s.t.Helper()
	p.alter(id, func(u *user.User) { u.Password.Hash = hash })
}

// Peers bug 11 too: 71, 72 and 73 bytes, characters of several bytes, and NUL.
func testBcryptSignIn(t *testing.T, p people) {
	u := p.add("legacy")
	for _, c := range []struct {
		hashed string
		wrong  []string
	}{
		{strings.Repeat("a", 72), []string{strings.Repeat("a", 73), strings.Repeat("a", 72) + "\x00", strings.Repeat("a", 71), strings.Repeat("A", 72)}},
		{strings.Repeat("語", 24), []string{strings.Repeat("語", 25), strings.Repeat("語", 24) + "x"}},
		{"abc", []string{"abc\x00abc", "abc\x00", "abcd", "ABC"}},
		{"cafe\u0301 au lait", []string{"cafe au lait"}}, // hashed by a system that did not normalise
	} {
		p.storeHash(u.id, bcryptHash(t, c.hashed, 10))
		for _, wrong := range c.wrong {
			p.s.want(p.s.signIn(u.name, wrong), http.StatusUnauthorized, "invalid_credentials")
		}
		if hash := p.row(u.id).Password.Hash; !strings.HasPrefix(hash, "$2a$10$") {
			t.Errorf("a wrong password has changed the hash: %s", hash)
		}
		p.s.want(p.s.signIn(u.name, c.hashed), http.StatusCreated, "")
		row := p.row(u.id)
		if !newHash.MatchString(row.Password.Hash) || row.Version != 1 {
			t.Errorf("not upgraded, or as a change: %s, version %d", row.Password.Hash, row.Version)
		}
		p.s.want(p.s.signIn(u.name, c.hashed), http.StatusCreated, "")
		for _, wrong := range c.wrong {
			p.s.want(p.s.signIn(u.name, wrong), http.StatusUnauthorized, "invalid_credentials")
		}
		p.s.want(p.s.signIn(u.name, c.hashed), http.StatusCreated, "")
	}
}

func testBcryptChange(t *testing.T, p people) {
	u := p.add("lapsed")
	hashed := strings.Repeat("a", 72)
	p.storeHash(u.id, bcryptHash(t, hashed, 10))
	rename := func(name, current string) answer {
		return p.s.change(u.token, map[string]string{"username": name, "current_password": current}, "If-Match", `"1"`)
	}
	for _, wrong := range []string{hashed + "a", hashed + "\x00", demoPassword} {
		p.s.want(rename("lapsed.one", wrong), http.StatusForbidden, "wrong_current_password")
	}
	p.s.want(rename("lapsed.one", hashed), http.StatusOK, "")
	if row := p.row(u.id); !newHash.MatchString(row.Password.Hash) || row.Version != 2 || row.Generation != 1 {
		t.Errorf("after a rename: %s, version %d, generation %d", row.Password.Hash, row.Version, row.Generation)
	}
	p.s.want(p.s.signIn("lapsed.one", hashed), http.StatusCreated, "")
	p.s.want(p.s.call(http.MethodGet, "/users/me", u.token, nil), http.StatusOK, "")
}

// The upgrade is no change of the credentials: a version that was read before it still is the present one.
func testWeakArgon2(t *testing.T, p people) {
	u := p.add("weak")
	salt := []byte("eight by")
	encode := base64.RawStdEncoding.EncodeToString
	weak := func(pw string) string {
		return fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=2$%s$%s", encode(salt), encode(argon2.IDKey([]byte(pw), salt, 1, 64, 2, 16)))
	}
	p.storeHash(u.id, weak(demoPassword))
	p.s.want(p.s.change(u.token, map[string]string{"username": "weak.one", "current_password": demoPassword}, "If-Match", `"1"`), http.StatusOK, "")
	if row := p.row(u.id); !newHash.MatchString(row.Password.Hash) || row.Version != 2 {
		t.Errorf("a rename leaves %s, version %d", row.Password.Hash, row.Version)
	}
	p.storeHash(u.id, weak(demoPassword))
	p.s.want(p.s.signIn("weak.one", demoPassword), http.StatusCreated, "")
	if hash := p.row(u.id).Password.Hash; !newHash.MatchString(hash) {
		t.Errorf("a sign-in leaves %s", hash)
	}
	changed := p.s.change(u.token, map[string]string{"username": "weak.two", "current_password": demoPassword}, "If-Match", `"2"`)
	p.s.want(changed, http.StatusOK, "")
}

// A row that cannot be verified lets nobody in, by no way, and says so to the operator.
func testHostileHashes(t *testing.T, p people) {
	u := p.add("hostile")
	ada := p.s.token("ada", demoPassword)
	salt, tag := strings.Repeat("A", 22), strings.Repeat("A", 43)
	for _, hash := range []string{
		"$argon2id$v=19$m=12288,t=0,p=1$" + salt + "$" + tag, "$argon2id$v=19$m=12288,t=3,p=0$" + salt + "$" + tag,
		"$argon2id$v=19$m=4294967295,t=3,p=1$" + salt + "$" + tag, "$argon2id$v=19$m=12288,t=3,p=1$====$" + tag,
		"$argon2d$v=19$m=12288,t=3,p=1$" + salt + "$" + tag, "$2a$31$" + strings.Repeat("a", 53), "$2a$04$" + strings.Repeat("a", 53),
		"$pbkdf2-sha256$i=3000001$" + salt + "$" + tag, "AQAAAAH/////AAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"plain text", "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=", "",
	} {
		p.storeHash(u.id, hash)
		for _, pw := range []string{demoPassword, "plain text"} {
			p.s.want(p.s.signIn(u.name, pw), http.StatusUnauthorized, "invalid_credentials")
		}
		a := p.s.change(u.token, map[string]string{"username": "hostile.one", "current_password": demoPassword})
		p.s.want(a, http.StatusForbidden, "wrong_current_password")
		again := p.s.want(p.s.reset(ada, u.id, map[string]string{"method": "set", "new_password": "maple orbit lantern quiet"}), http.StatusOK, "")
		limited := p.s.token(again.text("username"), "maple orbit lantern quiet") // the way out, which forgives the failures too
		u.token, u.pw = limited, "maple orbit lantern quiet"
		p.s.want(u.choose(demoPassword), http.StatusOK, "")
	}
	if !strings.Contains(p.s.log.String(), "a stored password hash is unusable") {
		t.Error("the log does not tell of unusable hashes")
	}
}

func testFailingStatement(t *testing.T, p people) {
	s := start(t, p.s.databaseURL, "LOG_LEVEL=debug") // a second replica that tells all it knows
	u := peopleOf(s).add("failing")
	db, sqlite := rawDatabase(t, s.databaseURL)
	obstruct, mend := "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by a test'; END $$;"+
		"CREATE TRIGGER refuse BEFORE UPDATE OF password_hash ON users FOR EACH ROW WHEN (OLD.username = 'failing') EXECUTE FUNCTION refuse()",
		"DROP TRIGGER refuse ON users; DROP FUNCTION refuse"
	if sqlite {
		obstruct = "CREATE TRIGGER refuse BEFORE UPDATE OF password_hash ON users WHEN OLD.username = 'failing' BEGIN SELECT RAISE(ABORT, 'refused by a test'); END"
		mend = "DROP TRIGGER refuse"
	}
	execute := func(statement string) {
		t.Helper()
		if _, err := db.ExecContext(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	execute(obstruct)
	failed := s.want(u.choose("violet harbor stone drift"), http.StatusInternalServerError, "internal")
	execute(mend)
	log := s.log.String()
	if !strings.Contains(log, "a statement failed") {
		t.Errorf("nothing tells of the failure:\n%s", log)
	}
	for place, text := range map[string]string{"log": log, "answer": string(failed.raw)} {
		for _, mark := range []string{"$argon2id$", "argon2id", "violet harbor", demoPassword} {
			if strings.Contains(text, mark) {
				t.Errorf("the %s holds %s", place, mark)
			}
		}
	}
	if bytes.Contains(failed.raw, []byte("refuse")) || bytes.Contains(failed.raw, []byte("users")) {
		t.Errorf("the answer tells of the database: %s", failed.raw)
	}
	u.accepts("violet harbor stone drift") // nothing was written, and the token is good still
}

// HASH-02: parameters below every approved set keep the program from starting.
func TestHashing_configuration(t *testing.T) {
	for _, weak := range [][3]string{
		{"12287", "3", "1"}, {"12288", "2", "1"}, {"19455", "2", "1"}, {"19456", "1", "1"}, {"47103", "1", "1"},
		{"9216", "4", "1"}, {"7168", "5", "1"}, {"65536", "0", "4"}, {"65536", "3", "0"}, {"4294967296", "3", "4"}, {"65536", "3", "257"},
	} {
		env := map[string]string{"ARGON2_MEMORY_KIB": weak[0], "ARGON2_TIME": weak[1], "ARGON2_THREADS": weak[2]}
		code, _, stderr := command(env, "dev", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--data", t.TempDir())
		if code != 1 || !strings.Contains(stderr, "ARGON2_") {
			t.Errorf("%v: %d %s", weak, code, stderr)
		}
	}
}

// HASH-03: what is not configured is the second recommended option of RFC 9106.
func TestHashing_defaults(t *testing.T) {
	url := databaseURL(t, "sqlite")
	if err := migrate(context.Background(), url); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := command(map[string]string{"DATABASE_URL": url}, "user", "create", "--account", "first", "--username", "root.user", "--id", "1")
	if code != 0 {
		t.Fatal(stderr)
	}
	if text := dump(t, url); !strings.Contains(text, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Error("the stored hash has other parameters")
	}
}

// hashesComputed counts the hashes that the service has made and verified.
func hashesComputed(t *testing.T, s *service) string {
	t.Helper()
	var counts []string
	for line := range strings.Lines(scrape(t, s)) {
		if strings.HasPrefix(line, "credentials_hash_duration_seconds_count") {
			counts = append(counts, strings.TrimSpace(line))
		}
	}
	return strings.Join(counts, " ")
}

// HASH-14, PW-02: a request that is refused for what it is, who sent it or how often costs no hash.
func TestHashing_refusedBefore(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	p := peopleOf(s)
	u, ada, boss := p.add("frugal"), s.token("ada", demoPassword), s.user("ada")
	good := map[string]string{"new_password": "violet harbor stone drift", "current_password": demoPassword}
	set := map[string]string{"method": "set", "new_password": "violet harbor stone drift"}
	marked := p.add("limited", func(u *user.User) { u.Password.MustChange = true })
	for range 5 {
		s.want(s.signIn("nobody", demoPassword), http.StatusUnauthorized, "invalid_credentials")
	}
	wearyName := p.add("weary")
	for range 5 {
		s.change(wearyName.token, map[string]string{"new_password": good["new_password"], "current_password": "wrong"})
	}
	before := hashesComputed(t, s)
	if !strings.Contains(before, `operation="verify"`) {
		t.Fatalf("hashes are not counted: %q", before)
	}
	huge := `{"new_password":"` + strings.Repeat("x", 1<<20) + `","current_password":"` + demoPassword + `"}`
	for _, c := range []struct {
		name   string
		status int
		answer answer
	}{
		{"no token", 401, s.change("", good)},
		{"bad token", 401, s.change(u.token+"x", good)},
		{"no token at a reset", 401, s.reset("", u.id, set)},
		{"an agent at a reset", 403, s.reset(u.token, u.id, set)},
		{"a limited session", 403, s.change(marked.token, map[string]string{"username": "x2", "current_password": demoPassword})},
		{"the own user", 403, s.reset(ada, boss.ID, set)},
		{"an unknown user", 404, s.reset(ada, "nobody", set)},
		{"another account's user", 404, s.reset(ada, s.user("olga").ID, set)},
		{"another version", 412, s.change(u.token, good, "If-Match", `"7"`)},
		{"another version at a reset", 412, s.reset(ada, u.id, set, "If-Match", `"7"`)},
		{"1 MiB", 413, s.change(u.token, huge)},
		{"1 MiB at a sign-in", 413, s.signIn("frugal", strings.Repeat("x", 1<<20))},
		{"1 MiB at a reset", 413, s.reset(ada, u.id, huge)},
		{"no JSON", 415, s.change(u.token, good, "Content-Type", "text/plain")},
		{"broken JSON", 400, s.change(u.token, `{"new_password":"violet harbor`)},
		{"no current password", 422, s.change(u.token, map[string]string{"new_password": "violet harbor stone drift"})},
		{"a weak password at a reset", 422, s.reset(ada, u.id, map[string]string{"method": "set", "new_password": "short"})},
		{"a throttled name", 429, s.signIn("nobody", demoPassword)},
		{"a throttled session", 429, s.change(wearyName.token, good)},
	} {
		if c.answer.status != c.status {
			t.Errorf("%s: %d %s", c.name, c.answer.status, c.answer.raw)
		}
	}
	if after := hashesComputed(t, s); after != before {
		t.Errorf("hashes were computed: %s, before %s", after, before)
	}
	// A password that breaks the policy is compared with nothing but the current one, and never hashed.
	s.want(s.change(u.token, map[string]string{"new_password": "short", "current_password": demoPassword}), http.StatusUnprocessableEntity, "policy_violation")
	if after := hashesComputed(t, s); strings.Contains(after, `operation="hash"`) || after == before {
		t.Errorf("after a weak password: %s, before %s", after, before)
	}
}

// HASH-16: no way of printing a request shows a password.
func TestRequests_printNoPassword(t *testing.T) {
	pw := secret.New("canary-password")
	for _, request := range []any{
		api.SignIn{Password: pw}, api.SessionRefresh{RefreshToken: pw}, api.OwnCredentialsChange{NewPassword: &pw, CurrentPassword: &pw},
		api.PasswordReset{NewPassword: &pw}, api.SignInRequestObject{Body: &api.SignIn{Password: pw}},
		credential.ChangeOwn{NewPassword: &pw, CurrentPassword: &pw}, credential.Reset{NewPassword: &pw},
		credential.ResetDone{TemporaryPassword: pw},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			text := fmt.Sprintf(verb, request)
			if strings.Contains(text, "canary") {
				t.Errorf("%s of %T shows it: %s", verb, request, text)
			}
		}
		if encoded, err := json.Marshal(request); err != nil || bytes.Contains(encoded, []byte("canary")) {
			t.Errorf("JSON of %T shows it: %s %v", request, encoded, err)
		}
	}
}

// PW-24: of all that any answer can hold, the only passwords are the temporary one of a reset, and the tokens are those that
// an operation is there to give. New members of answers have to be allowed here by name.
func TestResponses_holdNoPassword(t *testing.T) {
	allowed := []string{
		"PasswordResetResult.temporary_password", "User.temporary_password_expires_at", "User.password_changed_at", "Credentials.password_changed_at",
		"ChangedCredentials.password_changed_at", "User.must_change_password", "Credentials.must_change_password",
		"ChangedCredentials.must_change_password", "Me.must_change_password", "PasswordResetResult.must_change_password", "SecurityLockResult.password_disabled",
		"SessionTokens.must_change_password", "PasswordPolicy.breached_passwords", "PasswordPolicy.passwordrules",
		"VerificationResult.must_change_password", "CreatedUser.temporary_password", "TemporaryPassword.temporary_password",
		"PasswordResetJob.passwords_waiting",
		"ReviewedUser.password_changed_at", "ReviewedUser.password_age_days", "ReviewedUser.password_set_by", "ReviewedUser.hash_scheme", "ReviewedUser.hash_legacy",
		"ReviewedUser.must_change_password", "ReviewedUser.password_disabled", "ReviewSummary.must_change_password", "ReviewSummary.password_disabled",
		"ReviewSummary.no_password", "ReviewSummary.password_older_than_days", "Findings.old_password",
	}
	suspicious := regexp.MustCompile("(?i)password|secret|hash|salt|hint|pepper|question")
	types := declaredTypes(t, "../../api/server.gen.go")
	seen := map[string]bool{}
	for name := range types {
		if regexp.MustCompile(`[1-5][0-9]{2}\w*Response$`).MatchString(name) {
			membersOf(types, name, name, seen)
		}
	}
	for member := range seen {
		if suspicious.MatchString(member[strings.Index(member, ".")+1:]) && !slices.Contains(allowed, member) {
			t.Errorf("an answer holds %s", member)
		}
	}
	for _, known := range []string{"Me.username", "PasswordResetResult.temporary_password", "SessionTokens.access_token", "SignInReason.code"} {
		if !seen[known] {
			t.Errorf("the walk over the answers missed %s", known)
		}
	}
}

// declaredTypes returns the type declarations of a Go file.
func declaredTypes(t *testing.T, path string) map[string]ast.Expr {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]ast.Expr{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			types[spec.Name.Name] = spec.Type
		}
		return true
	})
	return types
}

// membersOf collects "Type.member" of every JSON member that a declared type can hold, at any depth.
func membersOf(types map[string]ast.Expr, owner, name string, seen map[string]bool) {
	structure, ok := types[name].(*ast.StructType)
	if !ok {
		if types[name] != nil {
			ast.Inspect(types[name], func(n ast.Node) bool {
				if inner, ok := n.(*ast.Ident); ok && inner.Name != name && types[inner.Name] != nil {
					membersOf(types, inner.Name, inner.Name, seen)
				}
				return true
			})
		}
		return
	}
	for _, field := range structure.Fields.List {
		member := "-"
		if field.Tag != nil {
			member, _, _ = strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
		}
		if seen[owner+"."+member] && member != "-" {
			continue
		}
		seen[owner+"."+member] = true
		ast.Inspect(field.Type, func(n ast.Node) bool {
			if inner, ok := n.(*ast.Ident); ok && types[inner.Name] != nil {
				membersOf(types, inner.Name, inner.Name, seen)
			}
			return true
		})
	}
}
