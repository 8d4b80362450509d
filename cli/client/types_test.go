package client

import (
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// TestTypesAreMobys holds this package's types against moby's: a field has the same Go name (templates
// use it) and the same JSON name there, or it is listed here with the reason.
func TestTypesAreMobys(t *testing.T) {
	older := map[string]string{ // fields of API versions below 1.52, which are asked for
		"Config.MacAddress": "", "Endpoint.MacAddress": "moby's is of another type", "Image.Parent": "", "Image.DockerVersion": "", "Image.VirtualSize": "",
		"NetworkSettings.Bridge": "", "NetworkSettings.HairpinMode": "", "NetworkSettings.LinkLocalIPv6Address": "", "NetworkSettings.LinkLocalIPv6PrefixLen": "",
		"NetworkSettings.EndpointID": "", "NetworkSettings.Gateway": "", "NetworkSettings.GlobalIPv6Address": "", "NetworkSettings.GlobalIPv6PrefixLen": "",
		"NetworkSettings.IPAddress": "", "NetworkSettings.IPPrefixLen": "", "NetworkSettings.IPv6Gateway": "", "NetworkSettings.MacAddress": "",
		"Message.ErrorText": "the error of engines that do not say errorDetail",
	}
	for _, pair := range []struct{ ours, mobys any }{
		{Config{}, container.Config{}}, {HealthConfig{}, container.HealthConfig{}}, {HostConfig{}, container.HostConfig{}},
		{RestartPolicy{}, container.RestartPolicy{}}, {LogConfig{}, container.LogConfig{}}, {DeviceMapping{}, container.DeviceMapping{}},
		{DeviceRequest{}, container.DeviceRequest{}}, {Ulimit{}, container.Ulimit{}}, {PortBinding{}, network.PortBinding{}},
		{Endpoint{}, network.EndpointSettings{}}, {EndpointIPAM{}, network.EndpointIPAMConfig{}}, {NetworkingConfig{}, network.NetworkingConfig{}},
		{ContainerSummary{}, container.Summary{}}, {Port{}, container.PortSummary{}}, {MountPoint{}, container.MountPoint{}},
		{Container{}, container.InspectResponse{}}, {State{}, container.State{}}, {Health{}, container.Health{}}, {HealthResult{}, container.HealthcheckResult{}},
		{NetworkSettings{}, container.NetworkSettings{}}, {ExecRequest{}, container.ExecCreateRequest{}}, {ExecStart{}, container.ExecStartRequest{}},
		{ExecState{}, container.ExecInspectResponse{}}, {ImageSummary{}, image.Summary{}}, {Image{}, image.InspectResponse{}},
		{ImageDeleted{}, image.DeleteResponse{}}, {HistoryItem{}, image.HistoryResponseItem{}}, {Volume{}, volume.Volume{}},
		{VolumeUsage{}, volume.UsageData{}}, {VolumeRequest{}, volume.CreateRequest{}}, {Network{}, network.Inspect{}}, {IPAM{}, network.IPAM{}},
		{IPAMConfig{}, network.IPAMConfig{}}, {NetworkMember{}, network.EndpointResource{}}, {NetworkRequest{}, network.CreateRequest{}},
		{Info{}, system.Info{}}, {Version{}, system.VersionResponse{}}, {ComponentVersion{}, system.ComponentVersion{}},
		{Message{}, jsonstream.Message{}}, {Progress{}, jsonstream.Progress{}}, {MessageError{}, jsonstream.Error{}},
	} {
		mobys := fields(reflect.TypeOf(pair.mobys))
		typ := reflect.TypeOf(pair.ours)
		for name, jsonName := range fields(typ) {
			if _, known := older[typ.Name()+"."+name]; known {
				continue
			}
			switch want, ok := mobys[name]; {
			case !ok && (name == "ProgressDetail" || name == "ErrorDetail"): // there they are called Progress and Error
			case !ok:
				t.Errorf("%s.%s: moby has no such field", typ.Name(), name)
			case !strings.EqualFold(want, jsonName):
				t.Errorf("%s.%s: %q in JSON, moby has %q", typ.Name(), name, jsonName, want)
			}
		}
	}
}

// fields maps a type's fields, those of embedded types too, to their names in JSON.
func fields(t reflect.Type) map[string]string {
	out := map[string]string{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			e := f.Type
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			for name, jsonName := range fields(e) {
				out[name] = jsonName
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		out[f.Name] = name
	}
	return out
}
