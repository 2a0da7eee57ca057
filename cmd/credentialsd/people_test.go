package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// people adds users to a running service, through the store.
type people struct {
	s  *service
	db *store.Store
}

func peopleOf(s *service) people { return people{s: s, db: s.database()} }

// in returns the same people for a subtest, whose failures are then its own.
func (p people) in(t *testing.T) people {
	s := *p.s
	s.t = t
	return people{s: &s, db: p.db}
}

// person is a signed-in user of the demo account.
type person struct {
	people
	id, name, pw, token string
}

// add makes a user with demoPassword, adjusted, and signs in.
func (p people) add(name string, adjust ...func(*user.User)) *person {
	p.s.t.Helper()
	now := p.s.clock.now()
	u := user.User{
		ID: user.ID("id-of-" + strings.ReplaceAll(name, ".", "-")), AccountID: "demo", Team: "/east/", Role: user.Agent, Status: user.Active,
		Username: name, Email: name + "@demo.example", EmailVerified: true, Generation: 1, Version: 1, Revision: 1, CreatedAt: now,
		Password: user.Password{Hash: fastHash(p.s.t, demoPassword), SetBy: user.SetByOperator, ChangedAt: &now},
	}
	for _, a := range adjust {
		a(&u)
	}
	if err := createUser(context.Background(), p.db, u); err != nil {
		p.s.t.Fatal(err)
	}
	return &person{people: p, id: string(u.ID), name: name, pw: demoPassword, token: p.s.token(name, demoPassword)}
}

// row returns the user as it is stored.
func (p people) row(id string) user.User {
	p.s.t.Helper()
	member, err := p.db.Member(context.Background(), user.ID(id))
	if err != nil {
		p.s.t.Fatal(err)
	}
	return member.User
}

// alter changes the stored user behind the service's back.
func (p people) alter(id string, adjust func(*user.User)) {
	p.s.t.Helper()
	before := p.row(id)
	after := before
	adjust(&after)
	_, err := p.db.Commit(context.Background(), change.Change{
		At: p.s.clock.now(), User: &after, Target: &change.Guard{UserID: before.ID, Revision: before.Revision},
	})
	if err != nil {
		p.s.t.Fatal(err)
	}
}

// choose changes the person's password, and keeps what came of it.
func (p *person) choose(chosen string) answer {
	p.s.t.Helper()
	a := p.s.change(p.token, map[string]string{"new_password": chosen, "current_password": p.pw})
	if a.status == http.StatusOK {
		p.pw, p.token = chosen, a.text("access_token")
	}
	return a
}

// accepts checks that the password is taken, and that it and it alone signs in afterwards.
func (p *person) accepts(chosen string) {
	p.s.t.Helper()
	p.s.want(p.choose(chosen), http.StatusOK, "")
	p.s.want(p.s.signIn(p.name, chosen), http.StatusCreated, "")
}

// refuses checks that the password is refused for exactly these reasons.
func (p *person) refuses(chosen string, codes ...string) {
	p.s.t.Helper()
	a := p.s.want(p.choose(chosen), http.StatusUnprocessableEntity, "policy_violation")
	for i := range codes {
		codes[i] = "/new_password " + codes[i]
	}
	if !slices.Equal(a.fieldCodes(), codes) {
		p.s.t.Errorf("%.40q: %v, want %v", chosen, a.fieldCodes(), codes)
	}
}

// fastHash hashes with the parameters that the tests' service uses.
func fastHash(t *testing.T, pw string) string {
	t.Helper()
	return hashWith(t, password.Params{MemoryKiB: 12288, Time: 3, Threads: 1}, pw)
}

func hashWith(t *testing.T, params password.Params, pw string) string {
	t.Helper()
	hasher, err := password.NewHasher(password.HasherConfig{Params: params})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := hasher.Hash(context.Background(), password.Staff, secret.New(pw))
	if err != nil {
		t.Fatal(err)
	}
	return hash
}
