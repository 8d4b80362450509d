package network

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// firewall is the engine's nftables table: what should be in it, and the means to put it there. The
// table comes with the first bridge and goes with the last.
type firewall struct {
	names names

	others sync.Mutex // held while other firewalls are changed, which may take their tools a second; before mu

	mu       sync.Mutex // after every other lock of this package
	conn     *nftables.Conn
	bridges  map[string]bridgeRules // by interface; guarded by mu
	mappings map[mappingKey]mapping // guarded by mu
	before   forwardRecord          // guarded by mu
}

type mappingKey struct {
	host  string
	proto string
}

func (m mapping) key() mappingKey { return mappingKey{m.Host.String(), m.Proto} }

func newFirewall(n names) *firewall {
	return &firewall{names: n, bridges: map[string]bridgeRules{}, mappings: map[mappingKey]mapping{}}
}

// dial opens the socket, unless it is open. It lasts: opening one takes longer than adding an
// element. It needs mu.
func (f *firewall) dial() error {
	if f.conn != nil {
		return nil
	}
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nftables can't be reached (is nf_tables in this kernel, or its module loaded?): %w", err)
	}
	f.conn = conn
	return nil
}

func (f *firewall) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hangUp()
}

func (f *firewall) hangUp() error {
	if f.conn == nil {
		return nil
	}
	err := f.conn.CloseLasting()
	f.conn = nil
	return err
}

// addBridge makes the rules of a network, here and where other firewalls need them. After an error
// removeBridge must follow.
func (f *firewall) addBridge(b bridgeRules) error {
	f.mu.Lock()
	f.bridges[b.Interface] = b
	err := f.rebuild()
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.settleForeign("")
}

func (f *firewall) removeBridge(name string) error {
	f.mu.Lock()
	_, had := f.bridges[name]
	delete(f.bridges, name)
	var err error
	if had {
		err = f.rebuild()
	}
	f.mu.Unlock()
	if !had {
		return nil
	}
	return errors.Join(err, f.settleForeign(name))
}

// publish adds mappings that are not there yet.
func (f *firewall) publish(ms []mapping) error {
	if len(ms) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range ms {
		f.mappings[m.key()] = m
	}
	err := f.change(ms, (*nftables.Conn).SetAddElements)
	if errors.Is(err, unix.ENOENT) { // somebody flushed the ruleset
		err = f.rebuild()
	}
	if err != nil {
		for _, m := range ms {
			delete(f.mappings, m.key())
		}
		return fmt.Errorf("add published ports to table %s: %w", f.names.table, err)
	}
	return nil
}

// unpublish takes mappings away; those that are gone don't matter.
func (f *firewall) unpublish(ms []mapping) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var there []mapping
	for _, m := range ms {
		if _, ok := f.mappings[m.key()]; ok {
			there = append(there, m)
			delete(f.mappings, m.key())
		}
	}
	if len(there) == 0 {
		return nil
	}
	err := f.change(there, (*nftables.Conn).SetDeleteElements)
	if errors.Is(err, unix.ENOENT) {
		err = f.rebuild()
	}
	if err != nil {
		return fmt.Errorf("take published ports out of table %s: %w", f.names.table, err)
	}
	return nil
}

// change sends one batch that adds or deletes the elements of ms. It needs mu.
func (f *firewall) change(ms []mapping, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if err := f.dial(); err != nil {
		return err
	}
	elements := map[string][]nftables.SetElement{}
	for _, m := range ms {
		name, e := m.element()
		elements[name] = append(elements[name], e)
	}
	for _, s := range f.names.portMaps() {
		if e := elements[s.Name]; len(e) > 0 {
			if err := do(f.conn, s, e); err != nil {
				return errors.Join(err, f.hangUp())
			}
		}
	}
	return f.flush()
}

// setBefore says what forwarding was before. The table says so, and keeps it so between the host's
// interfaces, when it is written next.
func (f *firewall) setBefore(before forwardRecord) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// refresh writes the table anew.
func (f *firewall) refresh() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rebuild()
}

// needsForwarding reports for which families there are bridges with a way out.
func (f *firewall) needsForwarding() (v4, v6 bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.bridges {
		for _, s := range b.Subnets {
			v4 = v4 || !b.Internal && s.Addr().Is4()
			v6 = v6 || !b.Internal && s.Addr().Is6()
		}
	}
	return v4, v6
}

// beforeOfOthers returns what another engine on this host wrote down of a family before it was
// switched on, nil if none did.
func (f *firewall) beforeOfOthers(family string) (*forwardedBefore, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list nftables' tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == f.names.table {
			continue
		}
		if b, err := readBefore(conn, t, family); err != nil || b != nil {
			return b, err
		}
	}
	return nil, nil
}

// load says what the table should hold, and makes it so.
func (f *firewall) load(bridges []bridgeRules, ms []mapping, before forwardRecord) error {
	return errors.Join(f.loadTable(bridges, ms, before), f.settleForeign(""))
}

func (f *firewall) loadTable(bridges []bridgeRules, ms []mapping, before forwardRecord) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
	clear(f.bridges)
	clear(f.mappings)
	for _, b := range bridges {
		f.bridges[b.Interface] = b
	}
	for _, m := range ms {
		f.mappings[m.key()] = m
	}
	return f.rebuild()
}

// heal puts back what others took away: Debian's nftables.conf begins with "flush ruleset", and
// firewalls write their chains anew when they are reloaded.
func (f *firewall) heal() (flushed bool, err error) {
	flushed, err = f.healTable()
	return flushed, errors.Join(err, f.settleForeign(""))
}

func (f *firewall) healTable() (flushed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.bridges) == 0 {
		return false, nil
	}
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list nftables' tables: %w", err)
	}
	if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == f.names.table }) {
		return false, nil
	}
	return true, f.rebuild()
}

// rebuild replaces the table by what it should be. It needs mu.
func (f *firewall) rebuild() error {
	if err := f.dial(); err != nil {
		return err
	}
	if len(f.bridges) == 0 {
		f.conn.AddTable(f.names.nftTable()) // so that deleting it doesn't fail
		f.conn.DelTable(f.names.nftTable())
	} else {
		bridges := slices.SortedFunc(maps.Values(f.bridges), func(a, b bridgeRules) int { return cmp.Compare(a.Interface, b.Interface) })
		if err := f.names.ruleset(f.conn, bridges, slices.Collect(maps.Values(f.mappings)), f.before); err != nil {
			return errors.Join(err, f.hangUp())
		}
	}
	if err := f.flush(); err != nil {
		return fmt.Errorf("write nftables table %s: %w", f.names.table, err)
	}
	return nil
}

// flush sends the batch. After an error the socket may hold answers that would be taken for those to
// the next batch, so it is opened anew. It needs mu.
func (f *firewall) flush() error {
	err := f.conn.Flush()
	if err != nil {
		err = errors.Join(err, f.redial())
	}
	return err
}

func (f *firewall) redial() error {
	return errors.Join(f.conn.CloseLasting(), f.dial())
}
