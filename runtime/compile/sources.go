package compile

import (
	"path"
	"strings"

	"github.com/berth-engine/berth/runtime/script"
	"golang.org/x/sys/unix"
)

// openSources opens what is bound from the host before this process becomes another user, who may not be
// allowed to look through the directories above.
func (b *builder) openSources() {
	if b.in.Root == nil {
		b.openSource(b.rootPath())
	}
	for _, m := range b.spec.Mounts {
		o, err := parseOptions(m.Options)
		if err != nil || !(o.bind || o.rbind || m.Type == "bind") || b.given(clean(m.Destination)) {
			continue
		}
		b.openSource(b.hostPath(m.Source))
	}
}

func (b *builder) openSource(p string) {
	if _, ok := b.sources[p]; ok || p == "" {
		return
	}
	r := b.reg("source " + p)
	b.Do("open the source of the mount", unix.SYS_OPENAT, unix.AT_FDCWD, p, unix.O_PATH|unix.O_CLOEXEC, 0).On(p).To(r)
	b.sources[p] = r
}

// cloneSources clones what is bound while the mounts are still peers of the host's: with a shared root that is asked
// for, and a clone of what was cut off has no peers.
func (b *builder) cloneSources() {
	for _, m := range b.spec.Mounts {
		if o, err := parseOptions(m.Options); err == nil && (o.bind || o.rbind || m.Type == "bind") && !b.given(clean(m.Destination)) {
			dest := clean(m.Destination)
			b.clones[dest] = b.Reg("clone for " + dest)
			b.cloneSource(b.hostPath(m.Source), o, b.clones[dest])
		}
	}
}

// cloneSource clones the tree at a path of the host's.
func (b *builder) cloneSource(source string, o mountOptions, tree script.Reg) {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if o.rbind || !o.bind { // type "bind" without an option is Docker's and podman's rbind
		flags |= unix.AT_RECURSIVE
	}
	if r, ok := b.sources[source]; ok {
		b.Do("clone the source of the mount", unix.SYS_OPEN_TREE, r, "", flags|unix.AT_EMPTY_PATH).On(source).To(tree)
		return
	}
	b.Do("clone the source of the mount", unix.SYS_OPEN_TREE, unix.AT_FDCWD, source, flags).On(source).To(tree)
}

// given says whether the caller hands over a tree for dest.
func (b *builder) given(dest string) bool {
	for _, t := range b.in.Mounts {
		if clean(t.Destination) == dest {
			return true
		}
	}
	return false
}

func (b *builder) hostPath(p string) string {
	if strings.HasPrefix(p, "/") {
		return p
	}
	return path.Join(b.in.Bundle, p)
}

func keyValue(s string) [2]string {
	k, v, _ := strings.Cut(s, "=")
	return [2]string{k, v}
}
