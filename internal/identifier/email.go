package identifier

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Bounds in octets of an address and its local part (RFC 5321 section 4.5.3.1), and of a label of its domain (RFC 1035
// section 2.3.4).
const (
	maxEmail = 254
	minEmail = 5 // a@b.c
	maxLocal = 64
	maxLabel = 63
)

// Email is a contact address, which may also serve as username.
type Email struct {
	Address string // as it is written to: NFC, with the case it was typed in
	Key     string // as it is compared: lower case, NFC, domain in ASCII; dots and +tags count (USR-09)
}

// ParseEmail accepts a plain address: one '@', a local part of at most 64 octets without quotes, spaces and comments, an
// IDNA-valid domain with a dot, at most 254 octets together. The error is an *Error.
func ParseEmail(text string) (Email, error) {
	if email, ok := parseEmail(text); ok {
		return email, nil
	}
	return Email{}, invalid("Give an address like name@example.com.")
}

func parseEmail(text string) (Email, bool) {
	local, domain, found := strings.Cut(text, "@")
	if !found || len(text) > maxEmail || !isLocalPart(local) {
		return Email{}, false
	}
	host, ok := foldDomain(domain)
	if !ok {
		return Email{}, false
	}
	email := Email{
		Address: norm.NFC.String(local) + "@" + norm.NFC.String(domain),
		Key:     foldLocal(local) + "@" + host,
	}
	return email, fits(email.Address) && fits(email.Key)
}

// fits is asked of the folded forms too, which can be longer than what was typed.
func fits(address string) bool {
	return len(address) <= maxEmail && strings.IndexByte(address, '@') <= maxLocal
}

// foldLocal lowers the case of decomposed letters, or U+0130 would lose its dot and be another's plain i.
func foldLocal(text string) string { return norm.NFC.String(strings.ToLower(norm.NFD.String(text))) }

// isLocalPart tells whether text is a dot-atom (RFC 5322 section 3.2.3, with RFC 6532's letters).
func isLocalPart(text string) bool {
	if text == "" || strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") || strings.Contains(text, "..") {
		return false
	}
	return consistsOf(text, ".!#$%&'*+/=?^_`{|}~-")
}

// foldDomain returns the domain in lower-case ASCII. IDNA drops invisible characters, takes empty and overlong labels, and
// maps U+2135 to a Hebrew letter without asking the bidi rule again: all are refused here.
func foldDomain(domain string) (string, bool) {
	if !consistsOf(domain, ".-") {
		return "", false
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || !strings.Contains(ascii, ".") {
		return "", false
	}
	if again, err := idna.Lookup.ToASCII(ascii); err != nil || again != ascii {
		return "", false
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > maxLabel {
			return "", false
		}
	}
	return ascii, true
}

// consistsOf tells whether text holds letters, digits, marks and the given punctuation only, and nothing invisible. Invalid
// UTF-8 reads as U+FFFD, which is none of them.
func consistsOf(text, punctuation string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool {
		seen := isWord(c) || unicode.IsMark(c) || strings.ContainsRune(punctuation, c)
		return !seen || unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
	})
}
