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

// LooksLikeEmail tells whether text is meant as an address: usernames have no '@'.
func LooksLikeEmail(text string) bool { return strings.Contains(text, "@") }

// Key folds what somebody typed into its key in the one namespace. It never fails: text that is no identifier gets a key of
// its own, which no username and no address can have, since it begins with '?' and has no '@'.
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

// Reserved tells whether a username with this key is kept for the service, so that nobody passes for it (USR-07). Parsing
// does not refuse such names: an import may hold one.
func Reserved(key string) bool {
	return slices.Contains([]string{
		"abuse", "admin", "administrator", "anonymous", "api", "everyone", "help", "helpdesk", "hostmaster", "me", "nobody",
		"no-reply", "noreply", "null", "operator", "postmaster", "root", "salesexec", "security", "self", "service",
		"superuser", "support", "system", "undefined", "webmaster",
	}, key)
}

func isWord(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }
