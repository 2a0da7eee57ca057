package password

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// service is a context word of everybody.
const service = "salesexec"

// Lengths in code points below which a word means nothing: of a part of a name, or one without a letter, and of a whole
// name. Usernames have two characters at least.
const (
	minContextWord = 3
	minWholeName   = 2
)

// Context is what an attacker knows about a user: words that a password must not consist of (ASVS 6.1.2, 6.2.11).
// Unknown ones stay empty.
type Context struct{ Username, Email, DisplayName, AccountName string }

// Bounds of the words that an account blocks: of their number, so that checking a password stays cheap, and of each in code
// points.
const (
	MaxBlockedWords      = 100
	minBlockedWordLength = 3
	maxBlockedWordLength = 32
)

// FoldWord returns the form in which a word that an account blocks is kept and compared, or an error whose text tells people
// what to do about it and never repeats the word.
func FoldWord(word string) (string, error) {
	const typed = maxBlockedWordLength * utf8.UTFMax * 4 // more than any word has whose folded form is within the bounds
	if len(word) > typed {
		return "", errWord
	}
	folded := strings.TrimSpace(Fold(word))
	meant := strings.ContainsFunc(folded, func(r rune) bool { return isLetter(r) || unicode.IsDigit(r) })
	if n := utf8.RuneCountInString(folded); n < minBlockedWordLength || n > maxBlockedWordLength || !meant || !typeable(folded) {
		return "", errWord
	}
	return folded, nil
}

var errWord = fmt.Errorf("use %d to %d characters, with a letter or a digit among them and no control characters", minBlockedWordLength, maxBlockedWordLength)

// explains tells whether the folded password is nothing but context words and the blocked ones, alone, repeated or combined,
// with digits and signs before, between or inside them. A longer phrase that has a context word in it is fine.
func (c Context) explains(folded string, blocked []string) bool {
	var whole, letters []string
	for _, word := range c.words(blocked) {
		whole = append(whole, word)
		if reduced := lettersOf(word); utf8.RuneCountInString(reduced) >= minWholeName {
			letters = append(letters, reduced)
		}
	}
	// As letters alone "a.l.e.x 2026" is "alex"; as a whole a username made of digits is a word at all.
	return composed(lettersOf(folded), letters) || composed(folded, whole)
}

// words lists what is known and what is blocked, folded: each name whole, and its parts.
func (c Context) words(blocked []string) []string {
	email := Fold(c.Email)
	local, _, _ := strings.Cut(email, "@")
	words := []string{service}
	names := []string{email, Fold(c.Username), local, Fold(c.DisplayName), Fold(c.AccountName)}
	for _, name := range append(names, blocked...) {
		least := minContextWord
		if lettersOf(name) != "" {
			least = minWholeName
		}
		words = appendWord(words, name, least)
		for _, part := range strings.FieldsFunc(name, func(r rune) bool { return !isLetter(r) && !unicode.IsDigit(r) }) {
			words = appendWord(words, part, minContextWord)
		}
	}
	return words
}

func appendWord(words []string, word string, least int) []string {
	if utf8.RuneCountInString(word) < least {
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
