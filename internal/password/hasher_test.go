package password_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

// small is the cheapest approved set.
var small = password.Params{MemoryKiB: 12288, Time: 3, Threads: 1}

func hasher(t testing.TB, config password.HasherConfig) *password.Hasher {
	t.Helper()
	if config.Params == (password.Params{}) {
		config.Params = small
	}
	hasher, err := password.NewHasher(config)
	if err != nil {
		t.Fatal(err)
	}
	return hasher
}

func hash(t testing.TB, hasher *password.Hasher, text string) string {
	t.Helper()
	stored, err := hasher.Hash(context.Background(), password.People, secret.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func verify(t testing.TB, hasher *password.Hasher, stored, text string) password.Verdict {
	t.Helper()
	verdict, err := hasher.Verify(context.Background(), password.People, stored, secret.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

// instant stands for argon2id where the test is not about it.
func instant(_, _ []byte, _ password.Params, size int) []byte { return make([]byte, size) }

var phcForm = regexp.MustCompile(`^\$argon2id\$v=19\$m=12288,t=3,p=1\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})$`)

// HASH-01, HASH-04, HASH-05, HASH-10: a hash is argon2id of nothing but the password, as any PHC library computes it.
func TestHasher_Hash_isPlainArgon2id(t *testing.T) {
	stored := hash(t, hasher(t, password.HasherConfig{}), "kitchen oboe gravel")
	parts := phcForm.FindStringSubmatch(stored)
	if parts == nil {
		t.Fatal(stored)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[1])
	if err != nil || len(salt) != 16 {
		t.Fatal(len(salt), err)
	}
	tag := argon2.IDKey([]byte("kitchen oboe gravel"), salt, 3, 12288, 1, 32)
	if got := base64.RawStdEncoding.EncodeToString(tag); got != parts[2] {
		t.Fatalf("got %s, the library computes %s", parts[2], got)
	}
}

// HASH-03: the default parameters are used when none are given.
func TestNewHasher_defaults(t *testing.T) {
	hasher, err := password.NewHasher(password.HasherConfig{})
	if err != nil {
		t.Fatal(err)
	}
	hasher.SetKDF(instant)
	if stored := hash(t, hasher, "kitchen oboe gravel"); !strings.HasPrefix(stored, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Error(stored)
	}
	if hasher.Lanes() != runtime.GOMAXPROCS(0) {
		t.Errorf("%d lanes", hasher.Lanes())
	}
}

// HASH-02: what is not approved is not started with.
func TestNewHasher_refuses(t *testing.T) {
	for _, config := range []password.HasherConfig{
		{Params: password.Params{MemoryKiB: 9216, Time: 4, Threads: 1}}, {Params: password.Params{MemoryKiB: 64 << 10}},
		{Lanes: -1}, {Queue: -1}, {QueueTimeout: -1},
	} {
		if _, err := password.NewHasher(config); err == nil {
			t.Errorf("%+v was accepted", config)
		}
	}
}

// HASH-04: every hash has a salt of its own, and none is made without one.
func TestHasher_Hash_salts(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	hasher.SetKDF(instant)
	salts := map[string]bool{}
	for range 1000 {
		salts[phcForm.FindStringSubmatch(hash(t, hasher, "kitchen oboe gravel"))[1]] = true
	}
	if len(salts) != 1000 {
		t.Fatalf("%d salts", len(salts))
	}
	hasher.SetRandom(iotest.ErrReader(io.ErrClosedPipe))
	stored, err := hasher.Hash(context.Background(), password.People, secret.New("kitchen oboe gravel"))
	if stored != "" || !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("%q, %v", stored, err)
	}
}

// PW-08: the whole password is verified, as it was given.
func TestHasher_Verify_whole(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	chosen := strings.Repeat("Kitchen Oboe ", 10)[:100]
	stored := hash(t, hasher, chosen)
	if got := verify(t, hasher, stored, chosen); got != (password.Verdict{Match: true}) {
		t.Fatalf("%+v", got)
	}
	for _, other := range []string{chosen[:72], chosen[:99], chosen + "x", " " + chosen, chosen + " ", strings.ToLower(chosen), ""} {
		if verify(t, hasher, stored, other).Match {
			t.Errorf("%q matches", other)
		}
	}
}

// PW-02, PW-03, PW-04, PW-12: whatever can be set verifies, and hashes made with control characters still do.
func TestHasher_Verify_anyCharacters(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	for _, chosen := range []string{
		strings.Repeat(lock, 15), strings.Repeat("正", 128), "  kitchen   oboe  ", "סוס נכון סוללה מהדק", " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "with\ttab and \x00",
	} {
		if !verify(t, hasher, hash(t, hasher, chosen), chosen).Match {
			t.Errorf("%q does not verify", chosen)
		}
	}
}

// PW-10: NFC, and not NFKC.
func TestHasher_Verify_normalizes(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	composed, decomposed := hash(t, hasher, "caf\u00e9 \ufb01ne"), hash(t, hasher, "cafe\u0301 \ufb01ne")
	for _, stored := range []string{composed, decomposed} {
		if !verify(t, hasher, stored, "caf\u00e9 \ufb01ne").Match || !verify(t, hasher, stored, "cafe\u0301 \ufb01ne").Match {
			t.Error("the two ways to write é differ")
		}
	}
	if verify(t, hasher, composed, "caf\u00e9 fine").Match {
		t.Error("a ligature is taken for its letters")
	}
}

func bcryptOf(t *testing.T, text string) string {
	t.Helper()
	stored, err := bcrypt.GenerateFromPassword([]byte(text), 10)
	if err != nil {
		t.Fatal(err)
	}
	return string(stored)
}

// PW-09, HASH-08, peers' bug 11: bcrypt hashes verify and are to be upgraded; what bcrypt would cut off is refused.
func TestHasher_Verify_bcrypt(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	a := func(n int) string { return strings.Repeat("a", n) }
	full, short, multi := bcryptOf(t, a(72)), bcryptOf(t, "abc"), bcryptOf(t, strings.Repeat("é", 36))
	for _, test := range []struct {
		name, stored, candidate string
		want                    bool
	}{
		{"72 bytes", full, a(72), true},
		{"71 bytes", full, a(71), false},
		{"73 bytes", full, a(73), false},
		{"8 KiB", full, a(8 << 10), false},
		{"over 8 KiB", full, a(8<<10 + 1), false},
		{"72 bytes of two each", multi, strings.Repeat("é", 36), true},
		{"74 bytes of two each", multi, strings.Repeat("é", 37), false},
		{"72 bytes when composed", multi, strings.Repeat("e\u0301", 36), true},
		{"plain", short, "abc", true},
		{"NUL and the password again", short, "abc\x00abc", false},
		{"NUL at the end", short, "abc\x00", false},
		{"empty", short, "", false},
		{"2y", "$2y" + short[3:], "abc", true},
		{"2b", "$2b" + short[3:], "abc", true},
		{"hash of nothing", bcryptOf(t, ""), a(73), false},
		{"made of the decomposed form", bcryptOf(t, "cafe\u0301"), "cafe\u0301", true},
		{"made of the composed form", bcryptOf(t, "caf\u00e9"), "cafe\u0301", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := password.Verdict{Match: test.want, Outdated: test.want}
			if got := verify(t, hasher, test.stored, test.candidate); got != want {
				t.Fatalf("got %+v", got)
			}
		})
	}
}

// HASH-09: a match tells when the hash is below what is made today.
func TestHasher_Verify_outdated(t *testing.T) {
	today := password.Params{MemoryKiB: 19456, Time: 3, Threads: 2}
	stored := func(params password.Params, salt, tag int) string {
		encode := func(size int) string { return base64.RawStdEncoding.EncodeToString(make([]byte, size)) }
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", params.MemoryKiB, params.Time, params.Threads, encode(salt), encode(tag))
	}
	hasher := hasher(t, password.HasherConfig{Params: today})
	hasher.SetKDF(instant)
	for stored, want := range map[string]bool{
		stored(today, 16, 32): false,
		stored(password.Params{MemoryKiB: 65536, Time: 4, Threads: 4}, 32, 64): false,
		stored(password.Params{MemoryKiB: 19455, Time: 3, Threads: 2}, 16, 32): true,
		stored(password.Params{MemoryKiB: 65536, Time: 2, Threads: 2}, 16, 32): true,
		stored(password.Params{MemoryKiB: 65536, Time: 3, Threads: 1}, 16, 32): true,
		stored(today, 8, 32):  true,
		stored(today, 16, 16): true,
	} {
		if got := verify(t, hasher, stored, "any"); got != (password.Verdict{Match: true, Outdated: want}) {
			t.Errorf("%s: %+v", stored, got)
		}
	}
}

// HASH-06, peers' bug 12: a hash that cannot be used is no match, costs as much as one that can, and stops nothing.
func TestHasher_Verify_unusableHash(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	var spent atomic.Int32
	hasher.SetKDF(func(_, _ []byte, params password.Params, size int) []byte {
		if params == small {
			spent.Add(1)
		}
		return make([]byte, size)
	})
	rows := []string{"", "canary", "$2b$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234", "$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$canary",
		"$argon2id$v=19$m=12288,t=0,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$pbkdf2-sha512$i=999999999$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "AQAAAAH/////AAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
	for i, stored := range rows {
		verdict, err := hasher.Verify(context.Background(), password.People, stored, secret.New("canary"))
		if verdict != (password.Verdict{}) || !errors.Is(err, password.ErrUnusableHash) {
			t.Errorf("%q: %+v, %v", stored, verdict, err)
		}
		if strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("the error holds a secret: %v", err)
		}
		if got := int(spent.Load()); got != i+1 {
			t.Errorf("%q: computed %d hashes, not %d", stored, got, i+1)
		}
	}
}

// Peers' bug 12: what is too long for anybody's password is not read, at the usual cost.
func TestHasher_boundsInput(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	var longest atomic.Int64
	var spent atomic.Int32
	hasher.SetKDF(func(input, _ []byte, _ password.Params, size int) []byte {
		longest.Store(max(longest.Load(), int64(len(input))))
		spent.Add(1)
		return make([]byte, size)
	})
	stored := hash(t, hasher, "kitchen oboe gravel")
	hostile := strings.Repeat("a", 1<<20)
	if verify(t, hasher, stored, hostile).Match {
		t.Error("1 MiB matches")
	}
	if err := hasher.VerifyNothing(context.Background(), password.People, secret.New(hostile)); err != nil {
		t.Error(err)
	}
	if _, err := hasher.Hash(context.Background(), password.People, secret.New(hostile)); !errors.Is(err, password.ErrTooLong) {
		t.Error(err)
	}
	if spent.Load() != 3 || longest.Load() > 100 {
		t.Errorf("%d hashes, the longest of %d bytes", spent.Load(), longest.Load())
	}
}

// HASH-07: tags are compared in constant time, and to the last byte.
func TestHasher_Verify_comparesInConstantTime(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	constant := false
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		constant = constant || strings.Contains(string(text), "subtle.ConstantTimeCompare(tag, h.tag)")
		if regexp.MustCompile(`bytes\.(Equal|Compare)|reflect\.DeepEqual|slices\.Equal`).Match(text) {
			t.Errorf("%s compares in a time that depends on what it compares", file)
		}
	}
	if !constant {
		t.Error("tags are not compared in constant time")
	}
	hasher := hasher(t, password.HasherConfig{})
	for _, wrong := range []int{0, 15, 31} {
		hasher.SetKDF(instant)
		stored := hash(t, hasher, "any")
		hasher.SetKDF(func(_, _ []byte, _ password.Params, size int) []byte {
			tag := make([]byte, size)
			tag[wrong] = 1
			return tag
		})
		if verify(t, hasher, stored, "any").Match {
			t.Errorf("byte %d is not compared", wrong)
		}
	}
}

// HASH-16, PW-19: no error holds the password.
func TestHasher_errorsHoldNoSecret(t *testing.T) {
	hasher := hasher(t, password.HasherConfig{})
	hasher.SetKDF(instant)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	canary := secret.New("canary-zx81")
	_, hashing := hasher.Hash(gone, password.People, canary)
	_, verifying := hasher.Verify(gone, password.People, "canary-zx81", canary)
	_, tooLong := hasher.Hash(context.Background(), password.People, secret.New(strings.Repeat("canary", 10000)))
	for _, err := range []error{hashing, verifying, tooLong, hasher.VerifyNothing(gone, password.People, canary)} {
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "canary") {
			t.Errorf("%v", err)
		}
	}
}

