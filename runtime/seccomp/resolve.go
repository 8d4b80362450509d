package seccomp

import (
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// answer is what calls of one number get: an action, or the first of some conditional ones that holds, else the action.
type answer struct {
	action uint32
	cases  []choice
	width  int  // bits of the compared arguments
	final  bool // no further rule counts
}

// choice is a conditional action.
type choice struct {
	when   []comparison
	action uint32
}

// segment is a range of numbers with one answer, up to the start of the next.
type segment struct {
	start uint32
	answer
}

func (s segment) same(t segment) bool {
	return s.cases == nil && t.cases == nil && s.action == t.action
}

// segments returns the answers for every number from 0 to 2^32-1 on m, neighbours with the same answer merged.
func (p *policy) segments(m machine) []segment {
	var segs []segment
	switch {
	case m.main != x86_64:
		segs = p.section(m.main, 0)
	case m.x32:
		segs = append(p.section(x86_64, 0), p.section(x32, x32Bit)...)
	default:
		segs = append(p.section(x86_64, 0), segment{x32Bit, answer{action: unix.SECCOMP_RET_KILL_PROCESS}})
	}
	if m.main == x86_64 {
		// -1: a tracer skips the call; it belongs to no ABI (libseccomp, gen_bpf.c).
		segs = append(segs, segment{math.MaxUint32, answer{action: p.unborn}})
	}
	return slices.CompactFunc(segs, func(a, b segment) bool { return a.same(b) })
}

// section returns the answers for the numbers of one ABI, to each of which bit is added.
func (p *policy) section(a abi, bit uint32) []segment {
	last, any := uint32(0), false
	var entries []entry
	for _, r := range p.rules {
		if nr, ok := r.call.number(a); ok {
			last, any = max(last, nr), true
		}
		if r.action != p.def {
			entries = r.entries(entries, a)
		}
	}
	order := make([]uint64, len(entries)) // by number, and for one number as the rules come
	for i, e := range entries {
		order[i] = uint64(e.nr)<<32 | uint64(i)
	}
	slices.Sort(order)
	segs := make([]segment, 0, len(entries))
	next := uint32(0)
	for len(order) > 0 {
		nr, w := uint32(order[0]>>32), answer{action: p.def, width: a.width()}
		for len(order) > 0 && uint32(order[0]>>32) == nr {
			w.add(entries[uint32(order[0])].choice)
			order = order[1:]
		}
		if nr > next {
			segs = append(segs, segment{next | bit, answer{action: p.def}})
		}
		segs = append(segs, segment{nr | bit, w})
		next = nr + 1
	}
	if any && next <= last {
		segs = append(segs, segment{next | bit, answer{action: p.def}})
		next = last + 1
	}
	rest := p.unborn
	if !any {
		rest = p.def
	}
	return append(segs, segment{next | bit, answer{action: rest}})
}

// entry is what one rule says of one number.
type entry struct {
	nr uint32
	choice
}

// entries appends the numbers under which a can make the rule's call, with the conditions there. On i386 many calls
// can also be made through socketcall and ipc, whose arguments lie in memory, where no filter sees them: as in
// libseccomp the rule then compares the first argument with the number of the inner call, and the others as they are.
func (r rule) entries(to []entry, a abi) []entry {
	if nr, ok := r.call.number(a); ok {
		to = append(to, entry{nr, choice{r.when, r.action}})
	}
	if a != x86 {
		return to
	}
	through, number := mux(r.call.name)
	if through == "" {
		return to
	}
	nr, _ := lookup(through).number(x86)
	when := []comparison{{arg: 0, op: specs.OpEqualTo, mask: ^uint64(0), value: number}}
	for _, c := range r.when {
		if c.arg != 0 {
			when = append(when, c)
		}
	}
	return append(to, entry{nr, choice{when, r.action}})
}

// add adds what one more rule says. As in libseccomp, an action without conditions makes those with conditions moot,
// whichever came first; of several without, the first counts.
func (w *answer) add(c choice) {
	switch {
	case w.final:
	case len(c.when) == 0:
		w.final, w.action, w.cases = true, c.action, nil
	default:
		w.cases = append(w.cases, c)
	}
}
