package runtime

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/runtime/protocol"
)

// ErrSlow ends a stream that was attached with DropWhenSlow and whose reader was too slow.
var ErrSlow = errors.New("the reader of this stream was too slow: it was detached")

// ErrLost ends a stream, or a start, whose process went away without a word: its shim was lost.
var ErrLost = errors.New("the process that kept this container was lost")

// ErrDetached ends a stream that was closed by its user.
var ErrDetached = errors.New("this stream was closed")

// StartError says that a process could not be started: which step of the start failed, on what, and how.
type StartError struct {
	Step   string // what was being done, as in "execute", "mount", "join cgroup"
	Object string // what it was done on: a path, a name
	Errno  syscall.Errno
	Detail string // a sentence instead of an errno, where there is no errno
	Exec   bool   // the execution of Program failed, and nothing before it
	// Program is what was to be run, where that is what failed.
	Program string
}

// Error is the user's sentence: Docker's where Docker has one.
func (e *StartError) Error() string {
	switch {
	case e.Exec && e.Errno == syscall.ENOENT && !strings.Contains(e.Program, "/"):
		return fmt.Sprintf("exec: %q: executable file not found in $PATH", e.Program)
	case e.Exec && (e.Errno == syscall.ENOENT || e.Errno == syscall.ENOTDIR):
		return fmt.Sprintf("exec: %q: stat %s: %v", e.Program, e.Program, e.Errno)
	case e.Exec:
		return fmt.Sprintf("exec: %q: %v", e.Program, e.Errno)
	case e.Step == "mount" && e.Errno == syscall.EINVAL: // move_mount(2) of trees that are whole says it of nothing else
		return fmt.Sprintf("mount on %s: a directory can only be mounted on a directory, and a file on a file", e.Object)
	case e.Detail != "":
		return e.Detail
	case e.Object != "":
		return fmt.Sprintf("%s %s: %v", e.Step, e.Object, e.Errno)
	}
	return fmt.Sprintf("%s: %v", e.Step, e.Errno)
}

// Unwrap returns the errno.
func (e *StartError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// ExitCode is the status that `run`, `start` and `exec` report: 127 where the program does not exist, 126
// where it cannot be executed, 125 where something else failed.
func (e *StartError) ExitCode() int {
	switch {
	case !e.Exec:
		return 125
	case e.Errno == syscall.ENOENT, e.Errno == syscall.ENOTDIR:
		return 127
	}
	return 126
}

// startError is what a shim says of a start that failed. args is the command.
func startError(f protocol.Failure, args []string) error {
	e := &StartError{Step: f.Step, Object: f.Object, Errno: f.Errno, Detail: f.Detail}
	if f.Exec && len(args) > 0 {
		e.Exec, e.Program = true, args[0]
	}
	return e
}

// EndedError says that a container that was looked for has ended. Its kind is errdefs.ErrNotFound.
type EndedError struct {
	ID   string
	Exit *Exit // nil: it was never started
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("container %s is not running", e.ID)
}

// Is makes it an errdefs.ErrNotFound.
func (e *EndedError) Is(target error) bool { return target == errdefs.ErrNotFound }

// noTerminal is asked for a terminal's size where there is none.
var errNoTerminal = fmt.Errorf("the process has no terminal: %w", errdefs.ErrFailedPrecondition)
