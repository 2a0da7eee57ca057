package password_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

// BenchmarkPolicy_Check is the dearest password under the largest policy: what a dry run can be made to cost.
func BenchmarkPolicy_Check(b *testing.B) {
	policy := policy(b)
	for i := range password.MaxBlockedWords {
		policy.BlockedWords = append(policy.BlockedWords, fmt.Sprintf("aaa-aab-aac-aad-aae-aaf-aag-a%03d", i))
	}
	about := password.Context{Username: "alex", Email: "alex@demo.example", DisplayName: "Alex Reed", AccountName: "Demo Sales"}
	for name, candidate := range map[string]string{
		"usual": "maple orbit lantern quiet", "alike": strings.Repeat("a", 128), "expanding": strings.Repeat("\ufdfa", 128),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				policy.Check(secret.New(candidate), about)
			}
		})
	}
}
