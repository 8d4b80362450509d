package compile

import (
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultDevices are there in every container (OCI runtime-spec 1.3, "Default Devices").
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7}, {Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9}, {Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

var deviceLinks = [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"}, {"pts/ptmx", "ptmx"}}

// devIsBound says whether /dev is a tree of the host's.
func (b *builder) devIsBound() bool {
	for _, m := range b.spec.Mounts {
		if clean(m.Destination) == "/dev" {
			return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		}
	}
	return false
}

// devices makes device nodes and links in /dev. A host's /dev that was bound is left as it is.
func (b *builder) devices() error {
	if b.devIsBound() {
		return nil
	}
	dev, ours := b.made["/dev"]
	if !ours {
		b.openDirectory("/dev")
		dev.reg = b.reg("dev directory")
	}
	if !b.devicesReady() {
		if err := b.defaultDevices(dev.reg); err != nil {
			return err
		}
	}
	if b.spec.Linux == nil {
		return nil
	}
	for _, d := range b.spec.Linux.Devices {
		if slices.ContainsFunc(defaultDevices, func(k specs.LinuxDevice) bool { return k.Path == clean(d.Path) }) && plain(d) {
			continue
		}
		if err := b.device(dev.reg, d); err != nil {
			return err
		}
	}
	return nil
}

// plain says that d asks for nothing but what the default device is.
func plain(d specs.LinuxDevice) bool {
	for _, k := range defaultDevices {
		if k.Path == clean(d.Path) {
			return k.Major == d.Major && k.Minor == d.Minor && (d.FileMode == nil || d.FileMode.Perm() == 0o666) && id(d.UID) == 0 && id(d.GID) == 0
		}
	}
	return false
}

func (b *builder) defaultDevices(dev script.Reg) error {
	for _, d := range defaultDevices {
		if b.spec.Linux != nil && slices.ContainsFunc(b.spec.Linux.Devices, func(k specs.LinuxDevice) bool { return clean(k.Path) == d.Path && !plain(k) }) {
			continue // the configuration has another idea of it
		}
		if err := b.device(dev, d); err != nil {
			return err
		}
	}
	for _, l := range deviceLinks {
		b.Do("make the link", unix.SYS_SYMLINKAT, l[0], dev, l[1]).On("/dev/" + l[1]).May(unix.EEXIST)
	}
	return nil
}

// openDirectory opens a directory of the container, made where it is missing, into the register "dev directory".
func (b *builder) openDirectory(p string) {
	b.makeParents(p)
	b.makeEntry(p, true)
	b.openConfined("open the directory", b.reg("root"), relative(p), unix.O_PATH|unix.O_DIRECTORY, inRoot, b.reg("dev directory")).On(p)
}

func deviceType(t string) uint32 {
	switch t {
	case "c", "u":
		return unix.S_IFCHR
	case "b":
		return unix.S_IFBLK
	case "p":
		return unix.S_IFIFO
	}
	return 0
}

func (b *builder) device(dev script.Reg, d specs.LinuxDevice) error {
	kind := deviceType(d.Type)
	if kind == 0 {
		return fmt.Errorf("device %s has type %q: it must be c, b, u or p", d.Path, d.Type)
	}
	if d.Major < 0 || d.Minor < 0 || d.Major > 0xfff || d.Minor > 0xfffff {
		return fmt.Errorf("device %s has number %d:%d: the largest is 4095:1048575", d.Path, d.Major, d.Minor)
	}
	p := clean(d.Path)
	dir, name := dev, path.Base(p)
	direct := path.Dir(p) == "/dev"
	if !direct {
		b.makeParents(p)
		dir = b.openParent(p)
	}
	if b.inUserNamespace() {
		b.bindDevice(p)
	} else {
		b.mknod(dir, name, kind, d)
	}
	if !direct {
		b.closeParent(dir)
	}
	return nil
}

func (b *builder) mknod(dir script.Reg, name string, kind uint32, d specs.LinuxDevice) {
	mode := os.FileMode(0o666)
	if d.FileMode != nil {
		mode = *d.FileMode
	}
	p := clean(d.Path)
	refused, done := b.Label(), b.Label()
	made := b.Do("make the device", unix.SYS_MKNODAT, dir, name, kind|uint32(mode.Perm()), uint64(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))).On(p)
	if kind != unix.S_IFIFO && !b.slot {
		made.May(unix.EPERM).Else(refused) // an engine inside a container
	}
	if uid, gid := id(d.UID), id(d.GID); uid != 0 || gid != 0 {
		b.Do("give the device to its owner", unix.SYS_FCHOWNAT, dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW).On(p)
	}
	if kind != unix.S_IFIFO && !b.slot {
		b.Jump(done)
		b.Mark(refused)
		b.bindDevice(p)
		b.Mark(done)
	}
}

// bindDevice puts the host's device onto an empty file: in a user namespace nobody makes devices.
func (b *builder) bindDevice(p string) {
	tree, target := b.reg("tree"), b.reg("target")
	b.Do("clone the host's device", unix.SYS_OPEN_TREE, unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).On(p).To(tree)
	b.makeEntry(p, false)
	b.openConfined("open the mount's target", b.reg("root"), relative(p), unix.O_PATH, inRoot, target).On(p)
	b.attach(p, tree, target)
	b.CloseReg(target)
	b.CloseReg(tree)
}

func (b *builder) inUserNamespace() bool {
	has, _ := b.userNamespace()
	return has
}

func id(p *uint32) int {
	if p == nil {
		return 0
	}
	return int(*p)
}

// console makes /dev/console of the terminal's other end, which is in the register "terminal".
func (b *builder) console() {
	tree, target := b.reg("tree"), b.reg("target")
	b.Do("clone the terminal", unix.SYS_OPEN_TREE, b.reg("terminal"), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH).On("/dev/console").To(tree)
	b.makeParents("/dev/console")
	b.makeEntry("/dev/console", false)
	b.openConfined("open the mount's target", b.reg("root"), "dev/console", unix.O_PATH, inRoot, target).On("/dev/console")
	b.attach("/dev/console", tree, target)
	b.CloseReg(target)
	b.CloseReg(tree)
}
