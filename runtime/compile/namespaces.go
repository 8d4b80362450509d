package compile

import (
	"fmt"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cloneFlag is the flag of clone(2) for a kind of namespace, 0 for one that there is none of.
func cloneFlag(kind specs.LinuxNamespaceType) uintptr {
	switch kind {
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET
	case specs.MountNamespace:
		return unix.CLONE_NEWNS
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS
	case specs.UserNamespace:
		return unix.CLONE_NEWUSER
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP
	case specs.TimeNamespace:
		return unix.CLONE_NEWTIME
	}
	return 0
}

// joinOrder is the order in which namespaces are joined. The user namespace comes last: before it we may enter
// all that belong to the host's and to those below it, afterwards only its own.
var joinOrder = []specs.LinuxNamespaceType{specs.CgroupNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.NetworkNamespace,
	specs.PIDNamespace, specs.UserNamespace}

// userNamespace says whether the container has one that is not the caller's, and whether it is new.
func (b *builder) userNamespace() (has, isNew bool) {
	n, ok := b.namespace(specs.UserNamespace)
	return ok, ok && n.Path == "" && b.in.Namespaces[specs.UserNamespace] == nil
}

// checkNamespaces refuses what can't work, with a sentence.
func (b *builder) checkNamespaces() error {
	if b.spec.Linux == nil {
		return fmt.Errorf("the configuration has no linux section: nothing would be isolated")
	}
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, n := range b.spec.Linux.Namespaces {
		if cloneFlag(n.Type) == 0 {
			return fmt.Errorf("namespace %q: the kernel has none of that kind", n.Type)
		}
		if seen[n.Type] {
			return fmt.Errorf("namespace %q is listed twice", n.Type)
		}
		seen[n.Type] = true
	}
	if !seen[specs.MountNamespace] {
		return fmt.Errorf("a container needs a mount namespace: without one its mounts would be the host's")
	}
	if n, _ := b.namespace(specs.MountNamespace); n.Path != "" || b.in.Namespaces[specs.MountNamespace] != nil {
		return fmt.Errorf("a container's mount namespace can't be joined, it is made for its root")
	}
	if len(b.spec.Linux.TimeOffsets) > 0 || seen[specs.TimeNamespace] {
		return fmt.Errorf("time namespaces are not supported yet")
	}
	if (b.spec.Hostname != "" || b.spec.Domainname != "") && !seen[specs.UTSNamespace] {
		return fmt.Errorf("a host name is given, and no UTS namespace: it would become the host's")
	}
	if has, isNew := b.userNamespace(); has && isNew && (len(b.spec.Linux.UIDMappings) == 0 || len(b.spec.Linux.GIDMappings) == 0) {
		return fmt.Errorf("a new user namespace needs uid and gid mappings")
	}
	return nil
}

// enterNamespaces joins those that are given and makes the others. Where nothing is joined that makes a
// difference, all are made with the child itself and only the flags for its clone come back; else a second
// process is made in them, because a pid namespace is for children only, and because what is new must belong
// to the user namespace that was joined.
func (b *builder) enterNamespaces() (flags uintptr) {
	var joined []specs.LinuxNamespace
	for _, kind := range append([]specs.LinuxNamespaceType{specs.MountNamespace}, joinOrder...) {
		n, ok := b.namespace(kind)
		switch {
		case !ok:
		case kind == specs.NetworkNamespace && b.lateNetwork:
		case n.Path != "" || b.in.Namespaces[kind] != nil:
			joined = append(joined, n)
		case kind == specs.CgroupNamespace: // made after the cgroup was joined
		default:
			flags |= cloneFlag(kind)
		}
	}
	b.join(joined)
	if !mustFork(joined, flags) {
		return flags
	}
	b.handed = true
	b.HandOver("make the process in its namespaces", flags)
	return 0
}

func mustFork(joined []specs.LinuxNamespace, flags uintptr) bool {
	for _, n := range joined {
		if n.Type == specs.PIDNamespace || n.Type == specs.UserNamespace {
			return true
		}
	}
	// in a new user namespace nothing of the host's may be joined any more
	return len(joined) > 0 && flags&unix.CLONE_NEWUSER != 0
}

func (b *builder) join(joined []specs.LinuxNamespace) {
	for _, n := range joined {
		if f := b.in.Namespaces[n.Type]; f != nil {
			b.setns(n, b.file("namespace "+string(n.Type), f))
			continue
		}
		r := b.reg("namespace")
		b.Do("open the namespace", unix.SYS_OPENAT, unix.AT_FDCWD, n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0).On(n.Path).To(r)
		b.setns(n, r)
	}
}

func (b *builder) setns(n specs.LinuxNamespace, r script.Reg) {
	b.Do("join the namespace", unix.SYS_SETNS, r, cloneFlag(n.Type)).On(string(n.Type))
	b.CloseReg(r)
}
