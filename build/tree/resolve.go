package tree

import (
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is the index that Resolve gives for the root, which has no entry.
const Root = -1

// maxLinks is how many symbolic links are followed in one path, as the kernel does (path_resolution(7)).
const maxLinks = 40

// Resolve finds what p names inside the tree: "..", absolute links and links that would leave it end
// inside, as under chroot. The last component's link is followed if follow. The error is
// fs.ErrNotExist, or wraps ELOOP or ENOTDIR.
func (t *Tree) Resolve(p string, follow bool) (int, error) {
	at, here := "", Root
	rest := strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			if at = path.Dir(at); at == "." {
				at = ""
			}
			here = Root
			if at != "" {
				here, _ = t.Find(at)
			}
			continue
		}
		if here != Root && !t.Entries[here].IsDir() {
			return 0, &fs.PathError{Op: "open", Path: p, Err: unix.ENOTDIR}
		}
		next := path.Join(at, c)
		i, ok := t.Find(next)
		if !ok {
			return 0, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		}
		if link := t.Entries[i].Link; link != "" && (follow || !last(rest)) {
			if links++; links > maxLinks {
				return 0, &fs.PathError{Op: "open", Path: p, Err: unix.ELOOP}
			}
			if strings.HasPrefix(link, "/") {
				at, here = "", Root
			}
			rest = append(strings.Split(link, "/"), rest...)
			continue
		}
		at, here = next, i
	}
	return here, nil
}

// last says whether no component follows.
func last(rest []string) bool {
	for _, c := range rest {
		if c != "" && c != "." {
			return false
		}
	}
	return true
}
