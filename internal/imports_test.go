// Package internal_test holds the rule of who may import whom, and checks the whole module against it.
package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/salesexec/credentials"

// The parts of the module. Whatever else is below internal is the domain, so that a new package is bound from its first day.
var (
	adapters  = []string{"internal/store", "internal/httpapi", "internal/token", "internal/config"}
	forTests  = []string{"internal/storetest", "internal/spectest", "internal/pgtest"}
	leaves    = []string{"internal/access", "internal/throttle", "internal/change", "internal/outbox", "internal/secret", "internal/identifier", "internal/strictjson"}
	useCases  = []string{"internal/credential", "internal/session", "internal/client", "internal/notice", "internal/signal", "internal/review", "internal/bulk", "internal/importing"}
	webServer = []string{"net/http.Server", "net/http.Handler", "net/http.HandlerFunc", "net/http.ResponseWriter", "net/http.ServeMux", "net/http.ListenAndServe", "net/http.Serve"}
	settings  = []string{"os.Getenv", "os.LookupEnv", "os.Environ", "os.ExpandEnv", "syscall.Getenv"}
)

// rule says what the packages that it binds must not need. Names cover what is below them: "gorm.io" covers "gorm.io/gorm".
// Packages of this module are named without the module; "os.Getenv" is a name of package os.
type rule struct {
	name   string
	binds  func(importer string) bool
	from   []string
	reason string
}

var rules = []rule{
	{
		name: "gorm only in store", binds: except("internal/store"),
		from:   []string{"gorm.io", "database/sql", "github.com/pressly/goose", "modernc.org/sqlite"},
		reason: "rows, transactions and the differences of two databases stay behind one door",
	},
	{
		name: "pgx only in store", binds: except("internal/store", "internal/pgtest"),
		from:   []string{"github.com/jackc/pgx"},
		reason: "errors of the database are understood in one place; pgtest needs it to make databases",
	},
	{
		name: "echo only in httpapi and api", binds: except("internal/httpapi", "api"),
		from:   []string{"github.com/labstack"},
		reason: "the web framework can be replaced without touching what the service decides",
	},
	{
		name: "jwt only in token, signal and client", binds: except("internal/token", "internal/signal", "pkg/client"),
		from:   []string{"github.com/golang-jwt", "github.com/MicahParks"},
		reason: "the code that could accept a forged token is small and in one place",
	},
	{
		name: "mail only in notice", binds: except("internal/notice"),
		from:   []string{"github.com/wneessen/go-mail", "net/smtp", "github.com/emersion"},
		reason: "what leaves the service for people goes through the outbox, and in one form",
	},
	{
		name: "x/crypto only in password", binds: except("internal/password"),
		from:   []string{"golang.org/x/crypto"},
		reason: "hashing outside the lanes would escape their bound on memory; all other cryptography is the standard library's",
	},
	{
		name: "environment only in cmd", binds: except(append([]string{"cmd"}, forTests...)...),
		from:   settings,
		reason: "config is given getenv, so that every setting is documented, checked at the start and can be tested",
	},
	{
		name: "domain without adapters", binds: isDomain,
		from:   append([]string{"api", "cmd", "pkg"}, adapters...),
		reason: "what the service decides does not depend on how it is called and where it is stored",
	},
	{
		name: "domain serves no HTTP", binds: isDomain,
		from:   webServer,
		reason: "a use case is called by the API, by jobs and from the command line alike",
	},
	{
		name: "leaves stay leaves", binds: only(leaves...),
		from:   useCases,
		reason: "use cases share these; an import back up would be a circle",
	},
	{
		name: "store is alone", binds: only("internal/store"),
		from:   []string{"internal/httpapi", "internal/token", "internal/config", "api", "cmd", "pkg"},
		reason: "adapters meet in cmd only, so that each can be tested and replaced alone",
	},
	{
		name: "httpapi is alone", binds: only("internal/httpapi"),
		from:   []string{"internal/store", "internal/token", "internal/config", "cmd", "pkg"},
		reason: "adapters meet in cmd only, so that each can be tested and replaced alone",
	},
	{
		name: "token is alone", binds: only("internal/token"),
		from:   []string{"internal/store", "internal/httpapi", "internal/config", "api", "cmd", "pkg"},
		reason: "adapters meet in cmd only, so that each can be tested and replaced alone",
	},
	{
		name: "config is alone", binds: only("internal/config"),
		from:   []string{"internal/store", "internal/httpapi", "internal/token", "api", "cmd", "pkg"},
		reason: "adapters meet in cmd only, so that each can be tested and replaced alone",
	},
	{
		name: "client stands alone", binds: only("pkg/client"),
		from:   []string{"internal", "api", "cmd"},
		reason: "other services import it: it must not bring the server and its dependencies along",
	},
	{
		name: "no test code in the program", binds: except(forTests...),
		from:   append([]string{"testing"}, forTests...),
		reason: "what only tests need is neither shipped nor able to start a database",
	},
}

