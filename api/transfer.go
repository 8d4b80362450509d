package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/registry"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/jsonstream"
)

// lines sends Docker's progress: a JSON document a line, each at once. The status is sent with the
// first, so that what fails before it has a status of its own.
type lines struct {
	w     http.ResponseWriter
	mu    sync.Mutex
	begun bool // guarded by mu
}

func newLines(w http.ResponseWriter) *lines { return &lines{w: w} }

func (l *lines) send(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/json")
		l.w.WriteHeader(http.StatusOK)
	}
	c := http.NewResponseController(l.w)
	_ = c.SetWriteDeadline(time.Now().Add(clientPatience)) // of one that is stopped, too
	_ = json.NewEncoder(l.w).Encode(v)                     // a client that has gone is seen by its context
	_ = c.Flush()
	_ = c.SetWriteDeadline(time.Time{}) // the next request on this connection has its own
}

// errorLine is the last line of a progress that failed; "error" is for old clients.
type errorLine struct {
	ErrorDetail jsonstream.Error `json:"errorDetail"`
	Error       string           `json:"error"`
}

// fail sends an error as the last line, or returns it where nothing was sent yet.
func (l *lines) fail(err error) error {
	l.mu.Lock()
	begun := l.begun
	l.mu.Unlock()
	if !begun {
		return err
	}
	l.send(errorLine{jsonstream.Error{Message: message(err)}, message(err)})
	return nil
}

func (s *Server) createImage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if q.Get("fromSrc") != "" {
		return s.importImage(w, r)
	}
	// "pull -a" of old clients leaves the colon behind.
	ref, err := parseName(strings.TrimSuffix(q.Get("fromImage"), ":"), q.Get("tag"))
	if err != nil {
		return err
	}
	o := engine.PullOptions{}
	if o.Credentials, err = credentials(r.Header.Get("X-Registry-Auth")); err != nil {
		return err
	}
	if o.Platform, err = platform(q.Get("platform")); err != nil {
		return err
	}
	lines := newLines(w)
	if reference.IsNameOnly(ref) {
		return s.pullAll(r, ref, o, lines)
	}
	return s.pull(r, ref, o, lines)
}

// pullAll pulls all tags of a repository: what no tag means (Docker's API, "Create an image").
func (s *Server) pullAll(r *http.Request, repository reference.Named, o engine.PullOptions, lines *lines) error {
	tags, err := s.engine.Tags(r.Context(), repository, o.Credentials)
	if err != nil {
		return lines.fail(err)
	}
	if len(tags) == 0 {
		return lines.fail(fmt.Errorf("%s has no tags: %w", reference.FamiliarName(repository), errdefs.ErrNotFound))
	}
	fresh := false
	for _, t := range tags {
		ref, err := reference.WithTag(repository, t)
		if err != nil {
			return lines.fail(err)
		}
		p, err := s.pullOne(r, ref, o, lines)
		if err != nil {
			return lines.fail(err)
		}
		fresh = fresh || p.New
	}
	lines.pulled(repository, fresh)
	return nil
}

// pullName is parseName with the tag that is meant where there is none.
func pullName(name, tag string) (reference.Named, error) {
	ref, err := parseName(name, tag)
	if err != nil {
		return nil, err
	}
	return reference.TagNameOnly(ref), nil
}

// parseName joins the two parameters of a pull or push; a tag may be a digest.
func parseName(name, tag string) (reference.Named, error) {
	switch {
	case tag == "":
	case strings.Contains(tag, ":"):
		name += "@" + tag
	default:
		name += ":" + tag
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, invalid(fmt.Sprintf("invalid reference format: %q: %s", name, err))
	}
	return ref, nil
}

func (s *Server) pull(r *http.Request, ref reference.Named, o engine.PullOptions, lines *lines) error {
	p, err := s.pullOne(r, ref, o, lines)
	if err != nil {
		return lines.fail(err)
	}
	lines.pulled(ref, p.New)
	return nil
}

// pulled is the last line of a pull.
func (l *lines) pulled(ref reference.Named, fresh bool) {
	what := "Image is up to date for "
	if fresh {
		what = "Downloaded newer image for "
	}
	l.send(jsonstream.Message{Status: "Status: " + what + reference.FamiliarString(ref)})
}

