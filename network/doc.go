// Package network gives containers a network: bridges with address translation, addresses, network
// namespaces made ahead, published ports, isolation between networks.
//
// It owns the records of networks (DATA-ROOT/networks), what is attached now (EXEC-ROOT/network),
// the bridges, veths, sysctls and the one nftables table of an engine. It promises that an address
// or a host port is never given twice; that a killed engine's containers keep their network and a new
// one finds it again (Recover); that Detach may be called for anything at any time; and that after the
// last Detach, Close leaves the host as it was found. Everything is made in the network namespace
// that the process runs in, under names derived from the exec root, so that several engines live on
// one machine.
//
// It must not know images, processes, the API, or how a container gets into its namespace: it hands
// out open descriptors of namespaces and of listening sockets, and is asked by container ids.
package network
