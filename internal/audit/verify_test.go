package audit_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/user"
)

// checkpoint is where the pruned trails of these tests begin.
func checkpoint() audit.Checkpoint {
	return audit.Checkpoint{AccountID: "demo", Sequence: 40, Chain: strings.Repeat("ab", 32), PrunedAt: start}
}

// An intact export verifies, with the heads that were noted of it, also after it was pruned.
func TestVerify_intact(t *testing.T) {
	for _, from := range []audit.Checkpoint{{}, checkpoint()} {
		m := newMemory(t, "demo", from, 5)
		earlier, head := m.records[2].Seal, m.records[4].Seal
		expected := audit.Expected{Heads: []string{earlier.Chain, head.Chain}}
		if from.Chain != "" {
			expected.Heads = append(expected.Heads, from.Chain)
		}
		found, err := audit.Verify(strings.NewReader(exportOf(t, m, audit.Filter{})), expected)
		if err != nil {
			t.Fatal(err)
		}
		if found.AccountID != "demo" || found.Partial || found.Events != 5 || found.After != from.Sequence || found.Sequence != from.Sequence+5 || found.Head != head.Chain {
			t.Errorf("%+v", found)
		}
		if found.Heads[earlier.Chain] != from.Sequence+3 || found.Heads[head.Chain] != from.Sequence+5 || from.Chain != "" && found.Heads[from.Chain] != from.Sequence {
			t.Errorf("heads: %v", found.Heads)
		}
	}
	empty, err := audit.Verify(strings.NewReader(exportOf(t, newMemory(t, "demo", audit.Checkpoint{}, 0), audit.Filter{})), audit.Expected{})
	if err != nil || empty.Events != 0 || empty.Head != "" {
		t.Errorf("an empty trail: %+v, %v", empty, err)
	}
}

// resealed seals the events of a trail anew, from the one named on, as somebody does who knows how.
func resealed(t *testing.T, m *memory, alter func(i int, e *audit.Event)) *memory {
	t.Helper()
	last := audit.Seal{AccountID: m.account, Sequence: m.from.Sequence, Chain: m.from.Chain}
	again := &memory{account: m.account, from: m.from}
	for i, r := range m.records {
		alter(i, &r.Event)
		seal, err := audit.Next(last, r.Event)
		if err != nil {
			t.Fatal(err)
		}
		last = seal
		again.records = append(again.records, audit.Record{Event: r.Event, Seal: &seal})
	}
	return again
}

