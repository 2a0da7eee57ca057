package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

// LOG-03: every fact that an event can have is shown: none is known to the trail and not to the contract, or the other way round.
func TestEventOf_showsEverything(t *testing.T) {
	for _, pair := range []struct{ kept, shown reflect.Type }{
		{reflect.TypeFor[audit.Details](), reflect.TypeFor[api.AuditDetails]()},
		{reflect.TypeFor[audit.Party](), reflect.TypeFor[api.AuditParty]()},
	} {
		kept, shown := listed(pair.kept), listed(pair.shown)
		slices.Sort(kept)
		slices.Sort(shown)
		if diff := cmp.Diff(kept, shown); diff != "" {
			t.Errorf("%s (-) and %s (+) differ: %s", pair.kept, pair.shown, diff)
		}
	}
	e := audit.New(audit.PasswordReset, audit.Done, access.Actor{Kind: access.Service, ClientID: "robot", ClientName: "Robot"},
		user.User{ID: "alex-1", AccountID: "demo", Username: "alex", DisplayName: "Alex Reed"}, access.Origin{RequestID: "r-1", IP: "192.0.2.1", UserAgent: "test"},
		time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC))
	e.Reason, e.Details.Method = "Forgot it", "temporary"
	got, err := eventOf(audit.Record{Event: e, Seal: &audit.Seal{Sequence: 7, Digest: "d", Chain: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	kind := func(k api.AuditPartyKind) *api.AuditPartyKind { return &k }
	text := func(s string) *string { return &s }
	want := api.AuditEvent{
		Version: 1, ID: e.ID, AccountID: "demo", At: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC), Action: "password.reset", Outcome: "done",
		Actor:  api.AuditParty{Kind: kind("service"), ID: text("robot"), Name: text("Robot")},
		Target: api.AuditParty{Kind: kind("user"), ID: text("alex-1"), Username: text("alex"), Name: text("Alex Reed")},
		Reason: "Forgot it", RequestID: "r-1", IP: "192.0.2.1", UserAgent: "test",
		Details: api.AuditDetails{Method: text("temporary")}, Seal: &api.AuditSeal{Sequence: 7, Digest: "d", Chain: "c"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// listed returns the names of a type's members in JSON.
func listed(shape reflect.Type) []string {
	var names []string
	for i := range shape.NumField() {
		name, _, _ := strings.Cut(shape.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// API-01: lines come to those who ask for them by name, JSON to everybody else.
func TestPrefersLines(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "application/*": false, "text/html": false, "application/x-ndjson-other": false,
		"application/x-ndjson": true, "Application/X-NDJSON": true, "application/x-ndjson; charset=utf-8": true, "text/csv, application/x-ndjson;q=0.5": true,
		"application/json, application/x-ndjson": false, "application/json;q=0.5, application/x-ndjson": true, "application/x-ndjson;q=0": false,
		"application/x-ndjson;q=0.1, application/json;q=0.2": false, "application/x-ndjson, */*;q=0.1": true, "application/x-ndjson;q=bad": false, ";;,,": false,
	} {
		if got := prefersLines(context.WithValue(t.Context(), acceptKey, accept)); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

// Cursors come from the list alone: anything else is none, and none makes a time that no database holds.
func TestPosition(t *testing.T) {
	want := audit.Position{At: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC), ID: "0198f3a2-5c1e-7b3a-9d41-6f0c2b7e8a10"}
	got, known := decodePosition(encodePosition(want))
	if !known || *got != want {
		t.Errorf("%v %v", got, known)
	}
	if none, known := decodePosition(""); none != nil || !known {
		t.Errorf("%v %v", none, known)
	}
	for _, cursor := range []string{"x", "====", encodePosition(audit.Position{ID: "a b"}), encodePosition(audit.Position{At: want.At}),
		encodePosition(audit.Position{At: time.Unix(1<<40, 0), ID: "a"}), encodePosition(audit.Position{At: time.Unix(-1, 0), ID: "a"}), "MTIuMQ==", "MTI"} {
		if got, known := decodePosition(cursor); known {
			t.Errorf("%s: %v", cursor, got)
		}
	}
}

// broken is a trail whose second window cannot be read.
type broken struct {
	audit.Store
	windows int
}

func (*broken) HasAccount(context.Context, string) (bool, error) { return true, nil }

func (*broken) Head(context.Context, string) (audit.Head, error) {
	return audit.Head{AccountID: "demo", Sequence: 5000, Chain: "c"}, nil
}

func (b *broken) SealedEvents(context.Context, audit.Query, int64, int64) ([]audit.Record, error) {
	if b.windows++; b.windows > 1 {
		return nil, errors.New("away")
	}
	return nil, nil
}

// api.md: an export that breaks off is a broken connection, so that nobody takes a part for the whole.
func TestExported_isCutOff(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		export, err := audit.NewTrail(&broken{}, time.Now).Open(r.Context(), audit.Query{Actor: access.Actor{Kind: access.Operator}, AccountID: "demo"})
		if err != nil {
			t.Error(err)
			return
		}
		if err := (exported{ctx: r.Context(), server: s, export: export}).VisitListAuditEventsResponse(w); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	answer, err := server.Client().Get(server.URL)
	if err != nil {
		return // cut off before the heading
	}
	defer func() { _ = answer.Body.Close() }()
	if text, err := io.ReadAll(answer.Body); err == nil || strings.Contains(string(text), `"end"`) {
		t.Errorf("it looks whole: %q", text)
	}
}

// A long request outlives the deadline of others, and ends with its caller.
func TestUnhurried(t *testing.T) {
	callers, hangUp := context.WithCancel(t.Context())
	short, cancel := context.WithCancel(context.WithValue(context.WithValue(callers, callersKey, callers), actorKey, access.Actor{ClientID: "robot"}))
	long, end := unhurried(short, time.Hour)
	defer end()
	cancel()
	if long.Err() != nil || actorOf(long).ClientID != "robot" {
		t.Errorf("%v", long.Err())
	}
	hangUp()
	<-long.Done()
	bounded, end := unhurried(t.Context(), 0)
	defer end()
	if !errors.Is(bounded.Err(), context.DeadlineExceeded) {
		t.Errorf("%v", bounded.Err())
	}
}
