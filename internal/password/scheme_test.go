package password_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

// foreign are hashes that other programs made, of "kitchen oboe gravel" and of "cafe\u0301 au lait" as it stands there, not in
// NFC. The salt is "0123456789abcdef". argon2 is of argon2-cffi 25.1 (the reference implementation), bcrypt of pyca/bcrypt 5.0,
// and the rest of Python's hashlib:
//
//	tag = hashlib.pbkdf2_hmac("sha256", password, salt, 29000)
//	v2 = base64.b64encode(b"\0" + salt + hashlib.pbkdf2_hmac("sha1", password, salt, 1000, 32))
//	v3 = base64.b64encode(b"\1" + struct.pack(">III", 2, 100000, 16) + salt + hashlib.pbkdf2_hmac("sha512", password, salt, 100000, 32))
var foreign = []struct{ scheme, kitchen, cafe string }{
	{"argon2id", "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$N7Vr874O8YPJ0LX7QOWRwzQorWvBUu5lMiyWAxK75AE",
		"$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$WU6ICPx+zYfHT0l4+6TdWMp7FbgIQom5B8+K6k7Hb3s"},
	{"argon2i", "$argon2i$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$NqIL8d18NDOJFV68tBZauTMTKQ8PpawZEZiY9X6yNXs",
		"$argon2i$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$Ah4Vmx7kH76SdtUMS9TktGWOVBGaJrInOVbtFJ7Dk7A"},
	{"bcrypt", "$2b$10$abcdefghijklmnopqrstuupQ.VAbEmsn4.J6UDCx3jfy84OeUFC8a", "$2b$10$abcdefghijklmnopqrstuucalnfU2m9Hg93mTKjf31DFhdzikGtYq"},
	{"pbkdf2-sha256", "$pbkdf2-sha256$i=29000$MDEyMzQ1Njc4OWFiY2RlZg$yXx2dntOD3P2bL9jbgnq0WW+aEHXlUOMDg+3BvhPt/g",
		"$pbkdf2-sha256$i=29000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$dtG5zAAR5u/WPXlukJgqX3ov3pgcOhliMQBFYxbB4JQ"},
	{"pbkdf2-sha512", "$pbkdf2-sha512$i=25000$MDEyMzQ1Njc4OWFiY2RlZg$oDbVi7GnQn0F4pH4xoM1yGF1AsaeuFI6z+drBm9QL3eTgi/EjCo02fP1pP/AQuw7M6nFXI4ATIjw5JRDOQCkKA",
		"$pbkdf2-sha512$i=25000$MDEyMzQ1Njc4OWFiY2RlZg$5gWE5xMKbdGJvIZK0M+naBuOItiZvN5UMOOvsNNOlw67mvfp9CF295nbxBw/IYXzoCZHv/5DMM2oEJXOIrExkw"},
	{"aspnet-identity-v2", "ADAxMjM0NTY3ODlhYmNkZWYUACEF8kCUbriMESJT/VZPk1vV1UyE4dkmvUx8E9Yhfw==",
		"ADAxMjM0NTY3ODlhYmNkZWZMXGgnNc4iS541gxlcW2KM59pKZA0McyIDEUEkranA+w=="},
	{"aspnet-identity-v3", "AQAAAAAAAAPoAAAAEDAxMjM0NTY3ODlhYmNkZWYUACEF8kCUbriMESJT/VZPk1vV1UyE4dkmvUx8E9Yhfw==", // SHA-1
		"AQAAAAAAAAPoAAAAEDAxMjM0NTY3ODlhYmNkZWZMXGgnNc4iS541gxlcW2KM59pKZA0McyIDEUEkranA+w=="},
	{"aspnet-identity-v3", "AQAAAAEAACcQAAAAEDAxMjM0NTY3ODlhYmNkZWatoANuWtrCtKkm6xxt4demhjuNVh7paHZZZSuet99OZA==", // SHA-256
		"AQAAAAEAACcQAAAAEDAxMjM0NTY3ODlhYmNkZWYaaPMMlUzh4iz/4eN6qRbDMRNi+ZmIYOdu5Wyy5IFPvg=="},
	{"aspnet-identity-v3", "AQAAAAIAAYagAAAAEDAxMjM0NTY3ODlhYmNkZWZ9KftDgY2Szkhtu4Q6asWFvCAAYm+5Vj+MzyGh++kcEw==", // SHA-512
		"AQAAAAIAAYagAAAAEDAxMjM0NTY3ODlhYmNkZWZRLb7lNB8jY4qEiqgkfo2h64uXa2MjX5hN18YUS75LUA=="},
}

