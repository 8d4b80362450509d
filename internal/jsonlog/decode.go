package jsonlog

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// decode reads one line of the file (without its newline) into e. Lines as Writer and Docker write them are taken
// apart by hand; whatever else is JSON is read as such. A line that cannot be read (torn by power loss) is not ok.
func decode(line []byte, e *Entry) (ok bool) {
	return decodeUsual(line, e) || decodeAny(line, e)
}

func decodeUsual(line []byte, e *Entry) bool {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return false
	}
	text, rest, ok := unescape(e.Line[:0], rest)
	if !ok {
		return false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`","stream":"`)); !ok {
		return false
	}
	stream, rest, ok := bytes.Cut(rest, []byte(`","time":"`))
	if !ok {
		return false
	}
	stamp, ok := bytes.CutSuffix(rest, []byte(`"}`))
	if !ok {
		return false
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return false
	}
	switch string(stream) {
	case "stdout":
		e.Stream = "stdout"
	case "stderr":
		e.Stream = "stderr"
	default:
		return false
	}
	e.Line, e.Time = text, t
	return true
}

// unescape appends the inside of a JSON string to b, and returns what follows from its closing quote on.
func unescape(b, s []byte) (text, rest []byte, ok bool) {
	for {
		i := bytes.IndexAny(s, `"\`)
		if i < 0 {
			return b, nil, false
		}
		b = append(b, s[:i]...)
		if s[i] == '"' {
			return b, s[i:], true
		}
		if len(s) < i+2 {
			return b, nil, false
		}
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case 'r':
			b = append(b, '\r')
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case '"', '\\', '/':
			b = append(b, c)
		case 'u':
			r, ok := rune4(s)
			if !ok || 0xd800 <= r && r < 0xe000 { // surrogates are for encoding/json
				return b, nil, false
			}
			b = append(b, string(r)...)
			s = s[4:]
		default:
			return b, nil, false
		}
	}
}

func rune4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		i := strings.IndexByte(hex, c|0x20)
		if '0' <= c && c <= '9' {
			i = int(c - '0')
		}
		if i < 0 {
			return 0, false
		}
		r = r<<4 | rune(i)
	}
	return r, true
}

func decodeAny(line []byte, e *Entry) bool {
	var v struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return false
	}
	e.Line, e.Stream, e.Time = append(e.Line[:0], v.Log...), v.Stream, v.Time
	return true
}
