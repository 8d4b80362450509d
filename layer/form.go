package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/mountinfo"
)

// Form is how the kernel is given a layer.
type Form string

const (
	// Auto takes the first of the others that works here, in their order.
	Auto Form = ""
	// Direct mounts the layer file itself (Linux 6.12 and later; not from tmpfs or an overlay).
	Direct Form = "direct"
	// Loop mounts the layer file through a read-only loop device.
	Loop Form = "loop"
	// Dir unpacks the layer into a directory beside its file. It costs the disk twice.
	Dir Form = "dir"
)

// form makes the tree of a layer file appear at a directory. What it mounts is read-only, nosuid,
// nodev and noexec, and gone with umount2(2): there is nothing else to undo.
type form interface {
	name() Form
	// mount mounts o at target. The error wraps errNoForm where this form can't work here.
	mount(ctx context.Context, o object, target string) error
	// made says whether m is what mount makes of a layer file, whose unpacked directory is dir.
	made(m mountinfo.Mount, file, dir string) bool
	// directIO says whether what is read is in the page cache once only.
	directIO() bool
	// notes say what the form costs here, a sentence each.
	notes() []string
}

// errNoForm is wrapped where a form cannot work on this machine, so that the next is tried.
var errNoForm = errors.New("not possible here")

const layerMountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// forms are the forms that may be used, best first, until the first that works is the only one.
type forms struct {
	all []form

	mu      sync.Mutex
	choice  []form   // guarded by mu; the forms still in question
	settled bool     // guarded by mu: choice[0] has mounted something
	refused []string // guarded by mu; why the better ones are not in use
}

// newForms returns the forms that f allows. unpacked is where the directory form keeps trees, tmp
// where it makes them.
func newForms(f Form, unpacked, tmp string) (*forms, error) {
	all := []form{&direct{}, &loop{}, &dir{unpacked: unpacked, tmp: tmp}}
	if f == Auto {
		return &forms{all: all, choice: all}, nil
	}
	for _, one := range all {
		if one.name() == f {
			return &forms{all: all, choice: []form{one}}, nil
		}
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("storage form %q is not one of direct, loop and dir", string(f)))
}

// mount mounts o at target in the first form that works. The first mount of all is the question to
// the kernel what it takes: nothing is probed before.
func (fs *forms) mount(ctx context.Context, o object, target string) error {
	var errs []error
	for _, f := range fs.candidates() {
		err := f.mount(ctx, o, target)
		if err == nil {
			fs.settle(f, errs)
			return nil
		}
		errs = append(errs, fmt.Errorf("form %s: %w", f.name(), err))
		if !errors.Is(err, errNoForm) {
			break
		}
	}
	return errors.Join(errs...)
}

func (fs *forms) candidates() []form {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.choice
}

// settle makes f, which works, the one in use. refused are the errors of those before it.
func (fs *forms) settle(f form, refused []error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.settled {
		return
	}
	fs.settled, fs.choice = true, []form{f}
	for _, err := range refused {
		fs.refused = append(fs.refused, err.Error())
	}
}

// used returns the form in use and why no better one is, nil before the first mount.
func (fs *forms) used() (form, []string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.settled {
		return nil, nil
	}
	return fs.choice[0], fs.refused
}

// made says whether m is a mount of the layer file in any form: one that was made when the engine ran
// in another form is as good.
func (fs *forms) made(m mountinfo.Mount, file, dir string) bool {
	for _, f := range fs.all {
		if f.made(m, file, dir) {
			return true
		}
	}
	return false
}

// unsupported wraps err in errNoForm where it says that the kernel, or this engine in it, can't.
func unsupported(err error) error {
	for _, no := range []unix.Errno{unix.ENODEV, unix.ENOTBLK, unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENXIO, unix.ENOENT} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", errNoForm, err)
		}
	}
	return err
}

// directIO says whether the file system below path takes direct reads at each 512 bytes, where the
// content of a layer's files begins. Where it does not, such reads would fail long after the mount.
func directIO(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_DIOALIGN, &st)
	return err == nil && st.Mask&unix.STATX_DIOALIGN != 0 && fineGrained(st.Dio_offset_align)
}

// fineGrained: 0 means no direct I/O at all (statx(2)).
func fineGrained(align uint32) bool { return align > 0 && align <= 512 }

// direct mounts the file itself.
type direct struct {
	mu       sync.Mutex
	buffered string // guarded by mu; why reads are buffered, "" where they are direct
}

func (*direct) name() Form { return Direct }

func (d *direct) mount(_ context.Context, o object, target string) error {
	var err error = unix.EINVAL
	if directIO(o.file) {
		err = unix.Mount(o.file, target, "erofs", layerMountFlags, "directio")
		d.note("the kernel's erofs does not know directio", err == unix.EINVAL)
	} else {
		d.note("the disk below takes no direct reads at 512 bytes", true)
	}
	if err == unix.EINVAL {
		err = unix.Mount(o.file, target, "erofs", layerMountFlags, "")
	}
	if err != nil {
		return unsupported(&os.PathError{Op: "mount", Path: o.file, Err: err})
	}
	return nil
}

func (d *direct) note(why string, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.buffered = ""; is {
		d.buffered = why
	}
}

func (*direct) made(m mountinfo.Mount, file, _ string) bool {
	return m.FSType == "erofs" && m.Source == file
}

func (d *direct) directIO() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buffered == ""
}

func (d *direct) notes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.buffered == "" {
		return nil
	}
	return []string{"what is read from layers is in the page cache twice: " + d.buffered}
}

// loop mounts the file through a loop device that goes with the mount.
type loop struct {
	buffered atomic.Bool // the disk below takes no direct reads
}

func (*loop) name() Form { return Loop }

func (l *loop) mount(_ context.Context, o object, target string) error {
	dio := directIO(o.file)
	l.buffered.Store(!dio)
	dev, err := attachLoop(o.file, dio)
	if err != nil {
		return unsupported(err)
	}
	defer dev.Close() // the mount holds the device from here on, and the device lets go with it
	if err := unix.Mount(dev.Name(), target, "erofs", layerMountFlags, ""); err != nil {
		return unsupported(&os.PathError{Op: "mount", Path: dev.Name(), Err: err})
	}
	return nil
}

// attachLoop makes a free loop device a read-only view of the file. Closing it detaches what was not
// mounted.
func attachLoop(file string, dio bool) (*os.File, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 512}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	if dio {
		config.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file)
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, &os.PathError{Op: "find a free loop device", Path: control.Name(), Err: err}
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) { // else somebody took it between the two calls
			return nil, &os.PathError{Op: "configure", Path: dev.Name(), Err: err}
		}
	}
}

func (*loop) made(m mountinfo.Mount, file, _ string) bool {
	if m.FSType != "erofs" || filepath.Dir(m.Source) != "/dev" {
		return false
	}
	backing, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(m.Source), "loop/backing_file"))
	return err == nil && string(backing) == file+"\n"
}

func (l *loop) directIO() bool { return !l.buffered.Load() }

func (l *loop) notes() []string {
	notes := []string{"each mounted layer takes a loop device"}
	if l.buffered.Load() {
		notes = append(notes, "what is read from layers is in the page cache twice: the disk below takes no direct reads at 512 bytes")
	}
	return notes
}
