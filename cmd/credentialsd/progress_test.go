package main

import (
	"bytes"
	"testing"
	"time"
)

// The bar tells of a file how much of it was read and what is left, of standard input how many lines; it is drawn a few times
// a second, over the one before, and leaves nothing.
func TestProgress(t *testing.T) {
	var screen bytes.Buffer
	now := today()
	file := &source{size: 1000}
	bar := &progress{to: &screen, share: file.share, now: func() time.Time { return now }, started: now}
	want := func(text string) {
		t.Helper()
		if screen.String() != text {
			t.Errorf("got %q, want %q", screen.String(), text)
		}
		screen.Reset()
	}
	bar.show("0.0 million lines")
	want("\r[..............................]   0%  0.0 million lines in 0s")
	now = now.Add(100 * time.Millisecond)
	bar.show("0.0 million lines")
	want("")
	now = now.Add(10*time.Minute - 100*time.Millisecond)
	file.read.Store(250)
	bar.show("25.0 million lines")
	want("\r[#######.......................]  25%  25.0 million lines in 10m0s, 30m0s left")
	now = now.Add(30 * time.Minute)
	file.read.Store(1001) // somebody appends to it
	bar.show("100.0 million lines")
	want("\r[##############################] 100%  100.0 million lines in 40m0s, 0s left  ")
	bar.share = new(source).share
	now = now.Add(time.Second)
	bar.show("100.1 million lines")
	want("\r100.1 million lines in 40m1s                                                ")
	bar.end()
	want("\r                            \r")

	silent := newProgress(process{stderr: &screen, now: today}, file.share)
	silent.show("nothing")
	silent.end()
	want("")
}