// pullOne pulls an image and reports all but the last line.
func (s *Server) pullOne(r *http.Request, ref reference.Named, o engine.PullOptions, lines *lines) (engine.Pulled, error) {
	o.Progress = func(ev registry.Event) { lines.send(pullLine(ev)) }
	tag := ""
	if t, ok := ref.(reference.Tagged); ok {
		tag = t.Tag()
	} else if d, ok := ref.(reference.Digested); ok {
		tag = d.Digest().String()
	}
	begin := sync.OnceFunc(func() {
		lines.send(jsonstream.Message{ID: tag, Status: "Pulling from " + reference.Path(ref)})
	})
	progress := o.Progress
	o.Progress = func(ev registry.Event) { begin(); progress(ev) }
	p, err := s.engine.Pull(r.Context(), ref, o)
	if err != nil {
		return engine.Pulled{}, err
	}
	begin()
	lines.send(jsonstream.Message{Status: "Digest: " + p.Digest.String()})
	return p, nil
}

// stageWords are Docker's.
var stageWords = map[registry.Stage]string{
	registry.Waiting: "Waiting", registry.Downloading: "Downloading", registry.Retrying: "Retrying", registry.Verified: "Verifying Checksum",
	registry.Extracting: "Extracting", registry.Uploading: "Pushing", registry.Exists: "Already exists", registry.Done: "Pull complete",
}

func pullLine(ev registry.Event) jsonstream.Message {
	m := jsonstream.Message{ID: short(ev.Digest.String()), Status: stageWords[ev.Stage]}
	if ev.Stage == registry.Downloading {
		m.Progress = &jsonstream.Progress{Current: ev.Current, Total: ev.Total}
	}
	return m
}

func pushLine(ev registry.Event) jsonstream.Message {
	m := pullLine(ev)
	switch ev.Stage {
	case registry.Waiting:
		m.Status = "Preparing"
	case registry.Uploading:
		m.Progress = &jsonstream.Progress{Current: ev.Current, Total: ev.Total}
	case registry.Mounted:
		m.Status = "Mounted from " + ev.From
	case registry.Exists:
		m.Status = "Layer already exists"
	case registry.Done:
		m.Status = "Pushed"
	}
	return m
}

// push answers 200 at once and reports an error as a line, as Docker does.
func (s *Server) push(w http.ResponseWriter, r *http.Request, name string) error {
	ref, err := pullName(name, r.URL.Query().Get("tag"))
	if err != nil {
		return err
	}
	o := engine.PushOptions{}
	if o.Platform, err = platform(r.URL.Query().Get("platform")); err != nil {
		return err
	}
	if o.Credentials, err = credentials(r.Header.Get("X-Registry-Auth")); err != nil {
		return err
	}
	refs := []reference.Named{ref}
	if bare, err := reference.ParseNormalizedNamed(name); err == nil && reference.IsNameOnly(bare) && r.URL.Query().Get("tag") == "" {
		if refs, err = s.tagsOf(bare); err != nil {
			return err
		}
	}
	lines := newLines(w)
	// First of all: a 401 would have Docker's command line ask for a user name, terminal or not.
	lines.send(jsonstream.Message{Status: "The push refers to repository [" + ref.Name() + "]"})
	o.Progress = func(ev registry.Event) { lines.send(pushLine(ev)) }
	for _, ref := range refs {
		if err := s.pushOne(r.Context(), ref, o, lines); err != nil {
			return err
		}
	}
	return nil
}

// tagsOf are the tags that a repository has here.
func (s *Server) tagsOf(repository reference.Named) (refs []reference.Named, err error) {
	images, err := s.engine.Images()
	if err != nil {
		return nil, err
	}
	for _, i := range images {
		for _, n := range i.Names {
			if _, tagged := n.(reference.Tagged); tagged && n.Name() == repository.Name() {
				refs = append(refs, n)
			}
		}
	}
	if len(refs) == 0 {
		return nil, fmt.Errorf("An image does not exist locally with the tag: %s: %w", reference.FamiliarName(repository), errdefs.ErrNotFound) // Docker's sentence
	}
	return refs, nil
}

// pushOne pushes one tag. Errors are lines.
func (s *Server) pushOne(ctx context.Context, ref reference.Named, o engine.PushOptions, lines *lines) error {
	pushed, err := s.engine.Push(ctx, ref, o)
	if err != nil {
		return lines.fail(err)
	}
	tag := ref.(reference.Tagged).Tag()
	if pushed.InsteadOf != nil { // Docker's client makes a note of it
		err := lines.aux(auxprogress.ManifestPushedInsteadOfIndex{ManifestPushedInsteadOfIndex: true, OriginalIndex: *pushed.InsteadOf, SelectedManifest: pushed.Root})
		if err != nil {
			return err
		}
	}
	lines.send(jsonstream.Message{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, pushed.Root.Digest, pushed.Root.Size)})
	return lines.aux(map[string]any{"Tag": tag, "Digest": pushed.Root.Digest.String(), "Size": pushed.Root.Size})
}

// aux sends what is for programs.
func (l *lines) aux(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return l.fail(err)
	}
	raw := json.RawMessage(b)
	l.send(jsonstream.Message{Aux: &raw})
	return nil
}
