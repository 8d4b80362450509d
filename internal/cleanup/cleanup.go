// Package cleanup keeps the undo of each step beside the step, for what lives and dies inside one
// function. What must be undone after a crash has an idempotent Destroy instead.
package cleanup

import "errors"

// Stack is a list of undo functions, run last first.
type Stack struct{ undo []func() error }

// New returns an empty Stack: `undo := cleanup.New(); defer undo.Run(&err)`.
func New() *Stack { return &Stack{} }

// Add puts f on the stack. An error of f is joined to the one that made the undo necessary.
func (s *Stack) Add(f func() error) { s.undo = append(s.undo, f) }

// Cancel forgets everything: the function succeeded.
func (s *Stack) Cancel() { s.undo = nil }

// Run undoes what was not cancelled, last first, and joins what went wrong to *err (nil: dropped).
func (s *Stack) Run(err *error) {
	for i := len(s.undo) - 1; i >= 0; i-- {
		if e := s.undo[i](); e != nil && err != nil {
			*err = errors.Join(*err, e)
		}
	}
	s.undo = nil
}
