package shim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/protocol"
)

// end waits for the container's first process, takes everything that is left of it, and reports.
func (c *container) end() {
	status := c.reaper.wait(c.pid, c.pidfd)
	exit := protocol.ExitReport{Status: status, At: time.Now()}
	_ = c.group.killAll(c.ctx) // where the container shares a pid namespace, others may be alive; nothing can be done about a failure
	exit.OOMKilled = c.group.oomKilled()

	c.io.readers.hurry()
	c.io.drain()
	if c.log != nil {
		exit.LogOffset, exit.LogDropped = c.log.End()
		_ = c.log.Close()
	}
	for _, p := range c.proxies { // who starts the container again gets its ports
		p.close()
	}
	c.record.Exit = &exit
	_ = c.file.Write(c.record) // its bytes are there since before the start; the engine is told in any case
	// Who is told may start the container again, in this directory and cgroup.
	c.unlinkSocket()
	removed := c.group.remove(c.ctx, promptly)

	c.mu.Lock()
	c.exit = exit
	close(c.ended)
	c.mu.Unlock()
	c.io.readers.finish(exit)
	c.io.close()
	_ = c.socket.Close()
	for begun := time.Now(); errors.Is(removed, context.DeadlineExceeded) && time.Since(begun) < patience && !c.succeeded(); {
		removed = c.group.remove(c.ctx, promptly) // Launcher.Destroy does it where we cannot
	}
}

// unlinkSocket takes the socket's name away, if it is still our socket's.
func (c *container) unlinkSocket() {
	path := filepath.Join(c.dir, protocol.SocketName)
	if now, err := os.Lstat(path); err == nil && os.SameFile(now, c.name) {
		_ = os.Remove(path) // a name that stays refuses who connects
	}
}

// succeeded tells whether another shim has come to the container's directory: the cgroup is its then.
func (c *container) succeeded() bool {
	_, err := os.Lstat(filepath.Join(c.dir, protocol.SocketName))
	return err == nil
}

// close gives back what is held until all was said.
func (c *container) close() error {
	for _, p := range c.proxies {
		p.hangUp()
	}
	for _, f := range append(c.held, c.root, c.pidfd) {
		if f != nil {
			_ = f.Close() // opened to be held
		}
	}
	return c.file.Close()
}

// waitStatus waits for the process behind pidfd and reaps it. No thread waits: the descriptor is polled.
func waitStatus(pid int, pidfd *os.File) int {
	var status unix.WaitStatus
	raw, err := pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool {
			n, e := wait4(pid, &status, unix.WNOHANG)
			return n != 0 || e != nil
		})
	}
	if err != nil { // a kernel whose pidfd cannot be polled
		_, _ = wait4(pid, &status, 0)
	}
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

func wait4(pid int, status *unix.WaitStatus, options int) (int, error) {
	for {
		n, err := unix.Wait4(pid, status, options, nil)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
