package engine

import (
	"context"

	"github.com/berth-engine/berth/network"
)

// CreateNetwork makes a network.
func (e *Engine) CreateNetwork(ctx context.Context, s network.Spec) (network.Network, error) {
	n, err := e.networks.Create(ctx, s)
	if err == nil {
		e.networkEvent(n, "create")
	}
	return n, err
}

// Network finds one by its name, ID, or a beginning of it.
func (e *Engine) Network(user string) (network.Network, error) { return e.networks.Get(user) }

// Networks returns all networks by name.
func (e *Engine) Networks() []network.Network { return e.networks.List() }

// NetworkUsers is what is attached to a network.
func (e *Engine) NetworkUsers(id string) []network.Attached { return e.networks.Containers(id) }

// RemoveNetwork removes one that nothing is attached to.
func (e *Engine) RemoveNetwork(ctx context.Context, user string) error {
	n, err := e.networks.Get(user)
	if err != nil {
		return err
	}
	if err := e.networks.Remove(ctx, n.ID); err != nil {
		return err
	}
	e.networkEvent(n, "destroy")
	return nil
}

func (e *Engine) networkEvent(n network.Network, action string) {
	e.events.publish("network", action, n.ID, map[string]string{"name": n.Name, "type": n.Driver})
}
