package terminal

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Size of a terminal, in characters.
type Size struct{ Height, Width uint16 }

// Is tells whether f is a terminal. A nil file is none.
func Is(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// SizeOf asks for the size.
func SizeOf(f *os.File) (Size, error) {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return Size{}, err
	}
	return Size{Height: uint16(h), Width: uint16(w)}, nil
}

// Raw makes the terminal raw: every key goes to the program, none to the shell. restore puts it back
// as it was; it may be called more than once.
func Raw(f *os.File) (restore func(), err error) {
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	var once sync.Once
	return func() { once.Do(func() { _ = term.Restore(int(f.Fd()), state) }) }, nil
}

// Resizes tells the size of f each time it changes. stop ends it.
func Resizes(f *os.File) (sizes <-chan Size, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGWINCH)
	out := make(chan Size)
	done := make(chan struct{})
	var over sync.WaitGroup
	over.Add(1)
	go func() {
		defer over.Done()
		for {
			select {
			case <-done:
				return
			case <-signals:
				size, err := SizeOf(f)
				if err != nil {
					continue
				}
				select {
				case out <- size:
				case <-done:
					return
				}
			}
		}
	}()
	var once sync.Once
	return out, func() { once.Do(func() { signal.Stop(signals); close(done); over.Wait() }) }
}
