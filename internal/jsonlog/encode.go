package jsonlog

import (
	"time"
	"unicode/utf8"
)

// appendLine appends one line of the file: {"log":LINE,"stream":STREAM,"time":TIME} and a newline.
// LINE gets a newline at its end if whole.
func appendLine(b, line []byte, whole bool, stream string, stamp []byte) []byte {
	b = append(b, `{"log":"`...)
	b = appendEscaped(b, line)
	if whole {
		b = append(b, `\n`...)
	}
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	b = append(b, `","time":"`...)
	b = append(b, stamp...)
	return append(b, "\"}\n"...)
}

// appendTime appends t as Docker writes it: RFC 3339 in UTC with as many digits as it needs.
func appendTime(b []byte, t time.Time) []byte { return t.UTC().AppendFormat(b, time.RFC3339Nano) }

const hex = "0123456789abcdef"

// appendEscaped appends s as the inside of a JSON string, as encoding/json does it: bytes that are no UTF-8 become
// U+FFFD, and what a browser could take for markup is escaped.
func appendEscaped(b, s []byte) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if plain(c) {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendByte(b, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			i += size
			start = i
			continue
		}
		i += size
	}
	return append(b, s[start:]...)
}

func plain(c byte) bool {
	return c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

func appendByte(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
