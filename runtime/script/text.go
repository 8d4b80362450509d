package script

import (
	"cmp"
	"fmt"
	"slices"
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
	if in.object != "" && t.nr != opCopy {
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
	reg := func(k int) string { return s.regName(Reg(t.a[k])) }
	value := func(k int) string { return decimal(uint64(t.a[k])) }
	switch t.nr {
	case opJump:
		return "to " + strconv.Itoa(int(t.then)-prologue)
	case opExpect:
		v, want := reg(0), value(3)
		if m := uint64(t.a[1]); m != All {
			v += "&" + decimal(m)
		}
		if t.regs&(1<<3) != 0 {
			want = reg(3)
		}
		return v + [...]string{" = ", " ≠ ", " < "}[t.a[2]] + want + " or " + errnoName(uint8(t.a[4]))
	case opFail:
		return errnoName(uint8(t.a[0]))
	case opSet:
		return out + " = " + s.argument(t, in, 0)
	case opCompute:
		return out + " = " + reg(0) + [...]string{" & ", " | ", " + ", " >> ", " << "}[t.a[1]] + value(2)
	case opLoad:
		name, off := s.bufferAt(t.a[0])
		return fmt.Sprintf("%s = {%s}[%d:%d]", out, name, off, off+t.a[1])
	case opStore:
		name, off := s.bufferAt(t.a[0])
		return fmt.Sprintf("{%s}[%d] = %s", name, off, reg(1))
	case opQuiet:
		return value(0)
	case opCopy:
		return strconv.Quote(in.object)
	}
	parts := make([]string, in.n)
	for k := range parts {
		parts[k] = s.argument(t, in, k)
		if in.kinds[k] == number {
			if text, ok := decode(t.nr, k, t.a[k]); ok {
				parts[k] = text
			}
		}
	}
	return callName(t.nr) + "(" + strings.Join(parts, ", ") + ")"
}

func (s *Script) argument(t *step, in info, k int) string {
	switch in.kinds[k] {
	case register:
		return s.regName(Reg(t.a[k]))
	case text:
		return strconv.Quote(s.arena.stringAt(t.a[k]))
	case buffer:
		name, _ := s.bufferAt(t.a[k] - s.arena.base())
		if name == vector {
			name = quoteAll(s.arena.stringsAt(t.a[k]))
		}
		return "{" + name + "}"
	}
	if v := int64(t.a[k]); v < 0 && v > -10000 {
		return strconv.FormatInt(v, 10)
	}
	return decimal(uint64(t.a[k]))
}

// bufferAt is the name of the buffer that the offset lies in, and how far.
func (s *Script) bufferAt(off uintptr) (name string, rest uintptr) {
	i, found := slices.BinarySearchFunc(s.buffers, off, func(l label, off uintptr) int { return cmp.Compare(l.off, off) })
	if !found {
		i--
	}
	if i < 0 {
		return "?", 0
	}
	return s.buffers[i].text, off - s.buffers[i].off
}

// decimal prints small numbers in decimal, large ones, which are masks and flags, in hexadecimal.
func decimal(v uint64) string {
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
