package breach_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/password/breach"
)

var january = time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)

// build makes a filter in a folder of the test's own and returns its path.
func build(t testing.TB, from io.Reader, minCount int64) (path string, built breach.Built) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "list.filter")
	built, err := breach.Build(t.Context(), from, path, breach.BuildConfig{MinCount: minCount, SourceDate: january})
	if err != nil {
		t.Fatal(err)
	}
	return path, built
}

func open(t testing.TB, path string) *breach.Filter {
	t.Helper()
	filter, err := breach.Open(path, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filter.Close() })
	return filter
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// PW-15, ASVS 6.2.12: whatever the size of the list, every entry is found, other passwords are taken for one at most once in
// 50,000, no shard but an only one has fewer than 100,000 keys, and from a million entries up an entry takes 2.4 bytes at most.
func TestBuild_findsEveryEntry(t *testing.T) {
	sizes := []int{1000, 99_999, 1_000_000, breach.MostKeys + 1}
	for size := 1; size < 40; size++ {
		sizes = append(sizes, size)
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path, built := build(t, generate(size, 1), 1)
			filter := open(t, path)
			if err := filter.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
			if built.Info != filter.Info() || built.Entries != int64(size) || built.Lines != int64(size) || built.Missing != 0 {
				t.Fatalf("built %+v, opened %+v", built, filter.Info())
			}
			keys := generate(size, 1)
			for range size {
				if key := keys.next(); !filter.HasKey(key) {
					t.Fatalf("%x is not found", key)
				}
			}
			checkShards(t, path, built)
			if size == 1000 || size > breach.MostKeys { // the rate does not depend on the size
				checkFalsePositives(t, filter)
			}
		})
	}
}

func checkShards(t *testing.T, path string, built breach.Built) {
	t.Helper()
	file := content(t, path)
	shards, err := breach.ShardSizes(file)
	if err != nil || len(shards) != built.Shards || int64(len(file)) != built.Size {
		t.Fatalf("%v %v", shards, err)
	}
	for _, keys := range shards {
		if len(shards) > 1 && keys < breach.MinShardKeys {
			t.Errorf("a shard has %d keys", keys)
		}
	}
	if built.Entries > breach.MostKeys && len(shards) < 2 {
		t.Error("there is one shard")
	}
	if each := float64(built.Size) / float64(built.Entries); built.Entries >= 1_000_000 && each > 2.4 {
		t.Errorf("%.3f bytes an entry", each)
	}
}

func checkFalsePositives(t *testing.T, filter *breach.Filter) {
	t.Helper()
	const tries = 3_000_000
	random, found := rand.New(rand.NewPCG(2, 3)), 0
	for range tries {
		if filter.HasKey(random.Uint64()) {
			found++
		}
	}
	if found > tries/50_000 {
		t.Errorf("%d of %d were taken for entries", found, tries)
	}
}

func packed(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// PW-15: the same list makes the same filter in every form that it comes in.
func TestBuild_readsEveryForm(t *testing.T) {
	list := listOf(1000, 1)
	path, _ := build(t, bytes.NewReader(list), 1)
	want := content(t, path)
	half := bytes.LastIndexByte(list[:len(list)/2], '\n') + 1
	for name, from := range map[string]io.Reader{
		"LF":                bytes.NewReader(bytes.ReplaceAll(list, []byte("\r\n"), []byte("\n"))),
		"no last line end":  bytes.NewReader(bytes.TrimRight(list, "\r\n")),
		"lower case":        bytes.NewReader(bytes.ToLower(list)),
		"gzip":              bytes.NewReader(packed(t, list)),
		"two gzip in a row": bytes.NewReader(slices.Concat(packed(t, list[:half]), packed(t, list[half:]))),
		"byte by byte":      iotest.OneByteReader(bytes.NewReader(list)),
		"every line twice":  bytes.NewReader(twice(list)),
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := build(t, from, 1)
			if !bytes.Equal(content(t, path), want) {
				t.Error("it is another filter")
			}
		})
	}
}

func twice(list []byte) []byte {
	var doubled []byte
	for line := range bytes.Lines(list) {
		doubled = append(append(doubled, line...), line...)
	}
	return doubled
}

