package compile

import (
	"path"
	"strings"

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
