package compile

import (
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// builder writes one script. Its methods are the steps of a start, a file each; start.go, slot.go and exec.go
// put them in order.
type builder struct {
	*script.Script
	spec *specs.Spec
	in   Inputs
	host *Host

	names   map[string]script.Reg // registers by name
	made    map[string]mounted    // detached mounts of ours by destination
	sources map[string]script.Reg // host paths that were opened before ids changed
	clones  map[string]script.Reg // trees that were cloned early, by destination
	files   []*os.File            // what the second half of a slot is sent, in order
	regs    []script.Reg          // where they arrive
	slot    bool                  // the second half of a slot is written: nothing of the host's tree is there
	handed  bool                  // the script hands over to another process

	process    *specs.Process
	exec       bool       // an exec is written: root and namespaces are there already
	rootFile   script.Reg // Inputs.Root, where it is given
	stdioRegs  [3]script.Reg
	consoleReg script.Reg
	waitReg    script.Reg
	stateReg   script.Reg   // the JSON that hooks read
	treeRegs   []script.Reg // Inputs.Mounts

	flags       uintptr // of the first clone
	lateNetwork bool    // see Inputs
	waits       bool    // the script ends in a slot's meeting point
	inbox       script.Inbox
	devicesMade bool // the slot's /dev has its devices
	unused      []script.Reg

	bare map[uint64]script.Buf // struct open_how by resolve and flags
	meet []meeting             // what the parent does at each meeting point
}

// mounted is a mount that the script itself made, so that its register is beyond doubt that file system:
// what a container could have put at its path does not matter.
type mounted struct {
	reg   script.Reg
	kind  string // file system
	shape string // everything else that it was made of
}

// meeting is what the parent does when the child waits.
type meeting func(p *Plan) ([]*os.File, error)

func newBuilder(spec *specs.Spec, in Inputs) (*builder, error) {
	s, err := newScript(in.Record)
	if err != nil {
		return nil, err
	}
	b := &builder{Script: s, names: map[string]script.Reg{}, made: map[string]mounted{}, sources: map[string]script.Reg{}, clones: map[string]script.Reg{}, bare: map[uint64]script.Buf{}}
	b.use(spec, in)
	return b, nil
}

func newScript(record *os.File) (*script.Script, error) {
	if record != nil {
		return script.NewIn(record)
	}
	return script.New()
}

func (b *builder) use(spec *specs.Spec, in Inputs) {
	b.spec, b.in, b.host, b.process = spec, in, in.Host, spec.Process
	if b.host == nil {
		b.host = ThisHost()
	}
	if b.host.Stat == nil {
		b.host.Stat = isDir
	}
}

// reg returns the register of that name, a new one at its first use.
func (b *builder) reg(name string) script.Reg {
	if r, ok := b.names[name]; ok {
		return r
	}
	r := b.Reg(name)
	b.names[name] = r
	return r
}

// file makes f a register: at the start of a whole script, or among what a slot is sent.
func (b *builder) file(name string, f *os.File) script.Reg {
	if !b.slot {
		return b.File(name, f)
	}
	r := b.Reg(name)
	b.files, b.regs = append(b.files, f), append(b.regs, r)
	return r
}

// How paths are resolved: as if root were "/", never through a link of /proc's magic kind, which leads out.
const (
	inRoot  = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
)

// openConfined opens name below dir into r.
func (b *builder) openConfined(step string, dir any, name string, flags int, resolve uint64, r script.Reg) *script.Step {
	return b.Do(step, unix.SYS_OPENAT2, dir, name, b.openHow(flags, resolve), unix.SizeofOpenHow).To(r)
}

func (b *builder) openHow(flags int, resolve uint64) script.Buf {
	key := resolve<<32 | uint64(flags)
	if how, ok := b.bare[key]; ok {
		return how
	}
	text := map[int]string{unix.O_PATH: "PATH", unix.O_PATH | unix.O_DIRECTORY: "PATH|DIRECTORY", unix.O_WRONLY: "WRONLY"}[flags]
	if text == "" {
		text = fmt.Sprintf("%#x", flags)
	}
	switch resolve {
	case inRoot:
		text += ", IN_ROOT|NO_MAGICLINKS"
	case beneath:
		text += ", BENEATH|NO_MAGICLINKS"
	}
	var how [unix.SizeofOpenHow]byte
	binary.NativeEndian.PutUint64(how[0:], uint64(flags|unix.O_CLOEXEC))
	binary.NativeEndian.PutUint64(how[16:], resolve)
	buf := b.Bytes(text, how[:])
	b.bare[key] = buf
	return buf
}

// setAttr makes the mount in tree (with recurse: and everything below it) carry the attributes in set and not those in clear.
func (b *builder) setAttr(step, object string, tree script.Reg, recurse bool, a attributes) {
	flags := unix.AT_EMPTY_PATH
	if recurse {
		flags |= unix.AT_RECURSIVE
	}
	b.Do(step, unix.SYS_MOUNT_SETATTR, tree, "", flags, b.attr(a), 32).On(object)
}

// attributes is struct mount_attr, but for a user namespace.
type attributes struct{ set, clear, propagation uint64 }

func (b *builder) attr(a attributes) script.Buf {
	var m [32]byte
	binary.NativeEndian.PutUint64(m[0:], a.set)
	binary.NativeEndian.PutUint64(m[8:], a.clear)
	binary.NativeEndian.PutUint64(m[16:], a.propagation)
	return b.Bytes(a.String(), m[:])
}

// attach puts the detached mount in tree onto what target stands for.
func (b *builder) attach(object string, tree, target script.Reg) {
	b.Do("mount", unix.SYS_MOVE_MOUNT, tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH).On(object)
}

// words packs 64-bit numbers for a structure.
func words(v ...uint64) []byte {
	b := make([]byte, 0, 8*len(v))
	for _, w := range v {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	return b
}

// clean makes a path of the configuration absolute and lexically free of "..": what links do to it is the
// kernel's business, confined.
func clean(p string) string { return path.Clean("/" + p) }

// relative is clean without the leading slash, "." for the root.
func relative(p string) string {
	if p = clean(p); p != "/" {
		return p[1:]
	}
	return "."
}

// below returns what remains of path under dir.
func below(path, dir string) (rest string, ok bool) {
	if path == dir {
		return ".", true
	}
	return strings.CutPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

var missing = []syscall.Errno{unix.ENOENT, unix.ENOTDIR}
