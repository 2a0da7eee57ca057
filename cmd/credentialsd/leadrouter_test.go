package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/pkg/client"
	events "github.com/salesexec/credentials/pkg/client/signals"
)

const (
	// asLeadRouter makes the test binary act as the lead router; its value is a routerConfig.
	asLeadRouter = "CREDENTIALSD_TEST_AS_LEAD_ROUTER"
	// leadRouterFor is how long users are renamed, as in 1m; unset stands for as long as leastKills take.
	leadRouterFor = "LEAD_ROUTER_FOR"
	// leastKills is how often the router is killed at least.
	leastKills = 3
)

// routerConfig is what the lead router is started with.
type routerConfig struct{ URL, ClientID, Secret, StreamID, Book string }

// leadRouter is a service that files leads under the names of users, and must know at the end who had a name when. It follows a
// stream by the client library alone, keeps each rename in its book before it acknowledges it, and prints how many are in there.
func leadRouter(ctx context.Context, config string) error {
	var c routerConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	file, err := os.OpenFile(c.Book, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // each line is written at once
	known, err := readBook(file)
	if err != nil {
		return err
	}
	fmt.Println(known.size())
	credentials, err := client.New(c.URL, client.WithClientCredentials(c.ClientID, c.Secret, "ssf.read"))
	if err != nil {
		return err
	}
	verifier, err := events.NewVerifier(events.Config{Issuer: c.URL, Audience: c.ClientID})
	if err != nil {
		return err
	}
	return events.NewPoller(credentials, c.StreamID, verifier, func(_ context.Context, e events.Event) error {
		r, err := e.Rename()
		if err != nil {
			return err
		}
		if !known.add(r) {
			return nil
		}
		line, err := json.Marshal(r)
		if err == nil {
			_, err = file.Write(append(line, '\n'))
		}
		fmt.Println(known.size())
		return err
	}).Run(ctx)
}

// book holds the renames of each user by their version: one that arrives again is the same one.
type book map[string]map[int64]events.Rename

// readBook reads what the router wrote before it was killed, and goes on behind the last whole line.
func readBook(file *os.File) (book, error) {
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	known := book{}
	for line := range bytes.Lines(whole) {
		var r events.Rename
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		known.add(r)
	}
	if err := file.Truncate(int64(len(whole))); err != nil {
		return nil, err
	}
	_, err = file.Seek(int64(len(whole)), io.SeekStart)
	return known, err
}

// add tells whether a rename is new.
func (b book) add(r events.Rename) bool {
	if _, there := b[r.UserID][r.Version]; there {
		return false
	}
	if b[r.UserID] == nil {
		b[r.UserID] = map[int64]events.Rename{}
	}
	b[r.UserID][r.Version] = r
	return true
}

func (b book) size() int {
	n := 0
	for _, renames := range b {
		n += len(renames)
	}
	return n
}

// tenure is the time in which a user had a name: from is zero when it was before the first rename, until when it still lasts.
type tenure struct {
	id          string
	from, until time.Time
}

// tenures returns who had each name, and when.
func (b book) tenures() map[string][]tenure {
	all := map[string][]tenure{}
	for id, renames := range b {
		var from time.Time
		last := ""
		for _, version := range slices.Sorted(maps.Keys(renames)) {
			r := renames[version]
			all[r.OldUsername] = append(all[r.OldUsername], tenure{id, from, r.ChangedAt})
			from, last = r.ChangedAt, r.NewUsername
		}
		all[last] = append(all[last], tenure{id: id, from: from})
	}
	return all
}

// at returns the ids that had a name at a time: one or none, if all is right.
func at(tenures []tenure, t time.Time) string {
	var ids []string
	for _, one := range tenures {
		if !t.Before(one.from) && (one.until.IsZero() || t.Before(one.until)) {
			ids = append(ids, one.id)
		}
	}
	return strings.Join(ids, " and ")
}

// moment is who had which name after a rename was answered, and before the next one was asked for.
type moment struct {
	at    time.Time
	names map[string]string // id by name
}

// renamer renames users at random, and takes names from others that have given them up.
type renamer struct {
	t     *testing.T
	admin *client.Client
	names []string
	ids   []string

	using   map[string]string // name by id
	left    map[string]string // id by name that is held for it
	moments []moment
}

// rename gives a user a name, unless somebody uses it.
func (r *renamer) rename(id, name string) {
	for _, used := range r.using {
		if used == name {
			return
		}
	}
	if former, held := r.left[name]; held && former != id {
		if err := r.admin.ReleaseHeldUsername(r.t.Context(), "", name); err != nil {
			r.t.Fatalf("release %s of %s: %v", name, former, err)
		}
	}
	if _, _, err := r.admin.ChangeUserCredentials(r.t.Context(), id, client.CredentialsChange{Username: &name}, ""); err != nil {
		r.t.Fatalf("rename %s to %s: %v", id, name, err)
	}
	r.left[r.using[id]] = id
	delete(r.left, name)
	r.using[id] = name
	now := moment{time.Now(), map[string]string{}}
	for id, name := range r.using {
		now.names[name] = id
	}
	r.moments = append(r.moments, now)
}

// router is a lead router in a process of its own.
type router struct {
	command *exec.Cmd
	sizes   chan int // of its book; closed when it has ended
	log     *output
}

func startRouter(t *testing.T, c routerConfig) *router {
	t.Helper()
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &router{command: exec.CommandContext(context.Background(), os.Args[0]), sizes: make(chan int), log: &output{}}
	r.command.Env = append(os.Environ(), asLeadRouter+"="+string(config))
	r.command.Stderr = r.log
	stdout, err := r.command.StdoutPipe()
	if err == nil {
		err = r.command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.sizes)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			size, _ := strconv.Atoi(lines.Text()) // what is no number is no progress
			r.sizes <- size
		}
	}()
	return r
}

