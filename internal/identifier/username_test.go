package identifier_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"

	"github.com/salesexec/credentials/internal/identifier"
)

func TestParseUsername_accepts(t *testing.T) {
	for name, c := range map[string]struct{ typed, display, key string }{
		"USR-01 plain":                     {"alice", "alice", "alice"},
		"USR-11 case":                      {"Alice", "Alice", "alice"},
		"USR-01 full width":                {"ＡＬＩＣＥ", "ＡＬＩＣＥ", "alice"},
		"USR-01 composed":                  {"rene\u0301", "ren\u00e9", "ren\u00e9"},
		"USR-01 Kelvin sign":               {"\u212Aim", "Kim", "kim"},
		"USR-06 punctuation inside":        {"j.p_doe-2", "j.p_doe-2", "j.p_doe-2"},
		"USR-06 digits alone":              {"42", "42", "42"},
		"USR-05 Cyrillic alone":            {"Иван.2", "Иван.2", "иван.2"},
		"USR-05 Greek alone":               {"ΑΣ", "ΑΣ", "ασ"},
		"USR-05 Hebrew with a digit":       {"אב1", "אב1", "אב1"},
		"USR-05 digits of its own script":  {"क१", "क१", "क१"},
		"USR-05 signs of its own script":   {"हिन्दी", "हिन्दी", "हिन्दी"},
		"USR-05 Hiragana with length mark": {"らーめん", "らーめん", "らーめん"},
		"USR-05 half-width Katakana":       {"ﾗｰﾒﾝ", "ﾗｰﾒﾝ", "ラーメン"},
		"USR-05 accent without a composed": {"ade\u0323\u0300", "ad\u1eb9\u0300", "ad\u1eb9\u0300"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := identifier.ParseUsername(c.typed)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(identifier.Username{Display: c.display, Key: c.key}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseUsername_refuses(t *testing.T) {
	for name, typed := range map[string]string{
		"USR-02 empty":                       "",
		"USR-01 zero width space":            "al\u200bice",
		"USR-01 zero width joiner":           "क्\u200dष",
		"USR-01 soft hyphen":                 "al\u00adice",
		"USR-01 grapheme joiner":             "al\u034fice",
		"USR-01 variation selector":          "al\ufe0fice",
		"USR-01 Hangul fillers":              "\u3164\u3164",
		"USR-01 Braille blank":               "al\u2800ice",
		"USR-01 right-to-left override":      "al\u202eice",
		"USR-01 space":                       "alice smith",
		"USR-01 space in front":              " alice",
		"USR-01 line end":                    "alice\n",
		"USR-01 NUL":                         "al\x00ice",
		"USR-01 delete":                      "al\x7fice",
		"USR-01 Roman numeral":               "henryⅣ",
		"USR-01 ligature":                    "ﬁona",
		"USR-01 long s":                      "ſam",
		"USR-01 emoji":                       "alice🙂",
		"USR-01 not UTF-8":                   "al\xffice",
		"USR-01 not UTF-8, half a character": "alice\xd0",
		"USR-01 bidi: digit before Hebrew":   "1אב",
		"USR-06 one":                         "a",
		"USR-06 65":                          strings.Repeat("a", 65),
		"USR-06 one character of two points": "e\u0301",
		"USR-06 65 of two bytes":             strings.Repeat("é", 65),
		"USR-06 beyond what is looked at":    strings.Repeat("a", 1<<20),
		"USR-06 only punctuation":            "..",
		"USR-06 dot in front":                ".alice",
		"USR-06 hyphen behind":               "alice-",
		"USR-06 underscore in front":         "_alice",
		"USR-06 other punctuation":           "ali'ce",
		"USR-06 slash":                       "ali/ce",
		"USR-06 percent":                     "ali%ce",
		"USR-08 at":                          "alice@example.com",
		"USR-08 full-width at":               "alice＠example.com",
		"USR-05 Cyrillic a in front":         "\u0430lice",
		"USR-05 Cyrillic o inside":           "sc\u043ett",
		"USR-05 Greek omicron":               "sc\u03bftt",
		"USR-05 Han and Hiragana":            "山たろう",
		"USR-05 Katakana in Latin":           "aロb",
		"USR-05 length mark in Latin":        "aーb",
		"USR-05 length mark in front":        "ーら",
		"USR-05 letter like an underscore":   "a\u02cdb",
		"USR-05 letter like an apostrophe":   "o\u02bcneil",
		"USR-05 digit of another script":     "alice१",
		"USR-05 two numbering systems":       "क1१",
		"USR-05 dot on i":                    "admi\u0307n",
		"USR-05 dot on i after another mark": "admi\u0331\u0307n",
		"USR-05 dot on j":                    "j\u0307oe",
		"USR-05 dot on i from upper case":    "\u0130brahim",
		"USR-05 the same mark twice":         "x\u0331\u0331y",
		"USR-05 a heap of marks":             "x\u0300\u0301\u0302\u0303\u0304y",
		"USR-05 mark on a hyphen":            "a-\u0331b",
		"USR-05 mark on a digit":             "a1\u0331b",
		"USR-05 mark in front":               "\u0331ab",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := identifier.ParseUsername(typed)
			mustBeError(t, got, typed, err)
		})
	}
}

// USR-06: 2 and 64 code points are the bounds, counted as points and not as bytes.
func TestParseUsername_bounds(t *testing.T) {
	for _, typed := range []string{"ab", strings.Repeat("a", 64), "éè", strings.Repeat("é", 64), strings.Repeat("𐐨", 64)} {
		if _, err := identifier.ParseUsername(typed); err != nil {
			t.Errorf("%d points: %v", utf8.RuneCountInString(typed), err)
		}
	}
}

// FuzzParseUsername: nothing panics, folding is idempotent, and what is stored and shown leads back to the same key.
func FuzzParseUsername(f *testing.F) {
	for _, seed := range []string{"Alice", "ＡＬＩＣＥ", "İstanbul", "ΑΣ", "admi\u0307n", "らーめん", "ab\xff", "אב1", "क्\u200dष", "x\u0331\u0323y", "Å\u212Bz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		name, err := identifier.ParseUsername(typed)
		if err != nil {
			mustBeError(t, name, typed, err)
			return
		}
		for _, form := range []string{name.Display, name.Key} {
			if n := utf8.RuneCountInString(form); n < identifier.MinLength || n > identifier.MaxLength {
				t.Errorf("%+q has %d code points", form, n)
			}
			if !norm.NFC.IsNormalString(form) || identifier.LooksLikeEmail(form) || form[0] == '?' {
				t.Errorf("%+q is out of form", form)
			}
			again, err := identifier.ParseUsername(form)
			if err != nil || again.Key != name.Key || again.Display != form {
				t.Errorf("%+q was %+q, then %+q, %v", typed, name, again, err)
			}
			if key := identifier.Key(form); key != name.Key {
				t.Errorf("Key(%+q) is %+q, want %+q", form, key, name.Key)
			}
		}
	})
}

// mustBeError checks that nothing but an *Error came back, which does not repeat what was typed.
func mustBeError[T comparable](t *testing.T, got T, typed string, err error) {
	t.Helper()
	var zero T
	wrong, ok := errors.AsType[*identifier.Error](err)
	if !ok || got != zero {
		t.Fatalf("got %+v and %v, want an *Error alone", got, err)
	}
	if wrong.Code != identifier.CodeInvalid || wrong.Detail == "" {
		t.Errorf("error %+v lacks its code or its guidance", wrong)
	}
	if len(typed) > 12 && strings.Contains(err.Error(), typed) {
		t.Errorf("the error repeats what was typed: %v", err)
	}
}
