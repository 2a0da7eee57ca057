package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/password/breach"
)

// breachedList is a list in the form of Have I Been Pwned: the first password was seen once, the second twice ...
func breachedList(passwords ...string) string {
	var lines []string
	for i, password := range passwords {
		lines = append(lines, fmt.Sprintf("%X:%d\r\n", sha1.Sum([]byte(password)), i+1))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// breachedFilter builds the filter of these passwords.
func breachedFilter(t *testing.T, passwords ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "breached.filter")
	if code, _, problems := piped(t, strings.NewReader(breachedList(passwords...)), "breach", "build", "--from", "-", "--out", path); code != 0 {
		t.Fatal(problems)
	}
	return path
}

// today is the clock of commands in these tests.
func today() time.Time { return time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC) }

// piped runs a command with a standard input.
func piped(t *testing.T, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	code = run(t.Context(), args, process{getenv: func(string) string { return "" }, stdin: stdin, stdout: &out, stderr: &problems, now: today})
	return code, out.String(), problems.String()
}

// PW-15, ASVS 6.2.12: from the list in each of the forms it comes in to an answer about one password, by commands alone. Where
// nobody watches there is no progress to see.
func TestBreach_buildAndCheck(t *testing.T) {
	list := breachedList("one orbit lantern quiet", "two orbit lantern quiet", "three orbit läntern quiet")
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	if _, err := writer.Write([]byte(list)); err != nil || writer.Close() != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"CRLF": list, "LF": strings.ReplaceAll(list, "\r\n", "\n"), "gzip": zipped.String()} {
		for _, from := range []string{"file", "standard input"} {
			t.Run(name+" from "+from, func(t *testing.T) {
				folder := t.TempDir()
				path, source, date := filepath.Join(folder, "breached.filter"), "-", "2026-02-03"
				if from == "file" {
					source, date = filepath.Join(folder, "list"), "2025-12-24"
					if err := os.WriteFile(source, []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
					downloaded := time.Date(2025, 12, 24, 12, 0, 0, 0, time.UTC)
					if err := os.Chtimes(source, downloaded, downloaded); err != nil {
						t.Fatal(err)
					}
				}
				code, out, problems := piped(t, strings.NewReader(content), "breach", "build", "--from", source, "--out", path)
				want := fmt.Sprintf("%s: 3 entries of 3 lines, 188 bytes (62.67 an entry), source date %s, minimum count 1\n", path, date)
				if code != 0 || out != want || problems != "" {
					t.Errorf("%d %q %q, want %q", code, out, problems, want)
				}
				for password, listed := range map[string]bool{
					"one orbit lantern quiet\n": true, "two orbit lantern quiet\r\n": true, "three orbit läntern quiet": true,
					"three orbit la\u0308ntern quiet\n": true, "One orbit lantern quiet\n": false, "one orbit lantern quiet \n": false,
				} {
					want := map[bool]string{true: "on", false: "not on"}[listed] + " the list of 3 breached passwords of " + date + "\n"
					code, out, problems := piped(t, strings.NewReader(password), "breach", "check", "--filter", path)
					if wantCode := map[bool]int{true: 3, false: 0}[listed]; code != wantCode || out != want || problems != "" {
						t.Errorf("%q: %d %q %q, want %d %q", password, code, out, problems, wantCode, want)
					}
				}
			})
		}
	}
}

// PW-15: what is left out by its count is not on the list; the date is what the operator says.
func TestBreach_minimumCountAndDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "breached.filter")
	list := breachedList("one orbit lantern quiet", "two orbit lantern quiet", "three orbit lantern quiet")
	code, out, problems := piped(t, strings.NewReader(list), "breach", "build", "--from", "-", "--out", path, "--min-count", "2", "--source-date", "2024-02-29")
	if code != 0 || !strings.Contains(out, ": 2 entries of 3 lines,") || !strings.Contains(out, "source date 2024-02-29, minimum count 2\n") {
		t.Fatalf("%d %q %q", code, out, problems)
	}
	for password, want := range map[string]int{"one orbit lantern quiet": 0, "two orbit lantern quiet": 3, "three orbit lantern quiet": 3} {
		if code, _, _ := piped(t, strings.NewReader(password), "breach", "check", "--filter", path); code != want {
			t.Errorf("%s: %d, want %d", password, code, want)
		}
	}
}

// PW-15: what cannot be built says why, a bad list by its line, and changes nothing.
func TestBreach_buildRefuses(t *testing.T) {
	folder := t.TempDir()
	path, list := filepath.Join(folder, "breached.filter"), filepath.Join(folder, "list")
	good := breachedList("one orbit lantern quiet", "two orbit lantern quiet")
	if err := os.WriteFile(list, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		stdin, flags, want string
	}{
		"unordered":       {good + good, "--from - --out " + path, "line 3 is out of order"},
		"malformed":       {good + "canary\n", "--from - --out " + path, "line 3 is not a SHA-1"},
		"empty":           {"", "--from - --out " + path, "no entry is left of the 0 lines"},
		"all too rare":    {good, "--min-count 3 --from - --out " + path, "no entry is left of the 2 lines"},
		"no minimum":      {good, "--min-count 0 --from - --out " + path, "--min-count must be 1 or more"},
		"no date":         {good, "--source-date 31.01.2026 --from - --out " + path, "--source-date must be"},
		"no list":         {"", "--from " + path + " --out " + path, "no such file"},
		"a folder":        {"", "--from " + folder + " --out " + path, "is a directory"},
		"onto the list":   {"", "--from " + list + " --out " + list, "are the same file"},
		"into nowhere":    {good, "--from - --out " + folder + "/nowhere/breached.filter", "no such file"},
		"over the folder": {good, "--from - --out " + folder, "is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, problems := piped(t, strings.NewReader(test.stdin), append([]string{"breach", "build"}, strings.Fields(test.flags)...)...)
			if code != 1 || out != "" || !strings.Contains(problems, test.want) || strings.Contains(problems, "canary") {
				t.Errorf("%d %q %q, want %q", code, out, problems, test.want)
			}
			checkFiles(t, folder, "list")
		})
	}
	if code, _, problems := piped(t, nil, "breach", "build", "--from", "-", "--out", path); code != 1 || !strings.Contains(problems, "no standard input") {
		t.Errorf("%d %s", code, problems)
	}
}

