package breach_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/salesexec/credentials/internal/password/breach"
	"github.com/salesexec/credentials/internal/secret"
)

// passwords makes a list of these passwords, as the downloader of Have I Been Pwned would.
func passwords(all ...string) []byte {
	var list []string
	for _, password := range all {
		list = append(list, fmt.Sprintf("%X:7\r\n", sha1.Sum([]byte(password))))
	}
	slices.Sort(list)
	return []byte(strings.Join(list, ""))
}

// PW-15: the file in testdata was built from these three by the first version; every later one must read it. It would not
// if the library computed anything else.
func TestOpen_readsTheFirstVersion(t *testing.T) {
	filter := open(t, "testdata/version1.filter")
	if err := filter.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	path, _ := build(t, bytes.NewReader(passwords("correct horse battery staple", "Tr0ub4dor&3", "pässwörter überall")), 1)
	if info := filter.Info(); info != open(t, path).Info() {
		t.Errorf("%+v", info)
	}
	for password, want := range map[string]bool{
		"correct horse battery staple": true, "Tr0ub4dor&3": true, "pässwörter überall": true,
		"Correct horse battery staple": false, "correct horse battery stapl": false, "": false, "pa\u0308ssworter uberall": false,
	} {
		if filter.Contains(secret.New(password)) != want {
			t.Errorf("%q: want %t", password, want)
		}
	}
}

// write makes a file of the test's own.
func write(t testing.TB, file []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "damaged.filter")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// PW-15: a file with a single bit changed anywhere is refused: in the header and the index at once, in the content when it is
// checked.
func TestOpen_refusesEveryFlippedBit(t *testing.T) {
	built, _ := build(t, generate(50, 1), 1)
	whole := content(t, built)
	path := write(t, whole)
	for at := range whole {
		for bit := range 8 {
			file := bytes.Clone(whole)
			file[at] ^= 1 << bit
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			told := 0
			filter, err := breach.Open(path, func(error) { told++ })
			if err != nil {
				if at >= 8 && at < 12 { // the version: it may be of another program
					continue
				}
				if !errors.Is(err, breach.ErrDamaged) || !strings.Contains(err.Error(), path) {
					t.Fatalf("byte %d: %v", at, err)
				}
				continue
			}
			if at < breach.HeaderSize || at >= len(whole)-breach.EntrySize {
				t.Fatalf("bit %d of byte %d of the header or the index was changed: no error", bit, at)
			}
			if filter.Sound(t.Context()) != nil || told != 0 {
				t.Fatal("it knew before it was checked")
			}
			first, second := filter.Verify(t.Context()), filter.Verify(t.Context())
			if !errors.Is(first, breach.ErrDamaged) || !errors.Is(second, breach.ErrDamaged) || !errors.Is(filter.Sound(t.Context()), breach.ErrDamaged) || told != 1 {
				t.Fatalf("bit %d of byte %d of the content was changed: %v, %v, told %d times", bit, at, first, second, told)
			}
			_ = filter.Close()
		}
	}
}

