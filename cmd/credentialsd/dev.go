package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/google/uuid"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

type devCommand struct {
	Addr     string `help:"Address of the API; loopback only, port 0 for a free one (default 127.0.0.1:8080)."`
	OpsAddr  string `help:"Address of probes and metrics; loopback only (default 127.0.0.1:9090)."`
	Data     string `help:"Folder that keeps the data; a temporary one if not given." type:"path"`
	Password string `help:"Password of all demo users; random ones if not given."`
	JSON     bool   `help:"Print one JSON line when ready."`
}

// Run serves the API on an embedded database with demo accounts, until the context is over.
func (d devCommand) Run(ctx context.Context, p process) error {
	folder, cleanUp, err := d.folder()
	if err != nil {
		return err
	}
	defer cleanUp()
	sealing, err := d.sealingKey(p, folder)
	if err != nil {
		return err
	}
	getenv := fallback(p.getenv, map[string]string{
		"DATABASE_URL": "sqlite:" + filepath.Join(folder, "credentials.db"), "TOKEN_AUDIENCE": "salesexec", "SEALING_KEY": sealing,
		"LISTEN_ADDR": "127.0.0.1:8080", "OPS_ADDR": "127.0.0.1:9090", "PUBLIC_URL": "http://127.0.0.1",
		"SIGNALS_ALLOWED_NETWORKS": "127.0.0.0/8, ::1", // receivers under development run here
	})
	settings, err := config.Load(getenv)
	if err != nil {
		return err
	}
	l, err := d.listen(ctx, settings)
	if err != nil {
		return err
	}
	if p.getenv("PUBLIC_URL") == "" {
		settings.PublicURL = "http://" + l.api.Addr().String()
	}
	log := newLogger(p.stderr, settings.LogLevel)
	s, err := openStore(ctx, settings, log, p.now)
	if err != nil {
		return errors.Join(err, l.api.Close(), l.ops.Close())
	}
	defer closeQuietly(s)
	if _, err := s.Migrate(ctx); err != nil {
		return err
	}
	demo, err := d.seed(ctx, s, p.now())
	if err != nil {
		return err
	}
	demo.URL, demo.OpsURL = "http://"+l.api.Addr().String(), "http://"+l.ops.Addr().String()
	w := p.wiring(settings, s, log)
	if settings.SMTP == nil {
		if w.mailbox, err = notice.OpenMailbox(filepath.Join(folder, "mail")); err != nil {
			return errors.Join(err, l.api.Close(), l.ops.Close())
		}
		demo.MailURL = demo.URL + "/dev/mail"
	}
	return serve(ctx, w, l, func() error { return d.announce(p, demo) })
}

func (d devCommand) folder() (folder string, cleanUp func(), err error) {
	if d.Data != "" {
		return d.Data, func() {}, os.MkdirAll(d.Data, 0o700)
	}
	folder, err = os.MkdirTemp("", "credentialsd-")
	return folder, func() { _ = os.RemoveAll(folder) }, err // a temporary folder that stays does no harm
}

// sealingKey returns the folder's sealing key, made on first use. Without a folder to keep it in, a database of its own
// URL gets a key made of that URL, so that a second start, or a second replica, reads what the first has sealed.
func (d devCommand) sealingKey(p process, folder string) (string, error) {
	if url := p.getenv("DATABASE_URL"); d.Data == "" && url != "" {
		key := sha256.Sum256([]byte("credentialsd dev: " + url))
		return base64.StdEncoding.EncodeToString(key[:]), nil
	}
	path := filepath.Join(folder, "sealing.key")
	kept, err := os.ReadFile(path)
	if err == nil {
		return string(kept), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the sealing key: %w", err)
	}
	made := base64.StdEncoding.EncodeToString(secret.NewKey())
	return made, os.WriteFile(path, []byte(made), 0o600)
}

// fallback reads a variable and, where neither it nor its file is set, what stands for it.
func fallback(getenv func(string) string, unset map[string]string) func(string) string {
	return func(name string) string {
		if value := getenv(name); value != "" || getenv(name+"_FILE") != "" {
			return value
		}
		return unset[name]
	}
}

// listen refuses every address that somebody else could reach: the demo passwords are shown on the screen.
func (d devCommand) listen(ctx context.Context, settings config.Config) (listeners, error) {
	api, ops := settings.ListenAddr, settings.OpsAddr
	if d.Addr != "" {
		api = d.Addr
	}
	if d.OpsAddr != "" {
		ops = d.OpsAddr
	}
	for _, address := range []string{api, ops} {
		host, _, err := net.SplitHostPort(address)
		if err != nil || !config.IsLoopback(host) {
			return listeners{}, fmt.Errorf("dev listens on loopback only, like 127.0.0.1:8080, not on %q; use serve for anything else", address)
		}
	}
	return listen(ctx, api, ops)
}

// demo is what dev prints when it is ready.
type demo struct {
	URL     string       `json:"url"`
	OpsURL  string       `json:"ops_url"`
	MailURL string       `json:"mail_url,omitempty"` // the mailbox, unless mail goes to SMTP_URL
	Users   []demoUser   `json:"users"`
	Clients []demoClient `json:"clients"`
}

type demoUser struct {
	ID        string `json:"id"`
	Username  string `json:"username"`
	Password  string `json:"password"` // empty when it was set in an earlier run
	Email     string `json:"email"`
	Role      string `json:"role"`
	Team      string `json:"team"`
	AccountID string `json:"account_id"`
	Status    string `json:"status"`
}

type demoClient struct {
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret"`
	Scopes       []string `json:"scopes"`
	AccountID    string   `json:"account_id"`
}