// await returns when the book has grown to size; it fails the test when the router ends before.
func (r *router) await(t *testing.T, size int) (now int) {
	t.Helper()
	giveUp := time.After(2 * time.Minute)
	for {
		select {
		case got, alive := <-r.sizes:
			if !alive {
				t.Fatalf("the router has ended\n%s", r.log)
			}
			if got >= size {
				return got
			}
		case <-giveUp:
			t.Fatalf("the book did not grow to %d\n%s", size, r.log)
		}
	}
}

// kill ends the router at once, wherever it is.
func (r *router) kill() {
	_ = r.command.Process.Kill()
	for range r.sizes { // what it still had said
	}
	_ = r.command.Wait()
}

// A lead router that follows renames, and is killed and started again while it does, resolves every name at every time to the
// right user: nothing is lost and nothing is mixed up, even if names go from one user to another (SET-05, POL-04, peers bug 18).
// LEAD_ROUTER_FOR=1m makes it take a minute.
func TestLeadRouter(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ids := s.crowd(8)
		own := s.demo.Clients[0]
		config := routerConfig{s.demo.URL, own.ClientID, own.ClientSecret, s.listen(map[string]any{"events_requested": []string{renamed}}).id, t.TempDir() + "/book"}
		token := s.token("ada", demoPassword)
		admin, err := client.New(s.demo.URL, client.WithToken(func(context.Context) (string, error) { return token, nil }))
		if err != nil {
			t.Fatal(err)
		}
		r := &renamer{t: t, admin: admin, ids: ids, using: map[string]string{}, left: map[string]string{}}
		for i, id := range ids {
			r.using[id] = fmt.Sprintf("crowd%d", i)
			r.names = append(r.names, r.using[id], fmt.Sprintf("router%d", i), fmt.Sprintf("router%d.b", i))
		}
		kills := r.run(config)

		last := startRouter(t, config)
		defer last.kill()
		last.await(t, len(r.moments))
		last.kill()
		file, err := os.Open(config.Book)
		if err != nil {
			t.Fatal(err)
		}
		defer closeQuietly(file)
		t.Logf("%d renames, the router was killed %d times", len(r.moments), kills)
		r.check(file)
	})
}

// run renames users while a router follows and is killed time and again; it returns how often.
func (r *renamer) run(config routerConfig) int {
	seconds, _ := time.ParseDuration(os.Getenv(leadRouterFor)) // none: 0
	end := time.Now().Add(seconds)
	ctx, stop := context.WithCancel(r.t.Context())
	killed := make(chan int, 1)
	go func() {
		kills := 0
		defer func() { killed <- kills }()
		defer stop()
		for kills < leastKills || time.Now().Before(end) {
			one := startRouter(r.t, config)
			for more := 1 + rand.IntN(20); more > 0; more-- { // where in its work, is left to chance
				select {
				case _, alive := <-one.sizes:
					if !alive {
						r.t.Errorf("the router has ended\n%s", one.log)
						one.kill()
						return
					}
				case <-ctx.Done(): // the test has failed
					one.kill()
					return
				}
			}
			one.kill()
			kills++
		}
	}()
	for i, id := range r.ids {
		r.rename(id, fmt.Sprintf("router%d", i))
	}
	for ctx.Err() == nil {
		r.rename(r.ids[rand.IntN(len(r.ids))], r.names[rand.IntN(len(r.names))])
	}
	return <-killed
}

// check holds the router's book to what was renamed.
func (r *renamer) check(file *os.File) {
	known := book{}
	lines := json.NewDecoder(file)
	for {
		var one events.Rename
		if err := lines.Decode(&one); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			r.t.Fatal(err)
		}
		known.add(one)
	}
	if known.size() != len(r.moments) {
		r.t.Errorf("the book has %d renames of %d", known.size(), len(r.moments))
	}
	tenures, wrong := known.tenures(), 0
	for _, m := range r.moments {
		for _, name := range r.names {
			if got := at(tenures[name], m.at); got != m.names[name] {
				if wrong++; wrong <= 10 {
					r.t.Errorf("%s at %v is %q, want %q", name, m.at, got, m.names[name])
				}
			}
		}
	}
	if wrong > 10 {
		r.t.Errorf("%d are wrong in all", wrong)
	}
}