func only(packages ...string) func(string) bool {
	return func(importer string) bool { return coveredByAny(packages, importer) }
}

func except(packages ...string) func(string) bool {
	return func(importer string) bool { return !coveredByAny(packages, importer) }
}

func isDomain(importer string) bool {
	return covers("internal", importer) && !coveredByAny(adapters, importer) && !coveredByAny(forTests, importer)
}

func covers(name, needed string) bool {
	return needed == name || strings.HasPrefix(needed, name+"/")
}

func coveredByAny(names []string, needed string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return covers(name, needed) })
}

// source is what a Go file needs: the packages it imports, and each name that it uses of them as "net/http.Handler".
type source struct {
	file  string // path from the root of the module
	needs []string
}

// read parses a file; content is nil to read it from the disk below root.
func read(root, file string, content any) (source, error) {
	tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), content, parser.SkipObjectResolution)
	if err != nil {
		return source{}, fmt.Errorf("parse: %w", err)
	}
	found, packages := source{file: file}, map[string]string{}
	for _, imported := range tree.Imports {
		needed, err := strconv.Unquote(imported.Path.Value)
		if err != nil {
			return source{}, fmt.Errorf("%s: import %s: %w", file, imported.Path.Value, err)
		}
		name := path.Base(needed)
		if imported.Name != nil {
			name = imported.Name.Name
		}
		packages[name] = needed
		found.needs = append(found.needs, strings.TrimPrefix(needed, module+"/"))
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if of, ok := selector.X.(*ast.Ident); ok && packages[of.Name] != "" {
				found.needs = append(found.needs, packages[of.Name]+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return found, nil
}

// violation is a rule that a file breaks.
type violation struct {
	rule   rule
	file   string
	needed string
}

func check(s source) []violation {
	var found []violation
	importer := path.Dir(s.file)
	for _, r := range rules {
		if !r.binds(importer) {
			continue
		}
		for _, needed := range s.needs {
			if coveredByAny(r.from, needed) {
				found = append(found, violation{rule: r, file: s.file, needed: needed})
			}
		}
	}
	return found
}

// sources reads every Go file of the module but tests, which may put any parts together.
func sources(t *testing.T, root string) []source {
	t.Helper()
	var all []source
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || file != "." && strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		s, err := read(root, file, nil)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryFileKeepsTheImportRules(t *testing.T) {
	t.Parallel()
	all := sources(t, "..")
	for _, part := range append([]string{"cmd", "api", "pkg/client", "internal/user"}, adapters...) {
		if !slices.ContainsFunc(all, func(s source) bool { return covers(part, s.file) }) {
			t.Errorf("no file of %s was looked at", part)
		}
	}
	for _, s := range all {
		for _, v := range check(s) {
			t.Errorf("%s needs %s, against %q: %s", v.file, v.needed, v.rule.name, v.rule.reason)
		}
	}
}

// The rules can be broken: each by at least one made-up file.
func TestImportRulesFindOffenders(t *testing.T) {
	t.Parallel()
	offenders := []struct{ file, content, rule string }{
		{"internal/credential/x.go", `import "gorm.io/gorm"`, "gorm only in store"},
		{"cmd/credentialsd/x.go", `import "database/sql"`, "gorm only in store"},
		{"internal/session/x.go", `import "github.com/jackc/pgx/v5/pgconn"`, "pgx only in store"},
		{"cmd/credentialsd/x.go", `import "github.com/labstack/echo/v4"`, "echo only in httpapi and api"},
		{"internal/httpapi/x.go", `import "github.com/golang-jwt/jwt/v5"`, "jwt only in token, signal and client"},
		{"internal/credential/x.go", `import "github.com/wneessen/go-mail"`, "mail only in notice"},
		{"internal/session/x.go", `import "golang.org/x/crypto/bcrypt"`, "x/crypto only in password"},
		{"internal/config/x.go", `import "os"; var _ = os.Getenv("A")`, "environment only in cmd"},
		{"internal/user/x.go", `import system "os"; var _, _ = system.LookupEnv("A")`, "environment only in cmd"},
		{"internal/credential/x.go", `import "` + module + `/internal/store"`, "domain without adapters"},
		{"internal/made/up/x.go", `import "` + module + `/api"`, "domain without adapters"},
		{"internal/session/x.go", `import "net/http"; var _ http.Handler`, "domain serves no HTTP"},
		{"internal/throttle/x.go", `import "` + module + `/internal/session"`, "leaves stay leaves"},
		{"internal/store/x.go", `import "` + module + `/internal/httpapi"`, "store is alone"},
		{"internal/httpapi/x.go", `import "` + module + `/internal/store"`, "httpapi is alone"},
		{"internal/token/x.go", `import "` + module + `/internal/config"`, "token is alone"},
		{"internal/config/x.go", `import "` + module + `/internal/token"`, "config is alone"},
		{"pkg/client/x.go", `import "` + module + `/internal/secret"`, "client stands alone"},
		{"internal/session/x.go", `import "` + module + `/internal/pgtest"`, "no test code in the program"},
	}
	for _, r := range rules {
		if !slices.ContainsFunc(offenders, func(o struct{ file, content, rule string }) bool { return o.rule == r.name }) {
			t.Errorf("nobody breaks %q", r.name)
		}
	}
	for _, o := range offenders {
		s, err := read("", o.file, "package x; "+o.content)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(check(s), func(v violation) bool { return v.rule.name == o.rule }) {
			t.Errorf("%s with %s keeps %q", o.file, o.content, o.rule)
		}
	}
}

// What the architecture allows is no offence.
func TestImportRulesAllowTheRest(t *testing.T) {
	t.Parallel()
	allowed := []struct{ file, content string }{
		{"internal/store/x.go", `import ("gorm.io/gorm"; "` + module + `/internal/credential")`},
		{"internal/httpapi/x.go", `import ("net/http"; "` + module + `/api"); var _ http.Handler`},
		{"internal/password/x.go", `import ("net/http"; "golang.org/x/crypto/argon2"); var _ http.Client`},
		{"internal/storekeeper/x.go", `import "` + module + `/internal/user"`},
		{"cmd/credentialsd/x.go", `import ("os"; "` + module + `/internal/store"; "` + module + `/internal/httpapi"); var _ = os.Getenv("A")`},
		{"internal/user/x.go", `type os struct{ Getenv int }; var _ = os{}.Getenv`},
	}
	for _, a := range allowed {
		s, err := read("", a.file, "package x; "+a.content)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range check(s) {
			t.Errorf("%s with %s breaks %q by %s", a.file, a.content, v.rule.name, v.needed)
		}
	}
}
