package identifier

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// Bounds of a username in code points (product.md decision 11).
const (
	MinLength = 2
	MaxLength = 64
)

// separators may stand between the letters and digits of a username.
const separators = "._-"

// Username is what a user types to sign in.
type Username struct {
	Display string // as it is shown: NFC, with the case it was typed in
	Key     string // as it is compared: PRECIS UsernameCaseMapped (RFC 8265 section 3.3)
}

// ParseUsername accepts letters and digits of one script, '.', '_' and '-', 2 to 64 code points, with a letter or a digit
// at both ends (product.md decision 11). The error is an *Error.
func ParseUsername(text string) (Username, error) {
	if len(text) > maxTyped {
		return Username{}, invalid("Use at most 64 letters, digits, dots, underscores and hyphens.")
	}
	key, err := precis.UsernameCaseMapped.String(text)
	if err != nil || key == "" || !utf8.ValidString(text) { // PRECIS gives "" for "", without an error
		return Username{}, invalid("Use letters, digits, dots, underscores and hyphens only, without spaces.")
	}
	if again, err := precis.UsernameCaseMapped.String(key); err != nil || again != key {
		return Username{}, invalid("Use plain letters and digits: this name changes each time it is read.")
	}
	display := norm.NFC.String(text)
	for _, form := range []string{display, key} {
		if n := utf8.RuneCountInString(form); n < MinLength || n > MaxLength {
			return Username{}, invalid("Use 2 to 64 characters.")
		}
	}
	if err := checkCharacters([]rune(key)); err != nil {
		return Username{}, err
	}
	return Username{Display: display, Key: key}, nil
}

func checkCharacters(key []rune) error {
	for _, c := range key {
		if !isWord(c) && !unicode.IsMark(c) && !strings.ContainsRune(separators, c) {
			return invalid("Use letters, digits, dots, underscores and hyphens only, without spaces.")
		}
	}
	if !isWord(key[0]) || strings.ContainsRune(separators, key[len(key)-1]) {
		return invalid("Begin and end with a letter or a digit.")
	}
	if !oneScript(key) || !oneNumbering(key) {
		return invalid("Use letters and digits of one alphabet only: those that look alike in two could pass for another user's name.")
	}
	if !plainlyMarked(key) {
		return invalid("Leave out accents that cannot be seen or that are repeated: the name could pass for another user's.")
	}
	return nil
}
