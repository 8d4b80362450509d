package compile

import (
	"github.com/berth-engine/berth/runtime/script"
	"golang.org/x/sys/unix"
)

// emptyDirectory makes the read-only directory that masked directories show. It is attached below the root
// that is let go, because a mount can be cloned only while it is in our namespace (kernels before 6.15).
func (b *builder) emptyDirectory() {
	if b.spec.Linux == nil || len(b.spec.Linux.MaskedPaths) == 0 {
		return
	}
	empty := b.reg("empty directory")
	b.detached("tmpfs", "tmpfs", mountOptions{data: [][2]string{{"mode", "555"}, {"size", "0"}, {"nr_inodes", "1"}},
		attr: attributes{set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}}, empty)
	b.Do("put the empty directory into place", unix.SYS_MOVE_MOUNT, empty, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// mask hides paths: a file behind /dev/null, a directory behind an empty one.
func (b *builder) mask() {
	if b.spec.Linux == nil {
		return
	}
	for _, p := range b.spec.Linux.MaskedPaths {
		b.maskPath(clean(p))
	}
}

func (b *builder) maskPath(p string) {
	tree, target := b.reg("tree"), b.reg("target")
	file, attach, done := b.Label(), b.Label(), b.Label()
	b.openInside("open the directory to mask", p, unix.O_PATH|unix.O_DIRECTORY, file)
	b.Do("clone the empty directory", unix.SYS_OPEN_TREE, b.reg("empty directory"), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH).On(p).To(tree).Then(attach)
	b.Mark(file)
	b.openInside("open the path to mask", p, unix.O_PATH, done)
	b.cloneNull(tree)
	b.Mark(attach)
	b.attach(p, tree, target)
	b.CloseReg(tree)
	b.CloseReg(target)
	b.Mark(done)
}

// cloneNull clones a null device that no container can have put there: the one in the /dev that we made, else the host's.
func (b *builder) cloneNull(tree script.Reg) {
	if dev, ok := b.made["/dev"]; ok && dev.kind == "tmpfs" && !b.inUserNamespace() {
		b.Do("clone the null device", unix.SYS_OPEN_TREE, dev.reg, "null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW).On("/dev/null").To(tree)
		return
	}
	b.Do("clone the null device", unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/dev/null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).On("/dev/null").To(tree)
}

// protect makes paths read-only.
func (b *builder) protect() {
	if b.spec.Linux == nil {
		return
	}
	tree, target := b.reg("tree"), b.reg("target")
	for _, p := range b.spec.Linux.ReadonlyPaths {
		p = clean(p)
		done := b.Label()
		b.openInside("open the path to protect", p, unix.O_PATH, done)
		b.Do("clone the path to protect", unix.SYS_OPEN_TREE, target, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE).On(p).To(tree)
		b.setAttr("make the path read-only", p, tree, true, attributes{set: unix.MOUNT_ATTR_RDONLY})
		b.attach(p, tree, target)
		b.CloseReg(tree)
		b.CloseReg(target)
		b.Mark(done)
	}
}

// openInside opens a path of the container into "target"; where it does not exist the script goes on at none. Below a
// /proc or /sys that the script mounted it starts there, so that nothing that lies above can change what is
// meant (CVE-2019-16884, CVE-2025-31133).
func (b *builder) openInside(step, p string, flags int, none *script.Label) {
	dir, name, how := b.reg("root"), relative(p), uint64(inRoot)
	if at, rest, ok := b.madeAbove(p); ok {
		dir, name, how = at, rest, beneath
	}
	b.openConfined(step, dir, name, flags, how, b.reg("target")).On(p).May(missing...).Else(none)
}

// madeAbove is the proc or sysfs that the script mounted above p, where nothing was mounted in between.
func (b *builder) madeAbove(p string) (dir script.Reg, rest string, ok bool) {
	longest := ""
	for _, m := range b.spec.Mounts {
		d := clean(m.Destination)
		if _, is := below(p, d); is && len(d) > len(longest) {
			longest = d
		}
	}
	m, made := b.made[longest]
	if !made || m.kind != "proc" && m.kind != "sysfs" || p == longest {
		return 0, "", false
	}
	rest, _ = below(p, longest)
	return m.reg, rest, true
}
