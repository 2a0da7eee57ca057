package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/salesexec/credentials/internal/user"
)

// Seal is one link of an account's hash chain: the event's own digest, and the digest over it and every link before.
type Seal struct {
	AccountID string
	Sequence  int64 // 1, 2, 3, ... without a gap
	EventID   string
	Digest    string // hex SHA-256 of the event
	Chain     string // hex SHA-256 of the previous link's Chain and this Digest: the head when it is the last
}

// canonical is the form in which an event is digested, shown and exported: fixed members, fixed order, times in UTC to the
// microsecond (what both databases keep). Changing it breaks every chain; a new form needs a new Version. A member that is
// new here or in Details is left out while it is empty: then older events keep their digests, and none passes for another,
// since a value that is taken away or added still shows. The release before does not know the member and would seal events
// without it, so a release that writes one follows a release that reads it.
type canonical struct {
	Version   int     `json:"version"`
	ID        string  `json:"id"`
	AccountID string  `json:"account_id"`
	At        string  `json:"at"`
	Action    Action  `json:"action"`
	Outcome   Outcome `json:"outcome"`
	Actor     Party   `json:"actor"`
	Target    Party   `json:"target"`
	SessionID string  `json:"session_id"`
	Reason    string  `json:"reason"`
	RequestID string  `json:"request_id"`
	IP        string  `json:"ip"`
	UserAgent string  `json:"user_agent"`
	Behalf    user.ID `json:"on_behalf_of,omitempty"`
	Details   Details `json:"details"`
}

// Canonical returns the event in JSON, byte for byte as it is digested.
func (e Event) Canonical() ([]byte, error) {
	encoded, err := json.Marshal(canonical{
		Version: 1, ID: e.ID, AccountID: e.AccountID, At: e.At.UTC().Format("2006-01-02T15:04:05.000000Z"),
		Action: e.Action, Outcome: e.Outcome, Actor: e.Actor, Target: e.Target, SessionID: e.SessionID, Reason: e.Reason,
		RequestID: e.Origin.RequestID, IP: e.Origin.IP, UserAgent: e.Origin.UserAgent, Behalf: e.Origin.OnBehalfOf, Details: e.Details,
	})
	if err != nil {
		return nil, fmt.Errorf("audit: encode event %s: %w", e.ID, err)
	}
	return encoded, nil
}

// Digest returns the hex SHA-256 of the event's canonical form.
func (e Event) Digest() (string, error) {
	encoded, err := e.Canonical()
	if err != nil {
		return "", err
	}
	return hexOf(encoded), nil
}

func hexOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// follow returns the Chain of the link that follows previous.
func follow(previous, digest string) string { return hexOf([]byte(previous + digest)) }

// Next makes the seal that follows previous (the zero Seal before the first) for the event.
func Next(previous Seal, event Event) (Seal, error) {
	digest, err := event.Digest()
	if err != nil {
		return Seal{}, err
	}
	return Seal{
		AccountID: event.AccountID, Sequence: previous.Sequence + 1, EventID: event.ID,
		Digest: digest, Chain: follow(previous.Chain, digest),
	}, nil
}

// Checkpoint is where a chain begins after its older events were pruned: the last link that is gone. The zero Checkpoint
// is the beginning of a chain that was never pruned.
type Checkpoint struct {
	AccountID string
	Sequence  int64
	Chain     string
	PrunedAt  time.Time
}

// Head is the end of a chain. Noted outside, it makes a removed end show.
type Head struct {
	AccountID  string
	Sequence   int64  // 0: the chain has no link
	Chain      string // empty: the same
	Checkpoint Checkpoint
}

// Integrity is the result of checking a chain.
type Integrity struct {
	Intact      bool
	Events      int64  // links that were found intact, from the checkpoint on
	Sequence    int64  // of the last intact link
	Head        string // Chain of the last intact link
	FirstBroken string // id of the first event that is changed, missing or out of place; empty when only the pruning is not told of
	Checkpoint  Checkpoint
	CheckedAt   time.Time
}

// Checker walks a chain link by link.
type Checker struct {
	from   Checkpoint
	last   Seal
	broken string
	told   bool // the chain itself tells of the pruning that it begins after
}

// NewChecker returns a Checker for the links after from.
func NewChecker(from Checkpoint) *Checker {
	return &Checker{from: from, last: Seal{AccountID: from.AccountID, Sequence: from.Sequence, Chain: from.Chain}, told: from.Sequence == 0}
}

// tellsOf tells whether the event is the pruning up to the link: a beginning that somebody made up has none in its chain.
func (e Event) tellsOf(sequence int64, chain string) bool {
	return e.Action == Pruned && e.Details.Sequence == sequence && e.Details.Chain == chain
}

// Add checks that seal follows the links so far and seals exactly this event, and tells whether all is intact up to now. A
// missing event is passed as the zero Event.
func (c *Checker) Add(seal Seal, event Event) (bool, error) {
	if c.broken != "" {
		return false, nil
	}
	want, err := Next(c.last, event)
	if err != nil {
		return false, err
	}
	if want != seal {
		c.broken = seal.EventID
		return false, nil
	}
	c.last, c.told = seal, c.told || event.tellsOf(c.from.Sequence, c.from.Chain)
	return true, nil
}

// Result returns what was found up to now.
func (c *Checker) Result(now time.Time) Integrity {
	return Integrity{
		Intact: c.broken == "" && c.told, Events: c.last.Sequence - c.from.Sequence, Sequence: c.last.Sequence, Head: c.last.Chain,
		FirstBroken: c.broken, Checkpoint: c.from, CheckedAt: now,
	}
}
