package identifier

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Kind says what the usernames of an account are.
type Kind string

// The kinds.
const (
	Either    Kind = "either"     // login names, and the users' own e-mail addresses
	LoginName Kind = "login_name" // login names alone: no address
	OwnEmail  Kind = "email"      // each user's own e-mail address, which the username follows
)

// Valid tells whether k is one of the three kinds.
func (k Kind) Valid() bool { return k == Either || k == LoginName || k == OwnEmail }

// Codes of what a Rule refuses.
const (
	CodeNamingRule = "naming_rule" // the name has not the form that the account asks for
	CodeReserved   = "reserved"    // the name is kept for the service or by the account
)

// maxReserved bounds the names that an account reserves.
const maxReserved = 100

// Rule is an account's naming rule. The zero Rule allows every identifier. The JSON form is the audit trail's: its names
// never change their meaning.
type Rule struct {
	Kind      Kind     `json:"kind,omitempty"`       // empty: Either
	Template  string   `json:"template,omitempty"`   // the form of login names, as in "{first}.{last}"; see Compile
	Regex     string   `json:"regex,omitempty"`      // or as an RE2 expression
	MinLength int      `json:"min_length,omitempty"` // of login names in code points; 0: MinLength
	MaxLength int      `json:"max_length,omitempty"` // 0: MaxLength
	Reserved  []string `json:"reserved,omitempty"`   // folded login names that nobody may take
}

// RuleError says what is wrong with one member of a Rule, in words for people.
type RuleError struct{ Member, Detail string }

// Normalize returns the rule as it is stored: reserved names folded, sorted and none twice. What is wrong with the rule is
// listed for every member at once.
func (r Rule) Normalize() (Rule, []RuleError) {
	r.Kind = cmp.Or(r.Kind, Either)
	r.Template = norm.NFC.String(r.Template)
	_, template := parseTemplate(r.Template)
	_, regex := parseRegex(r.Regex)
	var reserved string
	r.Reserved, reserved = foldReserved(r.Reserved)
	least, most := r.bounds()
	ofLoginNames := r.Template != "" || r.Regex != "" || r.MinLength != 0 || r.MaxLength != 0
	var wrong []RuleError
	for _, demand := range []struct {
		member string
		met    bool
		detail string
	}{
		{"kind", r.Kind.Valid(), "Use login_name, email or either."},
		{"kind", r.Kind != OwnEmail || !ofLoginNames, "Leave template, regex, min_length and max_length out with the kind email: they are about login names."},
		{"template", template == "", template},
		{"regex", regex == "", regex},
		{"regex", r.Template == "" || r.Regex == "", "Give a template or a regex, not both."},
		{"min_length", MinLength <= least && least <= MaxLength, fmt.Sprintf("Use %d to %d.", MinLength, MaxLength)},
		{"max_length", MinLength <= most && most <= MaxLength, fmt.Sprintf("Use %d to %d.", MinLength, MaxLength)},
		{"max_length", least <= most, "Use at least min_length."},
		{"reserved", reserved == "", reserved},
	} {
		if !demand.met {
			wrong = append(wrong, RuleError{demand.member, demand.detail})
		}
	}
	return r, wrong
}

func foldReserved(names []string) (folded []string, detail string) {
	if len(names) > maxReserved {
		return nil, fmt.Sprintf("Give at most %d names.", maxReserved)
	}
	for i, typed := range names {
		name, err := ParseUsername(typed)
		if err != nil {
			return nil, fmt.Sprintf("Number %d is no username: use 2 to 64 letters and digits of one alphabet, dots, underscores and hyphens.", i+1)
		}
		folded = append(folded, name.Key)
	}
	slices.Sort(folded)
	return slices.Compact(folded), ""
}

// bounds returns the least and the greatest length of login names.
func (r Rule) bounds() (least, most int) {
	return cmp.Or(r.MinLength, MinLength), cmp.Or(r.MaxLength, MaxLength)
}

