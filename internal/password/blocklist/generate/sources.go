package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// source is one file of passwords, most common first.
type source struct {
	path string // under the folder of sources
	sum  string // SHA-256, so that the same list comes out wherever it is made
	read func(text []byte) ([]string, error)
}

// sources are in the order in which their passwords count as common: the first one is the newest and the largest.
var sources = []source{
	{"zxcvbn-ts/package/src/passwords.json", "f422773d94d630f27e08b26d7017e847bb1feb2a84809340e9c0b0c47b33e3f1", readJSON},
	{"zxcvbn/package/src/frequency_lists.coffee", "664d32190713e42b7726072a5cf7533bd4a469e5588c7c1bd2ff9485cdf83276", readCoffee},
	{"checker/package/lib/pwlist.txt", "d9bc39670753e4caba1d3c2669fb29dd5c820879491745c2096f19b538663695", readLines},
	{"john/usr/share/john/password.lst", "40ed19c57ae523b11393a6d95ff32a98af357ee9f9a0ed13feced6bd570ab974", readLines},
}

// readSources returns the passwords of all sources, source by source.
func readSources(folder string) ([]string, error) {
	var all []string
	for _, source := range sources {
		text, err := os.ReadFile(filepath.Join(folder, source.path))
		if err != nil {
			return nil, err
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(text)); sum != source.sum {
			return nil, fmt.Errorf("%s has the checksum %s and should have %s", source.path, sum, source.sum)
		}
		passwords, err := source.read(text)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", source.path, err)
		}
		all = append(all, passwords...)
	}
	return all, nil
}

func readJSON(text []byte) ([]string, error) {
	var passwords []string
	err := json.Unmarshal(text, &passwords)
	return passwords, err
}

var coffeePasswords = regexp.MustCompile(`passwords: "([^"]*)"`)

// readCoffee takes the passwords out of lists of names and words that stand in the same file.
func readCoffee(text []byte) ([]string, error) {
	found := coffeePasswords.FindSubmatch(text)
	if found == nil {
		return nil, fmt.Errorf("no list of passwords in it")
	}
	return strings.Split(string(found[1]), ","), nil
}

// readLines reads one password a line, with either line end, leaving out comments.
func readLines(text []byte) ([]string, error) {
	lines := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "#!comment") }), nil
}
