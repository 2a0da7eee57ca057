package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// An export is a text of lines, each one JSON object: first what it is an export of, then one line for each event in the
// order of the chain, last how many there were. The member "event" is the event in its canonical form, so that
//
//	digest = hex SHA-256 of the bytes of "event"
//	chain  = hex SHA-256 of the chain of the line before and the digest, one after the other
//
// can be computed by anybody with any tool; the chain before the first line is that of "after" in the heading.

// exportFormat names the form of the lines.
const exportFormat = "salesexec-audit-1"

// point is a link of a chain.
type point struct {
	Sequence int64  `json:"sequence"`
	Chain    string `json:"chain"`
}

// heading is the first line.
type heading struct {
	Format     string    `json:"format"`
	AccountID  string    `json:"account_id"`
	ExportedAt time.Time `json:"exported_at"`
	After      point     `json:"after"` // the last link that was pruned; sequence 0 when none was
	Head       point     `json:"head"`  // the last link when the export began
	Partial    bool      `json:"partial"`
	Filter     *filter   `json:"filter,omitempty"`
}

// filter is what a partial export was narrowed by.
type filter struct {
	Actor   string     `json:"actor,omitempty"`
	Target  string     `json:"target,omitempty"`
	Action  Action     `json:"action,omitempty"`
	Outcome Outcome    `json:"outcome,omitempty"`
	From    *time.Time `json:"from,omitempty"`
	To      *time.Time `json:"to,omitempty"`
	Reach   []string   `json:"reach,omitempty"` // teams of the administrator who exported
}

func (q Query) filter() *filter {
	f := filter{Actor: q.Filter.Actor, Target: q.Filter.Target, Action: q.Filter.Action, Outcome: q.Filter.Outcome}
	if from := q.Filter.From; !from.IsZero() {
		f.From = &from
	}
	if to := q.Filter.To; !to.IsZero() {
		f.To = &to
	}
	if !q.Actor.ReachesAll() {
		for _, team := range q.Actor.User.Reach() {
			f.Reach = append(f.Reach, string(team))
		}
	} else if q.Filter == (Filter{}) {
		return nil
	}
	return &f
}

// Export is the stream of all events that a query asks for. It begins with Open; nothing has been written then.
type Export struct {
	store Store
	query Query
	head  heading
	first []Record
}

// window is how many links of the chain are looked at in one statement: it bounds the memory and the statement alike,
// however few of them match.
const window = 1000

// Open begins an export: it seals what waits, and reads the first events, so that what can go wrong is known before anything is
// written. ErrNoTrail.
func (t *Trail) Open(ctx context.Context, q Query) (*Export, error) {
	if err := t.visible(ctx, q.Actor, q.AccountID); err != nil {
		return nil, err
	}
	head, err := t.store.Head(ctx, q.AccountID)
	if err != nil {
		return nil, fmt.Errorf("audit: begin an export: %w", err)
	}
	e := &Export{store: t.store, query: q}
	e.head = heading{
		Format: exportFormat, AccountID: q.AccountID, ExportedAt: t.now().UTC().Truncate(time.Second),
		After: point{head.Checkpoint.Sequence, head.Checkpoint.Chain}, Head: point{head.Sequence, head.Chain}, Filter: q.filter(),
	}
	e.head.Partial = e.head.Filter != nil
	e.first, err = e.read(ctx, head.Checkpoint.Sequence)
	return e, err
}

func (e *Export) read(ctx context.Context, after int64) ([]Record, error) {
	records, err := e.store.SealedEvents(ctx, e.query, after, min(after+window, e.head.Head.Sequence))
	if err != nil {
		return nil, fmt.Errorf("audit: export: %w", err)
	}
	return records, nil
}

// ErrPrunedMeanwhile breaks an export off: it could lack what was pruned since it began, and would look forged.
var ErrPrunedMeanwhile = errors.New("audit: events were pruned while they were exported: export the trail again")

// Write writes the lines, one window of the chain at a time; before each, ready is asked whether to go on. An export that
// breaks off has no last line. ErrPrunedMeanwhile.
func (e *Export) Write(ctx context.Context, w io.Writer, ready func() error) error {
	var page bytes.Buffer
	if err := line(&page, map[string]heading{"export": e.head}); err != nil {
		return err
	}
	records, events := e.first, int64(0)
	e.first = nil
	for after := e.head.After.Sequence; ; {
		for _, r := range records {
			if err := r.line(&page); err != nil {
				return err
			}
		}
		events += int64(len(records))
		if after += window; after >= e.head.Head.Sequence {
			break
		}
		if err := send(w, &page, ready); err != nil {
			return err
		}
		var err error
		if records, err = e.read(ctx, after); err != nil {
			return err
		}
	}
	if err := e.unpruned(ctx); err != nil {
		return err
	}
	if err := line(&page, map[string]trailer{"end": {Events: events}}); err != nil {
		return err
	}
	return send(w, &page, ready)
}

// unpruned tells whether all was there that the heading promises: the place up to which a trail is pruned is stored before anything
// of it goes.
func (e *Export) unpruned(ctx context.Context) error {
	head, err := e.store.Head(ctx, e.query.AccountID)
	if err != nil {
		return fmt.Errorf("audit: end an export: %w", err)
	}
	if head.Checkpoint.Sequence != e.head.After.Sequence {
		return ErrPrunedMeanwhile
	}
	return nil
}

// trailer is the last line.
type trailer struct {
	Events int64 `json:"events"`
}

func line(to *bytes.Buffer, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("audit: encode a line: %w", err)
	}
	to.Write(encoded)
	to.WriteByte('\n')
	return nil
}

func (r Record) line(to *bytes.Buffer) error {
	event, err := r.Event.Canonical()
	if err != nil {
		return err
	}
	to.WriteString(sealedLine(r.Seal.Sequence, r.Seal.Digest, r.Seal.Chain, event))
	to.WriteByte('\n')
	return nil
}

// sealedLine is the one form of an event's line.
func sealedLine(sequence int64, digest, chain string, event []byte) string {
	return fmt.Sprintf(`{"sequence":%d,"digest":%q,"chain":%q,"event":%s}`, sequence, digest, chain, event)
}

// send writes what is in the page and empties it.
func send(w io.Writer, page *bytes.Buffer, ready func() error) error {
	if page.Len() == 0 {
		return nil
	}
	if err := ready(); err != nil {
		return fmt.Errorf("audit: export: %w", err)
	}
	if _, err := page.WriteTo(w); err != nil {
		return fmt.Errorf("audit: write an export: %w", err)
	}
	return nil
}
