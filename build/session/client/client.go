package client

import (
	"context"
	"errors"

	"github.com/berth-engine/berth/build/session"
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
	w    *frame.Writer
	opts Options
}

// New returns a Client that writes its answers to w.
func New(ctx context.Context, w *frame.Writer, opts Options) *Client {
	return &Client{w, opts}
}

// Handle takes one frame for which session.FromEngine is true. It returns at once; the payload may be
// used again afterwards. An error means that the engine does not speak this protocol.
func (c *Client) Handle(kind frame.Kind, payload []byte) error {
	return errors.New("build session: not built yet")
}

// Close ends what is still going on and waits for it.
func (c *Client) Close() error { return nil }

// SourceID names a directory of this client for the engine's memory of it: the same directory of the
// same machine and user has the same id.
func SourceID(dir string) string { return dir }
