package compile

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const tiocgptpeer = 0x5441 // TIOCGPTPEER, the same on amd64 and arm64

// openTerminal makes a pty, hands its master out and keeps the other end in the register "terminal". The other
// end is taken from the master, not looked up by name.
func (b *builder) openTerminal(p *specs.Process) error {
	if b.in.Console == nil {
		return fmt.Errorf("a terminal is asked for, and there is nobody to give its other side to: a console socket is needed")
	}
	master, terminal := b.reg("master"), b.reg("terminal")
	if pts, ok := b.made["/dev/pts"]; ok && pts.kind == "devpts" {
		b.Do("open a terminal", unix.SYS_OPENAT, pts.reg, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0).To(master)
	} else {
		b.openForeignPtmx()
	}
	b.Do("unlock the terminal", unix.SYS_IOCTL, master, unix.TIOCSPTLCK, b.Room("0", 4))
	b.Do("open the terminal", unix.SYS_IOCTL, master, tiocgptpeer, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC).To(terminal)
	if s := p.ConsoleSize; s != nil && (s.Height != 0 || s.Width != 0) {
		size := make([]byte, 8)
		binary.NativeEndian.PutUint16(size, uint16(min(s.Height, 65535)))
		binary.NativeEndian.PutUint16(size[2:], uint16(min(s.Width, 65535)))
		text := fmt.Sprint(s.Height, " x ", s.Width)
		b.Do("set the terminal's size", unix.SYS_IOCTL, master, unix.TIOCSWINSZ, b.Bytes(text, size)).On(text)
	}
	b.SendDescriptor("hand over the terminal", b.consoleReg, master, "/dev/ptmx")
	b.CloseReg(master)
	return nil
}

// openForeignPtmx opens a ptmx that the script did not make. It could be anything: the file system says what it is
// before it is opened for real.
func (b *builder) openForeignPtmx() {
	const devptsMagic = 0x1cd1
	found, kind := b.reg("found"), b.reg("kind")
	dir, name := b.reg("root"), "dev/pts/ptmx"
	if b.exec {
		b.Do("open the root", unix.SYS_OPENAT, unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).On("/").To(dir)
	}
	b.openConfined("find a terminal", dir, name, unix.O_PATH, inRoot, found).On("/dev/pts/ptmx")
	stat := b.Room("file system", 120)
	b.Do("look at the terminal's file system", unix.SYS_FSTATFS, found, stat).On("/dev/pts/ptmx")
	b.Load(kind, stat, 0, 8)
	b.Expect("it is devpts", kind, 0xffffffff, script.Equal, devptsMagic, unix.ENODEV).On("/dev/pts/ptmx")
	b.CloseReg(found)
	b.openConfined("open a terminal", dir, name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, inRoot, b.reg("master")).On("/dev/pts/ptmx")
	b.Do("look at the terminal's file system", unix.SYS_FSTATFS, b.reg("master"), stat).On("/dev/pts/ptmx")
	b.Load(kind, stat, 0, 8)
	b.Expect("it is devpts", kind, 0xffffffff, script.Equal, devptsMagic, unix.ENODEV).On("/dev/pts/ptmx")
	b.Do("let the terminal block", unix.SYS_FCNTL, b.reg("master"), unix.F_SETFL, unix.O_RDWR)
}

// stdio makes 0, 1 and 2 the program's.
func (b *builder) stdio(p *specs.Process) {
	if p.Terminal {
		t := b.reg("terminal")
		b.Do("make it the controlling terminal", unix.SYS_IOCTL, t, unix.TIOCSCTTY, 0)
		for fd := range 3 {
			b.Do("use the terminal", unix.SYS_DUP3, t, fd, 0).On(stdioNames[fd])
		}
		b.CloseReg(t)
		if p.User.UID != 0 {
			b.Do("give the terminal to the user", unix.SYS_FCHOWN, 0, p.User.UID, -1)
		}
		return
	}
	b.stdioAbove()
	for fd, f := range b.in.Stdio {
		if f == nil {
			continue
		}
		if r := b.stdioRegs[fd]; r != script.Conn {
			b.Do("connect", unix.SYS_DUP3, r, fd, 0).On(stdioNames[fd])
		}
		if p.User.UID != 0 && owned(f) {
			// /dev/stdout is opened anew by programs that write to it by name
			b.Do("give it to the user", unix.SYS_FCHOWN, fd, p.User.UID, -1).On(stdioNames[fd]).May(unix.EPERM, unix.EINVAL, unix.EROFS)
		}
	}
}

// stdioAbove moves those of the given descriptors that are numbered 0, 1 or 2 themselves out of the way of the
// others. One that has its number already stays: its register is Conn, which is never one of them.
func (b *builder) stdioAbove() {
	for fd, f := range b.in.Stdio {
		if f == nil || b.slot {
			continue
		}
		switch n := number(f); {
		case n == fd:
			b.stdioRegs[fd] = script.Conn
		case n <= 2:
			b.Do("move", unix.SYS_FCNTL, b.stdioRegs[fd], unix.F_DUPFD_CLOEXEC, 3).On(stdioNames[fd]).To(b.stdioRegs[fd])
		}
	}
}

// number is f.Fd, which would make f blocking; -1 where f is closed.
func number(f *os.File) int {
	n := -1
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}

var stdioNames = [3]string{"stdin", "stdout", "stderr"}

// connections makes registers of what the process is given.
func (b *builder) connections() {
	for fd, f := range b.in.Stdio {
		if f != nil && !b.process.Terminal {
			b.stdioRegs[fd] = b.file(stdioNames[fd], f)
		}
	}
	if b.process.Terminal && b.in.Console != nil {
		b.consoleReg = b.file("console socket", b.in.Console)
	}
	if b.in.Wait != nil {
		b.waitReg = b.file("start", b.in.Wait)
	}
	if b.in.Done != nil {
		b.file("done", b.in.Done)
	}
	for fd := 3; fd < 3+b.in.PreserveFDs; fd++ {
		b.Keep(fd)
	}
}

// owned says whether f is a pipe or a socket: those belong to the process, a file or a device may be the host's.
func owned(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}
