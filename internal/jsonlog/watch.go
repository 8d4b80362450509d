package jsonlog

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watch tells when files in a directory change.
type watch struct {
	changed chan struct{} // has a token when something may have changed
	inotify *os.File
	ticker  *time.Ticker // instead of inotify, where the user's instances are used up
	done    chan struct{}
	end     chan struct{}
}

// newWatch watches the directory of path.
func newWatch(path string) (*watch, error) {
	w := &watch{changed: make(chan struct{}, 1), done: make(chan struct{}), end: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENOSYS) {
		return w.poll(), nil
	}
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	_, err = unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	if errors.Is(err, unix.ENOSPC) {
		_ = unix.Close(fd)
		return w.poll(), nil
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("inotify_add_watch", err)
	}
	w.inotify = os.NewFile(uintptr(fd), "inotify")
	go w.read()
	return w, nil
}

// read passes events on until the descriptor is closed. What they say does not matter.
func (w *watch) read() {
	defer close(w.done)
	var buf [4 << 10]byte
	for {
		if _, err := w.inotify.Read(buf[:]); err != nil {
			return
		}
		w.notify()
	}
}

// pollInterval is how often a log is looked at where there is no inotify.
const pollInterval = 100 * time.Millisecond

func (w *watch) poll() *watch {
	w.ticker = time.NewTicker(pollInterval)
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.ticker.C:
				w.notify()
			case <-w.end:
				return
			}
		}
	}()
	return w
}

func (w *watch) notify() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watch) close() error {
	var err error
	close(w.end)
	if w.inotify != nil {
		err = w.inotify.Close()
	} else {
		w.ticker.Stop()
	}
	<-w.done
	return err
}