func demoUsers() []user.User {
	of := func(account, name, display string, role user.Role, team user.Team, status user.Status) user.User {
		return user.User{
			AccountID: account, Username: name, Email: name + "@" + account + ".example", EmailVerified: true, DisplayName: display,
			Role: role, Team: team, Status: status, Generation: 1, Version: 1, Revision: 1,
		}
	}
	return []user.User{
		of("demo", "ada", "Ada Marsh", user.Administrator, "/", user.Active),
		of("demo", "erin", "Erin Cole", user.Administrator, "/east/", user.Active),
		of("demo", "alex", "Alex Reed", user.Agent, "/east/", user.Active),
		of("demo", "bo", "Bo Lind", user.Agent, "/east/boston/", user.Active),
		of("demo", "wanda", "Wanda Voss", user.Agent, "/west/", user.Active),
		of("demo", "dora", "Dora Finch", user.Agent, "/east/", user.Disabled),
		of("other", "oscar", "Oscar Hale", user.Administrator, "/", user.Active),
		of("other", "olga", "Olga Brandt", user.Agent, "/", user.Active),
	}
}

// seed makes the demo accounts that are not there yet, and gives the demo client a new secret.
func (d devCommand) seed(ctx context.Context, s *store.Store, now time.Time) (demo, error) {
	for _, account := range []user.Account{{ID: "demo", Name: "Demo Sales"}, {ID: "other", Name: "Other Sales"}} {
		if err := s.CreateAccount(ctx, account); err != nil {
			return demo{}, err
		}
	}
	passwords, err := newDemoPasswords(d.Password)
	if err != nil {
		return demo{}, err
	}
	var made demo
	for _, u := range demoUsers() {
		shown, err := seedUser(ctx, s, passwords, u, now)
		if err != nil {
			return demo{}, err
		}
		made.Users = append(made.Users, shown)
	}
	service, err := seedClient(ctx, s, now)
	if err != nil {
		return demo{}, err
	}
	made.Clients = []demoClient{service}
	return made, nil
}

// seedClient registers the demo client, or gives it a new secret: the one of a run before, or of another replica, stays
// good for a day.
func seedClient(ctx context.Context, s *store.Store, now time.Time) (demoClient, error) {
	registrar := client.NewRegistrar(s, func() time.Time { return now })
	c := client.Client{ID: "demo-service", Name: "Demo service", AccountID: "demo", Scopes: access.Scopes()}
	_, proof, err := registrar.Register(ctx, c)
	if errors.Is(err, client.ErrExists) {
		proof, _, err = registrar.Rotate(ctx, c.ID, 24*time.Hour)
	}
	return demoClient{ClientID: c.ID, ClientSecret: proof.Reveal(), Scopes: c.Scopes, AccountID: c.AccountID}, err
}

func seedUser(ctx context.Context, s *store.Store, passwords *demoPasswords, u user.User, now time.Time) (demoUser, error) {
	id := user.ID(uuid.NewSHA1(uuid.NameSpaceURL, []byte("salesexec-demo:"+u.Username)).String()) // the same in every run, whatever the name is by then
	member, err := s.Member(ctx, id)
	if err == nil {
		known, err := passwords.stillGood(ctx, member.User.Password.Hash)
		return shown(member.User, known), err
	}
	if !errors.Is(err, session.ErrNotFound) {
		return demoUser{}, err
	}
	chosen, hash, err := passwords.next(ctx)
	if err != nil {
		return demoUser{}, err
	}
	u.ID, u.CreatedAt = id, now
	u.Password = user.Password{Hash: hash, SetBy: user.SetByOperator, ChangedAt: &now}
	return shown(u, chosen), createUser(ctx, s, u)
}

// shown describes a demo user with the password that was just set, or "".
func shown(u user.User, chosen secret.Text) demoUser {
	return demoUser{
		ID: string(u.ID), Username: u.Username, Password: chosen.Reveal(), Email: u.Email, Role: string(u.Role), Team: string(u.Team),
		AccountID: u.AccountID, Status: string(u.Status),
	}
}

func (d devCommand) announce(p process, made demo) error {
	if d.JSON {
		return json.NewEncoder(p.stdout).Encode(made)
	}
	return welcome.Execute(p.stdout, map[string]any{"Demo": made, "Alex": made.Users[2], "Ada": made.Users[0], "Client": made.Clients[0]})
}

var welcome = template.Must(template.New("welcome").Parse(`
SalesExec credentials, for development: {{.Demo.URL}} (probes and metrics: {{.Demo.OpsURL}})
{{with .Demo.MailURL}}Mails that would be sent: {{.}}
{{end}}
{{printf "%-8s %-14s %-16s %-9s %-9s %s" "ACCOUNT" "ROLE" "TEAM" "STATUS" "USERNAME" "PASSWORD"}}
{{range .Demo.Users}}{{printf "%-8s %-14s %-16s %-9s %-9s %s" .AccountID .Role .Team .Status .Username .Password}}
{{end}}
Service client: {{.Client.ClientID}} with secret {{.Client.ClientSecret}}

Sign in as alex:
  curl -s {{.Demo.URL}}/sessions -H 'Content-Type: application/json' -d '{"username":"{{.Alex.Username}}","password":"{{.Alex.Password}}"}'
Change the username and the password (TOKEN is the access_token of the answer):
  curl -s -X PATCH {{.Demo.URL}}/users/me/credentials -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"username":"alex.reed","new_password":"maple orbit lantern quiet","current_password":"{{.Alex.Password}}"}'
Reset alex's password as ada (ADA_TOKEN from signing in as ada, password {{.Ada.Password}}):
  curl -s -X POST {{.Demo.URL}}/admin/users/{{.Alex.ID}}/password-reset -H "Authorization: Bearer $ADA_TOKEN"

Stop with Ctrl-C.
`))
