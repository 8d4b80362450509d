package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// prefix begins the name of everything that these tests make.
const prefix = "bte2e"

// baseName is the image that every story can use.
const baseName = "busybox:base"

// baseImage imports the smallest base image.
func baseImage(d *daemon) error {
	tar := filepath.Join(world.dir, "busybox.tar")
	if out, err := exec.Command("../images/busybox.sh", tar).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	_, err := d.berth("import", "--change", `CMD ["sh"]`, "--change", "ENV PATH=/bin:/usr/bin", tar, baseName)
	return err
}

// startRegistry starts Debian's docker-registry on a free port of this namespace's loopback.
func startRegistry() (stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	world.registry = l.Addr().String()
	l.Close()
	dir := filepath.Join(world.dir, "registry")
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %s}\n", dir, world.registry)
	file := filepath.Join(world.dir, "registry.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(world.dir, "registry.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("docker-registry", "serve", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
	}
	err = eventually(func() error {
		c, err := net.Dial("tcp", world.registry)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// sight is what is on the machine that an engine could leave behind.
type sight map[string]bool

// look lists mounts, links, cgroups, rules, and processes of this run.
func look() (sight, error) {
	s := sight{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		s["mount "+strings.Fields(line)[4]] = true
	}
	for _, cmd := range [][]string{{"ip", "-o", "link"}, {"ip", "-o", "addr"}, {"ip", "route"}, {"nft", "list", "ruleset"}} {
		out, err := exec.Command(cmd[0], cmd[1:]...).Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(cmd, " "), err)
		}
		for line := range strings.Lines(string(out)) {
			s[cmd[0]+" "+strings.TrimSpace(line)] = true
		}
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		b, err := os.ReadFile("/proc/sys/" + name)
		if err == nil {
			s["sysctl "+name+" "+strings.TrimSpace(string(b))] = true
		}
	}
	if err := cgroups(s); err != nil {
		return nil, err
	}
	return s, processes(s)
}

// cgroups lists those of this run.
func cgroups(s sight) error {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, err := filepath.Glob(pattern + cgroupPrefix() + "*")
		if err != nil {
			return err
		}
		for _, dir := range found {
			s["cgroup "+dir] = true
		}
	}
	return nil
}

// processes are those whose executable is one of this run's programs, in this network namespace.
func processes(s sight) error {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || !strings.HasPrefix(filepath.Base(exe), "berth") {
			continue
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && ns == own {
			s[fmt.Sprintf("process %s (pid %d)", exe, pid)] = true
		}
	}
	return nil
}

// awaitClean waits until nothing is there that was not there before, and says what stays.
func awaitClean(before sight) (left string) {
	_ = eventually(func() error {
		left = ""
		now, err := look()
		if err != nil {
			left = err.Error() + "\n"
			return err
		}
		for what := range now {
			if !before[what] {
				left += what + "\n"
			}
		}
		if left != "" {
			return fmt.Errorf("%s", left)
		}
		return nil
	})
	return left
}

// sweep removes what runs that were killed have left under our prefix: directories and cgroups. Their
// processes, mounts and links went with their namespaces.
func sweep() error {
	var left []string
	for _, pattern := range []string{"/var/tmp/", "/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, err := filepath.Glob(pattern + prefix + "*")
		if err != nil {
			return err
		}
		left = append(left, found...)
	}
	for _, path := range left {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
		pid, err := strconv.Atoi(text)
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		if strings.HasPrefix(path, "/sys/") {
			err = removeGroups(path)
		} else {
			err = os.RemoveAll(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeGroups removes a cgroup and those below it.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
