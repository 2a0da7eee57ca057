package password_test

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

var temporary = regexp.MustCompile(`^[b-df-hj-km-np-tv-z2-9]{4}(-[b-df-hj-km-np-tv-z2-9]{4}){6,}$`)

// REC-03: a temporary password has 128 bits or more, can be read out, and meets the strictest policy.
func TestGenerate(t *testing.T) {
	strict := policy(t)
	seen := map[string]bool{}
	symbols := map[rune]bool{}
	for minimum := range password.MinLengthCeiling + 1 {
		generated := must(password.Generate(minimum))
		text := generated.Reveal()
		if !temporary.MatchString(text) || utf8.RuneCountInString(text) < minimum || seen[text] {
			t.Fatalf("minimum %d: %q", minimum, text)
		}
		seen[text] = true
		for _, symbol := range strings.ReplaceAll(text, "-", "") {
			symbols[symbol] = true
		}
		strict.MinLength = max(minimum, password.MinLengthFloor)
		if found := strict.Check(generated, password.Context{Username: "bcd"}); found != nil {
			t.Fatalf("%q: %v", text, found)
		}
	}
	if bits := 28 * math.Log2(float64(len(symbols))); bits < 128 {
		t.Fatalf("%d symbols make %.0f bits", len(symbols), bits)
	}
}

func TestGeneratePassphrase(t *testing.T) {
	policy := policy(t)
	seen := map[string]bool{}
	words := map[string]bool{}
	for range 2000 {
		generated := must(password.GeneratePassphrase())
		text := generated.Reveal()
		if found := policy.Check(generated, password.Context{Username: "alex"}); found != nil || seen[text] {
			t.Fatalf("%q: %v", text, found)
		}
		seen[text] = true
		for _, word := range strings.Split(text, "-") {
			words[word] = true
		}
	}
	if len(words) != 256 {
		t.Fatalf("%d different words", len(words))
	}
}

func must(generated secret.Text, err error) secret.Text {
	if err != nil {
		panic(err)
	}
	return generated
}
