package cleanup

import (
	"errors"
	"testing"
)

func TestRun(t *testing.T) {
	var order string
	step := func(name string, err error) func() error {
		return func() error { order += name; return err }
	}
	failed, broken := errors.New("failed"), errors.New("undo broke")
	err := func() (err error) {
		undo := New()
		defer undo.Run(&err)
		undo.Add(step("a", nil))
		undo.Add(step("b", broken))
		return failed
	}()
	if order != "ba" || !errors.Is(err, failed) || !errors.Is(err, broken) {
		t.Errorf("order %q, error %v", order, err)
	}
}

func TestCancel(t *testing.T) {
	undo := New()
	undo.Add(func() error { t.Error("ran though cancelled"); return nil })
	undo.Cancel()
	undo.Run(nil)
}
