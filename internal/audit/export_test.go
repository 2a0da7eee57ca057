package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// memory is a trail of one account in memory.
type memory struct {
	audit.Store
	account string
	from    audit.Checkpoint
	records []audit.Record
	reads   int
	broken  error // of the second read
}

// newMemory seals events after from; the first of them tells of the pruning if there was one.
func newMemory(t *testing.T, account string, from audit.Checkpoint, events int) *memory {
	t.Helper()
	m := &memory{account: account, from: from}
	last := audit.Seal{AccountID: account, Sequence: from.Sequence, Chain: from.Chain}
	actor := access.Actor{Kind: access.Person, User: user.User{ID: "ada-1", Username: "ada", DisplayName: `Ada "A" <Marsh> ü`}, SessionID: "session-1"}
	for i := range events {
		target := user.User{ID: user.ID(fmt.Sprintf("target-%d", i)), AccountID: account, Username: "alex"}
		e := audit.New(audit.PasswordReset, audit.Done, actor, target, access.Origin{RequestID: "request-1", IP: "192.0.2.1", UserAgent: "a\\b\u2028"}, start.Add(time.Duration(i)*time.Second))
		e.Reason, e.Details.Method, e.Details.SessionsEnded = "Forgot it", "temporary", i
		if i == 0 && from.Sequence > 0 {
			e = audit.New(audit.Pruned, audit.Done, access.Actor{Kind: access.Operator}, user.User{AccountID: account}, access.Origin{}, start)
			e.Details.Sequence, e.Details.Chain, e.Details.Events = from.Sequence, from.Chain, from.Sequence
		}
		seal, err := audit.Next(last, e)
		if err != nil {
			t.Fatal(err)
		}
		last = seal
		m.records = append(m.records, audit.Record{Event: e, Seal: &seal})
	}
	return m
}

func (m *memory) HasAccount(_ context.Context, id string) (bool, error) { return id == m.account, nil }

func (m *memory) Head(context.Context, string) (audit.Head, error) {
	head := audit.Head{AccountID: m.account, Sequence: m.from.Sequence, Chain: m.from.Chain, Checkpoint: m.from}
	if n := len(m.records); n > 0 {
		head.Sequence, head.Chain = m.records[n-1].Seal.Sequence, m.records[n-1].Seal.Chain
	}
	return head, nil
}

func (m *memory) SealedEvents(_ context.Context, q audit.Query, after, upTo int64) ([]audit.Record, error) {
	if m.reads++; m.reads > 1 && m.broken != nil {
		return nil, m.broken
	}
	var found []audit.Record
	for _, r := range m.records {
		if r.Seal.Sequence > after && r.Seal.Sequence <= upTo && (q.Filter.Target == "" || q.Filter.Target == r.Event.Target.ID) {
			found = append(found, r)
		}
	}
	return found, nil
}

func always() error { return nil }

func operator() access.Actor { return access.Actor{Kind: access.Operator} }

