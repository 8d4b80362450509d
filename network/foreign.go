package network

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Other firewalls on the host may drop what is forwarded, and whatever the priority of our chains, no
// accept of ours overrules that. Where such a firewall has a place for rules of others, a rule is put
// there for each direction of each bridge, tagged with the table's name, and taken away with the
// bridge:
//
//	iptables (nft or legacy)  chain DOCKER-USER, else ufw's of user rules, else FORWARD
//	firewalld                 the bridge is put into zone trusted
//	other nftables tables     no place is known: the error names the chain, unless its table names
//	                          the bridge already

// settleForeign makes the rules in other firewalls those for the bridges that are there; leaving is
// one that no longer is, "" for none.
func (f *firewall) settleForeign(leaving string) error {
	f.others.Lock()
	defer f.others.Unlock()
	f.mu.Lock()
	wanted := slices.Sorted(maps.Keys(f.bridges))
	f.mu.Unlock()
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables' chains: %w", err)
	}
	g := guests{conn: conn, chains: chains, tag: f.names.table, wanted: wanted, leaving: leaving}
	return errors.Join(g.iptables(nftables.TableFamilyIPv4), g.iptables(nftables.TableFamilyIPv6), g.legacy(), g.firewalld(), g.unknown())
}

// guests is the rules of one engine in the firewalls of others.
type guests struct {
	conn    *nftables.Conn
	chains  []*nftables.Chain
	tag     string
	wanted  []string // interfaces
	leaving string
}

func (g *guests) find(family nftables.TableFamily, table, chain string) *nftables.Chain {
	for _, c := range g.chains {
		if c.Table.Family == family && c.Table.Name == table && c.Name == chain {
			return c
		}
	}
	return nil
}

// userChains are where Docker and ufw want rules of others, in this order.
var userChains = []string{"DOCKER-USER", "ufw-user-forward", "ufw6-user-forward"}

// iptables settles the rules in the tables of iptables-nft. They are made of what iptables itself
// makes rules of, so that it can still list its tables.
func (g *guests) iptables(family nftables.TableFamily) error {
	forward := g.find(family, "filter", "FORWARD")
	if forward == nil {
		return nil
	}
	place := forward
	candidates := []*nftables.Chain{forward}
	for _, name := range slices.Backward(userChains) {
		if c := g.find(family, "filter", name); c != nil {
			place, candidates = c, append(candidates, c)
		}
	}
	drops, err := g.drops(forward)
	if err != nil {
		return err
	}
	missing := map[guest]bool{}
	for _, name := range g.wanted {
		if drops {
			missing[guest{name, expr.MetaKeyIIFNAME}], missing[guest{name, expr.MetaKeyOIFNAME}] = true, true
		}
	}
	for _, c := range candidates {
		rules, err := g.conn.GetRules(c.Table, c)
		if err != nil {
			return fmt.Errorf("list the rules of %s: %w", chainName(c), err)
		}
		for _, r := range rules {
			if comment, _ := userdata.GetString(r.UserData, userdata.TypeComment); comment != g.tag {
				continue
			}
			if got, ok := guestOf(r); ok && c == place && missing[got] {
				delete(missing, got)
			} else if err := g.conn.DelRule(&nftables.Rule{Table: c.Table, Chain: c, Handle: r.Handle}); err != nil {
				return err
			}
		}
	}
	for m := range missing {
		g.conn.InsertRule(&nftables.Rule{Table: place.Table, Chain: place, Exprs: m.exprs(), UserData: userdata.AppendString(nil, userdata.TypeComment, g.tag)})
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("let containers through %s: %w", chainName(place), err)
	}
	return nil
}

// guest is one rule: accept what comes from, or goes to, an interface.
type guest struct {
	name      string
	direction expr.MetaKey
}

// exprs uses the registers, and the length of a name, that iptables expects.
func (g guest) exprs() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: g.direction, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: append([]byte(g.name), 0)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

func guestOf(r *nftables.Rule) (guest, bool) {
	if len(r.Exprs) < 2 {
		return guest{}, false
	}
	meta, isMeta := r.Exprs[0].(*expr.Meta)
	cmp, isCmp := r.Exprs[1].(*expr.Cmp)
	if !isMeta || !isCmp {
		return guest{}, false
	}
	return guest{unix.ByteSliceToString(cmp.Data), meta.Key}, true
}

// drops reports whether a base chain drops what no rule of it accepted: by its policy, or by a last
// rule without conditions.
func (g *guests) drops(c *nftables.Chain) (bool, error) {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return true, nil
	}
	rules, err := g.conn.GetRules(c.Table, c)
	if err != nil {
		return false, fmt.Errorf("list the rules of %s: %w", chainName(c), err)
	}
	if len(rules) == 0 {
		return false, nil
	}
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			return true, nil
		case *expr.Verdict:
			return e.Kind == expr.VerdictDrop, nil
		default:
			return false, nil
		}
	}
	return false, nil
}

// unknown returns an error that names a chain which drops what is forwarded and has no place for us.
func (g *guests) unknown() error {
	for _, c := range g.chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Type != nftables.ChainTypeFilter || !g.foreign(c) {
			continue
		}
		drops, err := g.drops(c)
		if err != nil || !drops {
			return err
		}
		for _, name := range g.wanted {
			named, err := g.names(c.Table, name)
			if err != nil {
				return err
			}
			if !named {
				return fmt.Errorf("%s drops what is forwarded, which a rule of ours can't overrule; let containers through, with `nft insert rule %s %s %s iifname %q accept` and the same for oifname: %w", chainName(c), familyName(c.Table), c.Table.Name, c.Name, wildcard(name), errdefs.ErrFailedPrecondition)
			}
		}
	}
	return nil
}

