package credential_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/notice"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

const current = "the password in force now"

// memory has one user for each id that is asked for, with the settings of an account, and forgets what is saved.
type memory struct {
	credential.Store // what is not asked for here would panic
	account          user.Account
	hash             string
	mu               sync.Mutex
	states           map[string]throttle.State
}

func (s *memory) user(id user.ID) user.User {
	return user.User{
		ID: id, AccountID: "acme", Team: "/", Role: user.Agent, Status: user.Active, Username: "quillfeather", Email: "mo1988@mail.example", EmailVerified: true,
		DisplayName: "Maria Ortiz", Password: user.Password{Hash: s.hash}, Generation: 1, Version: 1, Revision: 1,
	}
}

func (s *memory) Member(_ context.Context, id user.ID) (session.Member, error) {
	return session.Member{User: s.user(id), Account: s.account}, nil
}

func (s *memory) Token(_ context.Context, digest string, purpose change.Purpose) (change.Token, error) {
	return change.Token{Digest: digest, UserID: "by-link", AccountID: "acme", Purpose: purpose, ExpiresAt: time.Now().Add(time.Hour)}, nil
}

func (s *memory) Commit(context.Context, change.Change) (change.Result, error) {
	return change.Result{}, nil
}

func (s *memory) Renewed(context.Context, access.Actor, user.User) (change.Renew, session.Tokens, error) {
	return change.Renew{}, session.Tokens{}, nil
}

func (s *memory) UpdateThrottles(_ context.Context, _ string, keys []string, apply func([]throttle.State) ([]throttle.State, bool)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]throttle.State, len(keys))
	for i, key := range keys {
		states[i] = s.states[key]
	}
	if states, write := apply(states); write {
		for i, key := range keys {
			s.states[key] = states[i]
		}
	}
	return nil
}

func (s *memory) AllowRate(context.Context, string, int, time.Duration, time.Time) (throttle.Allowance, error) {
	return throttle.Allowance{Allowed: true}, nil
}

// house is the use cases of one account.
type house struct {
	*credential.Manager
	store *memory
}

