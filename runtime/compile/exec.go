package compile

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecInputs is what an exec needs beyond the process. Of Inputs it uses Cgroup, Stdio, Console, PreserveFDs,
// Filter, FilterFlags, DeathSignal, NoNewKeyring, MakeCwd and Host.
type ExecInputs struct {
	Inputs
	// Target refers to a process of the container (pidfd), whose namespaces are entered.
	Target *os.File
	// Namespaces are those to enter, as CLONE_NEW* flags: the ones that are not the caller's own. See NamespacesOf.
	Namespaces uintptr
}

// Exec compiles the start of one more process in a container. It is a script of its own, not a mode of the start:
// the namespaces are there, the root is, and everything in them may be hostile.
func Exec(process *specs.Process, in ExecInputs) (*Plan, error) {
	spec := &specs.Spec{Process: process, Linux: &specs.Linux{}}
	if in.Namespaces&unix.CLONE_NEWUSER != 0 {
		spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace, Path: "joined"}}
	}
	b, err := newBuilder(spec, in.Inputs)
	if err != nil {
		return nil, err
	}
	b.exec = true
	if err := b.enter(in); err != nil {
		return nil, joinClose(b, err)
	}
	return b.plan(), nil
}

func (b *builder) enter(in ExecInputs) error {
	if err := checkProcess(b.process); err != nil {
		return err
	}
	if in.Target == nil || in.Init || in.Wait != nil {
		return fmt.Errorf("an exec needs a process to follow, and has neither an init nor a start of its own")
	}
	target := b.file("target", in.Target)
	b.connections()
	b.signals()
	b.joinCgroup()
	// what is the process's own on the host is opened or written while the host is still seen
	b.oomScore(b.oomScoreAdj(), unix.AT_FDCWD, "/proc/self/oom_score_adj")
	// before the pid namespace: whoever is in there must not read this program's memory or its file (CVE-2019-5736)
	b.hideMemory()
	if in.Namespaces&unix.CLONE_NEWPID != 0 {
		b.Do("join the namespace", unix.SYS_SETNS, target, unix.CLONE_NEWPID).On("pid")
	}
	b.handed = true
	b.HandOver("make the process in the container", 0)
	if err := b.label(b.process); err != nil {
		return err
	}
	if rest := in.Namespaces &^ unix.CLONE_NEWPID; rest != 0 {
		b.Do("join the namespaces", unix.SYS_SETNS, target, rest)
	}
	b.CloseReg(target)
	b.Do("make a session", unix.SYS_SETSID)
	b.Do("set the umask", unix.SYS_UMASK, 0)
	if b.inUserNamespace() {
		b.becomeRoot()
	}
	if b.process.Terminal {
		if err := b.openTerminal(b.process); err != nil {
			return err
		}
	}
	return b.become()
}

// namespaceFiles are the files of /proc/PID/ns by flag, in the order of the flags.
var namespaceFiles = []struct {
	name string
	flag uintptr
}{{"user", unix.CLONE_NEWUSER}, {"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS},
	{"ipc", unix.CLONE_NEWIPC}, {"cgroup", unix.CLONE_NEWCGROUP}}

// NamespacesOf says which namespaces of process pid are not the caller's: those that an exec has to enter. The
// error wraps fs.ErrNotExist where there is no such process.
func NamespacesOf(pid int) (flags uintptr, err error) {
	for _, n := range namespaceFiles {
		var theirs, own unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, n.name), &theirs); err != nil {
			return 0, fmt.Errorf("namespaces of process %d: %w", pid, err)
		}
		if err := unix.Stat("/proc/self/ns/"+n.name, &own); err != nil {
			return 0, fmt.Errorf("own namespaces: %w", err)
		}
		if theirs.Ino != own.Ino || theirs.Dev != own.Dev {
			flags |= n.flag
		}
	}
	return flags, nil
}
