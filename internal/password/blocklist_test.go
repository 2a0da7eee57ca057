package password_test

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/salesexec/credentials/internal/password"
)

// PW-14: the list has its source, date and checksum beside it, and is the one they belong to.
func TestBlocklist_hasARecordedOrigin(t *testing.T) {
	packed, err := os.ReadFile("blocklist/common.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := os.ReadFile("blocklist/common.txt.gz.sha256")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x  common.txt.gz\n", sha256.Sum256(packed)); got != string(recorded) {
		t.Errorf("the list has the checksum %s, recorded is %s", got, recorded)
	}
	origin, err := os.ReadFile("blocklist/README.md")
	if err != nil {
		t.Fatal(err)
	}
	list, err := password.LoadBlocklist()
	if err != nil {
		t.Fatal(err)
	}
	for _, fact := range []string{"Fetched on 20", "MIT", grouped(list.Len()) + " entries", grouped(list.LenAtLeast(15)) + " of them of 15 or more"} {
		if !strings.Contains(string(origin), fact) {
			t.Errorf("blocklist/README.md does not say %q", fact)
		}
	}
}

func grouped(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }

// PW-14: a list of eight-character words would be no list under a minimum of 15.
func TestBlocklist_isLongEnough(t *testing.T) {
	list, err := password.LoadBlocklist()
	if err != nil {
		t.Fatal(err)
	}
	for minimum, want := range map[int]int{8: 20000, 15: 3000, 20: 3000} {
		if got := list.LenAtLeast(minimum); got < want {
			t.Errorf("%d entries of %d or more characters", got, minimum)
		}
	}
	if list.Len() != list.LenAtLeast(8) {
		t.Error("there are entries that no account can allow")
	}
}

// PW-13, PW-17: every entry is found, which a wrong order or an entry that is not folded would prevent.
func TestBlocklist_findsEveryEntry(t *testing.T) {
	list, err := password.LoadBlocklist()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("blocklist/common.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	previous := ""
	for lines := bufio.NewScanner(unpacked); lines.Scan(); previous = lines.Text() {
		entry := lines.Text()
		if entry <= previous || password.Fold(entry) != entry || !utf8.ValidString(entry) || !list.Contains(entry) {
			t.Fatalf("%q after %q", entry, previous)
		}
	}
	for _, absent := range []string{"", "kitchen oboe gravel", "passwordpasswor", "zzzzzzzzzzzzzzzzzzzzzzzz kitchen"} {
		if list.Contains(absent) {
			t.Errorf("%q is on the list", absent)
		}
	}
}

func TestNewBlocklist(t *testing.T) {
	list := password.NewBlocklist("Zebra Crossing", "acorn", "ZEBRA CROSSING")
	if list.Len() != 2 || !list.Contains("zebra crossing") || list.Contains("zebra") {
		t.Fatalf("%+v", list)
	}
	var none *password.Blocklist
	if none.Len() != 0 || none.Contains("") {
		t.Fatal("a nil list is not empty")
	}
}

func BenchmarkLoadBlocklist(b *testing.B) {
	for b.Loop() {
		if _, err := password.LoadBlocklist(); err != nil {
			b.Fatal(err)
		}
	}
}
