package network

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
)

const maxInterfaceName = 15 // IFNAMSIZ - 1, bytes

// names is everything by which one engine's objects are told from another's.
type names struct {
	tag    string // six hexadecimal digits
	table  string
	bridge string // of the default network
}

func namesFor(opts Options) (names, error) {
	root, err := filepath.Abs(opts.ExecRoot)
	if err != nil {
		return names{}, err
	}
	from := opts.Name
	if from == "" {
		from = root
	}
	n := names{tag: hexHash("berth names " + from)[:6], table: opts.Name, bridge: opts.Bridge}
	if n.table == "" {
		n.table = "berth-" + n.tag
	}
	if n.bridge == "" {
		n.bridge = n.table
	}
	return n, validInterface(n.bridge)
}

// networkBridge names the interface of a user-defined network. All of an engine's begin alike, so
// that a firewall's rule can name them.
func (n names) networkBridge(networkID string) string {
	return n.table[:min(len(n.table), 5)] + "-" + networkID[:9]
}

// veth makes a name for the host's end of a container's interface. The random part is long enough
// that a clash is an error nobody will see (EEXIST), not a confusion.
func (n names) veth() string { return n.vethPrefix() + randomHex(4)[:7] }

func (n names) vethPrefix() string { return "v" + n.tag + "-" }

// bridgeGroup is the group of links (IFLA_GROUP, a number) that holds this engine's bridges and
// nothing else: how they are known after a crash, whatever their names.
func (n names) bridgeGroup() uint32 { return bridgeGroups | n.number() }

// deadGroup is the group that links are put into to be deleted together.
func (n names) deadGroup() uint32 { return deadGroups | n.number() }

// Each engine has its own group of either kind: the lower bits are its tag.
const (
	bridgeGroups = 0x42000000
	deadGroups   = 0x43000000
	groupMask    = 0xff000000
)

func (n names) number() uint32 {
	v, _ := strconv.ParseUint(n.tag, 16, 32) // hexadecimal digits by construction
	return uint32(v)
}

// validInterface follows dev_valid_name of the kernel, and leaves out what nftables reads as a
// pattern.
func validInterface(name string) error {
	bad := name == "" || name == "." || name == ".." || len(name) > maxInterfaceName
	for _, r := range name {
		bad = bad || r <= ' ' || r > '~' || r == '/' || r == ':' || r == '*' || r == '"' || r == '%'
	}
	if bad {
		return fmt.Errorf("%q can't be the name of an interface: 1 to %d letters, digits, \"-\", \"_\" or \".\": %w", name, maxInterfaceName, errdefs.ErrInvalidArgument)
	}
	return nil
}

func hexHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// randomHex returns n random bytes as hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand since Go 1.24)
	return hex.EncodeToString(b)
}
