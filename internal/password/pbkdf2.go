package password

import (
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // PBKDF2 of ASP.NET Core Identity version 2; collisions do not matter in HMAC
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"hash"
	"regexp"
	"strconv"
	"strings"

	"github.com/salesexec/credentials/internal/secret"
)

// Bounds of PBKDF2. Fewer iterations than ASP.NET Core Identity version 2 makes are refused (NIST SP 800-132 section 5.2 asks
// for 1,000 at least). Rounds are what is computed: the iterations, times the digests that the tag is long. The ceiling, ours,
// lets in what OWASP recommends (1,300,000 iterations of SHA-1, two digests long); SHA-512 takes seconds for it.
const (
	minIterations = 1000
	maxRounds     = 3_000_000
)

// digests are the hash functions of PBKDF2, by the names that the PHC strings have.
var digests = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// pbkdf2Hash is a stored PBKDF2 hash (RFC 8018 section 5.2). It is verified and never made anew.
type pbkdf2Hash struct {
	named      string // the scheme
	digest     string // of digests
	iterations int
	salt, tag  []byte
}

func (h pbkdf2Hash) bounded() error {
	if err := boundSizes(h.salt, h.tag); err != nil {
		return err
	}
	size := digests[h.digest]().Size()
	if h.iterations < minIterations || h.iterations > maxRounds/((len(h.tag)+size-1)/size) {
		return errIterations
	}
	return nil
}

var errIterations = errors.New("PBKDF2 iterations are below 1,000, or above 3,000,000 for all digests of the tag together")

func (h pbkdf2Hash) matches(_ derive, password secret.Text) bool {
	return inEitherForm(password, h.matchesExactly)
}

// matchesExactly computes the tag and compares it in constant time. It refuses a password that ends with NUL, at the same
// cost: HMAC fills keys up with NULs (RFC 2104 section 2), so it would be taken for the one without.
func (h pbkdf2Hash) matchesExactly(password string) bool {
	tag, err := pbkdf2.Key(digests[h.digest], password, h.salt, h.iterations, len(h.tag))
	if err != nil { // in FIPS mode, of a hash that it does not allow
		return false
	}
	return subtle.ConstantTimeCompare(tag, h.tag) == 1 && !strings.HasSuffix(password, "\x00")
}

func (pbkdf2Hash) outdated(Params) bool { return true }

func (h pbkdf2Hash) scheme() string { return h.named }

var pbkdf2Form = regexp.MustCompile(`^\$pbkdf2-(sha256|sha512)\$i=([1-9][0-9]{0,9})(?:,l=([1-9][0-9]?))?\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)

// parsePBKDF2 decodes "$pbkdf2-sha256$i=600000$<salt>$<tag>" or the like with sha512, and with ",l=32" for the length of the
// tag in bytes. Errors never hold the string.
func parsePBKDF2(stored string) (pbkdf2Hash, error) {
	if len(stored) > maxPHCSize {
		return pbkdf2Hash{}, errors.New("too long")
	}
	parts := pbkdf2Form.FindStringSubmatch(stored)
	if parts == nil {
		return pbkdf2Hash{}, errors.New("not a PHC string of pbkdf2-sha256 or pbkdf2-sha512 with i=")
	}
	iterations, err := strconv.Atoi(parts[2])
	if err != nil {
		return pbkdf2Hash{}, errIterations
	}
	salt, tag, err := decodeSaltAndTag(parts[4], parts[5])
	if err != nil {
		return pbkdf2Hash{}, err
	}
	if parts[3] != "" && parts[3] != strconv.Itoa(len(tag)) {
		return pbkdf2Hash{}, errors.New("the length l= is not that of the tag")
	}
	h := pbkdf2Hash{"pbkdf2-" + parts[1], parts[1], iterations, salt, tag}
	return h, h.bounded()
}
