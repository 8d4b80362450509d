package sealed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"golang.org/x/sys/unix"
)

const role = "BT_SEALED"

// TestMain lets the test's program be the one that is sealed: it says its name and waits for the end of its
// input.
func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "self":
		if err := Self("sealed-test"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	is, err := isSealed()
	name, _ := os.ReadFile("/proc/self/comm")
	fmt.Printf("%v %v %v %s", is, err, os.Args[1:], name)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// attack does what a container does that has the runtime executed in itself: it keeps the file of the running
// program, and opens it for writing when it does not run any more.
func attack(t *testing.T, program string, role_ string, files ...*os.File) (said string, err error) {
	t.Helper()
	cmd := exec.Command(program, "a", "b")
	cmd.Env, cmd.ExtraFiles = []string{role + "=" + role_}, files
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	said, _ = bufio.NewReader(out).ReadString('\n')
	kept, err := unix.Open(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kept)
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", kept), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil { // as a copy with seals it can be opened
		_, err = unix.Pwrite(fd, []byte{0x7f}, 0) // what is there already
		unix.Close(fd)
	}
	return said, err
}

// program is a copy of the test's own, which is not running.
func program(t *testing.T) string {
	t.Helper()
	testroot.Require(t)
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := testroot.Dir(t) + "/program"
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSelf(t *testing.T) {
	path := program(t)
	if said, err := attack(t, path, "plain"); err != nil || said != "false <nil> [a b] program\n" {
		t.Fatalf("without a seal: %q, %v: the attack itself does not work", said, err)
	}
	if said, err := attack(t, path, "self"); !errors.Is(err, unix.EROFS) || said != "true <nil> [a b] sealed-test\n" {
		t.Errorf("sealed: %q, %v", said, err)
	}
}

func TestBothWaysOfSealing(t *testing.T) {
	path := program(t)
	for _, c := range []struct {
		open func(string) (int, error)
		want error
	}{{readOnly, unix.EROFS}, {copied, unix.EPERM}} {
		fd, err := c.open(path)
		if err != nil {
			t.Fatal(err)
		}
		said, err := attack(t, "/proc/self/fd/3", "plain", os.NewFile(uintptr(fd), "sealed"))
		if !errors.Is(err, c.want) || said[:4] != "true" {
			t.Errorf("%q, %v, want %v", said, err, c.want)
		}
	}
	if _, err := Open(path + "-nothing"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a file that is not there: %v", err)
	}
}
