package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

type listeners []net.Listener

func (l listeners) close() error {
	var errs []error
	for _, s := range l {
		if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// listen opens every socket.
func listen(o options) (all listeners, err error) {
	gid := 0
	if o.Group != "" {
		if gid, err = groupID(o.Group); err != nil {
			return nil, err
		}
	}
	for _, host := range o.Hosts {
		path, err := socketPath(host)
		if err != nil {
			return all, err
		}
		s, err := listenAt(path, gid, o.Group != "")
		if err != nil {
			return all, fmt.Errorf("listen on %s: %w", host, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func groupID(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		if n, e := strconv.Atoi(name); e == nil {
			return n, nil
		}
		return 0, fmt.Errorf("--group: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// listenAt listens on a path that may be longer than sun_path (108 bytes): its directory is named by a
// descriptor. A socket that nobody listens on any more is replaced; one that somebody does is not.
func listenAt(path string, gid int, group bool) (net.Listener, error) {
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	held := os.NewFile(uintptr(fd), dir)
	short := fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			held.Close()
			return nil, errors.New("something else than a socket is there")
		}
		if c, err := net.Dial("unix", short); err == nil {
			c.Close()
			held.Close()
			return nil, errors.New("another engine listens there")
		}
		if err := os.Remove(path); err != nil {
			held.Close()
			return nil, err
		}
	}
	old := unix.Umask(0o177) // never wider than root's, not even for a moment
	s, err := net.Listen("unix", short)
	unix.Umask(old)
	if err != nil {
		held.Close()
		return nil, err
	}
	l := &socket{Listener: s, dir: held}
	if group {
		if err := os.Chown(path, 0, gid); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		if err := os.Chmod(path, 0o660); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// socket is a listener that keeps its directory open: its name leads through the descriptor.
type socket struct {
	net.Listener
	dir *os.File
}

func (s *socket) Close() error { return errors.Join(s.Listener.Close(), s.dir.Close()) }

// notifySystemd tells the service manager what has happened (sd_notify(3)); without one it does nothing.
func notifySystemd(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return errors.Join(err, c.Close())
}
