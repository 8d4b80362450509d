package network

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

func hostsFile(t *testing.T, c *Controller, id string) string {
	t.Helper()
	entries, err := c.Hosts(id)
	must(t, err)
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\n", e.Addr, strings.Join(e.Names, " "))
	}
	return b.String()
}

// TestHosts: in a user-defined network containers find each other by name, short id, host name and
// aliases; in the default network only themselves.
func TestHosts(t *testing.T) {
	m := newMachine(t)
	var (
		mu      sync.Mutex
		changed []string
	)
	m.opts.NamesChanged = func(ids []string) {
		mu.Lock()
		defer mu.Unlock()
		changed = append(changed, ids...)
	}
	told := func(want ...string) {
		t.Helper()
		ok := poll(func() bool {
			mu.Lock()
			defer mu.Unlock()
			got := slices.Compact(slices.Sorted(slices.Values(changed)))
			return slices.Equal(got, want)
		})
		mu.Lock()
		defer mu.Unlock()
		if !ok {
			t.Errorf("told of %v, want %v", changed, want)
		}
		changed = nil
	}
	c := m.open()
	for _, name := range []string{"one", "two"} {
		_, err := c.Create(t.Context(), Spec{Name: name, EnableIPv6: name == "two"})
		must(t, err)
	}
	web := m.attach(c, Request{ContainerID: "0123456789abcdef", Name: "web", Hostname: "webhost", Endpoints: []EndpointRequest{{Network: "one", Aliases: []string{"www"}}}})
	told("0123456789abcdef")
	db := m.attach(c, Request{ContainerID: "db", Name: "database", Hostname: "db", Endpoints: []EndpointRequest{{Network: "one"}, {Network: "two"}}})
	told("0123456789abcdef", "db")
	alone := m.attach(c, Request{ContainerID: "alone", Name: "alone", Hostname: "a"})
	webAddr, dbAddr := web.Endpoints[0].IPv4.Addr(), db.Endpoints[0].IPv4.Addr()
	two := db.Endpoints[1]
	if got, want := hostsFile(t, c, "0123456789abcdef"), fmt.Sprintf("%s web 0123456789ab webhost www\n%s database db\n", webAddr, dbAddr); got != want {
		t.Errorf("web:\n%swant:\n%s", got, want)
	}
	if got, want := hostsFile(t, c, "db"), fmt.Sprintf("%s database db\n%s database db\n%s database db\n%s web 0123456789ab webhost www\n", dbAddr, two.IPv4.Addr(), two.IPv6.Addr(), webAddr); got != want {
		t.Errorf("db:\n%swant:\n%s", got, want)
	}
	if got, want := hostsFile(t, c, "alone"), fmt.Sprintf("%s a\n", alone.Endpoints[0].IPv4.Addr()); got != want {
		t.Errorf("alone:\n%swant:\n%s", got, want)
	}
	_, err := c.Connect(t.Context(), "alone", alone.NS, EndpointRequest{Network: "two", Aliases: []string{"late"}})
	must(t, err)
	told("alone", "db")
	if got := hostsFile(t, c, "db"); !containsLine(got, " alone a late") {
		t.Errorf("db does not find who came later:\n%s", got)
	}
	must(t, c.Rename(t.Context(), "alone", "lonely"))
	told("alone", "db")
	if got := hostsFile(t, c, "db"); !containsLine(got, " lonely alone a late") {
		t.Errorf("a new name is not found:\n%s", got)
	}
	must(t, c.Rename(t.Context(), "nobody", "x"))
	must(t, c.Disconnect(t.Context(), "alone", alone.NS, "two"))
	told("alone", "db")
	must(t, c.Detach(t.Context(), "db"))
	told("0123456789abcdef")
	if got := hostsFile(t, c, "0123456789abcdef"); strings.Contains(got, "database") {
		t.Errorf("who is gone is found:\n%s", got)
	}
	if _, err := c.Hosts("db"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}
