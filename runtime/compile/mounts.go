package compile

import (
	"fmt"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// detached makes a file system that is attached to nothing yet.
func (b *builder) detached(kind, source string, o mountOptions, tree script.Reg) {
	fs := b.reg("fs")
	b.Do("open the file system", unix.SYS_FSOPEN, kind, unix.FSOPEN_CLOEXEC).On(kind).To(fs)
	if source != "" {
		b.fsconfig(fs, kind, "source", source)
	}
	for _, name := range o.super {
		b.fsconfig(fs, kind, name, "")
	}
	for _, kv := range o.data {
		b.fsconfig(fs, kind, kv[0], kv[1])
	}
	b.Do("make the file system", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, nil, nil, 0).On(kind)
	b.Do("make the mount", unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, o.attr.set).On(kind).To(tree)
	b.CloseReg(fs)
}

func (b *builder) fsconfig(fs script.Reg, kind, key, value string) {
	if value == "" {
		b.Do("set an option of the file system", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, key, nil, 0).On(kind + ": " + key)
		return
	}
	b.Do("set an option of the file system", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, key, value, 0).On(kind + ": " + key + "=" + value)
}

// ours are file systems that live in memory of the kernel: their super block is made here, so that only the
// mount needs to be read-only, and a register that holds one is trusted by later steps.
func ours(kind string) bool {
	switch kind {
	case "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2":
		return true
	}
	return false
}

// mountAll makes the configuration's mounts in its order.
func (b *builder) mountAll() error {
	for _, m := range b.spec.Mounts {
		if err := b.mount(m); err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	return nil
}

func (b *builder) mount(m specs.Mount) error {
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		return fmt.Errorf("id mappings of single mounts are not supported")
	}
	dest := clean(m.Destination)
	for i, t := range b.in.Mounts {
		if clean(t.Destination) == dest {
			return b.mountTree(dest, b.treeRegs[i], t, o)
		}
	}
	switch {
	case o.bind || o.rbind || m.Type == "bind":
		return b.bindMount(dest, m, o)
	case m.Type == "cgroup" || m.Type == "cgroup2":
		return b.mountCgroup(dest, o)
	}
	return b.mountFS(dest, m, o)
}

// mountFS makes a file system, or takes the one that the first half of a slot made, and attaches it.
func (b *builder) mountFS(dest string, m specs.Mount, o mountOptions) error {
	kind := m.Type
	if kind == "" {
		return fmt.Errorf("it has no type and is no bind mount")
	}
	if !ours(kind) && o.attr.set&unix.MOUNT_ATTR_RDONLY != 0 {
		o.super = append(o.super, "ro")
	}
	if l := b.spec.Linux; l != nil && l.MountLabel != "" && b.host.has("selinux") && kind != "proc" && kind != "sysfs" {
		o.data = append(o.data, [2]string{"context", l.MountLabel})
	}
	tree, ready := b.ready(dest, m)
	if !ready {
		tree = b.reg(treeName(kind, dest))
		b.detached(kind, b.fsSource(m), o, tree)
	}
	b.finishAttributes(dest, tree, mountOptions{recursive: o.recursive, propagation: o.propagation})
	if err := b.target(dest, true); err != nil {
		return err
	}
	b.attach(dest, tree, b.reg("target"))
	b.CloseReg(b.reg("target"))
	b.made[dest] = mounted{reg: tree, kind: kind}
	if !ours(kind) {
		b.CloseReg(tree)
		delete(b.made, dest)
	}
	return nil
}

func treeName(kind, dest string) string { return kind + " " + dest }

func (b *builder) fsSource(m specs.Mount) string {
	if m.Source == "" {
		return m.Type
	}
	return m.Source
}

// bindMount clones a tree of the host. The clone is made by path, which is the host's and trusted
// (config.json is; the rootfs is not), and lands on a confined target.
func (b *builder) bindMount(dest string, m specs.Mount, o mountOptions) error {
	source := b.hostPath(m.Source)
	dir, err := b.host.Stat(source)
	if err != nil {
		return err
	}
	if b.slot {
		return fmt.Errorf("its source is a path, and a slot has none of the host's")
	}
	tree, ready := b.clones[dest]
	if !ready {
		tree = b.reg("tree")
		b.cloneSource(source, o, tree)
	}
	b.finishAttributes(dest, tree, o)
	if err := b.target(dest, dir); err != nil {
		return err
	}
	b.attach(dest, tree, b.reg("target"))
	b.CloseReg(b.reg("target"))
	b.CloseReg(tree)
	return nil
}

// mountTree attaches a tree that the caller made.
func (b *builder) mountTree(dest string, tree script.Reg, m Mount, o mountOptions) error {
	dir := true
	if m.Tree != nil {
		info, err := m.Tree.Stat()
		if err != nil {
			return err
		}
		dir = info.IsDir()
	}
	b.finishAttributes(dest, tree, o)
	if err := b.target(dest, dir); err != nil {
		return err
	}
	b.attach(dest, tree, b.reg("target"))
	b.CloseReg(b.reg("target"))
	b.CloseReg(tree)
	return nil
}

// finishAttributes changes what a clone brought along, before anybody can see it. A tree that is bound for a
// container does not propagate into the host unless that was asked for.
func (b *builder) finishAttributes(dest string, tree script.Reg, o mountOptions) {
	if !o.recursive.empty() {
		b.setAttr("set the mount's options", dest, tree, true, o.recursive)
	}
	if o.attr.set != 0 || o.attr.clear&^atime != 0 {
		b.setAttr("set the mount's options", dest, tree, false, o.attr)
	}
	if len(o.propagation) == 0 && (o.bind || o.rbind) {
		o.propagation = []propagation{{unix.MS_PRIVATE, true}}
	}
	for _, p := range o.propagation {
		b.setAttr("set the mount's propagation", dest, tree, p.recurse, attributes{propagation: p.flag})
	}
}
