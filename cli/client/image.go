package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"
)

// ImageSummary is one image in a list.
type ImageSummary struct {
	Containers  int64  // -1: not counted
	Created     int64  // seconds since 1970
	ID          string `json:"Id"`
	Labels      map[string]string
	ParentID    string `json:"ParentId"`
	RepoDigests []string
	RepoTags    []string
	SharedSize  int64 // bytes; -1: not counted
	Size        int64 // bytes
}

// Image is the answer to an inspect.
type Image struct {
	ID            string `json:"Id"`
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       string `json:",omitempty"`
	DockerVersion string
	Author        string
	Config        *ImageConfig
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64
	VirtualSize   int64        `json:",omitempty"`
	GraphDriver   *GraphDriver `json:",omitempty"`
	RootFS        RootFS
	Metadata      struct{ LastTagTime time.Time }
	Descriptor    *Descriptor `json:",omitempty"`
}

// ImageConfig is the execution part of an image's configuration.
type ImageConfig struct {
	User         string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	ArgsEscaped  bool                `json:",omitempty"`
	Healthcheck  *HealthConfig       `json:",omitempty"`
	OnBuild      []string            `json:",omitempty"`
	Shell        []string            `json:",omitempty"`
}

type (
	// RootFS lists an image's layers by diffID, bottom first.
	RootFS struct {
		Type   string   `json:",omitempty"`
		Layers []string `json:",omitempty"`
	}
	// Descriptor names a blob.
	Descriptor struct {
		MediaType string    `json:"mediaType"`
		Digest    string    `json:"digest"`
		Size      int64     `json:"size"`
		Platform  *Platform `json:"platform,omitempty"`
	}
	// Platform is what an image runs on.
	Platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Variant      string `json:"variant,omitempty"`
	}
	// HistoryItem is a step of an image's making.
	HistoryItem struct {
		Comment   string
		Created   int64 // seconds since 1970
		CreatedBy string
		ID        string `json:"Id"`
		Size      int64  // bytes
		Tags      []string
	}
	// ImageDeleted is one thing that went with an image.
	ImageDeleted struct {
		Untagged string `json:",omitempty"`
		Deleted  string `json:",omitempty"`
	}
)

// ImageList lists images; q has Docker's all, filters, digests, shared-size.
func (c *Client) ImageList(ctx context.Context, q url.Values) ([]ImageSummary, error) {
	var out []ImageSummary
	err := c.Call(ctx, "GET", "/images/json", q, nil, &out)
	return out, err
}

// ImageHistory lists the steps of an image's making, newest first.
func (c *Client) ImageHistory(ctx context.Context, name string, q url.Values) ([]HistoryItem, error) {
	var out []HistoryItem
	err := c.Call(ctx, "GET", ImagePath(name, "/history"), q, nil, &out)
	return out, err
}

// ImageRemove removes a tag, and the image with its last one; q has Docker's force, noprune, platforms.
func (c *Client) ImageRemove(ctx context.Context, name string, q url.Values) ([]ImageDeleted, error) {
	var out []ImageDeleted
	err := c.Call(ctx, "DELETE", ImagePath(name, ""), q, nil, &out)
	return out, err
}

// ImagePath is the path of something of an image. The slashes of its name stay.
func ImagePath(name, rest string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/images/" + strings.Join(parts, "/") + rest
}

// Message is a line of a progress stream (pull, push, load, classic build).
type Message struct {
	Stream         string          `json:"stream,omitempty"`
	Status         string          `json:"status,omitempty"`
	ProgressDetail *Progress       `json:"progressDetail,omitempty"`
	ID             string          `json:"id,omitempty"`
	ErrorDetail    *MessageError   `json:"errorDetail,omitempty"`
	ErrorText      string          `json:"error,omitempty"`
	Aux            json.RawMessage `json:"aux,omitempty"`
}

type (
	// Progress is how far something has come. Total 0 means that nobody knows.
	Progress struct {
		Current    int64  `json:"current,omitempty"`
		Total      int64  `json:"total,omitempty"`
		HideCounts bool   `json:"hidecounts,omitempty"`
		Units      string `json:"units,omitempty"` // empty: bytes
	}
	// MessageError ends a progress stream.
	MessageError struct {
		Code    int    `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}
)

// Err is the error that the message carries, or nil.
func (m *Message) Err() error {
	switch {
	case m.ErrorDetail != nil && m.ErrorDetail.Message != "":
		return &Error{Status: m.ErrorDetail.Code, Message: m.ErrorDetail.Message}
	case m.ErrorText != "":
		return &Error{Message: m.ErrorText}
	}
	return nil
}
