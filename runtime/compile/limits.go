package compile

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/berth-engine/berth/internal/numberlist"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const infinity = unix.RLIM_INFINITY

// limits are what a container gets of each resource where its configuration is silent: the kernel's own
// values for a new system (include/asm-generic/resource.h), descriptors as systemd gives them, and no more than
// our own hard limit. What the engine was started with has no influence.
var limits = []struct {
	name       string
	resource   int
	soft, hard uint64
}{
	{"RLIMIT_AS", unix.RLIMIT_AS, infinity, infinity},
	{"RLIMIT_CORE", unix.RLIMIT_CORE, 0, infinity},
	{"RLIMIT_CPU", unix.RLIMIT_CPU, infinity, infinity},
	{"RLIMIT_DATA", unix.RLIMIT_DATA, infinity, infinity},
	{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, infinity, infinity},
	{"RLIMIT_LOCKS", unix.RLIMIT_LOCKS, infinity, infinity},
	{"RLIMIT_MEMLOCK", unix.RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
	{"RLIMIT_MSGQUEUE", unix.RLIMIT_MSGQUEUE, 819200, 819200},
	{"RLIMIT_NICE", unix.RLIMIT_NICE, 0, 0},
	{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, 1024, 524288},
	{"RLIMIT_NPROC", unix.RLIMIT_NPROC, infinity, infinity},
	{"RLIMIT_RSS", unix.RLIMIT_RSS, infinity, infinity},
	{"RLIMIT_RTPRIO", unix.RLIMIT_RTPRIO, 0, 0},
	{"RLIMIT_RTTIME", unix.RLIMIT_RTTIME, infinity, infinity},
	{"RLIMIT_SIGPENDING", unix.RLIMIT_SIGPENDING, infinity, infinity},
	{"RLIMIT_STACK", unix.RLIMIT_STACK, 8 << 20, infinity},
}

// setLimits sets every resource limit. What the configuration asks for and our own hard limit forbids (no
// CAP_SYS_RESOURCE) is cut to what is possible.
func (b *builder) setLimits(asked []specs.POSIXRlimit) error {
	for i, a := range asked {
		known := slices.ContainsFunc(limits, func(l struct {
			name       string
			resource   int
			soft, hard uint64
		}) bool {
			return l.name == a.Type
		})
		if !known {
			return fmt.Errorf("rlimit %q: there is none of that name", a.Type)
		}
		if slices.ContainsFunc(asked[:i], func(o specs.POSIXRlimit) bool { return o.Type == a.Type }) {
			return fmt.Errorf("rlimit %s is given twice", a.Type)
		}
		if a.Soft > a.Hard {
			return fmt.Errorf("rlimit %s: the soft limit %d is above the hard limit %d", a.Type, a.Soft, a.Hard)
		}
	}
	for _, l := range limits {
		own, ok := b.host.HardLimits[l.resource]
		if !ok {
			own = infinity
		}
		i := slices.IndexFunc(asked, func(a specs.POSIXRlimit) bool { return a.Type == l.name })
		if i < 0 {
			b.limit(l.name, l.resource, min(l.soft, own), min(l.hard, own))
			continue
		}
		a := asked[i]
		t := b.limit(l.name, l.resource, a.Soft, a.Hard)
		if a.Hard > own {
			set := b.Label()
			t.May(unix.EPERM).Then(set)
			b.limit(l.name, l.resource, min(a.Soft, own), own)
			b.Mark(set)
		}
	}
	return nil
}

func (b *builder) limit(name string, resource int, soft, hard uint64) *script.Step {
	text := name + " " + amount(soft) + ":" + amount(hard)
	return b.Do("set the limit", unix.SYS_PRLIMIT64, 0, resource, b.Bytes(text, words(soft, hard)), nil).On(text)
}

func amount(v uint64) string {
	if v == infinity {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

// The numbers of linux/sched.h; tables that are looked at where a configuration asks for it.
func schedulers() map[specs.LinuxSchedulerPolicy]uint32 {
	return map[specs.LinuxSchedulerPolicy]uint32{specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR,
		specs.SchedBatch: unix.SCHED_BATCH, specs.SchedIdle: unix.SCHED_IDLE, specs.SchedDeadline: unix.SCHED_DEADLINE}
}

func schedulerFlags() map[specs.LinuxSchedulerFlag]uint64 {
	return map[specs.LinuxSchedulerFlag]uint64{specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4,
		specs.SchedFlagKeepPolicy: 8, specs.SchedFlagKeepParams: 0x10, specs.SchedFlagUtilClampMin: 0x20, specs.SchedFlagUtilClampMax: 0x40}
}

// schedule resets what the engine's own way of being started (nice, taskset, ionice, chrt) would leave, or
// sets what the configuration asks for.
func (b *builder) schedule(p *specs.Process) error {
	if err := b.scheduler(p.Scheduler); err != nil {
		return err
	}
	if err := b.affinity(p.ExecCPUAffinity); err != nil {
		return err
	}
	return b.ioPriority(p.IOPriority)
}

// affinity allows all processors that there are and that the cgroup allows; an exec may ask for less.
func (b *builder) affinity(a *specs.CPUAffinity) error {
	set, text := make([]byte, 1024), "all" // 8192 processors
	for i := range set {
		set[i] = 0xff
	}
	if b.exec && a != nil {
		if text = a.Final; text == "" {
			text = a.Initial
		}
		if text != "" {
			var err error
			if set, err = processors(text); err != nil {
				return err
			}
		}
	}
	b.Do("allow processors", unix.SYS_SCHED_SETAFFINITY, 0, len(set), b.Bytes(text, set)).On(text)
	return nil
}

// processors reads a list like "0-3,6" into a mask.
func processors(list string) ([]byte, error) {
	set := make([]byte, 1024)
	spans, ok := numberlist.Parse(list, uint64(8*len(set)))
	if !ok {
		return nil, fmt.Errorf("processors %q: it must be a list like 0-3,6", list)
	}
	for _, s := range spans {
		for c := s.First; c <= s.Last; c++ {
			set[c/8] |= 1 << (c % 8)
		}
	}
	return set, nil
}

func (b *builder) scheduler(s *specs.Scheduler) error {
	attr := make([]byte, 48) // struct sched_attr, its first version
	binary.NativeEndian.PutUint32(attr[0:], 48)
	text := "SCHED_OTHER, nice 0"
	if s != nil {
		policy, ok := schedulers()[s.Policy]
		if !ok {
			return fmt.Errorf("scheduling policy %q: there is none of that name", s.Policy)
		}
		text = string(s.Policy)
		binary.NativeEndian.PutUint32(attr[4:], policy)
		var flags uint64
		for _, f := range s.Flags {
			bit, ok := schedulerFlags()[f]
			if !ok {
				return fmt.Errorf("scheduling flag %q: there is none of that name", f)
			}
			flags |= bit
		}
		binary.NativeEndian.PutUint64(attr[8:], flags)
		binary.NativeEndian.PutUint32(attr[16:], uint32(s.Nice))
		binary.NativeEndian.PutUint32(attr[20:], uint32(s.Priority))
		binary.NativeEndian.PutUint64(attr[24:], s.Runtime)
		binary.NativeEndian.PutUint64(attr[32:], s.Deadline)
		binary.NativeEndian.PutUint64(attr[40:], s.Period)
	}
	t := b.Do("set the scheduling policy", unix.SYS_SCHED_SETATTR, 0, b.Bytes(text, attr), 0).On(text)
	if s == nil {
		t.May(unix.EPERM) // lowering nice again needs CAP_SYS_NICE
	}
	return nil
}

func (b *builder) ioPriority(p *specs.LinuxIOPriority) error {
	const process, classShift = 1, 13
	if p == nil {
		b.Do("set the I/O priority", unix.SYS_IOPRIO_SET, process, 0, 0).On("none")
		return nil
	}
	class := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}[p.Class]
	if class == 0 || p.Priority < 0 || p.Priority > 7 {
		return fmt.Errorf("I/O priority %s %d: the class must be RT, BE or IDLE, the priority 0 to 7", p.Class, p.Priority)
	}
	b.Do("set the I/O priority", unix.SYS_IOPRIO_SET, process, 0, class<<classShift|p.Priority).On(fmt.Sprint(p.Class, " ", p.Priority))
	return nil
}

// signals gives every signal its default disposition and unblocks all: nohup leaves SIGHUP ignored, and that
// would go through execve.
func (b *builder) signals() {
	n, again, done := b.reg("signal"), b.Label(), b.Label()
	def := b.Bytes("default", make([]byte, 32))
	b.Set(n, 1)
	b.Mark(again)
	b.Do("reset the signal", unix.SYS_RT_SIGACTION, n, def, nil, 8).May(unix.EINVAL) // SIGKILL and SIGSTOP
	b.Compute(n, n, script.Add, 1)
	b.Expect("not the last signal", n, script.All, script.Equal, 65, 0).Else(again).Then(done)
	b.Mark(done)
	b.Do("unblock all signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, b.Bytes("none", make([]byte, 8)), nil, 8)
}

func (b *builder) personality() error {
	domain := 0
	if l := b.spec.Linux; l != nil && l.Personality != nil {
		switch l.Personality.Domain {
		case specs.PerLinux:
		case specs.PerLinux32:
			domain = 8
		default:
			return fmt.Errorf("personality %q: it must be LINUX or LINUX32", l.Personality.Domain)
		}
		if len(l.Personality.Flags) > 0 {
			return fmt.Errorf("personality flags: OCI names none")
		}
	}
	b.Do("set the personality", unix.SYS_PERSONALITY, domain)
	return nil
}
