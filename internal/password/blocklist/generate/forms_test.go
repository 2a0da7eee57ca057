package main

import (
	"slices"
	"testing"
	"unicode/utf8"
)

// PW-14, PW-17: the long forms are folded, in order, of a length that some account allows, and the ones people use.
func TestCompose(t *testing.T) {
	entries := compose([]string{"Password", "love", "ab", "Straße\ufb01x"})
	for _, want := range []string{
		"password", "passwordpassword", "passwordpassword1", "lovelove", "lovelovelovelove!", "password1234567", "12345password", "password0000000",
		"love00000000000", "qwertyuiopasdfghjkl", "poiuytrewqpoiuyt", "abcdefghijklmno", "777777777777777", "1212121212121212", "straßefix",
	} {
		if _, found := slices.BinarySearch(entries, want); !found {
			t.Errorf("%q is missing", want)
		}
	}
	for i, entry := range entries {
		if length := utf8.RuneCountInString(entry); length < 8 || length > 128 || (i > 0 && entries[i-1] >= entry) {
			t.Fatalf("%q at %d", entry, i)
		}
	}
	if _, found := slices.BinarySearch(entries, "abababababababab"); found {
		t.Error("a form was made of a word that is too short")
	}
}

func TestReaders(t *testing.T) {
	for name, got := range map[string]func() ([]string, error){
		"JSON": func() ([]string, error) { return readJSON([]byte(`["love","monkey"]`)) },
		"coffee": func() ([]string, error) {
			return readCoffee([]byte("x\n  passwords: \"love,monkey\"\n  names: \"mary\"\n"))
		},
		"lines": func() ([]string, error) { return readLines([]byte("#!comment: x\r\nlove\r\nmonkey")) },
	} {
		passwords, err := got()
		if err != nil || !slices.Equal(passwords, []string{"love", "monkey"}) {
			t.Errorf("%s: %q, %v", name, passwords, err)
		}
	}
	if _, err := readCoffee([]byte("nothing")); err == nil {
		t.Error("a file without passwords was read")
	}
}
