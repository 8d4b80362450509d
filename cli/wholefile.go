package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// wholeFile is a file that gets its name when it is whole. Until then it has none, so that nothing is left of it when
// the program is killed (open(2), O_TMPFILE). Where the file system has no such files it is one beside its place, and is
// removed by Close and by the signals that end the program.
type wholeFile struct {
	*os.File
	path string
	temp string // what it is called until it is whole; "": it has no name
}

// createWhole makes a new file for path. What is no regular file (/dev/null, a pipe) is not replaced by one, so it is
// refused here.
func createWhole(path string) (*wholeFile, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: redirect stdout to it instead", path)
	}
	dir := filepath.Dir(path)
	if f, err := os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o600); err == nil {
		if _, err := os.Stat(nameOf(f)); err == nil {
			return &wholeFile{File: f, path: path}, nil
		}
		f.Close() // without /proc it would never get a name
	}
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} { // before there is something to remove
		if !signal.Ignored(s) { // as nohup has it
			signal.Notify(signals, s)
		}
	}
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		signal.Stop(signals)
		return nil, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	restoreAndDie(signals, func() { os.Remove(f.Name()) })
	return &wholeFile{File: f, path: path, temp: f.Name()}, nil
}

// tempPrefix begins the name of a file that is not in its place yet.
const tempPrefix = ".berth-"

// nameOf is a name by which a file without one can be linked.
func nameOf(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// finish closes the file and puts it in its place.
func (f *wholeFile) finish() error {
	if f.temp == "" {
		if err := f.link(); err != nil {
			return fmt.Errorf("%s cannot be written: %w", f.path, err)
		}
	}
	if err := f.File.Close(); err != nil {
		return err
	}
	return os.Rename(f.temp, f.path)
}

// link gives the file a name beside its place: link(2) replaces nothing, rename(2) does.
func (f *wholeFile) link() error {
	for {
		temp := filepath.Join(filepath.Dir(f.path), fmt.Sprint(tempPrefix, rand.Uint64()))
		err := unix.Linkat(unix.AT_FDCWD, nameOf(f.File), unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW)
		switch {
		case err == nil:
			f.temp = temp
			return nil
		case !errors.Is(err, fs.ErrExist):
			return os.NewSyscallError("linkat", err)
		}
	}
}

// Close gives up a file that was not finished.
func (f *wholeFile) Close() {
	f.File.Close()
	if f.temp != "" {
		os.Remove(f.temp) // nothing is there any more when all went well
	}
}
