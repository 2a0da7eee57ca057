package breach_test

import (
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/password/breach"
)

// entries is how many the benchmarks generate:
//
//	go test ./internal/password/breach -run '^$' -bench . -benchtime 1x -timeout 1h -entries 100000000
var entries = flag.Int("entries", 1_000_000, "entries of the generated lists of the benchmarks")

// BenchmarkGenerate is the share of BenchmarkBuild that is not building.
func BenchmarkGenerate(b *testing.B) {
	for b.Loop() {
		if _, err := io.Copy(io.Discard, generate(*entries, 1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBuild builds a filter of a list that comes through a pipe, as from a downloader or zcat, and is kept nowhere.
// Then every entry is looked up, and random hashes are, which end in false positives.
func BenchmarkBuild(b *testing.B) {
	path := filepath.Join(b.TempDir(), "list.filter")
	var built breach.Built
	for b.Loop() {
		reader, writer, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			_, _ = io.Copy(writer, generate(*entries, 1)) // a reader that is gone is Build's to tell
			_ = writer.Close()
		}()
		if built, err = breach.Build(b.Context(), reader, path, breach.BuildConfig{SourceDate: january}); err != nil {
			b.Fatal(err)
		}
		_ = reader.Close()
	}
	b.ReportMetric(float64(built.Size)/float64(built.Entries), "bytes/entry")
	b.ReportMetric(float64(built.Size)/1e6, "MB-file")
	b.ReportMetric(float64(peakMemory(b))/1e6, "MB-peak")

	filter := open(b, path)
	keys := generate(*entries, 1)
	for range *entries {
		if key := keys.next(); !filter.HasKey(key) {
			b.Fatalf("%x is not found", key)
		}
	}
	const tries = 100_000_000
	found, random := 0, rand.New(rand.NewPCG(2, 3))
	started := time.Now()
	for range tries {
		if filter.HasKey(random.Uint64()) {
			found++
		}
	}
	b.ReportMetric(float64(time.Since(started).Nanoseconds())/tries, "ns/look-up")
	b.ReportMetric(tries/float64(found), "tries/false-positive")
}

// peakMemory returns the most memory that the process had resident, in bytes, or 0 where nobody tells.
func peakMemory(b *testing.B) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Log(err)
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " kB")
	kib, err := strconv.Atoi(number)
	if err != nil {
		b.Fatalf("no VmHWM in %s", status)
	}
	return kib << 10
}

// BenchmarkFilter measures opening and checking the file, in the cache of the system.
func BenchmarkFilter(b *testing.B) {
	path, _ := build(b, generate(*entries, 1), 1)
	filter := open(b, path)
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			opened, err := breach.Open(path, nil)
			if err != nil {
				b.Fatal(err)
			}
			_ = opened.Close()
		}
	})
	b.Run("Verify", func(b *testing.B) {
		b.SetBytes(filter.Info().Size)
		for b.Loop() {
			if err := filter.Verify(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