// wildcard makes a pattern for all bridges of the engines on this host, where they have their usual
// names.
func wildcard(bridge string) string {
	if strings.HasPrefix(bridge, "berth-") {
		return "berth-*"
	}
	return bridge
}

// foreign reports whether a chain is in a table that neither an engine nor iptables nor firewalld has.
func (g *guests) foreign(c *nftables.Chain) bool {
	t := c.Table
	switch t.Family {
	case nftables.TableFamilyIPv4, nftables.TableFamilyIPv6:
		return t.Name != "filter" || c.Name != "FORWARD"
	case nftables.TableFamilyINet:
		return t.Name != g.tag && t.Name != firewalldTable
	}
	return false
}

// names reports whether a rule of a table names an interface, by itself or by its beginning.
func (g *guests) names(t *nftables.Table, name string) (bool, error) {
	for _, c := range g.chains {
		if c.Table.Name != t.Name || c.Table.Family != t.Family {
			continue
		}
		rules, err := g.conn.GetRules(c.Table, c)
		if err != nil {
			return false, fmt.Errorf("list the rules of %s: %w", chainName(c), err)
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if cmp, ok := e.(*expr.Cmp); ok && cmp.Op == expr.CmpOpEq && matchesName(cmp.Data, name) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// matchesName: a whole name is compared with its ending zero, a beginning without.
func matchesName(data []byte, name string) bool {
	if whole, _, ended := bytes.Cut(data, []byte{0}); ended {
		return string(whole) == name
	}
	return len(data) >= 2 && strings.HasPrefix(name, string(data))
}

func chainName(c *nftables.Chain) string {
	return fmt.Sprintf("chain %s of table %s %s", c.Name, familyName(c.Table), c.Table.Name)
}

func familyName(t *nftables.Table) string {
	return map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}[t.Family]
}

const firewalldTable = "firewalld"

// firewalld puts the bridges into zone trusted.
func (g *guests) firewalld() error {
	if !slices.ContainsFunc(g.chains, func(c *nftables.Chain) bool {
		return c.Table.Family == nftables.TableFamilyINet && c.Table.Name == firewalldTable
	}) {
		return nil
	}
	// Its tool takes half a second to say what its rules say as well.
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: firewalldTable}
	for _, name := range append([]string{g.leaving}, g.wanted...) {
		there, err := g.names(table, name)
		if err != nil {
			return err
		}
		if leaving := name == g.leaving; there != leaving || name == "" {
			continue
		}
		verb := map[bool]string{true: "--change-interface=", false: "--remove-interface="}[name != g.leaving]
		if _, err := program("firewall-cmd", "--zone=trusted", verb+name); err != nil {
			return fmt.Errorf("firewalld drops what is forwarded, and could not be asked to let containers through (firewall-cmd --zone=trusted %s%s): %w: %w", verb, name, err, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// legacy settles the rules in the tables of the old iptables, which are not nftables'.
func (g *guests) legacy() error {
	for family, command := range map[string]string{"ip": "iptables-legacy", "ip6": "ip6tables-legacy"} {
		tables, err := os.ReadFile("/proc/self/net/" + family + "_tables_names")
		if err != nil || !slices.Contains(strings.Fields(string(tables)), "filter") {
			continue
		}
		if _, err := exec.LookPath(command); err != nil {
			continue // nothing here can say what is in them
		}
		if err := g.legacyTable(command); err != nil {
			return err
		}
	}
	return nil
}

func (g *guests) legacyTable(command string) error {
	out, err := program(command, "-w", "-S")
	if err != nil {
		return fmt.Errorf("list the rules of %s: %w", command, err)
	}
	lines := strings.Split(out, "\n")
	place := "FORWARD"
	for _, name := range slices.Backward(userChains) {
		if slices.Contains(lines, "-N "+name) {
			place = name
		}
	}
	missing := map[string]bool{}
	for _, name := range g.wanted {
		if slices.Contains(lines, "-P FORWARD DROP") {
			for _, direction := range []string{"-i ", "-o "} {
				missing[fmt.Sprintf("%s %s%s -m comment --comment %s -j ACCEPT", place, direction, name, g.tag)] = true
			}
		}
	}
	for _, line := range lines {
		rule, isRule := strings.CutPrefix(line, "-A ")
		rule = strings.ReplaceAll(rule, `"`, "") // around comments
		if !isRule || !strings.Contains(rule, "--comment "+g.tag+" ") {
			continue
		}
		if missing[rule] {
			delete(missing, rule)
		} else if _, err := program(command, append([]string{"-w", "-D"}, strings.Fields(rule)...)...); err != nil {
			return fmt.Errorf("take a rule out of %s: %w", command, err)
		}
	}
	for rule := range missing {
		if _, err := program(command, append([]string{"-w", "-I"}, strings.Fields(rule)...)...); err != nil {
			return fmt.Errorf("let containers through %s: %w", command, err)
		}
	}
	return nil
}

// program runs a firewall's own tool and returns what it prints.
func program(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%s: %s", name, bytes.TrimSpace(exit.Stderr))
	}
	return string(out), err
}
