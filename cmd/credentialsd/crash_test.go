package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/audit"
)

// kills is how often the program is killed in the middle of its work, on each database.
const kills = 20

// TestKill: an acknowledged change survives kill -9, and there is no change without its audit event or the reverse.
func TestKill(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			url := databaseURL(t, database)
			folder := dataFolder(t, url)
			known := map[string]*lastKnown{"alex": {name: "alex"}, "bo": {name: "bo"}, "wanda": {name: "wanda"}}
			for round := range kills {
				p := startProgram(t, url, folder)
				for _, k := range known {
					k.settle(t, p.service)
				}
				p.hammer(known, round)
			}
			p := startProgram(t, url, folder)
			for _, k := range known {
				k.settle(t, p.service)
			}
			p.kill()
			checkTrail(t, p.service, known)
		})
	}
}

// program is credentialsd in a process of its own.
type program struct {
	*service
	command *exec.Cmd
}

func startProgram(t *testing.T, url, folder string) *program {
	t.Helper()
	command := exec.CommandContext(context.Background(), os.Args[0], "dev", "--json", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0",
		"--password", demoPassword, "--data", folder)
	command.Env = append(os.Environ(), asProgram+"=1", "DATABASE_URL="+url)
	for name, value := range fastHashing() {
		command.Env = append(command.Env, name+"="+value)
	}
	p := &program{service: newService(t, url), command: command}
	command.Stderr = p.log
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.demo)
	}
	if err != nil {
		t.Fatalf("the program did not get ready: %v\n%s", err, p.log)
	}
	return p
}

// kill ends the process at once, as kill -9 does.
func (p *program) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// lastKnown is what one user's client knows of the own name: the acknowledged one, and one that was asked for without
// an answer.
type lastKnown struct {
	name    string
	pending string
	version float64 // acknowledged
	token   string
}

// settle finds out whether an unanswered change was made: nothing acknowledged may be lost.
func (k *lastKnown) settle(t *testing.T, s *service) {
	t.Helper()
	candidates := []string{k.name}
	if k.pending != "" {
		candidates = append(candidates, k.pending)
	}
	for _, name := range candidates {
		signedIn := s.signIn(name, demoPassword)
		if signedIn.status != http.StatusCreated {
			continue
		}
		k.name, k.pending, k.token = name, "", signedIn.text("access_token")
		mine := s.call(http.MethodGet, "/users/me/credentials", k.token, nil)
		if version := mine.body["version"].(float64); version < k.version {
			t.Fatalf("version %v was acknowledged, %v is stored", k.version, version)
		} else {
			k.version = version
		}
		return
	}
	t.Fatalf("an acknowledged change was lost: none of %q signs in", candidates)
}

// hammer renames all users in parallel and kills the process after some acknowledged changes, a few more each round.
func (p *program) hammer(known map[string]*lastKnown, round int) {
	var running sync.WaitGroup
	acknowledged := make(chan struct{}, 1024)
	for user, k := range known {
		running.Go(func() {
			for i := 0; ; i++ {
				k.pending = fmt.Sprintf("%s-%d-%d", user, round, i)
				changed, err := p.try(http.MethodPatch, "/users/me/credentials", k.token, map[string]string{"username": k.pending, "current_password": demoPassword})
				if err != nil || changed.status != http.StatusOK {
					return
				}
				k.name, k.pending, k.version = k.pending, "", changed.body["version"].(float64)
				acknowledged <- struct{}{}
			}
		})
	}
	for range 2 + round%5 {
		select {
		case <-acknowledged:
		case <-time.After(time.Minute):
			p.t.Error("no change was acknowledged")
		}
	}
	p.kill()
	running.Wait()
}

// checkTrail compares every user's version with the changes that the audit trail tells of, and checks the chain.
func checkTrail(t *testing.T, s *service, known map[string]*lastKnown) {
	t.Helper()
	db := s.database()
	ctx := context.Background()
	events, err := db.AuditEvents(ctx, "demo", time.Time{}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]int{}
	for _, e := range events {
		if e.Action == audit.CredentialsChanged {
			changes[e.Target.ID]++
		}
	}
	for user, k := range known {
		if got := changes[s.user(user).ID]; got != int(k.version)-1 {
			t.Errorf("%s: version %v, but %d events of changes", user, k.version, got)
		}
	}
	integrity, err := db.Integrity(ctx, "demo")
	if err != nil || !integrity.Intact || integrity.Events != int64(len(events)) {
		t.Errorf("the chain is broken: %+v, %d events, %v", integrity, len(events), err)
	}
}
