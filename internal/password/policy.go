// Package password knows what a user knows: which passwords may be chosen (policy, blocklist, context words),
// how temporary ones are made, and how they are hashed and verified with bounded memory and time.
//
// It depends on the standard library, golang.org/x/crypto, golang.org/x/text and package secret. The use cases
// that set or verify a password depend on it.
package password

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/salesexec/credentials/internal/secret"
)

// The codes of a Violation. They are part of the API: clients translate them.
const (
	CodeTooShort          = "too_short"
	CodeTooLong           = "too_long"
	CodeBlocklisted       = "blocklisted"
	CodeBreached          = "breached"
	CodeContextWord       = "context_word"
	CodeSameAsCurrent     = "same_as_current" // added by the use case, which alone knows the current password
	CodeInvalidCharacters = "invalid_characters"
)

// Lengths, in Unicode code points after NFC (NIST SP 800-63B-4 section 3.1.1.2).
const (
	// MinLengthDefault is the least for a password that is the only factor.
	MinLengthDefault = 15
	// MinLengthFloor is the least an account may ask for, where another factor is used as well.
	MinLengthFloor = 8
	// MinLengthCeiling is the most an account may ask for: a maximum below 64 is not allowed, nor a minimum above it sensible.
	MinLengthCeiling = 64
	// MaxLength bounds the work a password makes; ASVS 6.2.9 asks for at least 64.
	MaxLength = 128
)

// maxBytes is more than any text can have whose NFC form has MaxLength code points: a code point decomposes into at
// most 4 (Unicode Standard Annex 15), each of at most 4 bytes. Longer text is too long without being looked at.
const maxBytes = MaxLength * 4 * utf8.UTFMax

// Violation is one reason why a password is refused.
type Violation struct {
	Code   string // one of the Code constants
	Detail string // what the person can do about it; never the password nor a part of it
}

// PolicyError refuses a password for all the reasons found.
type PolicyError struct{ Violations []Violation }

// Error lists the codes, never the password.
func (e *PolicyError) Error() string {
	codes := make([]string, len(e.Violations))
	for i, violation := range e.Violations {
		codes[i] = violation.Code
	}
	return "password refused: " + strings.Join(codes, ", ")
}

// Policy is what is asked of a new password: the very value that is enforced and published.
type Policy struct {
	MinLength    int        // code points after NFC, MinLengthFloor to MinLengthCeiling
	Blocklist    *Blocklist // passwords that are refused whatever their length
	BlockedWords []string   // results of FoldWord: further words that a password must not consist of
	Breached     Breached   // passwords known from breaches; nil if the deployment has no list of them
}

// Breached is a list of passwords known from breaches (NIST SP 800-63B-4 section 3.1.1.2, ASVS 6.2.12). It is asked for the
// NFC form as typed: the list is of passwords as they were used, and a change of case makes another password of one. What
// attackers try in any case is the blocklist's.
type Breached interface {
	Contains(password secret.Text) bool
}

// Validate returns an error when MinLength is out of bounds, there is no blocklist, or there are too many blocked words.
func (p Policy) Validate() error {
	if p.MinLength < MinLengthFloor || p.MinLength > MinLengthCeiling {
		return fmt.Errorf("password: minimum length %d is not from %d to %d", p.MinLength, MinLengthFloor, MinLengthCeiling)
	}
	if p.Blocklist == nil {
		return fmt.Errorf("password: the policy has no blocklist")
	}
	if len(p.BlockedWords) > MaxBlockedWords {
		return fmt.Errorf("password: %d blocked words are more than %d", len(p.BlockedWords), MaxBlockedWords)
	}
	return nil
}

// Check returns every reason to refuse the candidate for the user that about describes, or none. It asks for length,
// for characters a person can type and for not being guessable; never for kinds of characters (NIST SP 800-63B-4
// section 3.1.1.2). The work is bounded whatever the candidate's size. It never looks at the current password.
func (p Policy) Check(candidate secret.Text, about Context) []Violation {
	if len(candidate.Reveal()) > maxBytes {
		return []Violation{tooLong()}
	}
	password := Normalize(candidate).Reveal()
	length := utf8.RuneCountInString(password)
	if length > MaxLength {
		return []Violation{tooLong()}
	}
	var found []Violation
	if length < p.minLength() {
		found = append(found, Violation{CodeTooShort,
			fmt.Sprintf("Use at least %d characters; a phrase of four or five words works well.", p.minLength())})
	}
	if !typeable(password) {
		found = append(found, Violation{CodeInvalidCharacters,
			"Use letters, digits, signs, spaces or emoji; tabs, line breaks and other control characters cannot be used."})
	}
	found = append(found, p.guessable(Fold(password), about)...)
	if p.Breached != nil && p.Breached.Contains(secret.New(password)) {
		found = append(found, Violation{CodeBreached,
			"This password is on a list of those known from breaches, which attackers try everywhere. Choose one that was never used anywhere."})
	}
	return found
}

// guessable finds what an attacker would try first in a folded password.
func (p Policy) guessable(folded string, about Context) []Violation {
	var found []Violation
	if p.Blocklist.Contains(folded) {
		found = append(found, Violation{CodeBlocklisted,
			"This is one of the passwords tried first by attackers. Choose several words that do not belong together."})
	}
	switch {
	case about.explains(folded, nil):
		found = append(found, Violation{CodeContextWord,
			"Use more than your name, username, e-mail address or company with digits and signs; add words that have nothing to do with you."})
	case len(p.BlockedWords) > 0 && about.explains(folded, p.BlockedWords):
		found = append(found, Violation{CodeContextWord,
			"Use more than words that your company has blocked, with digits and signs; add words that have nothing to do with it or with you."})
	}
	return found
}

// PasswordRules describes the policy to password managers in the passwordrules form of Apple and the WHATWG proposal.
// It requires no kind of character.
func (p Policy) PasswordRules() string {
	return fmt.Sprintf("minlength: %d; maxlength: %d; allowed: ascii-printable, unicode;", p.minLength(), MaxLength)
}

// minLength keeps a policy that was never validated from allowing less than the floor.
func (p Policy) minLength() int { return max(p.MinLength, MinLengthFloor) }

// Normalize returns the NFC form, in which passwords are counted, hashed and verified (NIST SP 800-63B-4 section 3.1.1.2).
func Normalize(password secret.Text) secret.Text {
	return secret.New(norm.NFC.String(password.Reveal()))
}

// Fold returns the form in which passwords are compared with the blocklist and with context words: lower case and
// NFKC. It is for finding guessable passwords only, never for verifying one.
func Fold(text string) string {
	return norm.NFKC.String(strings.ToLower(norm.NFKC.String(text)))
}

func tooLong() Violation {
	return Violation{CodeTooLong, fmt.Sprintf("Use at most %d characters.", MaxLength)}
}

// typeable tells whether text is valid UTF-8 without control characters and noncharacters. Code points that are not
// assigned yet are fine: the next emoji is one of them until the tables know it.
func typeable(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Noncharacter_Code_Point, r)
	})
}
