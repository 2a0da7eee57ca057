package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// administrator is somebody who manages the teams; the first is the own.
func administrator(id user.ID, teams ...user.Team) user.User {
	u := with(alex(), id, string(id))
	u.Role, u.Team, u.AlsoManages = user.Administrator, teams[0], teams[1:]
	return u
}

func actor(u user.User) access.Actor {
	return access.Actor{Kind: access.Person, User: u, Role: u.Role}
}

// happened writes events at one second after the other, and returns them, the newest first.
func happened(t *testing.T, s *store.Store, events ...audit.Event) []audit.Event {
	t.Helper()
	for i := range events {
		events[i].At = Now().Add(time.Duration(i) * time.Second)
		_, err := s.Commit(context.Background(), change.Change{At: events[i].At, Audit: []audit.Event{events[i]}})
		must(t, err)
	}
	slices.Reverse(events)
	return events
}

func idsOf(records []audit.Record) []string {
	ids := []string{}
	for _, r := range records {
		ids = append(ids, r.Event.ID)
	}
	return ids
}

// pages reads the trail page by page.
func pages(t *testing.T, s *store.Store, q audit.Query, limit int) []audit.Record {
	t.Helper()
	var all []audit.Record
	var before *audit.Position
	for {
		page, err := s.EventsBefore(context.Background(), q, before, limit)
		must(t, err)
		all = append(all, page...)
		if len(page) < limit {
			return all
		}
		last := page[len(page)-1].Event
		before = &audit.Position{At: last.At, ID: last.ID}
	}
}

// testTrailPages: every event is on one page, the newest first, in pages of any size, also where many happened at one time.
func testTrailPages(t *testing.T, s *store.Store) {
	create(t, s, alex())
	for range 11 {
		_, err := s.Commit(context.Background(), change.Change{At: Now(), Audit: []audit.Event{event(audit.ChangeRefused, alex())}})
		must(t, err)
	}
	q := audit.Query{Actor: access.Actor{Kind: access.Operator}, AccountID: "demo"}
	whole := pages(t, s, q, 100)
	if len(whole) != 12 || !slices.IsSortedFunc(whole, func(a, b audit.Record) int {
		return cmp.Or(b.Event.At.Compare(a.Event.At), cmp.Compare(b.Event.ID, a.Event.ID))
	}) {
		t.Fatalf("%d events, or out of order", len(whole))
	}
	for _, limit := range []int{1, 3, 4, 12} {
		if diff := gocmp.Diff(idsOf(whole), idsOf(pages(t, s, q, limit))); diff != "" {
			t.Errorf("pages of %d: %s", limit, diff)
		}
	}
	if whole[0].Seal != nil {
		t.Error("nobody sealed it yet")
	}
	head, err := s.Head(context.Background(), "demo")
	must(t, err)
	sealed, err := s.SealedEvents(context.Background(), q, 0, head.Sequence)
	must(t, err)
	if head.Sequence != 12 || len(sealed) != 12 || sealed[11].Seal.Chain != head.Chain || sealed[11].Seal.Sequence != 12 {
		t.Errorf("%+v, %d events", head, len(sealed))
	}
	if shown := pages(t, s, q, 5); shown[0].Seal == nil || !slices.Contains(idsOf(sealed), shown[0].Event.ID) {
		t.Errorf("%+v", shown[0])
	}
}

