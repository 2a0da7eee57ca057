package password

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// service is a context word of everybody.
const service = "salesexec"

// minContextWord is the length in code points below which a word is too common in real phrases to mean anything.
const minContextWord = 3

// Context is what an attacker knows about a user: words that a password must not consist of (ASVS 6.1.2, 6.2.11).
// Unknown ones stay empty.
type Context struct{ Username, Email, DisplayName, AccountName string }

// explains tells whether the folded password is nothing but context words, alone, repeated or combined, with digits
// and signs before, between or inside them. A longer phrase that has a context word in it is fine.
func (c Context) explains(folded string) bool {
	var whole, letters []string
	for _, word := range c.words() {
		whole = appendWord(whole, word)
		letters = appendWord(letters, lettersOf(word))
	}
	// As letters alone "a.l.e.x 2026" is "alex"; as a whole a username made of digits is a word at all.
	return composed(lettersOf(folded), letters) || composed(folded, whole)
}

// words lists what is known, folded, each with its parts.
func (c Context) words() []string {
	email := Fold(c.Email)
	local, _, _ := strings.Cut(email, "@")
	words := []string{service, email}
	for _, name := range []string{Fold(c.Username), local, Fold(c.DisplayName), Fold(c.AccountName)} {
		words = append(words, name)
		words = append(words, strings.FieldsFunc(name, func(r rune) bool { return !isLetter(r) && !unicode.IsDigit(r) })...)
	}
	return words
}

func appendWord(words []string, word string) []string {
	if utf8.RuneCountInString(word) < minContextWord {
		return words
	}
	return append(words, word)
}

// composed tells whether text can be cut into one or more of the words, with nothing but digits and signs left over.
func composed(text string, words []string) bool {
	const unreached, filler, withWord = 0, 1, 2 // what the best way to cut the text up to a place consists of
	best := make([]int, len(text)+1)
	best[0] = filler
	for at := range text {
		if best[at] == unreached {
			continue
		}
		if r, size := utf8.DecodeRuneInString(text[at:]); !isLetter(r) {
			best[at+size] = max(best[at+size], best[at])
		}
		for _, word := range words {
			if strings.HasPrefix(text[at:], word) {
				best[at+len(word)] = withWord
			}
		}
	}
	return best[len(text)] == withWord
}

func lettersOf(text string) string {
	return strings.Map(func(r rune) rune {
		if isLetter(r) {
			return r
		}
		return -1
	}, text)
}

// isLetter counts combining marks in: they are part of the letter before them.
func isLetter(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) }
