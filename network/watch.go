package network

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watch hears of changes to the host's nftables, and has the firewall put back what is missing.
type watch struct {
	socket *nl.NetlinkSocket
	stop   chan struct{} // closed by close
	wake   chan struct{} // closed by listen
	done   sync.WaitGroup
}

// settleTime is how long a firewall is left to finish what it has begun: a reload is many changes.
const settleTime = 50 * time.Millisecond

func (w *watch) start(c *Controller) (err error) {
	if w.socket, err = nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	w.stop, w.wake = make(chan struct{}), make(chan struct{}, 1)
	w.done.Go(w.listen)
	w.done.Go(func() {
		for range w.wake {
			select {
			case <-w.stop:
				continue
			case <-time.After(settleTime):
			}
			flushed, err := c.fw.heal()
			if flushed {
				c.log.Warn("the nftables ruleset was flushed; the rules of containers were written again")
			}
			if err != nil {
				c.log.Warn("the firewall's rules for containers could not be put back", "error", err)
			}
		}
	})
	return nil
}

// listen wakes the healer. Changes of elements, the published ports, are no reason to; messages that
// were lost, because they were too many, are.
func (w *watch) listen() {
	defer close(w.wake)
	for {
		messages, _, err := w.socket.Receive()
		select {
		case <-w.stop:
			return
		default:
		}
		matters := err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN)
		for _, m := range messages {
			switch m.Header.Type & 0xff {
			case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
				matters = true
			}
		}
		if matters {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

// close ends the watch and waits for what it does.
func (w *watch) close() {
	if w.socket == nil {
		return
	}
	close(w.stop)
	w.socket.Close()
	w.done.Wait()
}
