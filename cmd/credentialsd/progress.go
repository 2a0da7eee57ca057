package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows on a terminal how far a list was read. Anywhere else it is silent.
type progress struct {
	to      io.Writer // nil: silent
	from    *source
	now     func() time.Time
	started time.Time
	shown   time.Time
	width   int // of the line that stands there
}

func newProgress(p process, from *source) *progress {
	bar := &progress{from: from, now: p.now, started: p.now()}
	if file, ok := p.stderr.(*os.File); ok && isTerminal(file) {
		bar.to = file
	}
	return bar
}

// Form of the bar.
const (
	barWidth = 30
	barEvery = 200 * time.Millisecond
)

// show draws the bar over the one before, a few times a second.
func (b *progress) show(lines int64) {
	now := b.now()
	if b.to == nil || now.Sub(b.shown) < barEvery {
		return
	}
	b.shown = now
	b.draw(b.line(lines, now.Sub(b.started)))
}

// line describes how far things are. Of a file, also a packed one, the share that was read is known, and so is about how
// long the rest will take; of standard input only the lines are.
func (b *progress) line(lines int64, took time.Duration) string {
	text := fmt.Sprintf("%.1f million lines in %s", float64(lines)/1e6, took.Round(time.Second))
	if b.from.size == 0 {
		return text
	}
	share := min(float64(b.from.read.Load())/float64(b.from.size), 1)
	done := int(share * barWidth)
	if share > 0 {
		text += fmt.Sprintf(", %s left", time.Duration(float64(took)*(1-share)/share).Round(time.Second))
	}
	return fmt.Sprintf("[%s%s] %3.0f%%  %s", strings.Repeat("#", done), strings.Repeat(".", barWidth-done), 100*share, text)
}

func (b *progress) draw(text string) {
	fmt.Fprintf(b.to, "\r%-*s", b.width, text)
	b.width = len(text)
}

// end takes the bar away.
func (b *progress) end() {
	if b.to != nil && b.width > 0 {
		b.draw("")
		fmt.Fprint(b.to, "\r")
	}
}
