package network

import "testing"

// TestPoolRests: while a container is being started nothing is made ahead beside it, unless nothing is left.
func TestPoolRests(t *testing.T) {
	asked := 0
	c := &Controller{opts: Options{Busy: func() bool {
		asked++
		return asked < 4
	}}}
	p := newPool(c)
	defer p.stop()
	p.pause()
	if asked != 0 {
		t.Errorf("with an empty pool it asked %d times", asked)
	}
	p.ready = []*readySandbox{{}}
	p.pause()
	if asked != 4 {
		t.Errorf("it went on after asking %d times", asked)
	}
	c.opts.Busy = nil
	p.pause()
}
