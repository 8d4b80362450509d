package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	offsetNR   = 0
	offsetArch = 4
	offsetArgs = 16
)

// maxInstructions is what the kernel takes (BPF_MAXINSNS).
const maxInstructions = 4096

// farthest is the longest conditional jump.
const farthest = 255

// assembler writes a program from its end to its beginning, so that every jump, which can only go forward, knows
// where it goes. Only instructions that the kernel's table of always-allowed calls understands are used before
// arguments are looked at (kernel/seccomp.c, seccomp_is_const_allow).
type assembler struct {
	reversed []unix.SockFilter
	returns  map[uint32]label // the latest return of each action
}

// label is the place of an instruction, counted from the program's end.
type label int

func (a *assembler) emit(i unix.SockFilter) label {
	a.reversed = append(a.reversed, i)
	return label(len(a.reversed) - 1)
}

// distance returns how many instructions the next one skips to get to l.
func (a *assembler) distance(l label) uint32 { return uint32(len(a.reversed) - int(l) - 1) }

// ret returns a place that ends the program with this action; one that is there already, if it is near.
func (a *assembler) ret(action uint32) label {
	if a.returns == nil {
		a.returns = map[uint32]label{}
	}
	if l, ok := a.returns[action]; ok && a.distance(l) < farthest/2 {
		return l
	}
	l := a.emit(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
	a.returns[action] = l
	return l
}

func (a *assembler) load(offset uint32) label {
	return a.emit(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

func (a *assembler) and(mask uint32) {
	a.emit(unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
}

// jump compares the accumulator with k and goes to yes or no.
func (a *assembler) jump(op uint16, k uint32, yes, no label) label {
	yes = a.near(yes, 1)
	no = a.near(no, 0)
	return a.emit(unix.SockFilter{
		Code: unix.BPF_JMP | op | unix.BPF_K, K: k,
		Jt: uint8(a.distance(yes)), Jf: uint8(a.distance(no)),
	})
}

// near returns l or, where a conditional jump does not reach it from after `more` further instructions, a jump to it.
func (a *assembler) near(l label, more uint32) label {
	if a.distance(l)+more <= farthest {
		return l
	}
	return a.emit(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: a.distance(l)})
}

// bytes returns the program as the kernel takes it.
func (a *assembler) bytes() ([]byte, error) {
	if n := len(a.reversed); n > maxInstructions {
		return nil, fmt.Errorf("seccomp: the filter has %d instructions, the kernel takes %d: use fewer rules with conditions", n, maxInstructions)
	}
	b := make([]byte, 0, 8*len(a.reversed))
	for _, i := range slices.Backward(a.reversed) {
		b = binary.LittleEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.LittleEndian.AppendUint32(b, i.K)
	}
	return b, nil
}

// search finds the segment of the number in the accumulator, by halving.
func (a *assembler) search(segs []segment) label {
	if len(segs) == 1 {
		return a.answer(segs[0].answer)
	}
	half := len(segs) / 2
	right := a.search(segs[half:])
	left := a.search(segs[:half])
	return a.jump(unix.BPF_JGE, segs[half].start, right, left)
}

// answer looks at the arguments, if it must, and ends the program.
func (a *assembler) answer(w answer) label {
	no := a.ret(w.action)
	for i := len(w.cases); i > 0; {
		run := equals(w.cases[:i])
		if run > 1 {
			no = a.oneOf(w.cases[i-run:i], w.width, no)
			i -= run
			continue
		}
		i--
		no = a.choice(w.cases[i], w.width, no)
	}
	return no
}

func (a *assembler) choice(c choice, width int, no label) label {
	yes := a.ret(c.action)
	for _, cmp := range slices.Backward(c.when) {
		yes = a.compare(cmp, width, yes, no)
	}
	return yes
}

// equals returns how many of the last cases are each one comparison of one argument for equality, with the same
// upper half and the same action: they need to load the argument but once.
func equals(cases []choice) int {
	single := func(c choice) bool { return len(c.when) == 1 && c.when[0].op == specs.OpEqualTo }
	last := cases[len(cases)-1]
	n := 0
	for _, c := range slices.Backward(cases) {
		if !single(c) || c.action != last.action || c.when[0].arg != last.when[0].arg || c.when[0].value>>32 != last.when[0].value>>32 {
			break
		}
		n++
	}
	return n
}

func (a *assembler) oneOf(cases []choice, width int, no label) label {
	yes := a.ret(cases[0].action)
	next := no
	for _, c := range slices.Backward(cases) {
		next = a.jump(unix.BPF_JEQ, uint32(c.when[0].value), yes, next)
	}
	next = a.load(lower(cases[0].when[0].arg))
	return a.upperEqual(cases[0].when[0], width, next, no)
}

// Arguments lie in memory as the (little endian) machine has them.
func lower(arg uint) uint32 { return offsetArgs + 8*uint32(arg) }
func upper(arg uint) uint32 { return lower(arg) + 4 }

// upperEqual compares the upper half for equality under the mask. Where arguments have 32 bits, or the mask has no
// upper half, there is nothing to compare.
func (a *assembler) upperEqual(c comparison, width int, yes, no label) label {
	if width == 32 || c.mask>>32 == 0 {
		return yes
	}
	a.jump(unix.BPF_JEQ, uint32(c.value>>32), yes, no)
	if mask := uint32(c.mask >> 32); mask != ^uint32(0) {
		a.and(mask)
	}
	return a.load(upper(c.arg))
}

func (a *assembler) compare(c comparison, width int, yes, no label) label {
	switch c.op {
	case specs.OpNotEqual:
		return a.equal(c, width, no, yes)
	case specs.OpLessThan:
		return a.greater(c, unix.BPF_JGE, width, no, yes)
	case specs.OpLessEqual:
		return a.greater(c, unix.BPF_JGT, width, no, yes)
	case specs.OpGreaterEqual:
		return a.greater(c, unix.BPF_JGE, width, yes, no)
	case specs.OpGreaterThan:
		return a.greater(c, unix.BPF_JGT, width, yes, no)
	}
	return a.equal(c, width, yes, no) // also MASKED_EQ
}

func (a *assembler) equal(c comparison, width int, yes, no label) label {
	a.jump(unix.BPF_JEQ, uint32(c.value), yes, no)
	if mask := uint32(c.mask); mask != ^uint32(0) {
		a.and(mask)
	}
	return a.upperEqual(c, width, a.load(lower(c.arg)), no)
}

// greater compares with op (JGT or JGE): the lower halves decide where the upper ones are equal.
func (a *assembler) greater(c comparison, op uint16, width int, yes, no label) label {
	a.jump(op, uint32(c.value), yes, no)
	low := a.load(lower(c.arg))
	if width == 32 {
		return low
	}
	equal := a.jump(unix.BPF_JEQ, uint32(c.value>>32), low, no)
	a.jump(unix.BPF_JGT, uint32(c.value>>32), yes, equal)
	return a.load(upper(c.arg))
}
