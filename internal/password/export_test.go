package password

import "io"

// SetKDF replaces the computation of a tag, so that tests decide how long it takes.
func (h *Hasher) SetKDF(kdf func(password, salt []byte, params Params, size int) []byte) { h.kdf = kdf }

// SetRandom replaces the source of salts.
func (h *Hasher) SetRandom(random io.Reader) { h.random = random }