// checkFiles compares the names in a folder.
func checkFiles(t *testing.T, folder string, want ...string) {
	t.Helper()
	var names []string
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		names = append(names, file.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s holds %v, want %v", folder, names, want)
	}
}

// A list that ends too early is built, with a word of warning.
func TestBreach_buildWarnsOfHoles(t *testing.T) {
	var half strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&half, "%04X%036d:1\n", i*32, 0)
	}
	path := filepath.Join(t.TempDir(), "breached.filter")
	code, out, problems := piped(t, strings.NewReader(half.String()), "breach", "build", "--from", "-", "--out", path)
	if code != 0 || !strings.Contains(out, "1000 entries") || !strings.Contains(problems, "warning: about 512 lines seem to be missing after line 1000") {
		t.Errorf("%d %q %q", code, out, problems)
	}
}

// PW-15: no answer is better than one from a damaged filter, or about nothing.
func TestBreach_checkRefuses(t *testing.T) {
	path := breachedFilter(t, "one orbit lantern quiet")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const password = "one orbit lantern quiet\n"
	for name, test := range map[string]struct {
		file  []byte
		stdin io.Reader
		want  string
	}{
		"nothing":           {whole, strings.NewReader(""), "no password was given"},
		"an empty line":     {whole, strings.NewReader("\n" + password), "no password was given"},
		"too much":          {whole, strings.NewReader(strings.Repeat("a", 8193)), "more than 8192 bytes"},
		"no standard input": {whole, nil, "no standard input"},
		"header damaged":    {append([]byte("x"), whole[1:]...), strings.NewReader(password), "damaged"},
		"content damaged":   {slices.Concat(whole[:130], []byte{whole[130] + 1}, whole[131:]), strings.NewReader(password), "checksum of the content"},
		"cut short":         {whole[:len(whole)-1], strings.NewReader(password), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, test.file, 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, problems := piped(t, test.stdin, "breach", "check", "--filter", path)
			if code != 1 || out != "" || !strings.Contains(problems, test.want) || strings.Contains(problems, "orbit") {
				t.Errorf("%d %q %q, want %q", code, out, problems, test.want)
			}
		})
	}
	if code, _, problems := piped(t, strings.NewReader(password), "breach", "check", "--filter", path+".none"); code != 1 || !strings.Contains(problems, "no such file") {
		t.Errorf("%d %s", code, problems)
	}
}

// PW-15: a build that is interrupted in the middle, by a signal as by the end of the context, or killed, leaves the filter
// from before. A killed one leaves its unfinished file, which is no filter and is gone after the next build.
func TestBreach_buildInterrupted(t *testing.T) {
	for name, test := range map[string]struct {
		signal syscall.Signal
		code   int
		left   []string
	}{
		"SIGINT":  {syscall.SIGINT, 1, []string{"breached.filter"}},
		"SIGTERM": {syscall.SIGTERM, 1, []string{"breached.filter"}},
		"SIGKILL": {syscall.SIGKILL, -1, []string{"breached.filter", "breached.filter.partial"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := breachedFilter(t, "one orbit lantern quiet")
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			command, stdin, problems := startBuild(t, path)
			// A pipe holds 64 KiB: once much more is written, the build is in the middle of it, and then it waits.
			if _, err := stdin.Write(bytes.Repeat([]byte(breachedList("two orbit lantern quiet")), 10_000)); err != nil {
				t.Fatal(err)
			}
			if err := command.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait() // its exit code is looked at
			if code := command.ProcessState.ExitCode(); code != test.code || code == 1 && !strings.Contains(problems.String(), "interrupted: "+path+" is as it was") {
				t.Errorf("exit code %d: %s", code, problems)
			}
			checkFiles(t, filepath.Dir(path), test.left...)
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the filter from before has changed: %v", err)
			}
			if _, err := breach.Open(path+".partial", nil); err == nil {
				t.Error("an unfinished filter was opened")
			}
			if code, _, problems := piped(t, strings.NewReader(breachedList("three orbit lantern quiet")), "breach", "build", "--from", "-", "--out", path); code != 0 {
				t.Error(problems)
			}
			checkFiles(t, filepath.Dir(path), "breached.filter")
		})
	}
}

// startBuild builds a filter in a process of its own, from a pipe that stays open.
func startBuild(t *testing.T, path string) (command *exec.Cmd, stdin io.WriteCloser, problems *output) {
	t.Helper()
	problems = &output{}
	command = exec.CommandContext(context.Background(), os.Args[0], "breach", "build", "--from", "-", "--out", path)
	command.Env = append(os.Environ(), asProgram+"=1")
	command.Stderr = problems
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	return command, stdin, problems
}
