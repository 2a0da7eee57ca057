package password

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"math/big"
	"strings"

	"github.com/salesexec/credentials/internal/secret"
)

const (
	// readable has no two characters that look alike in print, no vowels and so no words, and one case only, so that
	// a temporary password survives being read out on the phone.
	readable = "bcdfghjkmnpqrstvwxyz23456789"
	// groupSize is how many characters are read out in one breath.
	groupSize = 4
	// minGroups makes 28 characters of log2(28) = 4.8 bits: 134 bits, above the 128 asked of a reset secret.
	minGroups = 7
	// passphraseWords of 256 make 40 bits: enough for demonstration accounts, not for temporary passwords.
	passphraseWords = 5
)

//go:embed words.txt
var words string

// Generate returns a random temporary password of at least minLength and at least 34 characters, with 134 bits or more:
// groups of four lower-case consonants and digits, joined by hyphens.
func Generate(minLength int) (secret.Text, error) {
	groups := max(minGroups, (minLength+groupSize+1)/(groupSize+1))
	text := make([]byte, 0, groups*(groupSize+1))
	for i := range groups * groupSize {
		if i > 0 && i%groupSize == 0 {
			text = append(text, '-')
		}
		at, err := pick(len(readable))
		if err != nil {
			return secret.Text{}, err
		}
		text = append(text, readable[at])
	}
	return secret.New(string(text)), nil
}

// GeneratePassphrase returns five random words joined by hyphens, 24 characters or more with 40 bits: for
// demonstration accounts that people type by hand, never for a real user.
func GeneratePassphrase() (secret.Text, error) {
	list := strings.Fields(words)
	chosen := make([]string, passphraseWords)
	for i := range chosen {
		at, err := pick(len(list))
		if err != nil {
			return secret.Text{}, err
		}
		chosen[i] = list[at]
	}
	return secret.New(strings.Join(chosen, "-")), nil
}

// pick returns a random number below n, all equally likely.
func pick(n int) (int, error) {
	number, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		return 0, fmt.Errorf("generate password: %w", err)
	}
	return int(number.Int64()), nil
}
