package password

import "strings"

// Scheme names the scheme of a stored hash for the audit trail and reports: "argon2id", "bcrypt", "none" or "unknown".
func Scheme(stored string) string {
	switch {
	case stored == "":
		return "none"
	case strings.HasPrefix(stored, "$2"):
		return "bcrypt"
	}
	if name, _, found := strings.Cut(strings.TrimPrefix(stored, "$"), "$"); found && strings.HasPrefix(stored, "$") {
		return name
	}
	return "unknown"
}