// AUD-01, peers section 4 "hash-chained audit": whatever is done to an export shows, and the message says what and where.
func TestVerify_tampering(t *testing.T) {
	m := newMemory(t, "demo", audit.Checkpoint{}, 5)
	lines := strings.SplitAfter(strings.TrimSuffix(exportOf(t, m, audit.Filter{}), "\n"), "\n") // heading, 1 to 5, end
	lines[6] += "\n"
	head := m.records[4].Seal.Chain
	cut := newMemory(t, "demo", audit.Checkpoint{}, 0)
	cut.records = m.records[:3]
	forged := resealed(t, m, func(i int, e *audit.Event) {
		if i == 1 {
			e.Reason = "other"
		}
	})
	late := newMemory(t, "demo", checkpoint(), 5)
	untold := resealed(t, late, func(_ int, e *audit.Event) { e.Details.Sequence = 0 })
	replaced := func(old, by string) string { return strings.ReplaceAll(strings.Join(lines, ""), old, by) }
	for name, c := range map[string]struct {
		text string
		head string
		line int
		says string
	}{
		"an event is changed":           {strings.Join(lines[:3], "") + strings.Replace(lines[3], "target-2", "target-9", 1) + strings.Join(lines[4:], ""), "", 4, "was changed"},
		"an event is missing":           {strings.Join(lines[:3], "") + strings.Join(lines[4:], ""), "", 4, "event number 3 is missing"},
		"several events are missing":    {strings.Join(lines[:2], "") + strings.Join(lines[5:], ""), "", 3, "events number 2 to 4 are missing"},
		"the first event is missing":    {lines[0] + strings.Join(lines[2:], ""), "", 2, "event number 1 is missing"},
		"the order is changed":          {strings.Join(lines[:2], "") + lines[3] + lines[2] + strings.Join(lines[4:], ""), "", 3, "missing before this line"},
		"an event is there twice":       {strings.Join(lines[:3], "") + lines[2] + strings.Join(lines[3:], ""), "", 4, "there twice"},
		"the end is cut off":            {strings.Join(lines[:4], ""), "", 0, "the end is missing"},
		"the last line is cut off":      {strings.Join(lines[:6], ""), "", 0, "the last line is missing"},
		"the end is removed":            {strings.Join(lines[:4], "") + lines[6], "", 5, "the export had 5 events and holds 3"},
		"the end is removed and told":   {strings.Join(lines[:4], "") + `{"end":{"events":3}}` + "\n", "", 0, "the end is missing"},
		"a whole shorter export":        {exportOf(t, cut, audit.Filter{}), head, 0, "the head " + head + " is not in this chain"},
		"everything is sealed anew":     {exportOf(t, forged, audit.Filter{}), head, 0, "the head " + head + " is not in this chain"},
		"a pruning that never was":      {exportOf(t, untold, audit.Filter{}), "", 0, "the first 40 events are missing, and the chain does not tell that they were pruned"},
		"a head from before the file":   {exportOf(t, late, audit.Filter{}), m.records[0].Seal.Chain, 0, "noted before the oldest event in the file, number 41"},
		"a seal is changed":             {replaced(m.records[1].Seal.Chain, strings.Repeat("0", 64)), "", 3, "does not follow the one before"},
		"the last chain value":          {replaced(head, strings.Repeat("0", 64)), "", 6, "does not follow the one before"},
		"the heading's head":            {strings.Replace(strings.Join(lines, ""), head, strings.Repeat("0", 64), 1), "", 0, "does not end as the heading says"},
		"the heading ends early":        {replaced(`"head":{"sequence":5`, `"head":{"sequence":4`), "", 6, "is beyond the end that the heading names"},
		"the heading says more":         {replaced(`"partial":false`, `"partial":false,"note":"x"`), "", 1, "the heading is not in the form"},
		"the heading contradicts":       {replaced(`"partial":false`, `"partial":true`), "", 1, "contradicts itself"},
		"another account":               {replaced(`"account_id":"demo","exported_at"`, `"account_id":"other","exported_at"`), "", 2, "belongs to another account"},
		"a line says a thing twice":     {replaced(`{"sequence":2,`, `{"sequence":9,"sequence":2,`), "", 3, "not in the form"},
		"a line says more":              {replaced(`{"sequence":2,`, `{"note":"x","sequence":2,`), "", 3, "not in the form"},
		"a line is written otherwise":   {replaced(`{"sequence":2,`, `{ "sequence":2,`), "", 3, "not in the form"},
		"an event is written otherwise": {replaced(`"action":"password.reset"`, `"action": "password.reset"`), "", 2, "was changed"},
		"an event says a thing twice":   {replaced(`{"version":1,`, `{"version":1,"reason":"",`), "", 2, "was changed"},
		"something follows":             {strings.Join(lines, "") + lines[5], "", 8, "something follows"},
		"a line is no JSON":             {strings.Join(lines[:3], "") + "oops\n" + strings.Join(lines[3:], ""), "", 4, "not JSON"},
		"a line is far too long":        {strings.Join(lines[:2], "") + strings.Repeat(" ", 2<<20), "", 3, "longer than any"},
	} {
		expected := audit.Expected{}
		if c.head != "" {
			expected.Heads = []string{c.head}
		}
		_, err := audit.Verify(strings.NewReader(c.text), expected)
		broken, ok := errors.AsType[*audit.BrokenError](err)
		if !ok || broken.Line != c.line || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want line %d: %s", name, err, c.line, c.says)
		}
	}
}

