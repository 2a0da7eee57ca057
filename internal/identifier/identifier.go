// Package identifier says what a user can be called: the form of usernames and e-mail addresses, and the folded keys that
// make both unique in one namespace.
//
// It is a leaf: it depends on golang.org/x/text (PRECIS, normalization) and golang.org/x/net/idna alone.
package identifier

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// Bounds of a username in code points (product.md decision 11).
const (
	MinLength = 2
	MaxLength = 64
)

// Bounds of an e-mail address in octets (RFC 5321 section 4.5.3.1).
const (
	maxEmail = 254
	maxLocal = 64
)

// maxTyped bounds in bytes what is looked at at all, so that hostile input costs nothing.
const maxTyped = 512

// CodeInvalid is the code of every Error: the text has not the form.
const CodeInvalid = "invalid"

// Error says what is wrong with the form of an identifier, in words for people that never repeat it.
type Error struct {
	Code   string
	Detail string
}

// Error returns the detail.
func (e *Error) Error() string { return "identifier: " + e.Detail }

func invalid(detail string) error { return &Error{Code: CodeInvalid, Detail: detail} }

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
	if err != nil || key == "" {
		return Username{}, invalid("Use letters, digits, dots, underscores and hyphens only, without spaces.")
	}
	display := norm.NFC.String(text)
	if again, err := precis.UsernameCaseMapped.String(key); err != nil || again != key {
		return Username{}, invalid("Use plain letters and digits: this name changes each time it is read.")
	}
	for _, form := range []string{display, key} {
		if err := checkLength(form); err != nil {
			return Username{}, err
		}
	}
	if err := checkCharacters(key); err != nil {
		return Username{}, err
	}
	return Username{Display: display, Key: key}, nil
}

func checkLength(text string) error {
	if n := utf8.RuneCountInString(text); n < MinLength || n > MaxLength {
		return invalid("Use 2 to 64 characters.")
	}
	return nil
}

func checkCharacters(key string) error {
	characters := []rune(key)
	for _, c := range characters {
		if !isWord(c) && !unicode.IsMark(c) && !strings.ContainsRune("._-", c) {
			return invalid("Use letters, digits, dots, underscores and hyphens only, without spaces.")
		}
	}
	if !isWord(characters[0]) || strings.ContainsRune("._-", characters[len(characters)-1]) {
		return invalid("Begin and end with a letter or a digit.")
	}
	if !oneScript(characters) {
		return invalid("Use letters of one alphabet only: letters that look alike in two alphabets could pass for another user's name.")
	}
	return nil
}

func isWord(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }

// oneScript tells whether all letters are of one script, and all digits of one numbering system (Unicode TR 39 section 5).
func oneScript(characters []rune) bool {
	script, zero := "", rune(-1)
	for _, c := range characters {
		if unicode.IsDigit(c) {
			if z := zeroOf(c); zero == -1 {
				zero = z
			} else if z != zero {
				return false
			}
		}
		s := scriptOf(c)
		if s == "Common" || s == "Inherited" {
			continue
		}
		if script != "" && s != script {
			return false
		}
		script = s
	}
	return true
}

// zeroOf returns the zero of the digit's numbering system: decimal digits stand in runs of ten (Unicode chapter 4.6).
func zeroOf(digit rune) rune {
	for _, r := range unicode.Nd.R16 {
		if lo := rune(r.Lo); lo <= digit && digit <= rune(r.Hi) {
			return digit - (digit-lo)%10
		}
	}
	for _, r := range unicode.Nd.R32 {
		if lo := rune(r.Lo); lo <= digit && digit <= rune(r.Hi) { //nolint:gosec // a code point
			return digit - (digit-lo)%10
		}
	}
	return digit
}

func scriptOf(c rune) string {
	for name, table := range unicode.Scripts {
		if unicode.Is(table, c) {
			return name
		}
	}
	return "Unknown"
}

// Email is a contact address, which may also serve as username.
type Email struct {
	Address string // as it is written to
	Key     string // as it is compared: lower case, NFC, domain in ASCII; dots and +tags count (USR-09)
}

const emailForm = "Give an address like name@example.com."

// ParseEmail accepts a plain address: one '@', a local part of at most 64 octets without quotes, spaces and comments, an
// IDNA-valid domain with a dot, at most 254 octets together. The error is an *Error.
func ParseEmail(text string) (Email, error) {
	local, domain, found := strings.Cut(text, "@")
	if !found || len(text) > maxEmail || len(local) > maxLocal || !utf8.ValidString(text) || !isLocalPart(local) {
		return Email{}, invalid(emailForm)
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || !strings.Contains(ascii, ".") || strings.HasSuffix(ascii, ".") || len(ascii) > maxEmail {
		return Email{}, invalid(emailForm)
	}
	local = norm.NFC.String(local)
	email := Email{Address: local + "@" + domain, Key: norm.NFC.String(strings.ToLower(local)) + "@" + strings.ToLower(ascii)}
	if len(email.Key) > maxEmail+maxLocal {
		return Email{}, invalid(emailForm)
	}
	return email, nil
}

// isLocalPart tells whether text is a dot-atom (RFC 5322 section 3.2.3, with RFC 6532's letters).
func isLocalPart(text string) bool {
	if text == "" || strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") || strings.Contains(text, "..") {
		return false
	}
	return !strings.ContainsFunc(text, func(c rune) bool {
		return !isWord(c) && !unicode.IsMark(c) && !strings.ContainsRune(".!#$%&'*+/=?^_`{|}~-", c)
	})
}

// LooksLikeEmail tells whether text is meant as an address: usernames have no '@'.
func LooksLikeEmail(text string) bool { return strings.Contains(text, "@") }

// Key folds what somebody typed. Text that is no identifier at all gets a key of its own that none can have.
func Key(typed string) string {
	if LooksLikeEmail(typed) {
		if email, err := ParseEmail(typed); err == nil {
			return email.Key
		}
	} else if name, err := ParseUsername(typed); err == nil {
		return name.Key
	}
	sum := sha256.Sum256([]byte(typed))
	return "?" + hex.EncodeToString(sum[:])
}

// Reserved tells whether the folded name is kept for the service, so that nobody passes for it (USR-07).
func Reserved(key string) bool {
	return slices.Contains([]string{
		"admin", "administrator", "api", "root", "system", "support", "help", "helpdesk", "security", "salesexec",
		"me", "self", "null", "undefined", "nobody", "anonymous", "everyone", "service", "operator", "postmaster", "webmaster",
	}, key)
}
