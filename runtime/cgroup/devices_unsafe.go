package cgroup

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices2 attaches a program to the group that answers for each use of a device: version 2 has no files for
// it (cgroup-v2.rst, "Device controller").
func (g *Group) devices2(r *specs.LinuxResources) error {
	if len(r.Devices) == 0 {
		return nil
	}
	fd, err := loadDeviceProgram(deviceProgram(r.Devices))
	if err != nil {
		return fmt.Errorf("load the program that guards devices: %w", err)
	}
	defer unix.Close(fd)
	dir, err := os.Open(g.dirs[0].path)
	if err != nil {
		return err
	}
	defer dir.Close()
	// struct { target_fd, attach_bpf_fd, attach_type, attach_flags, replace_bpf_fd } of bpf(2).
	attr := [5]uint32{uint32(dir.Fd()), uint32(fd), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI, 0}
	if _, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); e != 0 {
		return fmt.Errorf("attach the program that guards devices: %w", e)
	}
	return nil
}

func loadDeviceProgram(program []byte) (fd int, err error) {
	license := []byte("Apache-2.0\x00")
	attr := struct {
		kind, count   uint32
		program       uint64
		license       uint64
		level, size   uint32
		log           uint64
		version, flag uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(program) / 8),
		program: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	for {
		n, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		runtime.KeepAlive(program)
		runtime.KeepAlive(license)
		if e == unix.EAGAIN || e == unix.EINTR {
			continue
		}
		if e != 0 {
			return -1, e
		}
		return int(n), nil
	}
}

// eBPF instructions that the program is made of (bpf.h).
const (
	opLoad32  = 0x61 // dst = *(u32 *)(src + off)
	opMoveReg = 0xbf
	opMoveImm = 0xb7
	opAnd32   = 0x54
	opRight32 = 0x74
	opJumpNe  = 0x55
	opExit    = 0x95
)

// deviceProgram is the rules as eBPF. The context is struct bpf_cgroup_dev_ctx { access_type, major, minor },
// where access_type is access << 16 | type. As with devices.allow and devices.deny, the last rule that
// matches decides, so they are looked at from the end; one about everything ends the search. Without any
// that matches a use is denied.
func deviceProgram(rules []specs.LinuxDeviceCgroup) []byte {
	p := program{}
	p.add(opLoad32, 2, 1, 0, 0) // r2 = type
	p.add(opAnd32, 2, 0, 0, 0xffff)
	p.add(opLoad32, 3, 1, 0, 0) // r3 = access
	p.add(opRight32, 3, 0, 0, 16)
	p.add(opLoad32, 4, 1, 4, 0) // r4 = major
	p.add(opLoad32, 5, 1, 8, 0) // r5 = minor
	for i := len(rules) - 1; i >= 0; i-- {
		if p.rule(rules[i]) {
			return p.code
		}
	}
	p.add(opMoveImm, 0, 0, 0, 0)
	p.add(opExit, 0, 0, 0, 0)
	return p.code
}

type program struct{ code []byte }

func (p *program) add(op, dst, src byte, off int16, imm int32) {
	p.code = append(p.code, op, dst|src<<4)
	p.code = binary.NativeEndian.AppendUint16(p.code, uint16(off))
	p.code = binary.NativeEndian.AppendUint32(p.code, uint32(imm))
}

// rule adds one; it reports whether it matches everything.
func (p *program) rule(d specs.LinuxDeviceCgroup) (final bool) {
	allow := int32(0)
	if d.Allow {
		allow = 1
	}
	verdict := func() {
		p.add(opMoveImm, 0, 0, 0, allow)
		p.add(opExit, 0, 0, 0, 0)
	}
	kind := map[string]int32{"b": unix.BPF_DEVCG_DEV_BLOCK, "c": unix.BPF_DEVCG_DEV_CHAR}[d.Type]
	access := int32(0)
	for _, c := range d.Access {
		access |= map[rune]int32{'m': unix.BPF_DEVCG_ACC_MKNOD, 'r': unix.BPF_DEVCG_ACC_READ, 'w': unix.BPF_DEVCG_ACC_WRITE}[c]
	}
	const all = unix.BPF_DEVCG_ACC_MKNOD | unix.BPF_DEVCG_ACC_READ | unix.BPF_DEVCG_ACC_WRITE
	if kind == 0 {
		verdict()
		return true
	}
	// What does not match jumps over the rest of the rule: its length is known when it is there.
	var body program
	if access != all {
		body.add(opMoveReg, 1, 3, 0, 0) // the uses that the rule does not speak of must be none
		body.add(opAnd32, 1, 0, 0, all&^access)
		body.add(opJumpNe, 1, 0, 0, 0)
	}
	body.add(opJumpNe, 2, 0, 0, kind)
	if d.Major != nil && *d.Major >= 0 {
		body.add(opJumpNe, 4, 0, 0, int32(*d.Major))
	}
	if d.Minor != nil && *d.Minor >= 0 {
		body.add(opJumpNe, 5, 0, 0, int32(*d.Minor))
	}
	body.add(opMoveImm, 0, 0, 0, allow)
	body.add(opExit, 0, 0, 0, 0)
	for at := 0; at < len(body.code); at += 8 {
		if body.code[at] == opJumpNe {
			binary.NativeEndian.PutUint16(body.code[at+2:], uint16((len(body.code)-at)/8-1))
		}
	}
	p.code = append(p.code, body.code...)
	return false
}
