package seccomp

import (
	"math/rand/v2"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	allow  = unix.SECCOMP_RET_ALLOW
	eperm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

func compiled(t testing.TB, c *specs.LinuxSeccomp, goarch string) []byte {
	t.Helper()
	p, err := Compile(c, goarch)
	if err != nil {
		t.Fatal(err)
	}
	return p.BPF
}

func answerOf(t testing.TB, program []byte, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	d := data{nr: nr, arch: arch}
	copy(d.args[:], args)
	a, _ := run(t, program, d)
	return a
}

func TestABIs(t *testing.T) {
	c := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchMIPS},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "ioctl", "statx", "no_such_call"}, Action: specs.ActAllow},
			{Names: []string{"socket"}, Action: specs.ActAllow},
		},
	}
	all := compiled(t, c, "amd64")
	c.Architectures = nil
	native := compiled(t, c, "amd64")
	c.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	arm64 := compiled(t, c, "arm64")
	for _, test := range []struct {
		what    string
		program []byte
		arch    uint32
		nr      uint32
		arg0    uint64
		want    uint32
	}{
		{"read", all, unix.AUDIT_ARCH_X86_64, 0, 0, allow},
		{"write", all, unix.AUDIT_ARCH_X86_64, 1, 0, eperm},
		{"a call newer than statx", all, unix.AUDIT_ARCH_X86_64, 333, 0, enosys},
		{"-1", all, unix.AUDIT_ARCH_X86_64, 0xffffffff, 0, enosys},
		{"x32 read", all, unix.AUDIT_ARCH_X86_64, x32Bit, 0, allow},
		{"x32 ioctl", all, unix.AUDIT_ARCH_X86_64, x32Bit | 514, 0, allow},
		{"x32 ioctl by its 64-bit number", all, unix.AUDIT_ARCH_X86_64, x32Bit | 16, 0, eperm},
		{"i386 read", all, unix.AUDIT_ARCH_I386, 3, 0, allow},
		{"i386 fork", all, unix.AUDIT_ARCH_I386, 2, 0, eperm},
		{"i386 socket", all, unix.AUDIT_ARCH_I386, 359, 0, allow},
		{"i386 socketcall(socket)", all, unix.AUDIT_ARCH_I386, 102, 1, allow},
		{"i386 socketcall(bind)", all, unix.AUDIT_ARCH_I386, 102, 2, eperm},
		{"another architecture", all, unix.AUDIT_ARCH_S390X, 3, 0, unix.SECCOMP_RET_KILL_PROCESS},
		{"native only: read", native, unix.AUDIT_ARCH_X86_64, 0, 0, allow},
		{"native only: x32 read", native, unix.AUDIT_ARCH_X86_64, x32Bit, 0, unix.SECCOMP_RET_KILL_PROCESS},
		{"native only: -1", native, unix.AUDIT_ARCH_X86_64, 0xffffffff, 0, enosys},
		{"native only: i386", native, unix.AUDIT_ARCH_I386, 3, 0, unix.SECCOMP_RET_KILL_PROCESS},
		{"arm64 read", arm64, unix.AUDIT_ARCH_AARCH64, 63, 0, allow},
		{"arm64 write", arm64, unix.AUDIT_ARCH_AARCH64, 64, 0, eperm},
		{"arm read", arm64, unix.AUDIT_ARCH_ARM, 3, 0, allow},
		{"arm socket", arm64, unix.AUDIT_ARCH_ARM, 281, 0, allow},
		{"arm fork", arm64, unix.AUDIT_ARCH_ARM, 2, 0, eperm},
		{"x86-64 on arm64", arm64, unix.AUDIT_ARCH_X86_64, 0, 0, unix.SECCOMP_RET_KILL_PROCESS},
	} {
		if got := answerOf(t, test.program, test.arch, test.nr, test.arg0); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.what, got, test.want)
		}
	}
}

