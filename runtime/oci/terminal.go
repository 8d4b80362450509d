package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dialConsole connects to the socket that gets the terminal. A path may be longer than the 108 bytes of a socket's
// name: it is reached through its directory's descriptor.
func dialConsole(path string) (*os.File, error) {
	if path == "" {
		return nil, errors.New("the process wants a terminal: name a socket that takes it with --console-socket")
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("console socket %s: %w", path, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("console socket %s: %w", path, err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path))}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("console socket %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// terminal is the pty of a process whose other side is our own standard input and output; nil where there is none.
type terminal struct {
	p            *program
	ours, theirs *os.File
	master       *os.File
	before       *unix.Termios // of our own terminal
	output       sync.WaitGroup
}

// terminalFor makes a terminal where the configuration asks for one and nobody else takes it.
func (p *program) terminalFor(f createFlags, spec *specs.Spec) (*terminal, error) {
	if f.consoleSocket != "" || f.detach || spec.Process == nil || !spec.Process.Terminal {
		return nil, nil
	}
	return p.newTerminal()
}

func (p *program) newTerminal() (*terminal, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	return &terminal{p: p, ours: os.NewFile(uintptr(pair[0]), "console"), theirs: os.NewFile(uintptr(pair[1]), "console")}, nil
}

func (t *terminal) socket() *os.File {
	if t == nil {
		return nil
	}
	return t.theirs
}

// connect takes the master and copies both ways. Our own terminal passes every key on.
func (t *terminal) connect() error {
	if t == nil {
		return nil
	}
	t.theirs.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(t.ours.Fd()), make([]byte, 64), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return errors.New("take the terminal: nothing was sent")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return errors.New("take the terminal: nothing was sent")
	}
	t.master = os.NewFile(uintptr(fds[0]), "terminal")
	if err := t.raw(); err != nil {
		return err
	}
	t.resize()
	t.output.Go(func() { _, _ = io.Copy(t.p.stdout, t.master) }) // ends with EIO when nobody holds the other side
	go func() { _, _ = io.Copy(t.master, t.p.stdin) }()          // ends with the process
	return nil
}

func (t *terminal) raw() error {
	fd := int(t.p.stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil // standard input is no terminal
	}
	raw := *before
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return fmt.Errorf("set the terminal: %w", err)
	}
	t.before = before
	return nil
}

// resize makes the process's terminal as large as ours.
func (t *terminal) resize() {
	if t == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(t.p.stdin.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size) // the process may have ended
	}
}

// drain waits for the last byte.
func (t *terminal) drain() {
	if t != nil {
		t.output.Wait()
	}
}

func (t *terminal) close() {
	if t == nil {
		return
	}
	if t.before != nil {
		_ = unix.IoctlSetTermios(int(t.p.stdin.Fd()), unix.TCSETS, t.before) // nothing can be done about it
	}
	for _, f := range []*os.File{t.ours, t.theirs, t.master} {
		if f != nil {
			_ = f.Close()
		}
	}
}
