package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// What keeps an export from being verified at all.
var (
	ErrNoExport = errors.New("audit: this is no export of an audit trail")
	ErrPartial  = errors.New("audit: the export holds a part of the trail only: what is missing between its events cannot be told")
)

// BrokenError says where an export is not what the service sealed.
type BrokenError struct {
	Line    int    // of the file, from 1; 0 when it is about the file as a whole
	EventID string // of that line, if it could be read
	What    string // for people
}

// Error names the place and what is wrong there.
func (e *BrokenError) Error() string {
	text := "audit: "
	if e.Line > 0 {
		text += fmt.Sprintf("line %d: ", e.Line)
	}
	if e.EventID != "" {
		text += "event " + e.EventID + ": "
	}
	return text + e.What
}

// Expected is what a file is held against beside itself.
type Expected struct {
	Heads   []string // chain values noted earlier: each must be in the chain, else its end was removed or it was written anew
	Partial bool     // accept a filtered export, of which only the events in it can be checked
}

// Verified is what was found out about a file that is intact.
type Verified struct {
	AccountID string
	Partial   bool
	Events    int64
	After     int64            // sequence of the last event that had been pruned
	Sequence  int64            // of the last event
	Head      string           // chain value of the last event
	Heads     map[string]int64 // of the expected heads: the sequence at which each was found
}

// maxLine bounds a line in bytes: the longest event has names, a reason and a User-Agent, and stays far below.
const maxLine = 1 << 20

// exported is any line of an export.
type exported struct {
	Export   *heading        `json:"export"`
	End      *trailer        `json:"end"`
	Sequence int64           `json:"sequence"`
	Digest   string          `json:"digest"`
	Chain    string          `json:"chain"`
	Event    json.RawMessage `json:"event"`
}

// verifier walks an export line by line.
type verifier struct {
	expected Expected
	line     int
	head     *heading
	last     point
	linked   bool // the chain value of last is known: the next link can be computed
	told     bool // the pruning that the file begins after is told of in it
	ended    bool
	found    Verified
}

// Verify reads an export and checks it without a database: that every event is as it was sealed, that none is missing, added or
// out of place, and that the expected heads are in its chain. It returns a *BrokenError when not, ErrNoExport, ErrPartial, or an
// error of reading.
func Verify(r io.Reader, expected Expected) (Verified, error) {
	v := &verifier{expected: expected, found: Verified{Heads: map[string]int64{}}}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		v.line++
		if err := v.read(lines.Bytes()); err != nil {
			return Verified{}, err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		v.line++
		return Verified{}, v.broken("", "the line is longer than any that the service writes")
	}
	if err := lines.Err(); err != nil {
		return Verified{}, fmt.Errorf("audit: read the export: %w", err)
	}
	return v.found, v.end()
}

func (v *verifier) broken(event, format string, values ...any) error {
	return &BrokenError{Line: v.line, EventID: event, What: fmt.Sprintf(format, values...)}
}

func (v *verifier) read(text []byte) error {
	var l exported
	if err := json.Unmarshal(text, &l); err != nil {
		if v.head == nil {
			return ErrNoExport
		}
		return v.broken("", "the line is not JSON, or ends early")
	}
	switch {
	case v.head == nil:
		return v.begin(l, text)
	case v.ended:
		return v.broken("", "something follows the last line")
	case l.End != nil:
		if l.End.Events != v.found.Events {
			return v.broken("", "the export had %d events and holds %d", l.End.Events, v.found.Events)
		}
		v.ended = true
		return nil
	}
	return v.event(l, text)
}

