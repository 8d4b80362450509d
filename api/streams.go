package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/internal/detachkeys"
	"github.com/berth-engine/berth/internal/jsonlog"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types"
	dockercontainer "github.com/moby/moby/api/types/container"
)

// hijacked is a connection that has left HTTP.
type hijacked struct {
	net.Conn
	in *bufio.Reader // what HTTP had read ahead, then the connection
}

// hijack takes the connection over, and answers 101 where the client asked to upgrade, else 200 (old
// clients).
func hijack(w http.ResponseWriter, r *http.Request, mediaType string) (*hijacked, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("this connection can't carry a stream: %w", err)
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + mediaType + "\r\n\r\n"
	if up := r.Header.Get("Upgrade"); up != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + mediaType + "\r\nConnection: Upgrade\r\nUpgrade: " + up + "\r\n\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		conn.Close()
		return nil, err
	}
	return &hijacked{conn, rw.Reader}, nil
}

// drainMax is how much stdin of a client that goes on sending is thrown away, in bytes.
const drainMax = 16 << 20

// finish ends the output, and waits until the client has ended its input: unread input would make the
// kernel reset the connection, and the client lose what it has not read yet.
func (h *hijacked) finish() {
	h.finishWith(func() { _, _ = io.CopyN(io.Discard, h.in, drainMax) }) // ends with the client
}

// finishWith is finish where somebody else reads the input: drain returns when the client has gone.
// Two readers of a connection are one too many (net/http panics).
func (h *hijacked) finishWith(drain func()) {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() == nil {
			drain()
		}
	}
	h.Conn.Close()
}

// finishWithin is finishWith for a client that is given only so long to go.
func (h *hijacked) finishWithin(patience time.Duration, drain func()) {
	_ = h.SetReadDeadline(time.Now().Add(patience)) // a connection that is closed has nobody to wait for
	h.finishWith(drain)
}

// multiplexed writes Docker's stream format: a header of eight bytes (stream, three zeros, length),
// then the data.
type multiplexed struct {
	w    io.Writer
	kind runtime.Kind
}

