package compile

import (
	"path"

	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// joinCgroup moves the process into its cgroup before anything else: what it does from here on is counted. "0" is
// the writer itself, and nothing has to wait for it.
func (b *builder) joinCgroup() {
	if b.in.Cgroup == nil {
		return
	}
	for _, f := range b.in.Cgroup.Tasks {
		b.Do("join the cgroup", unix.SYS_WRITE, b.file("cgroup", f), "0", 1).On(f.Name())
	}
}

func (b *builder) unshareCgroup() {
	n, _ := b.namespace(specs.CgroupNamespace)
	if n.Path == "" && b.in.Namespaces[specs.CgroupNamespace] == nil {
		b.Do("make a cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
}

// mountCgroup shows the container its own cgroups at dest.
func (b *builder) mountCgroup(dest string, o mountOptions) error {
	j := b.in.Cgroup
	if j == nil || j.Version == 0 {
		j = &cgroup.Join{Version: 1}
	}
	if j.Version == 2 {
		return b.mountUnified(dest, o)
	}
	tmpfs := b.reg("cgroup directory")
	super := mountOptions{attr: attributes{set: o.attr.set &^ unix.MOUNT_ATTR_RDONLY}, data: [][2]string{{"mode", "755"}, {"size", "64k"}}}
	b.detached("tmpfs", "cgroup", super, tmpfs)
	if err := b.target(dest, true); err != nil {
		return err
	}
	b.attach(dest, tmpfs, b.reg("target"))
	b.CloseReg(b.reg("target"))
	for _, h := range j.Hierarchies {
		b.mountHierarchy(dest, h, o)
	}
	if o.attr.set&unix.MOUNT_ATTR_RDONLY != 0 {
		b.setAttr("make the mount read-only", dest, tmpfs, false, attributes{set: unix.MOUNT_ATTR_RDONLY})
	}
	b.CloseReg(tmpfs)
	return nil
}

func (b *builder) mountHierarchy(dest string, h cgroup.Hierarchy, o mountOptions) {
	tmpfs, tree, target := b.reg("cgroup directory"), b.reg("tree"), b.reg("target")
	at := path.Join(dest, h.Name)
	b.Do("make the mount's target", unix.SYS_MKDIRAT, tmpfs, h.Name, 0o755).On(at)
	if _, own := b.namespace(specs.CgroupNamespace); own {
		data := make([][2]string, 0, len(h.Options))
		for _, name := range h.Options {
			data = append(data, keyValue(name))
		}
		b.detached("cgroup", "cgroup", mountOptions{attr: o.attr, data: data}, tree)
	} else {
		b.Do("clone the cgroup", unix.SYS_OPEN_TREE, unix.AT_FDCWD, h.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).On(h.Path).To(tree)
		b.setAttr("set the mount's options", at, tree, false, o.attr)
	}
	b.openConfined("open the mount's target", tmpfs, h.Name, unix.O_PATH, beneath, target).On(at)
	b.attach(at, tree, target)
	b.CloseReg(target)
	b.CloseReg(tree)
	for _, l := range h.Links {
		b.Do("make the link", unix.SYS_SYMLINKAT, h.Name, tmpfs, l).On(path.Join(dest, l))
	}
}

func (b *builder) mountUnified(dest string, o mountOptions) error {
	tree := b.reg("tree")
	if _, own := b.namespace(specs.CgroupNamespace); own {
		b.detached("cgroup2", "cgroup", mountOptions{attr: o.attr}, tree)
	} else {
		p := b.in.Cgroup.Path
		b.Do("clone the cgroup", unix.SYS_OPEN_TREE, unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).On(p).To(tree)
		b.setAttr("set the mount's options", dest, tree, false, o.attr)
	}
	if err := b.target(dest, true); err != nil {
		return err
	}
	b.attach(dest, tree, b.reg("target"))
	b.CloseReg(b.reg("target"))
	b.CloseReg(tree)
	return nil
}
