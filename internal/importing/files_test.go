package importing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/importing"
)

// A file that cannot be told apart into rows is refused whole, also where bad rows would be skipped, with where and why and
// without a value of it.
func TestRun_badFiles(t *testing.T) {
	long := strings.Repeat("canary,", 20<<10)
	for name, test := range map[string]struct {
		file string
		line int
		want string
	}{
		"empty":             {"", 1, "The file is empty"},
		"no header":         {"canary-1,acme,/,agent,canary.x,$argon2id$canary\n", 1, "column 1 is not known; column 2, acme, is not known; column 3 is not known; column 4, agent, is not known; column 5 is not known; column 6 is not known; id is missing"},
		"unknown column":    {"id,account_id,team,role,username,phone\n", 1, "column 6, phone, is not known. Known are: id, account_id, account_name, team, role, also_manages, username, email, display_name, status, password_hash, password_changed_at."},
		"another case":      {"ID,account_id,team,role,username\n", 1, "column 1, ID, is not known; id is missing."},
		"a column twice":    {"id,account_id,team,role,username,id\n", 1, "id is there twice."},
		"missing columns":   {"id\n", 1, "account_id is missing; team is missing; role is missing; username is missing."},
		"semicolons":        {"id;account_id;team;role;username\n", 1, "not separated by commas, but by semicolons or tabs"},
		"tabs":              {"id\taccount_id\tteam\n", 1, "not separated by commas, but by semicolons or tabs"},
		"UTF-16":            {"\xff\xfei\x00d\x00,\x00", 1, "The file is not UTF-8"},
		"quote in a header": {"i\"d,account_id\n", 1, "A quoted cell"},
		"stray quote":       {header + "1,acme,/,agent,alex,,,,,\n2,acme,/,agent,\"canary\"canary,,,,,\n3,acme,/,agent,carl,,,,,\n", 3, "A quoted cell of the row that begins here"},
		"quote not closed":  {header + "1,acme,/,agent,alex,,,,,\n2,acme,/,agent,\"canary,,,,,\n3,acme,/,agent,carl,,,,,\n", 3, "A quoted cell of the row that begins here"},
		"not closed, long":  {header + "1,acme,/,agent,alex,,,,,\n2,acme,/,agent,\"canary" + strings.Repeat("\n3,acme,/,agent,carl,,,,,", 10000), 2, "more than 64 KiB"},
		"a long row":        {header + "1,acme,/,agent,alex,,,,,\n" + long + "\n2,acme,/,agent,bo,,,,,\n", 2, "The row after the one that begins here has more than 64 KiB"},
		"a long header":     {long, 1, "The header has more than 64 KiB"},
		"a quote, long":     {header + "x\"" + long, 1, "more than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{}
			_, err := run(t, m, test.file, importing.Options{SkipBad: true, CreateAccounts: true})
			wrong, ok := errors.AsType[*importing.FileError](err)
			if !ok || wrong.Line != test.line || !strings.Contains(wrong.Detail, test.want) {
				t.Errorf("got %v", err)
			}
			if m.loads != 0 || strings.Contains(fmt.Sprint(err), "canary") {
				t.Errorf("%d loads, %v", m.loads, err)
			}
		})
	}
}

