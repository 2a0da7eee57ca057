// Package secret keeps passwords, tokens and keys from being printed by accident.
//
// It depends on the standard library alone, and everything that handles a secret depends on it.
package secret

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log/slog"
)

// redacted is what every way of printing or encoding a Text yields.
const redacted = "[redacted]"

// Text is a secret string. Whatever fmt verb, logger or encoder meets it, it shows as "[redacted]";
// only Reveal gives the value. The zero value is an empty secret.
type Text struct{ value string }

// New makes a secret of value.
func New(value string) Text { return Text{value: value} }

// Reveal returns the value itself. Call it only where the value is used: to hash, to compare, to sign, to send.
func (t Text) Reveal() string { return t.value }

// Empty tells whether there is no value.
func (t Text) Empty() bool { return t.value == "" }

// Equal compares in constant time for equal lengths (ASVS 11.2.4).
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.value), []byte(other.value)) == 1
}

// String returns "[redacted]".
func (Text) String() string { return redacted }

// Format prints "[redacted]" for every verb, %x and %q included.
func (Text) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) }

// LogValue logs "[redacted]".
func (Text) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText encodes as "[redacted]"; JSON and other encoders use it.
func (Text) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalJSON decodes a JSON string. Errors never hold the value.
func (t *Text) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '"' {
		return fmt.Errorf("secret: not a JSON string")
	}
	if err := json.Unmarshal(data, &t.value); err != nil {
		return fmt.Errorf("secret: not a JSON string")
	}
	return nil
}
