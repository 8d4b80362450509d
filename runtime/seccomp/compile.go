package seccomp

import (
	"errors"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Program is a compiled filter.
type Program struct {
	BPF    []byte // struct sock_filter, native (little endian) byte order
	Flags  uint   // for seccomp(2), SECCOMP_SET_MODE_FILTER
	Notify bool   // some call is answered by a listener (SECCOMP_FILTER_FLAG_NEW_LISTENER is for the loader to add)
}

// Compile compiles config for programs on a machine of goarch ("amd64", "arm64").
//
// What runc does beside libseccomp is done here, too: a rule whose action is the default's is left out; of a rule
// with several comparisons of one argument, one is enough; without flags in the configuration SPEC_ALLOW is set.
func Compile(config *specs.LinuxSeccomp, goarch string) (Program, error) {
	if config == nil {
		return Program{}, errors.New("seccomp: no configuration")
	}
	ms, err := machines(goarch, config.Architectures)
	if err != nil {
		return Program{}, err
	}
	p, err := parse(config)
	if err != nil {
		return Program{}, err
	}
	var a assembler
	next := a.ret(unix.SECCOMP_RET_KILL_PROCESS)
	for _, m := range slices.Backward(ms) {
		a.search(p.segments(m))
		section := a.load(offsetNR)
		next = a.jump(unix.BPF_JEQ, m.audit, section, next)
	}
	a.load(offsetArch)
	bpf, err := a.bytes()
	if err != nil {
		return Program{}, err
	}
	return Program{BPF: bpf, Flags: p.flags, Notify: p.notify}, nil
}

// policy is a configuration whose words have been understood.
type policy struct {
	rules  []rule
	def    uint32
	unborn uint32 // what calls get that are newer than all that are named
	flags  uint
	notify bool
}

// rule is an action for a call, when all comparisons hold.
type rule struct {
	call   *call
	action uint32
	when   []comparison
}

// comparison is one condition on an argument.
type comparison struct {
	arg         uint
	op          specs.LinuxSeccompOperator
	mask, value uint64
}

func parse(config *specs.LinuxSeccomp) (*policy, error) {
	def, err := action(config.DefaultAction, config.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("seccomp: default action: %w", err)
	}
	if def == unix.SECCOMP_RET_USER_NOTIF {
		return nil, errors.New("seccomp: the default action cannot be SCMP_ACT_NOTIFY: the container could not even be started")
	}
	p := &policy{def: def, unborn: unborn(def, config.DefaultErrnoRet)}
	if p.flags, err = flags(config.Flags); err != nil {
		return nil, err
	}
	for _, s := range config.Syscalls {
		if err := p.add(s); err != nil {
			return nil, fmt.Errorf("seccomp: rule for %v: %w", s.Names, err)
		}
	}
	if p.notify && config.ListenerPath == "" {
		return nil, errors.New("seccomp: SCMP_ACT_NOTIFY needs a listenerPath")
	}
	return p, nil
}

func (p *policy) add(s specs.LinuxSyscall) error {
	act, err := action(s.Action, s.ErrnoRet)
	if err != nil {
		return err
	}
	if act == unix.SECCOMP_RET_USER_NOTIF {
		p.notify = true
		if slices.Contains(s.Names, "write") {
			return errors.New("SCMP_ACT_NOTIFY cannot be used for write: the runtime writes before the listener is there")
		}
	}
	var when []comparison
	for _, arg := range s.Args {
		c, err := compare(arg)
		if err != nil {
			return err
		}
		when = append(when, c)
	}
	for _, name := range s.Names {
		c := lookup(name)
		switch {
		case c == nil: // of another architecture, or newer than these tables
		case repeated(when):
			for i := range when {
				p.rules = append(p.rules, rule{c, act, when[i : i+1]})
			}
		default:
			p.rules = append(p.rules, rule{c, act, when})
		}
	}
	return nil
}

// repeated tells whether an argument is compared more than once.
func repeated(when []comparison) bool {
	var seen [6]bool
	for _, c := range when {
		if seen[c.arg] {
			return true
		}
		seen[c.arg] = true
	}
	return false
}

func compare(arg specs.LinuxSeccompArg) (comparison, error) {
	if arg.Index > 5 {
		return comparison{}, fmt.Errorf("argument %d: a call has arguments 0 to 5", arg.Index)
	}
	c := comparison{arg: arg.Index, op: arg.Op, mask: ^uint64(0), value: arg.Value}
	switch arg.Op {
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan:
	case specs.OpMaskedEqual:
		c.mask, c.value = arg.Value, arg.ValueTwo&arg.Value
	default:
		return comparison{}, fmt.Errorf("unknown operator %q", arg.Op)
	}
	return c, nil
}

// maxErrno is the largest error number that the kernel returns (MAX_ERRNO).
const maxErrno = 4095

func action(a specs.LinuxSeccompAction, errnoRet *uint) (uint32, error) {
	errno := uint32(unix.EPERM)
	if errnoRet != nil {
		if *errnoRet > maxErrno {
			return 0, fmt.Errorf("errnoRet %d: the largest is %d", *errnoRet, maxErrno)
		}
		errno = uint32(*errnoRet)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | errno, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | errno, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, fmt.Errorf("unknown action %q", a)
}

// unborn returns what a call gets that is newer than every call that the profile names: ENOSYS, so that libraries
// fall back to what they did before there was that call (runc, libcontainer/seccomp/patchbpf).
// A default that lets calls through, or that names ENOSYS itself, stays.
func unborn(def uint32, errnoRet *uint) uint32 {
	switch {
	case def == unix.SECCOMP_RET_ALLOW, def == unix.SECCOMP_RET_LOG, errnoRet != nil && *errnoRet == uint(unix.ENOSYS):
		return def
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
}

// flags returns the flags for seccomp(2). TSYNC has no effect on a process with one thread, and is left out: it
// excludes a listener.
func flags(names []specs.LinuxSeccompFlag) (uint, error) {
	if names == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var f uint
	for _, n := range names {
		switch n {
		case "SECCOMP_FILTER_FLAG_TSYNC":
		case specs.LinuxSeccompFlagLog:
			f |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			f |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			f |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return 0, fmt.Errorf("seccomp: unknown flag %q", n)
		}
	}
	return f, nil
}
