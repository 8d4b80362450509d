package create

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berth-engine/berth/cli/client"
)

// Request makes the body of the create from the parsed flags. fs is the set that Register was given:
// it knows which flags were set to their empty value.
func (f *Flags) Request(fs *pflag.FlagSet) (client.CreateRequest, error) {
	var none client.CreateRequest
	config, err := f.config(fs)
	if err != nil {
		return none, err
	}
	host, err := f.hostConfig(fs)
	if err != nil {
		return none, err
	}
	if config.Volumes, host.Binds, err = splitVolumes(f.volumes.values); err != nil {
		return none, err
	}
	if config.ExposedPorts, host.PortBindings, err = ports(f.publish.values, f.expose.values); err != nil {
		return none, err
	}
	endpoints, err := f.endpoints()
	if err != nil {
		return none, err
	}
	return client.CreateRequest{Config: config, HostConfig: host, NetworkingConfig: &client.NetworkingConfig{EndpointsConfig: endpoints}}, nil
}

func (f *Flags) config(fs *pflag.FlagSet) (*client.Config, error) {
	env, err := f.environment()
	if err != nil {
		return nil, err
	}
	labels, err := f.allLabels()
	if err != nil {
		return nil, err
	}
	health, err := f.health()
	if err != nil {
		return nil, err
	}
	c := &client.Config{
		Hostname: f.hostname, Domainname: f.domainname, User: f.user, Tty: f.tty, OpenStdin: f.interactive,
		AttachStdin: f.attaches("stdin") || f.interactive, AttachStdout: f.attaches("stdout"), AttachStderr: f.attaches("stderr"),
		Env: env, Image: f.Image, WorkingDir: f.workdir, Labels: labels, StopSignal: f.stopSignal, Healthcheck: health,
	}
	if len(f.attach.values) == 0 {
		c.AttachStdout, c.AttachStderr = true, true
	}
	if f.Detach {
		c.AttachStdin, c.AttachStdout, c.AttachStderr = false, false, false
	}
	c.StdinOnce = c.OpenStdin && c.AttachStdin
	if len(f.Args) > 0 {
		c.Cmd = f.Args
	}
	if f.entrypoint != "" || fs.Changed("entrypoint") { // --entrypoint "" resets the image's
		c.Entrypoint = []string{f.entrypoint}
	}
	if fs.Changed("stop-timeout") {
		c.StopTimeout = &f.stopTimeout
	}
	return c, nil
}

func (f *Flags) attaches(stream string) bool {
	for _, v := range f.attach.values {
		if v == stream {
			return true
		}
	}
	return false
}

// Attached tells whether -a was given.
func (f *Flags) Attached() bool { return len(f.attach.values) > 0 }

// CIDFile is the file that gets the container's ID, or "".
func (f *Flags) CIDFile() string { return f.cidFile }

