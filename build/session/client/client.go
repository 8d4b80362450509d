package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/session/ignore"
	"github.com/berth-engine/berth/internal/frame"
)

// Options say what the engine may ask for.
type Options struct {
	// Dirs are the local sources, name to directory: "context", "dockerfile", and named contexts.
	Dirs map[string]string
	// Secrets are functions by id that give the secret's bytes when it is asked for.
	Secrets map[string]func() ([]byte, error)
	// Credentials asks the user's configuration and credential helpers; nil means there are none.
	Credentials func(ctx context.Context, host string) (session.Credential, error)
	// Sent is told of every file's bytes as they go (for progress); nil means nobody listens. It is
	// called from several goroutines.
	Sent func(source string, bytes int64)
	// Skipped is told of what is left out of a list: sockets, with a word why. nil means nobody listens.
	Skipped func(source, path, why string)
}

// Client answers the engine.
type Client struct {
	ctx    context.Context
	cancel context.CancelFunc
	w      *frame.Writer
	opts   Options
	work   sync.WaitGroup

	mu    sync.Mutex
	roots map[string]root   // by source; guarded by mu
	lists map[uint64]listed // by the request's id; guarded by mu
}

type listed struct {
	source  string
	root    root
	entries []session.Entry
}

// New returns a Client that writes its answers to w. The caller closes it.
func New(ctx context.Context, w *frame.Writer, opts Options) *Client {
	ctx, cancel := context.WithCancel(ctx)
	return &Client{ctx: ctx, cancel: cancel, w: w, opts: opts, roots: map[string]root{}, lists: map[uint64]listed{}}
}

// Close ends what is still going on and waits for it. What hangs in a write ends when the connection
// is closed, which is to be done first.
func (c *Client) Close() error {
	c.cancel()
	c.work.Wait()
	var errs []error
	for _, r := range c.roots {
		errs = append(errs, r.close())
	}
	c.roots = nil
	return errors.Join(errs...)
}

// Handle takes one frame for which session.FromEngine is true. It returns at once; the payload may be
// used again afterwards. An error means that the engine does not speak this protocol.
func (c *Client) Handle(kind frame.Kind, payload []byte) error {
	switch kind {
	case session.ListRequestFrame:
		return start(c, payload, func(r session.ListRequest) (uint64, error) { return r.ID, c.list(r) })
	case session.FilesRequestFrame:
		return start(c, payload, func(r session.FilesRequest) (uint64, error) { return r.ID, c.files(r) })
	case session.SecretRequestFrame:
		return start(c, payload, func(r session.SecretRequest) (uint64, error) { return r.ID, c.secret(r) })
	case session.CredentialRequestFrame:
		return start(c, payload, func(r session.CredentialRequest) (uint64, error) { return r.ID, c.credential(r) })
	}
	return fmt.Errorf("the engine sent a frame of kind %d, which this program does not know", kind)
}

// start decodes a request and answers it on a goroutine of its own, with a Failure where f fails.
func start[R any](c *Client, payload []byte, f func(R) (id uint64, err error)) error {
	var req R
	if err := json.Unmarshal(payload, &req); err != nil {
		return fmt.Errorf("the engine sent a request that makes no sense: %w", err)
	}
	c.work.Go(func() {
		if id, err := f(req); err != nil {
			_ = c.w.WriteJSON(session.FailedFrame, session.Failure{ID: id, Text: err.Error(), NotFound: errors.Is(err, fs.ErrNotExist)})
			// A connection that can't be written to is found out by whoever reads from it.
		}
	})
	return nil
}

func (c *Client) root(source string) (root, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.roots[source]; ok {
		return r, nil
	}
	dir, ok := c.opts.Dirs[source]
	if !ok {
		return root{}, fmt.Errorf("there is no build context named %q: %w", source, fs.ErrNotExist)
	}
	r, err := openRoot(dir)
	if err != nil {
		return root{}, fmt.Errorf("build context %q: %w", source, err)
	}
	c.roots[source] = r
	return r, nil
}

// listChunk is how many bytes of a list go into one frame.
const listChunk = 1 << 20

func (c *Client) list(req session.ListRequest) error {
	r, err := c.root(req.Source)
	if err != nil {
		return err
	}
	exclude, err := ignore.New(req.Exclude)
	if err != nil {
		return fmt.Errorf(".dockerignore: %w", err)
	}
	var only *wanted
	for _, p := range req.Files {
		only = new(wanted).orIfNil(only)
		if err := only.follow(r, p, false); err != nil {
			return err
		}
	}
	for _, p := range req.Follow {
		only = new(wanted).orIfNil(only)
		if err := only.follow(r, p, true); err != nil {
			return err
		}
	}
	entries, err := list(c.ctx, r, only, exclude, func(path, why string) {
		if c.opts.Skipped != nil {
			c.opts.Skipped(req.Source, path, why)
		}
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.lists[req.ID] = listed{req.Source, r, entries}
	c.mu.Unlock()
	return c.sendList(req.ID, entries)
}

func (w *wanted) orIfNil(old *wanted) *wanted {
	if old != nil {
		return old
	}
	return w
}

func (c *Client) sendList(id uint64, entries []session.Entry) error {
	head := binary.AppendUvarint(nil, id)
	b := append([]byte(nil), head...)
	prev := &session.Entry{}
	for i := range entries {
		b = session.AppendEntry(b, &entries[i], prev)
		prev = &entries[i]
		if len(b) >= listChunk {
			if err := c.w.Write(session.ListFrame, b); err != nil {
				return err
			}
			b = append(b[:0], head...)
		}
	}
	if len(b) > len(head) {
		if err := c.w.Write(session.ListFrame, b); err != nil {
			return err
		}
	}
	return c.w.Write(session.ListFrame, head)
}

func (c *Client) secret(req session.SecretRequest) error {
	get, ok := c.opts.Secrets[req.Name]
	if !ok {
		return c.w.WriteJSON(session.SecretFrame, session.Secret{ID: req.ID})
	}
	data, err := get()
	if err != nil {
		return fmt.Errorf("secret %q: %w", req.Name, err)
	}
	return c.w.WriteJSON(session.SecretFrame, session.Secret{ID: req.ID, Found: true, Data: data})
}

func (c *Client) credential(req session.CredentialRequest) error {
	var cred session.Credential
	if c.opts.Credentials != nil {
		var err error
		if cred, err = c.opts.Credentials(c.ctx, req.Host); err != nil {
			return fmt.Errorf("credentials for %s: %w", req.Host, err)
		}
	}
	cred.ID = req.ID
	return c.w.WriteJSON(session.CredentialFrame, cred)
}

// SourceID names a directory of this client for the engine's memory of it: the same directory of the
// same machine and user has the same id.
func SourceID(dir string) string {
	host, _ := os.ReadFile("/etc/machine-id") // two machines without one are told apart by their files' inodes and times
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return string(host) + " " + strconv.Itoa(os.Getuid()) + " " + dir
}
