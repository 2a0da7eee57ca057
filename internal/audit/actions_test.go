package audit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
)

// constants returns the value of every constant of type Action in audit.go.
func constants(t *testing.T) []audit.Action {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []audit.Action
	ast.Inspect(tree, func(n ast.Node) bool {
		value, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if named, ok := value.Type.(*ast.Ident); !ok || named.Name != "Action" {
			return true
		}
		text, err := strconv.Unquote(value.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, audit.Action(text))
		return true
	})
	slices.Sort(found)
	return found
}

// LOG-07, AUD-01: Actions lists every action that the service records, and the contract tells what each means.
func TestActions_areListedAndDocumented(t *testing.T) {
	if diff := cmp.Diff(constants(t), audit.Actions()); diff != "" {
		t.Errorf("the constants (-) and Actions (+) differ:\n%s", diff)
	}
	contract, err := os.ReadFile("../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range audit.Actions() {
		if !strings.Contains(string(contract), "| `"+string(action)+"` | ") {
			t.Errorf("openapi.yaml does not tell what %s means", action)
		}
	}
}
