package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// Source gives what Write stores.
type Source interface {
	// Open returns the bytes of desc, an index, manifest, config or layer blob, from the beginning;
	// Write closes them. What is not here is errdefs.ErrNotFound.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Named is an image to write: a manifest or an index, and the names that it has in the archive (none
// is allowed). Of an index, the children that are here are written.
type Named struct {
	Root ocispec.Descriptor
	Tags []reference.NamedTagged
}

// Write writes images as one tar: an OCI image layout with Docker's manifest.json and repositories
// beside it, so that docker, podman and skopeo load it. The same images give the same bytes. What is not
// here is errdefs.ErrNotFound, and found before anything is written; bytes that don't have their digest
// are errdefs.ErrDataLoss. After an error w has part of an archive.
func Write(ctx context.Context, w io.Writer, images []Named, src Source) error {
	p := plan{ctx: ctx, from: src, seen: map[digest.Digest]bool{}}
	for _, im := range images {
		if err := p.add(im); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	out := &writer{tar: tar.NewWriter(w)}
	if err := out.write(&p); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// plan is what an archive is going to have.
type plan struct {
	ctx   context.Context
	from  Source
	index []ocispec.Descriptor // of index.json
	list  []dockerImage        // of manifest.json
	blobs []ocispec.Descriptor // each once, in the order in which they are written
	seen  map[digest.Digest]bool
	repos map[string]map[string]string // of repositories: by name and tag
}

// image is a manifest with all that it names, which is here.
type image struct {
	desc     ocispec.Descriptor
	manifest *ocispec.Manifest
}

func (p *plan) add(n Named) error {
	doc, err := p.document(n.Root)
	if err != nil {
		return err
	}
	root := n.Root
	root.MediaType = doc.MediaType
	p.blob(root)
	best := image{root, doc.Manifest}
	if doc.Index != nil {
		if best, err = p.children(root, doc.Index); err != nil {
			return err
		}
	} else if err := p.whole(best); err != nil {
		return err
	}
	p.blob(best.manifest.Config)
	for _, l := range best.manifest.Layers {
		p.blob(l)
	}
	p.name(n, root, best)
	return nil
}

// document reads an index or a manifest.
func (p *plan) document(desc ocispec.Descriptor) (manifest.Document, error) {
	if desc.Size > manifest.MaxSize {
		return manifest.Document{}, invalid("%s has %d bytes, which is no manifest", desc.Digest, desc.Size)
	}
	r, err := p.from.Open(p.ctx, desc)
	if err != nil {
		return manifest.Document{}, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	body, err := io.ReadAll(io.LimitReader(r, manifest.MaxSize+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return manifest.Document{}, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	if err := manifest.Verify(desc, body); err != nil {
		return manifest.Document{}, err
	}
	doc, err := manifest.Parse(desc.MediaType, body)
	if err != nil {
		return doc, invalid("%s can't be used: %v", desc.Digest, err)
	}
	return doc, nil
}

// children plans the entries of an index that are here, and returns the one for this machine, or else
// the first.
func (p *plan) children(root ocispec.Descriptor, index *ocispec.Index) (image, error) {
	var here []image
	var usable ocispec.Index
	for _, d := range index.Manifests {
		doc, err := p.document(d)
		if errdefs.IsNotFound(err) || err == nil && doc.Manifest == nil {
			continue
		}
		if err != nil {
			return image{}, err
		}
		im := image{d, doc.Manifest}
		if err := p.whole(im); errdefs.IsNotFound(err) {
			continue
		} else if err != nil {
			return image{}, err
		}
		p.blob(d)
		for _, below := range doc.Descriptors() {
			p.blob(below)
		}
		if manifest.CheckImage(doc.Manifest) == nil && !manifest.IsAttestation(d) {
			here = append(here, im)
			usable.Manifests = append(usable.Manifests, d)
		}
	}
	if len(here) == 0 {
		return image{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("%s: none of its images is on this machine with all its layers", root.Digest))
	}
	best, err := manifest.Choose(&usable, nil)
	if err != nil {
		return here[0], nil
	}
	return here[slices.IndexFunc(here, func(im image) bool { return im.desc.Digest == best.Digest })], nil
}

// whole says whether all blobs of an image are here.
func (p *plan) whole(im image) error {
	for _, d := range append([]ocispec.Descriptor{im.manifest.Config}, im.manifest.Layers...) {
		r, err := p.from.Open(p.ctx, d)
		if err == nil {
			err = r.Close()
		}
		if err != nil {
			return fmt.Errorf("%s of image %s: %w", d.Digest, im.desc.Digest, err)
		}
	}
	return nil
}

func (p *plan) blob(d ocispec.Descriptor) {
	if !p.seen[d.Digest] {
		p.seen[d.Digest] = true
		p.blobs = append(p.blobs, d)
	}
}

// name enters an image under its names into index.json, manifest.json and repositories.
func (p *plan) name(n Named, root ocispec.Descriptor, best image) {
	entry := ocispec.Descriptor{MediaType: root.MediaType, Digest: root.Digest, Size: root.Size}
	docker := dockerImage{Config: blobName(best.manifest.Config.Digest), RepoTags: []string{}, Layers: []string{}}
	top := ""
	for _, l := range best.manifest.Layers {
		docker.Layers = append(docker.Layers, blobName(l.Digest))
		top = l.Digest.Encoded()
	}
	for _, t := range n.Tags {
		tagged := entry
		tagged.Annotations = map[string]string{containerdName: t.String(), ocispec.AnnotationRefName: t.Tag()}
		p.index = append(p.index, tagged)
		docker.RepoTags = append(docker.RepoTags, reference.FamiliarString(t))
		p.repository(reference.FamiliarName(t), t.Tag(), top)
	}
	if len(n.Tags) == 0 {
		p.index = append(p.index, entry)
	}
	p.list = append(p.list, docker)
}

func (p *plan) repository(name, tag, top string) {
	if top == "" {
		return // an image without layers had no name in that file
	}
	if p.repos == nil {
		p.repos = map[string]map[string]string{}
	}
	if p.repos[name] == nil {
		p.repos[name] = map[string]string{}
	}
	p.repos[name][tag] = top
}

// writer writes a plan as a tar.
type writer struct{ tar *tar.Writer }

// write writes the small documents first, so that who reads the archive as it comes knows what is needed.
func (w *writer) write(p *plan) error {
	type file struct {
		name string
		v    any
	}
	files := []file{
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{ocispec.ImageIndexFile, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: p.index}},
		{manifestFile, p.list},
	}
	if p.repos != nil {
		files = append(files, file{repositoriesFile, p.repos})
	}
	for _, f := range files {
		if err := w.json(f.name, f.v); err != nil {
			return err
		}
	}
	made := map[string]bool{}
	for _, d := range p.blobs {
		dir := ocispec.ImageBlobsDir + "/"
		for _, part := range []string{dir, dir + d.Digest.Algorithm().String() + "/"} {
			if !made[part] {
				made[part] = true
				if err := w.tar.WriteHeader(header(tar.TypeDir, part, 0)); err != nil {
					return err
				}
			}
		}
		if err := w.blob(p, d); err != nil {
			return err
		}
	}
	return w.tar.Close()
}

// header is what an entry says: nothing of the time or machine that it was made on.
func header(kind byte, name string, size int64) *tar.Header {
	h := &tar.Header{Typeflag: kind, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if kind == tar.TypeDir {
		h.Mode = 0o755
	}
	return h
}

func (w *writer) json(name string, v any) error {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	if err := w.tar.WriteHeader(header(tar.TypeReg, name, int64(b.Len()))); err != nil {
		return err
	}
	_, err := w.tar.Write(b.Bytes())
	return err
}

// blob copies a blob and holds it to its digest and size.
func (w *writer) blob(p *plan, d ocispec.Descriptor) (err error) {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	r, err := p.from.Open(p.ctx, d)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := w.tar.WriteHeader(header(tar.TypeReg, blobName(d.Digest), d.Size)); err != nil {
		return err
	}
	digester := d.Digest.Algorithm().Digester()
	n, err := io.Copy(io.MultiWriter(w.tar, digester.Hash()), &whileWanted{p.ctx, io.LimitReader(r, d.Size+1)})
	switch {
	case n > d.Size || errors.Is(err, tar.ErrWriteTooLong):
		return damaged("%s has more bytes on this machine than the %d that belong to it", d.Digest, d.Size)
	case err != nil:
		return fmt.Errorf("%s: %w", d.Digest, err)
	case n < d.Size:
		return damaged("%s has %d bytes on this machine where %d belong", d.Digest, n, d.Size)
	case digester.Digest() != d.Digest:
		return damaged("%s is damaged on this machine: its digest is %s", d.Digest, digester.Digest())
	}
	return nil
}

// whileWanted ends when its context does.
type whileWanted struct {
	ctx context.Context
	r   io.Reader
}

func (w *whileWanted) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.r.Read(p)
}
