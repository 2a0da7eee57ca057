package password

import "strings"

// Scheme names the scheme of a stored hash for the audit trail and reports: "argon2id", "bcrypt", "none" or "unknown".
func Scheme(stored string) string {
	switch {
	case stored == "":
		return "none"
	case strings.HasPrefix(stored, "$argon2id$"):
		return "argon2id"
	case strings.HasPrefix(stored, "$2"):
		return "bcrypt"
	}
	return "unknown"
}
