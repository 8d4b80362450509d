package api

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/image/archive"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/storage"
)

// cutLast splits "library/app/json" into the image and what is wanted of it: image names have slashes.
func cutLast(path string) (name, what string) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return "", path
	}
	return path[:at], path[at+1:]
}

func (s *Server) getImage(w http.ResponseWriter, r *http.Request) error {
	name, what := cutLast(r.PathValue("name"))
	switch what {
	case "json":
		return s.inspectImage(w, r, name)
	case "history":
		return s.history(w, name)
	case "get":
		return s.save(w, r, []string{name})
	}
	return fmt.Errorf("page not found: berth doesn't have GET /images/%s yet: %w", r.PathValue("name"), errdefs.ErrNotFound)
}

func (s *Server) postImage(w http.ResponseWriter, r *http.Request) error {
	name, what := cutLast(r.PathValue("name"))
	switch what {
	case "push":
		return s.push(w, r, name)
	case "tag":
		return s.tag(w, r, name)
	}
	return fmt.Errorf("page not found: berth doesn't have POST /images/%s yet: %w", r.PathValue("name"), errdefs.ErrNotFound)
}

// names are an image's tags and digests, as people write them.
func names(i engine.Image) (tags, digests []string) {
	tags, digests = []string{}, []string{}
	for _, n := range i.Names {
		if _, ok := n.(reference.Digested); ok {
			digests = append(digests, reference.FamiliarString(n))
		} else {
			tags = append(tags, reference.FamiliarString(n))
		}
	}
	return tags, digests
}

func (s *Server) inspectImage(w http.ResponseWriter, r *http.Request, name string) error {
	i, err := s.engine.InspectImage(name)
	if err != nil {
		return err
	}
	tags, digests := names(i)
	out := image.InspectResponse{
		ID: i.ID.String(), RepoTags: tags, RepoDigests: digests, Author: i.Config.Author, Config: &i.Config.Config, Architecture: i.Config.Architecture,
		Variant: i.Config.Variant, Os: i.Config.OS, OsVersion: i.Config.OSVersion, Size: i.Size, RootFS: image.RootFS{Type: "layers"},
		Metadata: image.Metadata{LastTagTime: i.Added}, GraphDriver: &storage.DriverData{Name: driver, Data: map[string]string{}},
	}
	if i.Config.Created != nil {
		out.Created = i.Config.Created.Format(time.RFC3339Nano)
	}
	if h := i.Config.History; len(h) > 0 {
		out.Comment = h[len(h)-1].Comment
	}
	for _, d := range i.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
	if versionOf(r).before(44) { // until then the size was also there by its old name
		return answer(w, http.StatusOK, struct {
			image.InspectResponse
			VirtualSize int64
			Parent      string
		}{out, i.Size, i.Parent.String()})
	}
	out.Descriptor = i.Manifest
	return answer(w, http.StatusOK, out)
}

func (s *Server) listImages(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label", "label!", "before", "since", "reference", "until")
	if err != nil {
		return err
	}
	all, err := s.engine.Images()
	if err != nil {
		return err
	}
	match, err := s.matchImage(f)
	if err != nil {
		return err
	}
	list := []*image.Summary{}
	for _, i := range all {
		if !match(i) {
			continue
		}
		if len(f["reference"]) > 0 { // the other names of the image are not asked for
			i.Names = slices.DeleteFunc(slices.Clone(i.Names), func(n reference.Named) bool { return !f.reference(n) })
		}
		list = append(list, summarize(i))
	}
	if truth(r.URL.Query(), "shared-size", false) {
		u, err := s.engine.Usage(r.Context())
		if err != nil {
			return err
		}
		for i, sum := range list {
			list[i].SharedSize = u.SharedOf(sum.ID)
		}
	}
	if versionOf(r).before(44) {
		type old struct {
			*image.Summary
			VirtualSize int64
		}
		olds := []old{}
		for _, sum := range list {
			olds = append(olds, old{sum, sum.Size})
		}
		return answer(w, http.StatusOK, olds)
	}
	return answer(w, http.StatusOK, list)
}

func summarize(i engine.Image) *image.Summary {
	tags, digests := names(i)
	sum := &image.Summary{
		ID: i.ID.String(), ParentID: i.Parent.String(), RepoTags: tags, RepoDigests: digests, Labels: i.Config.Config.Labels,
		Size: i.Size, SharedSize: -1, Containers: int64(i.Containers), Created: createdAt(i).Unix(),
	}
	return sum
}

func createdAt(i engine.Image) time.Time {
	if i.Config.Created != nil {
		return *i.Config.Created
	}
	return time.Unix(0, 0)
}

func (s *Server) matchImage(f filters) (func(engine.Image) bool, error) {
	dangling, given, err := f.boolean("dangling")
	if err != nil {
		return nil, err
	}
	edge := map[string]time.Time{}
	for _, name := range []string{"before", "since"} {
		for v := range f[name] {
			i, err := s.engine.InspectImage(v)
			if err != nil {
				return nil, err
			}
			edge[name] = createdAt(i)
		}
	}
	until, err := f.until()
	if err != nil {
		return nil, err
	}
	return func(i engine.Image) bool {
		tags, _ := names(i)
		at := createdAt(i)
		if given && dangling != (len(tags) == 0) {
			return false
		}
		if t, ok := edge["before"]; ok && !at.Before(t) {
			return false
		}
		if t, ok := edge["since"]; ok && !at.After(t) {
			return false
		}
		if !until.IsZero() && at.After(until) {
			return false
		}
		return f.labels(i.Config.Config.Labels) && (len(f["reference"]) == 0 || slices.ContainsFunc(i.Names, f.reference))
	}, nil
}