// PW-15: what was seen less often than the minimum count is left out; a count of 0, as in padding, always.
func TestBuild_leavesOutTheRare(t *testing.T) {
	list := lines(1<<60, 2<<60, 3<<60, 4<<60, 5<<60) // seen 1 to 5 times
	list = append(list, "6"+strings.Repeat("0", 39)+":0\n"...)
	for _, test := range []struct{ minCount, entries int64 }{{-1, 5}, {0, 5}, {1, 5}, {2, 4}, {5, 1}} {
		path, built := build(t, bytes.NewReader(list), test.minCount)
		filter := open(t, path)
		if built.Entries != test.entries || built.Lines != 6 || filter.Info().MinCount != max(test.minCount, 1) {
			t.Errorf("minimum %d: %+v", test.minCount, built)
		}
		for i := range int64(6) {
			if want := i < 5 && i+1 >= test.minCount; filter.HasKey(uint64(i+1)<<60) != want {
				t.Errorf("minimum %d: entry %d: want %t", test.minCount, i+1, want)
			}
		}
	}
}

func TestBuild_keepsItsOrigin(t *testing.T) {
	path, _ := build(t, bytes.NewReader(lines(7)), 1)
	if date := open(t, path).Info().SourceDate; !date.Equal(january) || date.Location() != time.UTC {
		t.Error(date)
	}
}