func TestActions(t *testing.T) {
	errno := uint(77)
	for _, test := range []struct {
		action specs.LinuxSeccompAction
		errno  *uint
		want   uint32
	}{
		{specs.ActKill, nil, 0},
		{specs.ActKillThread, nil, 0},
		{specs.ActKillProcess, nil, 0x80000000},
		{specs.ActTrap, nil, 0x00030000},
		{specs.ActErrno, nil, 0x00050001},
		{specs.ActErrno, &errno, 0x0005004d},
		{specs.ActTrace, nil, 0x7ff00001},
		{specs.ActTrace, &errno, 0x7ff0004d},
		{specs.ActAllow, nil, 0x7fff0000},
		{specs.ActLog, nil, 0x7ffc0000},
		{specs.ActNotify, nil, 0x7fc00000},
	} {
		c := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: ptr(uint(5)), ListenerPath: "/x",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"getpid"}, Action: test.action, ErrnoRet: test.errno}}}
		if got := answerOf(t, compiled(t, c, "amd64"), unix.AUDIT_ARCH_X86_64, 39); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.action, got, test.want)
		}
	}
}

func TestNewerCalls(t *testing.T) {
	nosys := uint(unix.ENOSYS)
	for _, test := range []struct {
		what  string
		def   specs.LinuxSeccompAction
		errno *uint
		want  uint32
	}{
		{"errno", specs.ActErrno, nil, enosys},
		{"errno of its own", specs.ActErrno, ptr(uint(5)), enosys},
		{"ENOSYS", specs.ActErrno, &nosys, enosys},
		{"kill", specs.ActKill, nil, enosys},
		{"allow", specs.ActAllow, nil, allow},
		{"log", specs.ActLog, nil, unix.SECCOMP_RET_LOG},
	} {
		c := &specs.LinuxSeccomp{DefaultAction: test.def, DefaultErrnoRet: test.errno,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"statx"}, Action: specs.ActTrap}}}
		if got := answerOf(t, compiled(t, c, "amd64"), unix.AUDIT_ARCH_X86_64, 400); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.what, got, test.want)
		}
	}
}

func TestFlags(t *testing.T) {
	c := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for _, test := range []struct {
		flags []specs.LinuxSeccompFlag
		want  uint
	}{
		{nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{[]specs.LinuxSeccompFlag{}, 0},
		{[]specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog}, unix.SECCOMP_FILTER_FLAG_LOG},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv}, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
	} {
		c.Flags = test.flags
		if p, err := Compile(c, "amd64"); err != nil || p.Flags != test.want {
			t.Errorf("%q: %#x, %v, want %#x", test.flags, p.Flags, err, test.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	rule := func(s specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{s}}
	}
	many := rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow})
	for i := range 3000 {
		many.Syscalls = append(many.Syscalls, specs.LinuxSyscall{Names: []string{"write"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: uint64(i) << 31}}})
	}
	for want, c := range map[string]*specs.LinuxSeccomp{
		"no configuration":             nil,
		"default action: unknown":      {},
		"cannot be SCMP_ACT_NOTIFY":    {DefaultAction: specs.ActNotify},
		"unknown architecture \"PDP\"": {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"PDP"}},
		"unknown flag":                 {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"x"}},
		"[read]: unknown action \"x\"": rule(specs.LinuxSyscall{Names: []string{"read"}, Action: "x"}),
		"errnoRet 5000":                rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(5000))}),
		"arguments 0 to 5":             rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}),
		"unknown operator":             rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "x"}}}),
		"needs a listenerPath":         rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActNotify}),
		"cannot be used for write":     rule(specs.LinuxSyscall{Names: []string{"write"}, Action: specs.ActNotify}),
		"use fewer rules":              many,
	} {
		if _, err := Compile(c, "amd64"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, "pdp11"); err == nil {
		t.Error("a machine without tables was accepted")
	}
}

// meaning says what the rules mean, call by call, without any program.
func meaning(c *specs.LinuxSeccomp, m abi, nr uint32, args [6]uint64) uint32 {
	def, _ := action(c.DefaultAction, c.DefaultErrnoRet)
	var conditional []uint32
	for _, s := range c.Syscalls {
		act, _ := action(s.Action, s.ErrnoRet)
		for _, name := range s.Names {
			n, ok := lookup(name).number(m)
			direct := ok && n == nr && act != def
			inner := false
			through, number := mux(name)
			if m == x86 && through != "" && act != def {
				n, _ := lookup(through).number(m)
				inner = n == nr
			}
			if direct && len(s.Args) == 0 {
				return act
			}
			if direct && holds(s.Args, m, args, false) || inner && uint64(uint32(args[0])) == number && holds(s.Args, m, args, true) {
				conditional = append(conditional, act)
			}
		}
	}
	if len(conditional) > 0 {
		return conditional[0]
	}
	return def
}

