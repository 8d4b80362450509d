package cgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/testroot"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// group makes one of the test's own and removes it at the end.
func group(t *testing.T, more ...string) *Group {
	t.Helper()
	testroot.Require(t)
	s, err := Find()
	if errors.Is(err, ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Group("/"+testroot.Name(t)+"/container", more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx)); err != nil {
			t.Error(err)
		}
		for _, dir := range s.everywhere(g.name) {
			if err := os.Remove(filepath.Dir(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	if err := g.Create(); err != nil {
		t.Fatal(err)
	}
	return g
}

// run starts a shell in the group, by its own "0" as a container's child does it.
func run(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	j, err := g.Join()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	cmd := exec.Command("sh", "-c", `for fd in $(seq 3 $((2 + $1))); do eval "echo 0 >&$fd" || exit 99; done; shift; eval "$1"`, "sh", itoa(len(j.Tasks)), script)
	cmd.ExtraFiles = j.Tasks
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func itoa(n int) string { return string(rune('0' + n)) }

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := poll(ctx, func() (bool, error) { return f(), nil }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestKillLeavesNothing(t *testing.T) {
	g := group(t)
	cmd := run(t, g, "sleep 1000 & sleep 1000 & wait")
	await(t, "three processes", func() bool {
		pids, err := g.Procs()
		return err == nil && len(pids) == 3
	})
	if err := g.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	if err := g.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-gone
	if pids, err := g.Procs(); len(pids) != 0 || err != nil {
		t.Errorf("left: %v %v", pids, err)
	}
	for range 2 { // idempotent
		if err := g.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestLimits(t *testing.T) {
	g := group(t, "cpuset")
	memory, swap, pids, quota, period, shares := int64(16<<20), int64(16<<20), int64(5), int64(50000), uint64(100000), uint64(512)
	for range 2 { // limits can be set again
		err := g.Set(&specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &memory, Swap: &swap}, Pids: &specs.LinuxPids{Limit: &pids},
			CPU: &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares, Cpus: "0"},
		})
		if err != nil {
			t.Fatal(err)
		}
		memory, swap = memory*2, swap*2
	}
	s, err := g.Stats()
	if err != nil || s.MemoryLimit != 32<<20 || s.PidsLimit != 5 {
		t.Errorf("%+v %v", s, err)
	}
	cmd := run(t, g, `x=$(head -c 200000000 /dev/zero | tr '\0' x)`)
	err = cmd.Wait()
	var ended *exec.ExitError
	if kills, e := g.OOMKills(); kills == 0 || e != nil || !errors.As(err, &ended) {
		t.Errorf("memory: %d kills, %v, %v", kills, e, err)
	}
	cmd = run(t, g, "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; exit 7")
	_ = cmd.Wait()
	if pids, _ := g.Procs(); len(pids) > 5 {
		t.Errorf("%d processes", len(pids))
	}
}

func TestRefusals(t *testing.T) {
	g := group(t)
	tiny := int64(1)
	err := g.Set(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &tiny}})
	if err == nil || !strings.Contains(err.Error(), "cpu") || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a quota of 1 µs: %v", err)
	}
	err = g.Set(&specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "99999"}})
	if err == nil {
		t.Error("a processor that isn't there was accepted")
	}
	s, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/", "..", "/a/../.."} {
		if _, err := s.Group(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestDevices(t *testing.T) {
	g := group(t)
	one, three := int64(1), int64(3)
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Major: &one, Minor: &three, Access: "rw"}}
	if err := g.Set(&specs.LinuxResources{Devices: rules}); err != nil {
		t.Fatal(err)
	}
	if err := run(t, g, "echo x > /dev/null || exit 1; head -c 1 < /dev/zero 2>/dev/null && exit 2; exit 0").Wait(); err != nil {
		t.Errorf("null may be used and zero may not: %v", err)
	}
}

// TestDeviceProgram plays the program of version 2 for uses of devices and compares with the rules.
func TestDeviceProgram(t *testing.T) {
	n := func(i int64) *int64 { return &i }
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Type: "a", Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "c", Major: n(1), Minor: n(3), Access: "rwm"},
		{Allow: true, Type: "c", Major: n(136), Minor: n(-1), Access: "rw"},
		{Allow: false, Type: "c", Major: n(136), Minor: n(7), Access: "w"},
	}
	const mknod, read, write = 1, 2, 4
	for _, c := range []struct {
		kind, access, major, minor uint32
		want                       uint64
	}{
		{2, read | write, 1, 3, 1}, {2, mknod, 8, 0, 1}, {1, mknod, 8, 0, 0}, {1, read, 8, 0, 0}, {2, read | mknod, 8, 0, 0},
		{2, read | write, 136, 5, 1}, {2, write, 136, 7, 0}, {2, read, 136, 7, 1}, {2, read, 5, 0, 0},
	} {
		if got := play(t, deviceProgram(rules), c.access<<16|c.kind, c.major, c.minor); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if got := play(t, deviceProgram(nil), read<<16|2, 1, 3); got != 0 {
		t.Error("without a rule everything is allowed")
	}
}

// play is an interpreter of the eight instructions.
func play(t *testing.T, code []byte, access, major, minor uint32) uint64 {
	t.Helper()
	var r [11]uint64
	context := map[int16]uint32{0: access, 4: major, 8: minor}
	for pc, steps := 0, 0; steps < 1000; pc, steps = pc+1, steps+1 {
		i := code[pc*8 : pc*8+8]
		dst, src := i[1]&15, i[1]>>4
		off, imm := int16(binary.NativeEndian.Uint16(i[2:])), int32(binary.NativeEndian.Uint32(i[4:]))
		switch i[0] {
		case opLoad32:
			r[dst] = uint64(context[off])
		case opMoveReg:
			r[dst] = r[src]
		case opMoveImm:
			r[dst] = uint64(imm)
		case opAnd32:
			r[dst] = uint64(uint32(r[dst]) & uint32(imm))
		case opRight32:
			r[dst] = uint64(uint32(r[dst]) >> imm)
		case opJumpNe:
			if r[dst] != uint64(imm) {
				pc += int(off)
			}
		case opExit:
			return r[0]
		default:
			t.Fatalf("instruction %#x", i[0])
		}
	}
	t.Fatal("the program does not end")
	return 0
}