// AZ-10: JSON lines are read as strictly as requests; a line that cannot be read is one bad row.
func TestRun_badLines(t *testing.T) {
	m := &memory{}
	good := func(id string) string {
		return `{"id":"` + id + `","account_id":"acme","team":"/","role":"agent","username":"user` + id + `"}` + "\n"
	}
	file := good("1") +
		`{"id":"2","account_id":"acme","team":"/","role":"agent","username":"canary","phone":"canary"}` + "\n" +
		`{"ID":"3"}` + "\n" + `{"id":"4","id":"canary"}` + "\n" + `{"id":null}` + "\n" + `{"id":6}` + "\n" + `{"also_manages":"/east/"}` + "\n" +
		`{"password_hash":["canary"]}` + "\n" + `["canary"]` + "\n" + `{"id":"canary` + "\n" + good("11")[:20] + "\n" + "{\"id\":\"\xff\"}\n" + `{"id":"\ud800"}` + "\n" +
		`{"id":"14"} {}` + "\n" + `{"id":"` + strings.Repeat("canary", 20<<10) + `"}` + "\n" + "  \n" + `{}` + "\n" + good("18")
	result, err := run(t, m, file, importing.Options{Format: importing.NDJSON, SkipBad: true})
	want := []string{
		"2 : cannot be read. The object holds a member that is not known here. Known are: id, account_id, account_name, team, role, also_manages, username, email, display_name, status, password_hash, password_changed_at.",
		"3 : cannot be read. The object holds a member that is not known here. Known are: id, account_id, account_name, team, role, also_manages, username, email, display_name, status, password_hash, password_changed_at.",
		"4 : cannot be read. The member id is there twice.",
		"5 : cannot be read. The member id is null: leave it out instead.",
		"6 : cannot be read. The member id has a value of the wrong type.",
		"7 : cannot be read. The member also_manages has a value of the wrong type.",
		"8 : cannot be read. A member has a value of the wrong type.",
		"9 : cannot be read. Give one JSON object.",
		"10 : cannot be read. The text is not JSON.",
		"11 : cannot be read. The text is not JSON.",
		"12 : cannot be read. The text is not UTF-8.",
		"13 : cannot be read. The text holds half of a surrogate pair.",
		"14 : cannot be read. Something follows the JSON object.",
		"15 : has more than 64 KiB.",
		"17 id: must be 1 to 64 of A-Z, a-z, 0-9, _ and -.",
		"17 account_id: must be 1 to 64 of A-Z, a-z, 0-9, _ and -.",
		"17 team: must be a path like / or /east/boston/.",
		"17 role: must be agent or administrator.",
		"17 username: Use letters, digits, dots, underscores and hyphens only, without spaces.",
	}
	if diff := cmp.Diff(want, told(result.Problems)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff([]int{1, 18}, m.lines()); diff != "" {
		t.Error(diff)
	}
}

func manyRows(n int) string {
	var text strings.Builder
	text.WriteString(header)
	for i := range n {
		fmt.Fprintf(&text, "%d,acme,/,agent,user%d,,,,,\n", i, i)
	}
	return text.String()
}

// edited is a file whose content changes after its first reading.
type edited struct {
	*strings.Reader
	then string
	seen int
}

func (f *edited) Seek(offset int64, whence int) (int64, error) {
	if f.seen++; f.seen > 1 {
		f.Reader = strings.NewReader(f.then)
	}
	return f.Reader.Seek(offset, whence)
}

// A file that is changed while it is imported is refused: what was checked is what is written.
func TestRun_changedFile(t *testing.T) {
	before := manyRows(3)
	for name, after := range map[string]string{
		"another value": strings.Replace(before, "user1", "userX", 1), "a bad value": strings.Replace(before, "user1", "user 1", 1),
		"longer": before + "9,acme,/,agent,late,,,,,\n", "shorter": manyRows(2), "empty": "",
	} {
		m := &memory{}
		file := &edited{Reader: strings.NewReader(before), then: after}
		result, err := importing.New(m, now).Run(t.Context(), file, importing.Options{Format: importing.CSV})
		if !errors.Is(err, importing.ErrChanged) || result.Written != 0 || m.loads != 0 {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
}

// Who is interrupted has written nothing, whether while checking or while writing.
func TestRun_interrupted(t *testing.T) {
	file := manyRows(1200)
	for _, stage := range []importing.Stage{importing.Checking, importing.Writing} {
		m := &memory{}
		ctx, cancel := context.WithCancel(t.Context())
		result, err := importing.New(m, now).Run(ctx, strings.NewReader(file), importing.Options{Format: importing.CSV, Progress: func(s importing.Stage, read int64) {
			if read <= 0 || read > int64(len(file)) {
				t.Errorf("%d of %d bytes read", read, len(file))
			}
			if s == stage {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || result.Written != 0 || m.loads != 0 {
			t.Errorf("%s: %+v %v", stage, result, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	m := &memory{during: cancel}
	if _, err := importing.New(m, now).Run(ctx, strings.NewReader(manyRows(1)), importing.Options{Format: importing.CSV}); !errors.Is(err, context.Canceled) || m.loads != 0 {
		t.Errorf("before the last batch: %v", err)
	}
}

// longFile is a file of n rows that are all the same, which is nowhere.
type longFile struct {
	header, row string
	n           int
	at          int
}

func (f *longFile) Seek(int64, int) (int64, error) {
	f.at = 0
	return 0, nil
}

func (f *longFile) Read(p []byte) (int, error) {
	if f.at < len(f.header) {
		n := copy(p, f.header[f.at:])
		f.at += n
		return n, nil
	}
	row, from := (f.at-len(f.header))/len(f.row), (f.at-len(f.header))%len(f.row)
	if row >= f.n {
		return 0, io.EOF
	}
	n := copy(p, f.row[from:])
	f.at += n
	return n, nil
}

// peers bug 12: however much is in the rows, no more of it is in memory than what tells which of them are the same.
func TestRun_memory(t *testing.T) {
	const rows = 600
	cell := strings.Repeat("x", 30<<10)
	for format, file := range map[importing.Format]*longFile{
		importing.CSV:    {header: header, row: "1,acme,/,agent,alex,," + cell + ",,,\n", n: rows},
		importing.NDJSON: {row: `{"id":"1","account_id":"acme","team":"/","role":"agent","username":"alex","display_name":"` + cell + `"}` + "\n", n: rows},
	} {
		var most uint64
		result, err := importing.New(&memory{}, now).Run(t.Context(), file, importing.Options{Format: format, Progress: func(importing.Stage, int64) {
			var held runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&held)
			most = max(most, held.HeapAlloc)
		}})
		if err != nil || result.Rows != rows || result.Bad != rows || most == 0 || most > 8<<20 {
			t.Errorf("%s: %d rows, %d bad, %d bytes in memory for %d read, %v", format, result.Rows, result.Bad, most, rows*len(file.row), err)
		}
	}
}

// brokenFile fails in the middle.
type brokenFile struct {
	io.ReadSeeker
	left int
}

func (f *brokenFile) Read(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return f.ReadSeeker.Read(p)
}

// Errors of the file and of the store are told as what they are.
func TestRun_errors(t *testing.T) {
	for _, format := range []importing.Format{importing.CSV, importing.NDJSON} {
		file := &brokenFile{ReadSeeker: strings.NewReader(manyRows(1000)), left: 9000}
		if _, err := importing.New(&memory{}, now).Run(t.Context(), file, importing.Options{Format: format}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", format, err)
		}
	}
	away := errors.New("away")
	if _, err := run(t, &memory{fail: away}, manyRows(1), importing.Options{}); !errors.Is(err, away) {
		t.Error(err)
	}
	for _, o := range []importing.Options{{Format: "xml"}, {Reason: strings.Repeat("x", 501)}, {Reason: "a\x00b"}} {
		if _, err := run(t, &memory{}, manyRows(1), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]importing.Format{"a.csv": importing.CSV, "b/A.CSV": importing.CSV, "x.ndjson": importing.NDJSON, "x.json": "", "csv": "", "": ""} {
		if got := importing.FormatOf(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
