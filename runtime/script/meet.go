package script

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// meetings are numbered from 1, in the order in which they were written. The child says its number, so that
// a parent that is out of step notices.
const maxMeets = 255

// Meet adds a meeting point: the child tells that it has come this far and waits until the parent lets it
// go on (Child.Meet, Child.Go). Where the parent is gone the script fails with ECANCELED.
func (s *Script) Meet(name string) {
	s.arrive(name)
	r := s.meetReg()
	s.Do("wait for the parent", syscall.SYS_READ, Conn, s.Room("answer", 8), 1).On(name).To(r)
	s.Expect("the parent is there", r, All, Equal, 1, syscall.ECANCELED).On(name)
}

// Inbox is what a meeting point brought: descriptors, to be taken by Script.Take.
type Inbox struct {
	name    string
	control Buf
}

// Wait is Meet for a child whose further steps, and the descriptors that they need, are not known yet: they
// are added while it waits, beginning with Take.
func (s *Script) Wait(name string) Inbox { return s.wait(name, maxDescriptors) }

func (s *Script) wait(name string, n int) Inbox {
	s.arrive(name)
	in := Inbox{name, s.Room("descriptors", unix.CmsgSpace(4*n))}
	r := s.meetReg()
	s.Do("receive descriptors", syscall.SYS_RECVMSG, Conn, s.message(in.control), unix.MSG_CMSG_CLOEXEC).On(name).To(r)
	s.Expect("the parent is there", r, All, Equal, 1, syscall.ECANCELED).On(name)
	return in
}

// Take puts the descriptors that Child.Go sent into regs, in the order in which they were sent. Exactly as
// many must have come.
func (s *Script) Take(in Inbox, regs ...Reg) {
	r := s.meetReg()
	want := uint64(0)
	if len(regs) > 0 {
		want = uint64(unix.CmsgLen(4 * len(regs)))
	}
	if len(regs) > maxDescriptors {
		s.fail(fmt.Errorf("start script: %d descriptors at one meeting point, at most %d can be sent: there are too many mounts", len(regs), maxDescriptors))
		return
	}
	s.Load(r, in.control, 0, 8)
	s.Expect("as many descriptors as are named", r, All, Equal, want, syscall.EPROTO).On(in.name)
	for i, d := range regs {
		s.Load(d, in.control, unix.CmsgLen(0)+4*i, 4)
	}
}

// Receive is Wait and Take where the descriptors are known beforehand. They are close-on-exec.
func (s *Script) Receive(name string, regs ...Reg) {
	s.Take(s.wait(name, max(1, min(len(regs), maxDescriptors))), regs...)
}

// SendDescriptor sends the descriptor in d over the unix socket in sock (an int or a Reg), with payload as its data.
func (s *Script) SendDescriptor(name string, sock any, d Reg, payload string) *Step {
	control := make([]byte, unix.CmsgSpace(4))
	binary.NativeEndian.PutUint64(control, uint64(unix.CmsgLen(4)))
	binary.NativeEndian.PutUint32(control[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(control[12:], unix.SCM_RIGHTS)
	c := s.Bytes("descriptor", control)
	s.Store(c, unix.CmsgLen(0), d)
	return s.Do(name, syscall.SYS_SENDMSG, sock, s.messageOf(s.Bytes(payload, []byte(payload)), c), unix.MSG_NOSIGNAL)
}

const maxDescriptors = 253 // SCM_MAX_FD

func (s *Script) arrive(name string) {
	if s.meets == maxMeets {
		s.fail(fmt.Errorf("start script: more than %d meeting points", maxMeets))
		return
	}
	s.meets++
	s.Do("meet the parent", syscall.SYS_SENDTO, Conn, s.Bytes("meeting", []byte{byte(s.meets)}), 1, unix.MSG_NOSIGNAL, nil, 0).On(name)
}

func (s *Script) meetReg() Reg {
	if s.answer == Conn {
		s.answer = s.Reg("answer")
	}
	return s.answer
}

func (s *Script) message(control Buf) Buf { return s.messageOf(s.Room("byte", 8), control) }

// messageOf makes a struct msghdr with one vector and control (msghdr is 56 bytes on 64-bit machines).
func (s *Script) messageOf(data, control Buf) Buf {
	size := data.size
	if data.text == "byte" {
		size = 1
	}
	iov := s.Room("iovec", 16)
	s.PutAddress(iov, 0, data)
	s.arena.putWord(iov.off+8, uintptr(size))
	m := s.Room("message", 56)
	s.PutAddress(m, 16, iov)
	s.arena.putWord(m.off+24, 1)
	s.PutAddress(m, 32, control)
	s.arena.putWord(m.off+40, uintptr(control.size))
	return m
}
