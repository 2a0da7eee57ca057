package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// built is a running credentialsd in a process of its own, made by a plain go build: the race detector, which the tests may run
// with, takes several times the memory.
type built struct {
	demo    demo
	process *os.Process
}

// startBuilt builds and runs the program with default hashing until the test ends.
func startBuilt(t testing.TB, env ...string) built {
	t.Helper()
	folder := t.TempDir()
	program := filepath.Join(folder, "credentialsd")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	log := &output{}
	command := exec.Command(program, "dev", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--password", demoPassword, "--json", "--data", folder)
	command.Env = append([]string{"LOG_LEVEL=error"}, env...)
	command.Stderr = log
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM) // if it has died, Wait says so
		if err := command.Wait(); err != nil || log.String() != "" {
			t.Errorf("the program ended with %v\n%s", err, log)
		}
	})
	b := built{process: command.Process}
	if err := json.NewDecoder(stdout).Decode(&b.demo); err != nil {
		t.Fatalf("the program did not get ready: %v\n%s", err, log)
	}
	return b
}

// peakMemory returns the most memory the process has had resident so far, in bytes.
func (b built) peakMemory(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " kB")
	kib, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	return kib << 10
}

// signIn signs in over a connection of its own.
func (b built) signIn(client *http.Client, username string) (answer, error) {
	body := fmt.Sprintf(`{"username":%q,"password":%q}`, username, demoPassword)
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.demo.URL+"/sessions", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	a := answer{status: response.StatusCode, header: response.Header, raw: raw}
	_ = json.Unmarshal(raw, &a.body) // stays nil for what is no object
	return a, err
}

// HASH-12, peers bug 12: 500 sign-ins at once on two lanes with default hashing. Each gets an answer, some that the service is
// busy and when to come back, and the memory stays within the two lanes' and 100 MiB. Nobody's right password counts as a
// failure because of it.
func TestLoad_signIns(t *testing.T) {
	const lanes, clients = 2, 500
	b := startBuilt(t, fmt.Sprintf("HASH_LANES=%d", lanes), "RATE_LIMIT_PER_MINUTE=1000000")
	var names []string
	for _, u := range b.demo.Users {
		if u.Status == "active" {
			names = append(names, u.Username)
		}
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	statuses, answers := inParallel(t, clients, func(i int) (answer, error) {
		if i%2 == 0 {
			return b.signIn(client, names[i/2%len(names)])
		}
		return b.signIn(client, fmt.Sprintf("nobody%d", i))
	})
	for i, a := range answers {
		judged, code := http.StatusCreated, ""
		if i%2 == 1 {
			judged, code = http.StatusUnauthorized, "invalid_credentials"
		}
		after, err := strconv.Atoi(a.header.Get("Retry-After"))
		switch {
		case a.status == judged && a.code() == code:
		case a.status == http.StatusServiceUnavailable && a.code() == "overloaded" && err == nil && after >= 1 && after <= 60:
		default:
			t.Errorf("client %d: %d, Retry-After %q\n%s", i, a.status, a.header.Get("Retry-After"), a.raw)
		}
	}
	for _, status := range []int{http.StatusCreated, http.StatusUnauthorized, http.StatusServiceUnavailable} {
		if statuses[status] == 0 {
			t.Errorf("nobody was answered %d: %v", status, statuses)
		}
	}
	for _, name := range names {
		if a, err := b.signIn(client, name); err != nil || a.status != http.StatusCreated {
			t.Errorf("%s after the rush: %d %v\n%s", name, a.status, err, a.raw)
		}
	}
	if runtime.GOOS != "linux" {
		t.Log("memory is looked up in /proc, which is not here")
		return
	}
	const most = lanes*64<<20 + 100<<20
	peak := b.peakMemory(t)
	t.Logf("%v, at most %d MiB", statuses, peak>>20)
	if peak > most {
		t.Errorf("%d MiB were resident, want at most %d", peak>>20, most>>20)
	}
}