// No byte of an event and its seal can be changed without it showing.
func TestVerify_everyByte(t *testing.T) {
	text := exportOf(t, newMemory(t, "demo", checkpoint(), 2), audit.Filter{})
	first := strings.Index(text, "\n") + 1
	last := strings.LastIndex(text, `{"end"`)
	for i := first; i < last; i++ {
		for _, by := range []byte{'0', 'x', '"', ' ', '\n', text[i] ^ 0x20} {
			if by == text[i] {
				continue
			}
			altered := text[:i] + string(by) + text[i+1:]
			if _, err := audit.Verify(strings.NewReader(altered), audit.Expected{}); err == nil {
				t.Fatalf("byte %d, %q for %q: it verifies", i, by, text[i])
			}
		}
	}
}

// A part of a trail is not taken for the whole: what is in it can be checked, what is not cannot.
func TestVerify_partial(t *testing.T) {
	m := newMemory(t, "demo", audit.Checkpoint{}, 5)
	text := exportOf(t, m, audit.Filter{Target: "target-3"})
	for name, expected := range map[string]audit.Expected{"without saying so": {}, "against a head": {Partial: true, Heads: []string{m.records[3].Seal.Chain}}} {
		if _, err := audit.Verify(strings.NewReader(text), expected); !errors.Is(err, audit.ErrPartial) {
			t.Errorf("%s: %v", name, err)
		}
	}
	found, err := audit.Verify(strings.NewReader(text), audit.Expected{Partial: true})
	if err != nil || !found.Partial || found.Events != 1 || found.Sequence != 4 {
		t.Errorf("%+v, %v", found, err)
	}
	for name, altered := range map[string]string{
		"a changed event":              strings.Replace(text, "Forgot it", "Wanted it", 1),
		"a filter that is taken out":   strings.Replace(strings.Replace(text, `,"filter":{"target":"target-3"}`, "", 1), `"partial":true`, `"partial":false`, 1),
		"an event that is taken out":   text[:strings.Index(text, "\n")+1] + text[strings.LastIndex(text, `{"end"`):],
		"events in a row that are not": strings.Replace(exportOf(t, m, audit.Filter{Actor: "ada-1"}), m.records[2].Seal.Chain, strings.Repeat("0", 64), 1),
	} {
		if _, err := audit.Verify(strings.NewReader(altered), audit.Expected{Partial: true}); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	// What an administrator reaches is a part as well, and the heading says which.
	erin := access.Actor{Kind: access.Person, User: user.User{AccountID: "demo", Role: user.Administrator, Team: "/east/", AlsoManages: []user.Team{"/west/"}}}
	export, err := audit.NewTrail(m, func() time.Time { return start }).Open(t.Context(), audit.Query{Actor: erin, AccountID: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	var heading strings.Builder
	if err := export.Write(t.Context(), &heading, always); err != nil || !strings.Contains(heading.String(), `"partial":true,"filter":{"reach":["/east/","/west/"]}}`) {
		t.Errorf("%v: %s", err, heading.String()[:400])
	}
}

// What is no export is said to be none, whatever it is.
func TestVerify_noExport(t *testing.T) {
	for _, text := range []string{"", "\n", "hello", "{}", "[]", `{"items":[],"next_cursor":null}`, `{"export":{"format":"other"}}`, "PK\x03\x04"} {
		if _, err := audit.Verify(strings.NewReader(text), audit.Expected{}); !errors.Is(err, audit.ErrNoExport) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzVerify: nothing that is read makes the verifier panic, and no event is found where there is none.
func FuzzVerify(f *testing.F) {
	f.Add("{\"export\":{\"format\":\"salesexec-audit-1\"}}\n{\"end\":{\"events\":0}}\n")
	f.Add(`{"export":{"format":"salesexec-audit-1","account_id":"demo","exported_at":"2026-03-01T13:00:00Z","after":{"sequence":0,"chain":""},"head":{"sequence":1,"chain":"x"},"partial":true,"filter":{}}}` +
		"\n" + `{"sequence":1,"digest":"x","chain":"x","event":{"id":"1"}}` + "\n" + `{"end":{"events":1}}`)
	f.Fuzz(func(t *testing.T, text string) {
		found, err := audit.Verify(strings.NewReader(text), audit.Expected{Partial: true})
		if err == nil && found.Events > 0 && !strings.Contains(text, `"event":{`) {
			t.Errorf("%d events were found in %q", found.Events, text)
		}
	})
}
