package network

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
)

// Controller is the network of one engine. Its methods may be called from several goroutines.
type Controller struct {
	opts Options
}

// Open reads what is recorded and changes nothing on the host. Recover must follow, once, before
// anything is attached. Errors: a root that can't be used; a name that is too long.
func Open(ctx context.Context, opts Options) (*Controller, error) {
	return &Controller{opts: opts}, nil
}

// Recover takes over what the engine before this one left: the live containers keep their addresses
// and ports, everything else that it made is removed from the host. Then sandboxes are made ahead in
// the background.
func (c *Controller) Recover(ctx context.Context, live []Live) error { return errNotBuilt }

// Close gives the sandboxes that were made ahead back, and everything on the host that no attached
// container needs; with none attached the host is as Open found it. Containers that still run keep
// their network, for the next Recover.
func (c *Controller) Close(ctx context.Context) error { return errNotBuilt }

// Create makes a network; it is durable when Create returns. Errors: already exists (the name is
// taken), conflict (a subnet that overlaps another's or a route of the host's), invalid argument.
func (c *Controller) Create(ctx context.Context, spec Spec) (Network, error) {
	return Network{}, errNotBuilt
}

// Get finds a network by its name, its id, or a beginning of its id that no other has. Errors: not
// found, invalid argument (ambiguous).
func (c *Controller) Get(ref string) (Network, error) { return Network{}, errNotBuilt }

// List returns all networks, the predefined ones too, by name.
func (c *Controller) List() []Network { return nil }

// Remove removes a network. Errors: not found, permission denied (predefined), conflict (containers
// are attached).
func (c *Controller) Remove(ctx context.Context, ref string) error { return errNotBuilt }

// Containers returns what is attached to the network with this id.
func (c *Controller) Containers(networkID string) []Attached { return nil }

// Attach makes a container's network: its namespace with interfaces, addresses and routes, its
// published ports and the sockets that hold them. Errors: not found (network), already exists (the
// container is attached), conflict (address taken), unavailable (a port that something else on the
// host has, named in the message; no address left), invalid argument. After an error nothing is left.
func (c *Controller) Attach(ctx context.Context, req Request) (*Sandbox, error) {
	return nil, errNotBuilt
}

// Detach gives back what the container has: addresses, ports, rules. It can be called for any id at
// any time, and again. The namespace goes with its last process or descriptor, its interfaces with it.
func (c *Controller) Detach(ctx context.Context, containerID string) error { return errNotBuilt }

// Connect puts a running container, whose network namespace ns is, into one more network.
func (c *Controller) Connect(ctx context.Context, containerID string, ns *os.File, req EndpointRequest) (Endpoint, error) {
	return Endpoint{}, errNotBuilt
}

// Disconnect takes a running container out of a network. Errors: not found (network, or the
// container is not in it).
func (c *Controller) Disconnect(ctx context.Context, containerID string, ns *os.File, networkRef string) error {
	return errNotBuilt
}

// Lookup returns what an attached container has. Error: not found.
func (c *Controller) Lookup(containerID string) (Attached, error) { return Attached{}, errNotBuilt }

// Hosts returns what the hosts file of an attached container should say of other containers and of
// itself: in user-defined networks everybody's names, in the default network its own only.
func (c *Controller) Hosts(containerID string) ([]HostEntry, error) { return nil, errNotBuilt }

var errNotBuilt = fmt.Errorf("network: not built yet: %w", errdefs.ErrNotImplemented)
