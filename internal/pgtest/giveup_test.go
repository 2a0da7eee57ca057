package pgtest

import (
	"errors"
	"fmt"
	"testing"
)

// outcome is a testing.TB that records how giveUp ended the test.
type outcome struct {
	testing.TB
	end string
}

func (o *outcome) Helper() {}

// The first call ends a real test, so later ones do not count.
func (o *outcome) record(end string) {
	if o.end == "" {
		o.end = end
	}
}
func (o *outcome) Skipf(string, ...any)  { o.record("skip") }
func (o *outcome) Fatalf(string, ...any) { o.record("fatal") }

func TestGiveUp(t *testing.T) {
	absent, broken := fmt.Errorf("%w: why", errUnavailable), errors.New("initdb failed")
	for _, c := range []struct {
		name, require string
		err           error
		want          string
	}{
		{"absent", "", absent, "skip"},
		{"absent but required", "1", absent, "fatal"},
		{"broken", "", broken, "fatal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("REQUIRE_POSTGRES", c.require)
			var o outcome
			giveUp(&o, c.err)
			if o.end != c.want {
				t.Errorf("ended with %q, want %q", o.end, c.want)
			}
		})
	}
}

func TestByVersion(t *testing.T) {
	const old, recent = "/usr/lib/postgresql/9.6/bin/initdb", "/usr/lib/postgresql/15/bin/initdb"
	if byVersion(old, recent) >= 0 || byVersion(recent, old) <= 0 {
		t.Error("9.6 is not below 15")
	}
}
