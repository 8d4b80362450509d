package engine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/berth-engine/berth/image"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is what the engine shows of an image.
type Image struct {
	image.Image
	Config *image.Config
	// RawConfig is the config as it is stored.
	RawConfig []byte
	Names     []reference.Named // tags and digests
	// Containers is how many containers were made of it.
	Containers int
}

// configMax is how large a config may be, in bytes.
const configMax = 4 << 20

// blob reads a small blob.
func (e *Engine) blob(d digest.Digest) ([]byte, error) {
	b, err := e.content.Open(d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Size() > configMax {
		return nil, fmt.Errorf("blob %s: %d bytes, larger than any config or manifest may be: %w", d, b.Size(), errdefs.ErrDataLoss)
	}
	return io.ReadAll(b.Reader())
}

func (e *Engine) imageConfig(id digest.Digest) (*image.Config, error) {
	raw, err := e.blob(id)
	if err != nil {
		return nil, err
	}
	return image.ParseConfig(raw)
}

// InspectImage returns everything about one image.
func (e *Engine) InspectImage(user string) (Image, error) {
	id, err := e.images.Resolve(user)
	if err != nil {
		return Image{}, err
	}
	img, err := e.images.Get(id)
	if err != nil {
		return Image{}, err
	}
	names, err := e.images.Names()
	if err != nil {
		return Image{}, err
	}
	return e.showImage(e.inForm(img, user), names)
}

func (e *Engine) showImage(img image.Image, names map[digest.Digest][]reference.Named) (Image, error) {
	raw, err := e.blob(img.ID)
	if err != nil {
		return Image{}, fmt.Errorf("config of image %s: %w", img.ID, err)
	}
	cfg, err := image.ParseConfig(raw)
	if err != nil {
		return Image{}, err
	}
	return Image{Image: img, Config: cfg, RawConfig: raw, Names: names[img.ID], Containers: len(e.containersOf(img.ID))}, nil
}

// Images returns all images, the newest first. What could not be read is logged and left out.
func (e *Engine) Images() ([]Image, error) {
	records, err := e.images.List()
	if err != nil {
		e.log.Error("images", "error", err)
	}
	names, err := e.images.Names()
	if err != nil {
		e.log.Error("names of images", "error", err)
	}
	var all []Image
	for _, img := range records {
		shown, err := e.showImage(img, names)
		if err != nil {
			if _, gone := e.images.Get(img.ID); errdefs.IsNotFound(gone) { // removed in this moment
				continue
			}
			e.log.Error("image", "image", img.ID, "error", err)
			continue
		}
		all = append(all, shown)
	}
	slices.SortFunc(all, func(a, b Image) int {
		if d := created(b).Compare(created(a)); d != 0 {
			return d
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return all, nil
}

func created(i Image) time.Time {
	if i.Config.Created == nil {
		return time.Time{}
	}
	return *i.Config.Created
}

// HasImage tells whether a user's words name an image that is here.
func (e *Engine) HasImage(user string) bool {
	_, err := e.images.Resolve(user)
	return err == nil
}

// Tag gives an image another name.
func (e *Engine) Tag(user, name string) error {
	id, err := e.images.Resolve(user)
	if err != nil {
		return err
	}
	ref, err := image.ParseName(name)
	if err != nil {
		return err
	}
	if _, ok := ref.(reference.Digested); ok {
		return fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
	}
	l := e.leases.lease()
	defer e.endLease(l)
	l.name(id)
	img, err := e.images.Get(id)
	if err != nil { // removed in this moment
		return err
	}
	return e.tag(ref, id, e.inForm(img, user).Root())
}

// tag gives an image, which a lease is to name, its name, for the form of a root.
func (e *Engine) tag(ref reference.Named, id, root digest.Digest) error {
	if _, err := e.images.Tag(ref, id, root); err != nil {
		return err
	}
	e.events.publish("image", "tag", id.String(), map[string]string{"name": reference.FamiliarString(ref)})
	return nil
}

// keep makes an image whose layers are here: its config and its record, both durable. The lease holds
// all of it.
func (e *Engine) keep(ctx context.Context, l *lease, rawConfig []byte, parent digest.Digest) (image.Image, error) {
	cfg, err := image.ParseConfig(rawConfig)
	if err != nil {
		return image.Image{}, err
	}
	img := image.Image{ID: digest.FromBytes(rawConfig), DiffIDs: cfg.RootFS.DiffIDs, Parent: parent, Added: time.Now().UTC()}
	l.hold(img.DiffIDs...)
	l.name(img.ID)
	if old, err := e.images.Get(img.ID); err == nil { // as after a cached build; it does not go any more
		return old, nil
	}
	if img.Size, err = e.tarSize(img.DiffIDs); err != nil {
		return image.Image{}, err
	}
	if _, err := e.content.Put(ctx, img.ID, strings.NewReader(string(rawConfig))); err != nil {
		return image.Image{}, err
	}
	err = e.images.Update(img.ID, func(old image.Image, found bool) (image.Image, error) {
		if found {
			img = old
		}
		return img, nil
	})
	return img, err
}

// tarSize is the sum of the tars of layers, in bytes.
func (e *Engine) tarSize(layers []digest.Digest) (size int64, err error) {
	for _, d := range layers {
		found, err := e.layers.Get(d)
		if err != nil {
			return 0, err
		}
		size += found.TarSize
	}
	return size, nil
}

// HistoryEntry is a line of an image's history, the newest first.
type HistoryEntry struct {
	ID      digest.Digest // of the image, on the first line
	Tags    []string
	History ocispec.History
	Size    int64 // bytes of its layer's tar
}

// History returns how an image came to be.
func (e *Engine) History(user string) ([]HistoryEntry, error) {
	img, err := e.InspectImage(user)
	if err != nil {
		return nil, err
	}
	var lines []HistoryEntry
	layers := img.DiffIDs
	for _, h := range img.Config.History {
		line := HistoryEntry{History: h}
		if !h.EmptyLayer && len(layers) > 0 {
			found, err := e.layers.Get(layers[0])
			if err != nil {
				return nil, err
			}
			line.Size, layers = found.TarSize, layers[1:]
		}
		lines = append(lines, line)
	}
	slices.Reverse(lines)
	if len(lines) > 0 {
		lines[0].ID = img.ID
		for _, n := range img.Names {
			if !isDigest(n) {
				lines[0].Tags = append(lines[0].Tags, reference.FamiliarString(n))
			}
		}
	}
	return lines, nil
}

// Import makes an image of one layer from a tar of a whole file system.
func (e *Engine) Import(ctx context.Context, r io.Reader, name string, changes []string, message string, platform ocispec.Platform) (id digest.Digest, err error) {
	var ref reference.Named
	if name != "" {
		if ref, err = image.ParseName(name); err != nil {
			return "", err
		}
	}
	l := e.leases.lease()
	defer e.endWork(l, &err)
	made, err := e.importLayer(ctx, l, r)
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	if message == "" {
		message = "Imported from -"
	}
	cfg := image.Config{}
	cfg.Platform, cfg.Created = platform, &now
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{made.DiffID}}
	cfg.History = []ocispec.History{{Created: &now, Comment: message}}
	return e.finish(ctx, l, cfg, changes, "", ref)
}

// finish applies Dockerfile instructions to a config, keeps the image, and names it.
func (e *Engine) finish(ctx context.Context, l *lease, cfg image.Config, changes []string, parent digest.Digest, ref reference.Named) (digest.Digest, error) {
	if err := applyChanges(&cfg, changes); err != nil {
		return "", err
	}
	raw, err := marshalConfig(cfg)
	if err != nil {
		return "", err
	}
	img, err := e.keep(ctx, l, raw, parent)
	if err != nil {
		return "", err
	}
	if ref != nil {
		if err := e.tag(ref, img.ID, img.Root()); err != nil {
			return "", err
		}
	}
	return img.ID, nil
}
