package compile

import (
	"fmt"
	"time"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hooksInside are the hooks that run in the container's namespaces.
func hooksInside(h *specs.Hooks) int {
	if h == nil {
		return 0
	}
	return len(h.CreateContainer) + len(h.StartContainer)
}

// runHooks runs hooks one after another as children: standard input is the container's state, a status other
// than 0 ends the start.
func (b *builder) runHooks(kind string, hooks []specs.Hook) error {
	for _, h := range hooks {
		if h.Path == "" || h.Path[0] != '/' {
			return fmt.Errorf("%s hook %q: its path must be absolute", kind, h.Path)
		}
		b.runHook("run the "+kind+" hook", h)
	}
	return nil
}

func (b *builder) runHook(step string, h specs.Hook) {
	pid, pidfd, status := b.reg("hook"), b.reg("hook's pidfd"), b.reg("status")
	fd := b.Room("pidfd", 4)
	inParent := b.Label()
	b.Do(step, unix.SYS_CLONE, unix.CLONE_PIDFD|int(unix.SIGCHLD), 0, fd, 0, 0).On(h.Path).To(pid)
	b.Expect("in the hook's process", pid, script.All, script.Equal, 0, 0).Else(inParent)
	b.hookProcess(step, h)
	b.Mark(inParent)
	b.Load(pidfd, fd, 0, 4)
	b.await(step, h, pidfd)
	ws := b.Room("wait status", 4)
	b.Do(step, unix.SYS_WAIT4, pid, ws, 0, nil).On(h.Path)
	b.CloseReg(pidfd)
	b.Load(status, ws, 0, 4)
	b.Expect(step, status, script.All, script.Equal, 0, unix.ECANCELED).On(h.Path)
}

func (b *builder) hookProcess(step string, h specs.Hook) {
	b.Quiet(127)
	b.Do("go to the beginning of the state", unix.SYS_LSEEK, b.stateReg, 0, 0)
	b.Do("connect", unix.SYS_DUP3, b.stateReg, 0, 0).On("stdin")
	b.Do("close everything else", unix.SYS_CLOSE_RANGE, 3, ^uint32(0), unix.CLOSE_RANGE_CLOEXEC)
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	b.Do(step, unix.SYS_EXECVE, h.Path, b.Strings(args), b.Strings(h.Env)).On(h.Path)
}

// await waits for the hook's end, at most as long as it may take.
func (b *builder) await(step string, h specs.Hook, pidfd script.Reg) {
	if h.Timeout == nil {
		return
	}
	ended := b.Label()
	n := b.reg("result")
	poll := b.Bytes("hook", []byte{0, 0, 0, 0, unix.POLLIN, 0, 0, 0})
	b.Store(poll, 0, pidfd)
	limit := time.Duration(*h.Timeout) * time.Second
	b.Do(step, unix.SYS_PPOLL, poll, 1, b.Bytes(limit.String(), words(uint64(limit/time.Second), 0)), nil, 0).On(h.Path).To(n)
	b.Expect("it ended", n, script.All, script.Equal, 0, 0).Else(ended)
	b.Do("end the hook", unix.SYS_KILL, b.reg("hook"), int(unix.SIGKILL)).On(h.Path).May(unix.ESRCH)
	b.Do(step, unix.SYS_WAIT4, b.reg("hook"), nil, 0, nil).On(h.Path)
	b.Fail(step, unix.ETIMEDOUT).On(h.Path)
	b.Mark(ended)
}
