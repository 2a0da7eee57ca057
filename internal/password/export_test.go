package password

import "io"

// SetKDF replaces the computation of a tag, so that tests decide how long it takes.
func (h *Hasher) SetKDF(kdf func(password, salt []byte, params Params, size int) []byte) {
	h.kdf = func(_ variant, password, salt []byte, params Params, size int) []byte {
		return kdf(password, salt, params, size)
	}
}

// SetRandom replaces the source of salts.
func (h *Hasher) SetRandom(random io.Reader) { h.random = random }
