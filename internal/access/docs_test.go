package access_test

import (
	"os"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/user"
)

// AZ-18: the table in README.md is the one that is enforced.
func TestTable_isDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := documented(); !strings.Contains(string(readme), want) {
		t.Fatalf("README.md must hold this table:\n%s", want)
	}
}

func documented() string {
	var table strings.Builder
	table.WriteString("| operation | without a token | user | service with scope | on whom | with a temporary password |\n|---|---|---|---|---|---|\n")
	for _, rule := range access.Table() {
		cells := []string{"`" + rule.Operation + "`", mark(rule.Public), string(rule.Role), "", strings.ReplaceAll(string(rule.Target), "_", " "), mark(rule.DuringMustChange)}
		if rule.Public || rule.Role == user.Agent {
			cells[2] = "yes"
		}
		if rule.Scope != "" {
			cells[3] = "`" + rule.Scope + "`"
		}
		table.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return table.String()
}

func mark(yes bool) string {
	if yes {
		return "yes"
	}
	return ""
}
