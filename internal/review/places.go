package review

import (
	"maps"
	"time"
)

// together is within which time uses of sessions count as at once.
const together = time.Hour

// places counts from how many networks a user's sessions were in use at once: the most distinct networks that have a use each
// within one hour. Uses that nobody recorded are not made up: sessions that stay idle in many places count for nothing.
type places struct {
	last map[string]time.Time // when each network was last used, of those within the hour
	most int
	at   time.Time // when the most were reached first
}

// use adds the next use in the order of time.
func (p *places) use(at time.Time, network string) {
	if network == "" {
		return
	}
	if p.last == nil {
		p.last = map[string]time.Time{}
	}
	maps.DeleteFunc(p.last, func(_ string, last time.Time) bool { return at.Sub(last) > together })
	p.last[network] = at
	if len(p.last) > p.most {
		p.most, p.at = len(p.last), at
	}
}
