package server

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/frame"
)

// Session is the engine's end of a connection to a client that has local sources. It is a
// solver.Source. Its methods may be called concurrently, Deliver by the connection's reader only.
type Session struct {
	w       *frame.Writer
	store   *Store
	sources map[string]string
	gone    chan struct{}

	patience time.Duration // patience, or what a test has
	heard    atomic.Int64  // when the client said something last, nanoseconds since 1970

	mu      sync.Mutex
	next    uint64             // id of the next request; guarded by mu
	waiting map[uint64]waiting // requests that are not answered yet; guarded by mu
	closed  error              // guarded by mu
}

// waiting is a request that waits for its answer. Exactly one of fail and the last take is its end.
type waiting interface {
	// take gets a frame's payload after the request's id, or a JSON answer; it says whether that was all.
	take(kind frame.Kind, payload []byte) (done bool, err error)
	fail(err error)
}

// New returns the engine's half. Requests are written to w. sources are the names of local sources that
// the client has, each with an id of client and root by which files are remembered. The caller calls
// Deliver for each frame for which session.FromClient is true, and Close when the connection ends.
func New(w *frame.Writer, store *Store, sources map[string]string) *Session {
	return &Session{w: w, store: store, sources: sources, gone: make(chan struct{}), waiting: map[uint64]waiting{}, patience: patience}
}

// patience is how long a client may say nothing while something that it was asked for is waited for: it may have to
// ask its user something.
const patience = 5 * time.Minute

// await waits until a request is answered, or ctx ends. A client that is stopped, or hangs, is waited for no longer
// than its patience after it has said something.
func (s *Session) await(ctx context.Context, result <-chan error) error {
	begun := time.Now()
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-result:
			return err
		case <-timer.C:
		}
		left := s.patience - time.Since(begun)
		if heard := s.patience - time.Since(time.Unix(0, s.heard.Load())); heard > left {
			left = heard
		}
		if left <= 0 {
			return fmt.Errorf("the client that asked for the build has not answered for %v: it is stopped, or hangs: %w", s.patience, errdefs.ErrUnavailable)
		}
		timer.Reset(left)
	}
}

var _ solver.Source = (*Session)(nil)

// ErrGone is wrapped by the errors of a session whose client has gone.
var ErrGone = errors.New("the client that asked for the build has gone")

// Close fails every request that still waits. It may be called more than once.
func (s *Session) Close() error {
	s.mu.Lock()
	if s.closed != nil {
		s.mu.Unlock()
		return nil
	}
	s.closed = ErrGone
	close(s.gone)
	all := s.waiting
	s.waiting = map[uint64]waiting{}
	s.mu.Unlock()
	for _, w := range all {
		w.fail(ErrGone)
	}
	return nil
}

// Gone is closed by Close.
func (s *Session) Gone() <-chan struct{} { return s.gone }

// register gives the request an id.
func (s *Session) register(w waiting) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return 0, s.closed
	}
	s.next++
	s.waiting[s.next] = w
	return s.next, nil
}

func (s *Session) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// Deliver takes a frame. An error means that the client does not speak this protocol; the connection is
// then to be closed.
func (s *Session) Deliver(kind frame.Kind, payload []byte) error {
	id, rest, err := address(kind, payload)
	if err != nil {
		return err
	}
	s.heard.Store(time.Now().UnixNano())
	s.mu.Lock()
	w, ok := s.waiting[id]
	s.mu.Unlock()
	if !ok {
		return nil // of a request that was given up meanwhile
	}
	if kind == session.FailedFrame {
		var f session.Failure
		if err := json.Unmarshal(rest, &f); err != nil {
			return fmt.Errorf("a frame of kind %d: %w", kind, err)
		}
		s.forget(id)
		w.fail(failure(f))
		return nil
	}
	done, err := w.take(kind, rest)
	if done || err != nil {
		s.forget(id)
	}
	if err != nil {
		w.fail(err)
	}
	return nil
}

func failure(f session.Failure) error {
	if f.NotFound {
		return fmt.Errorf("%s: %w", f.Text, errdefs.ErrNotFound)
	}
	return errors.New(f.Text)
}

// address finds out which request a frame answers.
func address(kind frame.Kind, payload []byte) (uint64, []byte, error) {
	switch kind {
	case session.ListFrame, session.FilesFrame:
		id, n := binary.Uvarint(payload)
		if n <= 0 {
			return 0, nil, fmt.Errorf("a frame of kind %d without an address", kind)
		}
		return id, payload[n:], nil
	case session.FailedFrame, session.SecretFrame, session.CredentialFrame:
		var a struct{ ID uint64 }
		if err := json.Unmarshal(payload, &a); err != nil {
			return 0, nil, fmt.Errorf("a frame of kind %d: %w", kind, err)
		}
		return a.ID, payload, nil
	}
	return 0, nil, fmt.Errorf("the client sent a frame of kind %d, which this engine does not know", kind)
}

