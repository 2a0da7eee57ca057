package signals

import (
	"context"
	"time"
)

// SetWait puts something else in the place of waiting.
func (p *Poller) SetWait(wait func(ctx context.Context, d time.Duration) error) { p.wait = wait }
