package layer

import (
	"archive/tar"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/inroot"
)

// openBeneath opens path ("" is root itself) below root as O_PATH: no link is followed, and no device
// or FIFO opened for more than its name. What a container can write is opened in no other way first.
func openBeneath(root *os.File, path string) (*os.File, error) {
	return inroot.Beneath(root, path, unix.O_PATH)
}

// fdPath is a path of an open file that is short, free of commas and colons, and leads to the very
// file, even where it is a symbolic link that was opened with O_PATH.
func fdPath(f *os.File) string { return procPath(int(f.Fd())) }

// attributes are what a layer says of a file, besides its name and content.
type attributes struct {
	st     unix.Stat_t
	xattrs []xattr // that a layer carries, sorted by name
	others []string
	opaque bool // a directory that hides what is below
}

type xattr struct{ name, value string }

const xattrOpaque = "trusted.overlay.opaque"

// attributesOf reads them of an open file (O_PATH will do).
func attributesOf(f *os.File) (attributes, error) {
	var a attributes
	if err := unix.Fstat(int(f.Fd()), &a.st); err != nil {
		return a, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	names, err := listxattr(f)
	if err != nil {
		return a, err
	}
	for _, name := range names {
		if !carried(name) && name != xattrOpaque {
			a.others = append(a.others, name)
			continue
		}
		value, err := getxattr(f, name)
		switch {
		case errors.Is(err, unix.ENODATA): // gone meanwhile
		case err != nil:
			return a, &os.PathError{Op: "read the attribute " + name + " of", Path: f.Name(), Err: err}
		case name == xattrOpaque:
			// "x" says that there may be whiteouts in the form of attributes, which no engine makes.
			a.opaque = value == "y"
			a.others = append(a.others, name)
		default:
			a.xattrs = append(a.xattrs, xattr{name, value})
		}
	}
	slices.SortFunc(a.xattrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return a, nil
}

// bytes is what the lists of extended attributes hold in memory.
func (a attributes) bytes() int64 {
	n := 0
	for _, x := range a.xattrs {
		n += len(x.name) + len(x.value)
	}
	for _, name := range a.others {
		n += len(name)
	}
	return int64(n)
}

// carried says whether a layer carries an attribute of this name: not what belongs to overlayfs, and of
// security.* capabilities only (labels and hashes are the host's).
func carried(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		return false
	case strings.HasPrefix(name, "security."):
		return name == "security.capability"
	}
	return true
}

// maxXattrs is the size of the longest list, and of the longest value (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const maxXattrs = 64 << 10

func listxattr(f *os.File) ([]string, error) {
	buf := make([]byte, 512)
	for {
		n, err := unix.Listxattr(fdPath(f), buf)
		switch {
		case err == unix.EOPNOTSUPP || n == 0 && err == nil:
			return nil, nil
		case err == nil:
			return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
		case err != unix.ERANGE || len(buf) >= maxXattrs:
			return nil, &os.PathError{Op: "list the attributes of", Path: f.Name(), Err: err}
		}
		buf = make([]byte, maxXattrs)
	}
}

func getxattr(f *os.File, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Getxattr(fdPath(f), name, buf)
		if err == nil {
			return string(buf[:n]), nil
		}
		if err != unix.ERANGE || len(buf) >= maxXattrs {
			return "", err
		}
		buf = make([]byte, maxXattrs)
	}
}

// same says whether two directories are alike in all that a layer says of them, but for times.
func (a attributes) same(b attributes) bool {
	return a.st.Mode == b.st.Mode && a.st.Uid == b.st.Uid && a.st.Gid == b.st.Gid && slices.Equal(a.xattrs, b.xattrs)
}

// header is the tar header of a file of these attributes. Its time is in whole seconds.
func (a attributes) header(name string) *tar.Header {
	h := &tar.Header{
		Format:  tar.FormatPAX,
		Name:    name,
		Mode:    int64(a.st.Mode & 0o7777),
		Uid:     int(a.st.Uid),
		Gid:     int(a.st.Gid),
		ModTime: time.Unix(int64(a.st.Mtim.Sec), 0), // towards the past, as the kernel rounds
	}
	switch a.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case unix.S_IFREG:
		h.Typeflag = tar.TypeReg
		h.Size = a.st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if a.st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor = int64(unix.Major(a.st.Rdev))
		h.Devminor = int64(unix.Minor(a.st.Rdev))
	}
	for _, x := range a.xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+x.name] = x.value
	}
	return h
}

func isDir(mode uint32) bool     { return mode&unix.S_IFMT == unix.S_IFDIR }
func isRegular(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFREG }
func isSocket(mode uint32) bool  { return mode&unix.S_IFMT == unix.S_IFSOCK }

// isWhiteout: overlayfs.rst, "whiteouts and opaque directories".
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
