package localtar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Write writes source, and what is below it, as a tar whose entries begin with name ("." for none of
// their own). Symbolic links are kept, hard links among the files too; sockets are left out. Capabilities
// of files are kept, other attributes are not.
func Write(w io.Writer, source, name string) error {
	t := &writer{tar: tar.NewWriter(w), links: map[inode]string{}}
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		if rel != "." {
			return t.entry(p, name+"/"+rel) // "./x" too, as others write it
		}
		return t.entry(p, name)
	})
	if err != nil {
		return err
	}
	return t.tar.Close()
}

type inode struct{ dev, ino uint64 }

type writer struct {
	tar   *tar.Writer
	links map[inode]string // names that were written of files with several
}

func (t *writer) entry(file, name string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	h.Name, h.Format = name, tar.FormatPAX
	h.Uname, h.Gname = "", ""
	if info.IsDir() {
		h.Name += "/"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && !info.IsDir() && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := t.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return t.tar.WriteHeader(h)
		}
		t.links[key] = name
	}
	if !info.Mode().IsRegular() {
		return t.tar.WriteHeader(h)
	}
	return t.file(file, h)
}

func (t *writer) file(file string, h *tar.Header) error {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if c, err := capability(f); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	} else if c != "" {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": c}
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t.tar, io.LimitReader(f, h.Size))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if n < h.Size {
		return fmt.Errorf("%s became shorter while it was read", file)
	}
	return nil
}

func capability(f *os.File) (string, error) {
	buf := make([]byte, 64)
	n, err := unix.Fgetxattr(int(f.Fd()), "security.capability", buf)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("its capabilities could not be read: %w", err)
	}
	return string(buf[:n]), nil
}
