package deeptree

import (
	"context"

	"golang.org/x/sys/unix"
)

// Size adds up the bytes of the regular files in the directory path, hard links once, and what is
// mounted in it not at all. It never fails: what can't be read, or has gone meanwhile, is left out, and
// so is what there is still to come when ctx ends.
func Size(ctx context.Context, path string) int64 {
	fd, err := unix.Open(path, openDirectory, 0)
	if err != nil {
		return 0
	}
	m := measure{seen: map[inode]struct{}{}}
	w := walker{path: path, stop: ctx.Err, entry: m.entry, failed: func(error) {}}
	if w.push(fd, path) == nil {
		_ = w.walk() // it ended with ctx
	}
	return m.total
}

type inode struct{ dev, ino uint64 }

type measure struct {
	total int64
	seen  map[inode]struct{} // files with several names
}

func (m *measure) entry(dir int, name string, kind byte) (enter bool) {
	if kind == unix.DT_DIR {
		return true
	}
	if kind != unix.DT_REG && kind != unix.DT_UNKNOWN {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true
	case unix.S_IFREG:
		m.add(&st)
	}
	return false
}

func (m *measure) add(st *unix.Stat_t) {
	if st.Nlink > 1 {
		i := inode{uint64(st.Dev), st.Ino}
		if _, counted := m.seen[i]; counted {
			return
		}
		m.seen[i] = struct{}{}
	}
	m.total += st.Size
}
