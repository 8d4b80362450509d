package protocol

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// What the shim says, and the record that it writes, is written without reflection and read by encoding/json.
type appendable interface{ append(o *object) }

// Encode returns v as a payload: nothing for nil, bytes as they are, anything else as JSON.
func Encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	case appendable:
		return text(v), nil
	}
	return json.Marshal(v)
}

// text returns v as JSON.
func text(v appendable) []byte {
	o := object{b: []byte{'{'}}
	v.append(&o)
	return append(o.b, '}')
}

// object is a JSON object that is being written.
type object struct{ b []byte }

func (o *object) key(k string) {
	if len(o.b) > 1 {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, k...)
	o.b = append(o.b, `":`...)
}

func (o *object) int(k string, n int64) {
	o.key(k)
	o.b = strconv.AppendInt(o.b, n, 10)
}

func (o *object) bool(k string, v bool) {
	o.key(k)
	o.b = strconv.AppendBool(o.b, v)
}

func (o *object) time(k string, t time.Time) { o.string(k, t.Format(time.RFC3339Nano)) }

func (o *object) string(k, s string) {
	const hex = "0123456789abcdef"
	o.key(k)
	o.b = append(o.b, '"')
	for _, r := range s { // what is no UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			o.b = append(o.b, '\\', byte(r))
		case r < ' ':
			o.b = append(o.b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			o.b = utf8.AppendRune(o.b, r)
		}
	}
	o.b = append(o.b, '"')
}

func (o *object) exit(k string, e *ExitReport) {
	o.key(k)
	if e == nil {
		o.b = append(o.b, "null"...)
		return
	}
	o.b = append(o.b, text(e)...)
}

func (r StartedReply) append(o *object) {
	o.int("Pid", int64(r.Pid))
	o.time("At", r.At)
}

func (f Failure) append(o *object) {
	o.string("Step", f.Step)
	o.string("Object", f.Object)
	o.int("Errno", int64(f.Errno))
	o.string("Detail", f.Detail)
	o.bool("Exec", f.Exec)
	o.bool("Gone", f.Gone)
	o.bool("NoTerminal", f.NoTerminal)
}

func (e ExitReport) append(o *object) {
	o.int("Status", int64(e.Status))
	o.time("At", e.At)
	o.bool("OOMKilled", e.OOMKilled)
	o.int("LogOffset", e.LogOffset)
	o.int("LogDropped", e.LogDropped)
	o.bool("Lost", e.Lost)
}

func (s State) append(o *object) {
	o.int("Version", int64(s.Version))
	o.string("ID", s.ID)
	o.int("Pid", int64(s.Pid))
	o.time("Started", s.Started)
	o.string("Cgroup", s.Cgroup)
	o.exit("Exited", s.Exited)
	o.bool("Terminal", s.Terminal)
	o.bool("OpenStdin", s.OpenStdin)
	o.int("Execs", int64(s.Execs))
}

func (r Record) append(o *object) {
	o.int("Version", int64(r.Version))
	o.string("ID", r.ID)
	o.int("Shim", int64(r.Shim))
	o.int("Pid", int64(r.Pid))
	o.string("Cgroup", r.Cgroup)
	o.time("Started", r.Started)
	o.exit("Exit", r.Exit)
}
