package compile

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Start compiles a whole start. It reads nothing but what it is given, except that bind mounts' sources are
// looked at (file or directory), and the rootfs for links that lead to nothing.
func Start(spec *specs.Spec, in Inputs) (*Plan, error) {
	b, err := newBuilder(spec, in)
	if err != nil {
		return nil, err
	}
	if err := b.start(); err != nil {
		return nil, joinClose(b, err)
	}
	return b.plan(), nil
}

func (b *builder) start() error {
	if err := b.check(); err != nil {
		return err
	}
	if b.in.Root != nil {
		b.rootFile = b.file("root", b.in.Root)
	}
	for _, m := range b.in.Mounts {
		b.treeRegs = append(b.treeRegs, b.file("tree "+clean(m.Destination), m.Tree))
	}
	b.connections()
	if err := b.isolate(); err != nil {
		return err
	}
	if err := b.fill(); err != nil {
		return err
	}
	return b.become()
}

func (b *builder) check() error {
	if err := b.checkNamespaces(); err != nil {
		return err
	}
	return checkProcess(b.process)
}

// isolate is the first half: the process in its cgroup and namespaces, cut off from the host's mounts.
func (b *builder) isolate() error {
	b.signals()
	b.joinCgroup()
	if !b.slot {
		b.oomScore(b.oomScoreAdj(), unix.AT_FDCWD, "/proc/self/oom_score_adj")
	}
	b.flags = b.enterNamespaces()
	has, isNew := b.userNamespace()
	if isNew {
		b.meetParent("id maps", writeMaps)
	}
	// not before the maps: in a user namespace a process that is not dumpable has files in /proc that are not its own
	b.hideMemory()
	b.Do("make a session", unix.SYS_SETSID)
	b.Do("set the umask", unix.SYS_UMASK, 0)
	if has {
		b.openSources() // while files that only the host's root may reach are still reached
		b.becomeRoot()
	}
	if _, ok := b.namespace(specs.CgroupNamespace); ok {
		// after joining: its root is where the process is when it is made
		b.unshareCgroup()
	}
	return b.detachFromHost()
}

// fill is what is in the container: names, kernel parameters, mounts, devices.
func (b *builder) fill() error {
	b.hostNames()
	if err := b.sysctls(); err != nil {
		return err
	}
	b.emptyDirectory()
	if err := b.attachRoot(); err != nil {
		return err
	}
	if err := b.mountAll(); err != nil {
		return err
	}
	if err := b.devices(); err != nil {
		return err
	}
	if b.process.Terminal {
		if err := b.openTerminal(b.process); err != nil {
			return err
		}
		b.console()
	}
	if err := b.created(); err != nil {
		return err
	}
	b.protect()
	b.mask()
	b.changeRoot()
	return nil
}

// become is what turns the process into the program; an exec ends in it too.
func (b *builder) become() error {
	p := b.process
	b.stdio(p)
	if err := b.schedule(p); err != nil {
		return err
	}
	if err := b.personality(); err != nil {
		return err
	}
	b.keyring()
	held := b.heldUp()
	if !held {
		// the label while /proc is still in a register (an exec has set it); the rest of ours is of no use any more
		if !b.exec {
			if err := b.label(p); err != nil {
				return err
			}
		}
		b.closeOurs()
	}
	b.workingDirectory(p)
	if held {
		if err := b.beforeProgram(); err != nil {
			return err
		}
	}
	if err := b.identity(p); err != nil {
		return err
	}
	b.Do("close on execve", unix.SYS_CLOSE_RANGE, 3+b.in.PreserveFDs, ^uint32(0), unix.CLOSE_RANGE_CLOEXEC)
	b.execute(p)
	return b.Err()
}

func (b *builder) oomScoreAdj() *int {
	if b.process == nil {
		return nil
	}
	return b.process.OOMScoreAdj
}

func joinClose(b *builder, err error) error {
	if e := b.Close(); e != nil {
		return fmt.Errorf("%w; %w", err, e)
	}
	return err
}