// PW-09, HASH-08, HASH-10: hashes of other systems verify in a lane, whether or not that system normalised, and are to be
// replaced.
func TestHasher_Verify_foreign(t *testing.T) {
	computed := 0
	hasher := hasher(t, password.HasherConfig{Params: password.Params{MemoryKiB: 19456, Time: 2, Threads: 1}, Lanes: 1,
		Observe: func(string, time.Duration, time.Duration) { computed++ }})
	for i, hash := range foreign {
		t.Run(fmt.Sprintf("%d %s", i, hash.scheme), func(t *testing.T) {
			before := computed
			right := password.Verdict{Match: true, Outdated: hash.scheme != "argon2id"}
			if got := verify(t, hasher, hash.kitchen, "kitchen oboe gravel"); got != right {
				t.Errorf("the right password: %+v", got)
			}
			if got := verify(t, hasher, hash.cafe, "cafe\u0301 au lait"); got != right {
				t.Errorf("made of the decomposed form: %+v", got)
			}
			wrong := []string{"kitchen oboe grave", "kitchen oboe gravel ", "Kitchen oboe gravel", "kitchen oboe gravel\x00", "", "cafe au lait"}
			for _, other := range wrong {
				if got := verify(t, hasher, hash.kitchen, other); got != (password.Verdict{}) {
					t.Errorf("%q: %+v", other, got)
				}
			}
			if computed-before != 2+len(wrong) {
				t.Errorf("%d verifications went through the lanes", computed-before)
			}
			if got := password.Scheme(hash.kitchen); got != hash.scheme {
				t.Errorf("the scheme is %s", got)
			}
		})
	}
}

func TestScheme(t *testing.T) {
	for stored, want := range map[string]string{
		"": "none", "plain text": "unknown", "$argon2d$v=19$m=12288,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA": "unknown", "AQUA": "unknown",
	} {
		if got := password.Scheme(stored); got != want {
			t.Errorf("%q: %s, not %s", stored, got, want)
		}
	}
	if got := password.Scheme(hash(t, hasher(t, password.HasherConfig{}), "kitchen oboe gravel")); got != "argon2id" {
		t.Errorf("what is made today is %s", got)
	}
}

// What the credential review calls legacy is what a sign-in would replace: hashes of other schemes and weaker ones.
func TestHasher_Describe(t *testing.T) {
	same := hasher(t, password.HasherConfig{Params: password.Params{MemoryKiB: 19456, Time: 2, Threads: 1}})
	stronger := hasher(t, password.HasherConfig{Params: password.Params{MemoryKiB: 19456, Time: 3, Threads: 1}})
	for _, known := range foreign {
		if scheme, legacy := same.Describe(known.kitchen); scheme != known.scheme || legacy != (known.scheme != "argon2id") {
			t.Errorf("%s is described as %s, legacy: %v", known.scheme, scheme, legacy)
		}
		if scheme, legacy := stronger.Describe(known.kitchen); scheme != known.scheme || !legacy {
			t.Errorf("weaker than today: %s is described as %s, legacy: %v", known.scheme, scheme, legacy)
		}
	}
	if scheme, legacy := same.Describe(""); scheme != "none" || legacy {
		t.Errorf("no hash: %s, %v", scheme, legacy)
	}
	if scheme, legacy := same.Describe("plain text"); scheme != "unknown" || !legacy {
		t.Errorf("damage: %s, %v", scheme, legacy)
	}
}

