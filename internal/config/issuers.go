package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/salesexec/credentials/internal/strictjson"
	"github.com/salesexec/credentials/internal/user"
)

// TrustedIssuer is an outside issuer whose access tokens are accepted.
type TrustedIssuer struct {
	Issuer             string
	Audience           string
	KeysURL            string
	Keys               string // what is in the key file; empty if there is a KeysURL
	Algorithms         []string
	Accounts           []string // that it may speak for; "*" alone: all
	AccountClaim       string   // empty: the tokens are of the one account
	RoleClaim          string
	AdministratorRoles []string
	RequiredScope      string
	MaxTokenLife       time.Duration // 0: the default
	AllowMissingTyp    bool
}

// everyAccount stands in TrustedIssuer.Accounts for all of them.
const everyAccount = "*"

// What a trusted issuer's entry means where it says nothing.
const (
	defaultAccountClaim  = "account_id"
	defaultRoleClaim     = "roles"
	defaultAdministrator = "administrator"
)

// issuerEntry is one issuer as it is written.
type issuerEntry struct {
	Issuer             string   `json:"issuer"`
	Audience           string   `json:"audience"`
	JWKSURL            string   `json:"jwks_url"`
	KeyFile            string   `json:"key_file"`
	Algorithms         []string `json:"algorithms"`
	Accounts           []string `json:"accounts"`
	AccountClaim       string   `json:"account_claim"`
	RoleClaim          string   `json:"role_claim"`
	AdministratorRoles []string `json:"administrator_roles"`
	RequiredScope      string   `json:"required_scope"`
	MaxTokenLife       string   `json:"max_token_life"`
	AllowMissingTyp    bool     `json:"allow_missing_typ"`
}

// issuers reads a JSON array of issuers, and says everything that is wrong with each.
func (r *reader) issuers(name string) []TrustedIssuer {
	text := r.text(name)
	if text == "" {
		return nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal([]byte(text), &entries); err != nil {
		r.problem(name, "must be a JSON array of issuers")
		return nil
	}
	var issuers []TrustedIssuer
	for i, raw := range entries {
		problem := func(format string, values ...any) {
			r.problem(name, "issuer %d: %s", i+1, fmt.Sprintf(format, values...))
		}
		var entry issuerEntry
		if err := strictjson.Decode(raw, &entry); err != nil {
			problem("%v", err)
			continue
		}
		issuer := entry.read(problem)
		taken := func(other TrustedIssuer) bool { return other.Issuer == issuer.Issuer }
		if slices.ContainsFunc(issuers, taken) {
			problem("issuer %q is there already", issuer.Issuer)
		}
		issuers = append(issuers, issuer)
	}
	return issuers
}

func (e issuerEntry) read(problem func(format string, values ...any)) TrustedIssuer {
	issuer := TrustedIssuer{
		Issuer: e.Issuer, Audience: e.Audience, KeysURL: e.JWKSURL, Algorithms: e.Algorithms, Accounts: e.Accounts, AccountClaim: e.AccountClaim,
		RoleClaim: e.RoleClaim, AdministratorRoles: e.AdministratorRoles, RequiredScope: e.RequiredScope, AllowMissingTyp: e.AllowMissingTyp,
	}
	if e.Issuer == "" || e.Audience == "" {
		problem("issuer and audience must be given")
	}
	if len(e.Algorithms) == 0 {
		problem("algorithms must name at least one, like RS256")
	}
	e.readKeys(&issuer, problem)
	e.readAccounts(&issuer, problem)
	if issuer.RoleClaim == "" {
		issuer.RoleClaim = defaultRoleClaim
	}
	if issuer.AdministratorRoles == nil {
		issuer.AdministratorRoles = []string{defaultAdministrator}
	}
	if e.MaxTokenLife != "" {
		life, err := time.ParseDuration(e.MaxTokenLife)
		if err != nil || life < time.Minute || life > 24*time.Hour {
			problem("max_token_life must be a duration like 15m from 1m to 24h, not %q", e.MaxTokenLife)
		}
		issuer.MaxTokenLife = life
	}
	return issuer
}

// readKeys takes keys from a URL that cannot be read or altered on the way, or from a file.
func (e issuerEntry) readKeys(issuer *TrustedIssuer, problem func(format string, values ...any)) {
	switch {
	case (e.JWKSURL == "") == (e.KeyFile == ""):
		problem("exactly one of jwks_url and key_file must be given")
	case e.KeyFile != "":
		content, err := os.ReadFile(e.KeyFile)
		if err != nil {
			problem("key_file cannot be read: %v", err)
		}
		issuer.Keys = string(content)
	default:
		u, err := url.Parse(e.JWKSURL)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
			problem("jwks_url must be a URL like https://login.example.com/keys")
		} else if u.Scheme != "https" && !(u.Scheme == "http" && IsLoopback(u.Hostname())) {
			problem("jwks_url must be https: whoever answers there can sign tokens")
		}
	}
}

func (e issuerEntry) readAccounts(issuer *TrustedIssuer, problem func(format string, values ...any)) {
	every := slices.Equal(e.Accounts, []string{everyAccount})
	valid := func(account string) bool { return user.ID(account).Valid() }
	if len(e.Accounts) == 0 || !every && slices.ContainsFunc(e.Accounts, func(a string) bool { return !valid(a) }) {
		problem(`accounts must name those that the issuer may speak for, or be ["*"]; not [%s]`, strings.Join(e.Accounts, ", "))
		return
	}
	if e.AccountClaim == "" && (every || len(e.Accounts) > 1) {
		issuer.AccountClaim = defaultAccountClaim
	}
}
