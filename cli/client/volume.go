package client

import (
	"context"
	"net/url"
)

// Volume is a named volume.
type Volume struct {
	CreatedAt  string `json:",omitempty"`
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
	Status     map[string]any `json:",omitempty"`
	UsageData  *VolumeUsage   `json:",omitempty"`
}

// VolumeUsage is how much a volume takes and how many containers use it; -1: not counted.
type VolumeUsage struct {
	RefCount int64
	Size     int64 // bytes
}

// VolumeRequest asks for a volume; without a name the engine chooses one.
type VolumeRequest struct {
	Driver     string            `json:",omitempty"`
	DriverOpts map[string]string `json:",omitempty"`
	Labels     map[string]string `json:",omitempty"`
	Name       string            `json:",omitempty"`
}

// VolumeList lists volumes; q has Docker's filters.
func (c *Client) VolumeList(ctx context.Context, q url.Values) ([]Volume, []string, error) {
	var out struct {
		Volumes  []Volume
		Warnings []string
	}
	err := c.Call(ctx, "GET", "/volumes", q, nil, &out)
	return out.Volumes, out.Warnings, err
}

// VolumeCreate creates a volume, or finds the one that is there.
func (c *Client) VolumeCreate(ctx context.Context, req VolumeRequest) (Volume, error) {
	var out Volume
	err := c.Call(ctx, "POST", "/volumes/create", nil, req, &out)
	return out, err
}

// VolumeRemove removes a volume.
func (c *Client) VolumeRemove(ctx context.Context, name string, q url.Values) error {
	return c.Call(ctx, "DELETE", "/volumes/"+url.PathEscape(name), q, nil, nil)
}
