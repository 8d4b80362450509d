package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/protocol"
)

// killShim kills a shim that does not do what it is asked, stopped or hung as it may be, and waits until it is gone.
// Where none listens at the container's socket, nothing is done.
//
// A stored pid is never signalled: whose socket it is says the kernel, which gives a pidfd. It must be the one of the
// record, where that can be read.
func (l *Launcher) killShim(ctx context.Context, id, dir string) error {
	pid, fd, err := shimAt(dir)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the shim of container %s: %w", id, err)
	}
	defer unix.Close(fd)
	if r, err := protocol.ReadRecord(dir); err == nil && r.Shim != pid {
		return fmt.Errorf("the shim of container %s does not answer and is not killed: its record names process %d, its socket is process %d's", id, r.Shim, pid)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the shim of container %s: %w", id, err)
	}
	if err := awaitEnd(ctx, fd); err != nil {
		return fmt.Errorf("the shim of container %s (process %d) was killed and is still there: %w", id, pid, err)
	}
	return nil
}

// shimAt opens the process that listens at the socket in dir. The caller closes the pidfd.
func shimAt(dir string) (pid, pidfd int, err error) {
	conn, err := protocol.Dial(dir)
	if err != nil {
		return 0, -1, err
	}
	defer conn.Close()
	if pid, err = listener(conn); err != nil {
		return 0, -1, err
	}
	pidfd, err = unix.GetsockoptInt(int(conn.Fd()), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EINVAL) { // EINVAL: it has ended, before Linux 6.15
		pidfd, err = openListener(dir, pid)
	}
	if err != nil {
		return 0, -1, err
	}
	return pid, pidfd, nil
}

// listener is the process that listens at the other end.
func listener(conn *os.File) (pid int, err error) {
	owner, err := unix.GetsockoptUcred(int(conn.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, fmt.Errorf("whose socket it is: %w", err)
	}
	return int(owner.Pid), nil
}

// openListener opens the process that listened at the socket in dir just now, where the kernel gives no pidfd (Linux before
// 6.5): the pid is that process's as long as it listens, so it is looked at once more when the pidfd is there. Where the
// process is gone, isAbsent tells.
func openListener(dir string, pid int) (pidfd int, err error) {
	if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return -1, err
	}
	conn, err := protocol.Dial(dir)
	if err == nil {
		var now int
		if now, err = listener(conn); err == nil && now != pid {
			err = fmt.Errorf("process %d listens, a moment ago it was process %d: %w", now, pid, unix.ESRCH)
		}
		conn.Close()
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(pidfd))
	}
	return pidfd, nil
}

// awaitEnd waits until a process has ended, or ctx has.
func awaitEnd(ctx context.Context, pidfd int) error {
	const step = 50 * time.Millisecond // between looks at ctx
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && err != unix.EINTR:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}
