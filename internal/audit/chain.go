package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/access"
)

// Seal is one link of an account's hash chain: the event's own digest, and the digest over it and every link before.
type Seal struct {
	AccountID string
	Sequence  int64 // 1, 2, 3, ... without a gap
	EventID   string
	Digest    string // hex SHA-256 of the event
	Chain     string // hex SHA-256 of the previous link's Chain and this Digest: the head when it is the last
}

// canonical is the form an event is digested in: fixed members, fixed order, times in UTC to the microsecond (what
// both databases keep). Changing it breaks every chain; a new form needs a new Version. A member that is new in Origin or
// Details is left out while it is empty: then older events keep their digests, and none passes for another, since a value
// that is taken away or added still shows. The release before does not know the member and would seal events without it,
// so a release that writes one follows a release that reads it.
type canonical struct {
	Version   int           `json:"version"`
	ID        string        `json:"id"`
	AccountID string        `json:"account_id"`
	At        string        `json:"at"`
	Action    Action        `json:"action"`
	Outcome   Outcome       `json:"outcome"`
	Actor     Party         `json:"actor"`
	Target    Party         `json:"target"`
	SessionID string        `json:"session_id"`
	Reason    string        `json:"reason"`
	Origin    access.Origin `json:"origin"`
	Details   Details       `json:"details"`
}

// Digest returns the hex SHA-256 of the event's canonical form.
func (e Event) Digest() (string, error) {
	encoded, err := json.Marshal(canonical{
		Version: 1, ID: e.ID, AccountID: e.AccountID, At: e.At.UTC().Format("2006-01-02T15:04:05.000000Z"),
		Action: e.Action, Outcome: e.Outcome, Actor: e.Actor, Target: e.Target, SessionID: e.SessionID,
		Reason: e.Reason, Origin: e.Origin, Details: e.Details,
	})
	if err != nil {
		return "", fmt.Errorf("audit: digest event %s: %w", e.ID, err)
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:]), nil
}

// Next makes the seal that follows previous (the zero Seal before the first) for the event.
func Next(previous Seal, event Event) (Seal, error) {
	digest, err := event.Digest()
	if err != nil {
		return Seal{}, err
	}
	sum := sha256.Sum256([]byte(previous.Chain + digest))
	return Seal{
		AccountID: event.AccountID, Sequence: previous.Sequence + 1, EventID: event.ID,
		Digest: digest, Chain: hex.EncodeToString(sum[:]),
	}, nil
}

// Integrity is the result of checking a chain.
type Integrity struct {
	Intact      bool
	Events      int64
	Head        string // Chain of the last intact link
	FirstBroken string // id of the first event that is changed, missing or out of place
	CheckedAt   time.Time
}

// Checker walks a chain link by link.
type Checker struct {
	last   Seal
	broken string
}

// Add checks that seal follows the links so far and seals exactly this event. A missing event is passed as the zero Event.
func (c *Checker) Add(seal Seal, event Event) error {
	if c.broken != "" {
		return nil
	}
	want, err := Next(c.last, event)
	if err != nil {
		return err
	}
	if want != seal {
		c.broken = seal.EventID
		return nil
	}
	c.last = seal
	return nil
}

// Result returns what was found up to now.
func (c *Checker) Result(now time.Time) Integrity {
	return Integrity{Intact: c.broken == "", Events: c.last.Sequence, Head: c.last.Chain, FirstBroken: c.broken, CheckedAt: now}
}