func (m multiplexed) Write(p []byte) (int, error) {
	frame := make([]byte, 8, 8+len(p))
	frame[0] = byte(m.kind)
	binary.BigEndian.PutUint32(frame[4:], uint32(len(p)))
	if _, err := m.w.Write(append(frame, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// outputs are where a process's streams go: multiplexed, or everything raw with a terminal.
func outputs(w io.Writer, tty bool) (stdout, stderr io.Writer) {
	if tty {
		return w, w
	}
	return multiplexed{w, runtime.Stdout}, multiplexed{w, runtime.Stderr}
}

func mediaType(tty bool, v version) string {
	if !tty && !v.before(42) {
		return types.MediaTypeMultiplexedStream
	}
	return types.MediaTypeRawStream
}

// pump carries stdin to a process and its output back until one of them ends. ended is told how the
// process ended before the client learns it; where the client left first, whole is false.
func pump(h *hijacked, stream *runtime.Stream, stdin, tty bool, keys []byte, ended func(runtime.Exit)) (whole bool) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		carryStdin(h, stream, stdin, tty, keys)
	}()
	stdout, stderr := outputs(h, tty)
	exit, err := stream.Copy(stdout, stderr)
	if err == nil {
		ended(exit)
	}
	h.finishWith(func() { <-gone })
	return err == nil
}

// carryStdin reads what the client types. The keys that detach end the stream.
func carryStdin(h *hijacked, stream *runtime.Stream, stdin, tty bool, keys []byte) {
	var in io.Reader = h.in
	if tty {
		in = detachkeys.Reader(h.in, keys)
	}
	if !stdin {
		_, _ = io.Copy(io.Discard, in) // ends with the client
		return
	}
	_, err := io.Copy(stream, in)
	switch {
	case errors.Is(err, detachkeys.ErrDetached):
		stream.Close()
	case err == nil:
		_ = stream.CloseWrite() // the process has ended
	default: // it has ended, and the client goes on typing
		_, _ = io.CopyN(io.Discard, h.in, drainMax) // ends with the client
	}
}

// parseDetachKeys reads what a client asks for; "" is the default.
func parseDetachKeys(keys string) ([]byte, error) {
	if keys == "" {
		keys = detachkeys.Default
	}
	parsed, err := detachkeys.Parse(keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return parsed, nil
}

func (s *Server) attachContainer(w http.ResponseWriter, r *http.Request) error {
	q, id := r.URL.Query(), r.PathValue("id")
	c, err := s.engine.Inspect(id)
	if err != nil {
		return err
	}
	keys, err := parseDetachKeys(q.Get("detachKeys"))
	if err != nil {
		return err
	}
	o := runtime.AttachOptions{Stdin: truth(q, "stdin", false) && c.Config.Process.OpenStdin, Stdout: truth(q, "stdout", false), Stderr: truth(q, "stderr", false)}
	tty := c.Config.Process.TTY
	var h *hijacked
	ready := func() (err error) {
		if h, err = hijack(w, r, mediaType(tty, versionOf(r))); err != nil {
			return err
		}
		if truth(q, "logs", false) {
			return s.copyLogs(r.Context(), c, jsonlog.ReadOptions{Stdout: o.Stdout, Stderr: o.Stderr, Tail: -1}, h, false)
		}
		return nil
	}
	if !truth(q, "stream", false) {
		if err := ready(); err != nil {
			return s.afterHijack(h, err)
		}
		h.finish()
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context())) // a hijacked request's context says nothing of the client
	defer cancel()
	stream, err := s.engine.Attach(ctx, id, o, ready)
	if err != nil {
		return s.afterHijack(h, err)
	}
	defer stream.Close()
	pump(h, stream, o.Stdin, tty, keys, func(runtime.Exit) {})
	return nil
}

// afterHijack deals with an error that comes when the status is sent: the connection ends.
func (s *Server) afterHijack(h *hijacked, err error) error {
	if h == nil {
		return err
	}
	s.log.Debug("stream ended", "error", err)
	h.finish()
	return nil
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	c, err := s.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	o := jsonlog.ReadOptions{Stdout: truth(q, "stdout", false), Stderr: truth(q, "stderr", false), Follow: truth(q, "follow", false), Tail: -1}
	if !o.Stdout && !o.Stderr {
		return invalid("Bad parameters: you must choose at least one stream")
	}
	if o.Since, err = moment(q.Get("since")); err != nil {
		return err
	}
	if o.Until, err = moment(q.Get("until")); err != nil {
		return err
	}
	if tail := q.Get("tail"); tail != "" && tail != "all" {
		n, _, err := number(q, "tail")
		if err != nil {
			return err
		}
		o.Tail = n
	}
	out := &flushing{w: w}
	out.header = func() {
		w.Header().Set("Content-Type", mediaType(c.Config.Process.TTY, versionOf(r)))
		w.WriteHeader(http.StatusOK)
	}
	err = s.copyLogs(r.Context(), c, o, out, truth(q, "timestamps", false))
	if err != nil && !out.begun && r.Context().Err() == nil {
		return err
	}
	out.begin()
	return nil
}

// flushing sends every write at once, and the header with the first, or when begin is called.
type flushing struct {
	w      http.ResponseWriter
	header func()
	begun  bool
}

func (f *flushing) begin() {
	if !f.begun {
		f.begun = true
		f.header()
		_ = http.NewResponseController(f.w).Flush() // the client has gone
	}
}

func (f *flushing) Write(p []byte) (int, error) {
	f.begin()
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

func (s *Server) copyLogs(ctx context.Context, c engine.Container, o jsonlog.ReadOptions, w io.Writer, timestamps bool) error {
	log, tty, err := s.engine.Logs(c.ID, o)
	if err != nil {
		return err
	}
	defer log.Close()
	if f, ok := w.(*flushing); ok && o.Follow {
		f.begin()
	}
	stdout, stderr := outputs(w, tty)
	for {
		entry, err := log.Next(ctx)
		if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		to := stdout
		if entry.Stream == "stderr" {
			to = stderr
		}
		line := entry.Line
		if timestamps {
			line = append([]byte(entry.Time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00")+" "), line...)
		}
		if _, err := to.Write(line); err != nil {
			return nil // the client has gone
		}
	}
}

func (s *Server) createExec(w http.ResponseWriter, r *http.Request) error {
	var in dockercontainer.ExecCreateRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	if _, err := parseDetachKeys(in.DetachKeys); err != nil {
		return err
	}
	cfg := engine.ExecConfig{
		Cmd: in.Cmd, Env: in.Env, User: in.User, WorkingDir: in.WorkingDir, TTY: in.Tty, Privileged: in.Privileged,
		AttachStdin: in.AttachStdin, AttachStdout: in.AttachStdout, AttachStderr: in.AttachStderr, DetachKeys: in.DetachKeys,
	}
	if in.ConsoleSize != nil {
		cfg.Height, cfg.Width = uint16(in.ConsoleSize[0]), uint16(in.ConsoleSize[1])
	}
	id, err := s.engine.CreateExec(r.Context(), r.PathValue("id"), cfg)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, dockercontainer.ExecCreateResponse{ID: id})
}

// startExec: the exit code is recorded before the end of the stream is sent, because the client asks
// for it right after.
func (s *Server) startExec(w http.ResponseWriter, r *http.Request) error {
	var in dockercontainer.ExecStartRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	id := r.PathValue("id")
	run, err := s.engine.InspectExec(id)
	if err != nil {
		return err
	}
	if in.ConsoleSize != nil {
		s.engine.SizeExec(id, runtime.Size{Height: uint16(in.ConsoleSize[0]), Width: uint16(in.ConsoleSize[1])})
	}
	keys, err := parseDetachKeys(run.Config.DetachKeys)
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(r.Context())
	stream, ended, err := s.engine.StartExec(ctx, id, in.Detach)
	if err != nil {
		if now, gone := s.engine.InspectExec(id); gone == nil && run.ExitCode == nil && now.ExitCode != nil && !in.Detach && r.Header.Get("Upgrade") != wire.ExecProtocol {
			return neverRan(w, r, run.Config.TTY, err)
		}
		return err
	}
	defer stream.Close()
	if in.Detach {
		s.engine.FollowExec(id, ended)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	h, err := hijack(w, r, mediaType(run.Config.TTY, versionOf(r)))
	if err != nil {
		s.engine.FollowExec(id, ended)
		return err
	}
	if !pump(h, stream, run.Config.AttachStdin, run.Config.TTY, keys, ended) {
		s.engine.FollowExec(id, ended)
	}
	return nil
}

// neverRan tells a client of Docker's why its process could not be started. Such a client takes any status that
// is not the stream's for a broken connection: it reads the reason as output, and the exit code from inspect
// (moby, postContainerExecStart).
func neverRan(w http.ResponseWriter, r *http.Request, tty bool, reason error) error {
	h, err := hijack(w, r, mediaType(tty, versionOf(r)))
	if err != nil {
		return err
	}
	stdout, _ := outputs(h, tty)
	_, _ = io.WriteString(stdout, message(reason)+"\r\n") // the client has gone
	h.finish()
	return nil
}

func (s *Server) resizeExec(w http.ResponseWriter, r *http.Request) error {
	size, err := sizeOf(r)
	if err != nil {
		return err
	}
	if err := s.engine.ResizeExec(r.Context(), r.PathValue("id"), size); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) inspectExec(w http.ResponseWriter, r *http.Request) error {
	x, err := s.engine.InspectExec(r.PathValue("id"))
	if err != nil {
		return err
	}
	cfg := x.Config
	return answer(w, http.StatusOK, dockercontainer.ExecInspectResponse{
		ID: x.ID, Running: x.Running, ExitCode: x.ExitCode, Pid: x.Pid, ContainerID: x.ContainerID,
		OpenStdin: cfg.AttachStdin, OpenStdout: cfg.AttachStdout, OpenStderr: cfg.AttachStderr, DetachKeys: []byte(cfg.DetachKeys),
		ProcessConfig: &dockercontainer.ExecProcessConfig{Tty: cfg.TTY, Entrypoint: cfg.Cmd[0], Arguments: cfg.Cmd[1:], Privileged: &cfg.Privileged, User: cfg.User},
	})
}
