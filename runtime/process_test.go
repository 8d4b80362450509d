package runtime_test

import (
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime"
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

// A program that is executed by its descriptor is not taken for the pipe of ForkExec, whatever numbers are free.
func TestProgramIsNotOverwritten(t *testing.T) {
	open := func(path string, least int) *os.File {
		t.Helper()
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		up, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, least)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(up), path)
		t.Cleanup(func() { f.Close() })
		return f
	}
	null := open(os.DevNull, 3)
	conn := open(os.DevNull, 200) // the pipe's numbers are lower
	program := open("/bin/true", int(conn.Fd())+1)
	if program.Fd() != conn.Fd()+1 {
		t.Fatalf("descriptors %d and %d are not neighbours", conn.Fd(), program.Fd())
	}
	above, err := runtime.DupAbove(conn, program)
	if err != nil {
		t.Fatal(err)
	}
	defer above.Close()
	pid, err := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), []string{"true"}, &syscall.ProcAttr{
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), above.Fd()},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || ws.ExitStatus() != 0 {
		t.Errorf("status %v, %v", ws, err)
	}
}
