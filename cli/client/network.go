package client

import (
	"context"
	"net/url"
	"time"
)

// Network is a network. Containers is there when it was inspected.
type Network struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]NetworkMember `json:",omitempty"` // by container id
	Options    map[string]string
	Labels     map[string]string
}

type (
	// IPAM says which addresses a network has.
	IPAM struct {
		Driver  string
		Options map[string]string
		Config  []IPAMConfig
	}
	// IPAMConfig is one subnet of it.
	IPAMConfig struct {
		Subnet     string            `json:",omitempty"`
		IPRange    string            `json:",omitempty"`
		Gateway    string            `json:",omitempty"`
		AuxAddress map[string]string `json:"AuxiliaryAddresses,omitempty"`
	}
	// NetworkMember is a container in a network.
	NetworkMember struct {
		Name        string
		EndpointID  string
		MacAddress  string
		IPv4Address string
		IPv6Address string
	}
	// NetworkRequest asks for a network.
	NetworkRequest struct {
		Name       string
		Driver     string
		Scope      string
		EnableIPv4 *bool `json:",omitempty"`
		EnableIPv6 *bool `json:",omitempty"`
		IPAM       *IPAM
		Internal   bool
		Attachable bool
		Ingress    bool
		ConfigOnly bool
		ConfigFrom *struct{ Network string }
		Options    map[string]string
		Labels     map[string]string
	}
)

// NetworkList lists networks; q has Docker's filters.
func (c *Client) NetworkList(ctx context.Context, q url.Values) ([]Network, error) {
	var out []Network
	err := c.Call(ctx, "GET", "/networks", q, nil, &out)
	return out, err
}

// NetworkCreate creates a network and returns its id and a warning or none.
func (c *Client) NetworkCreate(ctx context.Context, req NetworkRequest) (id, warning string, err error) {
	var out struct {
		ID      string `json:"Id"`
		Warning string
	}
	err = c.Call(ctx, "POST", "/networks/create", nil, req, &out)
	return out.ID, out.Warning, err
}

// NetworkRemove removes a network.
func (c *Client) NetworkRemove(ctx context.Context, name string) error {
	return c.Call(ctx, "DELETE", "/networks/"+url.PathEscape(name), nil, nil, nil)
}
