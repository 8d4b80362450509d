package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

func (d data) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, d.nr)
	b = binary.LittleEndian.AppendUint32(b, d.arch)
	b = binary.LittleEndian.AppendUint64(b, 0) // instruction pointer
	for _, a := range d.args {
		b = binary.LittleEndian.AppendUint64(b, a)
	}
	return b
}

// run is the kernel's machine for seccomp filters: what it refuses to load is a failure here.
func run(t testing.TB, program []byte, d data) (action uint32, steps int) {
	t.Helper()
	in := d.bytes()
	var acc, x uint32
	var mem [16]uint32
	for pc := 0; ; pc++ {
		if pc*8+8 > len(program) {
			t.Fatalf("the program runs over its end at %d", pc)
		}
		steps++
		i := program[pc*8:]
		code, jt, jf, k := binary.LittleEndian.Uint16(i), i[2], i[3], binary.LittleEndian.Uint32(i[4:])
		branch := func(yes bool) {
			if yes {
				pc += int(jt)
			} else {
				pc += int(jf)
			}
		}
		switch code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if k%4 != 0 || int(k) >= len(in) {
				t.Fatalf("load of offset %d", k)
			}
			acc = binary.LittleEndian.Uint32(in[k:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= k
		case unix.BPF_ST:
			mem[k] = acc
		case unix.BPF_LD | unix.BPF_MEM:
			acc = mem[k]
		case unix.BPF_MISC | unix.BPF_TAX:
			x = acc
		case unix.BPF_MISC | unix.BPF_TXA:
			acc = x
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(k)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(acc == k)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(acc >= k)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			branch(acc > k)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			branch(acc&k != 0)
		case unix.BPF_RET | unix.BPF_K:
			return k, steps
		default:
			t.Fatalf("instruction %d: code %#x", pc, code)
		}
	}
}