// PW-15: neither a part of a filter, nor one with something after it, nor anything else is a filter.
func TestOpen_refusesOtherLengths(t *testing.T) {
	built, _ := build(t, generate(50, 1), 1)
	whole := content(t, built)
	for length := range whole {
		if _, err := breach.Open(write(t, whole[:length]), nil); !errors.Is(err, breach.ErrDamaged) {
			t.Fatalf("%d bytes: %v", length, err)
		}
	}
	for name, file := range map[string][]byte{
		"more": append(bytes.Clone(whole), 0), "twice": slices.Concat(whole, whole), "a list": listOf(1000, 1), "zeros": make([]byte, 4096), "ones": bytes.Repeat([]byte{255}, 4096),
	} {
		if _, err := breach.Open(write(t, file), nil); !errors.Is(err, breach.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := breach.Open(t.TempDir(), nil); !errors.Is(err, breach.ErrDamaged) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := breach.Open(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// PW-15: numbers in the header that cannot be are refused before they are used, even when the checksum is theirs: nothing
// panics, and nothing is allocated that the file is too small for.
func TestOpen_refusesImpossibleNumbers(t *testing.T) {
	built, _ := build(t, generate(50, 1), 1)
	whole := content(t, built)
	index := len(whole) - breach.EntrySize
	for name, change := range map[string]struct {
		at    int
		value uint64
		size  int
	}{
		"other version":       {8, 2, 4},
		"no shards":           {12, 0, 4},
		"too many shards":     {12, 1<<32 - 1, 4},
		"two shards":          {12, 2, 4},
		"more entries":        {16, 51, 8},
		"negative entries":    {16, 1<<64 - 1, 8},
		"no keys":             {index + 16, 0, 4},
		"more keys":           {index + 16, 1<<32 - 1, 4},
		"no segment":          {index + 20, 0, 4},
		"odd segment":         {index + 20, 3, 4},
		"huge segment":        {index + 20, 1 << 31, 4},
		"no segments":         {index + 24, 0, 4},
		"more segments":       {index + 24, 1<<32 - 1, 4},
		"segments that wrap":  {index + 24, 1<<32 - 2, 4},
		"twice the segments":  {index + 24, 2 * uint64(binary.LittleEndian.Uint32(whole[index+24:])), 4},
		"half of the segment": {index + 20, uint64(binary.LittleEndian.Uint32(whole[index+20:]) / 2), 4},
	} {
		t.Run(name, func(t *testing.T) {
			file := bytes.Clone(whole)
			var value [8]byte
			binary.LittleEndian.PutUint64(value[:], change.value)
			copy(file[change.at:], value[:change.size])
			breach.Reseal(file)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			filter, err := breach.Open(write(t, file), nil)
			runtime.ReadMemStats(&after)
			if err == nil {
				_ = filter.Close()
				t.Fatal("it was opened")
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 256<<10 {
				t.Errorf("%d bytes were allocated", spent)
			}
		})
	}
	file := bytes.Clone(whole)
	if breach.Reseal(file); !bytes.Equal(file, whole) {
		t.Error("resealing changes a sound filter: the tests above prove nothing")
	}
}

// PW-15: shards are in order and none but an only one is small, or look-ups would miss.
func TestOpen_refusesImpossibleShards(t *testing.T) {
	built, _ := build(t, generate(breach.MostKeys+1, 1), 1)
	whole := content(t, built)
	index := whole[len(whole)-2*breach.EntrySize:]
	for name, change := range map[string]func(){
		"swapped": func() {
			copy(index, slices.Concat(index[breach.EntrySize:], index[:breach.EntrySize]))
		},
		"small": func() {
			moved := binary.LittleEndian.Uint32(index[16:]) - 99_999
			binary.LittleEndian.PutUint32(index[16:], 99_999)
			binary.LittleEndian.PutUint32(index[breach.EntrySize+16:], binary.LittleEndian.Uint32(index[breach.EntrySize+16:])+moved)
		},
	} {
		before := bytes.Clone(index)
		change()
		breach.Reseal(whole)
		if _, err := breach.Open(write(t, whole), nil); !errors.Is(err, breach.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		copy(index, before)
	}
}

// PW-15: a filter that somebody cuts short while it is in use does not end the process; from then on it is not sound.
func TestFilter_outlivesItsFile(t *testing.T) {
	path, _ := build(t, generate(100_000, 1), 1)
	var told []error
	filter, err := breach.Open(path, func(err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	defer filter.Close()
	key := generate(100_000, 1).next()
	if !filter.HasKey(key) {
		t.Fatal("it is not found")
	}
	if err := os.Truncate(path, breach.HeaderSize); err != nil {
		t.Fatal(err)
	}
	keys := generate(100_000, 1)
	for range 1000 { // those on the first page may still be there
		filter.HasKey(keys.next())
	}
	if err := filter.Sound(t.Context()); !errors.Is(err, breach.ErrDamaged) || len(told) != 1 {
		t.Errorf("%v, told %v", err, told)
	}
	if err := filter.Verify(t.Context()); !errors.Is(err, breach.ErrDamaged) {
		t.Error(err)
	}
}

// PW-15: a filter is replaced under one that is in use without a trace, as Build does it.
func TestFilter_isReplacedWhileInUse(t *testing.T) {
	path, _ := build(t, generate(1000, 1), 1)
	old := open(t, path)
	if _, err := breach.Build(t.Context(), generate(1000, 2), path, breach.BuildConfig{}); err != nil {
		t.Fatal(err)
	}
	if err := old.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	first, second := generate(1000, 1).next(), generate(1000, 2).next()
	if renewed := open(t, path); !old.HasKey(first) || old.HasKey(second) || renewed.HasKey(first) || !renewed.HasKey(second) {
		t.Error("they are not two filters")
	}
}

// A check that is broken off says nothing about the filter.
func TestFilter_Verify_endsWithTheContext(t *testing.T) {
	path, _ := build(t, generate(1000, 1), 1)
	filter := open(t, path)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := filter.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := filter.Sound(t.Context()); err != nil {
		t.Error(err)
	}
}

// Look-ups go on from any number of goroutines while the filter is closed, which waits for them; then it is empty.
func TestFilter_Close(t *testing.T) {
	path, _ := build(t, generate(1000, 1), 1)
	filter := open(t, path)
	var looking sync.WaitGroup
	for range 8 {
		looking.Go(func() {
			keys := generate(1000, 1)
			for range 1000 {
				filter.HasKey(keys.next())
			}
		})
	}
	if err := filter.Close(); err != nil {
		t.Error(err)
	}
	looking.Wait()
	if filter.HasKey(generate(1000, 1).next()) {
		t.Error("a closed filter has entries")
	}
	if err := filter.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzOpen looks for a file that stops the program: as it is, and with a header that is believed.
func FuzzOpen(f *testing.F) {
	for _, size := range []int{1, 2, 50} {
		path, _ := build(f, generate(size, 1), 1)
		f.Add(content(f, path), false)
		f.Add(content(f, path), true)
	}
	f.Add([]byte("SXBREACH"), false)
	f.Add(make([]byte, breach.HeaderSize+breach.EntrySize), true)
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, file []byte, reseal bool) {
		if reseal {
			breach.Reseal(file)
		}
		path := filepath.Join(folder, "fuzzed.filter")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		filter, err := breach.Open(path, nil)
		if err != nil {
			return
		}
		defer filter.Close()
		for key := range uint64(64) {
			filter.HasKey(key << 58)
		}
		if err := filter.Sound(t.Context()); err != nil {
			t.Fatalf("a look-up met a fault: %v", err)
		}
		if err := filter.Verify(t.Context()); err != nil && !errors.Is(err, breach.ErrDamaged) {
			t.Fatal(err)
		}
	})
}