// identity packs what ASP.NET Core Identity version 3 would store.
func identity(function, iterations, saltSize uint32, rest int) string {
	packed := []byte{1}
	for _, n := range []uint32{function, iterations, saltSize} {
		packed = binary.BigEndian.AppendUint32(packed, n)
	}
	return base64.StdEncoding.EncodeToString(append(packed, make([]byte, rest)...))
}

// HASH-06, peers' bug 12: damaged and hostile hashes of other systems are refused before anything is computed, with a reason
// that does not repeat them.
func TestCheckHash_refuses(t *testing.T) {
	const salt, tag = "QUFBQUFBQUFBQUFBQUFBQQ", "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI"
	good := "$pbkdf2-sha256$i=600000$" + salt + "$" + tag
	v2, v3 := base64.StdEncoding.EncodeToString(make([]byte, 49)), identity(1, 10000, 16, 48)
	for _, accepted := range []string{
		good, v2, v3, identity(0, 1_300_000, 16, 48), identity(2, 3_000_000, 64, 128), identity(1, 1000, 8, 24),
		strings.Replace(good, "600000", "1000,l=32", 1), strings.Replace(good, "600000", "3000000", 1),
	} {
		if err := password.CheckHash(accepted); err != nil {
			t.Errorf("%s: %v", accepted, err)
		}
	}
	long := strings.Repeat("A", 86) + "A"
	for name, stored := range map[string]string{
		"nothing":                    "",
		"plain text":                 "password",
		"another scheme":             "$scrypt$ln=16,r=8,p=1$" + salt + "$" + tag,
		"bcrypt of cost 31":          "$2b$31$abcdefghijklmnopqrstuupQ.VAbEmsn4.J6UDCx3jfy84OeUFC8a",
		"bcrypt of cost 9":           "$2b$09$abcdefghijklmnopqrstuupQ.VAbEmsn4.J6UDCx3jfy84OeUFC8a",
		"argon2i of 4 GiB":           "$argon2i$v=19$m=4294967295,t=3,p=1$" + salt + "$" + tag,
		"argon2i without passes":     "$argon2i$v=19$m=12288,t=0,p=1$" + salt + "$" + tag,
		"argon2i without threads":    "$argon2i$v=19$m=12288,t=3,p=0$" + salt + "$" + tag,
		"argon2i of version 16":      "$argon2i$v=16$m=12288,t=3,p=1$" + salt + "$" + tag,
		"PBKDF2 of SHA-1":            strings.Replace(good, "sha256", "sha1", 1),
		"PBKDF2 as passlib writes":   strings.Replace(good, "i=600000", "600000", 1),
		"PBKDF2 of no iterations":    strings.Replace(good, "600000", "0", 1),
		"PBKDF2 of 999 iterations":   strings.Replace(good, "600000", "999", 1),
		"PBKDF2 of 3,000,001":        strings.Replace(good, "600000", "3000001", 1),
		"PBKDF2 of 2^32 + 1000":      strings.Replace(good, "600000", "4294968296", 1),
		"PBKDF2 of 2^64 + 1000":      strings.Replace(good, "600000", "18446744073709552616", 1),
		"PBKDF2, many, two digests":  strings.Replace(good, "600000$"+salt+"$"+tag, "1500001$"+salt+"$"+long[:86], 1),
		"PBKDF2, signed":             strings.Replace(good, "600000", "+600000", 1),
		"PBKDF2, leading zero":       strings.Replace(good, "600000", "0600000", 1),
		"PBKDF2, another length":     strings.Replace(good, "600000", "600000,l=31", 1),
		"PBKDF2, order":              strings.Replace(good, "i=600000", "l=32,i=600000", 1),
		"PBKDF2, short salt":         strings.Replace(good, salt, "QUFBQUFBQQ", 1),
		"PBKDF2, long salt":          strings.Replace(good, salt, long, 1),
		"PBKDF2, short tag":          strings.Replace(good, tag, "QkJCQkJCQkJCQkJCQkJC", 1),
		"PBKDF2, long tag":           strings.Replace(good, tag, long, 1),
		"PBKDF2, padded":             good + "=",
		"PBKDF2, trailing bits":      good[:len(good)-1] + "J",
		"PBKDF2, line break":         good + "\n",
		"PBKDF2, huge":               good + strings.Repeat("A", 1<<20),
		"Identity, one byte":         "AA==",
		"Identity 2, cut off":        base64.StdEncoding.EncodeToString(make([]byte, 48)),
		"Identity 2, longer":         base64.StdEncoding.EncodeToString(make([]byte, 50)),
		"Identity 2, unpadded":       strings.TrimRight(v2, "="),
		"Identity 2, line break":     v2[:20] + "\n" + v2[20:],
		"Identity of version 2":      base64.StdEncoding.EncodeToString(append([]byte{2}, make([]byte, 60)...)),
		"Identity 3, header only":    identity(1, 10000, 16, 0),
		"Identity 3, function 3":     identity(3, 10000, 16, 48),
		"Identity 3, function 2^32":  identity(1<<32-1, 10000, 16, 48),
		"Identity 3, no iterations":  identity(1, 0, 16, 48),
		"Identity 3, 999":            identity(1, 999, 16, 48),
		"Identity 3, 2^32-1":         identity(1, 1<<32-1, 16, 48),
		"Identity 3, many of SHA-1":  identity(0, 1_500_001, 16, 48),
		"Identity 3, no salt":        identity(1, 10000, 0, 48),
		"Identity 3, salt beyond it": identity(1, 10000, 49, 48),
		"Identity 3, salt 2^32-1":    identity(1, 10000, 1<<32-1, 48),
		"Identity 3, long salt":      identity(1, 10000, 65, 100),
		"Identity 3, no tag":         identity(1, 10000, 48, 48),
		"Identity 3, short tag":      identity(1, 10000, 16, 31),
		"Identity 3, long tag":       identity(1, 10000, 16, 81),
		"Identity 3, huge":           identity(1, 10000, 16, 1<<20),
	} {
		err := password.CheckHash(stored)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for at := 24; at < min(len(stored), 300); at += 12 {
			if strings.Contains(err.Error(), stored[at-12:at]) {
				t.Errorf("%s: the reason repeats the hash: %v", name, err)
			}
		}
	}
}

