package build

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/cache"
)

// complete fills in what the front end's configuration lacks: layers, history lines of layers that
// have none, times. Every time comes from a record or from a base image, so that the same input gives
// the same bytes. It does as BuildKit's exporter (exporter/containerimage, normalizeLayersAndHistory).
func complete(config []byte, layers []cache.Layer) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("the image's configuration: %w", err)
	}
	var history []ocispec.History
	if raw, ok := fields["history"]; ok {
		if err := json.Unmarshal(raw, &history); err != nil {
			return nil, fmt.Errorf("the image's history: %w", err)
		}
	}
	history = fillHistory(history, layers)
	rootfs := ocispec.RootFS{Type: "layers", DiffIDs: make([]digest.Digest, len(layers))}
	for i, l := range layers {
		rootfs.DiffIDs[i] = l.DiffID
	}
	set := map[string]any{"rootfs": rootfs, "history": history}
	if _, ok := fields["created"]; !ok {
		if created := lastTime(history); created != nil {
			set["created"] = created
		}
	}
	for name, v := range set {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		fields[name] = raw
	}
	return json.Marshal(fields) // with its keys sorted
}

func fillHistory(history []ocispec.History, layers []cache.Layer) []ocispec.History {
	withLayer := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if withLayer == len(layers) { // more lines than layers: those can't have one
			history[i].EmptyLayer = true
			continue
		}
		if history[i].Created == nil {
			history[i].Created = timeOf(layers[withLayer])
		}
		withLayer++
	}
	for _, l := range layers[withLayer:] { // of layers that no line tells of
		history = append(history, ocispec.History{Created: timeOf(l), CreatedBy: l.Description, Comment: "buildkit.exporter.image.v0"})
	}
	// A line without a layer has the time of the next new layer, or else of the last one before.
	var fill *time.Time
	missing := false
	for _, h := range history {
		if h.Created != nil {
			fill = h.Created
			if missing {
				break
			}
		} else {
			missing = true
		}
	}
	missing = false
	for i := range history {
		switch {
		case history[i].Created == nil:
			missing = true
			history[i].Created = fill
		case missing:
			fill = history[i].Created
		}
	}
	return history
}

func timeOf(l cache.Layer) *time.Time {
	if l.Created.IsZero() {
		return nil
	}
	t := l.Created
	return &t
}

func lastTime(history []ocispec.History) *time.Time {
	var last *time.Time
	for _, h := range history {
		if h.Created != nil {
			last = h.Created
		}
	}
	return last
}
