package compile

import (
	"path"
	"strings"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// closeOurs closes every descriptor of ours but the connection, and those that the program gets: a working
// directory of /proc/self/fd/7 must not lead to the host (CVE-2024-21626).
func (b *builder) closeOurs() {
	first := 3 + b.in.PreserveFDs
	below, above := b.reg("below"), b.reg("above")
	b.Compute(below, script.Conn, script.Add, ^uint64(0))
	b.Compute(above, script.Conn, script.Add, 1)
	done := b.Label()
	b.Do("close everything else", unix.SYS_CLOSE_RANGE, above, ^uint32(0), 0)
	b.Expect("there are descriptors below the connection", script.Conn, script.All, script.NotEqual, uint64(first), 0).Else(done)
	b.Do("close everything else", unix.SYS_CLOSE_RANGE, first, below, 0)
	b.Mark(done)
}

// workingDirectory enters it before the user is changed, who may not be allowed to look through what is above,
// and makes sure that it lies inside of the root.
func (b *builder) workingDirectory(p *specs.Process) {
	if b.in.MakeCwd {
		b.makeCwd(p.Cwd)
	}
	b.Do("enter the working directory", unix.SYS_CHDIR, p.Cwd).On(p.Cwd)
	r, name := b.reg("result"), b.Room("path", unix.PathMax)
	b.Do("ask for the working directory", unix.SYS_GETCWD, name, unix.PathMax).On(p.Cwd)
	b.Load(r, name, 0, 1)
	// the kernel writes "(unreachable)" before the path of what is outside of the root
	b.Expect("the working directory is inside of the root", r, script.All, script.Equal, '/', unix.EXDEV).On(p.Cwd)
}

// makeCwd makes the working directory and what is missing above it. The root has been changed: a path can't
// lead out.
func (b *builder) makeCwd(cwd string) {
	parts := strings.Split(relative(cwd), "/")
	if parts[0] == "." {
		return
	}
	there := b.Label()
	b.Do("look for the working directory", unix.SYS_FACCESSAT2, unix.AT_FDCWD, cwd, unix.F_OK, 0).On(cwd).May(unix.ENOENT).Then(there)
	for i := range parts {
		p := "/" + path.Join(parts[:i+1]...)
		b.Do("make the working directory", unix.SYS_MKDIRAT, unix.AT_FDCWD, p, 0o755).On(p).May(unix.EEXIST)
	}
	b.Mark(there)
}

// heldUp says whether something comes between the finished container and its program: a start that is to be asked for, or
// hooks. What they need stays open until then.
func (b *builder) heldUp() bool {
	return b.in.Wait != nil || b.spec.Hooks != nil && len(b.spec.Hooks.StartContainer) > 0
}

// beforeProgram is the time between create and start, and the hooks that run at its end. The label comes after the
// hooks, which it would be given to.
func (b *builder) beforeProgram() error {
	if b.in.Wait != nil {
		b.findProgram(b.process)
		b.waitForStart()
	}
	if h := b.spec.Hooks; h != nil {
		if err := b.runHooks("startContainer", h.StartContainer); err != nil {
			return err
		}
	}
	return b.label(b.process)
}

func (b *builder) waitForStart() {
	r := b.reg("result")
	b.meetParent("created", nil)
	b.Do("let go of the parent", unix.SYS_CLOSE, script.Conn)
	b.Do("wait for start", unix.SYS_READ, b.waitReg, b.Room("byte", 1), 1).To(r)
	b.Expect("start was asked for", r, script.All, script.Equal, 1, unix.ECANCELED)
}
