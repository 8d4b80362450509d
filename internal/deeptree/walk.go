package deeptree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// kept is how many directories, from the top, stay open while what is in them is gone through. Two more
// are open at most.
const kept = 16

// walker goes through a tree, a directory's content before the directory is left.
type walker struct {
	top     int           // what holds the tree
	path    string        // of the tree, for errors
	stop    func() error  // asked between any two steps; its error ends the walk
	entry   entry         // is called for each entry
	left    left          // is called after a directory has been gone through; nil: nothing is to be done
	failed  func(error)   // is told what could not be gone through; the walk goes on beside it
	stack   []level       // the directories from the tree's root to where the walk is
	entries [8 << 10]byte // of one getdents64(2)
}

type (
	// entry says whether to enter what dir has under name; kind is its type of readdir(3), if known.
	entry func(dir int, name string, kind byte) (enter bool)
	// left says whether to go through the directory once more.
	left func(dir int, name string) (again bool)
)

// level is a directory that the walk is in.
type level struct {
	name     string
	fd       int // -1: closed, and opened again from below
	dev, ino uint64
	entered  bool  // something in it has been entered: reading goes on at next
	next     int64 // as lseek(2) takes it
}

const openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// open opens a directory without leaving dir through a link or a mount.
func open(dir int, name string, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: openDirectory, Resolve: resolve | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename raced with the walk (openat2(2))
			return fd, err
		}
	}
}

// walk goes through what has been pushed.
func (w *walker) walk() error {
	defer func() {
		for _, l := range w.stack {
			closeFD(l.fd)
		}
	}()
	for len(w.stack) > 0 {
		if err := w.stop(); err != nil {
			return err
		}
		l := &w.stack[len(w.stack)-1]
		sub, end, err := w.read(l)
		switch {
		case err != nil:
			w.failed(w.errorf("read", "", err))
			w.leave()
		case end:
			w.leave()
		case sub != "":
			w.enter(l.fd, sub)
		}
	}
	return nil
}

// enter makes name in dir the directory that the walk is in, if there is one.
func (w *walker) enter(dir int, name string) {
	fd, err := open(dir, name, unix.RESOLVE_BENEATH)
	if errors.Is(err, unix.EXDEV) {
		err = fmt.Errorf("something is mounted there: %w", err)
	}
	if err == nil {
		err = w.push(fd, name)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		w.failed(w.errorf("open", name, err))
	}
}

// push makes an open directory the one that the walk is in, and owns fd.
func (w *walker) push(fd int, name string) error {
	l := level{name: name, fd: fd}
	var err error
	if l.dev, l.ino, err = identity(fd); err != nil {
		closeFD(fd)
		return err
	}
	if n := len(w.stack); n > kept {
		closeFD(w.stack[n-1].fd)
		w.stack[n-1].fd = -1
	}
	w.stack = append(w.stack, l)
	return nil
}

// read goes through some entries of l, up to one that is to be entered. end says that there are no more.
func (w *walker) read(l *level) (sub string, end bool, err error) {
	if l.entered {
		if _, err := unix.Seek(l.fd, l.next, unix.SEEK_SET); err != nil {
			return "", false, err
		}
		l.entered = false
	}
	n, err := unix.ReadDirent(l.fd, w.entries[:])
	if err == unix.ENOENT || err == nil && n == 0 { // ENOENT: it has been deleted meanwhile
		return "", true, nil
	}
	if err != nil {
		return "", false, err
	}
	// struct linux_dirent64: inode, where the next one is, length, type, name (getdents(2)).
	for b := w.entries[:n]; len(b) > 0; b = b[binary.NativeEndian.Uint16(b[16:]):] {
		name, _, _ := bytes.Cut(b[19:binary.NativeEndian.Uint16(b[16:])], []byte{0})
		if s := string(name); s != "." && s != ".." && w.entry(l.fd, s, b[18]) {
			l.entered, l.next = true, int64(binary.NativeEndian.Uint64(b[8:]))
			return s, false, nil
		}
	}
	return "", false, nil
}

// leave goes up. Where the way up is not the way down any more, because the directory was moved
// meanwhile, the walk goes on in the deepest one that is open.
func (w *walker) leave() {
	n := len(w.stack) - 1
	l, up := w.stack[n], w.top
	defer func() { closeFD(l.fd) }()
	w.stack = w.stack[:n]
	if n > 0 {
		above := &w.stack[n-1]
		if above.fd < 0 {
			fd, err := reopen(l.fd, above)
			if err != nil {
				w.failed(w.errorf("leave", l.name, err))
				w.stack = w.stack[:kept]
				return
			}
			above.fd = fd
		}
		up = above.fd
	}
	if w.left != nil && w.left(up, l.name) {
		w.enter(up, l.name)
	}
}

// reopen opens the directory above fd, which is to be l.
func reopen(fd int, l *level) (int, error) {
	up, err := open(fd, "..", 0)
	if err != nil {
		return -1, err
	}
	dev, ino, err := identity(up)
	if err == nil && (dev != l.dev || ino != l.ino) {
		err = fmt.Errorf("it was moved meanwhile: %w", unix.ESTALE)
	}
	if err != nil {
		closeFD(up)
		return -1, err
	}
	return up, nil
}

func identity(fd int) (dev, ino uint64, err error) {
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return uint64(st.Dev), st.Ino, err
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // it was opened to look
	}
}

// errorf names what is called name where the walk is; of a long way there, the beginning only.
func (w *walker) errorf(op, name string, err error) error {
	path := w.path
	for i, l := range w.stack {
		if i == kept {
			path += "/…"
			break
		}
		if i > 0 { // the first is the tree itself
			path = filepath.Join(path, l.name)
		}
	}
	if len(w.stack) > 0 {
		path = filepath.Join(path, name)
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
