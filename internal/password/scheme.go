package password

import (
	"errors"
	"strings"

	"github.com/salesexec/credentials/internal/secret"
)

// storedHash is a hash in any of the schemes that can be verified.
type storedHash interface {
	// matches tells whether the password is the one that was hashed; argon2 is computed by compute.
	matches(compute derive, password secret.Text) bool
	// outdated tells whether the hash is to be replaced by what is made today.
	outdated(today Params) bool
	scheme() string
}

func parseStored(text string) (storedHash, error) {
	switch {
	case strings.HasPrefix(text, "$argon2"):
		return parsePHC(text)
	case strings.HasPrefix(text, "$2"):
		return parseBcrypt(text)
	case strings.HasPrefix(text, "$pbkdf2"):
		return parsePBKDF2(text)
	case strings.HasPrefix(text, "A"): // base64 of the version: 0x00 or 0x01
		return parseIdentity(text)
	}
	return nil, errors.New("none of argon2id, argon2i, bcrypt, PBKDF2 and ASP.NET Core Identity")
}

// CheckHash returns why a stored hash cannot be verified, or nil when it can: the scheme is unknown, the hash is damaged, or
// its parameters are out of the bounds of what is computed. The error is for the operator and never holds the hash.
//
// The forms are, with salt and tag in base64 without padding where it is a PHC string:
//
//	$argon2id$v=19$m=65536,t=3,p=4$<salt>$<tag>   8 KiB a thread to 1 GiB for all passes together, 1 to 16 passes and threads
//	$argon2i$v=19$m=65536,t=3,p=4$<salt>$<tag>    likewise
//	$2b$12$<salt and tag>                         bcrypt, also 2a and 2y, cost 10 to 14
//	$pbkdf2-sha256$i=600000$<salt>$<tag>          also pbkdf2-sha512, also i=600000,l=32 with the length of the tag
//	AA...                                         ASP.NET Core Identity version 2, base64 of 49 bytes
//	AQ...                                         ASP.NET Core Identity version 3, base64
//
// Salts have 8 to 64 bytes, tags 16 to 64; for the bounds of PBKDF2 see there. Every hash has one form only.
func CheckHash(stored string) error {
	_, err := parseStored(stored)
	return err
}

// Scheme names the scheme of a stored hash for the audit trail and reports: "argon2id", "argon2i", "bcrypt",
// "pbkdf2-sha256", "pbkdf2-sha512", "aspnet-identity-v2", "aspnet-identity-v3", "none" when there is no hash, or "unknown" when
// it cannot be verified.
func Scheme(stored string) string {
	if stored == "" {
		return "none"
	}
	hash, err := parseStored(stored)
	if err != nil {
		return "unknown"
	}
	return hash.scheme()
}

// Describe names the scheme of a stored hash as Scheme does, and tells whether it is legacy: in any way less than what the
// Hasher makes today, so that the next right sign-in would replace it. What cannot be verified is legacy; no hash is not.
func (h *Hasher) Describe(stored string) (scheme string, legacy bool) {
	if stored == "" {
		return "none", false
	}
	hash, err := parseStored(stored)
	if err != nil {
		return "unknown", true
	}
	return hash.scheme(), hash.outdated(h.params)
}
