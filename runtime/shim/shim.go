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

// Run is the shim. launch is its end of the launch connection. It returns when the container has ended and all that
// is to be said of it was said, or when the engine gave up before there was a container.
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
	m, err := conn.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the engine's request: %w", err)
	}
	var s *slot
	if m.Kind == protocol.Prepare {
		if s, err = prepare(ctx, m); err != nil {
			return errors.Join(err, conn.Send(protocol.Failed, failure(err)))
		}
		defer s.close()
		if err := conn.Send(protocol.Ready, nil); err != nil {
			return nil // given up meanwhile
		}
		if m, err = conn.Recv(); err != nil {
			return nil
		}
	}
	c, err := launchContainer(ctx, m, s)
	if err != nil {
		return conn.Send(protocol.Failed, failure(err))
	}
	c.serve(conn)
	return nil
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
