package shim

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper waits for the processes that were started, and takes away those that they left behind: in a pid namespace
// of the container's own those go to its first process; in a shared one they come to us.
type reaper struct {
	mu       sync.Mutex
	known    map[int]bool // pids that somebody waits for; guarded by mu
	starting int          // starts that are under way, which wait for children by themselves; guarded by mu
	orphans  bool         // there may be some; guarded by mu
}

// adopt makes the reaper look after orphans.
func (r *reaper) adopt() {
	r.mu.Lock()
	r.orphans = true
	r.mu.Unlock()
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	go func() {
		for range died {
			r.sweep()
		}
	}()
}

// begin announces a start: no child is touched until done is called, with the pid of one that will be waited for, or 0.
func (r *reaper) begin() (done func(pid int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting++
	return func(pid int) {
		r.mu.Lock()
		r.starting--
		if pid != 0 {
			r.know(pid)
		}
		r.mu.Unlock()
		r.sweep()
	}
}

// know notes a pid that wait will be called for. mu must be held.
func (r *reaper) know(pid int) {
	if r.known == nil {
		r.known = map[int]bool{}
	}
	r.known[pid] = true
}

// wait waits for a process and returns its status, as a shell says it.
func (r *reaper) wait(pid int, pidfd *os.File) int {
	r.mu.Lock()
	r.know(pid)
	r.mu.Unlock()
	status := waitStatus(pid, pidfd)
	r.mu.Lock()
	delete(r.known, pid)
	r.mu.Unlock()
	r.sweep()
	return status
}

// sweep reaps orphans that have died. One that somebody waits for ends it: who waits sweeps again.
func (r *reaper) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.orphans && r.starting == 0 {
		pid, err := peek()
		if err != nil || pid == 0 || r.known[pid] {
			return
		}
		_, _ = wait4(pid, nil, unix.WNOHANG)
	}
}