func (f *Flags) hostConfig(fs *pflag.FlagSet) (*client.HostConfig, error) {
	if f.swappiness != -1 && (f.swappiness < 0 || f.swappiness > 100) {
		return nil, fmt.Errorf("invalid --memory-swappiness %d: it goes from 0 to 100", f.swappiness)
	}
	if err := f.checkModes(); err != nil {
		return nil, err
	}
	restart, err := parseRestart(f.restart)
	if err != nil {
		return nil, err
	}
	if f.AutoRemove && restart.Name != "" && restart.Name != "no" {
		return nil, errors.New("--restart and --rm exclude each other: a container that is removed when it exits cannot be started again")
	}
	logConfig, err := f.logConfig()
	if err != nil {
		return nil, err
	}
	devices, requests, err := parseDevices(f.devices.values)
	if err != nil {
		return nil, err
	}
	securityOpts, systemPaths, err := securityOptions(f.securityOpt.values)
	if err != nil {
		return nil, err
	}
	storage, err := storageOptions(f.storageOpt.values)
	if err != nil {
		return nil, err
	}
	h := &client.HostConfig{
		ContainerIDFile: f.cidFile, OomScoreAdj: f.oomScoreAdj, AutoRemove: f.AutoRemove, Privileged: f.privileged,
		Links: f.links.values, PublishAllPorts: f.publishAll,
		DNS: f.dns.orEmpty(), DNSSearch: f.dnsSearch.orEmpty(), DNSOptions: f.dnsOptions.orEmpty(),
		ExtraHosts: f.addHosts.values, VolumesFrom: f.volumesFrom.values, GroupAdd: f.groupAdd.values,
		NetworkMode: f.networks.mode(), IpcMode: f.ipc, PidMode: f.pid, UTSMode: f.uts, UsernsMode: f.userns, CgroupnsMode: f.cgroupns,
		SecurityOpt: securityOpts, StorageOpt: storage,
		RestartPolicy: restart, LogConfig: logConfig, ReadonlyRootfs: f.readOnly, VolumeDriver: f.volumeDriver,
		ShmSize: f.shm.bytes, Tmpfs: tmpfsOptions(f.tmpfs.values), Sysctls: f.sysctls.values, Runtime: f.runtime,
		Mounts: f.mounts, Annotations: f.annotations.values,
	}
	h.CapAdd, h.CapDrop = capabilities(f.capAdd.values), capabilities(f.capDrop.values)
	if systemPaths == "unconfined" {
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
	if fs.Changed("init") {
		h.Init = &f.init
	}
	f.resources(h)
	h.Devices, h.DeviceRequests = devices, requests
	return h, nil
}

func (f *Flags) resources(h *client.HostConfig) {
	h.CPUShares, h.CPUPeriod, h.CPUQuota = f.cpuShares, f.cpuPeriod, f.cpuQuota
	h.CPURealtimePeriod, h.CPURealtimeRuntime = f.rtPeriod, f.rtRuntime
	h.NanoCPUs, h.CpusetCpus, h.CpusetMems = int64(f.cpus), f.cpusetCpus, f.cpusetMems
	h.Memory, h.MemoryReservation, h.MemorySwap = f.memory.bytes, f.memoryReservation.bytes, f.memorySwap.bytes
	h.MemorySwappiness, h.OomKillDisable, h.PidsLimit = &f.swappiness, &f.oomKillDisable, &f.pidsLimit
	h.CgroupParent, h.BlkioWeight = f.cgroupParent, f.blkioWeight
	if h.BlkioWeightDevice = f.weights; h.BlkioWeightDevice == nil {
		h.BlkioWeightDevice = []*client.WeightDevice{}
	}
	h.BlkioDeviceReadBps, h.BlkioDeviceWriteBps = f.readBps.orEmpty(), f.writeBps.orEmpty()
	h.BlkioDeviceReadIOps, h.BlkioDeviceWriteIOps = f.readIOps.orEmpty(), f.writeIOps.orEmpty()
	h.Ulimits, h.DeviceCgroupRules = f.ulimits.sorted(), f.deviceRules.values
}

func (f *Flags) checkModes() error {
	for _, m := range []struct {
		flag, value string
		container   bool // container:NAME is a value, too
		values      []string
	}{
		{"--pid", f.pid, true, []string{"host"}},
		{"--uts", f.uts, false, []string{"host"}},
		{"--userns", f.userns, false, []string{"host"}},
		{"--cgroupns", f.cgroupns, false, []string{"host", "private"}},
		{"--ipc", f.ipc, true, []string{"host", "none", "private", "shareable"}},
	} {
		if name, ok := strings.CutPrefix(m.value, "container:"); m.value == "" || (ok && m.container && name != "") {
			continue
		}
		known := false
		for _, v := range m.values {
			known = known || v == m.value
		}
		if !known {
			if m.container {
				m.values = append(m.values, "container:NAME")
			}
			return fmt.Errorf("invalid %s %q: it can be %s", m.flag, m.value, strings.Join(m.values, ", "))
		}
	}
	return nil
}

func parseRestart(v string) (client.RestartPolicy, error) {
	var p client.RestartPolicy
	name, count, ok := strings.Cut(v, ":")
	if ok && name == "" {
		return p, fmt.Errorf("invalid --restart %q: no policy before the colon", v)
	}
	if count != "" {
		n, err := strconv.Atoi(count)
		if err != nil {
			return p, fmt.Errorf("invalid --restart %q: the number of retries must be a whole number", v)
		}
		p.MaximumRetryCount = n
	}
	p.Name = name
	return p, nil
}

func (f *Flags) health() (*client.HealthConfig, error) {
	h := client.HealthConfig{
		Interval: f.healthInterval, Timeout: f.healthTimeout, Retries: f.healthRetries,
		StartPeriod: f.healthStartPeriod, StartInterval: f.healthStartInterval,
	}
	given := f.healthCmd != "" || h.Interval != 0 || h.Timeout != 0 || h.Retries != 0 || h.StartPeriod != 0 || h.StartInterval != 0
	if f.noHealthcheck {
		if given {
			return nil, errors.New("--no-healthcheck conflicts with the --health-* options")
		}
		return &client.HealthConfig{Test: []string{"NONE"}}, nil
	}
	if !given {
		return nil, nil
	}
	for flag, negative := range map[string]bool{
		"interval": h.Interval < 0, "timeout": h.Timeout < 0, "retries": h.Retries < 0,
		"start-period": h.StartPeriod < 0, "start-interval": h.StartInterval < 0,
	} {
		if negative {
			return nil, fmt.Errorf("--health-%s cannot be negative", flag)
		}
	}
	if f.healthCmd != "" {
		h.Test = []string{"CMD-SHELL", f.healthCmd}
	}
	return &h, nil
}

func (f *Flags) logConfig() (client.LogConfig, error) {
	if f.logDriver == "none" && len(f.logOpts.values) > 0 {
		return client.LogConfig{}, errors.New("--log-opt means nothing with --log-driver none")
	}
	return client.LogConfig{Type: f.logDriver, Config: toMap(f.logOpts.values)}, nil
}

// toMap cuts name=value; it is never nil.
func toMap(values []string) map[string]string {
	m := make(map[string]string, len(values))
	for _, v := range values {
		k, v, _ := strings.Cut(v, "=")
		m[k] = v
	}
	return m
}