// Peers' bug 15: who has a weaker hash, a bcrypt one, a damaged one or none at all is not told apart by a quicker
// answer, from the very first request on.
func TestHasher_answersAlike(t *testing.T) {
	const weaker = "$argon2id$v=19$m=4096,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	legacy := bcryptOf(t, "kitchen oboe gravel")
	const usual, cheap = 200 * time.Millisecond, 10 * time.Millisecond
	for name, test := range map[string]struct {
		stored string
		cold   time.Duration // of the first verification ever, which cannot be shorter than the usual
	}{
		"weaker": {weaker, usual + cheap}, "argon2i": {strings.Replace(weaker, "argon2id", "argon2i", 1), usual + cheap},
		"bcrypt": {legacy, usual}, "PBKDF2": {"$pbkdf2-sha256$i=1000$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", usual}, "damaged": {"damaged", usual}, "none": {"", usual},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hasher := hasher(t, password.HasherConfig{Lanes: 1})
				hasher.SetKDF(func(_, _ []byte, params password.Params, size int) []byte {
					took := usual
					if params != small {
						took = cheap
					}
					<-time.After(took)
					return make([]byte, size)
				})
				for i, want := range []time.Duration{test.cold, usual, usual} {
					started := time.Now()
					_, err := hasher.Verify(context.Background(), password.People, test.stored, secret.New("wrong"))
					if err != nil && !errors.Is(err, password.ErrUnusableHash) {
						t.Fatal(err)
					}
					if took := time.Since(started); took != want {
						t.Errorf("verification %d took %s, not %s", i, took, want)
					}
					synctest.Wait()
				}
			})
		})
	}
}

