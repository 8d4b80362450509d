package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/berth-engine/berth/internal/inroot"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// identity is who a process runs as, by number.
type identity struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// accountsMax is how large passwd and group may be, in bytes: they are the container's.
const accountsMax = 1 << 20

// lookUp finds a user ("", "name", "uid", each with ":group" or ":gid") and further groups in the
// passwd and group files of a root file system. Numbers need not be in there.
func lookUp(root *os.File, who string, groups []string) (identity, error) {
	passwd, err := accounts(root, "/etc/passwd")
	if err != nil {
		return identity{}, err
	}
	group, err := accounts(root, "/etc/group")
	if err != nil {
		return identity{}, err
	}
	found, err := user.GetExecUser(who, &user.ExecUser{Home: "/"}, passwd(), group())
	if err != nil {
		return identity{}, unknownAccount("user "+who, err)
	}
	id := identity{uid: uint32(found.Uid), gid: uint32(found.Gid), home: found.Home}
	sgids := found.Sgids
	if len(groups) > 0 {
		more, err := user.GetAdditionalGroups(groups, group())
		if err != nil {
			return identity{}, unknownAccount("groups "+strings.Join(groups, ", "), err)
		}
		sgids = append(sgids, more...)
	}
	// The group itself is among them: a program with the setgid bit must not lose what it denies (CVE-2022-36109).
	id.groups = []uint32{id.gid}
	for _, g := range sgids {
		if !slices.Contains(id.groups, uint32(g)) {
			id.groups = append(id.groups, uint32(g))
		}
	}
	return id, nil
}

// unknownAccount is Docker's sentence, which says itself what was not found unless a number is out of range.
func unknownAccount(what string, err error) error {
	if strings.HasPrefix(strings.ToLower(err.Error()), "unable to find") {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("unable to find %s: %w: %w", what, err, errdefs.ErrInvalidArgument)
}

// accounts reads a file of accounts, which may be missing. The function returns it from its beginning.
func accounts(root *os.File, path string) (func() io.Reader, error) {
	b, err := inroot.ReadFile(root, path, accountsMax)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%s of the container: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	return func() io.Reader { return bytes.NewReader(b) }, nil
}