// PW-15: a list that is none, or not ordered, is refused by line; nothing is left behind, and an earlier filter stays.
func TestBuild_refuses(t *testing.T) {
	good := string(lines(1<<60, 2<<60))
	hash := strings.Repeat("A", 40)
	broken := packed(t, listOf(1000, 1))
	for name, test := range map[string]struct {
		from io.Reader
		want string
	}{
		"unordered":        {strings.NewReader(good + string(lines(1<<60))), "line 3 is out of order"},
		"empty":            {strings.NewReader(""), "no entry"},
		"nothing but rare": {strings.NewReader(hash + ":0\n"), "no entry is left of the 1 lines"},
		"no count":         {strings.NewReader(good + hash + "\n"), "line 3 is not"},
		"empty count":      {strings.NewReader(good + hash + ":\n"), "line 3 is not"},
		"word as count":    {strings.NewReader(good + hash + ":x\n"), "line 3 is not"},
		"negative count":   {strings.NewReader(good + hash + ":-1\n"), "line 3 is not"},
		"huge count":       {strings.NewReader(good + hash + ":" + strings.Repeat("9", 19) + "\n"), "line 3 is not"},
		"short hash":       {strings.NewReader(good + hash[1:] + ":1\n"), "line 3 is not"},
		"NTLM edition":     {strings.NewReader(hash[:32] + ":1\n"), "line 1 is not"},
		"no hash":          {strings.NewReader(good + hash[1:] + "G:1\n"), "line 3 is not"},
		"empty line":       {strings.NewReader(good + "\n" + good), "line 3 is not"},
		"space":            {strings.NewReader(good + hash + ":1 \n"), "line 3 is not"},
		"cut in a hash":    {strings.NewReader(good + hash[:20]), "line 3 is not"},
		"endless line":     {io.MultiReader(strings.NewReader(good), strings.NewReader(strings.Repeat(hash, 1<<16))), "line 3 is not"},
		"long line":        {strings.NewReader(good + hash + ":" + strings.Repeat("0", 300) + "1\n"), "line 3 is not"},
		"cut gzip":         {bytes.NewReader(broken[:len(broken)/2]), "read the list after line"},
		"damaged gzip":     {bytes.NewReader(slices.Concat(broken[:len(broken)-8], make([]byte, 8))), "checksum"},
		"gzip of nothing":  {bytes.NewReader([]byte{0x1f, 0x8b}), "unpack"},
		"broken pipe":      {io.MultiReader(strings.NewReader(good), iotest.ErrReader(errors.New("the disk is on fire"))), "after line 2: the disk is on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "list.filter")
			if err := os.WriteFile(path, []byte("the earlier one"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := breach.Build(t.Context(), test.from, path, breach.BuildConfig{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			checkFolder(t, folder, map[string]string{"list.filter": "the earlier one"})
		})
	}
}

// checkFolder compares what is in a folder.
func checkFolder(t *testing.T, folder string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		got[file.Name()] = string(content(t, filepath.Join(folder, file.Name())))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBuild_placesThatCannotBe(t *testing.T) {
	folder := t.TempDir()
	for _, path := range []string{folder, filepath.Join(folder, "nowhere", "list.filter")} {
		if _, err := breach.Build(t.Context(), bytes.NewReader(lines(1)), path, breach.BuildConfig{}); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	checkFolder(t, folder, map[string]string{})
}

// PW-15: interrupted in the middle of the list, while it waits for more or at the very end, it leaves nothing behind.
func TestBuild_interrupted(t *testing.T) {
	for name, from := range map[string]func(stop func()) io.Reader{
		"in the middle": func(stop func()) io.Reader {
			return io.MultiReader(generate(breach.MostKeys+1, 1), stopping{stop, nil}, bytes.NewReader(lines(1<<64-1)))
		},
		"while it waits": func(stop func()) io.Reader {
			blocked, _ := io.Pipe()
			return io.MultiReader(generate(1000, 1), stopping{stop, nil}, blocked)
		},
		"at the end": func(stop func()) io.Reader {
			return io.MultiReader(generate(1000, 1), stopping{stop, io.EOF})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			folder := t.TempDir()
			_, err := breach.Build(ctx, from(stop), filepath.Join(folder, "list.filter"), breach.BuildConfig{})
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			checkFolder(t, folder, map[string]string{})
		})
	}
}

// stopping interrupts the build when it is read, and then reads as err or, without one, as nothing.
type stopping struct {
	stop func()
	err  error
}

func (s stopping) Read([]byte) (int, error) {
	s.stop()
	if s.err == nil {
		return 0, io.EOF
	}
	return 0, s.err
}

// PW-15: what a killed build left is no filter, does not stand in the way of the next build, and goes with it. Two builds of
// one file at once do not write into each other's.
func TestBuild_leftovers(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "list.filter")
	reader, writer := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := breach.Build(t.Context(), reader, path, breach.BuildConfig{})
		first <- err
	}()
	if _, err := writer.Write(listOf(1000, 1)); err != nil { // the build has its file by now
		t.Fatal(err)
	}
	if _, err := breach.Open(path+".partial", nil); !errors.Is(err, breach.ErrDamaged) {
		t.Errorf("an unfinished filter was opened: %v", err)
	}
	if _, err := breach.Build(t.Context(), bytes.NewReader(lines(1)), path, breach.BuildConfig{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two at once: %v", err)
	}
	_ = writer.Close()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	whole := content(t, path)
	for _, left := range [][]byte{{}, whole[:len(whole)/2], slices.Concat(make([]byte, breach.HeaderSize), whole[breach.HeaderSize:], whole)} {
		if err := os.WriteFile(path+".partial", left, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := breach.Open(path+".partial", nil); !errors.Is(err, breach.ErrDamaged) {
			t.Errorf("%d bytes were opened: %v", len(left), err)
		}
		if _, err := breach.Build(t.Context(), generate(1000, 1), path, breach.BuildConfig{}); err != nil {
			t.Error(err)
		}
		checkFolder(t, folder, map[string]string{"list.filter": string(whole)})
	}
}

// PW-15: a list with a part missing is noticed, at the beginning, in the middle and at the end; a small one is not suspected.
func TestBuild_noticesMissingParts(t *testing.T) {
	list := bytes.SplitAfter(listOf(10_000, 1), []byte("\n"))
	without := func(from, to int) io.Reader {
		return bytes.NewReader(slices.Concat(bytes.Join(list[:from], nil), bytes.Join(list[to:], nil)))
	}
	for _, test := range []struct{ from, to, about, after int }{
		{0, 0, 0, 0}, {0, 1000, 900, 0}, {5000, 5100, 100, 5000}, {8000, 10_000, 1600, 8000}, {0, 9970, 0, 0},
	} {
		_, built := build(t, without(test.from, test.to), 1)
		if built.MissingAfter != int64(test.after) || built.Missing < int64(test.about)*9/10 || built.Missing > int64(test.about)*11/10 {
			t.Errorf("lines %d to %d: about %d are missing after %d", test.from, test.to, built.Missing, built.MissingAfter)
		}
	}
}

func TestBuild_tellsItsProgress(t *testing.T) {
	var told []int64
	_, err := breach.Build(t.Context(), generate(150_000, 1), filepath.Join(t.TempDir(), "list.filter"), breach.BuildConfig{
		Progress: func(lines int64) { told = append(told, lines) },
	})
	if want := []int64{65_536, 131_072}; err != nil || !slices.Equal(told, want) {
		t.Errorf("%v %v", told, err)
	}
}
