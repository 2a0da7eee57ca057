package main

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/password"
)

// How far the systematic forms go: far enough that every common word and every run has forms beyond any minimum that
// people meet in practice, short of filling the program with them.
const (
	baseWords   = 2000 // the most common passwords, of which forms are made
	minBase     = 3    // code points of the shortest of them
	maxBase     = 14   // and of the longest
	maxPadded   = 18   // code points of the longest padded word
	maxRepeated = 24   // of the longest repeated pair of digits
	maxRun      = 32   // of the longest run over the keyboard
	maxSame     = 64   // of the longest repetition of one character
)

// runs are the orders in which fingers and minds go: alphabets, digits, keyboard rows and columns.
var runs = []string{
	"1234567890", "0123456789", "abcdefghijklmnopqrstuvwxyz",
	"qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertyuiopasdfghjklzxcvbnm", "1234567890qwertyuiopasdfghjklzxcvbnm",
	"qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklmwxcvbn",
	"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "1q2w3e4r5t6y7u8i9o0p", "qazwsxedcrfvtgbyhnujmikolp", "zaq1xsw2cde3vfr4bgt5nhy6mju7ki8lo9p0",
	"a1b2c3d4e5f6g7h8i9j0", "1a2b3c4d5e6f7g8h9i0j", "!@#$%^&*()", "qwerty123456", "abc123", "1q2w3e", "qwe123", "asd123", "qweasdzxc", "147258369", "159357", "123321", "112233445566778899",
}

// longForms returns what people make of a short common password to meet a longer minimum: they repeat it, pad it with
// digits, or run over the keyboard. Forms of any length come out; the caller keeps those that fit.
func longForms(common []string) []string {
	var forms []string
	for _, word := range bases(common) {
		forms = append(forms, repeated(word)...)
		forms = append(forms, padded(word)...)
	}
	for _, run := range runs {
		forms = append(forms, windows(run)...)
		forms = append(forms, windows(reversed(run))...)
	}
	forms = append(forms, same("abcdefghijklmnopqrstuvwxyz0123456789 !#$*+-.=?@_")...)
	return append(forms, pairs("0123456789")...)
}

// bases picks the words of which forms are made.
func bases(common []string) []string {
	chosen := slices.DeleteFunc(slices.Clone(common), func(word string) bool {
		length := utf8.RuneCountInString(word)
		return length < minBase || length > maxBase
	})
	return chosen[:min(baseWords, len(chosen))]
}

// repeated returns the word twice, thrice and so on until it meets the default minimum, each also with the most usual tails.
func repeated(word string) []string {
	var forms []string
	for form := word; utf8.RuneCountInString(form) < password.MinLengthDefault; {
		form += word
		for _, tail := range []string{"", "1", "12", "123", "!"} {
			forms = append(forms, form+tail)
		}
	}
	return forms
}

// padded returns the word followed by counting digits, and filled up to the default minimum with one digit.
func padded(word string) []string {
	const counting = "123456789012345"
	length := utf8.RuneCountInString(word)
	var forms []string
	for n := 1; n <= len(counting) && length+n <= maxPadded; n++ {
		forms = append(forms, word+counting[:n], counting[:n]+word)
	}
	for _, digit := range "0123456789" {
		forms = append(forms, word+strings.Repeat(string(digit), max(0, password.MinLengthDefault-length)))
	}
	return forms
}

// windows returns every piece of the endlessly repeated run.
func windows(run string) []string {
	endless := strings.Repeat(run, maxRun/len(run)+2)
	var forms []string
	for start := range len(run) {
		for length := password.MinLengthFloor; length <= maxRun; length++ {
			forms = append(forms, endless[start:start+length])
		}
	}
	return forms
}

// same returns each of the characters repeated.
func same(characters string) []string {
	var forms []string
	for _, character := range characters {
		for length := password.MinLengthFloor; length <= maxSame; length++ {
			forms = append(forms, strings.Repeat(string(character), length))
		}
	}
	return forms
}

// pairs returns each two of the digits in alternation.
func pairs(digits string) []string {
	var forms []string
	for _, first := range digits {
		for _, second := range digits {
			alternating := strings.Repeat(string(first)+string(second), maxRepeated)
			for length := password.MinLengthFloor; length <= maxRepeated; length++ {
				forms = append(forms, alternating[:length])
			}
		}
	}
	return forms
}

func reversed(text string) string {
	runes := []rune(text)
	slices.Reverse(runes)
	return string(runes)
}
