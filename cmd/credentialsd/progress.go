package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows on a terminal how far a file was read. Anywhere else it is silent.
type progress struct {
	to      io.Writer      // nil: silent
	share   func() float64 // of the file, 0 to 1; negative if it is not known
	now     func() time.Time
	started time.Time
	shown   time.Time
	width   int // of the line that stands there
}

func newProgress(p process, share func() float64) *progress {
	bar := &progress{share: share, now: p.now, started: p.now()}
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

// show draws the bar over the one before, a few times a second, with what was done up to now.
func (b *progress) show(done string) {
	now := b.now()
	if b.to == nil || now.Sub(b.shown) < barEvery {
		return
	}
	b.shown = now
	b.draw(b.line(done, now.Sub(b.started)))
}

// line describes how far things are. When the share that was read is known, so is about how long the rest will take.
func (b *progress) line(done string, took time.Duration) string {
	text := fmt.Sprintf("%s in %s", done, took.Round(time.Second))
	share := min(b.share(), 1)
	if share < 0 {
		return text
	}
	signs := int(share * barWidth)
	if share > 0 {
		text += fmt.Sprintf(", %s left", time.Duration(float64(took)*(1-share)/share).Round(time.Second))
	}
	return fmt.Sprintf("[%s%s] %3.0f%%  %s", strings.Repeat("#", signs), strings.Repeat(".", barWidth-signs), 100*share, text)
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
