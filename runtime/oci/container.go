package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/berth-engine/berth/internal/plainfile"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/specjson"
)

// container is one that is known below --root: a directory named by its id.
//
//	state.json    what is in record
//	config.json   the configuration as it was at create
//	start         a FIFO: the child waits for a byte in it (until start)
//	started       a FIFO: its writing end closes when the child executes the program
//	script        the script that the child plays, and how it failed
type container struct {
	dir    string
	record record
	spec   *specs.Spec
	joined *cgroup.Group // once it is known
}

// record is what must be known of a container later.
type record struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	PidStart    uint64            `json:"pidStart"` // clock ticks after boot, so that a pid that is used again is noticed
	Bundle      string            `json:"bundle"`
	Created     time.Time         `json:"created"`
	Cgroup      string            `json:"cgroup,omitempty"`
	More        []string          `json:"controllers,omitempty"` // version 1 controllers beside the usual ones
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       int               `json:"owner"`
}

const (
	stateFile  = "state.json"
	configFile = "config.json"
	startFIFO  = "start"
	doneFIFO   = "started"
	scriptFile = "script"
)

var errNoContainer = errors.New("container does not exist")

// dirOf is the directory of a container; an id is a name and nothing else.
func (p *program) dirOf(id string) (string, error) {
	if id == "" || len(id) > 255 || id == "." || id == ".." || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.") != "" {
		return "", fmt.Errorf("container id %q: letters, digits and _ + - . are allowed", id)
	}
	return filepath.Join(p.root, id), nil
}

// find reads the container's record and configuration.
func (p *program) find(id string) (*container, error) {
	dir, err := p.dirOf(id)
	if err != nil {
		return nil, err
	}
	c := &container{dir: dir}
	b, err := plainfile.Read(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("container %q: %w", id, errNoContainer)
	}
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	if err := json.Unmarshal(b, &c.record); err != nil {
		return nil, fmt.Errorf("container %q: its record is damaged: %w", id, err)
	}
	if c.spec, err = readSpec(filepath.Join(dir, configFile)); err != nil {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	return c, nil
}

func readSpec(path string) (*specs.Spec, error) {
	b, err := plainfile.Read(path)
	if err != nil {
		return nil, err
	}
	spec, err := specjson.Spec(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return spec, nil
}

func (c *container) write() error {
	return replace(filepath.Join(c.dir, stateFile), c.record.json(), 0o600)
}

// json writes the record. (encoding/json would look at the types first, which every start would pay for.)
func (r *record) json() []byte {
	b := []byte(`{"ociVersion":`)
	b = appendString(b, r.Version)
	b = appendString(append(b, `,"id":`...), r.ID)
	b = strconv.AppendInt(append(b, `,"pid":`...), int64(r.Pid), 10)
	b = strconv.AppendUint(append(b, `,"pidStart":`...), r.PidStart, 10)
	b = appendString(append(b, `,"bundle":`...), r.Bundle)
	b = appendString(append(b, `,"created":`...), r.Created.Format(time.RFC3339Nano))
	b = strconv.AppendInt(append(b, `,"owner":`...), int64(r.Owner), 10)
	if r.Cgroup != "" {
		b = appendString(append(b, `,"cgroup":`...), r.Cgroup)
	}
	for i, name := range r.More {
		b = append(b, [2]string{`,"controllers":[`, `,`}[min(i, 1)]...)
		b = appendString(b, name)
	}
	if len(r.More) > 0 {
		b = append(b, ']')
	}
	i := 0
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		b = append(b, [2]string{`,"annotations":{`, `,`}[min(i, 1)]...)
		b = append(appendString(b, key), ':')
		b = appendString(b, r.Annotations[key])
		i++
	}
	if i > 0 {
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s { // what is no UTF-8 becomes U+FFFD, as in encoding/json
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// replace replaces a small file; whoever reads it finds the old or the new. Nothing is synced: what is here ends with
// the machine's uptime. (internal/atomicfile would link the hash functions, which every start pays for.)
func replace(path string, content []byte, mode fs.FileMode) error {
	temporary := path + ".new" + strconv.Itoa(os.Getpid())
	if err := plainfile.Write(temporary, content, mode); err != nil {
		return errors.Join(err, os.RemoveAll(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// status is as the specification names it.
func (c *container) status() specs.ContainerState {
	if !c.alive() {
		return specs.StateStopped
	}
	if _, err := os.Stat(filepath.Join(c.dir, startFIFO)); err == nil {
		return specs.StateCreated
	}
	return specs.StateRunning
}

// alive says whether the container's own first process is there. A zombie is not.
func (c *container) alive() bool {
	state, start, err := processStat(c.record.Pid)
	return err == nil && state != 'Z' && state != 'X' && start == c.record.PidStart
}

// processStat reads what is needed of /proc/PID/stat (proc_pid_stat(5)): the state, field 3, and the start time,
// field 22. The name in field 2 may contain anything.
func processStat(pid int) (state byte, start uint64, err error) {
	if pid <= 0 {
		return 0, 0, unix.ESRCH
	}
	b, err := plainfile.Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	text := string(b)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], start, err
}

// pidfd opens the container's first process, surely that one.
func (c *container) pidfd() (*os.File, error) {
	fd, err := unix.PidfdOpen(c.record.Pid, 0)
	if err != nil {
		return nil, fmt.Errorf("container %q is not running", c.record.ID)
	}
	if !c.alive() { // after it was opened: what is alive now is what was opened
		unix.Close(fd)
		return nil, fmt.Errorf("container %q is not running", c.record.ID)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// group is the container's cgroup, nil where it has none.
func (c *container) group() (*cgroup.Group, error) {
	if c.record.Cgroup == "" || c.joined != nil {
		return c.joined, nil
	}
	system, err := cgroup.Find()
	if err != nil {
		return nil, err
	}
	c.joined, err = system.Group(c.record.Cgroup, c.record.More...)
	return c.joined, err
}

// state is what hooks and `state` get.
func (c *container) state(status specs.ContainerState) specs.State {
	s := specs.State{Version: specs.Version, ID: c.record.ID, Status: status, Pid: c.record.Pid, Bundle: c.record.Bundle, Annotations: c.record.Annotations}
	if status == specs.StateStopped {
		s.Pid = 0
	}
	return s
}

// destroy removes whatever of the container is there: its processes, its cgroup, its directory. It may be called any number
// of times, however far the container's making got.
func (c *container) destroy(ctx context.Context) error {
	var errs []error
	if f, err := c.pidfd(); err == nil {
		_ = unix.PidfdSendSignal(int(f.Fd()), unix.SIGKILL, nil, 0) // it may just have ended
		errs = append(errs, gone(ctx, f), f.Close())
	}
	g, err := c.group()
	if err != nil && !errors.Is(err, cgroup.ErrNone) {
		errs = append(errs, err)
	}
	if g != nil && err == nil {
		errs = append(errs, g.Kill(ctx), g.Destroy(ctx))
	}
	errs = append(errs, c.removeDir())
	return errors.Join(errs...)
}

// removeDir removes the container's directory; for what is in that of most, without a walk. The record goes first: what
// has none is swept (delete --force), should this be cut short.
func (c *container) removeDir() error {
	for _, name := range []string{stateFile, configFile} {
		_ = unix.Unlink(filepath.Join(c.dir, name)) // if it stays, so does the directory
	}
	if unix.Rmdir(c.dir) == nil {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// gone waits until a process has ended.
func gone(ctx context.Context, pidfd *os.File) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}, 1000)
		if n > 0 || err != nil && err != unix.EINTR {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
