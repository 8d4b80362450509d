package solver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/cache"
	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/tree"
)

// fetch is a file to fetch.
type fetch struct {
	url      string
	checksum digest.Digest // "" if none is asked for
	filename string
	perm     uint32
}

type fetched struct {
	sum      tree.Sum
	content  tree.Content
	modified time.Time
}

func newFetch(op *pb.SourceOp) (fetch, error) {
	f := fetch{url: op.Identifier, filename: op.Attrs[pb.AttrHTTPFilename], perm: 0o600}
	u, err := url.Parse(f.url)
	if err != nil {
		return f, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if f.filename == "" {
		f.filename = path.Base(u.Path)
	}
	if session.CheckPath(f.filename) != nil || path.Base(f.filename) != f.filename {
		f.filename = "download"
	}
	if s := op.Attrs[pb.AttrHTTPChecksum]; s != "" {
		if f.checksum, err = digest.Parse(s); err != nil {
			return f, fmt.Errorf("checksum %q: %w: %w", s, err, errdefs.ErrInvalidArgument)
		}
		if f.checksum.Algorithm() != digest.SHA256 {
			return f, fmt.Errorf("checksum %q: only sha256 can be checked: %w", s, errdefs.ErrNotImplemented)
		}
	}
	if s := op.Attrs[pb.AttrHTTPPerm]; s != "" {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			return f, fmt.Errorf("%s %q: %w: %w", pb.AttrHTTPPerm, s, err, errdefs.ErrInvalidArgument)
		}
		f.perm = uint32(n) & 0o7777
	}
	return f, nil
}

// remoteTree is a tree of the one file, which get fetches when it is needed.
func (s *Solver) remoteTree(f fetch, get func(context.Context) (fetched, error)) *tree.Tree {
	e := tree.Entry{Entry: session.Entry{Path: f.filename, Mode: session.ModeReg | f.perm}}
	return s.opts.Contents.New([]tree.Entry{e}, nil, func(ctx context.Context, t *tree.Tree, _ []int) error {
		got, err := get(ctx)
		if err != nil {
			return err
		}
		e := e
		e.Sum, e.Mtime = got.sum, got.modified.UnixNano()
		t.Set(0, e, got.content)
		return nil
	})
}

// What a record of an address remembers.
const (
	attrETag     = "etag"
	attrModified = "last-modified"
	attrSum      = "sha256"
)

// fetch fetches the file, or finds it here: by its checksum, or because its server says that it has not
// changed.
func (j *job) fetch(ctx context.Context, v *vertex, f fetch) (fetched, error) {
	id := deterministicID("address", f.url)
	rec, ok := j.s.opts.Cache.Get(id)
	if !ok {
		rec = &cache.Record{ID: id}
	}
	known, have := j.s.fetchedBefore(rec)
	if have && f.checksum != "" && f.checksum.Encoded() == rec.Attributes[attrSum] {
		return known, nil
	}
	j.tell(Event{Kind: Started, Vertex: v.digest, Name: v.name})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return fetched{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	// The bytes as they lie there: a server that compresses on the way would change what is hashed.
	req.Header.Set("Accept-Encoding", "identity")
	if have && f.checksum == "" {
		if tag := rec.Attributes[attrETag]; tag != "" {
			req.Header.Set("If-None-Match", tag)
		} else if since := rec.Attributes[attrModified]; since != "" {
			req.Header.Set("If-Modified-Since", since)
		}
	}
	resp, err := j.s.opts.HTTP.Do(req)
	if err != nil {
		return fetched{}, fmt.Errorf("fetch: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && have {
		j.tell(Event{Kind: Cached, Vertex: v.digest, Name: v.name})
		return known, nil
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("fetch %s: the server answers %s", f.url, resp.Status)
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
			err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
		}
		return fetched{}, err
	}
	got, err := j.receive(ctx, v, f, resp)
	if err != nil {
		return fetched{}, err
	}
	sum := digest.NewDigestFromBytes(digest.SHA256, got.sum[:])
	attrs := map[string]string{attrSum: sum.Encoded()}
	if tag := resp.Header.Get("ETag"); tag != "" {
		attrs[attrETag] = tag
	}
	if m := resp.Header.Get("Last-Modified"); m != "" {
		attrs[attrModified] = m
	}
	j.s.opts.Cache.Put(&cache.Record{ID: id, Created: time.Now().UTC(), Description: f.url, Attributes: attrs})
	j.tell(Event{Kind: Done, Vertex: v.digest, Name: v.name})
	return got, nil
}

// receive stores a response's body. What is not what was asked for is not kept.
func (j *job) receive(ctx context.Context, v *vertex, f fetch, resp *http.Response) (fetched, error) {
	w, err := j.s.opts.Contents.Writer()
	if err != nil {
		return fetched{}, err
	}
	body := &counted{r: resp.Body, tell: func(n int64) {
		j.tell(Event{Kind: Status, Vertex: v.digest, Name: f.url, Current: n, Total: max(0, resp.ContentLength)})
	}}
	sum, content, err := w.PutAll(ctx, body)
	if err != nil {
		return fetched{}, errors.Join(fmt.Errorf("fetch %s: %w", f.url, err), w.Abort())
	}
	if got := digest.NewDigestFromBytes(digest.SHA256, sum[:]); f.checksum != "" && got != f.checksum {
		return fetched{}, errors.Join(fmt.Errorf("%s has the checksum %s, not %s: %w", f.url, got, f.checksum, errdefs.ErrInvalidArgument), w.Abort())
	}
	if err := w.Commit(); err != nil {
		return fetched{}, err
	}
	return fetched{sum, content, modified(resp.Header.Get("Last-Modified"))}, nil
}

// modified is the time in a header, or 1970, as BuildKit has it.
func modified(header string) time.Time {
	if t, err := http.ParseTime(header); err == nil {
		return t
	}
	return time.Unix(0, 0)
}

// fetchedBefore gives what a record of an address tells of, if its content is still here.
func (s *Solver) fetchedBefore(rec *cache.Record) (fetched, bool) {
	dgst := digest.NewDigestFromEncoded(digest.SHA256, rec.Attributes[attrSum])
	if dgst.Validate() != nil {
		return fetched{}, false
	}
	var f fetched
	for i := range f.sum {
		n, _ := strconv.ParseUint(dgst.Encoded()[2*i:2*i+2], 16, 8)
		f.sum[i] = byte(n)
	}
	content, ok := s.opts.Contents.Get(f.sum)
	f.content, f.modified = content, modified(rec.Attributes[attrModified])
	return f, ok
}

// counted tells how far it has been read, every megabyte.
type counted struct {
	r       io.Reader
	n, told int64
	tell    func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n-c.told >= 1<<20 || err == io.EOF && c.n > c.told {
		c.told = c.n
		c.tell(c.n)
	}
	return n, err
}
