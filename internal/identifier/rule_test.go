package identifier_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/identifier"
)

// compiled makes a rule ready as it is done with every stored one.
func compiled(t testing.TB, rule identifier.Rule) *identifier.Naming {
	t.Helper()
	stored, wrong := rule.Normalize()
	if wrong != nil {
		t.Fatalf("%+v: %v", rule, wrong)
	}
	naming, err := stored.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return naming
}

// keyOf folds a name that has the form of one: rules are asked of nothing else.
func keyOf(t testing.TB, typed string) string {
	t.Helper()
	key := identifier.Key(typed)
	if strings.HasPrefix(key, "?") {
		t.Fatalf("%q is no identifier", typed)
	}
	return key
}

func refusals(naming *identifier.Naming, key, email string) []string {
	var found []string
	for _, wrong := range naming.Check(key, email) {
		found = append(found, wrong.Code)
	}
	return found
}

// product.md "standardize user naming conventions": which names each form lets through and which not.
func TestNaming_forms(t *testing.T) {
	for rule, names := range map[*identifier.Rule]struct{ good, bad []string }{
		{}: {good: []string{"alex", "x9", "a-b_c.d", "any@where.example"}},
		{Template: "{first}.{last}"}: {
			good: []string{"maria.ortiz", "Anna-Maria.Ortiz", "jos\u00e9.pe\u00f1a", "Иван.Петров", "ｍaria.ortiz"},
			bad:  []string{"maria", "maria.ortiz2", "maria.ortiz.jr", "m--a.ortiz", "maria_ortiz", "mariaxortiz", "7.ortiz", "maria.7"},
		},
		{Template: "{initial}{last}{number?}"}: {good: []string{"mortiz", "mortiz2", "mortiz17"}, bad: []string{"mortiz-2", "m.ortiz"}},
		{Template: "Ext-{number}"}:             {good: []string{"ext-1", "EXT-42"}, bad: []string{"ext-a", "int-1"}},
		{Template: "{word}{digit}"}:            {good: []string{"sales7", "s4les7"}, bad: []string{"sales", "sa-les7"}},
		{Template: "имя.{last}"}:               {good: []string{"имя.петров"}, bad: []string{"maria.ortiz"}},
		{Template: "e\u0301lan.{last}"}:        {good: []string{"\u00e9lan.ortiz", "e\u0301lan.ortiz"}, bad: []string{"elan.ortiz"}},
		{Regex: `[a-z]{2,4}\d\d`}:              {good: []string{"ab12", "ABCD99"}, bad: []string{"a12", "abcde12", "x.ab12", "ab123"}},
		{Regex: `a|b.*`}:                       {good: []string{"bo"}, bad: []string{"ab", "xb"}}, // the whole name, not a part of an alternative
		{Regex: `(?m:^al$)`}:                   {good: []string{"al"}, bad: []string{"ale"}},
		{MinLength: 5, MaxLength: 7}:           {good: []string{"abcde", "abcdefg", "\u00e9\u00e9\u00e9\u00e9\u00e9"}, bad: []string{"abcd", "abcdefgh"}},
		{Kind: identifier.LoginName}:           {good: []string{"alex"}, bad: []string{"alex@demo.example"}},
		{Kind: identifier.OwnEmail}:            {good: []string{"me@demo.example", "ME@Demo.example"}, bad: []string{"alex", "you@demo.example"}},
	} {
		naming := compiled(t, *rule)
		for _, name := range names.good {
			if got := refusals(naming, keyOf(t, name), "me@demo.example"); got != nil {
				t.Errorf("%+v refuses %q: %v", *rule, name, got)
			}
		}
		for _, name := range names.bad {
			if got := refusals(naming, keyOf(t, name), "me@demo.example"); !slices.Equal(got, []string{"naming_rule"}) {
				t.Errorf("%+v of %q: %v", *rule, name, got)
			}
		}
	}
}

// An address is no login name: the form is not asked of it, where it may be a username at all.
func TestNaming_addresses(t *testing.T) {
	naming := compiled(t, identifier.Rule{Template: "{first}.{last}", MaxLength: 12, Reserved: []string{"sales"}})
	if got := refusals(naming, "somebody.with.a.long.name@demo.example", ""); got != nil {
		t.Errorf("%v", got)
	}
	if got := refusals(compiled(t, identifier.Rule{Kind: identifier.OwnEmail}), "a@b.example", ""); !slices.Equal(got, []string{"naming_rule"}) {
		t.Errorf("of a user without an address: %v", got)
	}
}

