package compile

import (
	"bytes"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// smallest is the memory limit, in bytes, below which a start itself might not fit: whoever shares the memory of the
// process that the kernel then kills is killed with it.
const smallest = 16 << 20

// shares tells whether the child may play in our memory: where nobody but us and the kernel can look at it before its
// execve (a pid namespace that it is born in, and no user namespace, whose root could be somebody), where it lets go of
// it before we close the script (it does not wait for a start, or go on as an init), and where it is not killed for
// want of memory.
func (b *builder) shares() bool {
	return b.in.Share && b.flags&unix.CLONE_NEWPID != 0 && b.flags&unix.CLONE_NEWUSER == 0 && !b.in.Init && b.in.Wait == nil && !tight(b.spec.Linux.Resources)
}

// tight tells whether a start might not fit into the memory limit.
func tight(r *specs.LinuxResources) bool {
	return r != nil && r.Memory != nil && r.Memory.Limit != nil && *r.Memory.Limit > 0 && *r.Memory.Limit < smallest
}

const ownScore = "/proc/self/oom_score_adj"

// restoreScore gives us our own score for running out of memory again: the kernel gives all processes that share one
// memory the same (fs/proc/base.c, "__set_oom_adj"), so that we have what the child's start has set. The child has its
// own memory by now.
func (p *Plan) restoreScore() {
	if len(p.score) == 0 || bytes.Equal(bytes.TrimSpace(p.score), []byte(score(p.b.oomScoreAdj()))) {
		return
	}
	// Refused only to who has lost a capability meanwhile; the container runs in any case.
	_ = writeFile(ownScore, string(p.score))
}
