package identifier_test

import (
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/identifier"
)

// USR-01, USR-09, USR-11: whatever case and width a name is typed in, it is the same name.
func TestKey_sameForVariants(t *testing.T) {
	for key, variants := range map[string][]string{
		"alice":            {"alice", "Alice", "ALICE", "aLiCe", "ＡＬＩＣＥ", "ａlice"},
		"ren\u00e9":        {"ren\u00e9", "rene\u0301", "RENE\u0301", "REN\u00c9"},
		"иван":             {"иван", "ИВАН", "Иван"},
		"alex@example.com": {"alex@example.com", "ALEX@EXAMPLE.COM", "Alex@Example.Com"},
	} {
		for _, typed := range variants {
			if got := identifier.Key(typed); got != key {
				t.Errorf("Key(%+q) is %+q, want %+q", typed, got, key)
			}
		}
	}
}

// USR-05, USR-09: names that differ, however alike they look, never share a key (a published kind of account takeover).
func TestKey_differsForOthers(t *testing.T) {
	for _, pair := range [][2]string{
		{"alice", "\u0430lice"},
		{"scott", "sc\u043ett"},
		{"admin", "admi\u0307n"},
		{"admin", "adm\u0131n"},
		{"copy", "\u0441\u043e\u0440\u0443"}, // wholly Cyrillic: a name, but another one
		{"alice", "al\u200bice"},
		{"alice", "alice "},
		{"alice", "alice\x00"},
		{"a.lex@gmail.com", "alex@gmail.com"},
		{"alex+a@gmail.com", "alex@gmail.com"},
		{"i@example.com", "\u0130@example.com"},
		{"i@example.com", "\u0131@example.com"},
		{"alex@example.com", "alex@exam\u200bple.com"},
		{"alex@example.com", "\u0430lex@example.com"},
		{"alex@example.com", "alex＠example.com"},
		{"alex@example.com", "alex@example.com\x00"},
	} {
		if identifier.Key(pair[0]) == identifier.Key(pair[1]) {
			t.Errorf("%+q and %+q are one", pair[0], pair[1])
		}
	}
}

// USR-10: what is neither a username nor an address gets a key that is nobody's, always the same one, however long it is.
func TestKey_ofNoIdentifier(t *testing.T) {
	seen := map[string]string{}
	for _, typed := range []string{"", "a", "@", "a@b", "alice smith", "\xff", "\x00", "?", strings.Repeat("a", 1<<20), strings.Repeat("@", 1<<20)} {
		key := identifier.Key(typed)
		if !strings.HasPrefix(key, "?") || len(key) != 65 || identifier.Key(typed) != key {
			t.Errorf("Key(%.20q) is %q", typed, key)
		}
		if other, taken := seen[key]; taken {
			t.Errorf("%.20q and %.20q are one", typed, other)
		}
		seen[key] = typed
		if identifier.Key(key) == key {
			t.Errorf("whoever types %q is taken for who typed %.20q", key, typed)
		}
	}
}

// USR-02, USR-10: every text has a key, and those of the three kinds stay apart.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{"", "Alice", "Alex@Example.com", "a@b", "\xff", "?00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		_, noName := identifier.ParseUsername(typed)
		_, noEmail := identifier.ParseEmail(typed)
		if noName == nil && noEmail == nil {
			t.Fatalf("%+q is both a username and an address", typed)
		}
		key := identifier.Key(typed)
		if strings.HasPrefix(key, "?") && !identifier.LooksLikeEmail(key) != (noName != nil && noEmail != nil) {
			t.Fatalf("%+q has the key %+q", typed, key)
		}
		if noName == nil && identifier.LooksLikeEmail(key) || noEmail == nil && !identifier.LooksLikeEmail(key) {
			t.Fatalf("%+q has the key %+q", typed, key)
		}
	})
}

// USR-07: reserved names are refused in whatever case they are typed, yet they parse: an import may hold one.
func TestReserved(t *testing.T) {
	for _, typed := range []string{"admin", "Administrator", "ROOT", "Support", "ｓystem", "API", "me", "salesexec", "null"} {
		name, err := identifier.ParseUsername(typed)
		if err != nil {
			t.Fatalf("%s: %v", typed, err)
		}
		if !identifier.Reserved(name.Key) {
			t.Errorf("%s is not reserved", typed)
		}
	}
	for _, typed := range []string{"alice", "admin2", "rooted", "admin@example.com"} {
		if identifier.Reserved(identifier.Key(typed)) {
			t.Errorf("%s is reserved", typed)
		}
	}
}

func TestLooksLikeEmail(t *testing.T) {
	if !identifier.LooksLikeEmail("@") || identifier.LooksLikeEmail("alice") {
		t.Error("USR-08: an address has an '@', a username has none")
	}
}
