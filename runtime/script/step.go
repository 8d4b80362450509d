package script

import (
	"fmt"
	"syscall"
)

// Step is a step of a script that can still be told more.
type Step struct {
	s *Script
	i int // -1: the script already failed
}

func (t *Step) step() *step {
	if t.i < 0 {
		return &step{}
	}
	return t.s.arena.step(t.i)
}

// On names what the step works on: a path, a capability, a device. It is the object of a Failure.
func (t *Step) On(object string) *Step {
	if t.i >= 0 {
		t.s.info[t.i].object = object
	}
	return t
}

// To puts the result into r: what the system call returned, or the negative errno of a failure that the
// step named.
func (t *Step) To(r Reg) *Step {
	t.step().out = int16(r)
	return t
}

const maxMay = 8

// May names the errnos with which the step may fail: the script goes on at Else, or at the next step
// where there is none.
func (t *Step) May(errnos ...syscall.Errno) *Step {
	st := t.step()
	for _, e := range errnos {
		if st.nmay == maxMay || e <= 0 || e > 255 {
			t.s.fail(fmt.Errorf("start script: step %q names too many errnos, or %d", t.s.info[t.i].name, int(e)))
			return t
		}
		st.may[st.nmay] = uint8(e)
		st.nmay++
	}
	return t
}

// Else says where the script goes on after an errno that May names, or where an Expect does not hold.
func (t *Step) Else(l *Label) *Step {
	if t.i >= 0 {
		t.step().flags |= flagElse
		t.s.refer(l, use{t.i, true})
	}
	return t
}

// Then says where the script goes on after success.
func (t *Step) Then(l *Label) *Step {
	if t.i >= 0 {
		t.s.refer(l, use{t.i, false})
	}
	return t
}

// Exec marks a step that starts, or looks for, the user's program: its failure is Failure.Exec, which
// becomes 126 or 127. An execve that succeeds ends the script.
func (t *Step) Exec() *Step {
	t.step().flags |= flagExec
	return t
}
