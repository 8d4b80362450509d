package compile

import (
	"fmt"
	"path"
	"strings"

	"github.com/berth-engine/berth/runtime/script"
	"golang.org/x/sys/unix"
)

// target opens the place where a mount goes into the register "target". The path is resolved inside the
// container's root by the kernel, at that moment: a link that another container swaps in meanwhile (a shared
// volume) leads at most elsewhere inside (CVE-2021-30465). What is missing is made, as a directory or as an
// empty file.
func (b *builder) target(dest string, dir bool) error {
	if dest == "/" {
		return fmt.Errorf("a mount can't take the place of the root")
	}
	root, target := b.reg("root"), b.reg("target")
	make, ready := b.Label(), b.Label()
	b.openConfined("open the mount's target", root, relative(dest), unix.O_PATH, inRoot, target).On(dest).
		May(unix.ENOENT).Else(make).Then(ready)
	b.Mark(make)
	final := b.resolved(dest)
	b.makeParents(final)
	b.makeEntry(final, dir)
	b.openConfined("open the mount's target", root, relative(final), unix.O_PATH, inRoot, target).On(dest)
	b.Mark(ready)
	return nil
}

// makeParents makes the directories above p.
func (b *builder) makeParents(p string) {
	parts := strings.Split(relative(path.Dir(p)), "/")
	for i := range parts {
		if parts[i] == "." {
			continue
		}
		b.makeEntry("/"+strings.Join(parts[:i+1], "/"), true)
	}
}

// makeEntry makes one directory or empty file whose parent is there.
func (b *builder) makeEntry(p string, dir bool) {
	parent := b.openParent(p)
	name := path.Base(p)
	if dir {
		b.Do("make the mount's target", unix.SYS_MKDIRAT, parent, name, 0o755).On(p).May(unix.EEXIST)
	} else {
		b.Do("make the mount's target", unix.SYS_MKNODAT, parent, name, unix.S_IFREG|0o755, 0).On(p).May(unix.EEXIST)
	}
	b.closeParent(parent)
}

func (b *builder) openParent(p string) script.Reg {
	root := b.reg("root")
	if path.Dir(p) == "/" {
		return root
	}
	parent := b.reg("parent")
	b.openConfined("open the directory", root, relative(path.Dir(p)), unix.O_PATH|unix.O_DIRECTORY, inRoot, parent).On(path.Dir(p))
	return parent
}

func (b *builder) closeParent(parent script.Reg) {
	if parent != b.reg("root") {
		b.CloseReg(parent)
	}
}
