package identifier

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what an account gives as the form of its names: of the text in bytes, and of the instructions an expression
// compiles to. A name has 64 characters, so that no rule costs more than their product.
const (
	maxForm         = 200
	maxInstructions = 1000
)

// placeholder is what a template stands for in one place, and an example of it.
type placeholder struct{ name, expression, example string }

func placeholders() []placeholder {
	const letters = `[\p{L}\p{M}]+(?:-[\p{L}\p{M}]+)*`
	return []placeholder{
		{"first", letters, "maria"},
		{"last", letters, "ortiz"},
		{"initial", `\p{L}\p{M}*`, "m"},
		{"word", `[\p{L}\p{M}\p{Nd}]+`, "sales"},
		{"number", `\p{Nd}+`, "2"},
		{"digit", `\p{Nd}`, "7"},
	}
}

// form is the form of login names: an expression, "" for any name, and one name that has it, where one is known.
type form struct{ expression, example string }

// parseTemplate turns a template into a form, or says what is wrong with it. The empty template asks for nothing.
func parseTemplate(template string) (f form, wrong string) {
	if len(template) > maxForm || !utf8.ValidString(template) {
		return form{}, fmt.Sprintf("Use at most %d bytes of text.", maxForm)
	}
	var expression, example strings.Builder
	places := 0
	for rest := template; rest != ""; {
		literal, after, found := strings.Cut(rest, "{")
		if !isNamePart(literal) {
			return form{}, "Use letters, digits, dots, underscores, hyphens and placeholders like {first} only."
		}
		expression.WriteString(escape(literal))
		example.WriteString(literal)
		if !found {
			break
		}
		name, next, closed := strings.Cut(after, "}")
		name, optional := strings.CutSuffix(name, "?")
		i := slices.IndexFunc(placeholders(), func(p placeholder) bool { return p.name == name })
		if !closed || i < 0 {
			return form{}, "Use the placeholders {first}, {last}, {initial}, {word}, {number} and {digit}, each with a question mark before the brace if it may be missing."
		}
		place := placeholders()[i]
		expression.WriteString("(?:" + place.expression + ")")
		if optional {
			expression.WriteString("?")
		} else {
			example.WriteString(place.example)
		}
		places++
		rest = next
	}
	if template == "" {
		return form{}, ""
	}
	if places == 0 {
		return form{}, "Use at least one placeholder, like {first}: else there is one name for everybody."
	}
	shown := example.String()
	if n := utf8.RuneCountInString(shown); n < MinLength || n > MaxLength || strings.Trim(shown, separators) != shown {
		return form{}, "Make a form of 2 to 64 characters with a letter or a digit at both ends: no username can look like this."
	}
	if name, err := ParseUsername(shown); err == nil { // not if its letters are of another alphabet than the examples'
		return form{expression.String(), name.Key}, ""
	}
	return form{expression: expression.String()}, ""
}

// isNamePart tells whether all characters can stand in a username.
func isNamePart(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return !isWord(c) && !strings.ContainsRune(separators, c) })
}

// escape makes literal text, of which the dot alone means something else, stand for itself.
func escape(literal string) string { return strings.ReplaceAll(literal, ".", `\.`) }

// parseRegex turns an expression into a form, or says what is wrong with it. The empty one asks for nothing.
func parseRegex(expression string) (f form, wrong string) {
	if len(expression) > maxForm || !utf8.ValidString(expression) || strings.ContainsFunc(expression, unicode.IsControl) {
		return form{}, fmt.Sprintf("Use at most %d bytes of text without control characters.", maxForm)
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if wrong, ok := errors.AsType[*syntax.Error](err); ok {
		return form{}, fmt.Sprintf("Give a regular expression as RE2 reads it: %s.", wrong.Code)
	}
	if err != nil {
		return form{}, "Give a regular expression as RE2 reads it."
	}
	if instructions(parsed) > maxInstructions {
		return form{}, "Use smaller repetitions: a username has at most 64 characters."
	}
	return form{expression: expression}, ""
}

// instructions estimates the size of the compiled expression from above, before anything of that size is made: nested
// repetitions multiply.
func instructions(re *syntax.Regexp) int {
	const enough = maxInstructions + 1
	size := 1
	if re.Op == syntax.OpLiteral {
		size += len(re.Rune)
	}
	for _, part := range re.Sub {
		size = min(size+instructions(part), enough)
	}
	if re.Op == syntax.OpRepeat {
		size = min(size*max(re.Min, re.Max, 1)+1, enough)
	}
	return size
}
