package bootid

import "testing"

func TestRead(t *testing.T) {
	id, err := Read()
	if err != nil || len(id) != 36 {
		t.Fatalf("%q, %v", id, err)
	}
	if again, err := Read(); err != nil || again != id {
		t.Errorf("%q, then %q, %v", id, again, err)
	}
}