// testTrailFilters: each filter alone, and together.
func testTrailFilters(t *testing.T, s *store.Store) {
	bo := with(alex(), "bo-1", "bo")
	create(t, s, alex(), bo)
	made := func(action audit.Action, outcome audit.Outcome, by access.Actor, about user.User) audit.Event {
		return audit.New(action, outcome, by, about, access.Origin{RequestID: "request-1"}, Now())
	}
	ada := actor(administrator("ada-1", "/"))
	robot := access.Actor{Kind: access.Service, ClientID: "robot", ClientName: "Robot"}
	all := happened(t, s,
		made(audit.PasswordReset, audit.Done, ada, alex()), made(audit.PasswordReset, audit.Done, robot, bo),
		made(audit.ChangeRefused, audit.Refused, ada, bo), made(audit.SignedIn, audit.Done, actor(bo), bo),
		made(audit.ServiceTokenIssued, audit.Done, robot, user.User{AccountID: "demo"}),
	) // 4 is the oldest of them
	for name, c := range map[string]struct {
		filter audit.Filter
		want   []int
	}{
		"actor":                {audit.Filter{Actor: "ada-1"}, []int{2, 4}},
		"a service":            {audit.Filter{Actor: "robot"}, []int{0, 3}},
		"target":               {audit.Filter{Target: "bo-1"}, []int{1, 2, 3}},
		"action":               {audit.Filter{Action: audit.PasswordReset}, []int{3, 4}},
		"outcome":              {audit.Filter{Outcome: audit.Refused}, []int{2}},
		"from":                 {audit.Filter{From: Now().Add(3 * time.Second)}, []int{0, 1}},
		"to":                   {audit.Filter{From: Now(), To: Now().Add(2 * time.Second), Action: audit.PasswordReset}, []int{3, 4}},
		"all together":         {audit.Filter{Actor: "robot", Target: "bo-1", Action: audit.PasswordReset, Outcome: audit.Done, From: Now(), To: Now().Add(time.Minute)}, []int{3}},
		"nothing":              {audit.Filter{Actor: "robot", Target: "alex-1"}, nil},
		"no part of an id":     {audit.Filter{Target: "bo-"}, nil},
		"no pattern":           {audit.Filter{Target: "bo%"}, nil},
		"another's, by chance": {audit.Filter{Actor: "ada-1' OR '1'='1"}, nil},
	} {
		q := audit.Query{Actor: access.Actor{Kind: access.Operator}, AccountID: "demo", Filter: c.filter}
		want := []string{}
		for _, i := range c.want {
			want = append(want, all[i].ID)
		}
		found := pages(t, s, q, 2)
		found = slices.DeleteFunc(found, func(r audit.Record) bool { return r.Event.Action == audit.UserCreated })
		if diff := gocmp.Diff(want, idsOf(found)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		head, err := s.Head(context.Background(), "demo")
		must(t, err)
		sealed, err := s.SealedEvents(context.Background(), q, 0, head.Sequence)
		must(t, err)
		sealed = slices.DeleteFunc(sealed, func(r audit.Record) bool { return r.Event.Action == audit.UserCreated })
		slices.Reverse(want)
		if diff := gocmp.Diff(want, idsOf(sealed)); diff != "" {
			t.Errorf("%s, in the order of the chain: %s", name, diff)
		}
	}
}

// testTrailReach: an administrator sees what is about users within reach, and who manages the company sees everything.
func testTrailReach(t *testing.T, s *store.Store) {
	wanda, far := with(alex(), "wanda-1", "wanda"), administrator("far-1", "/east/", "/west/")
	wanda.Team = "/west/"
	odd := with(alex(), "odd-1", "odd")
	odd.Team = "/east_b/" // an underscore is no wild card
	erin, ada, wide := administrator("erin-1", "/east/"), administrator("ada-1", "/"), administrator("wide-1", "/north/", "/east/", "/west/")
	create(t, s, alex(), wanda, far, odd, erin, ada, wide)
	must(t, s.CreateAccount(context.Background(), user.Account{ID: "other", Name: "Other"}))
	olga := with(alex(), "olga-1", "olga")
	olga.AccountID = "other"
	must(t, s.CreateUser(context.Background(), olga, event(audit.UserCreated, olga)))
	inDemo := olga
	inDemo.AccountID = "demo" // somebody of demo aimed at her, and was refused
	all := happened(t, s, event(audit.SignedIn, alex()), event(audit.SignedIn, wanda), event(audit.SignedIn, far), event(audit.SignedIn, odd),
		event(audit.SignedIn, erin), event(audit.SignedIn, ada), event(audit.ServiceTokenIssued, user.User{AccountID: "demo"}),
		event(audit.ChangeRefused, user.User{ID: "nobody-1", AccountID: "demo"}), event(audit.ChangeRefused, inDemo))
	about := func(targets ...string) []string {
		ids := []string{}
		for _, e := range all {
			if slices.Contains(targets, e.Target.ID) {
				ids = append(ids, e.ID)
			}
		}
		return ids
	}
	for name, c := range map[string]struct {
		actor access.Actor
		want  []string
	}{
		"a team":             {actor(erin), about("alex-1", "erin-1")},
		"several teams":      {actor(wide), about("alex-1", "wanda-1", "far-1", "erin-1")},
		"the company":        {actor(ada), about("alex-1", "wanda-1", "far-1", "odd-1", "erin-1", "ada-1", "", "nobody-1", "olga-1")},
		"an agent":           {actor(alex()), about("alex-1")},
		"a service":          {access.Actor{Kind: access.Service, ClientAccount: "demo"}, about("alex-1", "wanda-1", "far-1", "odd-1", "erin-1", "ada-1", "", "nobody-1", "olga-1")},
		"the oldest page":    {actor(erin), about("alex-1", "erin-1")},
		"nobody's reach yet": {actor(administrator("new-1", "/south/")), about()},
	} {
		for _, limit := range []int{1, 2, 50} {
			found := pages(t, s, audit.Query{Actor: c.actor, AccountID: "demo"}, limit)
			found = slices.DeleteFunc(found, func(r audit.Record) bool { return r.Event.Action == audit.UserCreated })
			if diff := gocmp.Diff(c.want, idsOf(found)); diff != "" {
				t.Errorf("%s, pages of %d: %s", name, limit, diff)
			}
		}
	}
	attempts, err := s.Attempts(context.Background(), "alex-1", 5)
	if must(t, err); len(attempts) != 1 || attempts[0].ID != about("alex-1")[0] {
		t.Errorf("attempts of alex: %+v", attempts)
	}
}

// testHeads: the heads of all chains, and which noted ones hold.
func testHeads(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex())
	must(t, s.CreateAccount(ctx, user.Account{ID: "silent", Name: "Silent"}))
	_, err := s.Commit(ctx, change.Change{At: Now(), Audit: []audit.Event{event(audit.SignInFailed, user.User{AccountID: audit.UnknownAccount})}})
	must(t, err)
	heads, err := s.Heads(ctx)
	must(t, err)
	var told []string
	for _, head := range heads {
		told = append(told, fmt.Sprint(head.AccountID, " ", head.Sequence))
		if holds, err := s.Holds(ctx, head); err != nil || !holds {
			t.Errorf("%+v: %v %v", head, holds, err)
		}
		for _, wrong := range []audit.Head{{AccountID: head.AccountID, Sequence: head.Sequence + 1, Chain: head.Chain}, {AccountID: head.AccountID, Sequence: head.Sequence, Chain: "other"}} {
			if holds, err := s.Holds(ctx, wrong); err != nil || holds {
				t.Errorf("%+v: %v %v", wrong, holds, err)
			}
		}
	}
	if diff := gocmp.Diff([]string{"- 1", "demo 1"}, told); diff != "" {
		t.Error(diff)
	}
	for since, want := range map[time.Duration]int64{time.Second: 2, 0: 0, -time.Hour: 0} {
		if n, err := s.Overdue(ctx, Now().Add(since)); err != nil || n != want {
			t.Errorf("%s: %d chains are overdue, want %d: %v", since, n, want, err)
		}
	}
}
