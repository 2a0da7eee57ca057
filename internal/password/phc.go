package password

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"golang.org/x/crypto/argon2"

	"github.com/salesexec/credentials/internal/secret"
)

// Sizes in bytes. New hashes have a salt of 128 bits (RFC 9106 section 3.1) and a tag of 256 (section 4); stored ones
// may have been made elsewhere.
const (
	saltSize    = 16
	tagSize     = 32
	minSaltSize = 8
	maxSaltSize = 64
	minTagSize  = 16
	maxTagSize  = 64
	maxPHCSize  = 256 // above the longest string of those
)

// phc is an argon2id hash, version 0x13, as its PHC string says it.
type phc struct {
	params    Params
	salt, tag []byte
}

// derive computes an argon2id tag.
type derive func(password, salt []byte, params Params, size int) []byte

func argon2id(password, salt []byte, params Params, size int) []byte {
	return argon2.IDKey(password, salt, params.Time, params.MemoryKiB, params.Threads, uint32(size)) //nolint:gosec // a tag is at most 64 bytes
}

var phcForm = regexp.MustCompile(`^\$argon2id\$v=19\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,10})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)

// String encodes the hash as a PHC string: "$argon2id$v=19$m=65536,t=3,p=4$<salt>$<tag>".
func (h phc) String() string {
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.params.MemoryKiB, h.params.Time, h.params.Threads, encode(h.salt), encode(h.tag))
}

// parsePHC decodes a PHC string and bounds all it asks for. It accepts only what String would write, so that no two
// strings stand for one hash. Errors never hold the string.
func parsePHC(stored string) (phc, error) {
	if len(stored) > maxPHCSize {
		return phc{}, errors.New("too long")
	}
	parts := phcForm.FindStringSubmatch(stored)
	if parts == nil {
		return phc{}, errors.New("not an argon2id PHC string")
	}
	params, err := parseParams(parts[1], parts[2], parts[3])
	if err != nil {
		return phc{}, err
	}
	salt, saltErr := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	tag, tagErr := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	switch {
	case saltErr != nil || len(salt) < minSaltSize || len(salt) > maxSaltSize:
		return phc{}, errors.New("salt is not base64 of 8 to 64 bytes")
	case tagErr != nil || len(tag) < minTagSize || len(tag) > maxTagSize:
		return phc{}, errors.New("tag is not base64 of 16 to 64 bytes")
	}
	hash := phc{params, salt, tag}
	if hash.String() != stored {
		return phc{}, errors.New("not written canonically")
	}
	return hash, nil
}

func parseParams(memory, time, threads string) (Params, error) {
	m, mErr := strconv.ParseUint(memory, 10, 32)
	t, tErr := strconv.ParseUint(time, 10, 32)
	p, pErr := strconv.ParseUint(threads, 10, 8)
	if mErr != nil || tErr != nil || pErr != nil {
		return Params{}, errors.New("argon2id parameters are out of range")
	}
	params := Params{MemoryKiB: uint32(m), Time: uint32(t), Threads: uint8(p)}
	return params, params.bounded()
}

// matches computes the tag of the password's NFC form and compares it in constant time.
func (h phc) matches(compute derive, password secret.Text) bool {
	tag := compute([]byte(Normalize(password).Reveal()), h.salt, h.params, len(h.tag))
	return subtle.ConstantTimeCompare(tag, h.tag) == 1
}

// outdated tells whether the hash is in any way less than what is made today.
func (h phc) outdated(today Params) bool {
	return h.params.below(today) || len(h.salt) < saltSize || len(h.tag) < tagSize
}
