package identifier

import "unicode"

// What follows keeps apart names that look alike (USR-05), in the terms of Unicode Technical Standard 39.

const (
	prolongedSound = '\u30FC' // the Japanese length mark: of the Common script, but written after kana alone
	dotAbove       = '\u0307'
	maxMarks       = 4 // in a row (UTS 39 section 5.4)
)

// oneScript tells whether all letters are of one script (UTS 39 section 5.1). Digits and marks that all scripts share go
// with any. Letters that belong to no script look like punctuation, as U+02CD does like '_', and go with none.
func oneScript(characters []rune) bool {
	var script *unicode.RangeTable
	for _, c := range characters {
		if isShared(c, script) || script != nil && unicode.Is(script, c) {
			continue
		}
		if script != nil {
			return false
		}
		if script = scriptOf(c); script == nil {
			return false
		}
	}
	return true
}

func isShared(c rune, script *unicode.RangeTable) bool {
	if c == prolongedSound {
		return script == unicode.Hiragana || script == unicode.Katakana
	}
	return !unicode.IsLetter(c) && unicode.In(c, unicode.Common, unicode.Inherited)
}

// scriptOf returns the script that the character belongs to, nil when it belongs to none.
func scriptOf(c rune) *unicode.RangeTable {
	if unicode.Is(unicode.Latin, c) {
		return unicode.Latin // most are: it need not be looked for
	}
	for _, table := range unicode.Scripts {
		if table != unicode.Common && table != unicode.Inherited && unicode.Is(table, c) {
			return table
		}
	}
	return nil
}

// oneNumbering tells whether all digits are of one numbering system (UTS 39 section 5.3).
func oneNumbering(characters []rune) bool {
	known := rune(-1)
	for _, c := range characters {
		if !unicode.IsDigit(c) {
			continue
		}
		zero := zeroOf(c)
		if known >= 0 && zero != known {
			return false
		}
		known = zero
	}
	return true
}

// zeroOf returns the zero of the digit's numbering system: decimal digits stand in runs of ten (Unicode section 4.6).
func zeroOf(digit rune) rune {
	for _, r := range unicode.Nd.R16 {
		if lo := rune(r.Lo); lo <= digit && digit <= rune(r.Hi) {
			return digit - (digit-lo)%10
		}
	}
	for _, r := range unicode.Nd.R32 {
		if lo := rune(r.Lo); lo <= digit && digit <= rune(r.Hi) { //nolint:gosec // a code point
			return digit - (digit-lo)%10
		}
	}
	return digit
}

// plainlyMarked tells whether every mark stands on a letter where it can be seen: not twice in a row, not in a heap (UTS 39
// section 5.4), and no dot above a letter that has one, as in "admi\u0307n".
func plainlyMarked(characters []rune) bool {
	var base, before rune
	marks := 0
	for _, c := range characters {
		if !unicode.IsMark(c) {
			base, before, marks = c, c, 0
			continue
		}
		marks++
		hidden := c == before || c == dotAbove && unicode.Is(unicode.Soft_Dotted, base)
		if hidden || marks > maxMarks || !unicode.IsLetter(base) {
			return false
		}
		before = c
	}
	return true
}
