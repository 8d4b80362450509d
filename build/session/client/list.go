package client

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/session/ignore"
)

// listing lists a directory on several threads. Each directory becomes a node; the list is made of
// them at the end, in order.
type listing struct {
	root    root
	exclude *ignore.Matcher
	skipped func(path, why string)

	mu      sync.Mutex
	wake    *sync.Cond
	todo    []*node // guarded by mu
	running int     // nodes being read; guarded by mu
	err     error   // guarded by mu
}

// node is a directory and what is in it, sorted by name.
type node struct {
	path    string
	parent  ignore.Parent
	only    *wanted // nil: everything
	entries []child
}

type child struct {
	name     string
	st       unix.Stat_t
	link     string
	xattrs   []session.Xattr
	dir      *node
	excluded bool // it is here only in case something below it is not
}

// list gives the list of what is below the root: of all of it, or only of what only names.
func list(ctx context.Context, r root, only *wanted, exclude *ignore.Matcher, skipped func(path, why string)) ([]session.Entry, error) {
	l := &listing{root: r, exclude: exclude, skipped: skipped}
	l.wake = sync.NewCond(&l.mu)
	stop := context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })
	defer stop()
	top := &node{only: only}
	l.todo = []*node{top}
	var workers sync.WaitGroup
	for range max(2, min(8, runtime.GOMAXPROCS(0))) {
		workers.Go(l.work)
	}
	workers.Wait()
	if l.err != nil {
		return nil, l.err
	}
	c := collector{first: map[inode]string{}}
	c.collect(top)
	return c.out, nil
}

func (l *listing) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	l.wake.Broadcast()
}

// next takes a directory to read. It is nil when everything is done, or nothing matters any more.
func (l *listing) next() *node {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.todo) == 0 && l.running > 0 && l.err == nil {
		l.wake.Wait()
	}
	if len(l.todo) == 0 || l.err != nil {
		return nil
	}
	n := l.todo[len(l.todo)-1]
	l.todo = l.todo[:len(l.todo)-1]
	l.running++
	return n
}

func (l *listing) done(found []*node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.todo = append(l.todo, found...)
	if len(found) > 0 || l.running == 0 {
		l.wake.Broadcast()
	}
}

func (l *listing) work() {
	buf := make([]byte, 64<<10)
	for n := l.next(); n != nil; n = l.next() {
		if err := l.read(n, buf); err != nil {
			l.fail(err)
		}
		var found []*node
		for i := range n.entries {
			if n.entries[i].dir != nil {
				found = append(found, n.entries[i].dir)
			}
		}
		l.done(found)
	}
}

func (l *listing) read(n *node, buf []byte) error {
	fd, err := l.root.open(n.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		if n.path != "" && errors.Is(err, unix.ENOENT) {
			return nil // went meanwhile
		}
		return fmt.Errorf("list the context: %w", err)
	}
	defer unix.Close(fd)
	var ns []name
	if n.only == nil || n.only.all {
		n.only = nil
		if ns, err = names(fd, buf); err != nil {
			return fmt.Errorf("list the context: read %s: %w", n.path, err)
		}
	} else {
		ns = n.only.names()
	}
	n.entries = make([]child, 0, len(ns))
	for _, c := range ns {
		if err := l.child(n, fd, c); err != nil {
			return fmt.Errorf("list the context: %s: %w", path.Join(n.path, c.name), err)
		}
	}
	return nil
}

func (l *listing) child(n *node, fd int, nm name) error {
	p := nm.name
	if n.path != "" {
		p = n.path + "/" + nm.name
	}
	c := child{name: nm.name}
	var below ignore.Parent
	c.excluded, below = l.exclude.Match(p, n.parent)
	if c.excluded && nm.typ != unix.DT_DIR && nm.typ != unix.DT_UNKNOWN {
		return nil
	}
	if c.excluded && !l.exclude.MayHold(p) {
		return nil
	}
	if err := unix.Fstatat(fd, nm.name, &c.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	switch c.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		c.dir = &node{path: p, parent: below}
		if n.only != nil {
			c.dir.only = n.only.below(nm.name)
		}
		if err := l.dirXattrs(p, &c); err != nil {
			return err
		}
	case unix.S_IFLNK:
		var err error
		if c.link, err = readlinkat(fd, nm.name); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			return nil // went, or became something else, meanwhile
		} else if err != nil {
			return err
		}
	case unix.S_IFSOCK:
		if !c.excluded && l.skipped != nil {
			l.skipped(p, "a socket is not sent")
		}
		return nil
	}
	if c.excluded && c.dir == nil {
		return nil
	}
	n.entries = append(n.entries, c)
	return nil
}

// dirXattrs reads the attributes of a directory; those of files go with their contents.
func (l *listing) dirXattrs(p string, c *child) error {
	fd, err := l.root.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil // the second is said when it is read
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	c.xattrs, err = xattrs(fd)
	return err
}

type inode struct{ dev, ino uint64 }

