package session

import (
	"context"
	"fmt"
	"regexp"

	"github.com/salesexec/credentials/internal/notice"
)

var numbers = regexp.MustCompile(`[0-9]+`)

// deviceOf names the sort of app or browser that a user agent stands for. Version numbers are left out, or every update of
// a browser would be a new device.
func deviceOf(userAgent string) string {
	return fingerprint(numbers.ReplaceAllString(userAgent, "#"))
}

// tellOfNewDevice adds a notice to a sign-in from a device or a network that the user has not signed in from within 30 days.
// A first sign-in has nothing to be compared with, nor has one from a device that a service did not describe.
func (m *Manager) tellOfNewDevice(ctx context.Context, a attempt, opening *Opening) error {
	u := a.member.User
	if u.LastSignInAt == nil || opening.Device == "" || !m.config.Notices.On() {
		return nil
	}
	known, err := m.store.KnowsDevice(ctx, u.ID, opening.Device, m.config.Now().Add(-knownFor))
	if err != nil {
		return fmt.Errorf("session: look up the device: %w", err)
	}
	if known && a.known {
		return nil
	}
	event := opening.Audit[0]
	return m.config.Notices.Letter(&opening.Letters, event.ID, notice.New(notice.NewDevice, a.member.Account, u, event), u, u.Email, notice.RevertLink(u))
}
