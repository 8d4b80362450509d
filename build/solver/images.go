package solver

import (
	"context"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Credential is what a registry wants to hear. The zero value is anonymous.
type Credential struct {
	Username, Password string
	IdentityToken      string // an OAuth2 refresh token, instead of a password
	RegistryToken      string // a bearer token, sent as it is
}

// Credentials finds the credential for a registry's host name ("docker.io" is Docker Hub).
type Credentials func(ctx context.Context, host string) (Credential, error)

// ImageOptions say how an image is looked for.
type ImageOptions struct {
	Platform    ocispec.Platform
	Pull        bool        // ask the registry, whatever is here
	Credentials Credentials // may be nil
	Progress    func(current, total int64)
}

// Image is a base image for one platform.
type Image struct {
	// Digest pins it: of its manifest (or index) as the registry knows it, or, where it never had one,
	// its ID. REF@Digest given to Ensure is this very image.
	Digest digest.Digest
	// Config is its configuration, as stored.
	Config []byte
}

// Images is what the engine knows of images. An unknown one is errdefs.ErrNotFound with a sentence.
type Images interface {
	// Resolve finds an image here, or, where it is not here or Pull is set, at its registry. It need not
	// bring layers.
	Resolve(ctx context.Context, ref reference.Named, opts ImageOptions) (Image, error)
	// Ensure makes all layers of an image local, and keeps them from being deleted until release. ref
	// has the digest that Resolve gave.
	Ensure(ctx context.Context, ref reference.Canonical, opts ImageOptions) (diffIDs []digest.Digest, release func(), err error)
}
