package engine

import "testing"

func TestSubscribers(t *testing.T) {
	var e Events
	_, _, cancel := e.Subscribe()
	_, _, cancelOther := e.Subscribe()
	if n := e.Subscribers(); n != 2 {
		t.Error(n)
	}
	cancel()
	cancelOther()
	if n := e.Subscribers(); n != 0 {
		t.Error(n, "when all are gone")
	}
}
