package password

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/secret"
)

// HASH-10: the known answer of the reference implementation, so that any PHC library verifies our hashes and we theirs.
func TestPHC_knownAnswer(t *testing.T) {
	const known = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	hash, err := parsePHC(known)
	if err != nil {
		t.Fatal(err)
	}
	if !hash.matches(argon2Tag, secret.New("password")) || hash.matches(argon2Tag, secret.New("passwore")) {
		t.Fatal("the reference's hash is not verified")
	}
}

// HASH-06, peers' bug 12: what a damaged or hostile row asks for is refused before it is computed.
func TestParsePHC_refuses(t *testing.T) {
	const salt, tag = "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	good := "$argon2id$v=19$m=12288,t=3,p=1$" + salt + "$" + tag
	if _, err := parsePHC(good); err != nil {
		t.Fatal(err)
	}
	for name, stored := range map[string]string{
		"empty":              "",
		"plain text":         "password",
		"another algorithm":  strings.Replace(good, "argon2id", "argon2d", 1),
		"another version":    strings.Replace(good, "v=19", "v=16", 1),
		"no version":         strings.Replace(good, "v=19$", "", 1),
		"no passes":          strings.Replace(good, "t=3", "t=0", 1),
		"too many passes":    strings.Replace(good, "t=3", "t=17", 1),
		"no threads":         strings.Replace(good, "p=1", "p=0", 1),
		"too many threads":   strings.Replace(good, "p=1", "p=17", 1),
		"threads overflow":   strings.Replace(good, "p=1", "p=257", 1),
		"4 GiB":              strings.Replace(good, "m=12288", "m=4294967295", 1),
		"16 times 1 GiB":     strings.NewReplacer("m=12288", "m=1048576", "t=3", "t=16").Replace(good),
		"over 1 GiB":         strings.Replace(good, "m=12288", "m=1048577", 1),
		"memory overflow":    strings.Replace(good, "m=12288", "m=4294979584", 1),
		"too little memory":  strings.Replace(good, "m=12288,t=3,p=1", "m=31,t=3,p=4", 1),
		"leading zero":       strings.Replace(good, "t=3", "t=03", 1),
		"signed":             strings.Replace(good, "t=3", "t=+3", 1),
		"another order":      strings.Replace(good, "m=12288,t=3", "t=3,m=12288", 1),
		"bad base64":         strings.Replace(good, salt, salt[1:], 1),
		"trailing bits":      strings.Replace(good, salt, salt[1:]+"B", 1),
		"padded":             good + "=",
		"short salt":         strings.Replace(good, salt, "AAAAAAAAAA", 1),
		"long salt":          strings.Replace(good, salt, strings.Repeat("A", 87), 1),
		"short tag":          strings.Replace(good, tag, "AAAAAAAAAAAAAAAAAAAA", 1),
		"long tag":           strings.Replace(good, tag, strings.Repeat("A", 87), 1),
		"no tag":             strings.TrimSuffix(good, "$"+tag),
		"something after it": good + "\n",
		"huge":               good + strings.Repeat("A", 1<<20),
	} {
		hash, err := parsePHC(stored)
		if err == nil {
			t.Errorf("%s: accepted as %+v", name, hash)
		} else if len(stored) > 20 && strings.Contains(err.Error(), tag[:20]) {
			t.Errorf("%s: the error holds the hash: %v", name, err)
		}
	}
}

// FuzzParsePHC shows that nothing stored stops the program, that all that is accepted is bounded, and that every hash
// has one string only (HASH-06).
func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=4294967295,t=0,p=256$$")
	f.Add("$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234")
	f.Fuzz(func(t *testing.T, stored string) {
		if _, err := parseBcrypt(stored); err == nil && len(stored) != 60 {
			t.Fatalf("bcrypt hash of %d bytes", len(stored))
		}
		hash, err := parsePHC(stored)
		if err != nil {
			return
		}
		if hash.String() != stored {
			t.Fatalf("%q is also written %q", stored, hash)
		}
		p := hash.params
		if p.MemoryKiB < 8 || p.MemoryKiB > 1<<20 || p.Time < 1 || p.Time > 16 || p.Threads < 1 || p.Threads > 16 || p.MemoryKiB*p.Time > 1<<20 ||
			len(hash.salt) < 8 || len(hash.salt) > 64 || len(hash.tag) < 16 || len(hash.tag) > 64 {
			t.Fatalf("unbounded: %+v", hash)
		}
	})
}

// HASH-08: costs below 10 are not approved, those above 14 would hold a lane for seconds.
func TestParseBcrypt(t *testing.T) {
	const rest = "$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"
	got := map[string]bool{}
	for _, start := range []string{"$2a$10", "$2b$12", "$2y$14", "$2x$10", "$2$10", "$2b$09", "$2b$15", "$2b$31", "$2b$1", "$2b$99"} {
		_, err := parseBcrypt(start + rest)
		got[start] = err == nil
	}
	want := map[string]bool{"$2a$10": true, "$2b$12": true, "$2y$14": true, "$2x$10": false, "$2$10": false,
		"$2b$09": false, "$2b$15": false, "$2b$31": false, "$2b$1": false, "$2b$99": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// HASH-02: the floor is at or above one of the approved sets; more memory does not make up for too few passes.
func TestParams_Validate(t *testing.T) {
	for params, valid := range map[Params]bool{
		{47104, 1, 1}: true, {19456, 2, 1}: true, {12288, 3, 1}: true, {65536, 3, 4}: true, {1 << 20, 1, 16}: true, {1 << 16, 16, 16}: true,
		{47103, 1, 1}: false, {19455, 2, 1}: false, {12287, 3, 1}: false, {9216, 4, 1}: false, {7168, 5, 1}: false,
		{1 << 20, 2, 1}: false, {1 << 20, 16, 16}: false, {1<<16 + 1, 16, 1}: false,
		{1<<20 + 1, 3, 1}: false, {65536, 17, 1}: false, {65536, 3, 17}: false, {65536, 0, 1}: false, {65536, 3, 0}: false, {}: false,
	} {
		t.Run(fmt.Sprintf("HASH-02 %+v", params), func(t *testing.T) {
			if err := params.Validate(); (err == nil) != valid {
				t.Fatal(err)
			}
		})
	}
}

// HASH-03: the default is RFC 9106's second recommended option.
func TestDefaultParams(t *testing.T) {
	if diff := cmp.Diff(Params{MemoryKiB: 65536, Time: 3, Threads: 4}, DefaultParams()); diff != "" {
		t.Fatal(diff)
	}
	if err := DefaultParams().Validate(); err != nil {
		t.Fatal(err)
	}
}