func (v *verifier) begin(l exported, text []byte) error {
	if l.Export == nil || l.Export.Format != exportFormat {
		return ErrNoExport
	}
	var again bytes.Buffer
	if err := line(&again, map[string]heading{"export": *l.Export}); err != nil || !bytes.Equal(bytes.TrimSuffix(again.Bytes(), []byte("\n")), text) {
		return v.broken("", "the heading is not in the form that the service writes")
	}
	v.head = l.Export
	if v.head.Partial != (v.head.Filter != nil) {
		return v.broken("", "the heading contradicts itself about being partial")
	}
	if v.head.Partial && (!v.expected.Partial || len(v.expected.Heads) > 0) {
		return ErrPartial
	}
	v.found.AccountID, v.found.Partial, v.found.After = v.head.AccountID, v.head.Partial, v.head.After.Sequence
	v.last, v.linked, v.told = v.head.After, true, v.head.After.Sequence == 0
	v.note(v.last)
	return nil
}

// note remembers that an expected head was met.
func (v *verifier) note(link point) {
	v.found.Sequence, v.found.Head = link.Sequence, link.Chain
	for _, head := range v.expected.Heads {
		if head == link.Chain {
			v.found.Heads[head] = link.Sequence
		}
	}
}

func (v *verifier) event(l exported, text []byte) error {
	var named struct {
		ID        string  `json:"id"`
		AccountID string  `json:"account_id"`
		Action    Action  `json:"action"`
		Details   Details `json:"details"`
	}
	if json.Unmarshal(l.Event, &named) != nil || sealedLine(l.Sequence, l.Digest, l.Chain, l.Event) != string(text) {
		return v.broken(named.ID, "the line is not in the form that the service writes")
	}
	if err := v.place(named.ID, l.Sequence); err != nil {
		return err
	}
	switch {
	case hexOf(l.Event) != l.Digest:
		return v.broken(named.ID, "the event is not what was sealed: it was changed")
	case named.AccountID != v.head.AccountID:
		return v.broken(named.ID, "the event belongs to another account")
	case v.linked && follow(v.last.Chain, l.Digest) != l.Chain:
		return v.broken(named.ID, "the event does not follow the one before: one of them was put here, or its seal was changed")
	}
	v.last, v.linked = point{l.Sequence, l.Chain}, true
	v.told = v.told || Event{Action: named.Action, Details: named.Details}.tellsOf(v.head.After.Sequence, v.head.After.Chain)
	v.found.Events++
	v.note(v.last)
	return nil
}

// place checks where an event stands.
func (v *verifier) place(id string, sequence int64) error {
	next := v.last.Sequence + 1
	switch {
	case sequence < next:
		return v.broken(id, "event number %d comes after number %d: the order was changed, or it is there twice", sequence, v.last.Sequence)
	case sequence > v.head.Head.Sequence:
		return v.broken(id, "event number %d is beyond the end that the heading names, %d", sequence, v.head.Head.Sequence)
	case sequence > next && !v.head.Partial:
		return v.broken(id, "%s missing before this line", numbers(next, sequence-1))
	case sequence > next:
		v.linked = false
	}
	return nil
}

func numbers(from, to int64) string {
	if from == to {
		return fmt.Sprintf("event number %d is", from)
	}
	return fmt.Sprintf("events number %d to %d are", from, to)
}

// end checks what can be told only of the whole file.
func (v *verifier) end() error {
	if v.head == nil {
		return ErrNoExport
	}
	v.line = 0
	if !v.head.Partial && v.last.Sequence != v.head.Head.Sequence {
		return v.broken("", "the end is missing: the chain had %d events when it was exported, and the file ends with number %d", v.head.Head.Sequence, v.last.Sequence)
	}
	if !v.ended {
		return v.broken("", "the last line is missing: the export was broken off, or its end was removed")
	}
	if !v.head.Partial && v.last.Chain != v.head.Head.Chain {
		return v.broken("", "the chain does not end as the heading says")
	}
	if !v.head.Partial && !v.told {
		return v.broken("", "the first %d events are missing, and the chain does not tell that they were pruned", v.head.After.Sequence)
	}
	for _, head := range v.expected.Heads {
		if _, met := v.found.Heads[head]; !met {
			return v.broken("", "the head %s is not in this chain: the events up to it were removed or written anew, or it was noted before the oldest event in the file, number %d", head, v.found.After+1)
		}
	}
	return nil
}
