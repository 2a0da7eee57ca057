package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// SES-02: a user's generation grows by user.NextGeneration alone, which notes since when. Where it grew otherwise, tokens of
// other issuers from before would live on.
func TestGenerationGrowsInOnePlace(t *testing.T) {
	t.Parallel()
	seen := 0
	err := fs.WalkDir(os.DirFS(".."), ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if !grows(n) {
				return true
			}
			seen++
			if file != "internal/user/user.go" {
				t.Errorf("%s lets a generation grow: use NextGeneration", file)
			}
			return true
		})
		return nil
	})
	if err != nil || seen == 0 {
		t.Fatalf("%d places found, %v", seen, err)
	}
}

// grows tells whether a statement counts a member Generation up.
func grows(n ast.Node) bool {
	var counted ast.Expr
	switch statement := n.(type) {
	case *ast.IncDecStmt:
		counted = statement.X
	case *ast.AssignStmt:
		if statement.Tok != token.ADD_ASSIGN {
			return false
		}
		counted = statement.Lhs[0]
	default:
		return false
	}
	selector, ok := counted.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "Generation"
}
