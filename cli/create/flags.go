package create

import (
	"net"
	"time"

	"github.com/spf13/pflag"
)

// Flags are the flags that run and create share. Image and Args are the words behind them.
type Flags struct {
	Image string
	Args  []string
	// LookupEnv gives `-e NAME` its value; os.LookupEnv outside tests.
	LookupEnv func(string) (string, bool)

	AutoRemove bool
	Detach     bool // set by run: such a container is attached to nothing

	attach, addHosts, capAdd, capDrop                   list
	devices, deviceRules, dns, dnsOptions, dnsSearch    list
	env, envFile, expose, groupAdd, labels, labelFile   list
	linkLocalIPs, links, aliases, logOpts               list
	publish, securityOpt, storageOpt, tmpfs             list
	volumes, volumesFrom                                list
	annotations, sysctls                                keyValues
	ulimits                                             ulimits
	mounts                                              mounts
	networks                                            networks
	weights                                             weights
	readBps, writeBps, readIOps, writeIOps              rates
	memory, memoryReservation, memorySwap, shm          size
	cpus                                                cpus
	interactive, tty, privileged, publishAll, readOnly  bool
	noHealthcheck, oomKillDisable, init                 bool
	blkioWeight                                         uint16
	cpuPeriod, cpuQuota, cpuShares, rtPeriod, rtRuntime int64
	swappiness, pidsLimit                               int64
	healthRetries, oomScoreAdj, stopTimeout             int
	healthInterval, healthTimeout                       time.Duration
	healthStartPeriod, healthStartInterval              time.Duration
	ip, ip6                                             net.IP
	cgroupParent, cgroupns, cidFile                     string
	cpusetCpus, cpusetMems, domainname, entrypoint      string
	healthCmd, hostname, ipc, logDriver, mac            string
	pid, restart, runtime, stopSignal, user, userns     string
	uts, volumeDriver, workdir                          string
}

// Register defines the flags on fs, with Docker's names and words.
func (f *Flags) Register(fs *pflag.FlagSet) {
	f.ulimits = ulimits{}
	f.attach.check, f.addHosts.check, f.dns.check, f.dnsSearch.check = checkAttach, Host, checkAddress, checkSearch
	f.deviceRules.check, f.labels.check, f.links.check, f.sysctls.check = checkDeviceRule, checkLabel, checkLink, checkSysctl
	f.env.check = func(v string) (string, error) { return Variable(v, f.LookupEnv) }
	f.readBps.bytes, f.writeBps.bytes, f.memorySwap.unlimited = true, true, true

	f.registerProcess(fs)
	f.registerNetwork(fs)
	f.registerStorage(fs)
	f.registerResources(fs)
	f.registerSecurity(fs)
}

