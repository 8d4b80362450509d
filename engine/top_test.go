package engine

import (
	"reflect"
	"testing"

	"github.com/containerd/errdefs"
)

func TestProcesses(t *testing.T) {
	const table = "UID          PID    PPID CMD\nroot           1       0 /sbin/init  splash\nroot          77       1 sleep 1000\nroot          78       1\n"
	got, err := processes(table, []int{77, 78, 99})
	want := Processes{Titles: []string{"UID", "PID", "PPID", "CMD"}, Rows: [][]string{{"root", "77", "1", "sleep 1000"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := processes("USER CMD\nroot x\n", nil); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
