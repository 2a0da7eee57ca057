package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a credentialsd that believes to sit at a terminal, and the person in front of it.
type terminal struct {
	t       *testing.T
	screen  *output
	keys    *os.File
	command *exec.Cmd
	shown   chan struct{} // closed when the screen will not change any more
}

// atTerminal starts a command in a process of its own, at a terminal of its own.
func atTerminal(t *testing.T, stdin io.Reader, args ...string) *terminal {
	t.Helper()
	return atTerminalWith(t, nil, stdin, args...)
}

// atTerminalWith is atTerminal with more in the environment.
func atTerminalWith(t *testing.T, env []string, stdin io.Reader, args ...string) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine gives no terminals: ", err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer side.Close()
	c := &terminal{t: t, screen: &output{}, keys: keys, shown: make(chan struct{})}
	c.command = exec.CommandContext(t.Context(), os.Args[0], args...)
	c.command.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	c.command.Stdin, c.command.Stdout, c.command.Stderr = stdin, side, side
	if stdin == nil {
		c.command.Stdin = side
	}
	c.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(c.screen, bufio.NewReader(keys)) // ends with an error when the last process has left the terminal
		close(c.shown)
	}()
	return c
}

// waitForUnseen waits until the terminal shows the prompt, and what is typed no more.
func (c *terminal) waitForUnseen() {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if strings.Contains(c.screen.String(), "Password: ") && !c.echoes() {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("nobody asks for a password:\n%s", c.screen)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (c *terminal) echoes() bool {
	c.t.Helper()
	state, err := unix.IoctlGetTermios(int(c.keys.Fd()), unix.TCGETS)
	if err != nil {
		c.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func (c *terminal) types(text string) {
	c.t.Helper()
	if _, err := c.keys.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

// ends waits for the end and returns the exit code and all that was to be seen.
func (c *terminal) ends() (code int, screen string) {
	_ = c.command.Wait() // its exit code is looked at
	<-c.shown
	return c.command.ProcessState.ExitCode(), c.screen.String()
}

// PW-15: at a terminal the password is asked for and not shown.
func TestBreach_checkAtTheTerminal(t *testing.T) {
	path := breachedFilter(t, listedPassword)
	for typed, want := range map[string]int{listedPassword: 3, "maple orbit lantern quiet": 0} {
		c := atTerminal(t, nil, "breach", "check", "--filter", path)
		c.waitForUnseen()
		c.types(typed + "\n")
		code, screen := c.ends()
		answer := map[int]string{3: "on the list of 1 ", 0: "not on the list of 1 "}[want]
		if code != want || strings.Contains(screen, typed) || !strings.HasPrefix(screen, "Password: \r\n"+answer) {
			t.Errorf("%d %q", code, screen)
		}
	}
}

// Ctrl-C instead of a password ends the command, and leaves a terminal that shows what is typed.
func TestBreach_checkIsBrokenOff(t *testing.T) {
	c := atTerminal(t, nil, "breach", "check", "--filter", breachedFilter(t, listedPassword))
	c.waitForUnseen()
	c.types("violet anch\x03")
	code, screen := c.ends()
	if code != 1 || !strings.Contains(screen, "interrupted") || strings.Contains(screen, "violet") || !c.echoes() {
		t.Errorf("%d %q, echo %t", code, screen, c.echoes())
	}
}

// Somebody who watches a build sees a bar, which is gone at the end.
func TestBreach_buildAtTheTerminal(t *testing.T) {
	folder := t.TempDir()
	list := filepath.Join(folder, "list")
	var lines strings.Builder
	for i := range 1 << 17 {
		fmt.Fprintf(&lines, "%016X%024X:1\r\n", uint64(i)<<47, i)
	}
	if err := os.WriteFile(list, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	code, screen := atTerminal(t, strings.NewReader(""), "breach", "build", "--from", list, "--out", filepath.Join(folder, "filter")).ends()
	_, last, _ := strings.Cut(screen, "\r[###")
	if code != 0 || !strings.Contains(screen, "%  0.1 million lines in ") || !strings.Contains(last, " \r"+filepath.Join(folder, "filter")+": 131072 entries") {
		t.Errorf("%d %q", code, screen)
	}
}

// Somebody who watches an import sees how far the checking and the writing have come; the bar is gone at the end.
func TestImport_atTheTerminal(t *testing.T) {
	url := databaseURL(t, "sqlite")
	if err := migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	code, screen := atTerminalWith(t, []string{"DATABASE_URL=" + url}, nil, "import", "--create-accounts", writeUsers(t, 1000)).ends()
	bar, done, _ := strings.Cut(screen, "imported 1000 of 1000 rows in ")
	if code != 0 || !strings.HasPrefix(bar, "\r[#") || !strings.Contains(bar, "%  checking in 0s") || !strings.HasSuffix(bar, " \r") || !strings.Contains(done, "accounts made: account-0, ") {
		t.Errorf("%d %q", code, screen)
	}
}
