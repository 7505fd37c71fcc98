package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Bounds of what others can put into a document. A node, or who publishes on
// it, cannot make a document grow beyond them: see [MaxJSON].
const (
	maxName     = 128 // bytes, of a name, an address or a version
	maxSentence = 400 // bytes, of a detail or a hint
	maxClaims   = 64  // of Sentinels heard
	maxAnswers  = 32  // of listed Sentinels
	maxAsked    = 12  // of Sentinels that the daemon has found
	maxLinks    = 16  // of online replicas

	maxMisconfigurations = 6 // of their settings
)

// MaxJSON is the most bytes that [Document.JSON] takes. It fits into the buffer
// of a unix socket.
const MaxJSON = 180_000

// name bounds and cleans a word that a server used.
func name(s string) string { return shorten(line(s), maxName) }

// sentence bounds and cleans a sentence that may hold such words.
func sentence(s string) string { return shorten(line(s), maxSentence) }

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}

// Line makes a text safe for a line of output.
func Line(s string) string { return line(s) }

// line replaces what could end a line, or act on a terminal: all that cannot be
// printed.
func line(s string) string {
	return strings.Map(func(c rune) rune {
		if strconv.IsPrint(c) {
			return c
		}
		return '?'
	}, s)
}

// Escape makes a text that is JSON safe for a line of output.
func Escape(s string) string { return escape(s) }

// escape writes those as JSON's \u in a text that is JSON.
func escape(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case strconv.IsPrint(c):
			b.WriteRune(c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}
