package erofs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"
)

// file is all that can be known of one path of a tree.
type file struct {
	Path     string
	Mode     uint32 // type and permissions
	UID, GID uint32
	Size     int64  // of regular files
	Rdev     uint64 // of devices
	Sec      int64
	Nsec     int64
	Nlink    int
	Content  string            // regular: itself, or its sha256; symlink: the target
	Xattrs   map[string]string // nil where there are none
	Same     string            // the first path with the same inode, where that is another one
}

const defaultTime = 1_000_000_000

// String is short for what is usual, so that tests can say what they expect.
func (f file) String() string {
	var b strings.Builder
	kind := map[uint32]string{modeFile: "f", modeDir: "d", modeSymlink: "l", modeChar: "c", modeBlock: "b", modeFIFO: "p"}[f.Mode&modeType]
	fmt.Fprintf(&b, "%s %s %o %d:%d", kind, f.Path, f.Mode&modePerm, f.UID, f.GID)
	switch kind {
	case "f":
		fmt.Fprintf(&b, " %q", f.Content)
	case "l":
		fmt.Fprintf(&b, " -> %s", f.Content)
	case "c", "b":
		fmt.Fprintf(&b, " %d,%d", unix.Major(f.Rdev), unix.Minor(f.Rdev))
	}
	if f.Sec != defaultTime || f.Nsec != 0 {
		fmt.Fprintf(&b, " @%d.%09d", f.Sec, f.Nsec)
	}
	if kind != "d" && f.Nlink != 1 {
		fmt.Fprintf(&b, " links=%d", f.Nlink)
	}
	if f.Same != "" {
		fmt.Fprintf(&b, " same=%s", f.Same)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		fmt.Fprintf(&b, " %s=%q", name, f.Xattrs[name])
	}
	return b.String()
}

// listDir lists a tree as the kernel shows it.
func listDir(t testing.TB, dir string) []file {
	t.Helper()
	var list []file
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f := file{
			Path: name, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec, Nlink: int(st.Nlink),
		}
		switch st.Mode & modeType {
		case modeFile:
			f.Size = st.Size
			r, err := os.Open(path)
			if err != nil {
				return err
			}
			defer r.Close()
			if f.Content, err = content(r, st.Size); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		case modeSymlink:
			if f.Content, err = os.Readlink(path); err != nil {
				return err
			}
			if st.Size != int64(len(f.Content)) {
				return fmt.Errorf("%s: a link of %d bytes says %d", path, len(f.Content), st.Size)
			}
		case modeChar, modeBlock:
			f.Rdev = st.Rdev
		}
		if f.Xattrs, err = xattrsOf(path); err != nil {
			return err
		}
		if st.Mode&modeType != modeDir {
			if _, ok := first[st.Ino]; ok {
				f.Same = first[st.Ino]
			} else {
				first[st.Ino] = name
			}
		}
		list = append(list, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sorted(list)
}

func sorted(list []file) []file {
	slices.SortFunc(list, func(a, b file) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// content is what is read, if it is short; sparse files can be huge, and are looked at elsewhere.
func content(r io.Reader, size int64) (string, error) {
	if size > 1<<30 {
		return "(huge)", nil
	}
	if size <= 100 {
		b, err := io.ReadAll(r)
		if err == nil && int64(len(b)) != size {
			err = fmt.Errorf("%d bytes of %d", len(b), size)
		}
		return string(b), err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes of %d", n, size)
	}
	return fmt.Sprintf("sha256:%x", hash.Sum(nil)), err
}

func xattrsOf(path string) (map[string]string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: path, Err: err}
	}
	var set map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.ENODATA) && !strings.HasPrefix(name, "user.") {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		if set == nil {
			set = map[string]string{}
		}
		set[name] = string(value[:n])
	}
	return set, nil
}

// listImage lists a layer file as github.com/erofs/go-erofs reads it.
func listImage(t testing.TB, r io.ReaderAt) []file {
	t.Helper()
	list, err := readImage(r)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readImage(r io.ReaderAt) ([]file, error) {
	image, err := goerofs.Open(r)
	if err != nil {
		return nil, err
	}
	var list []file
	first := map[int64]string{}
	err = fs.WalkDir(image, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*goerofs.Stat)
		if !ok {
			return fmt.Errorf("%s: Sys is a %T", path, info.Sys())
		}
		f := file{
			Path: path, UID: st.UID, GID: st.GID, Sec: int64(st.Mtime), Nsec: int64(st.MtimeNs), Nlink: st.Nlink,
			Mode: unixMode(st.Mode),
		}
		switch f.Mode & modeType {
		case modeFile:
			f.Size = st.Size
			r, err := image.Open(path)
			if err != nil {
				return err
			}
			defer r.Close()
			if f.Content, err = content(r, st.Size); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		case modeSymlink:
			if f.Content, err = image.(fs.ReadLinkFS).ReadLink(path); err != nil {
				return err
			}
		case modeChar, modeBlock:
			minor := st.Rdev&0xff | st.Rdev>>12&0xfff00
			f.Rdev = unix.Mkdev(st.Rdev>>8&0xfff, minor)
		}
		for name, value := range st.Xattrs {
			if f.Xattrs == nil {
				f.Xattrs = map[string]string{}
			}
			if strings.HasPrefix(name, "system.posix_acl") {
				name = strings.TrimSuffix(name, ".") // its own name for them
			}
			f.Xattrs[name] = value
		}
		if f.Mode&modeType != modeDir {
			if _, ok := first[st.Ino]; ok {
				f.Same = first[st.Ino]
			} else {
				first[st.Ino] = path
			}
		}
		list = append(list, f)
		return nil
	})
	return sorted(list), err
}

func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, to := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= to
		}
	}
	switch m.Type() {
	case 0:
		return mode | modeFile
	case fs.ModeDir:
		return mode | modeDir
	case fs.ModeSymlink:
		return mode | modeSymlink
	case fs.ModeNamedPipe:
		return mode | modeFIFO
	case fs.ModeDevice:
		return mode | modeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		return mode | modeChar
	}
	return 0
}
