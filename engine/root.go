package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/bootid"
	"github.com/berth-engine/berth/internal/mountinfo"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// namespaceFile in the exec root says in which mount namespace its engine ran, and in which uptime of the machine.
const namespaceFile = "mount-namespace"

// enterNamespace notes in which mount namespace this engine runs. It refuses another one than that of the engine
// before it, as long as anybody is in that: what is mounted there is not seen here, and can't be unmounted from here.
// The exec root's lock is held.
func (e *Engine) enterNamespace() error {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	uptime, err := bootid.Read()
	if err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	path := filepath.Join(e.opts.ExecRoot, namespaceFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mount namespace: %w", err)
	}
	before, at, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if before == own && at == uptime {
		return nil
	}
	if at == uptime {
		if pid := somebodyIn(before); pid != 0 {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the engine before this one ran in another mount namespace, and what it mounted below %s can't be seen from this one: start the engine there, as in nsenter --mount=/proc/%d/ns/mnt berthd",
				e.opts.ExecRoot, pid))
		}
	}
	return atomicfile.Write(path, []byte(own+" "+uptime+"\n"), 0o600, atomicfile.Volatile)
}

// somebodyIn is a process in a mount namespace; 0 where none is seen.
func somebodyIn(namespace string) int {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)); err == nil && ns == namespace {
			return pid
		}
	}
	return 0
}

// shareExecRoot has other mount namespaces see what is unmounted below the exec root: in those that were made as
// copies of this one layers would else stay mounted, and removed ones keep their room on the disk. Where the file
// system that the exec root is on is not shared already (init systems other than systemd leave it private), the exec
// root becomes a mount of its own that is. The exec root's lock is held.
func (e *Engine) shareExecRoot() error {
	root, err := filepath.EvalSymlinks(e.opts.ExecRoot)
	if err != nil {
		return err
	}
	at, err := mountOf(root)
	if err != nil || at.shared {
		return err
	}
	if at.path != root {
		if at.below {
			return nil // an earlier engine's mounts: they would be hidden
		}
		if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
			return &fs.PathError{Op: "bind mount", Path: root, Err: err}
		}
	}
	if err := unix.Mount("", root, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return &fs.PathError{Op: "share mounts below", Path: root, Err: err}
	}
	return nil
}

// leaveNamespace lets the next engine run in any mount namespace, where nothing is left that could need this one. It
// tells whether that is so. The exec root's lock is held.
func (e *Engine) leaveNamespace() (left bool, err error) {
	for _, c := range e.all() {
		if c.State().Status.Active() {
			return false, nil
		}
	}
	root, err := filepath.EvalSymlinks(e.opts.ExecRoot)
	if err != nil {
		return false, err
	}
	at, err := mountOf(root)
	if err != nil || at.below {
		return false, err
	}
	return true, os.Remove(filepath.Join(root, namespaceFile))
}

// unshareExecRoot takes away the mount that shareExecRoot made, unless it is in use. Nothing of the engine is open
// below it any more.
func (e *Engine) unshareExecRoot() error {
	root, err := filepath.EvalSymlinks(e.opts.ExecRoot)
	if err != nil {
		return err
	}
	var own, parent unix.Stat_t
	if err := errors.Join(unix.Stat(root, &own), unix.Stat(filepath.Dir(root), &parent)); err != nil {
		return err
	}
	if own.Dev != parent.Dev {
		return nil // somebody else's mount
	}
	err = unix.Unmount(root, unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBUSY) { // no mount point; in use
		return &fs.PathError{Op: "unmount", Path: root, Err: err}
	}
	return nil
}

// mountPlace is what the mount table says of a path.
type mountPlace struct {
	path   string // where the file system that the path is on is mounted
	shared bool   // its mounts and unmounts are seen in other mount namespaces
	below  bool   // something is mounted below the path
}

// mountOf looks a path without symbolic links up in the mount table (proc_pid_mountinfo(5)).
func mountOf(path string) (mountPlace, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountPlace{}, err
	}
	return placeIn(string(table), path), nil
}

func placeIn(table, path string) mountPlace {
	var place mountPlace
	for line := range strings.Lines(table) {
		m, ok := mountinfo.Parse(line)
		if !ok {
			continue
		}
		if strings.HasPrefix(m.Path, path+"/") {
			place.below = true
		}
		covers := m.Path == "/" || m.Path == path || strings.HasPrefix(path, m.Path+"/")
		if covers && len(m.Path) >= len(place.path) { // of several at one place the last one is on top
			place.path, place.shared = m.Path, m.Shared
		}
	}
	return place
}
