package spectest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clientFiles are what TypeScript's client is made of, beside what is generated; node_modules of a developer is not copied.
var clientFiles = []string{"package.json", "package-lock.json", "tsconfig.json", "account.ts"}

// typescript is a folder with the tools that make a client of the contract, and an account page's use of it.
type typescript struct{ folder string }

// newTypescript installs the pinned tools. Without npm the test is skipped, or fails if REQUIRE_NODE is 1.
func newTypescript(t *testing.T) typescript {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("REQUIRE_NODE") == "1" {
			t.Fatalf("npm is required: %v", err)
		}
		t.Skipf("without npm no TypeScript client is made: %v", err)
	}
	ts := typescript{folder: t.TempDir()}
	for _, name := range clientFiles {
		content, err := os.ReadFile(filepath.Join("typescript", name))
		if err != nil {
			t.Fatal(err)
		}
		ts.write(t, name, content)
	}
	if out, err := ts.run(t, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return ts
}

func (ts typescript) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(ts.folder, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (ts typescript) run(t *testing.T, name string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.Dir = ts.folder
	out, err := command.CombinedOutput()
	return string(out), err
}

// generate makes the types of a contract; check compiles the use of them.
func (ts typescript) generate(t *testing.T, contract []byte) (string, error) {
	t.Helper()
	ts.write(t, "openapi.yaml", contract)
	return ts.run(t, filepath.Join(ts.folder, "node_modules/.bin/openapi-typescript"), "openapi.yaml", "--output", "schema.d.ts")
}

func (ts typescript) check(t *testing.T) (string, error) {
	t.Helper()
	return ts.run(t, filepath.Join(ts.folder, "node_modules/.bin/tsc"), "--pretty", "false")
}

// The contract yields a TypeScript client with which an account page compiles, and a change that breaks the page is found.
func TestContract_yieldsATypeScriptClient(t *testing.T) {
	t.Parallel()
	ts := newTypescript(t)
	contract, err := os.ReadFile("../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := ts.generate(t, contract); err != nil {
		t.Fatalf("openapi-typescript: %v\n%s", err, out)
	}
	if out, err := ts.check(t); err != nil {
		t.Fatalf("tsc: %v\n%s", err, out)
	}

	renamed := contract
	for _, rename := range []struct{ from, to string }{
		{"  /users/me/credentials:", "  /users/me/names:"},
		{"operationId: resetPassword", "operationId: replacePassword"},
		{"- wrong_current_password", "- wrong_password"},
	} {
		if !bytes.Contains(renamed, []byte(rename.from)) {
			t.Fatalf("the contract has no %q to rename", rename.from)
		}
		renamed = bytes.ReplaceAll(renamed, []byte(rename.from), []byte(rename.to))
	}
	if out, err := ts.generate(t, renamed); err != nil {
		t.Fatalf("openapi-typescript: %v\n%s", err, out)
	}
	out, err := ts.check(t)
	for _, missing := range []string{`"/users/me/credentials"`, "'resetPassword'", `"wrong_current_password"`} {
		if err == nil || !strings.Contains(out, missing) {
			t.Errorf("a contract without %s compiles: %v\n%s", missing, err, out)
		}
	}

	broken := bytes.ReplaceAll(contract, []byte("'#/components/schemas/OwnCredentialsChange'"), []byte("'#/components/schemas/Nothing'"))
	if out, err := ts.generate(t, broken); err == nil {
		t.Errorf("a client is made of a contract that refers to nothing:\n%s", out)
	}
}
