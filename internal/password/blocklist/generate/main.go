// Command generate makes the list of common passwords that package password is built with, from the four sources
// that ../README.md names, unpacked under one folder:
//
//	go run ./internal/password/blocklist/generate -sources <folder> -out internal/password/blocklist
//
// It depends on the standard library and on package password for the folded form. Nothing depends on it: it is run by
// hand when a source changes, and not by go generate, because the sources are not part of the repository.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/password"
)

// fileName is the list's name; its checksum lies beside it, in the form that sha256sum -c reads.
const fileName = "common.txt.gz"

func main() {
	folder := flag.String("sources", "", "folder with the unpacked sources")
	out := flag.String("out", ".", "folder to write "+fileName+" and its checksum to")
	flag.Parse()
	if err := run(*folder, *out); err != nil {
		log.Fatal(err)
	}
}

func run(folder, out string) error {
	common, err := readSources(folder)
	if err != nil {
		return err
	}
	entries := compose(common)
	packed, err := pack(entries)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, fileName), packed, 0o644); err != nil {
		return err
	}
	sum := fmt.Sprintf("%x  %s\n", sha256.Sum256(packed), fileName)
	if err := os.WriteFile(filepath.Join(out, fileName+".sha256"), []byte(sum), 0o644); err != nil {
		return err
	}
	report(entries)
	return nil
}

// compose returns the common passwords, most common first, and the long forms made of them: folded, sorted, none twice,
// none shorter than any account may allow or longer than any password may be.
func compose(common []string) []string {
	for i := range common {
		common[i] = password.Fold(common[i])
	}
	entries := slices.DeleteFunc(append(longForms(common), common...), func(entry string) bool {
		length := utf8.RuneCountInString(entry)
		return length < password.MinLengthFloor || length > password.MaxLength || strings.Contains(entry, "\n")
	})
	slices.Sort(entries)
	return slices.Compact(entries)
}

func pack(entries []string) ([]byte, error) {
	var packed bytes.Buffer
	writer, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if _, err := writer.Write([]byte(entry + "\n")); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

func report(entries []string) {
	long := 0
	for _, entry := range entries {
		if utf8.RuneCountInString(entry) >= password.MinLengthDefault {
			long++
		}
	}
	fmt.Printf("%d entries, %d of them of %d or more characters\n", len(entries), long, password.MinLengthDefault)
}
