package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLinked: what is linked costs time at every start, even if it is never called, so each package
// from elsewhere is here with what it costs (of about 1 ms that a Go program takes that does nothing).
func TestLinked(t *testing.T) {
	allowed := []string{
		"github.com/docker/cli/cli/config",                        // 0.1 ms, with the next five
		"github.com/docker/cli/cli/config/configfile",             //
		"github.com/docker/cli/cli/config/credentials",            //
		"github.com/docker/cli/cli/config/memorystore",            //
		"github.com/docker/cli/cli/config/types",                  //
		"github.com/docker/docker-credential-helpers/client",      //
		"github.com/docker/docker-credential-helpers/credentials", //
		"github.com/docker/go-units",                              // 0.03 ms: one regular expression
		"github.com/sirupsen/logrus",                              // from cli/config
		"github.com/spf13/cobra",                                  // 0.25 ms with the next
		"github.com/spf13/pflag",                                  //
		"golang.org/x/sys/unix",                                   //
		"golang.org/x/term",                                       //
		"vendor/golang.org/x/net/dns/dnsmessage",                  // from net
		"github.com/moby/patternmatcher",                          // from build/session
		"golang.org/x/sync/errgroup",                              //
	}
	const own = "github.com/berth-engine/berth/"
	rooms := []string{"api/wire", "build/session", "cli", "cmd/berth", "internal"}
	// Named although they are in no list of what is allowed: the reason is worth more than the refusal.
	costly := map[string]string{
		"net/http":                               "0.9 ms, as much as everything else together",
		"crypto/tls":                             "self-tests and tables",
		"google.golang.org/protobuf/proto":       "registers every message at start",
		"github.com/opencontainers/go-digest":    "0.3 ms: compiles regular expressions",
		"github.com/distribution/reference":      "1 ms: compiles regular expressions",
		"github.com/moby/moby/api/types/network": "with container it brings go-digest",
		"html/template":                          "as big as the whole program",
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if reason, ok := costly[p]; ok {
			t.Errorf("%s is linked: %s", p, reason)
			continue
		}
		if rest, ok := strings.CutPrefix(p, own); ok {
			if !slices.ContainsFunc(rooms, func(r string) bool { return rest == r || strings.HasPrefix(rest, r+"/") }) {
				t.Errorf("%s is linked: the command line knows the engine's API only", p)
			}
			continue
		}
		if strings.Contains(p, ".") && !slices.Contains(allowed, p) {
			t.Errorf("%s is linked: what does it cost at start?", p)
		}
	}
}
