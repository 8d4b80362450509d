package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-engine/berth/image"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// RemovedImage is a line of what RemoveImage did: one of the two is set.
type RemovedImage struct{ Untagged, Deleted string }

// RemoveImage takes a name away, and where it was the last one (or an ID was given) the image, its
// blobs and those of its layers that nothing else uses. A container that was made of it is
// errdefs.ErrConflict without force. Of a running one only the names go, by force and by name.
func (e *Engine) RemoveImage(user string, force bool) (done []RemovedImage, err error) {
	id, err := e.images.Resolve(user)
	if err != nil {
		return nil, err
	}
	done, _, err = e.deleteImage(id, func(all []reference.Named) ([]reference.Named, error) { return e.meant(user, id, all, force) })
	return done, err
}

// meant are the names of an image that RemoveImage takes away: the one that the user gave, and with the last tag of a
// repository the digests that it is known by there; all, where that leaves none, or an ID was given (moby,
// daemon/images/image_delete.go). leases.mu is held.
func (e *Engine) meant(user string, id digest.Digest, all []reference.Named, force bool) ([]reference.Named, error) {
	ref, byName := namedIn(user, all)
	switch {
	case byName:
		mine := slices.DeleteFunc(slices.Clone(all), func(n reference.Named) bool {
			goes := n.String() == ref.String() || !isDigest(ref) && isDigest(n) && n.Name() == ref.Name() && !hasOtherTag(all, ref)
			return !goes
		})
		if len(mine) < len(all) {
			if !force && oneReference(all) {
				return mine, e.unused(id, true, false)
			}
			return mine, nil
		}
	case !strings.HasPrefix(id.Encoded(), strings.TrimPrefix(user, "sha256:")): // a name that is another image's by now
		return nil, image.NotFound(user)
	case !force && !oneReference(all):
		if err := e.unused(id, false, true); err != nil { // what force would not help against
			return nil, err
		}
		return nil, fmt.Errorf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories: %w", short(id), errdefs.ErrConflict)
	}
	return all, e.unused(id, byName, force)
}

// deleteImage takes those names of an image away that pick chooses of all, and what it leaves, if that were all. deleted
// are the layers and blobs that went.
func (e *Engine) deleteImage(id digest.Digest, pick func(all []reference.Named) ([]reference.Named, error)) (done []RemovedImage, deleted []digest.Digest, err error) {
	done, was, free, err := e.dropNames(id, pick)
	for _, d := range done {
		e.events.publish("image", "untag", id.String(), map[string]string{"name": d.Untagged})
	}
	if err != nil {
		return done, nil, err
	}
	if was == nil {
		deleted, err = e.collect(free)
		return done, deleted, err
	}
	e.events.publish("image", "delete", id.String(), map[string]string{"name": id.String()})
	done = append(done, RemovedImage{Deleted: id.String()})
	deleted, err = e.collect(free)
	for _, d := range deleted {
		if slices.Contains(was.DiffIDs, d) {
			done = append(done, RemovedImage{Deleted: d.String()})
		}
	}
	return done, deleted, err
}

// dropNames takes names of an image away and then its record, unless it keeps another name or somebody is about to give
// it one (a build, a pull): a name never leads to nothing. Whoever makes an image, or a container of it, has it on a
// lease first, and waits here. was is the record that went, nil where it stays; free is what nothing may name any more.
func (e *Engine) dropNames(id digest.Digest, pick func(all []reference.Named) ([]reference.Named, error)) (done []RemovedImage, was *image.Image, free []digest.Digest, err error) {
	e.leases.mu.Lock()
	defer e.leases.mu.Unlock()
	names, err := e.images.Names()
	if err != nil {
		return nil, nil, nil, err
	}
	all := names[id]
	picked, err := pick(all)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, n := range picked {
		err := e.images.Untag(n, id)
		if errdefs.IsNotFound(err) { // another image's by now
			continue
		}
		if err != nil {
			return done, nil, nil, err
		}
		done = append(done, RemovedImage{Untagged: reference.FamiliarString(n)})
	}
	naming := e.leases.naming[id] > 0
	switch {
	case slices.ContainsFunc(e.containersOf(id), isActive): // by force, and by name: the image stays without one
		return done, nil, nil, nil
	case naming && len(done) == 0 && len(picked) == len(all):
		return nil, nil, nil, fmt.Errorf("conflict: unable to delete %s - it is being built, pulled or tagged just now: %w", short(id), errdefs.ErrConflict)
	case naming:
		return done, nil, nil, nil
	case len(picked) < len(all):
		free, err = e.dropForms(id)
		return done, nil, free, err
	}
	img, err := e.images.Remove(id)
	return done, &img, belongings(img), err
}

