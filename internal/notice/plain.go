package notice

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode"
)

// maxName bounds a name in a mail, in code points: what is longer was not made to be read as a name.
const maxName = 64

// joiners are invisible, and part of how some scripts are written: U+200C and U+200D.
const joiners = "\u200c\u200d"

// line returns text as one line that shows what it holds: no control characters, so that it is no header and no paragraph of
// its own, and nothing that turns the order of letters around.
func line(text string) string {
	shown := strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c) || unicode.IsControl(c):
			return ' '
		case unicode.IsGraphic(c) || strings.ContainsRune(joiners, c):
			return c
		}
		return -1
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.Join(strings.Fields(shown), " ")
}

// inLinks are the characters that programs find links and addresses by, with their wide forms.
const inLinks = `.:/\@` + "。．｡：／＼＠"

// name returns a name that somebody chose freely, so that it can stand in a mail to others: one line, cut, and apart where a
// mail program would make a link of it. "http://evil.example" becomes "http: / / evil. example".
func name(text string) string {
	var apart strings.Builder
	for _, c := range line(text) {
		apart.WriteRune(c)
		if strings.ContainsRune(inLinks, c) {
			apart.WriteByte(' ')
		}
	}
	return cut(line(apart.String()), maxName)
}

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return strings.TrimRight(string(runes[:most-1]), " ") + "…"
	}
	return text
}

// sign is a part of a user agent and what people call it.
type sign struct{ part, called string }

// browsers and systems are looked for from top to bottom: most browsers name those they descend from as well.
func browsers() []sign {
	return []sign{
		{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"},
		{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"},
	}
}

func systems() []sign {
	return []sign{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"CrOS", "ChromeOS"},
		{"Macintosh", "Mac"}, {"Mac OS X", "Mac"}, {"Linux", "Linux"},
	}
}

// product is the first word of a user agent without its version: the app, where it is no browser.
var product = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,31}`)

// device tells people what a user agent stands for. The words are this package's own, or one word without a dot: whoever
// sends the header writes nothing else into a mail.
func device(userAgent string) string {
	program := find(browsers(), userAgent)
	if program == "" {
		program = product.FindString(userAgent)
	}
	if program == "" {
		return "an unknown program"
	}
	if system := find(systems(), userAgent); system != "" {
		return program + " on " + system
	}
	return program
}

func find(signs []sign, userAgent string) string {
	for _, s := range signs {
		if strings.Contains(userAgent, s.part) {
			return s.called
		}
	}
	return ""
}

// place tells from where something was done, or "".
func place(ip, userAgent string) string {
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	return device(userAgent) + ", IP address " + address.WithZone("").String()
}
