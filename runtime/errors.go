package runtime

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/containerd/errdefs"
)

// ErrSlow ends a stream that was attached with DropWhenSlow and whose reader was too slow.
var ErrSlow = errors.New("the reader of this stream was too slow: it was detached")

// StartError says that a process could not be started: which step of the start failed, on what, and how.
type StartError struct {
	Step   string // what was being done, as in "execve", "mount", "join cgroup"
	Object string // what it was done on: a path, a name
	Errno  syscall.Errno
	Detail string // a sentence instead of an errno, where there is no errno
}

// Error is the user's sentence: Docker's where Docker has one.
func (e *StartError) Error() string {
	return fmt.Sprintf("%s %q: %v", e.Step, e.Object, e.Errno)
}

// Unwrap returns the errno.
func (e *StartError) Unwrap() error { return e.Errno }

// ExitCode is the status that `run`, `start` and `exec` report: 127 where the program does not exist, 126
// where it cannot be executed, 125 where something else failed.
func (e *StartError) ExitCode() int { return 125 }

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
