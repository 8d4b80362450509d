package api

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	berthnet "github.com/berth-engine/berth/network"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
)

func showNetwork(n berthnet.Network) network.Network {
	out := network.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.IPv4, EnableIPv6: n.IPv6,
		IPAM: network.IPAM{Driver: "default", Options: map[string]string{}, Config: []network.IPAMConfig{}}, Internal: n.Internal, Attachable: n.Attachable,
		Options: n.Options, Labels: n.Labels,
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for _, s := range n.Subnets {
		out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: s.Subnet, IPRange: s.IPRange, Gateway: s.Gateway, AuxAddress: s.Aux})
	}
	return out
}

func (s *Server) listNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "driver", "id", "label", "label!", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, given, err := f.boolean("dangling")
	if err != nil {
		return err
	}
	list := []network.Network{}
	for _, n := range s.engine.Networks() {
		if given && dangling != (len(s.engine.NetworkUsers(n.ID)) == 0 && !n.Predefined()) {
			continue
		}
		kind := "custom"
		if n.Predefined() {
			kind = "builtin"
		}
		if f.labels(n.Labels) && f.exactly("driver", n.Driver) && f.exactly("scope", "local") && f.exactly("type", kind) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) && f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) {
			list = append(list, showNetwork(n))
		}
	}
	return answer(w, http.StatusOK, list)
}

func (s *Server) inspectNetwork(w http.ResponseWriter, r *http.Request) error {
	n, err := s.engine.Network(r.PathValue("id"))
	if err != nil {
		return err
	}
	out := network.Inspect{Network: showNetwork(n), Containers: map[string]network.EndpointResource{}}
	for _, a := range s.engine.NetworkUsers(n.ID) {
		for _, ep := range a.Endpoints {
			if ep.NetworkID == n.ID {
				out.Containers[a.ContainerID] = network.EndpointResource{
					Name: a.Name, EndpointID: ep.ID, MacAddress: network.HardwareAddr(net.HardwareAddr(ep.MAC)), IPv4Address: ep.IPv4, IPv6Address: ep.IPv6,
				}
			}
		}
	}
	return answer(w, http.StatusOK, out)
}

func (s *Server) createNetwork(w http.ResponseWriter, r *http.Request) error {
	var in network.CreateRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.Driver != "" && in.Driver != berthnet.DriverBridge {
		return fmt.Errorf("berth has no network driver %q yet, only bridge: %w", in.Driver, errdefs.ErrInvalidArgument)
	}
	if in.ConfigOnly || in.ConfigFrom != nil && in.ConfigFrom.Network != "" || in.Ingress {
		return invalid("berth has no configuration-only or ingress networks")
	}
	spec := berthnet.Spec{
		Name: in.Name, Driver: in.Driver, EnableIPv6: in.EnableIPv6 != nil && *in.EnableIPv6, DisableIPv4: in.EnableIPv4 != nil && !*in.EnableIPv4,
		Internal: in.Internal, Attachable: in.Attachable, Labels: in.Labels, Options: in.Options,
	}
	if in.IPAM != nil {
		if in.IPAM.Driver != "" && in.IPAM.Driver != "default" {
			return fmt.Errorf("berth has no IPAM driver %q, only default: %w", in.IPAM.Driver, errdefs.ErrInvalidArgument)
		}
		for _, c := range in.IPAM.Config {
			spec.Subnets = append(spec.Subnets, berthnet.Subnet{Subnet: c.Subnet, Gateway: c.Gateway, IPRange: c.IPRange, Aux: c.AuxAddress})
		}
	}
	n, err := s.engine.CreateNetwork(r.Context(), spec)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, network.CreateResponse{ID: n.ID})
}

func (s *Server) removeNetwork(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.RemoveNetwork(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return done(w)
}

func (s *Server) pruneNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "until", "label", "label!")
	if err != nil {
		return err
	}
	before, err := f.until()
	if err != nil {
		return err
	}
	p, err := s.engine.PruneNetworks(r.Context(), func(n berthnet.Network) bool {
		return !before.IsZero() && n.Created.After(before) || !f.labels(n.Labels)
	})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, network.PruneReport{NetworksDeleted: p.Deleted})
}
