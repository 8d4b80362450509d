package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace and a socket to configure it with.
type namespace struct {
	file *os.File
	*rtnl
}

// close also closes the namespace's descriptor.
func (n *namespace) close() error {
	n.rtnl.close()
	return n.file.Close()
}

// newNamespace makes a network namespace in which the loopback interface is up and any user may bind
// low ports and send pings, as Docker sets it up (an unprivileged process in it can do no harm with
// either). Interfaces get IPv6 only where they ask for it.
func newNamespace(home *os.File) (*namespace, error) {
	n := &namespace{}
	err := onThread(home, func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if n.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		for _, s := range sandboxSysctls {
			if err := writeSysctl(s.path, s.value); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(err, n.file.Close())
			}
		}
		if n.rtnl, err = openRtnl(); err != nil {
			return errors.Join(err, n.file.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := n.up(loopbackIndex); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the loopback interface up: %w", err), n.close())
	}
	return n, nil
}

const loopbackIndex = 1 // LOOPBACK_IFINDEX of the kernel

var sandboxSysctls = []sysctl{
	{"net/ipv6/conf/default/disable_ipv6", "1"},
	{"net/ipv6/conf/default/accept_ra", "0"},
	{"net/ipv4/ip_unprivileged_port_start", "0"},
	{"net/ipv4/ping_group_range", "0 2147483647"},
}

// enterNamespace opens a socket in a namespace that is there already. ns stays the caller's; only the
// socket is to be closed.
func enterNamespace(home, ns *os.File) (*namespace, error) {
	n := &namespace{file: ns}
	return n, inNamespace(home, ns, func() (err error) {
		n.rtnl, err = openRtnl()
		return err
	})
}

// inNamespace calls f on a thread that is in ns, and then back in home.
func inNamespace(home, ns *os.File, f func() error) error {
	return onThread(home, func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return f()
	})
}

// onThread calls f, which may change its thread's network namespace, on a thread that runs nothing
// else meanwhile. A thread that can't be brought home ends: Go ends the thread of a goroutine that
// returns while locked to it.
func onThread(home *os.File, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			done <- errors.Join(err, fmt.Errorf("return from a network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// sysctl is a file below /proc/sys and what is written to it.
type sysctl struct{ path, value string }

func writeSysctl(path, value string) error {
	f, err := os.OpenFile("/proc/sys/"+path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
