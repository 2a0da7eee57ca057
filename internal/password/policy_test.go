package password_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

// lock is a character of four bytes and two UTF-16 units.
const lock = "\U0001F512"

func policy(t testing.TB) password.Policy {
	t.Helper()
	blocklist, err := password.LoadBlocklist()
	if err != nil {
		t.Fatal(err)
	}
	return password.Policy{MinLength: password.MinLengthDefault, Blocklist: blocklist}
}

func codes(violations []password.Violation) []string {
	var codes []string
	for _, violation := range violations {
		codes = append(codes, violation.Code)
	}
	return codes
}

func TestPolicy_Check(t *testing.T) {
	policy := policy(t)
	for _, test := range []struct {
		name, candidate string
		want            []string
	}{
		{"PW-02 longest", strings.Repeat(lock, 128), nil},
		{"PW-02 64", "x9" + strings.Repeat("ab cd ", 10) + "yz", nil},
		{"PW-02 one too many", strings.Repeat(lock, 129), []string{"too_long"}},
		{"PW-02 longest when composed", strings.Repeat("\u1100\u1161\u11a8", 128), nil},
		{"PW-03 shortest in code points", strings.Repeat(lock, 15), nil},
		{"PW-03 56 bytes are 14 code points", strings.Repeat(lock, 14), []string{"too_short"}},
		{"PW-03 e and accent are one", "kitchen oboe e\u0301", []string{"too_short"}},
		{"PW-03 empty", "", []string{"too_short"}},
		{"PW-04 spaces", "  kitchen   oboe  ", nil},
		{"PW-04 CJK", "正しい馬電池の綴じ金具と青い空", nil},
		{"PW-04 right to left", "סוס נכון סוללה מהדק", nil},
		{"PW-04 joined emoji", "kitchen oboe \U0001F468\u200d\U0001F469\u200d\U0001F467", nil},
		{"PW-04 next year's emoji", "kitchen oboe ok \U0001FAFF", nil},
		{"PW-05 lower case only", "kitchenoboegravelsky", nil},
		{"PW-05 digits only", "583920174658203", nil},
		{"PW-12 NUL", "kitchen oboe\x00 gravel", []string{"invalid_characters"}},
		{"PW-12 tab", "kitchen oboe\t gravel", []string{"invalid_characters"}},
		{"PW-12 unit separator", "kitchen oboe\x1f gravel", []string{"invalid_characters"}},
		{"PW-12 delete", "kitchen oboe\x7f gravel", []string{"invalid_characters"}},
		{"PW-12 next line", "kitchen oboe\u0085 gravel", []string{"invalid_characters"}},
		{"PW-12 noncharacter", "kitchen oboe\uffff gravel", []string{"invalid_characters"}},
		{"PW-12 invalid UTF-8", "kitchen oboe\xff gravel", []string{"invalid_characters"}},
		{"PW-12 encoded surrogate", "kitchen oboe\xed\xa0\x80 gravel", []string{"invalid_characters"}},
		{"PW-13 common", "passwordpassword", []string{"blocklisted"}},
		{"PW-13 run", "qwertyuiopasdfghjkl", []string{"blocklisted"}},
		{"PW-13 one character", "aaaaaaaaaaaaaaaa", []string{"blocklisted"}},
		{"PW-13 padded", "password1234567", []string{"blocklisted"}},
		{"PW-13 never by substring", "my password1234567 oboe", nil},
		{"PW-17 case", "PASSWORDPASSWORD1", []string{"blocklisted"}},
		{"PW-17 as listed", "passwordpassword1", []string{"blocklisted"}},
		{"PW-17 normal form", "ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ", []string{"blocklisted"}},
		{"PW-18 all reasons at once", "password\n", []string{"too_short", "invalid_characters"}},
		{"PW-18 short and common", "password", []string{"too_short", "blocklisted"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := codes(policy.Check(secret.New(test.candidate), password.Context{}))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// PW-04: each of the printing ASCII characters may be used.
func TestPolicy_Check_acceptsPrintingASCII(t *testing.T) {
	policy := policy(t)
	for character := ' '; character <= '~'; character++ {
		candidate := fmt.Sprintf("%ckitchen%coboe gravel%c", character, character, character)
		if found := policy.Check(secret.New(candidate), password.Context{}); found != nil {
			t.Errorf("%q: %v", character, found)
		}
	}
}

// PW-16: what an attacker knows about the user is no password, however it is padded; as a part of one it is fine.
func TestPolicy_Check_contextWords(t *testing.T) {
	policy := policy(t)
	about := password.Context{
		Username: "alex.smith99", Email: "a.smith@post.example", DisplayName: "Alexandra Smith-Ødegård", AccountName: "Blue Motors Ltd",
	}
	for _, candidate := range []string{
		"alex.smith99000", "000000alex.smith99", "AlexSmith!!2026!!", "a.l.e.x.s.m.i.t.h", "smith smith smith", "a1l2e3x4s5m6i7t8h9",
		"a.smith@post.example", "asmith1234567890", "alexandra2026!!!", "Ødegård-Ødegård", "ØDEGÅRD12345678",
		"salesexec2026!!", "SalesExecSalesExec", "alexsalesexec2026", "bluemotors20262026", "ＡＬＥＸＡＮＤＲＡ２０２６！！",
	} {
		if got := codes(policy.Check(secret.New(candidate), about)); !cmp.Equal(got, []string{"context_word"}) {
			t.Errorf("%q: %v", candidate, got)
		}
	}
	for _, candidate := range []string{
		"alexandra plays the oboe", "my salesexec kitchen", "alex.smith99 oboe", "motorsport gravel 1", "kitchen 99 oboe 99 x", "O\u0308degård1234567890",
	} {
		if found := policy.Check(secret.New(candidate), about); found != nil {
			t.Errorf("%q: %v", candidate, found)
		}
	}
}

// PW-16: names of digits or of one or two letters.
func TestPolicy_Check_unusualContext(t *testing.T) {
	policy := policy(t)
	for _, test := range []struct {
		candidate string
		about     password.Context
		refused   bool
	}{
		{"583920174658203", password.Context{Username: "583920174658203"}, true},
		{"583920174658203", password.Context{Username: "5839201746"}, true},
		{"583920174658203", password.Context{Username: "58"}, false},
		{"a1b2c3-a1b2c3-00", password.Context{Username: "a1b2c3"}, true},
		{"xy xy xy xy xy xy", password.Context{Username: "xy"}, true},
		{"bo1234567890123", password.Context{Username: "bo"}, true},
		{"bobcat kettle bo", password.Context{Username: "bo"}, false},
		{"xy99alex99xy99!!!", password.Context{Username: "xy99", DisplayName: "Alex"}, true},
		{"583920174658203", password.Context{Username: "...", Email: "@", DisplayName: "--- -"}, false},
		{"\xff\xfe kitchen oboe", password.Context{Username: "\xff\xfe\xfd", DisplayName: "\xff"}, false},
	} {
		got := codes(policy.Check(secret.New(test.candidate), test.about))
		if refused := strings.Contains(fmt.Sprint(got), "context_word"); refused != test.refused {
			t.Errorf("%q for %+v: %v", test.candidate, test.about, got)
		}
	}
}

// Peers' bug 12: hostile input costs next to nothing, in time and memory.
func TestPolicy_Check_boundsItsWork(t *testing.T) {
	policy := policy(t)
	for name, unit := range map[string]string{"ASCII": "a", "marks": "\u0301", "expanding": "\ufdfa", "invalid": "\xff"} {
		t.Run(name, func(t *testing.T) {
			candidate := secret.New(strings.Repeat(unit, (1<<20)/len(unit)))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := codes(policy.Check(candidate, password.Context{Username: "alex"}))
			runtime.ReadMemStats(&after)
			if diff := cmp.Diff([]string{"too_long"}, got); diff != "" {
				t.Fatal(diff)
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 64<<10 {
				t.Fatalf("allocated %d bytes", spent)
			}
		})
	}
}

// PW-18, PW-19, HASH-16: a refusal says why and how to do better, and never repeats the password.
func TestPolicy_Check_guidesWithoutEchoing(t *testing.T) {
	policy := policy(t)
	for _, candidate := range []string{"Zx81-Canary", "zx81canary\x00canary zx81", strings.Repeat("zx81canary", 20), "zx81canary2026!!"} {
		violations := policy.Check(secret.New(candidate), password.Context{Username: "zx81canary"})
		if len(violations) == 0 {
			t.Fatalf("%q was accepted", candidate)
		}
		err := &password.PolicyError{Violations: violations}
		shown := strings.ToLower(fmt.Sprintf("%v %+v %#v %s", violations, violations, violations, err))
		if strings.Contains(shown, "zx81") || strings.Contains(shown, "canary") {
			t.Errorf("the password shows: %s", shown)
		}
		for _, violation := range violations {
			if len(violation.Detail) < 20 {
				t.Errorf("%s has no guidance: %q", violation.Code, violation.Detail)
			}
		}
	}
}

// PW-18: the codes are those of the API.
func TestPolicyError_listsCodes(t *testing.T) {
	all := []string{password.CodeTooShort, password.CodeTooLong, password.CodeBlocklisted, password.CodeBreached,
		password.CodeContextWord, password.CodeSameAsCurrent, password.CodeInvalidCharacters}
	var violations []password.Violation
	for _, code := range all {
		violations = append(violations, password.Violation{Code: code})
	}
	want := "password refused: too_short, too_long, blocklisted, breached, context_word, same_as_current, invalid_characters"
	if got := (&password.PolicyError{Violations: violations}).Error(); got != want {
		t.Fatalf("got %q", got)
	}
}

// PW-05, PW-18: what is published is what is enforced, and requires no kind of character.
func TestPolicy_publishesWhatItEnforces(t *testing.T) {
	policy := policy(t)
	for _, minimum := range []int{8, 15, 64} {
		policy.MinLength = minimum
		if err := policy.Validate(); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("minlength: %d; maxlength: 128; allowed: ascii-printable, unicode;", minimum)
		if got := policy.PasswordRules(); got != want {
			t.Errorf("got %q", got)
		}
		if got := codes(policy.Check(secret.New(strings.Repeat(lock, minimum-1)), password.Context{})); !cmp.Equal(got, []string{"too_short"}) {
			t.Errorf("%d: one less: %v", minimum, got)
		}
		if got := policy.Check(secret.New(strings.Repeat(lock, minimum)), password.Context{}); got != nil {
			t.Errorf("%d: %v", minimum, got)
		}
	}
}

func TestPolicy_neverBelowTheFloor(t *testing.T) {
	blocklist := password.NewBlocklist()
	for _, policy := range []password.Policy{{MinLength: 7, Blocklist: blocklist}, {MinLength: 65, Blocklist: blocklist}, {MinLength: 15}} {
		if policy.Validate() == nil {
			t.Errorf("%+v is valid", policy)
		}
	}
	var unset password.Policy
	if got := codes(unset.Check(secret.New("k7 oboe"), password.Context{})); !cmp.Equal(got, []string{"too_short"}) {
		t.Errorf("unset policy: %v", got)
	}
	if got := unset.Check(secret.New("k7 oboes"), password.Context{}); got != nil {
		t.Errorf("unset policy: %v", got)
	}
}

// FuzzPolicy_Check looks for input that stops the program.
func FuzzPolicy_Check(f *testing.F) {
	policy := policy(f)
	f.Add("kitchen oboe gravel", "alex", "alex@post.example", "Alex Smith")
	f.Add("\xff\u0301", "\xff", "@", "\u0301")
	f.Fuzz(func(t *testing.T, candidate, username, email, name string) {
		about := password.Context{Username: username, Email: email, DisplayName: name}
		for _, violation := range policy.Check(secret.New(candidate), about) {
			if violation.Code == "" || violation.Detail == "" {
				t.Fatalf("%+v", violation)
			}
		}
	})
}

// breachedPasswords stands for a list of breached passwords, and notes what it was asked.
type breachedPasswords struct {
	listed string
	asked  *[]string
}

func (b breachedPasswords) Contains(password secret.Text) bool {
	*b.asked = append(*b.asked, password.Reveal())
	return password.Reveal() == b.listed
}

// PW-15, ASVS 6.2.12: every candidate that has a possible length is looked up, once, in NFC and as typed.
func TestPolicy_Check_breached(t *testing.T) {
	policy := policy(t)
	var asked []string
	policy.Breached = breachedPasswords{listed: "kitchen oböe gravel", asked: &asked}
	for _, test := range []struct {
		candidate string
		want      []string
		asked     []string
	}{
		{"kitchen oböe gravel", []string{"breached"}, []string{"kitchen oböe gravel"}},
		{"kitchen obo\u0308e gravel", []string{"breached"}, []string{"kitchen oböe gravel"}},
		{"Kitchen oböe gravel", nil, []string{"Kitchen oböe gravel"}},
		{"password", []string{"too_short", "blocklisted"}, []string{"password"}},
		{strings.Repeat(lock, 129), []string{"too_long"}, nil},
		{strings.Repeat("a", 1<<20), []string{"too_long"}, nil},
	} {
		asked = nil
		violations := policy.Check(secret.New(test.candidate), password.Context{})
		if diff := cmp.Diff(test.want, codes(violations)); diff != "" {
			t.Errorf("%.40q: %s", test.candidate, diff)
		}
		if diff := cmp.Diff(test.asked, asked); diff != "" {
			t.Errorf("%.40q: asked: %s", test.candidate, diff)
		}
		for _, v := range violations {
			if v.Code == password.CodeBreached && (len(v.Detail) < 20 || strings.Contains(v.Detail, "oböe")) {
				t.Errorf("guidance: %q", v.Detail) // PW-18, PW-19
			}
		}
	}
}
