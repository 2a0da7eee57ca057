package audit_test

import (
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
)

// LOG-06: the form that events are digested in stays as it is. A new member must not change the digest of an event that has
// none of it, or every chain from before it would count as broken; and one that has it must differ.
func TestDigest_isStable(t *testing.T) {
	event := audit.Event{
		ID: "01a21709-048d-7d14-a65a-d0f6dfcb3fc7", AccountID: "demo", At: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC),
		Action: audit.PasswordReset, Outcome: audit.Done, Actor: audit.Party{Kind: access.Service, ID: "router", Name: "Router"},
		Target: audit.Party{Kind: access.Person, ID: "bo-1", Username: "bo"}, Reason: "forgot it",
		Origin:  access.Origin{RequestID: "request-1", IP: "192.0.2.1", UserAgent: "test"},
		Details: audit.Details{Method: "temporary", SessionsEnded: 2},
	}
	const written = "5f0e78c22abbc6057f4a537bc950fea67d6bb629dcb739d00a23a7600d1d0f3d"
	got, err := event.Digest()
	if err != nil || got != written {
		t.Errorf("got %s, %v: events that are stored have %s", got, err, written)
	}
	for name, alter := range map[string]func(e *audit.Event){
		"on behalf of": func(e *audit.Event) { e.Origin.OnBehalfOf = "ada-1" },
		"scopes":       func(e *audit.Event) { e.Details.Scopes = []string{"users:read"} },
	} {
		altered := event
		alter(&altered)
		if other, err := altered.Digest(); err != nil || other == written {
			t.Errorf("%s does not show in the digest (%v)", name, err)
		}
	}
}