// answer is a request that is answered with one frame, or with many that are put together.
type answer struct {
	kind   frame.Kind
	result chan error
	got    []byte
}

// maxList is how many bytes an encoded list may have.
const maxList = 512 << 20

func (a *answer) take(kind frame.Kind, payload []byte) (bool, error) {
	if kind != a.kind {
		return false, fmt.Errorf("the client answers with a frame of kind %d, not %d", kind, a.kind)
	}
	if kind == session.ListFrame && len(payload) > 0 {
		if len(a.got)+len(payload) > maxList {
			return false, fmt.Errorf("the list of the context is longer than %d bytes: %w", maxList, errdefs.ErrInvalidArgument)
		}
		a.got = append(a.got, payload...)
		return false, nil
	}
	if kind != session.ListFrame {
		a.got = append(a.got, payload...)
	}
	a.result <- nil
	return true, nil
}

func (a *answer) fail(err error) { a.result <- err }

// ask sends a request that send writes, and waits for its answer.
func (s *Session) ask(ctx context.Context, kind frame.Kind, send func(id uint64) error) (uint64, []byte, error) {
	a := &answer{kind: kind, result: make(chan error, 2)}
	id, err := s.register(a)
	if err != nil {
		return 0, nil, err
	}
	defer s.forget(id)
	if err := send(id); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err := s.await(ctx, a.result); err != nil {
		return 0, nil, err
	}
	return id, a.got, nil
}

// Secret asks for a secret.
func (s *Session) Secret(ctx context.Context, name string) ([]byte, error) {
	_, b, err := s.ask(ctx, session.SecretFrame, func(id uint64) error {
		return s.w.WriteJSON(session.SecretRequestFrame, session.SecretRequest{ID: id, Name: name})
	})
	if err != nil {
		return nil, err
	}
	var secret session.Secret
	if err := json.Unmarshal(b, &secret); err != nil {
		return nil, err
	}
	if !secret.Found {
		return nil, fmt.Errorf("secret %q: %w", name, errdefs.ErrNotFound)
	}
	return secret.Data, nil
}

// Credential asks what to say to a registry.
func (s *Session) Credential(ctx context.Context, host string) (solver.Credential, error) {
	_, b, err := s.ask(ctx, session.CredentialFrame, func(id uint64) error {
		return s.w.WriteJSON(session.CredentialRequestFrame, session.CredentialRequest{ID: id, Host: host})
	})
	if err != nil {
		return solver.Credential{}, err
	}
	var c session.Credential
	if err := json.Unmarshal(b, &c); err != nil {
		return solver.Credential{}, err
	}
	return solver.Credential{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}, nil
}

// Files is a tree of these files only, loaded.
func (s *Session) Files(ctx context.Context, source string, paths []string) (*tree.Tree, error) {
	list, entries, err := s.list(ctx, session.ListRequest{Source: source, Files: paths})
	if err != nil {
		return nil, err
	}
	t := s.store.Contents.New(entries, nil, s.loader(source, list, nil, false, nil))
	all := make([]int, len(entries))
	for i := range all {
		all[i] = i
	}
	return t, t.Load(ctx, all)
}

// Tree is the tree of a local source. What the store already has of it is known from the start.
func (s *Session) Tree(ctx context.Context, source string, opts solver.TreeOptions) (*tree.Tree, error) {
	if err := s.store.Contents.Ready(); err != nil {
		return nil, err
	}
	list, entries, err := s.list(ctx, session.ListRequest{Source: source, Follow: opts.Follow, Exclude: opts.Exclude})
	if err != nil {
		return nil, err
	}
	k := s.store.get(s.sources[source])
	t := s.store.Contents.New(entries, nil, s.loader(source, list, k, len(opts.Follow) == 0, opts.Progress))
	k.apply(t)
	return t, nil
}

func (s *Session) list(ctx context.Context, req session.ListRequest) (uint64, []tree.Entry, error) {
	if _, ok := s.sources[req.Source]; !ok {
		return 0, nil, fmt.Errorf("there is no build context named %q: %w", req.Source, errdefs.ErrNotFound)
	}
	id, b, err := s.ask(ctx, session.ListFrame, func(id uint64) error {
		req.ID = id
		return s.w.WriteJSON(session.ListRequestFrame, req)
	})
	if err != nil {
		return 0, nil, err
	}
	list, err := session.DecodeList(b)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	entries := make([]tree.Entry, len(list))
	for i := range list {
		entries[i].Entry = list[i]
	}
	return id, entries, nil
}
