// Package config reads the settings of the service from the environment, all of them at once, and says everything that
// is missing or unsafe in one go.
//
// It depends on packages password (for the bounds of hashing and length), secret, strictjson and user (for the form of
// ids). Nothing else in the project reads the environment.
package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

// Config are the settings of a running service.
type Config struct {
	DatabaseURL            secret.Text
	DatabaseMaxConnections int
	ListenAddr             string
	OpsAddr                string
	PublicURL              string
	TokenAudience          string
	AllowedOrigins         []string
	TrustedProxies         []netip.Prefix
	SealingKey             []byte
	SigningKey             secret.Text // PEM; empty: made and rotated by the service
	SigningKeyMaxAge       time.Duration
	Hashing                password.Params
	HashLanes              int
	HashQueue              int
	HashQueueTimeout       time.Duration
	PasswordMinLength      int
	BreachedPasswords      string // path of the filter; empty: none
	UsernameHold           time.Duration
	SMTP                   *SMTP  // nil: no mail is sent
	AccountURL             string // the app's account page; empty: there is none
	RateLimit              int
	TokenLifetime          time.Duration
	TrustedIssuers         []TrustedIssuer
	SessionMaxAge          time.Duration
	SessionIdleTime        time.Duration
	AuditRetention         time.Duration // 0: audit events are kept for ever
	AuditHeadInterval      time.Duration
	SignalsAllowedNetworks []netip.Prefix
	SignalsPollTimeout     time.Duration
	SignalsRetention       time.Duration
	LogLevel               string
	ShutdownTimeout        time.Duration
}

// LeastRetention is the shortest time that audit events can be kept: what a security incident is looked into with.
const LeastRetention = 30 * 24 * time.Hour

// Variable describes one environment variable.
type Variable struct {
	Name     string
	Default  string // what an unset one means; empty: none
	Required bool
	Secret   bool // can come from the file named by NAME_FILE
	Help     string
}

