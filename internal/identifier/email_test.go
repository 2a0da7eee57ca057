package identifier_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/identifier"
)

func TestParseEmail_accepts(t *testing.T) {
	for name, c := range map[string]struct{ typed, address, key string }{
		"USR-08 plain":                     {"alex@example.com", "alex@example.com", "alex@example.com"},
		"USR-09 case":                      {"Alex@Example.COM", "Alex@Example.COM", "alex@example.com"},
		"USR-09 dots and tags count":       {"a.lex+Sales@gmail.com", "a.lex+Sales@gmail.com", "a.lex+sales@gmail.com"},
		"USR-09 composed":                  {"Rene\u0301@example.com", "Ren\u00e9@example.com", "ren\u00e9@example.com"},
		"USR-09 dotted capital is no i":    {"\u0130@example.com", "\u0130@example.com", "i\u0307@example.com"},
		"USR-09 dotless is no i":           {"\u0131@example.com", "\u0131@example.com", "\u0131@example.com"},
		"USR-08 punctuation of dot-atoms":  {"!#$%&'*+/=?^_`{|}~-@example.com", "!#$%&'*+/=?^_`{|}~-@example.com", "!#$%&'*+/=?^_`{|}~-@example.com"},
		"USR-08 domain of another script":  {"a@MÜNCHEN.de", "a@MÜNCHEN.de", "a@xn--mnchen-3ya.de"},
		"USR-08 sharp s stays":             {"a@faß.de", "a@faß.de", "a@xn--fa-hia.de"},
		"USR-08 domain given in ASCII":     {"a@XN--mnchen-3ya.de", "a@XN--mnchen-3ya.de", "a@xn--mnchen-3ya.de"},
		"USR-08 full-width domain letters": {"a@ｅｘample.com", "a@ｅｘample.com", "a@example.com"},
		"USR-08 many labels":               {"a@b.c.d.example", "a@b.c.d.example", "a@b.c.d.example"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := identifier.ParseEmail(c.typed)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(identifier.Email{Address: c.address, Key: c.key}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseEmail_refuses(t *testing.T) {
	for name, typed := range map[string]string{
		"empty":                      "",
		"no at":                      "alex.example.com",
		"at alone":                   "@",
		"no local part":              "@example.com",
		"no domain":                  "alex@",
		"two ats":                    "alex@evil.example@example.com",
		"no dot in the domain":       "alex@localhost",
		"only a dot":                 "alex@.",
		"dot before the domain":      "alex@.example.com",
		"dot behind the domain":      "alex@example.com.",
		"two dots in the domain":     "alex@example..com",
		"underscore in the domain":   "alex@ex_ample.com",
		"hyphen before a label":      "alex@-example.com",
		"hyphen behind a label":      "alex@example-.com",
		"reserved hyphens":           "alex@ab--example.com",
		"broken punycode":            "alex@xn--a.com",
		"address literal":            "alex@[192.0.2.1]",
		"port":                       "alex@example.com:25",
		"zero width space in domain": "alex@exam\u200bple.com",
		"soft hyphen in domain":      "alex@exam\u00adple.com",
		"selector in domain":         "alex@exam\ufe0fple.com",
		"ideographic dot in domain":  "alex@example。com",
		"sign mapped into Hebrew":    "alex@\u2135b.com",
		"display name":               "Alex <alex@example.com>",
		"angle brackets":             "<alex@example.com>",
		"comment":                    "alex(me)@example.com",
		"quotes":                     `"alex"@example.com`,
		"quoted at":                  `"a@b"@example.com`,
		"backslash":                  `al\ex@example.com`,
		"header injection":           "alex@example.com\r\nBcc:x@example.com",
		"header injection in front":  "alex\r\nBcc:x@example.com",
		"line end":                   "alex@example.com\n",
		"tab":                        "al\tex@example.com",
		"space":                      "al ex@example.com",
		"space in front":             " alex@example.com",
		"space behind":               "alex@example.com ",
		"no-break space":             "al\u00a0ex@example.com",
		"NUL":                        "al\x00ex@example.com",
		"delete":                     "al\x7fex@example.com",
		"C1 control":                 "al\u0085ex@example.com",
		"zero width space":           "al\u200bex@example.com",
		"grapheme joiner":            "al\u034fex@example.com",
		"variation selector":         "al\ufe0fex@example.com",
		"Hangul filler":              "al\u3164ex@example.com",
		"right-to-left override":     "al\u202eex@example.com",
		"not UTF-8":                  "al\xffex@example.com",
		"not UTF-8 in the domain":    "alex@exam\xffple.com",
		"list":                       "alex@example.com,eve@example.com",
		"dot in front":               ".alex@example.com",
		"dot behind":                 "alex.@example.com",
		"two dots":                   "al..ex@example.com",
		"local part of 65":           strings.Repeat("a", 65) + "@example.com",
		"local part of 65 octets":    "a" + strings.Repeat("é", 32) + "@example.com",
		"label of 64":                "alex@" + strings.Repeat("a", 64) + ".com",
		"255 in all":                 addressOf(255),
		"255 in all, once in ASCII":  strings.Repeat("a", 60) + "@" + strings.Repeat("ü.", 40) + "example.com",
		"longer in lower case":       strings.Repeat("\u023a", 32) + "@example.com",
		"1 MiB":                      strings.Repeat("a", 1<<20) + "@example.com",
		"1 MiB of ats":               strings.Repeat("@", 1<<20),
	} {
		t.Run("USR-08 "+name, func(t *testing.T) {
			got, err := identifier.ParseEmail(typed)
			mustBeError(t, got, typed, err)
		})
	}
}

// USR-08: 254 octets in all and 64 in the local part are allowed.
func TestParseEmail_bounds(t *testing.T) {
	for _, typed := range []string{
		addressOf(254), strings.Repeat("a", 64) + "@example.com", strings.Repeat("é", 32) + "@example.com",
		"alex@" + strings.Repeat("a", 63) + ".com",
	} {
		if _, err := identifier.ParseEmail(typed); err != nil {
			t.Errorf("%d octets: %v", len(typed), err)
		}
	}
}

// addressOf returns an address of so many octets, of labels and a local part that are short enough.
func addressOf(octets int) string {
	const end = ".com"
	address := strings.Repeat("a", 64) + "@" + strings.Repeat(strings.Repeat("b", 60)+".", 3)
	return address + strings.Repeat("c", octets-len(address)-len(end)) + end
}

// FuzzParseEmail: nothing panics, folding is idempotent, and the stored address leads back to the same key.
func FuzzParseEmail(f *testing.F) {
	for _, seed := range []string{"Alex@Example.COM", "a@MÜNCHEN.de", "\u0130@x.de", "\u023a@a.b", "a@xn--a.com", "a@b\r\nBcc:x", "Σς@ΣΣ.gr", "\u0958@\u0958.in", "ǅ@ﬀ.x", "a@\u2135b.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		email, err := identifier.ParseEmail(typed)
		if err != nil {
			mustBeError(t, email, typed, err)
			return
		}
		for _, form := range []string{email.Address, email.Key} {
			if len(form) > 254 || strings.IndexByte(form, '@') > 64 || strings.Count(form, "@") != 1 {
				t.Errorf("%+q is out of form", form)
			}
			again, err := identifier.ParseEmail(form)
			if err != nil || again.Key != email.Key || again.Address != form {
				t.Errorf("%+q was %+q, then %+q, %v", typed, email, again, err)
			}
			if key := identifier.Key(form); key != email.Key {
				t.Errorf("Key(%+q) is %+q, want %+q", form, key, email.Key)
			}
		}
	})
}
