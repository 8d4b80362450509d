package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/protocol"
)

// Reconnect finds the container's shim after a restart of the engine.
//
// Where there is none any more, the error is an *EndedError with what the exit record says (its kind is
// errdefs.ErrNotFound). A container whose shim was lost is killed by its cgroup first; its Exit has Lost set.
// cgroup is where the container would be if it runs (its configuration's; "": the launcher's usual one): it is looked
// at where dir has no record, or a damaged one. Where nothing is in it either (the container was never started, or the
// machine was), Exit is nil in the error.
//
// What does not answer, or cannot be killed, within ten seconds is left as it is; the error is a
// context.DeadlineExceeded.
func (l *Launcher) Reconnect(ctx context.Context, id, dir, cgroup string) (*Shim, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.patience, errSilent)
	defer cancel()
	s, err := l.reconnect(ctx, id, dir)
	if !isAbsent(err) {
		return s, err
	}
	left := !errors.Is(err, fs.ErrNotExist) // a socket of one that is gone; else one that comes now is a new shim's
	cgroup = l.cgroupOr(cgroup, id)
	_, err = protocol.ReadRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		stays, err := l.staysIn(ctx, cgroup)
		if err == nil && !stays && left {
			err = removeSocket(dir) // of a shim that was lost before it made the record
		}
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", id, err)
		}
		if !stays {
			return nil, &EndedError{ID: id}
		}
	}
	exit, err := l.lost(ctx, id, dir, cgroup)
	if err != nil {
		return nil, err
	}
	return nil, &EndedError{ID: id, Exit: &exit}
}

// How long a shim may take to answer, and what is killed to go.
const patience = 10 * time.Second

var errSilent = fmt.Errorf("no answer, or no end, in time: %w", context.DeadlineExceeded)

// ending is how long what goes by itself may take: processes in a cgroup that no record knows of (those of a warm slot
// whose engine has just ended), and the cgroup of those that were killed.
const ending = time.Second

