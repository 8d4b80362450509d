package solver

import "fmt"

// ExitError is a command that ended with a status that is no success.
type ExitError struct {
	Command string // as the Dockerfile has it
	Code    int
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("process %q did not complete successfully: exit code: %d", e.Command, e.Code)
}
