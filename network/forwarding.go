package network

// forwarding is what was switched on for the host to pass packets between interfaces.
type forwarding struct{}

func (f *forwarding) load() error { return nil }

func (c *Controller) settleForwarding() error { return nil }
