package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

// testUses: what is known of when sessions were in use, ended ones too, is told of each user in the order of time, and of nobody else.
func testUses(t *testing.T, s *store.Store) {
	ctx := context.Background()
	create(t, s, alex(), with(alex(), "bo-1", "bo"), with(alex(), "cy-1", "cy"))
	begin := Now()
	for i, one := range []struct {
		owner       user.ID
		network     string
		from, until time.Duration // after begin
		ended       bool
	}{
		{"alex-1", "192.0.2.0/24", 0, 3 * time.Hour, false},
		{"bo-1", "203.0.113.0/24", time.Minute, time.Minute, true},
		{"alex-1", "2001:db8:1::/48", time.Hour, 2 * time.Hour, true},
		{"cy-1", "198.51.100.0/24", time.Hour, 2 * time.Hour, false},
	} {
		o := opening("session-" + string(rune('a'+i)))
		o.Guard.UserID, o.Session.UserID, o.Session.Network = one.owner, one.owner, one.network
		o.Session.SignedInAt, o.Session.LastUsedAt = begin.Add(one.from), begin.Add(one.until)
		if one.ended {
			end := begin.Add(one.until)
			o.Session.EndedAt = &end
		}
		must(t, s.OpenSession(ctx, o))
	}
	uses := func(of ...user.ID) map[user.ID][]string {
		found := map[user.ID][]string{}
		must(t, s.Uses(ctx, of, func(id user.ID, at time.Time, network string) {
			found[id] = append(found[id], at.Sub(begin).String()+" "+network)
		}))
		return found
	}
	want := map[user.ID][]string{
		"alex-1": {"0s 192.0.2.0/24", "1h0m0s 2001:db8:1::/48", "2h0m0s 2001:db8:1::/48", "3h0m0s 192.0.2.0/24"},
		"bo-1":   {"1m0s 203.0.113.0/24"},
	}
	if diff := cmp.Diff(want, uses("alex-1", "bo-1", "nobody-1")); diff != "" {
		t.Error(diff)
	}
	// A refresh is a use.
	current, _, err := s.Session(ctx, "session-a")
	must(t, err)
	must(t, refresh(ctx, s, current, begin.Add(5*time.Hour)))
	if got := uses("alex-1")["alex-1"]; !slices.Contains(got, "5h0m0s 192.0.2.0/24") {
		t.Errorf("after a refresh: %v", got)
	}
}

// refresh moves a session on to its next refresh token.
func refresh(ctx context.Context, s *store.Store, current session.Session, at time.Time) error {
	next := current
	next.RefreshCount++
	return s.RotateRefresh(ctx, next, current.RefreshCount, at)
}