// HASH-06: whatever is stored, what is accepted is named, is verified within bounds, and everything else is ErrUnusableHash.
func FuzzCheckHash(f *testing.F) {
	for _, hash := range foreign {
		f.Add(hash.kitchen)
		f.Add(hash.cafe)
	}
	f.Add("AQAAAAH/////AAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$pbkdf2-sha512$i=4294968296,l=99$AAAA$AAAA")
	h, err := password.NewHasher(password.HasherConfig{Params: small})
	if err != nil {
		f.Fatal(err)
	}
	h.SetKDF(instant)
	f.Fuzz(func(t *testing.T, stored string) {
		refused := password.CheckHash(stored)
		if known := password.Scheme(stored) != "unknown" && stored != ""; known != (refused == nil) {
			t.Errorf("the scheme of %q is %s, the check says %v", stored, password.Scheme(stored), refused)
		}
		if refused == nil {
			if !strings.HasPrefix(stored, "$") && len(stored) > 188 {
				t.Errorf("%d bytes of base64", len(stored))
			}
			return // some take seconds to compute
		}
		_, err := h.Verify(context.Background(), password.People, stored, secret.New("any"))
		if !errors.Is(err, password.ErrUnusableHash) {
			t.Errorf("%q: %v", stored, err)
		}
	})
}
