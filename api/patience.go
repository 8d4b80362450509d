package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// clientPatience is how long a client may read nothing of what it is sent while it keeps something from ending.
const clientPatience = 5 * time.Minute

// patient is a connection on which no write waits for ever: where the client has read nothing for that long, because
// it is stopped or hangs, the connection is closed, which ends what is done for it.
type patient struct {
	net.Conn
	patience time.Duration
}

func (p patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(p.patience)); err != nil {
		return 0, err
	}
	n, err := p.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.Join(fmt.Errorf("the client has read nothing for %v: it is stopped, or hangs: %w", p.patience, err), p.Close())
	}
	return n, err
}