// Naming is a Rule that is ready to be applied to any number of names. It is never changed and safe for concurrent use.
type Naming struct {
	rule    Rule
	form    *regexp.Regexp // nil: any
	example string         // a login name of the form, where one is known
}

// Compile makes the rule ready. A template consists of the letters, digits, dots, underscores and hyphens that a name has at
// that place, and of placeholders, each of which may be left out by the name if it ends in a question mark, as in
// "{first}.{last}{number?}":
//
//	{first} {last}  letters, with single hyphens inside
//	{initial}       one letter
//	{word}          letters and digits
//	{number}        digits
//	{digit}         one digit
//
// An expression is RE2, so that no name takes more than linear time. Both mean the whole folded name, without regard to case.
// The error is a fault of a rule that was never normalized.
func (r Rule) Compile() (*Naming, error) {
	asked, wrong := parseTemplate(r.Template)
	if wrong == "" && r.Regex != "" {
		asked, wrong = parseRegex(r.Regex)
	}
	if wrong != "" {
		return nil, errors.New("identifier: naming rule: " + wrong)
	}
	n := &Naming{rule: r}
	if asked.expression == "" {
		return n, nil
	}
	var err error
	if n.form, err = regexp.Compile(`(?i)^(?:` + asked.expression + `)$`); err != nil {
		return nil, fmt.Errorf("identifier: naming rule: %w", err)
	}
	if asked.example != "" && n.fits(asked.example) {
		n.example = asked.example
	}
	return n, nil
}

// Check returns what is wrong with a folded username under the rule, or nothing. email is the folded address of the user who
// is to have the name, or "". The work is bounded by the length of the name.
func (n *Naming) Check(key, email string) []*Error {
	switch address := LooksLikeEmail(key); {
	case n.rule.Kind == OwnEmail && (!address || key != email), n.rule.Kind == LoginName && address:
		return []*Error{{Code: CodeNamingRule, Detail: n.Guidance()}}
	case address:
		return nil
	}
	var wrong []*Error
	if n.form != nil && !n.form.MatchString(key) || !n.fits(key) {
		wrong = append(wrong, &Error{Code: CodeNamingRule, Detail: n.Guidance()})
	}
	if _, reserved := slices.BinarySearch(n.rule.Reserved, key); reserved {
		wrong = append(wrong, &Error{Code: CodeReserved, Detail: "Your company keeps this name for other uses. Choose another one."})
	}
	return wrong
}

func (n *Naming) fits(name string) bool {
	least, most := n.rule.bounds()
	length := utf8.RuneCountInString(name)
	return least <= length && length <= most
}

// Bounds returns the least and the greatest length of a username in code points; of an address, in octets.
func (n *Naming) Bounds() (least, most int) {
	if n.rule.Kind == OwnEmail {
		return minEmail, maxEmail
	}
	return n.rule.bounds()
}

// Example returns a name of the template's form, or "" when there is no template.
func (n *Naming) Example() string { return n.example }

// Guidance tells people what a username looks like under the rule.
func (n *Naming) Guidance() string {
	if n.rule.Kind == OwnEmail {
		return "In your company the username is the user's own e-mail address, and changes with it."
	}
	var text strings.Builder
	switch {
	case n.rule.Template != "":
		text.WriteString("Use a name of the form " + n.rule.Template)
		if n.example != "" {
			text.WriteString(", like " + n.example)
		}
	case n.rule.Regex != "":
		text.WriteString("Use a name that matches " + n.rule.Regex)
	default:
		text.WriteString("Use letters and digits of one script, dots, underscores and hyphens, with a letter or a digit at both ends")
	}
	if n.rule.MinLength != 0 || n.rule.MaxLength != 0 {
		least, most := n.rule.bounds()
		fmt.Fprintf(&text, "; %d to %d characters", least, most)
	}
	if n.rule.Kind == LoginName {
		text.WriteString(". An e-mail address cannot be a username in your company.")
		return text.String()
	}
	text.WriteString("; or your own confirmed e-mail address.")
	return text.String()
}
