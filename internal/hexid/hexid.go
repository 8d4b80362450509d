// Package hexid makes the random ids of containers, execs and slots.
//
// It owns nothing. It promises ids that nobody else has, and that are host names when they are cut short. It must not
// know what an id is for.
package hexid

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// New returns 64 hexadecimal digits. The first twelve, the host name of a container that was given none, are not all
// decimal: the C library would take that for an address, and not look for the name (Docker does the same).
func New() string {
	for {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if id := hex.EncodeToString(b[:]); strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}