func (f *Flags) registerProcess(fs *pflag.FlagSet) {
	fs.VarP(&f.attach, "attach", "a", "Attach to STDIN, STDOUT or STDERR")
	fs.StringVar(&f.cidFile, "cidfile", "", "Write the container ID to the file")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	fs.VarP(&f.env, "env", "e", "Set environment variables")
	fs.Var(&f.envFile, "env-file", "Read in a file of environment variables")
	fs.BoolVar(&f.init, "init", false, "Run an init inside the container that forwards signals and reaps processes")
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	fs.VarP(&f.labels, "label", "l", "Set meta data on a container")
	fs.Var(&f.labelFile, "label-file", "Read in a line delimited file of labels")
	fs.Var(&f.annotations, "annotation", "Add an annotation to the container (passed through to the OCI runtime)")
	fs.StringVar(&f.restart, "restart", "no", "Restart policy to apply when a container exits")
	fs.BoolVar(&f.AutoRemove, "rm", false, "Automatically remove the container and its associated anonymous volumes when it exits")
	fs.StringVar(&f.runtime, "runtime", "", "Runtime to use for this container")
	fs.StringVar(&f.stopSignal, "stop-signal", "", "Signal to stop the container")
	fs.IntVar(&f.stopTimeout, "stop-timeout", 0, "Timeout (in seconds) to stop a container")
	fs.BoolVarP(&f.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	fs.StringVarP(&f.user, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Working directory inside the container")

	fs.StringVar(&f.healthCmd, "health-cmd", "", "Command to run to check health")
	fs.DurationVar(&f.healthInterval, "health-interval", 0, "Time between running the check (ms|s|m|h) (default 0s)")
	fs.IntVar(&f.healthRetries, "health-retries", 0, "Consecutive failures needed to report unhealthy")
	fs.DurationVar(&f.healthTimeout, "health-timeout", 0, "Maximum time to allow one check to run (ms|s|m|h) (default 0s)")
	fs.DurationVar(&f.healthStartPeriod, "health-start-period", 0, "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)")
	fs.DurationVar(&f.healthStartInterval, "health-start-interval", 0, "Time between running the check during the start period (ms|s|m|h) (default 0s)")
	fs.BoolVar(&f.noHealthcheck, "no-healthcheck", false, "Disable any container-specified HEALTHCHECK")

	fs.StringVar(&f.logDriver, "log-driver", "", "Logging driver for the container")
	fs.Var(&f.logOpts, "log-opt", "Log driver options")
}

func (f *Flags) registerNetwork(fs *pflag.FlagSet) {
	fs.Var(&f.addHosts, "add-host", "Add a custom host-to-IP mapping (host:ip)")
	fs.Var(&f.dns, "dns", "Set custom DNS servers")
	fs.Var(&f.dnsOptions, "dns-opt", "Set DNS options")
	fs.Var(&f.dnsOptions, "dns-option", "Set DNS options")
	fs.Var(&f.dnsSearch, "dns-search", "Set custom DNS search domains")
	fs.StringVar(&f.domainname, "domainname", "", "Container NIS domain name")
	fs.Var(&f.expose, "expose", "Expose a port or a range of ports")
	fs.StringVarP(&f.hostname, "hostname", "h", "", "Container host name")
	fs.IPVar(&f.ip, "ip", nil, "IPv4 address (e.g., 172.30.100.104)")
	fs.IPVar(&f.ip6, "ip6", nil, "IPv6 address (e.g., 2001:db8::33)")
	fs.Var(&f.links, "link", "Add link to another container")
	fs.Var(&f.linkLocalIPs, "link-local-ip", "Container IPv4/IPv6 link-local addresses")
	fs.StringVar(&f.mac, "mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	fs.Var(&f.networks, "net", "Connect a container to a network")
	fs.Var(&f.networks, "network", "Connect a container to a network")
	fs.Var(&f.aliases, "net-alias", "Add network-scoped alias for the container")
	fs.Var(&f.aliases, "network-alias", "Add network-scoped alias for the container")
	fs.VarP(&f.publish, "publish", "p", "Publish a container's port(s) to the host")
	fs.BoolVarP(&f.publishAll, "publish-all", "P", false, "Publish all exposed ports to random ports")
	for _, name := range []string{"dns-opt", "net", "net-alias"} {
		fs.Lookup(name).Hidden = true
	}
}

func (f *Flags) registerStorage(fs *pflag.FlagSet) {
	fs.Var(&f.mounts, "mount", "Attach a filesystem mount to the container")
	fs.BoolVar(&f.readOnly, "read-only", false, "Mount the container's root filesystem as read only")
	fs.Var(&f.shm, "shm-size", "Size of /dev/shm")
	fs.Var(&f.storageOpt, "storage-opt", "Storage driver options for the container")
	fs.Var(&f.tmpfs, "tmpfs", "Mount a tmpfs directory")
	fs.VarP(&f.volumes, "volume", "v", "Bind mount a volume")
	fs.StringVar(&f.volumeDriver, "volume-driver", "", "Optional volume driver for the container")
	fs.Var(&f.volumesFrom, "volumes-from", "Mount volumes from the specified container(s)")
}

func (f *Flags) registerResources(fs *pflag.FlagSet) {
	fs.Uint16Var(&f.blkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
	fs.Var(&f.weights, "blkio-weight-device", "Block IO weight (relative device weight)")
	fs.StringVar(&f.cgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	fs.Int64Var(&f.cpuPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	fs.Int64Var(&f.cpuQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	fs.Int64Var(&f.rtPeriod, "cpu-rt-period", 0, "Limit CPU real-time period in microseconds")
	fs.Int64Var(&f.rtRuntime, "cpu-rt-runtime", 0, "Limit CPU real-time runtime in microseconds")
	fs.Int64VarP(&f.cpuShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	fs.Var(&f.cpus, "cpus", "Number of CPUs")
	fs.StringVar(&f.cpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	fs.StringVar(&f.cpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	fs.Var(&f.readBps, "device-read-bps", "Limit read rate (bytes per second) from a device")
	fs.Var(&f.readIOps, "device-read-iops", "Limit read rate (IO per second) from a device")
	fs.Var(&f.writeBps, "device-write-bps", "Limit write rate (bytes per second) to a device")
	fs.Var(&f.writeIOps, "device-write-iops", "Limit write rate (IO per second) to a device")
	fs.VarP(&f.memory, "memory", "m", "Memory limit")
	fs.Var(&f.memoryReservation, "memory-reservation", "Memory soft limit")
	fs.Var(&f.memorySwap, "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	fs.Int64Var(&f.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	fs.BoolVar(&f.oomKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	fs.IntVar(&f.oomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	fs.Int64Var(&f.pidsLimit, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	fs.Var(f.ulimits, "ulimit", "Ulimit options")
	fs.Var(&size{}, "kernel-memory", "Kernel memory limit (deprecated)")
	Deprecate(fs, "kernel-memory", "the kernel has no such limit any more, and it has no effect")
}

// deprecation is the annotation that says why a flag should not be used any more.
const deprecation = "deprecated"

// Deprecate hides a flag and keeps the reason for who uses it all the same. (pflag's own way of saying
// it writes to stdout under cobra, where the answer belongs.)
func Deprecate(fs *pflag.FlagSet, name, reason string) {
	fs.Lookup(name).Hidden = true
	_ = fs.SetAnnotation(name, deprecation, []string{reason}) // the flag is there
}

// Deprecation is the reason that Deprecate was given, or "".
func Deprecation(f *pflag.Flag) string {
	if reasons := f.Annotations[deprecation]; len(reasons) > 0 {
		return reasons[0]
	}
	return ""
}

func (f *Flags) registerSecurity(fs *pflag.FlagSet) {
	fs.Var(&f.capAdd, "cap-add", "Add Linux capabilities")
	fs.Var(&f.capDrop, "cap-drop", "Drop Linux capabilities")
	fs.StringVar(&f.cgroupns, "cgroupns", "", "Cgroup namespace to use (host|private)")
	fs.Var(&f.devices, "device", "Add a host device to the container")
	fs.Var(&f.deviceRules, "device-cgroup-rule", "Add a rule to the cgroup allowed devices list")
	fs.Var(&f.groupAdd, "group-add", "Add additional groups to join")
	fs.StringVar(&f.ipc, "ipc", "", "IPC mode to use")
	fs.StringVar(&f.pid, "pid", "", "PID namespace to use")
	fs.BoolVar(&f.privileged, "privileged", false, "Give extended privileges to this container")
	fs.Var(&f.securityOpt, "security-opt", "Security Options")
	fs.Var(&f.sysctls, "sysctl", "Sysctl options")
	fs.StringVar(&f.userns, "userns", "", "User namespace to use")
	fs.StringVar(&f.uts, "uts", "", "UTS namespace to use")
}
