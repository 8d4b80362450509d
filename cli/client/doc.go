// Package client talks Docker's Engine API over a unix socket (or plain TCP) with an HTTP/1.1 client
// of its own.
//
// It owns: finding the socket, one connection a request, JSON in and out, errors with their status,
// connections that are taken over (attach, exec, Berth's framed endpoints), the multiplexed output
// stream of containers, and the parts of the API's JSON that the command line reads.
//
// It promises: nothing here costs start-up time. net/http would cost as much as the whole rest of
// `berth` (its own initialisation and that of TLS), and github.com/moby/moby/api brings go-digest,
// whose regular expressions are compiled at every start; so neither is linked. The types are held
// against moby's by tests, field by field.
//
// It must not know: commands, flags, terminals, how anything is printed.
package client