// Who hangs up while the answer is held back does not wait for it.
func TestHasher_holdsBackNoLongerThanAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher := hasher(t, password.HasherConfig{Lanes: 1})
		hasher.SetKDF(func(_, _ []byte, params password.Params, size int) []byte {
			<-time.After(time.Duration(params.MemoryKiB) * time.Millisecond)
			return make([]byte, size)
		})
		if err := hasher.VerifyNothing(context.Background(), password.People, secret.New("measured")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		const weaker = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		verdict, err := hasher.Verify(ctx, password.People, weaker, secret.New("right"))
		if verdict != (password.Verdict{}) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v, %v", verdict, err)
		}
		synctest.Wait()
	})
}

// What is observed: the operation, the wait for the lane, and the time in it.
func TestHasher_Observe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var observed []string
		hasher := hasher(t, password.HasherConfig{Lanes: 1, Observe: func(operation string, waited, took time.Duration) {
			observed = append(observed, fmt.Sprintf("%s %s %s", operation, waited, took))
		}})
		hasher.SetKDF(func(_, _ []byte, _ password.Params, size int) []byte {
			<-time.After(time.Second)
			return make([]byte, size)
		})
		var all sync.WaitGroup
		all.Go(func() { hash(t, hasher, "kitchen oboe gravel") })
		synctest.Wait()
		all.Go(func() { _ = hasher.VerifyNothing(context.Background(), password.People, secret.New("any")) })
		all.Wait()
		synctest.Wait()
		if got := strings.Join(observed, ", "); got != "hash 0s 1s, verify 1s 1s" {
			t.Errorf("observed %s", got)
		}
	})
}

