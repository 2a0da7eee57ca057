package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/salesexec/credentials/internal/password/breach"
)

// checkedAtStart is the size, in bytes, up to which a filter is read and checked whole before the service starts; that
// takes a second at most. A larger one is checked while the service runs.
const checkedAtStart = 256 << 20

// openBreached opens the filter that the settings name, or returns nil if they name none. checkLater tells that its content
// is yet to be checked.
func openBreached(ctx context.Context, w wiring) (filter *breach.Filter, checkLater bool, err error) {
	path := w.settings.BreachedPasswords
	if path == "" {
		w.log.WarnContext(ctx, "passwords known from breaches can be chosen: BREACHED_PASSWORDS_FILTER is not set")
		return nil, false, nil
	}
	filter, err = breach.Open(path, func(damage error) {
		w.log.Error("the filter of breached passwords is damaged; with it the service is not ready", "error", damage.Error())
	})
	if err != nil {
		return nil, false, fmt.Errorf("BREACHED_PASSWORDS_FILTER: %w", err)
	}
	info := filter.Info()
	checkLater = info.Size > w.checkedAtStart
	if !checkLater {
		if err := filter.Verify(ctx); err != nil {
			closeQuietly(filter)
			return nil, false, fmt.Errorf("BREACHED_PASSWORDS_FILTER: %s: %w", path, err)
		}
	}
	w.log.InfoContext(ctx, "passwords known from breaches are refused", "filter", path, "entries", info.Entries,
		"source_date", info.SourceDate.Format(time.DateOnly), "min_count", info.MinCount, "checked", !checkLater)
	return filter, checkLater, nil
}

// checkBreached checks the content of a large filter. Damage is logged by the filter, and turns readiness off.
func (a *app) checkBreached(ctx context.Context) {
	if err := a.breached.Verify(ctx); err == nil {
		a.log.InfoContext(ctx, "the filter of breached passwords is checked and sound")
	}
}

// breached describes the filter that is in use. An alert on its age is time() minus the source's time.
func (m *metrics) breached(filter *breach.Filter) {
	info := filter.Info()
	gauge := func(name, help string, value func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m.registry.MustRegister(
		gauge("credentials_breached_passwords_entries", "Passwords on the list of breached ones.", func() float64 { return float64(info.Entries) }),
		gauge("credentials_breached_passwords_source_timestamp_seconds", "Unix time of the list of breached passwords.", func() float64 {
			return float64(info.SourceDate.Unix())
		}),
		gauge("credentials_breached_passwords_sound", "1, or 0 once the filter of breached passwords was found damaged.", func() float64 {
			if filter.Sound(context.Background()) != nil {
				return 0
			}
			return 1
		}),
	)
}
