package config_test

import (
	"encoding/base64"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

func good() map[string]string {
	return map[string]string{
		"DATABASE_URL": "postgres://service:s3cret@db/credentials", "PUBLIC_URL": "https://credentials.example.com", "TOKEN_AUDIENCE": "salesexec",
		"SEALING_KEY": base64.StdEncoding.EncodeToString(secret.NewKey()),
	}
}

func load(variables map[string]string) (config.Config, error) {
	return config.Load(func(name string) string { return variables[name] })
}

// HASH-03, PW-01: what an unset variable means.
func TestLoad_defaults(t *testing.T) {
	c, err := load(good())
	if err != nil {
		t.Fatal(err)
	}
	if c.Hashing != (password.Params{MemoryKiB: 65536, Time: 3, Threads: 4}) || c.PasswordMinLength != 15 || c.UsernameHold != 180*24*time.Hour ||
		c.RateLimit != 600 || c.TokenLifetime != 15*time.Minute || c.HashQueueTimeout != 5*time.Second {
		t.Fatalf("got %+v", c)
	}
}

// CFG-01, CFG-02, HASH-02, JWT-03: everything that is missing is named at once.
func TestLoad_missing(t *testing.T) {
	_, err := load(nil)
	for _, name := range []string{"DATABASE_URL", "PUBLIC_URL", "TOKEN_AUDIENCE", "SEALING_KEY"} {
		if err == nil || !strings.Contains(err.Error(), name+" is not set") {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}

// CFG-01, CFG-04, HASH-02, COR-01, THR-09: what is unsafe is refused by name, all at once, and no secret's value is shown.
func TestLoad_unsafe(t *testing.T) {
	all := map[string]string{
		"DATABASE_URL": "mysql://root:hunter2@db/x", "PUBLIC_URL": "http://credentials.example.com", "TOKEN_AUDIENCE": "salesexec",
		"SEALING_KEY": base64.StdEncoding.EncodeToString([]byte("only thirty-one bytes are here!")), "ARGON2_MEMORY_KIB": "19456", "ARGON2_TIME": "1", "ARGON2_THREADS": "1",
		"ALLOWED_ORIGINS": "https://app.example.com,*,null,https://*.example.com", "TRUSTED_PROXIES": "0.0.0.0/0", "PASSWORD_MIN_LENGTH": "7",
		"LISTEN_ADDR": "8080", "HASH_QUEUE_TIMEOUT": "5", "LOG_LEVEL": "loud", "HASH_LANES": "0", "RATE_LIMIT_PER_MINUTE": "many",
	}
	_, err := load(all)
	if err == nil {
		t.Fatal("accepted")
	}
	for name := range all {
		if name != "TOKEN_AUDIENCE" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), all["SEALING_KEY"]) {
		t.Errorf("a secret is shown: %v", err)
	}
	typed := good()
	typed["SEALING_KEY"] = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32)))
	if _, err := load(typed); err == nil {
		t.Error("a key of one repeated byte was accepted")
	}
}

func TestLoad_secretFromFile(t *testing.T) {
	variables := good()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(variables["SEALING_KEY"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := variables["SEALING_KEY"]
	delete(variables, "SEALING_KEY")
	variables["SEALING_KEY_FILE"] = path
	c, err := load(variables)
	if err != nil || base64.StdEncoding.EncodeToString(c.SealingKey) != key {
		t.Fatalf("not read from the file: %v", err)
	}
	variables["SEALING_KEY"] = key
	if _, err := load(variables); err == nil || !strings.Contains(err.Error(), "SEALING_KEY_FILE") {
		t.Fatalf("both were accepted: %v", err)
	}
}

// THR-11, CFG-01: README.md documents every variable with its default.
func TestVariables_areDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Variables() {
		unset := "none"
		if v.Default != "" {
			unset = "`" + v.Default + "`"
		}
		if v.Required {
			unset = "**required**"
		}
		name := "`" + v.Name + "`"
		if v.Secret {
			name += " †"
		}
		if row := "| " + name + " | " + unset + " | " + v.Help + " |"; !strings.Contains(string(readme), row) {
			t.Errorf("README.md must hold\n%s", row)
		}
	}
}

// CFG-01, CFG-02: how mail is sent, with the ports that the schemes have (RFC 8314 section 3.3).
func TestLoad_mail(t *testing.T) {
	if c, err := load(good()); err != nil || c.SMTP != nil || c.AccountURL != "" {
		t.Fatalf("no mail by default: %+v, %v", c, err)
	}
	variables := good()
	variables["MAIL_FROM"], variables["ACCOUNT_URL"] = "SalesExec <no-reply@example.com>", "https://app.example.com/account?tab=security#top"
	for given, want := range map[string]config.SMTP{
		"smtps://mail.example.com":                    {Host: "mail.example.com", Port: 465, ImplicitTLS: true},
		"smtps://mail.example.com:2465/":              {Host: "mail.example.com", Port: 2465, ImplicitTLS: true},
		"smtp://mail.example.com":                     {Host: "mail.example.com", Port: 587},
		"smtp://user%40x:p%2Fw%23@[2001:db8::1]:2525": {Host: "2001:db8::1", Port: 2525, Username: "user@x", Password: secret.New("p/w#")},
	} {
		want.From = mail.Address{Name: "SalesExec", Address: "no-reply@example.com"}
		variables["SMTP_URL"] = given
		c, err := load(variables)
		if err != nil || c.SMTP == nil || *c.SMTP != want || c.AccountURL != "https://app.example.com/account?tab=security#top" {
			t.Errorf("%s: %+v, %v", given, c.SMTP, err)
		}
	}
	path := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(path, []byte("smtps://from-a-file.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(variables, "SMTP_URL")
	variables["SMTP_URL_FILE"] = path
	if c, err := load(variables); err != nil || c.SMTP.Host != "from-a-file.example.com" {
		t.Errorf("%+v, %v", c.SMTP, err)
	}
}

// CFG-01, CFG-02: what is wrong with the settings of mail is named at once, without the password.
func TestLoad_unsafeMail(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string][]string{
		"SMTP_URL": {
			"mail.example.com", "smtps://", "http://canary:canary@mail.example.com", "smtps://canary@mail.example.com", "smtps://:canary@mail.example.com",
			"smtps://canary:canary@mail.example.com/path", "smtps://canary:canary@mail.example.com?x=y", "smtps://canary:canary@mail.example.com:0",
			"smtps://canary:canary@mail.example.com:99999", "smtps://canary:can#ary@mail.example.com", "smtps://canary:can%ary@mail.example.com", "smtp:canary",
		},
		"MAIL_FROM":    {"", "nobody", "a@example.com, b@example.com", "a@example.com\r\nBcc: b@example.com"},
		"SMTP_CA_FILE": {"/nowhere/ca.pem", noPEM},
		"ACCOUNT_URL":  {"http://app.example.com/account", "app.example.com/account", "https://user:pw@app.example.com", "javascript:alert(1)", "https://"},
	} {
		for _, value := range values {
			variables := good()
			variables["SMTP_URL"], variables["MAIL_FROM"] = "smtps://mail.example.com", "no-reply@example.com"
			variables[name] = value
			_, err := load(variables)
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s=%q: %v", name, value, err)
			}
		}
	}
	variables := good()
	variables["SMTP_URL"], variables["SMTP_CA_FILE"], variables["ACCOUNT_URL"] = "ftp://x", "/nowhere", "x"
	_, err := load(variables)
	for _, name := range []string{"SMTP_URL", "SMTP_CA_FILE", "MAIL_FROM", "ACCOUNT_URL"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}
