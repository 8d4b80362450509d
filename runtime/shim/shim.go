package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/protocol"
)

// Run is the shim. launch is its end of the launch connection. When its container has ended and all that is to be said
// of it was said, it offers to keep another one; it returns when the engine has no use for it.
//
// It must be called from the main goroutine: the container's parent is its thread, which lives as long as the process.
func Run(ctx context.Context, launch *os.File) error {
	runtime.LockOSThread()
	if err := detach(); err != nil {
		return err
	}
	conn, err := protocol.NewConn(launch, protocol.Shim, protocol.Launched)
	if err != nil {
		return err
	}
	defer conn.Close()
	on := newMachine()
	for {
		again, err := keep(ctx, on, conn)
		if err != nil || !again || conn.Send(protocol.Idle, nil) != nil {
			return err
		}
	}
}

// keep keeps one container, from the request to its end. It says whether the process is as it was before.
func keep(ctx context.Context, on *machine, conn *protocol.Conn) (again bool, err error) {
	m, err := conn.Recv()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the engine's request: %w", err)
	}
	var s *slot
	if m.Kind == protocol.Prepare {
		if s, err = prepare(ctx, on, m); err != nil {
			return false, errors.Join(err, conn.Send(protocol.Failed, failure(err)))
		}
		defer s.close()
		if err := conn.Send(protocol.Ready, nil); err != nil {
			return false, nil // given up meanwhile
		}
		if m, err = conn.Recv(); err != nil {
			return false, nil
		}
	}
	c, err := launchContainer(ctx, on, m, s)
	if err != nil {
		return false, conn.Send(protocol.Failed, failure(err))
	}
	c.serve(conn)
	return !sharesPids(c.spec), c.close() // of a shared pid namespace orphans may still come
}

// detach makes the process its own: a session of its own, no signals that were meant for the engine, parent of what
// its children leave behind.
func detach() error {
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM { // EPERM: it is a leader already
		return os.NewSyscallError("setsid", err)
	}
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", err)
	}
	// Its own working directory would hold a mount.
	return os.Chdir("/")
}
