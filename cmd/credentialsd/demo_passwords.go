package main

import (
	"context"

	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
)

// demoPasswords gives the demo users their passwords: everybody the one of --password, or each one of their own.
type demoPasswords struct {
	hasher *password.Hasher
	common secret.Text     // of --password, or empty
	hash   string          // of common, once made; that everybody has the same password is no secret here
	good   map[string]bool // whether a hash that was looked at is of common
}

// newDemoPasswords hashes with the least allowed parameters, which lets dev start at once; the first sign-in upgrades the
// hash to those of the settings.
func newDemoPasswords(common string) (*demoPasswords, error) {
	hasher, err := password.NewHasher(password.HasherConfig{Params: password.Params{MemoryKiB: 12288, Time: 3, Threads: 1}})
	return &demoPasswords{hasher: hasher, common: secret.New(common), good: map[string]bool{}}, err
}

// next returns the password of the next new user, and its hash.
func (p *demoPasswords) next(ctx context.Context) (secret.Text, string, error) {
	if p.common.Empty() {
		own, err := password.GeneratePassphrase()
		if err != nil {
			return secret.Text{}, "", err
		}
		hash, err := p.hasher.Hash(ctx, password.Staff, own)
		return own, hash, err
	}
	if p.hash == "" {
		hash, err := p.hasher.Hash(ctx, password.Staff, p.common)
		if err != nil {
			return secret.Text{}, "", err
		}
		p.hash = hash
	}
	return p.common, p.hash, nil
}

// stillGood returns the password of --password if hash is of it, else an empty one: it was set in an earlier run.
func (p *demoPasswords) stillGood(ctx context.Context, hash string) (secret.Text, error) {
	if p.common.Empty() || hash == "" {
		return secret.Text{}, nil
	}
	if _, looked := p.good[hash]; !looked {
		verdict, err := p.hasher.Verify(ctx, password.Staff, hash, p.common)
		if err != nil {
			return secret.Text{}, err
		}
		p.good[hash] = verdict.Match
	}
	if !p.good[hash] {
		return secret.Text{}, nil
	}
	return p.common, nil
}