// dropForms forgets those forms of an image for which no name stands any more, but the first, and returns their blobs.
// leases.mu is held, and nobody is about to name the image.
func (e *Engine) dropForms(id digest.Digest) (free []digest.Digest, err error) {
	if img, err := e.images.Get(id); err != nil || len(img.Others) == 0 {
		return nil, err
	}
	named, err := e.images.Roots(id)
	if err != nil {
		return nil, err
	}
	err = e.images.Update(id, func(img image.Image, _ bool) (image.Image, error) {
		img.Others = slices.DeleteFunc(img.Others, func(f image.Form) bool {
			for root := range named {
				if f.Is(root) {
					return false
				}
			}
			free = append(free, blobsOf(f)...)
			return true
		})
		return img, nil
	})
	return free, err
}

// unused refuses to delete an image that a container was, or is just being, made of. leases.mu is held.
func (e *Engine) unused(id digest.Digest, byName, force bool) error {
	if e.leases.using[id] > 0 && !force {
		return fmt.Errorf("conflict: unable to delete %s (must be forced) - a container is being made of it just now: %w", short(id), errdefs.ErrConflict)
	}
	for _, c := range e.containersOf(id) {
		switch {
		case byName && !force:
			return fmt.Errorf("conflict: unable to remove repository reference (must force) - container %s is using its referenced image %s: %w", container12(c), short(id), errdefs.ErrConflict)
		case byName:
		case isActive(c):
			return fmt.Errorf("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s: %w", short(id), container12(c), errdefs.ErrConflict)
		case !force:
			return fmt.Errorf("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s: %w", short(id), container12(c), errdefs.ErrConflict)
		}
	}
	return nil
}

// containersOf are the containers that were made of an image.
func (e *Engine) containersOf(id digest.Digest) []*instance {
	return slices.DeleteFunc(e.all(), func(c *instance) bool { return c.Config().ImageID != id })
}

func isActive(c *instance) bool { return c.State().Status.Active() }

func container12(c *instance) string  { return c.ID[:12] }
func short(id digest.Digest) string   { return id.Encoded()[:12] }
func isDigest(n reference.Named) bool { _, ok := n.(reference.Digested); return ok }

// namedIn finds the name that a user gave among those of an image; false where it was an ID.
func namedIn(user string, names []reference.Named) (reference.Named, bool) {
	ref, err := image.ParseName(user)
	if err != nil {
		return nil, false
	}
	return ref, slices.ContainsFunc(names, func(n reference.Named) bool { return n.String() == ref.String() })
}

// hasOtherTag tells whether a repository has a tag on the image besides ref.
func hasOtherTag(names []reference.Named, ref reference.Named) bool {
	return slices.ContainsFunc(names, func(n reference.Named) bool {
		return n.Name() == ref.Name() && !isDigest(n) && n.String() != ref.String()
	})
}

// oneReference tells whether the names of an image are at most one tag, and digests of one repository (moby,
// isSingleReference; the sentence of a refusal says less).
func oneReference(names []reference.Named) bool {
	tags := 0
	for _, n := range names {
		if !isDigest(n) {
			tags++
		}
		if n.Name() != names[0].Name() {
			return false
		}
	}
	return tags <= 1
}
