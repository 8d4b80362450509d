package compile

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func (b *builder) rootPropagation() (propagation, error) {
	if b.spec.Linux == nil || b.spec.Linux.RootfsPropagation == "" {
		return propagation{unix.MS_SLAVE, true}, nil
	}
	p, ok := propagationOf(b.spec.Linux.RootfsPropagation)
	if !ok {
		return p, fmt.Errorf("rootfs propagation %q: not one of private, slave, shared, unbindable", b.spec.Linux.RootfsPropagation)
	}
	return p, nil
}

// detachFromHost cuts the copy of the host's mounts off, so that nothing that follows is seen outside. With a
// shared root, which was asked for, only the mount that the container's root goes onto is cut off.
func (b *builder) detachFromHost() error {
	p, err := b.rootPropagation()
	if err != nil {
		return err
	}
	flags := uint64(unix.MS_REC | unix.MS_SLAVE)
	switch p.flag {
	case unix.MS_PRIVATE:
		flags = unix.MS_REC | unix.MS_PRIVATE
	case unix.MS_SHARED:
		b.cloneSources()
		flags = unix.MS_PRIVATE
	}
	b.Do("cut the mounts off from the host's", unix.SYS_MOUNT, nil, "/", nil, flags, nil).On("/")
	return nil
}

// rootPath is where the bundle's rootfs is on the host.
func (b *builder) rootPath() string {
	if b.spec.Root == nil || b.spec.Root.Path == "" {
		return ""
	}
	return b.hostPath(b.spec.Root.Path)
}

// TakeRoot is the step that takes a root which is a descriptor. It fails (EINVAL) where another start has put it into
// place: a root serves one container, so no command is run twice.
const TakeRoot = "cut the root off from its peers"

// attachRoot puts the rootfs into the mount namespace and its descriptor into the register "root". A detached
// tree lands on "/", where only descriptors reach it until the root is changed; a path is bound to itself, so
// that hooks find it where the configuration says.
func (b *builder) attachRoot() error {
	root := b.reg("root")
	if b.in.Root != nil {
		b.names["root"] = b.rootFile
		root = b.rootFile
		// a clone of a shared mount (open_tree) has peers on the host: what is mounted in it would be seen there, and
		// a root with peers can't be changed to (seen on 6.12)
		b.setAttr(TakeRoot, "/", root, true, attributes{propagation: unix.MS_PRIVATE})
		b.Do("put the root into place", unix.SYS_MOVE_MOUNT, root, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH).On("/")
		return nil
	}
	p := b.rootPath()
	if p == "" {
		return fmt.Errorf("the configuration has no root")
	}
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	if r, ok := b.sources[p]; ok {
		b.Do("clone the root", unix.SYS_OPEN_TREE, r, "", flags|unix.AT_EMPTY_PATH).On(p).To(root)
		b.Do("put the root into place", unix.SYS_MOVE_MOUNT, root, "", r, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH).On(p)
	} else {
		b.Do("clone the root", unix.SYS_OPEN_TREE, unix.AT_FDCWD, p, flags).On(p).To(root)
		b.Do("put the root into place", unix.SYS_MOVE_MOUNT, root, "", unix.AT_FDCWD, p, unix.MOVE_MOUNT_F_EMPTY_PATH).On(p)
	}
	return nil
}

// changeRoot makes the rootfs the root of the mount namespace and lets go of everything else. After that no
// path leads out, whatever links say.
func (b *builder) changeRoot() {
	old := b.reg("old root")
	b.Do("open the old root", unix.SYS_OPENAT, unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).On("/").To(old)
	b.Do("enter the new root", unix.SYS_FCHDIR, b.reg("root"))
	b.Do("change the root", unix.SYS_PIVOT_ROOT, ".", ".")
	b.Do("go back to the old root", unix.SYS_FCHDIR, old)
	// else the unmount below would reach the host's mounts that are still its peers
	b.Do("cut the old root off", unix.SYS_MOUNT, nil, ".", nil, unix.MS_REC|unix.MS_SLAVE, nil)
	// "." is what lies topmost on the old root (the empty directory of masks; whatever the host has there): until
	// the old root itself is gone, when "." is in no namespace any more
	again, done := b.Label(), b.Label()
	b.Mark(again)
	b.Do("let go of the old root", unix.SYS_UMOUNT2, ".", unix.MNT_DETACH).May(unix.EINVAL).Else(done).Then(again)
	b.Mark(done)
	b.CloseReg(old)
	b.Do("enter the root", unix.SYS_CHDIR, "/").On("/")
	// a root that is shared can't be changed to, so it becomes so only here
	if p, err := b.rootPropagation(); err == nil && p.flag != unix.MS_SLAVE {
		b.setAttr("set the root's propagation", "/", b.reg("root"), p.recurse, attributes{propagation: p.flag})
	}
	if b.spec.Root != nil && b.spec.Root.Readonly {
		b.setAttr("make the root read-only", "/", b.reg("root"), false, attributes{set: unix.MOUNT_ATTR_RDONLY})
	}
}

// emptyRoot moves a slot to a root of its own with nothing in it, so that it neither pins mounts of the host
// nor sees them.
func (b *builder) emptyRoot() {
	b.detached("tmpfs", "slot", mountOptions{attr: attributes{set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC},
		data: [][2]string{{"mode", "755"}, {"size", "64k"}}}, b.reg("root"))
	b.Do("put the root into place", unix.SYS_MOVE_MOUNT, b.reg("root"), "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH).On("/")
	b.changeRoot()
	b.CloseReg(b.reg("root"))
}

func (b *builder) namespace(kind specs.LinuxNamespaceType) (specs.LinuxNamespace, bool) {
	if b.spec.Linux != nil {
		for _, n := range b.spec.Linux.Namespaces {
			if n.Type == kind {
				return n, true
			}
		}
	}
	return specs.LinuxNamespace{}, false
}
