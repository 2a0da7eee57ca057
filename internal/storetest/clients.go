package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/client"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/store"
	"github.com/salesexec/credentials/internal/user"
)

func testClients(t *testing.T, s *store.Store) {
	ctx := context.Background()
	must(t, s.CreateAccount(ctx, user.Account{ID: "demo", Name: "Demo Sales"}))
	first := client.Secret{Digest: "digest-1", CreatedAt: Now()}
	bound := client.Client{ID: "router", Name: "Router", AccountID: "demo", Scopes: []string{"users:read", "users:write"}, CreatedAt: Now()}
	all := client.Client{ID: "everywhere", Name: "Everywhere", Scopes: []string{"users:read"}, CreatedAt: Now()}
	told := event(audit.ServiceCreated, user.User{AccountID: "demo"})
	must(t, s.CreateClient(ctx, bound, first, told))
	wantError(t, s.CreateClient(ctx, bound, client.Secret{Digest: "digest-x", CreatedAt: Now()}, event(audit.ServiceCreated, user.User{AccountID: "demo"})), client.ErrExists)
	must(t, s.CreateClient(ctx, all, client.Secret{Digest: "digest-2", CreatedAt: Now()}, event(audit.ServiceCreated, user.User{})))
	nowhere := bound
	nowhere.ID, nowhere.AccountID = "nowhere", "nowhere"
	if err := s.CreateClient(ctx, nowhere, client.Secret{Digest: "digest-3", CreatedAt: Now()}, event(audit.ServiceCreated, user.User{})); err == nil {
		t.Error("a client of no account")
	}
	listed, err := s.Clients(ctx)
	must(t, err)
	if diff := cmp.Diff([]client.Client{all, bound}, listed); diff != "" {
		t.Fatal(diff)
	}
	must(t, s.SetClientDisabled(ctx, "router", true, event(audit.ServiceDisabled, user.User{AccountID: "demo"})))
	found, err := s.Client(ctx, "router")
	if must(t, err); !found.Disabled || found.AccountID != "demo" {
		t.Errorf("%+v", found)
	}
	_, err = s.Client(ctx, "nobody")
	wantError(t, err, session.ErrNotFound)
	if secrets, err := s.ClientSecrets(ctx, "nobody"); err != nil || len(secrets) != 0 {
		t.Errorf("%+v, %v", secrets, err)
	}
}

// testClientRotation: secrets from before end at the time given or earlier, never later, and those that have ended go.
func testClientRotation(t *testing.T, s *store.Store) {
	ctx := context.Background()
	must(t, s.CreateAccount(ctx, user.Account{ID: "demo", Name: "Demo Sales"}))
	c := client.Client{ID: "router", Name: "Router", AccountID: "demo", Scopes: []string{"users:read"}, CreatedAt: Now()}
	must(t, s.CreateClient(ctx, c, client.Secret{Digest: "digest-1", CreatedAt: Now()}, event(audit.ServiceCreated, user.User{AccountID: "demo"})))
	rotate := func(digest string, after, overlap time.Duration) error {
		at := Now().Add(after)
		return s.RotateClient(ctx, "router", client.Secret{Digest: digest, CreatedAt: at}, at.Add(overlap), event(audit.ServiceRotated, user.User{AccountID: "demo"}))
	}
	until := func() map[string]time.Duration {
		secrets, err := s.ClientSecrets(ctx, "router")
		must(t, err)
		ends := map[string]time.Duration{}
		for _, kept := range secrets {
			ends[kept.Digest] = -1
			if kept.ExpiresAt != nil {
				ends[kept.Digest] = kept.ExpiresAt.Sub(Now())
			}
		}
		return ends
	}
	must(t, rotate("digest-2", time.Minute, time.Hour))
	must(t, rotate("digest-3", 2*time.Minute, 2*time.Hour))
	if diff := cmp.Diff(map[string]time.Duration{"digest-1": 61 * time.Minute, "digest-2": 122 * time.Minute, "digest-3": -1}, until()); diff != "" {
		t.Fatal(diff)
	}
	must(t, rotate("digest-4", 90*time.Minute, 0))
	if diff := cmp.Diff(map[string]time.Duration{"digest-2": 90 * time.Minute, "digest-3": 90 * time.Minute, "digest-4": -1}, until()); diff != "" {
		t.Fatal(diff)
	}
	for _, err := range parallel(8, func(i int) error { return rotate(fmt.Sprintf("digest-p%d", i), 3*time.Hour, time.Hour) }) {
		must(t, err)
	}
	newest := 0
	for _, end := range until() {
		if end < 0 {
			newest++
		}
	}
	if newest != 1 {
		t.Errorf("after rotations at once %d secrets have no end", newest)
	}
}
