package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// pollInterval is the pause between two attempts to reach a starting server and
// stopTimeout the longest wait for a fast shutdown before an immediate one.
const (
	pollInterval = 20 * time.Millisecond
	stopTimeout  = 20 * time.Second
)

// cluster is a private server that listens on a Unix socket only. Its directory
// has mode 0700, which is what keeps others out: the server trusts whoever connects.
type cluster struct {
	dir     string // data directory, socket and log
	bin     string // directory of the server programs
	attr    *syscall.SysProcAttr
	process *process
}

// startCluster initialises and starts a server and waits until it answers or
// ctx ends. The error is errUnavailable if this machine cannot have a server.
func startCluster(ctx context.Context) (_ *cluster, err error) {
	c := &cluster{attr: &syscall.SysProcAttr{Setpgid: true}} // own group: Ctrl-C is for the tests
	dieWithParent(c.attr)
	if c.bin, err = findPrograms(); err != nil {
		return nil, err
	}
	if c.attr.Credential, err = unprivileged(); err != nil {
		return nil, err
	}
	// Not os.TempDir: a socket path has at most 107 bytes, and the server's user
	// must be able to reach the directory.
	if c.dir, err = os.MkdirTemp("/tmp", "pgtest-"); err != nil {
		return nil, err
	}
	if err = c.boot(ctx); err != nil {
		log, _ := os.ReadFile(c.log())
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w\n%s", err, log), c.stop())
	}
	return c, nil
}

// boot fills c.dir, starts the server in it and waits for an answer.
func (c *cluster) boot(ctx context.Context) error {
	if owner := c.attr.Credential; owner != nil {
		if err := os.Chown(c.dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(c.dir, "data")
	initdb, err := c.run("initdb", "-D", data, "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if err != nil {
		return err
	}
	if <-initdb.done; initdb.err != nil {
		return fmt.Errorf("initdb: %w", initdb.err)
	}
	c.process, err = c.run("postgres", "-D", data, "-k", c.dir, "-p", "5432",
		"-c", "listen_addresses=", "-c", "max_connections=200",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	if err != nil {
		return err
	}
	return c.wait(ctx)
}

// wait returns once the server accepts a connection, has ended, or ctx is done.
func (c *cluster) wait(ctx context.Context) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.url().String())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-poll.C:
		case <-c.process.done:
			return fmt.Errorf("server ended: %w", errors.Join(c.process.err, err))
		case <-ctx.Done():
			return err
		}
	}
}

// stop ends the server, if it runs, and removes the directory.
func (c *cluster) stop() error {
	if c.process != nil {
		c.process.end()
	}
	return os.RemoveAll(c.dir)
}

func (c *cluster) log() string { return filepath.Join(c.dir, "log") }

// url names the port as well, or PGPORT in the environment would decide it.
func (c *cluster) url() *url.URL {
	return &url.URL{Scheme: "postgres", Path: "/postgres", RawQuery: "host=" + c.dir + "&port=5432&user=postgres&sslmode=disable"}
}

// run starts a server program, with its output appended to the log.
func (c *cluster) run(program string, args ...string) (*process, error) {
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the program has its own copy
	cmd := exec.CommandContext(context.Background(), filepath.Join(c.bin, program), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = c.dir, []string{"HOME=" + c.dir, "PATH=/usr/bin:/bin", "LC_ALL=C"}, c.attr
	cmd.Stdout, cmd.Stderr = log, log
	return launch(cmd)
}

// process is a started program; err is its outcome once done is closed.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// launch starts cmd. The kernel counts the end of the thread that started a
// program as the death of its parent, so that thread is kept until cmd has ended.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// end asks the server for a fast shutdown (SIGINT: open sessions are closed),
// insists with an immediate one (SIGQUIT), and returns when it has ended.
// Signals to a server that has ended already are lost, which is what is wanted.
func (p *process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.done
	}
}

// findPrograms returns the directory that holds initdb and postgres.
func findPrograms() (string, error) {
	if bin := os.Getenv("PG_BIN"); bin != "" {
		return bin, nil
	}
	// initdb and not the directory: an installation of the client alone lacks it.
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, byVersion)), nil
	}
	if found, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(found), nil
	}
	return "", fmt.Errorf("%w: initdb is neither in PG_BIN, /usr/lib/postgresql nor PATH", errUnavailable)
}

// byVersion orders as numbers, since "9.6" is above "15" as text.
func byVersion(a, b string) int { return cmp.Compare(version(a), version(b)) }

// version returns the 15 of /usr/lib/postgresql/15/bin/initdb; 0 if it is no number.
func version(initdb string) float64 {
	v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(initdb))), 64)
	return v
}

// unprivileged returns whom to run the server as: PostgreSQL refuses to run as
// root, so root gives it to the user postgres, else nobody. Others get nil, themselves.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
	}
	return nil, fmt.Errorf("%w: root cannot run it and there is no user postgres or nobody", errUnavailable)
}
