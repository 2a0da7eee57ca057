package importing

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/secret"
)

// visited is a row as it was visited.
type visited struct {
	Line       int
	Row        row
	Unreadable bool
}

func visitAll(t *testing.T, file []byte, format Format) ([]visited, error) {
	t.Helper()
	var all []visited
	digest, err := readAll(bytes.NewReader(file), format, func(s *source, line int, r row, unreadable []fault) error {
		if s.read > int64(len(file)) {
			t.Errorf("%d bytes of %d were read", s.read, len(file))
		}
		all = append(all, visited{line, r, unreadable != nil})
		return nil
	})
	if err == nil && digest != sha256.Sum256(file) {
		t.Error("the digest is not that of the whole file")
	}
	return all, err
}

var compareRows = cmp.Comparer(func(a, b secret.Text) bool { return a.Reveal() == b.Reveal() })

// FuzzRowsOfCSV: what a CSV writer writes is read as it was meant, and every row has the line that it begins on, whatever line
// breaks and quotes are in its cells.
func FuzzRowsOfCSV(f *testing.F) {
	f.Add("1", "Ada \"A\" Marsh", "x\ny", "$argon2id$v=19$m=65536,t=3,p=4$salt$tag", false, false)
	f.Add("\r\n", "\"", "\"\"\n", ",", true, true)
	f.Add(" 1 ", "", ";", "é\u2028", true, false)
	f.Fuzz(func(t *testing.T, id, display, username, hash string, crlf, mark bool) {
		for _, cell := range []string{id, display, username, hash} {
			if !utf8.ValidString(cell) || len(cell) > maxRow/8 || strings.Contains(cell, "\r") {
				t.Skip() // a reader of CSV makes one line break of CR LF
			}
		}
		var file bytes.Buffer
		if mark {
			file.WriteString(byteOrderMark)
		}
		out := csv.NewWriter(&file)
		out.UseCRLF = crlf
		write := func(record ...string) (line int) {
			out.Flush()
			line = bytes.Count(file.Bytes(), []byte("\n")) + 1
			if err := out.Write(record); err != nil {
				t.Fatal(err)
			}
			return line
		}
		write("display_name", "password_hash", "username", "id", "role", "team", "account_id")
		var want []visited
		for range 3 {
			line := write(display, hash, username, id, "agent", "/", "acme")
			r := row{ID: id, DisplayName: display, Username: username, Role: "agent", Team: "/", AccountID: "acme", PasswordHash: secret.New(hash)}
			want = append(want, visited{line, r, false})
		}
		out.Flush()
		got, err := visitAll(t, file.Bytes(), CSV)
		if diff := cmp.Diff(want, got, compareRows); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

// FuzzReadAll: no file stops the program, rows come in the order of their lines, and lines are those of the file.
func FuzzReadAll(f *testing.F) {
	const columns = "id,account_id,team,role,username\n"
	for _, seed := range []string{
		"", "\ufeff" + columns, columns + "1,acme,/,agent,alex\n\n\"2\n\",a\"b,/,agent,bo\r\n", columns + "\"", columns + strings.Repeat("x", 1<<17), "\xff\xfe",
		`{"id":"1"}` + "\n\n{\n" + `{"id":"1","id":"2"}` + "\r\n" + `{"password_hash":"x"}`, strings.Repeat("[", 1<<17), "{}\n{}",
	} {
		f.Add([]byte(seed))
		f.Add([]byte(columns + seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		last := bytes.Count(file, []byte("\n")) + 1
		for _, format := range []Format{CSV, NDJSON} {
			rows, _ := visitAll(t, file, format)
			before := 0
			for _, v := range rows {
				if v.Line <= before || v.Line > last {
					t.Fatalf("line %d after %d, of %d", v.Line, before, last)
				}
				before = v.Line
				if format == NDJSON && !v.Unreadable {
					checkObject(t, bytes.Split(file, []byte("\n"))[v.Line-1], v.Row)
				}
			}
		}
	})
}

// checkObject compares what was read of a line with what any reader of JSON finds in it.
func checkObject(t *testing.T, text []byte, r row) {
	t.Helper()
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	var plain map[string]any
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatalf("%q was accepted: %v", text, err)
	}
	for member, got := range map[string]string{
		"id": r.ID, "account_id": r.AccountID, "account_name": r.AccountName, "team": r.Team, "role": r.Role, "username": r.Username, "email": r.Email,
		"display_name": r.DisplayName, "status": r.Status, "password_hash": r.PasswordHash.Reveal(), "password_changed_at": r.PasswordChangedAt,
	} {
		if want, _ := plain[member].(string); got != want {
			t.Errorf("%s of %q is %q", member, text, got)
		}
	}
}

// Nothing prints the hash of a row by accident (HASH-15).
func TestRow_printsNoHash(t *testing.T) {
	r := row{PasswordHash: secret.New("canary")}
	encoded, err := json.Marshal(r)
	if err != nil || bytes.Contains(encoded, []byte("canary")) {
		t.Errorf("%s %v", encoded, err)
	}
}
