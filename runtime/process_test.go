package runtime_test

import (
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
)

// lockForGood locks the goroutine to its thread, which ends with it: it is in another namespace.
func lockForGood() { goruntime.LockOSThread() }

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// children lists the pids of this process's children.
func children(t *testing.T) (pids []string) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%s/children", task.Name()))
		pids = append(pids, strings.Fields(string(b))...)
	}
	return pids
}