// HASH-12, peers' bug 12: memory stays within the lanes and 64 MiB, even where the collector would never run by itself.
func TestHasher_boundsMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	var mu sync.Mutex
	var peak uint64
	const lanes, requests = 2, 30
	hasher := hasher(t, password.HasherConfig{Lanes: lanes, Queue: requests, QueueTimeout: time.Hour, Observe: func(string, time.Duration, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		peak = max(peak, heap())
	}})
	var all sync.WaitGroup
	for range requests {
		all.Go(func() { hash(t, hasher, "kitchen oboe gravel") })
	}
	all.Wait()
	if limit := before + lanes*12<<20 + 64<<20; peak > limit {
		t.Fatalf("%d MiB, the limit is %d", peak>>20, limit>>20)
	}
}

// BenchmarkHasher measures the default parameters (HASH-03: below 500 ms).
func BenchmarkHasher(b *testing.B) {
	hasher := hasher(b, password.HasherConfig{Params: password.DefaultParams()})
	stored := hash(b, hasher, "kitchen oboe gravel")
	b.Run("Hash", func(b *testing.B) {
		for b.Loop() {
			hash(b, hasher, "kitchen oboe gravel")
		}
	})
	b.Run("Verify", func(b *testing.B) {
		for b.Loop() {
			verify(b, hasher, stored, "kitchen oboe gravel")
		}
	})
}
