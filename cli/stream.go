package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/terminal"
	"github.com/berth-engine/berth/internal/detachkeys"
)

// checkInput refuses a terminal for a container whose input is none.
func (a *App) checkInput(attachStdin, tty bool) error {
	if attachStdin && tty && !a.inIsTerminal() {
		return errors.New("stdin is not a terminal, so it cannot be the input of a container with one: leave out -t, or -i")
	}
	return nil
}

// detachKeys are those of the flag, else of the configuration, else ctrl-p,ctrl-q.
func (a *App) detachKeys(flag string) ([]byte, error) {
	keys := flag
	if keys == "" {
		keys = a.configuredDetachKeys()
	}
	if keys == "" {
		keys = detachkeys.Default
	}
	return detachkeys.Parse(keys)
}

// terminalSize is the size of the terminal that stdout is, if it is one.
func (a *App) terminalSize() (terminal.Size, bool) {
	f := a.outFile()
	if !terminal.Is(f) {
		return terminal.Size{}, false
	}
	size, err := terminal.SizeOf(f)
	return size, err == nil
}

// exchange is what happens on a stream of a container's: input there, output here.
type exchange struct {
	in       io.Reader // nil: none
	tty      bool      // one raw stream instead of two in blocks
	keys     []byte    // that detach, with a terminal
	out, err io.Writer
}

// exchange copies both ways until the output ends. ErrDetached is returned when the keys were pressed.
func (a *App) exchange(conn *client.Stream, x exchange) error {
	if x.tty && x.in != nil {
		restore, err := a.rawTerminal()
		if err != nil {
			return err
		}
		defer restore()
	}
	detached := make(chan struct{})
	if x.in != nil {
		// A read from stdin cannot be interrupted: nobody waits for this at the end of the program.
		go func() {
			in := x.in
			if x.tty {
				in = detachkeys.Reader(in, x.keys)
			}
			_, err := io.Copy(conn, in)
			if errors.Is(err, detachkeys.ErrDetached) {
				close(detached)
				conn.Close()
				return
			}
			_ = conn.CloseWrite()
		}()
	}
	var err error
	if x.tty {
		_, err = io.Copy(x.out, conn)
	} else {
		err = client.Demultiplex(x.out, x.err, conn)
	}
	select {
	case <-detached:
		return detachkeys.ErrDetached
	default:
	}
	if err != nil {
		return fmt.Errorf("the container's output broke off: %w", err)
	}
	return nil
}

// ended reports a detach as Docker does, and anything else as it is.
func (a *App) ended(err error) error {
	if errors.Is(err, detachkeys.ErrDetached) {
		fmt.Fprintln(a.Err, "read escape sequence")
		return errDetached
	}
	return err
}