// Variables returns every variable there is, in the order they are documented.
func Variables() []Variable {
	return []Variable{
		{Name: "DATABASE_URL", Required: true, Secret: true, Help: "postgres://user:password@host/name, or sqlite:PATH for a small installation"},
		{Name: "DATABASE_MAX_CONNECTIONS", Default: "20", Help: "most connections to PostgreSQL, 2 to 500"},
		{Name: "LISTEN_ADDR", Default: ":8080", Help: "address of the API"},
		{Name: "OPS_ADDR", Default: "127.0.0.1:9090", Help: "address of probes and metrics; not to be reached from outside"},
		{Name: "PUBLIC_URL", Required: true, Help: "base URL that callers use and the issuer of tokens; https, without a path"},
		{Name: "TOKEN_AUDIENCE", Required: true, Help: "what access tokens must name as audience, for instance salesexec"},
		{Name: "ALLOWED_ORIGINS", Help: "origins of the browser apps, separated by commas, matched exactly; unset: none"},
		{Name: "TRUSTED_PROXIES", Help: "networks of the proxies whose X-Forwarded-For is believed, separated by commas; unset: none"},
		{Name: "SEALING_KEY", Required: true, Secret: true, Help: "32 random bytes in base64 (openssl rand -base64 32); seals what must be stored but not readable"},
		{Name: "SIGNING_KEY", Secret: true, Help: "Ed25519 private key in PEM (PKCS#8) that signs access tokens; unset: made, stored sealed and rotated by the service"},
		{Name: "SIGNING_KEY_MAX_AGE", Default: "2160h", Help: "age at which a signing key made by the service is replaced, 1h or more"},
		{Name: "ARGON2_MEMORY_KIB", Default: "65536", Help: "argon2id memory of one hash in KiB; with time and threads at or above one of 19456/2/1, 47104/1/1, 12288/3/1"},
		{Name: "ARGON2_TIME", Default: "3", Help: "argon2id passes"},
		{Name: "ARGON2_THREADS", Default: "4", Help: "argon2id threads"},
		{Name: "HASH_LANES", Default: "CPUs", Help: "hashes computed at the same time; memory is lanes times ARGON2_MEMORY_KIB"},
		{Name: "HASH_QUEUE", Default: "32 x lanes", Help: "requests of one kind that wait for a lane before others are answered 503"},
		{Name: "HASH_QUEUE_TIMEOUT", Default: "5s", Help: "longest wait for a lane, 100ms to 30s"},
		{Name: "PASSWORD_MIN_LENGTH", Default: "15", Help: "shortest password in code points where an account sets no other, 8 to 64; below 15 only for those who sign in with a second factor elsewhere"},
		{Name: "BREACHED_PASSWORDS_FILTER", Help: "file made by credentialsd breach build: what is on its list cannot be chosen as password; unset: none"},
		{Name: "USERNAME_HOLD", Default: "4320h", Help: "how long a released username is held for its former owner"},
		{Name: "SMTP_URL", Secret: true, Help: "server that mail is sent through: smtps://user:password@host:465, or smtp://host:587 for STARTTLS; unset: no mail is sent"},
		{Name: "SMTP_CA_FILE", Help: "certificates in PEM that vouch for the SMTP server; unset: the system's"},
		{Name: "MAIL_FROM", Help: "sender of mails, as in SalesExec <no-reply@example.com>; required with SMTP_URL"},
		{Name: "ACCOUNT_URL", Help: "the app's account page, for mails and GET /.well-known/change-password; https"},
		{Name: "RATE_LIMIT_PER_MINUTE", Default: "600", Help: "requests to credential endpoints per minute, for each client address and each subject"},
		{Name: "TOKEN_LIFETIME", Default: "15m", Help: "life of an access token, 1m to 1h"},
		{Name: "TRUSTED_ISSUERS", Secret: true, Help: "JSON array of outside issuers whose access tokens are accepted; unset: none"},
		{Name: "SESSION_IDLE_TIME", Default: "168h", Help: "life of a session that is not refreshed"},
		{Name: "SESSION_MAX_AGE", Default: "720h", Help: "longest life of a session"},
		{Name: "AUDIT_RETENTION", Default: "for ever", Help: "age from which audit events may go, 720h or more: credentialsd audit prune removes them, and the log complains when it is not run"},
		{Name: "AUDIT_HEAD_INTERVAL", Default: "1h", Help: "how often the heads of the audit trails are written into the log, 1m to 24h"},
		{Name: "SIGNALS_ALLOWED_NETWORKS", Help: "networks that events are pushed to although their addresses are not public, separated by commas; unset: none"},
		{Name: "SIGNALS_POLL_TIMEOUT", Default: "25s", Help: "how long a poll for events waits for one, 1s to 28s"},
		{Name: "SIGNALS_RETENTION", Default: "168h", Help: "how long an event waits for its receiver before the stream is disabled, 1h to 720h"},
		{Name: "LOG_LEVEL", Default: "info", Help: "debug, info, warn or error"},
		{Name: "SHUTDOWN_TIMEOUT", Default: "20s", Help: "how long requests under way may take to end after SIGTERM"},
	}
}

// Load reads all variables through getenv (os.Getenv, say) and returns every problem at once, each naming its variable
// but never a secret's value.
func Load(getenv func(string) string) (Config, error) {
	return load(&reader{getenv: getenv, needed: func(v Variable) bool { return v.Required }})
}

// LoadDatabase reads the same variables for a command that only works on the database: nothing but DATABASE_URL is required.
func LoadDatabase(getenv func(string) string) (Config, error) {
	return load(&reader{getenv: getenv, needed: func(v Variable) bool { return v.Name == "DATABASE_URL" }})
}