func holds(conditions []specs.LinuxSeccompArg, m abi, args [6]uint64, inner bool) bool {
	counts := map[uint]int{}
	several, all, any := false, true, false
	for _, c := range conditions {
		counts[c.Index]++
		several = several || counts[c.Index] > 1
	}
	for _, c := range conditions {
		a, v, w := args[c.Index], c.Value, c.ValueTwo
		if m.width() == 32 {
			a, v, w = uint64(uint32(a)), uint64(uint32(v)), uint64(uint32(w))
		}
		h := false
		switch c.Op {
		case specs.OpEqualTo:
			h = a == v
		case specs.OpNotEqual:
			h = a != v
		case specs.OpLessThan:
			h = a < v
		case specs.OpLessEqual:
			h = a <= v
		case specs.OpGreaterThan:
			h = a > v
		case specs.OpGreaterEqual:
			h = a >= v
		case specs.OpMaskedEqual:
			h = a&v == w&v
		}
		if inner && c.Index == 0 {
			h = true
		}
		all, any = all && h, any || h
	}
	if several {
		return any
	}
	return all
}

func TestMeaning(t *testing.T) {
	names := []string{"read", "openat", "clone", "socket", "connect", "shmat", "personality", "ioctl", "execve", "recvmmsg", "mmap2", "statx", "clone3"}
	values := []uint64{0, 1, 2, 40, 0x20000, 0x7e020000, 0xffffffff, 1 << 32, 1<<32 | 5, ^uint64(0)}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActAllow, specs.ActTrap, specs.ActErrno, specs.ActKill}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(16, seed))
		c := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX32, specs.ArchX86}}
		for range 1 + r.IntN(60) {
			s := specs.LinuxSyscall{Names: []string{names[r.IntN(len(names))]}, Action: actions[r.IntN(len(actions))]}
			for range r.IntN(4) {
				s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(3)), Op: ops[r.IntN(len(ops))], Value: values[r.IntN(len(values))], ValueTwo: values[r.IntN(len(values))]})
			}
			c.Syscalls = append(c.Syscalls, s)
		}
		// The last call of all, so that every other is older than one that is named.
		c.Syscalls = append(c.Syscalls, specs.LinuxSyscall{Names: []string{"rseq_slice_yield"}, Action: specs.ActAllow})
		program := compiled(t, c, "amd64")
		for _, m := range []struct {
			abi  abi
			arch uint32
			bit  uint32
		}{{x86_64, unix.AUDIT_ARCH_X86_64, 0}, {x32, unix.AUDIT_ARCH_X86_64, x32Bit}, {x86, unix.AUDIT_ARCH_I386, 0}} {
			for nr := range uint32(472) {
				for range 8 {
					d := data{nr: nr | m.bit, arch: m.arch}
					for i := range 3 {
						d.args[i] = values[r.IntN(len(values))] + uint64(r.IntN(3)) - 1
					}
					if got, _ := run(t, program, d); got != meaning(c, m.abi, nr, d.args) {
						t.Fatalf("seed %d: call %d of ABI %d with %#x: %#x, want %#x", seed, nr, m.abi, d.args, got, meaning(c, m.abi, nr, d.args))
					}
				}
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("read", "SCMP_ACT_ALLOW", uint(0), "SCMP_CMP_EQ", uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, name, act string, index uint, op string, a, b uint64) {
		c := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32},
			Syscalls: []specs.LinuxSyscall{{Names: []string{name}, Action: specs.LinuxSeccompAction(act), Args: []specs.LinuxSeccompArg{{Index: index, Op: specs.LinuxSeccompOperator(op), Value: a, ValueTwo: b}}}}}
		p, err := Compile(c, "amd64")
		if err != nil {
			return
		}
		for nr := range uint32(480) {
			run(t, p.BPF, data{nr: nr, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{a, b}})
			run(t, p.BPF, data{nr: nr, arch: unix.AUDIT_ARCH_I386, args: [6]uint64{a, b}})
		}
	})
}

func ptr[T any](v T) *T { return &v }
