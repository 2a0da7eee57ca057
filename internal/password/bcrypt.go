package password

import (
	"errors"
	"regexp"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/salesexec/credentials/internal/secret"
)

// bcryptHash is a stored bcrypt hash of cost 10 to 14. It is verified and never made anew.
type bcryptHash string

// The cost is part of the form: below 10 is not approved (ASVS Appendix C), above 14 would hold a lane for seconds.
var bcryptForm = regexp.MustCompile(`^\$2[aby]\$1[0-4]\$[./A-Za-z0-9]{53}$`)

// maxBcryptInput is where bcrypt stops reading, in bytes.
const maxBcryptInput = 72

func parseBcrypt(stored string) (bcryptHash, error) {
	if !bcryptForm.MatchString(stored) {
		return "", errors.New("not a bcrypt hash of cost 10 to 14")
	}
	return bcryptHash(stored), nil
}

func (h bcryptHash) matches(_ derive, password secret.Text) bool {
	return inEitherForm(password, h.matchesExactly)
}

// matchesExactly refuses input that bcrypt would cut off, at 72 bytes or, in other implementations, at a NUL, because
// anything could follow there. It spends the same on it.
func (h bcryptHash) matchesExactly(password string) bool {
	readable := len(password) <= maxBcryptInput && !strings.Contains(password, "\x00")
	if !readable {
		password = ""
	}
	return bcrypt.CompareHashAndPassword([]byte(h), []byte(password)) == nil && readable
}

func (bcryptHash) outdated(Params) bool { return true }

func (bcryptHash) scheme() string { return "bcrypt" }