func load(r *reader) (Config, error) {
	c := Config{
		DatabaseURL:            secret.New(r.text("DATABASE_URL")),
		DatabaseMaxConnections: r.number("DATABASE_MAX_CONNECTIONS", 20, 2, 500),
		ListenAddr:             r.address("LISTEN_ADDR"),
		OpsAddr:                r.address("OPS_ADDR"),
		PublicURL:              r.publicURL("PUBLIC_URL"),
		TokenAudience:          r.text("TOKEN_AUDIENCE"),
		AllowedOrigins:         r.origins("ALLOWED_ORIGINS"),
		TrustedProxies:         r.networks("TRUSTED_PROXIES"),
		SealingKey:             r.key("SEALING_KEY"),
		SigningKey:             secret.New(r.text("SIGNING_KEY")),
		SigningKeyMaxAge:       r.duration("SIGNING_KEY_MAX_AGE", 90*24*time.Hour, time.Hour, 10*365*24*time.Hour),
		Hashing:                r.hashing(),
		HashLanes:              r.number("HASH_LANES", 0, 1, 256),
		HashQueue:              r.number("HASH_QUEUE", 0, 1, 100_000),
		HashQueueTimeout:       r.duration("HASH_QUEUE_TIMEOUT", 5*time.Second, 100*time.Millisecond, 30*time.Second),
		PasswordMinLength:      r.number("PASSWORD_MIN_LENGTH", password.MinLengthDefault, password.MinLengthFloor, password.MinLengthCeiling),
		BreachedPasswords:      r.text("BREACHED_PASSWORDS_FILTER"),
		UsernameHold:           r.duration("USERNAME_HOLD", 180*24*time.Hour, 24*time.Hour, 100*365*24*time.Hour),
		SMTP:                   r.smtp(),
		AccountURL:             r.page("ACCOUNT_URL"),
		RateLimit:              r.number("RATE_LIMIT_PER_MINUTE", 600, 10, 1_000_000),
		TokenLifetime:          r.duration("TOKEN_LIFETIME", 15*time.Minute, time.Minute, time.Hour),
		TrustedIssuers:         r.issuers("TRUSTED_ISSUERS"),
		SessionIdleTime:        r.duration("SESSION_IDLE_TIME", 7*24*time.Hour, 15*time.Minute, 365*24*time.Hour),
		SessionMaxAge:          r.duration("SESSION_MAX_AGE", 30*24*time.Hour, 15*time.Minute, 365*24*time.Hour),
		AuditRetention:         r.duration("AUDIT_RETENTION", 0, LeastRetention, 100*365*24*time.Hour),
		AuditHeadInterval:      r.duration("AUDIT_HEAD_INTERVAL", time.Hour, time.Minute, 24*time.Hour),
		SignalsAllowedNetworks: r.networks("SIGNALS_ALLOWED_NETWORKS"),
		SignalsPollTimeout:     r.duration("SIGNALS_POLL_TIMEOUT", 25*time.Second, time.Second, 28*time.Second),
		SignalsRetention:       r.duration("SIGNALS_RETENTION", 7*24*time.Hour, time.Hour, 30*24*time.Hour),
		LogLevel:               r.oneOf("LOG_LEVEL", "debug", "info", "warn", "error"),
		ShutdownTimeout:        r.duration("SHUTDOWN_TIMEOUT", 20*time.Second, time.Second, 5*time.Minute),
	}
	r.checkDatabase(c.DatabaseURL.Reveal())
	if len(r.problems) > 0 {
		return Config{}, errors.Join(r.problems...)
	}
	return c, nil
}

// reader reads variables and collects what is wrong with them.
type reader struct {
	getenv   func(string) string
	needed   func(Variable) bool
	problems []error
}

func (r *reader) problem(name, format string, values ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s %s", name, fmt.Sprintf(format, values...)))
}

// text returns the variable, or the content of the file that NAME_FILE names if it is a secret.
func (r *reader) text(name string) string {
	variable := describe(name)
	value := r.getenv(name)
	if variable.Secret {
		value = r.fromFile(name, value)
	}
	if value != "" {
		return value
	}
	if r.needed(variable) {
		r.problem(name, "is not set: %s", variable.Help)
	}
	return variable.Default
}

func (r *reader) fromFile(name, value string) string {
	path := r.getenv(name + "_FILE")
	if path == "" {
		return value
	}
	if value != "" {
		r.problem(name, "and %s_FILE are both set: use one", name)
		return value
	}
	content, err := os.ReadFile(path)
	if err != nil {
		r.problem(name+"_FILE", "cannot be read: %v", err)
		return ""
	}
	return strings.TrimRight(string(content), "\r\n")
}

func describe(name string) Variable {
	for _, v := range Variables() {
		if v.Name == name {
			return v
		}
	}
	return Variable{Name: name}
}

func (r *reader) number(name string, unset, least, most int) int {
	text := r.getenv(name)
	if text == "" {
		return unset
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		r.problem(name, "must be a whole number from %d to %d, not %q", least, most, text)
		return unset
	}
	return n
}

