package compile

import (
	"encoding/binary"

	"github.com/berth-engine/berth/runtime/script"
	"golang.org/x/sys/unix"
)

// initProcess makes this process, which is number 1, an init, and lets the program be its child: it hands
// every signal on to the program, reaps whatever becomes an orphan, and ends with the program's status. It is
// a loop of the script: no file of the container is trusted, and nothing is started a second time.
func (b *builder) initProcess() {
	child, loop := b.reg("program"), b.Label()
	all := make([]byte, 8)
	// synchronous signals stay: a fault of the loop itself must not be taken for a message
	binary.NativeEndian.PutUint64(all, ^uint64(0)&^signalSet(unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGBUS, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS, unix.SIGTTIN, unix.SIGTTOU))
	set := b.Bytes("all", all)
	b.Do("block signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, set, nil, 8)
	b.Aside("start the program below an init", child, loop)
	program := b.Label()
	b.Jump(program)

	b.Mark(loop)
	b.initLoop(child, set)

	b.Mark(program)
	b.Do("unblock all signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, b.Bytes("none", make([]byte, 8)), nil, 8)
	b.Do("make a process group", unix.SYS_SETPGID, 0, 0)
	b.foreground()
}

// foreground makes the program's group the terminal's, as a shell does.
func (b *builder) foreground() {
	if !b.process.Terminal {
		return
	}
	ign := make([]byte, 32)
	binary.NativeEndian.PutUint64(ign, 1) // SIG_IGN
	pid, group := b.reg("pid"), b.Room("group", 4)
	b.Do("ask for the pid", unix.SYS_GETPID).To(pid)
	b.Store(group, 0, pid)
	b.Do("ignore the signal", unix.SYS_RT_SIGACTION, int(unix.SIGTTOU), b.Bytes("ignore", ign), nil, 8).On("SIGTTOU")
	b.Do("come to the terminal's foreground", unix.SYS_IOCTL, 0, unix.TIOCSPGRP, group).May(unix.ENOTTY)
	b.Do("reset the signal", unix.SYS_RT_SIGACTION, int(unix.SIGTTOU), b.Bytes("default", make([]byte, 32)), nil, 8).On("SIGTTOU")
}

func (b *builder) initLoop(child script.Reg, set script.Buf) {
	signal, pid, status := b.reg("signal"), b.reg("pid"), b.reg("status")
	again, forward, reap, mine, killed := b.Label(), b.Label(), b.Label(), b.Label(), b.Label()
	b.Overwrite("init")
	b.Do("name the process", unix.SYS_PRCTL, unix.PR_SET_NAME, "init", 0, 0, 0)
	// also the connection: the parent learns that the program was executed when nobody holds it any more
	b.Do("close everything else", unix.SYS_CLOSE_RANGE, 0, ^uint32(0), 0)
	b.Do("reap whatever becomes an orphan", unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // where it is not number 1
	b.Mark(again)
	b.Do("wait for a signal", unix.SYS_RT_SIGTIMEDWAIT, set, nil, nil, 8).To(signal).May(unix.EINTR, unix.EAGAIN).Else(again)
	b.Expect("a child has ended", signal, script.All, script.NotEqual, uint64(unix.SIGCHLD), 0).Else(reap).Then(forward)

	b.Mark(forward)
	b.Do("hand the signal on", unix.SYS_KILL, child, signal).May(unix.ESRCH, unix.EPERM).Then(again)
	b.Jump(again)

	b.Mark(reap)
	ws := b.Room("wait status", 8)
	b.Do("reap", unix.SYS_WAIT4, -1, ws, unix.WNOHANG, nil).To(pid).May(unix.ECHILD).Else(again)
	b.Expect("somebody ended", pid, script.All, script.NotEqual, 0, 0).Else(again)
	b.ExpectSame("it is the program", pid, child, 0).Else(reap).Then(mine)

	b.Mark(mine)
	b.Load(status, ws, 0, 4)
	b.Compute(status, status, script.And, 0x7f)
	b.Expect("ended by exit", status, script.All, script.Equal, 0, 0).Else(killed)
	b.Load(status, ws, 0, 4)
	b.Compute(status, status, script.ShiftRight, 8)
	b.Do("end", unix.SYS_EXIT_GROUP, status)
	b.Mark(killed)
	b.Compute(status, status, script.Add, 128)
	b.Do("end", unix.SYS_EXIT_GROUP, status)
}

func signalSet(l ...unix.Signal) (set uint64) {
	for _, s := range l {
		set |= 1 << (s - 1)
	}
	return set
}