// USR-07: an account can reserve names of its own, in every variant of them; all that is wrong is said at once.
func TestNaming_reserved(t *testing.T) {
	rule := identifier.Rule{Reserved: []string{"Sales", "ｈelp.desk", "sales"}, MinLength: 6}
	stored, wrong := rule.Normalize()
	if diff := cmp.Diff([]string{"help.desk", "sales"}, stored.Reserved); wrong != nil || diff != "" {
		t.Fatalf("%v %s", wrong, diff)
	}
	naming := compiled(t, rule)
	for name, want := range map[string][]string{"SALES": {"naming_rule", "reserved"}, "Help.Desk": {"reserved"}, "helpdesk": nil} {
		if got := refusals(naming, keyOf(t, name), ""); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// Whoever is refused hears what a name looks like.
func TestNaming_guidance(t *testing.T) {
	for rule, want := range map[*identifier.Rule]string{
		{Template: "{first}.{last}"}: "Use a name of the form {first}.{last}, like maria.ortiz; or your own confirmed e-mail address.",
		{Kind: identifier.LoginName, Template: "{initial}{last}{number?}", MaxLength: 20}: "Use a name of the form {initial}{last}{number?}, like mortiz; 2 to 20 characters. An e-mail address cannot be a username in your company.",
		{Kind: identifier.LoginName, Regex: `[a-z]+\d*`}:                                  `Use a name that matches [a-z]+\d*. An e-mail address cannot be a username in your company.`,
		{Template: "имя.{last}"}:                                                          "Use a name of the form имя.{last}; or your own confirmed e-mail address.",
		{Template: "{first}.{last}", MaxLength: 8}:                                        "Use a name of the form {first}.{last}; 2 to 8 characters; or your own confirmed e-mail address.",
		{Kind: identifier.OwnEmail}:                                                       "In your company the username is the user's own e-mail address, and changes with it.",
		{}:                                                                                "Use letters and digits of one script, dots, underscores and hyphens, with a letter or a digit at both ends; or your own confirmed e-mail address.",
	} {
		if got := compiled(t, *rule).Guidance(); got != want {
			t.Errorf("%+v:\n got %s\nwant %s", *rule, got, want)
		}
	}
	if least, most := compiled(t, identifier.Rule{}).Bounds(); least != 2 || most != 64 {
		t.Errorf("login names: %d to %d", least, most)
	}
	if least, most := compiled(t, identifier.Rule{Kind: identifier.OwnEmail}).Bounds(); least != 5 || most != 254 {
		t.Errorf("addresses: %d to %d", least, most)
	}
}

// An example that is shown is one that is accepted.
func TestNaming_exampleIsGood(t *testing.T) {
	for _, template := range []string{"{first}.{last}", "{initial}{last}", "{last}.{initial}{number?}", "x-{word}{digit}", "{first?}{last}"} {
		naming := compiled(t, identifier.Rule{Template: template})
		if got := refusals(naming, keyOf(t, naming.Example()), ""); got != nil {
			t.Errorf("%s: %q is refused: %v", template, naming.Example(), got)
		}
	}
}

// What is no rule is refused, all of it at once.
func TestRule_Normalize_refuses(t *testing.T) {
	for name, c := range map[string]struct {
		rule identifier.Rule
		want []string
	}{
		"kind":                  {identifier.Rule{Kind: "e-mail"}, []string{"kind"}},
		"two forms":             {identifier.Rule{Template: "{first}", Regex: "a+"}, []string{"regex"}},
		"a form for addresses":  {identifier.Rule{Kind: identifier.OwnEmail, Template: "{first}"}, []string{"kind"}},
		"lengths of addresses":  {identifier.Rule{Kind: identifier.OwnEmail, MinLength: 3}, []string{"kind"}},
		"too short":             {identifier.Rule{MinLength: 1}, []string{"min_length"}},
		"negative":              {identifier.Rule{MinLength: -1}, []string{"min_length"}},
		"too long":              {identifier.Rule{MaxLength: 65}, []string{"max_length"}},
		"crossed":               {identifier.Rule{MinLength: 9, MaxLength: 8}, []string{"max_length"}},
		"reserved is no name":   {identifier.Rule{Reserved: []string{"fine", "not fine"}}, []string{"reserved"}},
		"reserved address":      {identifier.Rule{Reserved: []string{"a@b.example"}}, []string{"reserved"}},
		"too many reserved":     {identifier.Rule{Reserved: make([]string, 101)}, []string{"reserved"}},
		"unknown placeholder":   {identifier.Rule{Template: "{first}.{surname}"}, []string{"template"}},
		"open brace":            {identifier.Rule{Template: "{first}.{last"}, []string{"template"}},
		"empty placeholder":     {identifier.Rule{Template: "{}"}, []string{"template"}},
		"stray brace":           {identifier.Rule{Template: "{first}}"}, []string{"template"}},
		"no placeholder":        {identifier.Rule{Template: "maria.ortiz"}, []string{"template"}},
		"other literals":        {identifier.Rule{Template: "{first}+{last}"}, []string{"template"}},
		"expression in it":      {identifier.Rule{Template: "{first}(a|b)*"}, []string{"template"}},
		"ends with a dot":       {identifier.Rule{Template: "{first}."}, []string{"template"}},
		"too short for a name":  {identifier.Rule{Template: "{initial}"}, []string{"template"}},
		"too long a template":   {identifier.Rule{Template: "{first}" + strings.Repeat("a", 200)}, []string{"template"}},
		"broken text":           {identifier.Rule{Template: "{first}\xff"}, []string{"template"}},
		"no expression":         {identifier.Rule{Regex: "(a"}, []string{"regex"}},
		"closes our group":      {identifier.Rule{Regex: "a)|(?:.*"}, []string{"regex"}},
		"back reference":        {identifier.Rule{Regex: `(a)\1`}, []string{"regex"}},
		"look-ahead":            {identifier.Rule{Regex: `(?=a)a`}, []string{"regex"}},
		"too long expression":   {identifier.Rule{Regex: strings.Repeat("a", 201)}, []string{"regex"}},
		"control characters":    {identifier.Rule{Regex: "a\x00"}, []string{"regex"}},
		"huge repetition":       {identifier.Rule{Regex: `(?:abcdefgh){200}`}, []string{"regex"}},
		"nested repetitions":    {identifier.Rule{Regex: `((((a{10}){10}){10}){10}){10}`}, []string{"regex"}},
		"nested optional ones":  {identifier.Rule{Regex: `((((a{0,30}){0,30}){0,30}))`}, []string{"regex"}},
		"everything is wrong":   {identifier.Rule{Kind: "x", Template: "{", MinLength: 99, MaxLength: 1, Reserved: []string{""}}, []string{"kind", "template", "min_length", "max_length", "max_length", "reserved"}},
		"nothing":               {identifier.Rule{}, nil},
		"everything is allowed": {identifier.Rule{Kind: identifier.LoginName, Template: strings.Repeat("a", 50) + "{first?}{digit}", MinLength: 2, MaxLength: 64, Reserved: []string{"aa"}}, nil},
	} {
		var got []string
		_, wrong := c.rule.Normalize()
		for _, w := range wrong {
			got = append(got, w.Member)
			if len(w.Detail) < 10 || strings.Contains(w.Detail, "surname") {
				t.Errorf("%s: %q", name, w.Detail)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, wrong, c.want)
		}
	}
	if _, err := (identifier.Rule{Regex: "("}).Compile(); err == nil {
		t.Error("a rule that was never normalized compiles")
	}
}

// Issue "bounded work": the dearest rules that are accepted, on the longest names, cost little memory, and time that is linear
// in the name (RE2).
func TestNaming_boundsItsWork(t *testing.T) {
	for _, rule := range []identifier.Rule{
		{Regex: `((a*)*)*((a|aa)+)+(.*)*(.*a){30}$`},
		{Regex: `(?:[\p{L}\p{M}\p{N}]{1,20}){1,6}(?:a?){90}a{90}`},
		{Regex: strings.Repeat(`\pL`, 60)},
		{Template: strings.Repeat("{first?}{last?}", 12) + "{word}"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		naming := compiled(t, rule)
		for _, name := range []string{strings.Repeat("a", 64), strings.Repeat("\u00e9", 64), strings.Repeat("a", 63) + "9"} {
			naming.Check(name, "")
		}
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 8<<20 {
			t.Errorf("%+v: allocated %d bytes", rule, spent)
		}
	}
}

// FuzzRule: no rule stops the program, what is stored is normal, and what is normal compiles.
func FuzzRule(f *testing.F) {
	f.Add("either", "{first}.{last}", "", 0, 0, "sales", "maria.ortiz")
	f.Add("email", "", "a{1,9}", -3, 70, "", "a@b.example")
	f.Fuzz(func(t *testing.T, kind, template, regex string, least, most int, reserved, typed string) {
		stored, wrong := identifier.Rule{
			Kind: identifier.Kind(kind), Template: template, Regex: regex, MinLength: least, MaxLength: most, Reserved: []string{reserved},
		}.Normalize()
		if wrong != nil {
			return
		}
		if again, wrong := stored.Normalize(); wrong != nil || !cmp.Equal(stored, again) {
			t.Errorf("not normal: %s", cmp.Diff(stored, again))
		}
		naming, err := stored.Compile()
		if err != nil {
			t.Fatal(err)
		}
		for _, refused := range naming.Check(identifier.Key(typed), "") {
			if refused.Code == "" || refused.Detail == "" || fmt.Sprint(refused) == "" {
				t.Errorf("%+v", refused)
			}
		}
	})
}