func (r *reader) duration(name string, unset, least, most time.Duration) time.Duration {
	text := r.getenv(name)
	if text == "" {
		return unset
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		r.problem(name, "must be a duration like 90s or 12h from %s to %s, not %q", least, most, text)
		return unset
	}
	return d
}

func (r *reader) oneOf(name string, allowed ...string) string {
	text := r.text(name)
	for _, a := range allowed {
		if text == a {
			return text
		}
	}
	r.problem(name, "must be one of %s, not %q", strings.Join(allowed, ", "), text)
	return text
}

func (r *reader) list(name string) []string {
	var items []string
	for item := range strings.SplitSeq(r.text(name), ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func (r *reader) address(name string) string {
	text := r.text(name)
	if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
		r.problem(name, "must be an address like 127.0.0.1:8080 or :8080, not %q", text)
	}
	return text
}

func (r *reader) publicURL(name string) string {
	text := r.text(name)
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		r.problem(name, "must be an origin like https://credentials.example.com, not %q", text)
		return ""
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && IsLoopback(u.Hostname())) {
		r.problem(name, "must be https: passwords and tokens travel to it")
	}
	return u.Scheme + "://" + u.Host
}

// IsLoopback tells whether the host is this machine alone.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// origins are matched exactly, so each must be exactly what a browser sends.
func (r *reader) origins(name string) []string {
	items := r.list(name)
	for _, item := range items {
		u, err := url.Parse(item)
		if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != item || strings.Contains(item, "*") || strings.ToLower(item) != item || (u.Scheme != "https" && !(u.Scheme == "http" && IsLoopback(u.Hostname()))) {
			r.problem(name, "must hold https origins like https://app.example.com in lower case, neither *, null nor a path; %q is none", item)
		}
	}
	return items
}

func (r *reader) networks(name string) []netip.Prefix {
	var found []netip.Prefix
	for _, item := range r.list(name) {
		prefix, err := netip.ParsePrefix(item)
		if address, addressErr := netip.ParseAddr(item); addressErr == nil {
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			r.problem(name, "must hold networks like 10.0.0.0/8; %q is none", item)
			continue
		}
		if prefix.Bits() == 0 {
			r.problem(name, "must not trust everybody: %q", item)
		}
		found = append(found, prefix)
	}
	return found
}

func (r *reader) key(name string) []byte {
	text := r.text(name)
	if text == "" {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != secret.KeySize {
		r.problem(name, "must be %d random bytes in base64 (openssl rand -base64 32)", secret.KeySize)
		return nil
	}
	if isPatterned(key) {
		r.problem(name, "is not random: make one with openssl rand -base64 32")
	}
	return key
}

// isPatterned spots keys that a person typed: 32 random bytes have fewer than 16 different values once in 10^14 keys.
func isPatterned(key []byte) bool {
	different := map[byte]bool{}
	for _, b := range key {
		different[b] = true
	}
	return len(different) < 16
}

func (r *reader) hashing() password.Params {
	unset := password.DefaultParams()
	p := password.Params{
		MemoryKiB: uint32(r.number("ARGON2_MEMORY_KIB", int(unset.MemoryKiB), 1, 1<<20)), //nolint:gosec // bounded just here
		Time:      uint32(r.number("ARGON2_TIME", int(unset.Time), 1, 16)),               //nolint:gosec // bounded just here
		Threads:   uint8(r.number("ARGON2_THREADS", int(unset.Threads), 1, 16)),          //nolint:gosec // bounded just here
	}
	if err := p.Validate(); err != nil {
		r.problem("ARGON2_MEMORY_KIB, ARGON2_TIME, ARGON2_THREADS", "are unsafe: %v", err)
	}
	return p
}

func (r *reader) checkDatabase(text string) {
	switch {
	case text == "", strings.HasPrefix(text, "sqlite:") && len(text) > len("sqlite:"):
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		if _, err := url.Parse(text); err != nil {
			r.problem("DATABASE_URL", "is not a URL (its value is not shown)")
		}
	default:
		r.problem("DATABASE_URL", "must begin with postgres:// or sqlite: (its value is not shown)")
	}
}