// exportOf returns the export as text.
func exportOf(t *testing.T, m *memory, f audit.Filter) string {
	t.Helper()
	export, err := audit.NewTrail(m, func() time.Time { return start.Add(time.Hour) }).Open(t.Context(), audit.Query{Actor: operator(), AccountID: m.account, Filter: f})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := export.Write(t.Context(), &text, always); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// api.md: an export is read and written one window of the chain at a time, however long the chain is.
func TestExport_isAStream(t *testing.T) {
	m := newMemory(t, "demo", audit.Checkpoint{}, 2500)
	export, err := audit.NewTrail(m, time.Now).Open(t.Context(), audit.Query{Actor: operator(), AccountID: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	text := &bytes.Buffer{}
	err = export.Write(t.Context(), writes(func(p []byte) (int, error) { sizes = append(sizes, bytes.Count(p, []byte("\n"))); return text.Write(p) }), always)
	if err != nil || fmt.Sprint(sizes) != "[1001 1000 501]" || m.reads != 3 {
		t.Errorf("%v, lines of each write %v, %d reads", err, sizes, m.reads)
	}
	found, err := audit.Verify(text, audit.Expected{})
	if err != nil || found.Events != 2500 || found.Sequence != 2500 {
		t.Errorf("%+v, %v", found, err)
	}
}

type writes func(p []byte) (int, error)

func (w writes) Write(p []byte) (int, error) { return w(p) }

// What goes wrong on the way ends the export without its last line.
func TestExport_isBrokenOff(t *testing.T) {
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		store error
		write error
		ready error
	}{
		"the database is away": {store: gone}, "the caller hung up": {write: gone}, "the time is over": {ready: gone},
	} {
		m := newMemory(t, "demo", audit.Checkpoint{}, 1500)
		m.broken = c.store
		export, err := audit.NewTrail(m, time.Now).Open(t.Context(), audit.Query{Actor: operator(), AccountID: "demo"})
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		err = export.Write(t.Context(), writes(func(p []byte) (int, error) {
			if c.write != nil {
				return 0, c.write
			}
			return text.Write(p)
		}), func() error { return c.ready })
		if !errors.Is(err, gone) || strings.Contains(text.String(), `{"end"`) {
			t.Errorf("%s: %v, %d bytes", name, err, text.Len())
		}
		if _, err := audit.Verify(&text, audit.Expected{}); err == nil {
			t.Errorf("%s: what was written verifies", name)
		}
	}
}

// AZ-03: who has no business with a trail learns not even whether there is one.
func TestTrail_visible(t *testing.T) {
	m := newMemory(t, "demo", audit.Checkpoint{}, 1)
	trail := audit.NewTrail(m, time.Now)
	person := func(account string) access.Actor {
		return access.Actor{Kind: access.Person, User: user.User{AccountID: account, Role: user.Administrator, Team: user.Root}}
	}
	for name, c := range map[string]struct {
		actor   access.Actor
		account string
		sees    bool
	}{
		"the own account":                       {person("demo"), "demo", true},
		"another account":                       {person("other"), "demo", false},
		"an account that is not there":          {person("other"), "nowhere", false},
		"a service of the account":              {access.Actor{Kind: access.Service, ClientAccount: "demo"}, "demo", true},
		"a service of another":                  {access.Actor{Kind: access.Service, ClientAccount: "other"}, "demo", false},
		"a service of all":                      {access.Actor{Kind: access.Service, AllAccounts: true}, "demo", true},
		"a service of all, no account":          {access.Actor{Kind: access.Service, AllAccounts: true}, "nowhere", false},
		"a service of all, names nobody has":    {access.Actor{Kind: access.Service, AllAccounts: true}, audit.UnknownAccount, true},
		"a service of one, names nobody has":    {access.Actor{Kind: access.Service, ClientAccount: "demo"}, audit.UnknownAccount, false},
		"an administrator of names nobody has":  {person("demo"), audit.UnknownAccount, false},
		"nobody":                                {access.Actor{}, "demo", false},
		"the operator":                          {operator(), "demo", true},
		"the operator, an account not there":    {operator(), "nowhere", false},
		"a service without an account, no name": {access.Actor{Kind: access.Service}, "", false},
	} {
		_, err := trail.Open(t.Context(), audit.Query{Actor: c.actor, AccountID: c.account})
		if sees := err == nil; sees != c.sees || !sees && !errors.Is(err, audit.ErrNoTrail) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Issue's "what is pruned leaves the chain verifiable": an export that events were pruned under is broken off, for whoever got it
// would take the gap for a forgery. A narrowed one too, in which the gap would not even show.
func TestExport_prunedMeanwhile(t *testing.T) {
	for name, filter := range map[string]audit.Filter{"whole": {}, "narrowed": {Target: "target-1"}} {
		m := newMemory(t, "demo", audit.Checkpoint{}, 1500)
		export, err := audit.NewTrail(m, time.Now).Open(t.Context(), audit.Query{Actor: operator(), AccountID: "demo", Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		last := m.records[1199].Seal
		m.from, m.records = audit.Checkpoint{AccountID: "demo", Sequence: last.Sequence, Chain: last.Chain}, m.records[1200:]
		var text bytes.Buffer
		if err := export.Write(t.Context(), &text, always); !errors.Is(err, audit.ErrPrunedMeanwhile) || strings.Contains(text.String(), `"end"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