type collector struct {
	out   []session.Entry
	first map[inode]string // of files with several names
}

// collect appends what is in n, and says whether anything of it is not excluded.
func (c *collector) collect(n *node) bool {
	any := false
	for i := range n.entries {
		ch := &n.entries[i]
		e := entry(&ch.st)
		e.Path = ch.name
		if n.path != "" {
			e.Path = n.path + "/" + ch.name
		}
		e.Link, e.Xattrs = ch.link, ch.xattrs
		if ch.st.Nlink > 1 && ch.st.Mode&unix.S_IFMT == unix.S_IFREG {
			id := inode{uint64(ch.st.Dev), ch.st.Ino}
			if first, ok := c.first[id]; ok {
				e.Hardlink = first
			} else {
				c.first[id] = e.Path
			}
		}
		at := len(c.out)
		c.out = append(c.out, e)
		keep := !ch.excluded
		if ch.dir != nil && c.collect(ch.dir) {
			keep = true
		}
		if !keep {
			c.out = c.out[:at]
		}
		any = any || keep
	}
	n.entries = nil
	return any
}

// wanted is a part of a tree: a directory of which only some names are needed.
type wanted struct {
	all      bool // everything below
	children map[string]*wanted
}

func (w *wanted) names() []name {
	out := make([]name, 0, len(w.children))
	for n := range w.children {
		out = append(out, name{n, unix.DT_UNKNOWN})
	}
	slices.SortFunc(out, func(a, b name) int { return strings.Compare(a.name, b.name) })
	return out
}

func (w *wanted) below(name string) *wanted { return w.children[name] }

// add notes path, and everything below it if all.
func (w *wanted) add(path string, all bool) {
	for c := range strings.SplitSeq(path, "/") {
		if c == "" || c == "." {
			continue
		}
		if w.children == nil {
			w.children = map[string]*wanted{}
		}
		if w.children[c] == nil {
			w.children[c] = &wanted{}
		}
		w = w.children[c]
	}
	w.all = w.all || all
}

// maxLinks is how many symbolic links are followed in one path, as the kernel does (path_resolution(7)).
const maxLinks = 40

// follow notes what a path or pattern names, every link on the way and what it points at, and, if all,
// everything below.
func (w *wanted) follow(r root, pattern string, all bool) error {
	budget := maxLinks
	return w.walk(r, "", strings.Split(path.Clean("/" + pattern)[1:], "/"), all, &budget)
}

// walk goes on with rest at the directory at, which is resolved.
func (w *wanted) walk(r root, at string, rest []string, all bool, links *int) error {
	for len(rest) > 0 && rest[0] == "" {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		w.add(at, all)
		return nil
	}
	c := rest[0]
	rest = rest[1:]
	if c == ".." { // of a link's target
		if at = path.Dir(at); at == "." {
			at = ""
		}
		return w.walk(r, at, rest, all, links)
	}
	if strings.ContainsAny(c, `*?[\`) {
		return w.walkPattern(r, at, c, rest, all)
	}
	p := path.Join(at, c)
	var st unix.Stat_t
	if err := r.lstat(p, &st); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			w.add(p, false) // not there: the list will not have it, and whoever needs it says so
			return nil
		}
		return fmt.Errorf("look at %s in the context: %w", p, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return w.walk(r, p, rest, all, links)
	}
	w.add(p, false)
	if *links--; *links < 0 {
		return nil // a loop: whoever follows it says so
	}
	target, err := r.readlink(p)
	if err != nil {
		return fmt.Errorf("look at %s in the context: %w", p, err)
	}
	if strings.ContainsAny(target, `*?[\`) { // names, no patterns: everything will do
		w.add("", true)
		return nil
	}
	if strings.HasPrefix(target, "/") {
		at = ""
	}
	return w.walk(r, at, append(split(target), rest...), all, links)
}

// split cuts a link's target into its components, ".." kept.
func split(target string) []string {
	var out []string
	for c := range strings.SplitSeq(target, "/") {
		if c != "" && c != "." {
			out = append(out, c)
		}
	}
	return out
}

func (w *wanted) walkPattern(r root, at, pattern string, rest []string, all bool) error {
	fd, err := r.open(at, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return nil
		}
		return fmt.Errorf("list the context: %w", err)
	}
	ns, err := names(fd, make([]byte, 64<<10))
	unix.Close(fd)
	if err != nil {
		return fmt.Errorf("list the context: read %s: %w", at, err)
	}
	for _, n := range ns {
		if ok, err := path.Match(pattern, n.name); err != nil || !ok {
			if err != nil {
				return nil // whoever uses the pattern says so
			}
			continue
		}
		budget := maxLinks
		if strings.ContainsAny(n.name, `*?[\`) { // a name, no pattern: its directory as a whole will do
			w.add(at, true)
			continue
		}
		if err := w.walk(r, at, append([]string{n.name}, rest...), all, &budget); err != nil {
			return err
		}
	}
	return nil
}