// reference tells whether a name is asked for.
func (f filters) reference(n reference.Named) bool {
	return f.any("reference", func(pattern string) bool {
		return glob(pattern, reference.FamiliarString(n)) || glob(pattern, reference.FamiliarName(n))
	})
}

func (s *Server) history(w http.ResponseWriter, name string) error {
	lines, err := s.engine.History(name)
	if err != nil {
		return err
	}
	list := []image.HistoryResponseItem{}
	for _, l := range lines {
		item := image.HistoryResponseItem{ID: "<missing>", CreatedBy: l.History.CreatedBy, Comment: l.History.Comment, Size: l.Size, Tags: l.Tags}
		if l.ID != "" {
			item.ID = l.ID.String()
		}
		if l.History.Created != nil {
			item.Created = l.History.Created.Unix()
		}
		list = append(list, item)
	}
	return answer(w, http.StatusOK, list)
}

func (s *Server) tag(w http.ResponseWriter, r *http.Request, name string) error {
	q := r.URL.Query()
	to := q.Get("repo")
	if t := q.Get("tag"); t != "" {
		to += ":" + t
	}
	if err := s.engine.Tag(name, to); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) removeImage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	removed, err := s.engine.RemoveImage(r.PathValue("name"), truth(q, "force", false))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, deleted(removed))
}

func deleted(removed []engine.RemovedImage) []image.DeleteResponse {
	list := []image.DeleteResponse{}
	for _, d := range removed {
		list = append(list, image.DeleteResponse{Untagged: d.Untagged, Deleted: d.Deleted})
	}
	return list
}

func (s *Server) pruneImages(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "until", "label", "label!")
	if err != nil {
		return err
	}
	dangling, given, err := f.boolean("dangling")
	if err != nil {
		return err
	}
	until, err := f.until()
	if err != nil {
		return err
	}
	p, err := s.engine.PruneImages(r.Context(), func(i engine.Image) bool {
		tags, _ := names(i)
		return (dangling || !given) && len(tags) > 0 || !until.IsZero() && createdAt(i).After(until) || !f.labels(i.Config.Config.Labels)
	})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, image.PruneReport{ImagesDeleted: deleted(p.Images), SpaceReclaimed: uint64(p.Reclaimed)})
}

func (s *Server) saveImages(w http.ResponseWriter, r *http.Request) error {
	return s.save(w, r, r.URL.Query()["names"])
}

func (s *Server) save(w http.ResponseWriter, r *http.Request, users []string) error {
	if len(users) == 0 {
		return invalid("no image was named: give at least one to save")
	}
	out := &tarStream{w: w}
	err := s.engine.Save(r.Context(), users, out)
	return s.cut(out.begun, err)
}

func (s *Server) loadImages(w http.ResponseWriter, r *http.Request) error {
	p, err := platform(r.URL.Query().Get("platform"))
	if err != nil {
		return err
	}
	lines := newLines(w)
	quiet := truth(r.URL.Query(), "quiet", true)
	progress := func(ev archive.Event) {
		if quiet {
			return
		}
		m := jsonstream.Message{ID: short(ev.Name), Status: "Loading layer", Progress: &jsonstream.Progress{Current: ev.Current, Total: ev.Total}}
		if ev.Done {
			m.Status = "Loaded layer"
		}
		lines.send(m)
	}
	loaded, err := s.engine.Load(r.Context(), r.Body, p, progress)
	if err != nil {
		return lines.fail(err)
	}
	for _, l := range loaded {
		for _, t := range l.Tags {
			lines.send(jsonstream.Message{Stream: "Loaded image: " + reference.FamiliarString(t) + "\n"})
		}
		if len(l.Tags) == 0 {
			lines.send(jsonstream.Message{Stream: "Loaded image ID: " + l.Image.ID.String() + "\n"})
		}
	}
	return nil
}

// short is what of a name goes into the narrow column of a progress.
func short(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "blobs/sha256/"), "sha256:")
	return name[:min(len(name), 12)]
}

func (s *Server) commit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var in dockercontainer.Config
	if err := decode(r, &in); err != nil {
		return err
	}
	o := engine.CommitOptions{Author: q.Get("author"), Comment: q.Get("comment"), Changes: q["changes"], Pause: truth(q, "pause", true)}
	if repo := q.Get("repo"); repo != "" {
		o.Name = repo
		if t := q.Get("tag"); t != "" {
			o.Name += ":" + t
		}
	}
	id, err := s.engine.Commit(r.Context(), q.Get("container"), o)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, dockercontainer.CommitResponse{ID: id.String()})
}

// importImage makes an image of a tar in the body (fromSrc=-).
func (s *Server) importImage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if q.Get("fromSrc") != "-" {
		return invalid("berth imports from a file or standard input only: download the archive first")
	}
	name := q.Get("repo")
	if t := q.Get("tag"); name != "" && t != "" {
		name += ":" + t
	}
	p, err := platform(q.Get("platform"))
	if err != nil {
		return err
	}
	if p == nil {
		own := platforms.DefaultSpec()
		own.OS, own.Architecture = runtime.GOOS, runtime.GOARCH
		p = &own
	}
	lines := newLines(w)
	id, err := s.engine.Import(r.Context(), r.Body, name, q["changes"], q.Get("message"), *p)
	if err != nil {
		return lines.fail(err)
	}
	lines.send(jsonstream.Message{Status: id.String()})
	return nil
}
