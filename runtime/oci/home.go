package oci

import (
	"strconv"
	"strings"

	"github.com/berth-engine/berth/internal/plainfile"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/inroot"
)

const maxPasswd = 1 << 20

// setHome adds HOME as other runtimes do: from the container's passwd file, "/" where the user is not in it.
func setHome(p *specs.Process, root string) {
	for _, e := range p.Env {
		if strings.HasPrefix(e, "HOME=") {
			return
		}
	}
	home := "/"
	if f, err := plainfile.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
		defer f.Close()
		if b, err := inroot.ReadFile(f, "etc/passwd", maxPasswd); err == nil {
			home = homeOf(string(b), p.User.UID)
		}
	}
	p.Env = append(p.Env, "HOME="+home)
}

func homeOf(passwd string, uid uint32) string {
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) >= 6 && fields[2] == want && strings.HasPrefix(fields[5], "/") {
			return fields[5]
		}
	}
	return "/"
}

// nameOf is the user's name, or its number where there is none.
func nameOf(passwd, uid string) string {
	for line := range strings.Lines(passwd) {
		if fields := strings.Split(line, ":"); len(fields) >= 3 && fields[2] == uid {
			return fields[0]
		}
	}
	return uid
}
