package script

import (
	"strconv"
	"strings"
)

// String is the script as text, a step a line: number, what is done on what, the call, where its result
// goes, the errnos that it may fail with, and where it goes on then. It depends on nothing but the
// configuration: no addresses, no descriptor numbers.
func (s *Script) String() string {
	var b strings.Builder
	for i := s.entry; i < s.n; i++ {
		s.line(&b, i)
	}
	return b.String()
}

func (s *Script) line(b *strings.Builder, i int) {
	t, in := s.arena.step(i), s.info[i]
	n := strconv.Itoa(i - prologue)
	b.WriteString(strings.Repeat(" ", max(0, 4-len(n))) + n + "  ")
	what := in.name
	if in.object != "" {
		what += " " + in.object
	}
	b.WriteString(what + ": ")
	b.WriteString(s.call(t, in))
	if t.out >= 0 && t.nr < opJump {
		b.WriteString(" → " + s.regName(Reg(t.out)))
	}
	if t.nmay > 0 {
		b.WriteString(", may")
		for _, e := range t.may[:t.nmay] {
			b.WriteString(" " + errnoName(e))
		}
	}
	if t.els >= 0 {
		b.WriteString(", else " + strconv.Itoa(int(t.els)-prologue))
	}
	if t.then >= 0 && t.nr != opJump {
		b.WriteString(", then " + strconv.Itoa(int(t.then)-prologue))
	}
	b.WriteByte('\n')
}

func (s *Script) regName(r Reg) string {
	if int(r) < len(s.regs) && r >= 0 {
		return "<" + s.regs[r] + ">"
	}
	return "<" + strconv.Itoa(int(r)) + ">"
}

func (s *Script) call(t *step, in info) string {
	out := ""
	if t.out >= 0 {
		out = s.regName(Reg(t.out))
	}
	switch t.nr {
	case opJump:
		return "to " + strconv.Itoa(int(t.then)-prologue)
	case opExpect:
		v := s.arg(in.args[0])
		if m := in.args[1].(uint64); m != All {
			v += "&" + number(m)
		}
		return v + [...]string{" = ", " ≠ ", " < "}[in.args[2].(Comparison)] + s.arg(in.args[3]) +
			" or " + errnoName(uint8(t.a[4]))
	case opFail:
		return errnoName(uint8(t.a[0]))
	case opSet:
		return out + " = " + s.arg(in.args[0])
	case opCompute:
		return out + " = " + s.arg(in.args[0]) + [...]string{" & ", " | ", " + ", " >> ", " << "}[in.args[1].(Operation)] + number(in.args[2].(uint64))
	case opLoad:
		return out + " = " + s.arg(in.args[0]) + "[" + s.arg(in.args[1]) + ":" + strconv.Itoa(in.args[1].(int)+in.args[2].(int)) + "]"
	case opStore:
		return s.arg(in.args[0]) + "[" + s.arg(in.args[1]) + "] = " + s.arg(in.args[2])
	case opQuiet, opCopy:
		return s.arg(in.args[0])
	}
	name := callName(t.nr)
	parts := make([]string, len(in.args))
	for k, a := range in.args {
		parts[k] = s.arg(a)
		if text, ok := decode(t.nr, k, t.a[k], t.regs&(1<<k) != 0, a); ok {
			parts[k] = text
		}
	}
	return name + "(" + strings.Join(parts, ", ") + ")"
}

func (s *Script) arg(a any) string {
	switch v := a.(type) {
	case nil:
		return "0"
	case string:
		return strconv.Quote(v)
	case Reg:
		return s.regName(v)
	case Buf:
		return "{" + v.text + "}"
	case int:
		return signed(int64(v))
	case int32:
		return signed(int64(v))
	case uint32:
		return number(uint64(v))
	case uint64:
		return number(v)
	case uintptr:
		return number(uint64(v))
	}
	return "?"
}

func signed(v int64) string {
	if v < 0 {
		return strconv.FormatInt(v, 10)
	}
	return number(uint64(v))
}

// number prints small numbers in decimal, large ones, which are masks and flags, in hexadecimal.
func number(v uint64) string {
	if v < 10000 {
		return strconv.FormatUint(v, 10)
	}
	return "0x" + strconv.FormatUint(v, 16)
}

func quoteAll(v []string) string {
	q := make([]string, len(v))
	for i, t := range v {
		q[i] = strconv.Quote(t)
	}
	return strings.Join(q, ", ")
}
