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

// variant names a kind of argon2.
type variant string

const (
	argon2id variant = "argon2id" // what is made
	argon2i  variant = "argon2i"  // verified and never made anew
)

// phc is an argon2 hash, version 0x13, as its PHC string says it.
type phc struct {
	variant   variant
	params    Params
	salt, tag []byte
}

// derive computes an argon2 tag.
type derive func(kind variant, password, salt []byte, params Params, size int) []byte

func argon2Tag(kind variant, password, salt []byte, params Params, size int) []byte {
	compute := argon2.IDKey
	if kind == argon2i {
		compute = argon2.Key
	}
	return compute(password, salt, params.Time, params.MemoryKiB, params.Threads, uint32(size)) //nolint:gosec // a tag is at most 64 bytes
}

var phcForm = regexp.MustCompile(`^\$(argon2id?)\$v=19\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,10})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)

// String encodes the hash as a PHC string: "$argon2id$v=19$m=65536,t=3,p=4$<salt>$<tag>".
func (h phc) String() string {
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$%s$v=%d$m=%d,t=%d,p=%d$%s$%s", h.variant, argon2.Version,
		h.params.MemoryKiB, h.params.Time, h.params.Threads, encode(h.salt), encode(h.tag))
}

func (h phc) scheme() string { return string(h.variant) }

// parsePHC decodes a PHC string and bounds all it asks for. It accepts only what String would write, so that no two
// strings stand for one hash. Errors never hold the string.
func parsePHC(stored string) (phc, error) {
	if len(stored) > maxPHCSize {
		return phc{}, errors.New("too long")
	}
	parts := phcForm.FindStringSubmatch(stored)
	if parts == nil {
		return phc{}, errors.New("not a PHC string of argon2id or argon2i, version 19")
	}
	params, err := parseParams(parts[2], parts[3], parts[4])
	if err != nil {
		return phc{}, err
	}
	salt, tag, err := decodeSaltAndTag(parts[5], parts[6])
	if err != nil {
		return phc{}, err
	}
	hash := phc{variant(parts[1]), params, salt, tag}
	if hash.String() != stored {
		return phc{}, errNotCanonical
	}
	return hash, nil
}

// errNotCanonical refuses a second way to write a hash.
var errNotCanonical = errors.New("not written canonically")

// decodeSaltAndTag decodes the last two parts of a PHC string and bounds them.
func decodeSaltAndTag(salt, tag string) (decodedSalt, decodedTag []byte, err error) {
	decodedSalt, saltErr := base64.RawStdEncoding.Strict().DecodeString(salt)
	decodedTag, tagErr := base64.RawStdEncoding.Strict().DecodeString(tag)
	if saltErr != nil || tagErr != nil {
		return nil, nil, errors.New("salt or tag is not base64")
	}
	return decodedSalt, decodedTag, boundSizes(decodedSalt, decodedTag)
}

func boundSizes(salt, tag []byte) error {
	switch {
	case len(salt) < minSaltSize || len(salt) > maxSaltSize:
		return errors.New("salt is not of 8 to 64 bytes")
	case len(tag) < minTagSize || len(tag) > maxTagSize:
		return errors.New("tag is not of 16 to 64 bytes")
	}
	return nil
}

func parseParams(memory, time, threads string) (Params, error) {
	m, mErr := strconv.ParseUint(memory, 10, 32)
	t, tErr := strconv.ParseUint(time, 10, 32)
	p, pErr := strconv.ParseUint(threads, 10, 8)
	if mErr != nil || tErr != nil || pErr != nil {
		return Params{}, errors.New("argon2 parameters are out of range")
	}
	params := Params{MemoryKiB: uint32(m), Time: uint32(t), Threads: uint8(p)}
	return params, params.bounded()
}

// matches computes the tag and compares it in constant time.
func (h phc) matches(compute derive, password secret.Text) bool {
	return inEitherForm(password, func(text string) bool {
		tag := compute(h.variant, []byte(text), h.salt, h.params, len(h.tag))
		return subtle.ConstantTimeCompare(tag, h.tag) == 1
	})
}

// outdated tells whether the hash is in any way less than what is made today.
func (h phc) outdated(today Params) bool {
	return h.variant != argon2id || h.params.below(today) || len(h.salt) < saltSize || len(h.tag) < tagSize
}

// inEitherForm tries the NFC form, and the form as typed when it differs: whoever made the hash may not have normalised.
func inEitherForm(password secret.Text, try func(text string) bool) bool {
	normal := Normalize(password)
	return try(normal.Reveal()) || (!normal.Equal(password) && try(password.Reveal()))
}