func newHouse(t *testing.T, account user.Account) house {
	t.Helper()
	blocklist, err := password.LoadBlocklist()
	if err != nil {
		t.Fatal(err)
	}
	// New hashes cost the least there is; the stored one next to nothing, so that a wrong guess of the policy is all that is paid.
	hasher, err := password.NewHasher(password.HasherConfig{
		Params: password.Params{MemoryKiB: 12288, Time: 3, Threads: 1}, Lanes: 32, Queue: 1 << 20, QueueTimeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hasher.Hash(t.Context(), password.People, secret.New("what a hash costs")); err != nil { // before it knows, it spends that on every verification
		t.Fatal(err)
	}
	salt := []byte("eight by")
	encode := base64.RawStdEncoding.EncodeToString
	s := &memory{account: account, states: map[string]throttle.State{}}
	s.hash = fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", encode(salt), encode(argon2.IDKey([]byte(current), salt, 1, 8, 1, 16)))
	return house{
		Manager: credential.New(credential.Config{
			Policy: password.Policy{MinLength: 15, Blocklist: blocklist}, HoldTime: time.Hour, Notices: notice.NewComposer(false), Now: time.Now,
			Log: slog.New(slog.DiscardHandler),
		}, s, hasher, throttle.New(s, time.Hour, time.Now), s),
		store: s,
	}
}

// candidate is a password that somebody tries, with a new username or without.
type candidate struct {
	password string
	username *string
}

// answers are what the doors say of a candidate: "code detail" of each violation.
type answers struct {
	dryRun, dryRunAlone      []string // with the username, and without
	change, reset, byTheLink []string
	refusedName              bool
}

// ask brings the candidate to every door. id makes a user of its own, so that one does not wait for another.
func (h house) ask(ctx context.Context, c candidate, id user.ID) (answers, error) {
	var a answers
	self := access.Actor{Kind: access.Person, User: h.store.user(id), Role: user.Agent, Account: h.store.account, SessionID: "s", SignedInAt: time.Now()}
	chosen, now := secret.New(c.password), secret.New(current)
	for into, username := range map[*[]string]*string{&a.dryRun: c.username, &a.dryRunAlone: nil} {
		found, err := h.CheckPassword(self, chosen, username)
		if err != nil {
			return a, err
		}
		for _, v := range found {
			*into = append(*into, v.Code+" "+v.Detail)
		}
	}
	_, err := h.ChangeOwn(ctx, self, credential.ChangeOwn{NewPassword: &chosen, CurrentPassword: &now, Username: c.username})
	if a.change, a.refusedName, err = refusals(err); err != nil {
		return a, fmt.Errorf("change: %w", err)
	}
	boss := access.Actor{Kind: access.Person, User: h.store.user("boss"), Role: user.Administrator, Account: h.store.account}
	boss.User.Role = user.Administrator
	_, err = h.Reset(ctx, boss, id, credential.Reset{Method: user.Set, NewPassword: &chosen})
	if a.reset, _, err = refusals(err); err != nil {
		return a, fmt.Errorf("reset: %w", err)
	}
	err = h.RedeemReset(ctx, credential.Redemption{Token: secret.New("token")}, chosen)
	if a.byTheLink, _, err = refusals(err); err != nil {
		return a, fmt.Errorf("link: %w", err)
	}
	return a, nil
}

// refusals lists what an enforcing door has against the password, the current one aside, and tells whether it refused the name.
func refusals(err error) (found []string, name bool, other error) {
	rejected, ok := errors.AsType[*change.RejectedError](err)
	if !ok {
		return nil, false, err
	}
	for _, f := range rejected.Fields {
		switch {
		case f.Pointer == "/username":
			name = true
		case f.Pointer != "/new_password":
			return nil, name, err
		case f.Code != password.CodeSameAsCurrent:
			found = append(found, f.Code+" "+f.Detail)
		}
	}
	return found, name, nil
}

// generator makes passwords that people and attackers try. The seed is fixed: a failure can be seen again.
type generator struct {
	*rand.Rand
	common []string
}

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) candidate() candidate {
	c := candidate{password: g.text()}
	switch g.IntN(6) {
	case 0:
		name := g.pick("crystal.lake", "CRYSTAL.LAKE", "crystal", "x", "admin", "mo1988@mail.example", "maria ortiz", "\u0430lice", strings.Repeat("n", 70), "")
		c.username = &name
	case 1: // the name that is wanted, and the one that is given up, which stands nowhere else
		c.username = &[]string{"crystal.lake"}[0]
		c.password = g.around(g.pick("crystal.lake", "quillfeather"))
	}
	return c
}

func (g generator) text() string {
	switch g.IntN(10) {
	case 0: // too short or too long for most
		return g.runes(g.outOfBounds(15), ' ', '~')
	case 1:
		return g.runes(g.outOfBounds(15), 0, 0x10FFFF)
	case 2: // combining marks, which NFC takes together, and letters that NFKC takes apart, with a word that is known
		return "maria" + strings.Repeat(g.pick("e\u0301", "\u1e9b\u0323", "a\u0315\u0300\u05ae\u0300", "\ufb01", "\u212b", "\ufdfa", "\u0344"), g.outOfBounds(2))
	case 3:
		return g.pick(g.common...)
	case 4:
		return strings.ToUpper(g.pick(g.common...))
	case 5: // full width, which folds to ASCII
		return strings.Map(func(r rune) rune {
			if '!' <= r && r <= '~' {
				return r + 0xFEE0
			}
			return r
		}, g.pick(g.around("maria"), g.pick(g.common...)))
	case 6, 7:
		return g.around(g.pick("maria", "ortiz", "Maria.Ortiz", "mo1988", "mail.example", "acme", "Acme Anvils", "salesexec", "quillfeather", "roadrunner", "coyote", "ROADRUNNER-COYOTE"))
	case 8: // control characters and what is no text at all
		return g.runes(g.length(), ' ', '~') + g.pick("\x00", "\t", "\r\n", "\x7f", "\u0085", "\uffff", "\xff", "\xc0\x80", "\xed\xa0\x80", "\u202e")
	case 9:
		return strings.Repeat(g.pick("a", "\u0301", "\xff", "maria"), 1<<g.IntN(15))
	}
	return g.plain()
}

// plain is what people should choose, of any length, and the password in force.
func (g generator) plain() string {
	switch g.IntN(5) {
	case 0:
		return g.runes(g.length(), ' ', '~')
	case 1: // any code points, unassigned ones and noncharacters too
		return g.runes(g.length(), 0, 0x10FFFF)
	case 2:
		return current
	case 3:
		return strings.Repeat("e\u0301k", 1+g.IntN(70)) // as many in NFC as the bounds ask for, and more as they are sent
	}
	return g.pick("maple orbit lantern quiet", "kitchen oboe gravel ", "正しい馬電池の綴じ金具と青い空") + g.runes(g.IntN(4), 'a', 'z')
}

// outOfBounds is a length below the given one, or above the greatest that is allowed.
func (g generator) outOfBounds(least int) int {
	if g.IntN(2) == 0 {
		return g.IntN(least)
	}
	return password.MaxLength + 1 + g.IntN(20)
}

// length is near one of the bounds, where doors could differ.
func (g generator) length() int {
	return max(0, []int{0, 8, 15, 20, 64, 128}[g.IntN(6)]+g.IntN(5)-2)
}

func (g generator) runes(n int, least, most rune) string {
	var text strings.Builder
	for range n {
		text.WriteRune(least + g.Int32N(most-least+1))
	}
	return text.String()
}

// around hides a word among digits and signs, or in a phrase.
func (g generator) around(word string) string {
	text := strings.Repeat(word+g.pick("", "1", "-", " "), 1+g.IntN(4))
	text = g.pick("", "20", "!!") + text + g.pick("", "1234567", "2026-11-26", "!?", "\u0661\u0662\u0663")
	if g.IntN(30) == 0 {
		text += g.pick(" lantern", "x", " oboe gravel")
	}
	return text
}

// candidates returns so many, apart from each other those that are refused and those that are accepted, of which there are at
// most dear: each of them is hashed by every door.
func (h house) candidates(t *testing.T, g generator, each, dear int) (refused, accepted []candidate) {
	t.Helper()
	for len(refused)+len(accepted) < each {
		c := g.candidate()
		found, err := h.CheckPassword(access.Actor{Kind: access.Person, User: h.store.user("self"), Account: h.store.account}, secret.New(c.password), c.username)
		switch {
		case err != nil:
			t.Fatal(err)
		case len(found) > 0:
			refused = append(refused, c)
		case len(accepted) < dear:
			accepted = append(accepted, c)
		}
	}
	return refused, accepted
}

// policies are what accounts ask for: the deployment's, and each bound.
func policies() []user.Policy {
	words := []string{"coyote", "roadrunner"}
	return []user.Policy{
		{}, {BlockedWords: words}, {MinLength: 8, BlockedWords: words}, {MinLength: 20}, {MinLength: 64, BlockedWords: words, HoldDays: 30},
	}
}

// Issue "one policy, three doors", peers bug 20: of 10,000 passwords, hostile ones among them, the dry run says what the doors
// say that enforce: the own change, the administrator's reset, and the mailed link; code by code and word by word, the current
// password aside. All of it is the enforcing code: what is accepted is hashed.
func TestDoors_agreeOnTenThousandPasswords(t *testing.T) {
	blocklist := []string{"passwordpassword", "qwertyuiopasdfghjkl", "aaaaaaaaaaaaaaaa", "password", "1234567890123456", "iloveyouiloveyou"}
	each, dear := 2000, 30 // candidates of each policy, and how many of them may be accepted: those are hashed by every door
	if testing.Short() {
		each /= 10 // under the race detector, which looks at how the doors run, not at what they say
	}
	accepted, kinds := 0, map[string]int{}
	for p, policy := range policies() {
		g := generator{rand.New(rand.NewPCG(20261126, uint64(p))), blocklist}
		h := newHouse(t, user.Account{ID: "acme", Name: "Acme Anvils", Policy: policy, Naming: identifier.Rule{Kind: identifier.Either}})
		cheap, costly := h.candidates(t, g, each, dear)
		said := h.askAll(t, policy, cheap, 128) // they wait for as long as a hash takes, and compute next to nothing
		said = append(said, h.askAll(t, policy, costly, 1)...)
		for _, violations := range said {
			for _, violation := range violations {
				code, _, _ := strings.Cut(violation, " ")
				kinds[code]++
			}
			if len(violations) == 0 {
				accepted++
			}
		}
	}
	// The comparison is worth something only if there was something to compare.
	for _, code := range []string{"too_short", "too_long", "blocklisted", "context_word", "invalid_characters"} {
		if kinds[code] < each/20 {
			t.Errorf("only %d were %s", kinds[code], code)
		}
	}
	if accepted < each/20 {
		t.Errorf("only %d were accepted", accepted)
	}
	t.Logf("%d of %d accepted; refused as %v", accepted, each*len(policies()), kinds)
}

// askAll brings the candidates to every door, so many at once, compares the answers and returns those of the dry run.
func (h house) askAll(t *testing.T, policy user.Policy, all []candidate, atOnce int) [][]string {
	t.Helper()
	said := make([][]string, len(all))
	var running sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i, c := range all {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			got, err := h.ask(t.Context(), c, user.ID(fmt.Sprintf("user-%d", i)))
			if err != nil {
				t.Errorf("%+v, %q: %v", policy, c.password, err)
				return
			}
			compare(t, policy, c, got)
			said[i] = got.dryRun
		})
	}
	running.Wait()
	return said
}

func compare(t *testing.T, policy user.Policy, c candidate, got answers) {
	t.Helper()
	if !slices.Equal(got.change, got.dryRun) {
		t.Errorf("%+v, %.80q, %v: the dry run says %v, the change %v", policy, c.password, c.username, got.dryRun, got.change)
	}
	if c.password == "" { // who gives none at all is asked for one
		return
	}
	for door, said := range map[string][]string{"reset": got.reset, "link": got.byTheLink} {
		if !slices.Equal(said, got.dryRunAlone) {
			t.Errorf("%+v, %.80q: the dry run says %v, the %s %v", policy, c.password, got.dryRunAlone, door, said)
		}
	}
}
