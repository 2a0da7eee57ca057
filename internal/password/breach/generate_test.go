package breach_test

import (
	"bytes"
	"io"
	"math/bits"
	"math/rand/v2"
	"strconv"
)

// generator writes a list as long as wanted, in the form of Have I Been Pwned, without keeping it: hashes ascend, spread
// evenly and at random over all that there are, and two generators of the same size and seed write the same.
type generator struct {
	size, at uint64
	random   *rand.Rand
	buffer   []byte
	rest     []byte
}

func generate(size int, seed uint64) *generator {
	return &generator{size: uint64(size), random: rand.New(rand.NewPCG(seed, 0))}
}

// next returns the beginning of the next hash: somewhere in its share of all hashes.
func (g *generator) next() (key uint64) {
	key, _ = bits.Div64(g.at, g.random.Uint64(), g.size)
	g.at++
	return key
}

// Read writes lines.
func (g *generator) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		if g.at == g.size {
			return 0, io.EOF
		}
		g.buffer = g.buffer[:0]
		for g.at < g.size && len(g.buffer) < 64<<10 {
			key := g.next()
			g.buffer = appendLine(g.buffer, key, 1+g.at%100)
		}
		g.rest = g.buffer
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

// appendLine writes a line with a hash that begins with key. What follows there is of no interest.
func appendLine(to []byte, key, count uint64) []byte {
	const digits = "0123456789ABCDEF"
	for shift := 60; shift >= 0; shift -= 4 {
		to = append(to, digits[key>>shift&15])
	}
	to = append(to, "0123456789ABCDEF01234567:"...)
	return append(strconv.AppendUint(to, count, 10), '\r', '\n')
}

// lines is a list of these keys, each seen as often as its place says.
func lines(keys ...uint64) []byte {
	var list []byte
	for i, key := range keys {
		list = appendLine(list, key, uint64(i+1))
	}
	return list
}

// listOf is a whole list as text.
func listOf(size int, seed uint64) []byte {
	var list bytes.Buffer
	_, _ = list.ReadFrom(generate(size, seed)) // memory and a generator do not fail
	return list.Bytes()
}
