package network

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/bootid"
)

// forwarding is the host's passing of packets between interfaces, which containers need to reach
// more than the host. Where it is off it is switched on with the first bridge that has a way out, and
// back off with the last; and between the interfaces that did not forward before, nothing is
// forwarded meanwhile either (sets idle4 and idle6).
//
// What was before is recorded in the exec root, and in sets of the table, where other engines on
// the same host find it: the last one to leave switches it off, whoever switched it on.
type forwarding struct {
	path string

	mu     sync.Mutex    // after lan.up, before Controller.mu
	record forwardRecord // guarded by mu
}

type forwardRecord struct {
	Boot   string // id of the boot; a record of another one means nothing
	V4, V6 *forwardedBefore
}

// forwardedBefore is what switching a family on changed: the kernel changes more than the one value
// (inet_forward_change, addrconf_fixup_forwarding).
type forwardedBefore struct {
	Idle      []string // interfaces that did not forward
	Router    []string // interfaces that did: by themselves, while the whole did not
	RA        []string // IPv6: interfaces that took routers' advertisements (accept_ra 1 means "unless forwarding")
	Redirects bool     // IPv4: net.ipv4.conf.all.accept_redirects
}

// addRules makes a network's rules, and switches forwarding on where the network needs it and it is
// off: what is, is recorded and guarded before. After an error, removeBridge must follow. It needs
// l.up.
func (c *Controller) addRules(n Network) error {
	f := &c.forward
	f.mu.Lock()
	defer f.mu.Unlock()
	var off []*forwardedFamily
	for _, family := range f.families() {
		if *family.before != nil || !family.neededBy(n) {
			continue
		}
		on, err := forwards(family.name, "all")
		if err != nil {
			return err
		}
		if on {
			*family.before, err = c.fw.beforeOfOthers(family.name) // nil: the host's administrator has it on
		} else {
			*family.before, err = c.observe(family.name)
			off = append(off, family)
		}
		if err != nil {
			return err
		}
	}
	if err := f.save(); err != nil {
		return err
	}
	c.fw.setBefore(f.record)
	if err := c.fw.addBridge(n.rules()); err != nil {
		return err
	}
	for _, family := range off {
		if err := family.switchOn(); err != nil {
			return err
		}
	}
	return nil
}

// forwardedFamily is IPv4 or IPv6.
type forwardedFamily struct {
	name   string // as in /proc/sys/net
	v6     bool
	before **forwardedBefore
}

// families needs mu.
func (f *forwarding) families() []*forwardedFamily {
	return []*forwardedFamily{{"ipv4", false, &f.record.V4}, {"ipv6", true, &f.record.V6}}
}

func (f *forwardedFamily) neededBy(n Network) bool {
	return !n.Internal && (f.v6 && n.IPv6 || !f.v6 && n.IPv4)
}

func (f *forwardedFamily) switchOn() error {
	for _, link := range (*f.before).RA { // or the host loses its default route
		if err := writeSysctl("net/ipv6/conf/"+link+"/accept_ra", "2"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return writeSysctl("net/"+f.name+"/conf/all/forwarding", "1")
}

// observe notes what switching a family on changes.
func (c *Controller) observe(family string) (*forwardedBefore, error) {
	links, err := c.host.links()
	if err != nil {
		return nil, err
	}
	b := &forwardedBefore{}
	for _, l := range links {
		name := l.Attrs().Name
		if l.Attrs().Index == loopbackIndex || isBerthBridge(l) || isOwnVeth(c.names, l) {
			continue
		}
		on, err := forwards(family, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone, or without this family
		case err != nil:
			return nil, err
		case on:
			b.Router = append(b.Router, name)
		default:
			b.Idle = append(b.Idle, name)
		}
		if family == "ipv6" {
			if ra, err := readSysctl("net/ipv6/conf/" + name + "/accept_ra"); err == nil && ra == "1" {
				b.RA = append(b.RA, name)
			}
		}
	}
	if family == "ipv4" {
		redirects, err := readSysctl("net/ipv4/conf/all/accept_redirects")
		if err != nil {
			return nil, err
		}
		b.Redirects = redirects == "1"
	}
	return b, nil
}

// settleForwarding puts back what was switched on, once no bridge needs it.
func (c *Controller) settleForwarding() error {
	f := &c.forward
	f.mu.Lock()
	defer f.mu.Unlock()
	need4, need6 := c.fw.needsForwarding()
	var errs []error
	for _, family := range f.families() {
		if before := *family.before; before != nil && !(family.v6 && need6 || !family.v6 && need4) {
			others, err := c.othersForward(family.name, before)
			if err == nil && !others {
				err = before.restore(family.name)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			*family.before = nil
			c.fw.setBefore(f.record)
			errs = append(errs, c.fw.refresh(), f.save())
		}
	}
	return errors.Join(errs...)
}

// othersForward reports whether something else on the host has come to need what we switched on:
// another engine, which will switch it off, or a bridge or tunnel that was not there before.
func (c *Controller) othersForward(family string, before *forwardedBefore) (bool, error) {
	if other, err := c.fw.beforeOfOthers(family); err != nil || other != nil {
		return other != nil, err
	}
	links, err := c.host.links()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		name := l.Attrs().Name
		known := slices.Contains(before.Idle, name) || slices.Contains(before.Router, name) || isBerthBridge(l)
		switch l.Type() {
		case "bridge", "tuntap", "wireguard", "vrf", "ipvlan", "macvlan":
			if !known {
				c.log.Info("forwarding stays on: something else has come to use it", "family", family, "interface", name)
				return true, nil
			}
		}
	}
	return false, nil
}

// isBerthBridge reports whether l is a bridge of any engine's.
func isBerthBridge(l netlink.Link) bool {
	return l.Type() == "bridge" && l.Attrs().Group&groupMask == bridgeGroups
}

func (b *forwardedBefore) restore(family string) error {
	conf := "net/" + family + "/conf/"
	settings := []sysctl{{conf + "all/forwarding", "0"}}
	if b.Redirects {
		settings = append(settings, sysctl{conf + "all/accept_redirects", "1"})
	} else if family == "ipv4" {
		settings = append(settings, sysctl{conf + "all/accept_redirects", "0"})
	}
	for _, link := range b.Router {
		settings = append(settings, sysctl{conf + link + "/forwarding", "1"})
	}
	for _, link := range b.RA {
		settings = append(settings, sysctl{conf + link + "/accept_ra", "1"})
	}
	var errs []error
	for _, s := range settings {
		if err := writeSysctl(s.path, s.value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func forwards(family, link string) (bool, error) {
	v, err := readSysctl("net/" + family + "/conf/" + link + "/forwarding")
	return v != "0", err
}

// load reads the record, once, at Recover.
func (f *forwarding) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	boot, err := bootid.Read()
	if err != nil {
		return err
	}
	err = atomicfile.ReadRecord(f.path, &f.record)
	if errors.Is(err, fs.ErrNotExist) || err == nil && f.record.Boot != boot {
		f.record, err = forwardRecord{}, nil
	}
	f.record.Boot = boot
	return err
}

func (f *forwarding) save() error {
	if f.record.V4 == nil && f.record.V6 == nil {
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return atomicfile.WriteRecord(f.path, f.record, atomicfile.Volatile)
}

// readSysctl returns a value without its newline.
func readSysctl(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", path))
	return strings.TrimSpace(string(b)), err
}