// staysIn tells whether there are processes in the cgroup that do not go by themselves.
func (l *Launcher) staysIn(ctx context.Context, name string) (bool, error) {
	g, err := l.group(name)
	if errors.Is(err, cgroup.ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for begun := time.Now(); ; {
		pids, err := g.Procs()
		if err != nil || len(pids) == 0 || time.Since(begun) > ending {
			return len(pids) > 0, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// reconnect asks the shim to say when the container ends. One that is starting its container just now answers when it
// has, or goes away.
func (l *Launcher) reconnect(ctx context.Context, id, dir string) (*Shim, error) {
	conn, err := dial(dir)
	if err != nil {
		return nil, err
	}
	m, err := ask(ctx, conn, protocol.Watch, nil)
	var state protocol.State
	if err == nil {
		err = m.Decode(&state)
	}
	if err == nil && state.Exited != nil {
		exit := exitOf(*state.Exited)
		err = &EndedError{ID: id, Exit: &exit}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s := newShim(ctx, l, id, dir, conn)
	s.pid, s.started, s.cgroup = state.Pid, state.Started, state.Cgroup
	s.watch()
	return s, nil
}

// lost ends a container whose shim is gone: its exit record says how it ended or, where the shim was killed, the
// container is killed by its cgroup and the record written. What the shim would have taken away goes: its socket, or
// the next shim could not listen, and the cgroup, which may be frozen. cgroup is for where the record is not there, or
// damaged.
func (l *Launcher) lost(ctx context.Context, id, dir, cgroup string) (Exit, error) {
	if err := removeSocket(dir); err != nil {
		return Exit{}, fmt.Errorf("container %s lost its shim: %w", id, err)
	}
	r, err := protocol.ReadRecord(dir)
	if err == nil && r.Exit != nil {
		return exitOf(*r.Exit), nil
	}
	if err != nil {
		r = protocol.Record{ID: id, Cgroup: cgroup}
	}
	if err := l.killGroup(ctx, r.Cgroup); err != nil {
		return Exit{}, fmt.Errorf("container %s lost its shim and cannot be killed: %w", id, err)
	}
	within, cancel := context.WithTimeout(ctx, ending)
	defer cancel()
	_ = l.removeGroup(within, r.Cgroup) // Destroy tries again
	r.Exit = &protocol.ExitReport{Status: 137, At: time.Now(), Lost: true}
	if err := writeRecord(dir, r); err != nil {
		return Exit{}, fmt.Errorf("container %s: %w", id, err)
	}
	return exitOf(*r.Exit), nil
}

// writeRecord writes the record in the shim's place. A run-time directory that is gone needs none.
func writeRecord(dir string, r protocol.Record) error {
	f, err := protocol.OpenRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = protocol.CreateRecord(dir, r)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Write(r), f.Close())
}

// Destroy kills what is left of a container (processes, cgroup, shim), whatever its state, and waits until
// it is gone. A shim that has not ended within ten seconds, because it is stopped or hangs, is killed itself. What is
// still there ten seconds later is left; the error is a context.DeadlineExceeded then. It is idempotent; dir itself
// stays. Of a container that has ended the shim is left alone: it ends when the streams that are attached have been read.
// cgroup is the container's (Reconnect), for where dir has no record, or a damaged one.
func (l *Launcher) Destroy(ctx context.Context, id, dir, cgroup string) error {
	r, err := protocol.ReadRecord(dir)
	if err != nil {
		r = protocol.Record{Cgroup: l.cgroupOr(cgroup, id)}
	}
	return l.destroy(ctx, id, dir, r)
}

func (l *Launcher) destroy(ctx context.Context, id, dir string, r protocol.Record) error {
	err := l.patiently(ctx, func(ctx context.Context) error { return l.end(ctx, id, dir, r) })
	if errors.Is(err, errSilent) {
		err = l.patiently(ctx, func(ctx context.Context) error {
			if err := l.killShim(ctx, id, dir); err != nil {
				return err
			}
			return l.end(ctx, id, dir, r)
		})
	}
	if err != nil {
		return err
	}
	return l.patiently(ctx, func(ctx context.Context) error { return l.clear(ctx, id, dir, r) })
}

// patiently does what ends with its context, which ends after the launcher's patience: the error is errSilent then.
func (l *Launcher) patiently(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.patience, errSilent)
	defer cancel()
	return do(ctx)
}

// end kills a container and waits until its shim has reported the end.
func (l *Launcher) end(ctx context.Context, id, dir string, r protocol.Record) error {
	if err := l.killGroup(ctx, r.Cgroup); err != nil {
		return fmt.Errorf("kill container %s: %w", id, err)
	}
	if r.Exit != nil {
		return nil
	}
	return l.outlive(ctx, id, dir)
}

// clear removes what a container that has ended has left.
func (l *Launcher) clear(ctx context.Context, id, dir string, r protocol.Record) error {
	err := errors.Join(l.removeGroup(ctx, r.Cgroup), removeSocket(dir), remove(filepath.Join(dir, protocol.RecordName)))
	if err != nil {
		return fmt.Errorf("remove what is left of container %s: %w", id, err)
	}
	return nil
}

// removeSocket removes the name at which a shim listened that is gone.
func removeSocket(dir string) error { return remove(filepath.Join(dir, protocol.SocketName)) }

// remove removes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// outlive waits until the shim of a killed container has reported its end.
func (l *Launcher) outlive(ctx context.Context, id, dir string) error {
	s, err := l.reconnect(ctx, id, dir)
	var ended *EndedError
	if isAbsent(err) || errors.As(err, &ended) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end of container %s: %w", id, err)
	}
	defer func() { _ = s.Close() }()
	_, err = s.Wait(ctx)
	return err
}

// abandon ends a shim whose start failed or was given up, and all that it has made.
func (l *Launcher) abandon(ctx context.Context, p *shimProcess, cfg *Config) error {
	p.kill()
	err := p.conn.Close()
	return errors.Join(err, l.destroy(context.WithoutCancel(ctx), cfg.ID, cfg.Dir, protocol.Record{Cgroup: l.cgroupOf(cfg.Spec, cfg.ID)}))
}

// isHangup tells whether an error of a connection says that the other side went away.
func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}
